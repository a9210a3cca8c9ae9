"""Gates on what people and machines proved about a version: trained again, rehearsed, watched."""

from __future__ import annotations

from nbkit.gates._verdict import Facts, Gate, cannot_tell, failed, guarded, listed, passed
from nbkit.records import GateResult

_REPRODUCE = "nbkit reproduce NAME@VERSION --key NAME"
_REHEARSE = "nbkit rehearse NAME@VERSION --key DEPUTY"
_WATCH = "name monitor.alert in contract.yaml and package again: %nbkit package NAME"


def require_reproduction() -> Gate:
    """Require a certificate which says that training again from the record gave the same model.

    Returns
    -------
    Gate
        Named ``reproduction``.
    """

    def judge(facts: Facts) -> GateResult:
        found = _certificate(facts, "reproduction", next_step=_REPRODUCE)
        if isinstance(found, GateResult):
            return found
        signed = f"{found.text('by')} trained it again from the record, valid until {found.text('expires_on')}"
        differs = found.texts("differs")
        if not found.flag("identical"):
            reason = f"{signed}: not the same: {listed(differs) or 'the certificate does not say what'}"
            step = "make training deterministic (seeds, threads, data), then register again: nbkit run NAME"
            return failed("reproduction", reason, next_step=step)
        return passed("reproduction", f"{signed}: the same to the bit on {found.count('cases'):,} cases")

    return guarded("reproduction", judge, next_step=_REPRODUCE)


def require_rehearsal() -> Gate:
    """Require the deputy to have shown that they can train the model again and roll it back.

    Returns
    -------
    Gate
        Named ``rehearsal``.
    """

    def judge(facts: Facts) -> GateResult:
        found = _certificate(facts, "rehearsal", next_step=_REHEARSE)
        if isinstance(found, GateResult):
            return found
        deputy, by = facts.text("owner.deputy"), found.text("by")
        if by.casefold() != deputy.casefold():
            return failed("rehearsal", f"{by} rehearsed, but the deputy is {deputy}", next_step=_REHEARSE)
        steps = found.texts("steps")
        if not steps:
            return cannot_tell("rehearsal", "the certificate names no step that was rehearsed", next_step=_REHEARSE)
        return passed("rehearsal", f"{by} rehearsed {listed(steps)}, valid until {found.text('expires_on')}")

    return guarded("rehearsal", judge, next_step=_REHEARSE)


def require_monitoring() -> Gate:
    """Require a reference to compare production with, and somebody who is told.

    Returns
    -------
    Gate
        Named ``monitoring``.
    """

    def judge(facts: Facts) -> GateResult:
        missing, rows = facts.texts("monitoring.missing"), facts.count("monitoring.rows")
        alert = facts.text("monitoring.alert").strip()
        if not alert:
            return failed("monitoring", "nobody is told when an input drifts", next_step=_WATCH)
        if missing:
            return failed("monitoring", f"the reference profile lacks {listed(missing)}", next_step=_WATCH)
        if rows == 0:
            return cannot_tell("monitoring", "the reference profile was counted over no row", next_step=_WATCH)
        inputs, delay = facts.count("monitoring.inputs"), facts.count("monitoring.label_delay_days")
        reason = f"{inputs} inputs and the score have a reference of {rows:,} rows; labels mature after {delay} days"
        return passed("monitoring", f"{reason}; {alert} is told")

    return guarded("monitoring", judge, next_step=_WATCH)


def _certificate(facts: Facts, name: str, *, next_step: str) -> Facts | GateResult:
    """Return what a verified certificate says, or why there is none."""
    if facts.value(name) is None:
        return cannot_tell(name, f"there is no certificate of a {name}", next_step=next_step)
    found = facts.within(name)
    problem = found.text("problem")
    if problem:
        return failed(name, problem, next_step=next_step)
    return found
