"""Choose the two thresholds by expected cost, exactly, under review capacity."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nbkit.contract import CostRow, Costs, Thresholds
from nbkit.errors import EvaluationError

# More points than this do not show in a curve a few hundred pixels wide.
_CURVE_POINTS = 200
_SHIFTS = (Decimal("0.8"), Decimal("1.2"))
_CENTS = Decimal("0.0001")
# Sums of money over all rows must not be rounded before they are compared.
_DIGITS = 60
_INT64_HALF = 2**62
# 0.29 * 100 is 28.999999999999996: a capacity of 29 rows is meant.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """The cheapest pair of thresholds on some rows.

    Parameters
    ----------
    thresholds : Thresholds
        ``score >= decline`` declines, ``score >= refer`` refers; the shortest decimals that cut where the optimum cuts.
    expected_cost : Decimal
        Per row, in the currency of the cost matrix.
    curve : tuple of (float, Decimal)
        Decline thresholds in falling order, each with the lowest cost per row that it allows.
    plus_minus_20 : dict
        For every entry of the cost matrix, 20 % lower and higher: the thresholds that would be chosen then, and what
        the present choice would cost more per row.
    """

    thresholds: Thresholds
    expected_cost: Decimal
    curve: tuple[tuple[float, Decimal], ...]
    plus_minus_20: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """Rows in groups of equal score, best to decline first; entry k of each sum covers the first k groups."""

    scores: list[float]
    rows: list[int]
    positives: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """Total cost when the first k groups are declined and those up to j are referred: f(k) + g(j) + constant."""

    declining: list[int]
    referring: list[int]
    constant: int
    unit: Decimal
    rows: int

    def per_row(self, declined: int, held: int) -> Decimal:
        return self.money(self.declining[declined] + self.referring[held] + self.constant)

    def money(self, total: int) -> Decimal:
        with localcontext() as context:
            context.prec = _DIGITS
            return (Decimal(total) * self.unit / self.rows).quantize(_CENTS)


def choose_thresholds(scores: ArrayLike, labels: ArrayLike, *, costs: Costs, review_capacity: float) -> ThresholdChoice:
    """Find the two thresholds of lowest expected cost such that people can review what is referred.

    The search is exact over all pairs of cuts between different scores, in O(n log n). Among equally cheap pairs the
    one with fewest referrals, then fewest declines is taken.

    Parameters
    ----------
    scores : array-like
        Probability of the positive class, shape (n,), in 0..1.
    labels : array-like
        Whether the positive class turned out true, shape (n,).
    costs : Costs
        Money lost per decision and label.
    review_capacity : float
        Largest share of rows that may be referred, 0..1.

    Returns
    -------
    ThresholdChoice
        The thresholds, their cost, the curve around them and how firmly the cost matrix holds them.

    Raises
    ------
    EvaluationError
        No rows, lengths differ, a score is missing or outside 0..1, or all labels are the same.

    Examples
    --------
    >>> lose = CostRow(positive=Decimal(10), negative=Decimal(0))
    >>> refer = CostRow(positive=Decimal(2), negative=Decimal(2))
    >>> forgo = CostRow(positive=Decimal(0), negative=Decimal(4))
    >>> costs = Costs(approve=lose, refer=refer, decline=forgo)
    >>> choice = choose_thresholds([0.1, 0.3, 0.6, 0.9], [0, 0, 0, 1], costs=costs, review_capacity=0.0)
    >>> choice.thresholds.decline, choice.expected_cost
    (0.8, Decimal('0.0000'))
    """
    if not 0 <= review_capacity <= 1:
        raise EvaluationError(f"review_capacity: expected 0..1, got {review_capacity!r}")
    ranked = _rank(*check_scores(scores, labels, place="thresholds"))
    capacity = math.floor(review_capacity * ranked.rows[-1] + _ROUNDING)
    split = _split(ranked, costs=costs)
    cut = _best(ranked, split, capacity=capacity)
    shifted: dict[str, Mapping[str, str]] = {}
    for name, other in _shifted(costs):
        then = _split(ranked, costs=other)
        best = _best(ranked, then, capacity=capacity)
        chosen = _thresholds(ranked, best)
        regret = then.per_row(*cut) - then.per_row(*best)
        shifted[name] = {"refer": repr(chosen.refer), "decline": repr(chosen.decline), "regret": str(regret)}
    return ThresholdChoice(
        thresholds=_thresholds(ranked, cut),
        expected_cost=split.per_row(*cut),
        curve=_curve(ranked, split, capacity=capacity, keep=cut[0]),
        plus_minus_20=shifted,
    )


def check_scores(scores: ArrayLike, labels: ArrayLike, *, place: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and labels as arrays of one length, or say everything that is wrong with them."""
    found, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    problems = []
    if found.ndim != 1 or found.shape != truth.shape:
        raise EvaluationError(f"{place}: expected one score and one label a row, got {found.shape} and {truth.shape}")
    for kind, wrong in (("NaN", np.isnan(found)), ("outside 0..1", (found < 0) | (found > 1))):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            problems.append(f"{int(wrong.sum())} of {len(found)} scores are {kind} (first: row {row}, {found[row]!r})")
    if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
        problems.append("labels: expected 0 and 1 only")
    elif len(np.unique(truth)) < 2:
        problems.append(f"labels: expected both, got {len(truth)} rows of one kind")
    if problems:
        raise EvaluationError(place, problems=problems)
    return found, truth.astype(bool)


def _rank(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> _Ranked:
    values, place = np.unique(-scores, return_inverse=True)
    rows = np.concatenate([[0], np.cumsum(np.bincount(place))])
    positives = np.concatenate([[0], np.cumsum(np.bincount(place, weights=labels).astype(np.int64))])
    return _Ranked(scores=(-values).tolist(), rows=rows.tolist(), positives=positives.tolist())


def _split(ranked: _Ranked, *, costs: Costs) -> _Split:
    matrix = [costs.decline, costs.refer, costs.approve]
    amounts = [amount for row in matrix for amount in (row.positive, row.negative)]
    with localcontext() as context:
        context.prec = _DIGITS
        # In whole units of the smallest decimal every sum is exact.
        unit = Decimal(1).scaleb(min(0, *(int(amount.as_tuple().exponent) for amount in amounts)))
        whole = [int(amount / unit) for amount in amounts]
    small = max(whole) * ranked.rows[-1] < _INT64_HALF
    rows, positives = (np.array(sums, dtype=np.int64 if small else object) for sums in (ranked.rows, ranked.positives))
    decline, refer, approve = (
        positives * whole[2 * row] + (rows - positives) * whole[2 * row + 1] for row in range(len(matrix))
    )
    return _Split(
        declining=(decline - refer).tolist(),
        referring=(refer - approve).tolist(),
        constant=int(approve[-1]),
        unit=unit,
        rows=ranked.rows[-1],
    )


def _first_cut(ranked: _Ranked) -> int:
    # Thresholds end at 1, so a row that scores 1 is always declined.
    return 0 if ranked.scores[0] < 1 else 1


def _best(ranked: _Ranked, split: _Split, *, capacity: int) -> tuple[int, int]:
    f, g, rows = split.declining, split.referring, ranked.rows
    best: tuple[tuple[int, int, int], tuple[int, int]] | None = None
    window: deque[int] = deque()
    for j in range(_first_cut(ranked), len(rows)):
        # Keep candidates k in rising cost; a later k of equal cost refers fewer rows, so it replaces the earlier one.
        while window and f[window[-1]] >= f[j]:
            window.pop()
        window.append(j)
        while rows[j] - rows[window[0]] > capacity:
            window.popleft()
        k = window[0]
        key = (f[k] + g[j], rows[j] - rows[k], rows[k])
        if best is None or key < best[0]:
            best = (key, (k, j))
    assert best is not None  # noqa: S101 -- there is at least one row
    return best[1]


def _thresholds(ranked: _Ranked, cut: tuple[int, int]) -> Thresholds:
    declined, held = (_threshold(ranked, groups) for groups in cut)
    return Thresholds(refer=held, decline=declined)


def _threshold(ranked: _Ranked, groups: int) -> float:
    """Return the shortest decimal that the first groups reach and the others do not."""
    above = ranked.scores[groups - 1] if groups else 1.0
    below = ranked.scores[groups] if groups < len(ranked.scores) else -1.0
    return shortest_between(below, above)


def shortest_between(below: float, above: float) -> float:
    """Return the decimal of fewest digits in ``(below, above]``, at least 0; a reader can remember it.

    Examples
    --------
    >>> shortest_between(0.31872, 0.32944)
    0.32
    """
    if below < 0:
        return 0.0
    for digits in range(1, 17):
        step = 10.0**digits
        middle = round((below + above) / 2 * step) / step
        highest = math.floor(above * step) / step
        for candidate in (middle, highest):
            if below < candidate <= above:
                return candidate
    return above


def _shifted(costs: Costs) -> list[tuple[str, Costs]]:
    found = []
    for decision in ("approve", "refer", "decline"):
        row: CostRow = getattr(costs, decision)
        for label in ("positive", "negative"):
            amount: Decimal = getattr(row, label)
            for shift in _SHIFTS if amount else ():
                other = row.model_copy(update={label: amount * shift})
                name = f"{decision}.{label} {'-' if shift < 1 else '+'}20%"
                found.append((name, costs.model_copy(update={decision: other})))
    return found


def _curve(ranked: _Ranked, split: _Split, *, capacity: int, keep: int) -> tuple[tuple[float, Decimal], ...]:
    """Return, for cuts spread evenly over the rows, the lowest cost with that decline threshold."""
    f, g, rows = split.declining, split.referring, ranked.rows
    lowest: dict[int, int] = {}
    window: deque[int] = deque()
    for k in range(len(rows) - 1, _first_cut(ranked) - 1, -1):
        while window and g[window[-1]] >= g[k]:
            window.pop()
        window.append(k)
        while rows[window[0]] - rows[k] > capacity:
            window.popleft()
        lowest[k] = f[k] + g[window[0]] + split.constant
    shown = [k for k in _spread(rows, keep=keep) if k in lowest]
    return tuple((_threshold(ranked, k), split.money(lowest[k])) for k in shown)


def _spread(rows: Sequence[int], *, keep: int) -> list[int]:
    step = max(1, rows[-1] // _CURVE_POINTS)
    groups = [count // step for count in rows]
    first = [k for k, group in enumerate(groups) if k == 0 or group != groups[k - 1]]
    return sorted({*first, keep, len(rows) - 1})
