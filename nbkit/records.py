"""Records that travel between packages: frozen, and readable as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

__all__ = ["AuditRecord", "Decision", "GateResult", "Verdict", "may_be_waived"]


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    FAIL = "fail"
    CANNOT_TELL = "cannot tell"
    WAIVED = "waived"


# What these ask is whether the other gates looked at the real thing: no reason makes up for a "no".
_NEVER_WAIVED = frozenset(
    {"parity", "cases", "scan", "ownership", "rationale", "path", "submission", "gates", "refusal"}
)


def may_be_waived(gate: str, *, verdict: Verdict) -> bool:
    """Say whether a signed waiver may stand in for this result of a gate.

    A group that is surely treated worse than the contract allows is never waived; one that is too small to tell may be.

    Examples
    --------
    >>> may_be_waived("golden", verdict=Verdict.FAIL), may_be_waived("scan", verdict=Verdict.FAIL)
    (True, False)
    """
    if verdict not in (Verdict.FAIL, Verdict.CANNOT_TELL) or gate in _NEVER_WAIVED:
        return False
    return not (gate == "fairness" and verdict is Verdict.FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One check before a promotion.

    Parameters
    ----------
    gate : str
        Name in the contract, such as ``at_least:auc``.
    verdict : Verdict
        Only ``PASS`` lets a version through, and ``WAIVED`` with the signed waiver at hand.
    reason : str
        A sentence with the figure and its limit.
    next_step : str
        What to do about it; empty when it passed.
    """

    gate: str
    verdict: Verdict
    reason: str
    next_step: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate lets the version through."""
        return self.verdict in (Verdict.PASS, Verdict.WAIVED)


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """What is answered about one row."""

    decision: str
    score: float | None
    reasons: tuple[str, ...] = ()
    route: str = "model"
    fallback: str = ""


class AuditRecord(Struct, frozen=True, kw_only=True, gc=False):
    """One decision as the audit ledger keeps it: written once, never changed.

    ``route`` says who decided: ``model``, or ``rules:<name>``; ``fallback`` names the fallback that answered instead of
    the model (empty when none did) and ``fallback_cause`` says why. ``stage`` is that of the version: production or
    canary. A record of kind ``shadow`` answered nobody: a version in the stage shadow says what it would have decided.
    Fields stand in the order of the alphabet, because so they are written.
    """

    contract_digest: str
    cost_usd: str = "0"
    decided_at: datetime
    decision: str
    evidence_digest: str
    fallback: str = ""
    fallback_cause: str = ""
    id: str
    inputs: Mapping[str, object]
    kind: str = "decision"
    latency_us: int = 0
    model: str
    package_digest: str
    reasons: tuple[str, ...] = ()
    received_at: datetime
    request_id: str
    route: str = "model"
    score: float | None
    stage: str = "production"
    subject: str
    tags: Mapping[str, str] = field(default_factory=dict)
    version: int
