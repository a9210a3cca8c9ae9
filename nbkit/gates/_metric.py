"""Floors and ceilings for measured figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nbkit.gates._verdict import FactMissing, Facts, Gate, cannot_tell, failed, guarded, passed
from nbkit.records import GateResult

_EVALUATE = "%nbkit evaluate NAME"


def require_at_least(metric: str, floor: float) -> Gate:
    """Require a metric to reach a floor; equal to the floor passes.

    Parameters
    ----------
    metric : str
        Name under ``facts["metrics"]``; a flat mapping of figures works too.
    floor : float
        Smallest value that passes.

    Returns
    -------
    Gate
        Named ``at_least:<metric>``.

    Examples
    --------
    >>> require_at_least("recall", 0.80)({"recall": 0.78}).reason
    'recall is 0.780, below the floor 0.800'
    """
    return _limit(metric, limit=floor, name="at_least", side=1)


def require_at_most(metric: str, ceiling: float) -> Gate:
    """Require a metric to stay at or below a ceiling.

    Parameters
    ----------
    metric : str
        Name under ``facts["metrics"]``; a flat mapping of figures works too.
    ceiling : float
        Largest value that passes.

    Returns
    -------
    Gate
        Named ``at_most:<metric>``.

    Examples
    --------
    >>> require_at_most("ece", 0.1)({"metrics": {"ece": {"value": 0.04, "low": 0.02, "high": 0.07}}}).reason
    'ece is 0.040 (0.020 to 0.070), within the ceiling 0.100'
    """
    return _limit(metric, limit=ceiling, name="at_most", side=-1)


def _limit(metric: str, *, limit: float, name: str, side: int) -> Gate:
    gate = f"{name}:{metric}"
    word = "floor" if side > 0 else "ceiling"

    def judge(facts: Facts) -> GateResult:
        if isinstance(limit, bool) or not math.isfinite(limit):
            return cannot_tell(gate, f"the {word} is {limit!r}, not a finite number", next_step="correct contract.yaml")
        value, interval = _measured(facts, metric)
        figures = f"{metric} is {value:.3f}{interval}"
        gap = (value - limit) * side
        if gap >= 0:
            return passed(gate, f"{figures}, {'reaching' if side > 0 else 'within'} the {word} {limit:.3f}")
        # At three digits a near miss would read "0.750, below the floor 0.750".
        if f"{value:.3f}" == f"{limit:.3f}":
            figures, shown = f"{metric} is {value!r}{interval}", repr(limit)
        else:
            shown = f"{limit:.3f}"
        relation = "below the floor" if side > 0 else "above the ceiling"
        return failed(gate, f"{figures}, {relation} {shown}", next_step="train again or argue for another limit")

    return guarded(gate, judge, next_step=_EVALUATE)


def _measured(facts: Facts, metric: str) -> tuple[float, str]:
    """Return the figure and its interval as text, from whole facts or from a flat mapping of figures."""
    try:
        facts.value("metrics")
    except FactMissing:
        path = metric
    else:
        path = f"metrics.{metric}"
    if not isinstance(facts.value(path), Mapping):
        return facts.number(path), ""
    value = facts.number(f"{path}.value")
    try:
        return value, f" ({facts.number(f'{path}.low'):.3f} to {facts.number(f'{path}.high'):.3f})"
    except FactMissing:
        return value, ""
