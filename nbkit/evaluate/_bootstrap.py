"""Intervals: of means and of rates directly, of everything else from resamples."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._draws import Floats, new_seed, weights
from nbkit.evaluate._student import p_above, t_quantile

# When more resamples than this share hold one label only, their percentiles describe another question.
_MOST_EMPTY_SHARE = 0.05
# Ends of percentile intervals from fewer resamples move by more than a twentieth of the width.
_FEWEST_FOR_PERCENTILES = 1000
# Up to so many different amounts a resample is one multinomial draw of how often each occurs.
_MOST_AMOUNTS = 64
# Up to so many cases the skewness of the mean still matters at the third digit.
_MOST_STUDENTISED = 1000
# Amounts that differ by less than this share are the same; a skewness below it changes nothing.
_TINY = 1e-12


def from_resamples(value: float, drawn: Floats, *, confidence: float) -> tuple[Estimate, str]:
    """Return an interval from what was drawn, and how it was made."""
    usable = drawn[~np.isnan(drawn)]
    if len(usable) < (1 - _MOST_EMPTY_SHARE) * len(drawn):
        return Estimate(value=value), "none: a label is absent from too many resamples"
    if len(drawn) < _FEWEST_FOR_PERCENTILES:
        width = NormalDist().inv_cdf(0.5 + confidence / 2) * float(usable.std(ddof=1))
        method = f"bootstrap standard error, {len(drawn):,} resamples"
        return Estimate(value=value, low=value - width, high=value + width), method
    low, high = np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value=value, low=float(low), high=float(high)), f"percentile bootstrap, {len(drawn):,} resamples"


def centred(value: float, drawn: Floats, *, confidence: float) -> tuple[Estimate, str]:
    """Return the percentile interval moved by the resamples' own bias, at least 0.

    For figures that are never negative and that every resample pushes upwards, such as the largest of many distances.
    """
    found, method = from_resamples(value, drawn, confidence=confidence)
    if found.low is None or found.high is None:
        return found, method
    bias = float(np.nanmean(drawn)) - value if method.startswith("percentile") else 0.0
    low, high = min(value, max(0.0, found.low - bias)), max(value, found.high - bias)
    return Estimate(value=value, low=low, high=high), f"centred {method}" if bias else method


def mean_estimate(
    amounts: Floats, *, confidence: float, resamples: int, rng: np.random.Generator
) -> tuple[Estimate, str]:
    """Return a mean with an interval that follows its skewness, and how it was made.

    Losses are skewed: a few approved cases lose most. On 200 cases the plain and the percentile interval miss the truth
    above 5 to 8 % of the time where 2.5 % is meant.
    """
    values, counts = np.unique(amounts, return_counts=True)
    if len(values) == 1:
        only = float(values[0])
        return Estimate(value=only, low=only, high=only), "none needed: all cases are alike"
    cases = len(amounts)
    if len(values) <= _MOST_AMOUNTS:
        drawn = rng.multinomial(cases, counts / cases, size=resamples) / cases
        ratios = _studentised(drawn @ values, drawn @ values**2, amounts=amounts)
    elif cases <= _MOST_STUDENTISED:
        seed, columns = new_seed(rng), np.column_stack([amounts, amounts**2]) / cases
        sums = np.concatenate([weight @ columns for weight in weights(cases, resamples=resamples, seed=seed)])
        ratios = _studentised(sums[:, 0], sums[:, 1], amounts=amounts)
    else:
        ratios = None
    tail = (1 - confidence) / 2
    # Where resamples too often hold one amount only, their ratios are infinite.
    if ratios is None or len(ratios) < (1 - tail / 2) * resamples:
        return _skewed(amounts, tail=tail), "Student's t corrected for skewness (Hall 1992)"
    low, high = np.quantile(ratios, [tail, 1 - tail])
    value, error = float(amounts.mean()), float(amounts.std(ddof=1)) / math.sqrt(cases)
    floor = min(0.0, float(amounts.min()))
    estimate = Estimate(value=value, low=max(floor, value - float(high) * error), high=value - float(low) * error)
    return estimate, f"studentised bootstrap, {resamples:,} resamples"


def mean_difference(differences: Floats, *, confidence: float) -> tuple[Estimate, float | None]:
    """Return the mean of paired differences with Student's t interval, and the p value of "not above 0".

    The standard error is the paired bootstrap's, which is known for a mean without drawing; percentiles of the
    resamples cover 92 to 93 % on 200 cases, t covers 95 to 96 %.
    """
    cases, value = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(cases) if cases > 1 else math.nan
    if math.isnan(error):
        return Estimate(value=value), None
    if error == 0:
        return Estimate(value=value, low=value, high=value), float(value <= 0)
    width = t_quantile(0.5 + confidence / 2, freedom=cases - 1) * error
    return Estimate(value=value, low=value - width, high=value + width), p_above(value / error, freedom=cases - 1)


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


def _studentised(means: Floats, squares: Floats, *, amounts: Floats) -> Floats:
    """Return how many standard errors each resample's mean lies above the true one; none where it has no error."""
    variance = squares - means**2
    usable = variance > _TINY * np.maximum(squares, _TINY)
    ratios: Floats = (means[usable] - amounts.mean()) / np.sqrt(variance[usable] / (len(amounts) - 1))
    return ratios


def _skewed(amounts: Floats, *, tail: float) -> Estimate:
    """Return Hall's interval (Journal of the Royal Statistical Society B 54, 1992): t, bent by the skewness."""
    cases, value, spread = len(amounts), float(amounts.mean()), float(amounts.std())
    error = float(amounts.std(ddof=1)) / math.sqrt(cases)
    bend = float((((amounts - value) / spread) ** 3).mean()) / math.sqrt(cases)
    t = t_quantile(1 - tail, freedom=cases - 1)

    def back(x: float) -> float:
        return x if abs(bend) < _TINY else (float(np.cbrt(1 + bend * x - bend * bend / 6)) - 1) * 3 / bend

    # A mean of what is never below 0 is not below 0.
    floor = min(0.0, float(amounts.min()))
    return Estimate(value=value, low=max(floor, value - back(t) * error), high=value - back(-t) * error)
