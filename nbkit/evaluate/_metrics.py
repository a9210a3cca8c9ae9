"""The figures of one version on one case set, each with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._bootstrap import (
    Floats,
    Ordered,
    centred,
    collect,
    mean_by_table,
    percentile,
    ranking,
    resample_count,
    weights,
    wilson,
)
from nbkit.evaluate._decide import APPROVE, DECLINE, REFER
from nbkit.evaluate._delong import Estimate, auc_estimate

CALIBRATION_BINS = 10
# As scikit-learn clips: a score of exactly 0 or 1 that is wrong would otherwise lose infinitely much.
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure on the case set.

    Parameters
    ----------
    name : str
        As gates name it.
    value : float
        The figure.
    low, high : float or None
        Ends of its confidence interval; None where none can be computed.
    method : str
        How the interval was computed.
    n : int
        Number of cases.
    note : str
        What has to be known to read the figure: at which false positive rate, of how many, with which bias.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one version did with every case."""

    scores: Floats
    labels: NDArray[np.bool_]
    decisions: NDArray[np.int64]
    costs: Floats


def measure(
    judged: Judged, *, confidence: float, resamples: int, rng: np.random.Generator, step: Callable[[float], None]
) -> tuple[Metric, ...]:
    """Compute every metric; ``step`` is told the share that is done."""
    drawn, count = _drawn(judged, resamples=resamples, rng=rng, step=step)
    plain = _figures(judged, Ordered.of(judged.scores, judged.labels), np.ones((1, len(judged.scores))))[:, 0]
    area = auc_estimate(judged.scores, judged.labels, confidence=confidence)
    gini = Estimate(
        value=2 * area.value - 1,
        low=None if area.low is None else 2 * area.low - 1,
        high=None if area.high is None else 2 * area.high - 1,
    )
    names = ("average_precision", "ks", "brier", "log_loss", "ece")
    intervals = (percentile, centred, percentile, percentile, centred)
    found = {"auc": (area, "DeLong, logit scale"), "gini": (gini, "DeLong, logit scale")}
    for name, interval, value, row in zip(names, intervals, plain, drawn, strict=True):
        method = f"{'percentile' if interval is percentile else 'centred percentile'} bootstrap, {count:,} resamples"
        found[name] = (interval(float(value), row, confidence=confidence), method)
    money = mean_by_table(judged.costs, confidence=confidence, resamples=resamples, rng=rng)
    found["expected_cost"] = (money, f"percentile bootstrap, {resamples:,} resamples")
    for name, decision in (("approval_rate", APPROVE), ("refer_rate", REFER), ("decline_rate", DECLINE)):
        hits = int((judged.decisions == decision).sum())
        found[name] = (wilson(hits, of=len(judged.scores), confidence=confidence), "Wilson")
    return tuple(
        Metric(name=name, value=e.value, low=e.low, high=e.high, method=method, n=len(judged.scores))
        for name, (e, method) in found.items()
    )


def calibration_edges(scores: Floats) -> Floats:
    """Return edges of bins of about equally many cases; equal scores share a bin."""
    inner = np.quantile(scores, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    return np.unique(inner)


def _drawn(
    judged: Judged, *, resamples: int, rng: np.random.Generator, step: Callable[[float], None]
) -> tuple[Floats, int]:
    ordered = Ordered.of(judged.scores, judged.labels)
    count = resample_count(resamples, cases=len(judged.scores))
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        step(done / count)

    chunks = weights(len(judged.scores), resamples=count, rng=rng)
    return collect(chunks, lambda weight: _figures(judged, ordered, weight), step=advance), count


def _figures(judged: Judged, ordered: Ordered, weight: Floats) -> Floats:
    """Return average precision, KS, Brier score, log loss and ECE of each resample, shape (5, resamples)."""
    average, distance = ranking(ordered, weight)
    scores, labels = ordered.scores, ordered.labels
    clipped = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    loss = -np.where(labels > 0, np.log(clipped), np.log1p(-clipped))
    total = weight.sum(axis=1)
    bins = np.searchsorted(calibration_edges(judged.scores), scores, side="left")
    gaps = np.zeros((len(scores), bins.max() + 1))
    gaps[np.arange(len(scores)), bins] = labels - scores
    means = weight @ np.column_stack([(scores - labels) ** 2, loss]) / total[:, None]
    return np.stack([average, distance, means[:, 0], means[:, 1], np.abs(weight @ gaps).sum(axis=1) / total])
