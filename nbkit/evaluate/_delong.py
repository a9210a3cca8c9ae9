"""Area under the ROC curve with its variance, alone and paired (DeLong)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._student import p_above, t_quantile

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
    21 (2014). Student's t with Satterthwaite's degrees of freedom stands for the normal quantile, because the variance
    comes from as few cases as the rarer label has. A perfect ranking has no variance: its open end is then the exact
    binomial bound for as many cases as the rarer label has.

    Examples
    --------
    >>> auc_estimate(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), confidence=0.95).value
    0.75
    """
    parts = _components(scores, labels)
    value, fewer = float(parts[0].mean()), min(len(part) for part in parts)
    if fewer < _FEWEST:
        return Estimate(value=value)
    tail = (1 - confidence) / 2
    if value in (0.0, 1.0):
        bound = tail ** (1 / fewer)
        return Estimate(value=value, low=bound, high=1.0) if value else Estimate(value=value, low=0.0, high=1 - bound)
    error, freedom = _error(parts)
    logit = math.log(value / (1 - value))
    width = t_quantile(1 - tail, freedom=freedom) * error / (value * (1 - value))
    return Estimate(value=value, low=_sigmoid(logit - width), high=_sigmoid(logit + width))


def auc_error(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return DeLong's standard error of the area under the ROC curve.

    Parameters
    ----------
    scores : numpy.ndarray
        Shape (n,), finite.
    labels : numpy.ndarray
        Shape (n,), bool; each label occurs at least twice.

    Returns
    -------
    float
        As other programs give it.

    Examples
    --------
    >>> auc_error(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).__round__(4)
    0.3536
    """
    return _error(_components(scores, labels))[0]


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
    return auc_loss(challenger, champion, labels, confidence=confidence)[0]


def auc_loss(
    challenger: NDArray[np.float64], champion: NDArray[np.float64], labels: NDArray[np.bool_], *, confidence: float
) -> tuple[Estimate, float | None]:
    """Return the paired difference, and the p value of "the challenger ranks no worse"."""
    parts = [a - b for a, b in zip(_components(challenger, labels), _components(champion, labels), strict=True)]
    value = float(parts[0].mean())
    if min(len(part) for part in parts) < _FEWEST:
        return Estimate(value=value), None
    error, freedom = _error(parts)
    if error == 0:
        return Estimate(value=value, low=value, high=value), float(value >= 0)
    width = t_quantile(0.5 + confidence / 2, freedom=freedom) * error
    estimate = Estimate(value=value, low=max(-1.0, value - width), high=min(1.0, value + width))
    return estimate, p_above(-value / error, freedom=freedom)


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; ties count half."""
    return float(_components(scores, labels)[0].mean())


def _components(
    scores: NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each positive's share of negatives below it, and each negative's share of positives above it."""
    order = np.argsort(scores)
    ordered, hits = scores[order], labels[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    found = np.cumsum(hits)[ends]
    passed = ends + 1 - found
    # Half of those with the same score count as lower.
    lower_positives, lower_negatives = (
        np.repeat(part - np.diff(part, prepend=0) / 2, np.diff(ends, prepend=-1)) for part in (found, passed)
    )
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    below = lower_negatives[place[labels]] / passed[-1]
    above = 1 - lower_positives[place[~labels]] / found[-1]
    return below, above


def _error(parts: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the standard error of the area, and Satterthwaite's degrees of freedom."""
    shares = [float(part.var(ddof=1)) / len(part) for part in parts]
    total = sum(shares)
    below = sum(share**2 / (len(part) - 1) for share, part in zip(shares, parts, strict=True))
    return math.sqrt(total), total**2 / below if below > 0 else math.inf


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
