"""Intervals from resamples: presorted weights for ranking metrics, collapsed tables for money and rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._delong import Estimate

# Weights of one chunk of resamples: 16 MB of float64.
_CHUNK_WEIGHTS = 2_000_000
# Beyond this many resampled rows fewer resamples are drawn (but never fewer than _FEWEST_RESAMPLES).
_MOST_WEIGHTS = 100_000_000
_FEWEST_RESAMPLES = 200
# When more resamples than this share hold one label only, their percentiles describe another question.
_MOST_EMPTY_SHARE = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Cases by falling score, and where groups of equal score end."""

    scores: Floats
    labels: Floats
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Floats, labels: NDArray[np.bool_]) -> Ordered:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        return cls(scores=falling, labels=labels[order].astype(np.float64), ends=ends)


def resample_count(wanted: int, *, cases: int) -> int:
    """Return how many resamples are drawn: as many as wanted unless the set is very large."""
    return min(wanted, max(_FEWEST_RESAMPLES, _MOST_WEIGHTS // max(1, cases)))


def weights(cases: int, *, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield chunks of bootstrap weights, shape (some resamples, cases): how often each case was drawn."""
    size = max(1, _CHUNK_WEIGHTS // cases)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(0, cases, size=(count, cases)) + np.arange(count)[:, None] * cases
        yield np.bincount(drawn.ravel(), minlength=count * cases).reshape(count, cases).astype(np.float64)


def ranking(ordered: Ordered, weight: Floats) -> tuple[Floats, Floats]:
    """Return average precision and KS distance of each weighted resample; NaN where a label is absent."""
    found = np.cumsum(weight * ordered.labels, axis=1)[:, ordered.ends]
    seen = np.cumsum(weight, axis=1)[:, ordered.ends]
    positives, cases = found[:, -1:], seen[:, -1:]
    usable = ((positives > 0) & (positives < cases))[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(seen > 0, found / seen, 0.0)
        recall = found / positives
        distance = np.abs(recall - (seen - found) / (cases - positives)).max(axis=1)
        average = (np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1)
    return np.where(usable, average, np.nan), np.where(usable, distance, np.nan)


def percentile(value: float, drawn: Floats, *, confidence: float) -> Estimate:
    """Return the percentile interval of what was drawn."""
    ends = _quantiles(drawn, confidence=confidence)
    return Estimate(value=value) if ends is None else Estimate(value=value, low=ends[0], high=ends[1])


def centred(value: float, drawn: Floats, *, confidence: float) -> Estimate:
    """Return the percentile interval moved by the resamples' own bias, at least 0.

    For figures that are never negative and that every resample pushes upwards, such as a calibration error.
    """
    ends = _quantiles(drawn, confidence=confidence)
    if ends is None:
        return Estimate(value=value)
    bias = float(np.nanmean(drawn)) - value
    return Estimate(value=value, low=min(value, max(0.0, ends[0] - bias)), high=max(value, ends[1] - bias))


def mean_by_table(amounts: Floats, *, confidence: float, resamples: int, rng: np.random.Generator) -> Estimate:
    """Return a mean with its bootstrap interval, from how often each different amount occurs.

    A mean does not depend on which case has which amount, so a resample is one multinomial draw of the counts.
    """
    values, counts = np.unique(amounts, return_counts=True)
    drawn = rng.multinomial(len(amounts), counts / len(amounts), size=resamples) @ values / len(amounts)
    return percentile(float(values @ counts) / len(amounts), drawn, confidence=confidence)


def wilson(hits: int, *, of: int, confidence: float) -> Estimate:
    """Return a share with Wilson's score interval.

    Parameters
    ----------
    hits, of : int
        How many of how many; at least one.
    confidence : float
        Such as 0.95.

    Returns
    -------
    Estimate
        The interval lies in 0..1.

    Examples
    --------
    >>> share = wilson(15, of=100, confidence=0.95)
    >>> round(share.low, 4), round(share.high, 4)
    (0.0931, 0.2328)
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / of
    middle, scale = share + z * z / (2 * of), 1 + z * z / of
    width = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)
    return Estimate(value=share, low=0.0 if hits == 0 else low, high=1.0 if hits == of else high)


def collect(chunks: Iterator[Floats], figure: Callable[[Floats], Floats], *, step: Callable[[int], None]) -> Floats:
    """Compute the figures of every chunk, shape (figures, resamples), and report each chunk's size."""
    parts = []
    for chunk in chunks:
        parts.append(figure(chunk))
        step(len(chunk))
    return np.concatenate(parts, axis=1)


def _quantiles(drawn: Floats, *, confidence: float) -> tuple[float, float] | None:
    usable = drawn[~np.isnan(drawn)]
    if len(usable) < (1 - _MOST_EMPTY_SHARE) * len(drawn):
        return None
    low, high = np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
