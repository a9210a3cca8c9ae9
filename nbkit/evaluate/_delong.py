"""Area under the ROC curve with its variance, alone and paired (DeLong)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Two of each label are the fewest from which a variance can be computed.
_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its confidence interval.

    Parameters
    ----------
    value : float
        The figure on the cases.
    low, high : float or None
        Ends of the interval; None where no interval can be computed.
    """

    value: float
    low: float | None = None
    high: float | None = None


def auc_estimate(scores: NDArray[np.float64], labels: NDArray[np.bool_], *, confidence: float) -> Estimate:
    """Return the area under the ROC curve with DeLong's interval on the logit scale.

    Parameters
    ----------
    scores : numpy.ndarray
        Shape (n,), finite.
    labels : numpy.ndarray
        Shape (n,), bool; both labels occur.
    confidence : float
        Such as 0.95.

    Returns
    -------
    Estimate
        Without an interval when a label occurs only once.

    Notes
    -----
    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); midranks as in Sun and Xu, IEEE Signal Processing Letters
    21 (2014). A perfect ranking has no variance: its open end is then the exact binomial bound for as many cases as
    the rarer label has.

    Examples
    --------
    >>> auc_estimate(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), confidence=0.95).value
    0.75
    """
    positive, negative = _components(scores, labels)
    value = float(positive.mean())
    if min(len(positive), len(negative)) < _FEWEST:
        return Estimate(value=value)
    tail = (1 - confidence) / 2
    if value in (0.0, 1.0):
        bound = tail ** (1 / min(len(positive), len(negative)))
        return Estimate(value=value, low=bound, high=1.0) if value else Estimate(value=value, low=0.0, high=1 - bound)
    error = math.sqrt(positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative))
    logit, width = math.log(value / (1 - value)), -NormalDist().inv_cdf(tail) * error / (value * (1 - value))
    return Estimate(value=value, low=_sigmoid(logit - width), high=_sigmoid(logit + width))


def auc_difference(
    challenger: NDArray[np.float64], champion: NDArray[np.float64], labels: NDArray[np.bool_], *, confidence: float
) -> Estimate:
    """Return how much more area the challenger has than the champion on the same cases (paired DeLong).

    Parameters
    ----------
    challenger, champion : numpy.ndarray
        Scores of the same cases, shape (n,).
    labels : numpy.ndarray
        Shape (n,), bool; both labels occur.
    confidence : float
        Such as 0.95.

    Returns
    -------
    Estimate
        Positive when the challenger ranks better.
    """
    ours, theirs = _components(challenger, labels), _components(champion, labels)
    value = float(ours[0].mean() - theirs[0].mean())
    if min(len(ours[0]), len(ours[1])) < _FEWEST:
        return Estimate(value=value)
    variance = sum((a - b).var(ddof=1) / len(a) for a, b in zip(ours, theirs, strict=True))
    width = -NormalDist().inv_cdf((1 - confidence) / 2) * math.sqrt(variance)
    return Estimate(value=value, low=max(-1.0, value - width), high=min(1.0, value + width))


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; ties count half."""
    return float(_components(scores, labels)[0].mean())


def _components(
    scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each positive's share of negatives below it, and each negative's share of positives above it."""
    positive, negative = scores[labels], scores[~labels]
    ranks = _midranks(np.concatenate([positive, negative]))
    count = len(positive)
    below = (ranks[:count] - _midranks(positive)) / len(negative)
    above = 1 - (ranks[count:] - _midranks(negative)) / count
    return below, above


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[place]
    return ranks


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
