"""Records that travel between packages: frozen, and readable as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is answered about one row."""

    decision: str
    score: float | None
    reasons: tuple[str, ...] = ()
    route: str = "model"
    fallback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One decision as the audit ledger keeps it: written once, never changed.

    ``route`` says who decided: ``model``, or ``rules:<name>``; ``fallback`` names the fallback that answered instead of
    the model (empty when none did) and ``fallback_cause`` says why. ``stage`` is that of the version: production or
    canary. A record of kind ``shadow`` answered nobody: a version in the stage shadow says what it would have decided.
    """

    id: str
    request_id: str
    model: str
    version: int
    package_digest: str
    contract_digest: str
    evidence_digest: str
    received_at: datetime
    decided_at: datetime
    subject: str
    inputs: Mapping[str, object]
    score: float | None
    decision: str
    reasons: tuple[str, ...] = ()
    route: str = "model"
    fallback: str = ""
    fallback_cause: str = ""
    latency_us: int = 0
    cost_usd: str = "0"
    tags: Mapping[str, str] = field(default_factory=dict)
    kind: str = "decision"
    stage: str = "production"
