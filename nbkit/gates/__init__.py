"""Checks that stand before a stage: pure functions from the facts about a version to pass, fail or cannot tell."""

from nbkit.gates._evidence import (
    require_behaviours,
    require_cases,
    require_fairness,
    require_golden,
    require_no_regression,
    require_owner,
    require_parity,
    require_rationale,
    require_scan,
)
from nbkit.gates._metric import require_at_least, require_at_most
from nbkit.gates._people import require_monitoring, require_rehearsal, require_reproduction
from nbkit.gates._run import GATES, gate_from_spec, run_gates
from nbkit.gates._stability import require_stability
from nbkit.gates._trial import require_canary, require_shadow
from nbkit.gates._verdict import Gate

__all__ = [
    "GATES",
    "Gate",
    "gate_from_spec",
    "require_at_least",
    "require_at_most",
    "require_behaviours",
    "require_canary",
    "require_cases",
    "require_fairness",
    "require_golden",
    "require_monitoring",
    "require_no_regression",
    "require_owner",
    "require_parity",
    "require_rationale",
    "require_rehearsal",
    "require_reproduction",
    "require_scan",
    "require_shadow",
    "require_stability",
    "run_gates",
]
