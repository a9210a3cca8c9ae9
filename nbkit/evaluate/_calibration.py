"""How far scores lie from what turned out true, and how much of that is chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._draws import Floats

CALIBRATION_BINS = 10
_HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationError:
    """Mean gap between score and observed share over bins of equally many cases (ECE).

    Parameters
    ----------
    raw : Estimate
        As it is usually given: biased upwards, because chance opens a gap in every bin.
    noise : float
        What a perfectly calibrated score would show on as many cases.
    debiased : float
        The gaps shrunk by one factor until, with chance added, they would show the raw figure.
    bins : int
        How many.
    """

    raw: Estimate
    noise: float
    debiased: float
    bins: int


def calibration_edges(scores: Floats) -> Floats:
    """Return edges of bins of about equally many cases; equal scores share a bin."""
    inner = np.quantile(scores, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    return np.unique(inner)


def calibration_error(
    scores: Floats, labels: NDArray[np.bool_], *, confidence: float, resamples: int, rng: np.random.Generator
) -> CalibrationError:
    """Compute ECE, its interval and its bias.

    A bin's gap is a mean of many cases, so resamples of the ten gaps are drawn from the normal law that has the means
    and covariances of the bootstrap; the interval is centred, because every resample adds chance once more.
    """
    bins = np.searchsorted(calibration_edges(scores), scores, side="left")
    count = int(bins.max()) + 1
    cases, surprise = len(scores), labels - scores
    gaps = np.bincount(bins, weights=surprise, minlength=count) / cases
    squares = np.bincount(bins, weights=surprise**2, minlength=count) / cases
    # Where every label of a bin agrees, the observed spread is 0 although the score promises one.
    promised = np.bincount(bins, weights=scores * (1 - scores), minlength=count) / cases
    spread = np.sqrt(np.maximum(squares - gaps**2, promised) / cases)
    raw, noise = float(np.abs(gaps).sum()), float(_expected(0 * gaps, np.sqrt(promised / cases)).sum())
    shrunk = _shrunk(np.abs(gaps), spread, raw=raw)
    covariance = (np.diag(squares) - np.outer(gaps, gaps)) / cases
    drawn = np.abs(rng.multivariate_normal(gaps, covariance, size=resamples, method="eigh")).sum(axis=1)
    ends = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]) - drawn.mean()
    around = Estimate(value=raw, low=max(0.0, raw + float(ends[0])), high=raw + float(ends[1]))
    return CalibrationError(raw=around, noise=noise, debiased=shrunk, bins=len(np.unique(bins)))


def _expected(gaps: Floats, spread: Floats) -> Floats:
    """Return the mean absolute value of normal variables (the folded normal law)."""
    from scipy.special import ndtr

    ratio = np.divide(gaps, spread, out=np.full_like(gaps, np.inf), where=spread > 0)
    around = spread * np.sqrt(2 / np.pi) * np.exp(-(np.minimum(ratio, 40.0) ** 2) / 2)
    found: Floats = around + gaps * (1 - 2 * ndtr(-ratio))
    return found


def _shrunk(gaps: Floats, spread: Floats, *, raw: float) -> float:
    """Return the sum of the gaps, shrunk until their expected sum is the raw one; 0 where chance explains all."""
    if float(_expected(0 * gaps, spread).sum()) >= raw:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(_expected(gaps * middle, spread).sum()) < raw:
            low = middle
        else:
            high = middle
    return raw * low
