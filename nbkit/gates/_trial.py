"""Gates on what a version did on real traffic before it replaces another: in shadow, and as a canary."""

from __future__ import annotations

from nbkit.gates._verdict import Facts, Gate, cannot_tell, failed, guarded, passed
from nbkit.records import GateResult


def require_shadow() -> Gate:
    """Require enough days and decisions beside the champion, within the guardrails.

    Returns
    -------
    Gate
        Named ``shadow``.
    """
    return _trial("shadow", days="limits.shadow_days", compared=True)


def require_canary() -> Gate:
    """Require enough answered decisions within the guardrails.

    Returns
    -------
    Gate
        Named ``canary``.
    """
    return _trial("canary", days=None, compared=False)


# What is measured, what the contract calls its limit, how it reads.
_CEILINGS = (
    ("error_share", "error_share_ceiling", "scoring failed for {0:.2%} of decisions"),
    ("fallback_share", "fallback_share_ceiling", "a fallback answered {0:.2%}"),
    ("disagreement_share", "disagreement_share_ceiling", "{0:.2%} were decided otherwise than by the champion"),
    ("p99_ms", "p99_ms_ceiling", "99 of 100 were done within {0:.1f} ms"),
)


def _trial(stage: str, *, days: str | None, compared: bool) -> Gate:
    step = f"let it run in {stage} for longer, then: nbkit gate NAME@VERSION --to STAGE"

    def judge(facts: Facts) -> GateResult:
        if not facts.flag("limits.beside_champion"):
            return passed(stage, "no version is in production yet: there is nothing to run beside")
        if facts.value(stage) is None:
            return cannot_tell(stage, f"the ledger holds no decision of this version in {stage}", next_step=step)
        decisions, least = facts.count(f"{stage}.decisions"), facts.count("limits.minimum_decisions")
        if decisions == 0:
            return cannot_tell(stage, f"the ledger holds no decision of this version in {stage}", next_step=step)
        lasted = facts.number(f"{stage}.days")
        seen = f"{decisions:,} decisions on {lasted:g} days"
        # What is broken shows early; what is fine shows only after enough of it.
        over, kept = _ceilings(facts, stage=stage, compared=compared)
        if over:
            return failed(stage, f"{seen}: {'; '.join(over)}", next_step="see why in the ledger: nbkit audit")
        if decisions < least:
            return cannot_tell(stage, f"{seen}: fewer than {least:,} tell nothing", next_step=step)
        if days is not None and lasted < facts.number(days):
            return cannot_tell(stage, f"{seen}: the contract asks for {facts.number(days):.0f} days", next_step=step)
        return passed(stage, f"{seen}: {', '.join(kept)}")

    return guarded(stage, judge, next_step=step)


def _ceilings(facts: Facts, *, stage: str, compared: bool) -> tuple[list[str], list[str]]:
    over, kept = [], []
    for name, limit, words in _CEILINGS:
        # A canary's decision is the only one made: nothing to compare it with, unless somebody measured it.
        if name == "disagreement_share" and not compared and facts.value(f"{stage}.{name}") is None:
            continue
        value, ceiling = facts.number(f"{stage}.{name}"), facts.number(f"limits.{limit}")
        said = words.format(value)
        if value < 0 or value > ceiling:
            over.append(f"{said}, above {ceiling:g}")
        else:
            kept.append(said)
    return over, kept
