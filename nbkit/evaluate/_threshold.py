"""Choose the two thresholds by expected cost, exactly, under review capacity."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nbkit.contract import Contract, Costs, Thresholds
from nbkit.errors import EvaluationError
from nbkit.evaluate._costs import money_of
from nbkit.evaluate._freeze import group_name
from nbkit.evaluate._prices import Amounts, Matrix, Prices, Ranked, Split

# More points than this do not show in a curve a few hundred pixels wide.
_CURVE_POINTS = 200
# 0.29 * 100 is 28.999999999999996: a capacity of 29 rows is meant.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimit:
    """How many rows of a group must be approved, beside those of its reference group.

    Parameters
    ----------
    name : str
        Such as ``race black``.
    group, reference : numpy.ndarray
        Which rows belong to each, shape (n,), bool.
    floor : float
        Lowest approval rate of the group over that of the reference group.
    """

    name: str
    group: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    floor: float


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
    limited_by : tuple of str
        Groups whose floor excludes a cheaper choice; empty when none does.
    cost_of_limits : Decimal
        Per row, what the floors cost more than the cheapest choice without them.
    """

    thresholds: Thresholds
    expected_cost: Decimal
    curve: tuple[tuple[float, Decimal], ...]
    plus_minus_20: Mapping[str, Mapping[str, str]]
    limited_by: tuple[str, ...] = ()
    cost_of_limits: Decimal = Decimal(0)


def choose_thresholds(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    costs: Costs,
    review_capacity: float,
    columns: Mapping[str, Sequence[object]] | None = None,
    limits: Sequence[GroupLimit] = (),
) -> ThresholdChoice:
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
    columns : mapping or None
        The rows' inputs; needed where an amount follows a column or a function.
    limits : sequence of GroupLimit
        Approval rates that must hold on these rows. Both thresholds are the same for everyone.

    Returns
    -------
    ThresholdChoice
        The thresholds, their cost, the curve around them and how firmly the cost matrix holds them.

    Raises
    ------
    EvaluationError
        No rows, lengths differ, a score is missing or outside 0..1, all labels are the same, an amount cannot be
        computed, or no pair of thresholds keeps the limits.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from nbkit.contract import CostRow
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
    found, truth = check_scores(scores, labels, place="thresholds")
    ranked = Ranked.of(found, truth)
    prices = _prices(costs, labels=truth, columns=columns)
    capacity = math.floor(review_capacity * ranked.rows[-1] + _ROUNDING)
    allowed = [_allowed(ranked, limit) for limit in limits]
    split, everywhere = prices.split(ranked), [all(column) for column in zip(*allowed, strict=True)] or None
    cut = _best(ranked, split, capacity=capacity, allowed=everywhere)
    free = _best(ranked, split, capacity=capacity, allowed=None)
    shifted: dict[str, Mapping[str, str]] = {}
    for name, other in prices.shifted():
        then = other.split(ranked)
        best = _best(ranked, then, capacity=capacity, allowed=everywhere)
        chosen = _thresholds(ranked, best)
        regret = then.per_row(*cut) - then.per_row(*best)
        shifted[name] = {"refer": repr(chosen.refer), "decline": repr(chosen.decline), "regret": str(regret)}
    return ThresholdChoice(
        thresholds=_thresholds(ranked, cut),
        expected_cost=split.per_row(*cut),
        curve=_curve(ranked, split, capacity=capacity, keep=cut[0], allowed=everywhere),
        plus_minus_20=shifted,
        limited_by=tuple(limit.name for limit, kept in zip(limits, allowed, strict=True) if not kept[free[1]]),
        cost_of_limits=split.per_row(*cut) - split.per_row(*free),
    )


def _prices(costs: Costs, *, labels: NDArray[np.bool_], columns: Mapping[str, Sequence[object]] | None) -> Prices:
    if costs.constant:
        return Matrix(costs=costs)
    return Amounts(money=money_of(costs, labels=labels, columns=columns), labels=labels)


def _allowed(ranked: Ranked, limit: GroupLimit) -> list[bool]:
    """Return, for every number of groups of equal score that are not approved, whether the floor is kept."""
    held, reference = ranked.sums(np.stack([limit.group, limit.reference], axis=1).astype(np.int64)).T
    approved, others = held[-1] - held, reference[-1] - reference
    # Where nobody of the reference group is approved there is no ratio to keep.
    kept = (others > 0) & (approved * reference[-1] >= limit.floor * others * held[-1] - _ROUNDING)
    found: list[bool] = kept.tolist()
    return found


def group_limits(frame: pd.DataFrame, *, contract: Contract) -> tuple[GroupLimit, ...]:
    """Return the approval rates that the contract asks for, of the groups that these rows are enough for.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows; protected attributes that it does not have set no limit.
    contract : Contract
        Its ``protected`` names the groups, ``fairness`` the floor and the fewest rows of a group.

    Returns
    -------
    tuple of GroupLimit
        One for every group but the references.
    """
    found, minimum = [], contract.fairness.minimum_group
    for attribute in contract.protected:
        if attribute.name not in frame.columns:
            continue
        names = [group_name(value) for value in frame[attribute.name].tolist()]
        reference = np.array([name == attribute.reference for name in names], dtype=bool)
        for group in sorted({name for name in names if name is not None} - {attribute.reference}):
            inside = np.array([name == group for name in names], dtype=bool)
            if min(inside.sum(), reference.sum()) >= minimum:
                floor = contract.fairness.impact_ratio_floor
                found.append(
                    GroupLimit(name=f"{attribute.name} {group}", group=inside, reference=reference, floor=floor)
                )
    return tuple(found)


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


def _first_cut(ranked: Ranked) -> int:
    # Thresholds end at 1, so a row that scores 1 is always declined.
    return 0 if ranked.scores[0] < 1 else 1


def _best(ranked: Ranked, split: Split, *, capacity: int, allowed: Sequence[bool] | None) -> tuple[int, int]:
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
        if allowed is not None and not allowed[j]:
            continue
        k = window[0]
        key = (f[k] + g[j], rows[j] - rows[k], rows[k])
        if best is None or key < best[0]:
            best = (key, (k, j))
    if best is None:
        raise EvaluationError(
            "thresholds: no pair keeps the approval rates that the limits ask for",
            next_step="lower fairness.impact_ratio_floor, or look for a less discriminatory model",
        )
    return best[1]


def _thresholds(ranked: Ranked, cut: tuple[int, int]) -> Thresholds:
    declined, held = (_threshold(ranked, groups) for groups in cut)
    return Thresholds(refer=held, decline=declined)


def _threshold(ranked: Ranked, groups: int) -> float:
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


def _curve(
    ranked: Ranked, split: Split, *, capacity: int, keep: int, allowed: Sequence[bool] | None
) -> tuple[tuple[float, Decimal], ...]:
    """Return, for cuts spread evenly over the rows, the lowest cost with that decline threshold."""
    f, g, rows = split.declining, split.referring, ranked.rows
    lowest: dict[int, int] = {}
    window: deque[int] = deque()
    for k in range(len(rows) - 1, _first_cut(ranked) - 1, -1):
        if allowed is None or allowed[k]:
            while window and g[window[-1]] >= g[k]:
                window.pop()
            window.append(k)
        while window and rows[window[0]] - rows[k] > capacity:
            window.popleft()
        if window:
            lowest[k] = f[k] + g[window[0]] + split.constant
    shown = [k for k in _spread(rows, keep=keep) if k in lowest]
    return tuple((_threshold(ranked, k), split.money(lowest[k])) for k in shown)


def _spread(rows: Sequence[int], *, keep: int) -> list[int]:
    step = max(1, rows[-1] // _CURVE_POINTS)
    groups = [count // step for count in rows]
    first = [k for k, group in enumerate(groups) if k == 0 or group != groups[k - 1]]
    return sorted({*first, keep, len(rows) - 1})
