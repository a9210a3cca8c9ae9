"""From the gates that a contract lists to their results."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from nbkit.contract import GateSpec
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
from nbkit.gates._plugged import plugged_gate
from nbkit.gates._stability import require_stability
from nbkit.gates._trial import require_canary, require_shadow
from nbkit.gates._verdict import Facts, Gate, cannot_tell, guarded
from nbkit.records import GateResult

_METRIC_GATES: Mapping[str, Callable[[str, float], Gate]] = MappingProxyType(
    {"at_least": require_at_least, "at_most": require_at_most}
)
_VALUE_GATES: Mapping[str, Callable[[float], Gate]] = MappingProxyType({"stability": require_stability})
_PLAIN_GATES: Mapping[str, Callable[[], Gate]] = MappingProxyType(
    {
        "parity": require_parity,
        "cases": require_cases,
        "golden": require_golden,
        "behaviours": require_behaviours,
        "regression": require_no_regression,
        "fairness": require_fairness,
        "rationale": require_rationale,
        "ownership": require_owner,
        "scan": require_scan,
        "monitoring": require_monitoring,
        "reproduction": require_reproduction,
        "rehearsal": require_rehearsal,
        "shadow": require_shadow,
        "canary": require_canary,
    }
)

GATES: Mapping[str, Callable[..., Gate]] = MappingProxyType({**_METRIC_GATES, **_VALUE_GATES, **_PLAIN_GATES})
"""Every gate that a contract can list, by name: its factory."""

_CORRECT = "correct gates in contract.yaml"


def gate_from_spec(spec: GateSpec) -> Gate:
    """Make the gate that a contract's entry describes.

    An entry that describes no gate (an unknown name, a limit without a metric) becomes a gate that never passes.

    Parameters
    ----------
    spec : GateSpec
        One entry under ``gates`` in ``contract.yaml``.

    Returns
    -------
    Gate
        The check.

    Examples
    --------
    >>> gate_from_spec(GateSpec(gate="at_laest", metric="auc", value=0.7))({}).reason
    "no gate is called 'at_laest'; did you mean 'at_least'?"
    """
    if spec.gate in _METRIC_GATES:
        if spec.metric is None or spec.value is None:
            return _never(spec.gate, f"{spec.gate} needs a metric and a value")
        return _METRIC_GATES[spec.gate](spec.metric, spec.value)
    if spec.gate in _VALUE_GATES:
        if spec.value is None or spec.metric is not None:
            return _never(spec.gate, f"{spec.gate} needs a value and takes no metric")
        return _VALUE_GATES[spec.gate](spec.value)
    if spec.gate in _PLAIN_GATES:
        if spec.metric is not None or spec.value is not None:
            return _never(spec.gate, f"{spec.gate} takes neither metric nor value")
        return _PLAIN_GATES[spec.gate]()
    plugged = plugged_gate(spec)
    if plugged is not None:
        return plugged
    near = difflib.get_close_matches(spec.gate, GATES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the gates are {', '.join(GATES)}"
    return _never(spec.gate, f"no gate is called {spec.gate!r}; {hint}")


def run_gates(specs: Sequence[GateSpec], *, facts: Mapping[str, object]) -> tuple[GateResult, ...]:
    """Run every gate of a stage, and stop at none.

    Parameters
    ----------
    specs : sequence of GateSpec
        The entries of one stage. None at all is itself a gate that does not pass.
    facts : mapping
        What is known about the version: ``parity``, ``case_set``, ``metrics``, ``golden``, ``champion``, ``fairness``,
        ``rationale``, ``owner``, ``scan``, ``monitoring``, ``reproduction``, ``rehearsal``, ``shadow``, ``canary`` and
        their ``limits``.

    Returns
    -------
    tuple of GateResult
        One for each entry, in order.

    Examples
    --------
    >>> [result.verdict.value for result in run_gates([GateSpec(gate="scan")], facts={"scan": {"problems": []}})]
    ['pass']
    """
    if not specs:
        return (cannot_tell("gates", "no gate is listed for this stage", next_step=_CORRECT),)
    return tuple(gate_from_spec(spec)(facts) for spec in specs)


def _never(name: str, reason: str) -> Gate:
    def judge(_: Facts) -> GateResult:
        return cannot_tell(name, reason, next_step=_CORRECT)

    return guarded(name, judge, next_step=_CORRECT)
