"""The curves of a report: ROC, reliability, scores by label, cost by threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Thresholds
from nbkit.evaluate._bootstrap import wilson
from nbkit.evaluate._calibration import calibration_edges
from nbkit.evaluate._decide import APPROVE, DECISIONS, DECLINE, REFER
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._resample import Ordered

# As many points as pixels that show them.
_POINTS = 200
_HISTOGRAM_BINS = 25

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Cases of similar score: what was predicted, and how many turned out positive.

    Parameters
    ----------
    n : int
        How many cases.
    mean_score : float
        What was predicted, 0..1.
    rate : Estimate
        Share that turned out positive, with Wilson's interval.
    """

    n: int
    mean_score: float
    rate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramBin:
    """How many cases of each label have a score in one range.

    Parameters
    ----------
    low, high : float
        Ends of the range; the upper end belongs to the next one, except for the last.
    positive, negative : int
        Cases of each label.
    """

    low: float
    high: float
    positive: int
    negative: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionRow:
    """How many cases of each label were decided so.

    Parameters
    ----------
    decision : str
        ``approve``, ``refer`` or ``decline``.
    positive, negative : int
        Cases of each label.
    """

    decision: str
    positive: int
    negative: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What the figures of a report are drawn from.

    Parameters
    ----------
    roc : tuple of (float, float)
        Share of negatives and share of positives at or above each threshold.
    reliability : tuple of CalibrationBin
        About equally many cases each.
    histogram : tuple of HistogramBin
        Equal widths over 0..1.
    decline_costs : tuple of (float, float)
        Decline threshold and cost per case while the refer threshold stays (it is lowered where it would be above).
    refer_costs : tuple of (float, float)
        Refer threshold and cost per case while the decline threshold stays; it ends there.
    highest_decline, lowest_refer : float
        How far each threshold can move, while the other stays, before more cases are referred than people can review.
    precision_recall : tuple of (float, float)
        Share of the positives that is caught, and share of positives among what is caught, at or above each threshold.
    """

    roc: Points
    reliability: tuple[CalibrationBin, ...]
    histogram: tuple[HistogramBin, ...]
    decline_costs: Points
    refer_costs: Points
    highest_decline: float
    lowest_refer: float
    precision_recall: Points = ()


def confusion_of(decisions: NDArray[np.int64], labels: NDArray[np.bool_]) -> tuple[ConfusionRow, ...]:
    """Count decisions by label."""
    return tuple(
        ConfusionRow(
            decision=name,
            positive=int(((decisions == number) & labels).sum()),
            negative=int(((decisions == number) & ~labels).sum()),
        )
        for number, name in enumerate(DECISIONS)
    )


def curves_of(
    scores: Floats,
    labels: NDArray[np.bool_],
    *,
    thresholds: Thresholds,
    money: Floats,
    review_capacity: float,
    confidence: float,
) -> Curves:
    """Compute every curve."""
    ordered = Ordered.of(scores, labels)
    decline, refer = _cost_curves(ordered, thresholds=thresholds, money=money[ordered.order])
    within_decline = [t for t, _ in decline if _referred(ordered, thresholds.refer, t) <= review_capacity]
    within_refer = [t for t, _ in refer if _referred(ordered, t, thresholds.decline) <= review_capacity]
    return Curves(
        roc=_roc(ordered),
        reliability=_reliability(scores, labels, confidence=confidence),
        histogram=_histogram(scores, labels),
        decline_costs=decline,
        refer_costs=refer,
        highest_decline=max(within_decline),
        lowest_refer=min(within_refer),
        precision_recall=_precision_recall(ordered),
    )


def _referred(ordered: Ordered, refer: float, decline: float) -> float:
    held, declined = np.searchsorted(-ordered.scores, [-min(refer, decline), -decline], side="right")
    return float(held - declined) / len(ordered.scores)


def _roc(ordered: Ordered) -> Points:
    found = np.cumsum(ordered.labels)[ordered.ends]
    passed = ordered.ends + 1 - found
    x = np.concatenate([[0.0], passed / passed[-1]])
    y = np.concatenate([[0.0], found / found[-1]])
    # A point on a straight line between its neighbours does not show.
    corner = np.ones(len(x), dtype=bool)
    corner[1:-1] = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(y)[:-1] * np.diff(x)[1:]
    return _thin(x[corner], y[corner])


def _precision_recall(ordered: Ordered) -> Points:
    found = np.cumsum(ordered.labels)[ordered.ends]
    return _thin(found / found[-1], found / (ordered.ends + 1))


def _thin(x: Floats, y: Floats) -> Points:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int))
    return tuple((float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True))


def _reliability(scores: Floats, labels: NDArray[np.bool_], *, confidence: float) -> tuple[CalibrationBin, ...]:
    bins = np.searchsorted(calibration_edges(scores), scores, side="left")
    found = []
    for number in np.unique(bins):
        inside = bins == number
        rate = wilson(int(labels[inside].sum()), of=int(inside.sum()), confidence=confidence)
        found.append(CalibrationBin(n=int(inside.sum()), mean_score=float(scores[inside].mean()), rate=rate))
    return tuple(found)


def _histogram(scores: Floats, labels: NDArray[np.bool_]) -> tuple[HistogramBin, ...]:
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    positive, negative = (np.histogram(scores[side], bins=edges)[0] for side in (labels, ~labels))
    return tuple(
        HistogramBin(
            low=float(edges[i]), high=float(edges[i + 1]), positive=int(positive[i]), negative=int(negative[i])
        )
        for i in range(_HISTOGRAM_BINS)
    )


def _cost_curves(ordered: Ordered, *, thresholds: Thresholds, money: Floats) -> tuple[Points, Points]:
    grid = np.linspace(0, 1, _POINTS + 1)
    decline_grid = np.unique(np.append(grid, thresholds.decline))
    refer_grid = np.unique(np.append(grid[grid <= thresholds.decline], [thresholds.refer, thresholds.decline]))
    sums = np.concatenate([np.zeros((1, len(DECISIONS))), np.cumsum(money, axis=0)])
    fixed_refer = np.minimum(thresholds.refer, decline_grid)
    decline = _mean_costs(ordered, refer=fixed_refer, decline=decline_grid, sums=sums)
    refer = _mean_costs(ordered, refer=refer_grid, decline=np.full_like(refer_grid, thresholds.decline), sums=sums)
    pairs = ((decline_grid, decline), (refer_grid, refer))
    first, second = (tuple((float(t), float(c)) for t, c in zip(x, y, strict=True)) for x, y in pairs)
    return first, second


def _mean_costs(ordered: Ordered, *, refer: Floats, decline: Floats, sums: Floats) -> Floats:
    """Return the cost per case at each pair of thresholds; ``sums`` has what the first cases lose by each decision."""
    declined, held = (np.searchsorted(-ordered.scores, -threshold, side="right") for threshold in (decline, refer))
    total: Floats = (
        sums[declined, DECLINE]
        + (sums[held, REFER] - sums[declined, REFER])
        + (sums[-1, APPROVE] - sums[held, APPROVE])
    )
    return total / len(ordered.scores)
