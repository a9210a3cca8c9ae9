"""What else may differ between groups: scores, opportunity, odds, calibration, each with interval and verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from nbkit.contract import Contract, Fairness, Protected
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._fairness import AttributeResult, difference, intersections_of, share
from nbkit.evaluate._group_table import GroupCounts, group_counts
from nbkit.evaluate._metrics import Judged
from nbkit.evaluate._proxy import ProxyResult, proxies_of

# A figure this close to its limit could only be told by more cases than anyone will have.
_MOST_CASES = 1_000_000

MEASURES = {
    "score_difference": "standardized mean difference of scores (positive: the group scores riskier)",
    "opportunity": "equal opportunity: difference of approval rates among cases that did not turn out positive",
    "odds": "equalized odds: the larger of the differences of approval rates among cases of one label",
    "calibration": "share that turned out positive less mean score, in the group itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasure:
    """One figure of one group.

    Parameters
    ----------
    measure : str
        ``score_difference``, ``opportunity``, ``odds`` or ``calibration``.
    attribute, group, reference : str
        Which group, and the one it is compared with; calibration compares a group with its own scores.
    n : int
        Cases that the figure rests on: the fewest of those it compares.
    value : Estimate or None
        None where a label or a group does not occur.
    limit : float or None
        The largest size that the contract allows; None where it sets none.
    verdict : str
        ``pass`` when the whole interval is within the limit, ``fail`` when none of it is, otherwise ``cannot tell``;
        ``no limit`` where the contract sets none.
    reason : str
        Why.
    n_that_would_tell : int or None
        About how many such cases would tell, if the figure stays.
    """

    measure: str
    attribute: str
    group: str
    reference: str
    n: int
    value: Estimate | None
    limit: float | None
    verdict: str
    reason: str
    n_that_would_tell: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disparities:
    """What was measured besides impact ratios.

    Parameters
    ----------
    measures : tuple of GroupMeasure
        By attribute and group.
    intersections : tuple of AttributeResult
        Impact ratios of combinations of two attributes' groups.
    intersections_judged : bool
        Whether the contract holds them to the same floor.
    proxies : tuple of ProxyResult
        How well the inputs predict each group.
    """

    measures: tuple[GroupMeasure, ...]
    intersections: tuple[AttributeResult, ...]
    intersections_judged: bool
    proxies: tuple[ProxyResult, ...]


def disparities_of(judged: Judged, frame: pd.DataFrame, *, contract: Contract) -> Disparities | None:
    """Measure everything besides impact ratios; None where the contract names no protected attribute."""
    attributes, limits, confidence = contract.protected, contract.fairness, contract.evaluate.confidence
    if not attributes:
        return None
    measures: list[GroupMeasure] = []
    for attribute in attributes:
        counts = group_counts(judged, frame[[attribute.name]])
        reference = counts.pop(attribute.reference, None)
        if reference is not None:
            name = attribute.reference
            measures.append(_calibration(reference, attribute, name, limits=limits, confidence=confidence))
        for group, ours in counts.items():
            measures += _measures(ours, reference, attribute, group, limits=limits, confidence=confidence)
    return Disparities(
        measures=tuple(measures),
        intersections=intersections_of(judged, frame, attributes=attributes, limits=limits, confidence=confidence),
        intersections_judged=limits.intersections,
        proxies=proxies_of(
            frame,
            attributes=attributes,
            inputs=tuple(column.name for column in contract.inputs),
            confidence=confidence,
        ),
    )


def _measures(
    ours: GroupCounts,
    theirs: GroupCounts | None,
    attribute: Protected,
    group: str,
    *,
    limits: Fairness,
    confidence: float,
) -> list[GroupMeasure]:
    found = [_calibration(ours, attribute, group, limits=limits, confidence=confidence)]
    if theirs is None:
        return found
    good, bad = min(ours.good, theirs.good), min(ours.bad, theirs.bad)
    figures = (
        ("score_difference", standardized(ours, theirs, confidence=confidence), min(ours.n, theirs.n)),
        ("opportunity", _opportunity(ours, theirs, confidence=confidence), good),
        ("odds", equalized_odds(ours, theirs, confidence=confidence), min(good, bad)),
    )
    for measure, value, n in figures:
        limit = getattr(limits, f"{measure}_ceiling")
        found.append(_judged(measure, value, attribute, group, n=n, limit=limit, minimum=limits.minimum_group))
    return found


def standardized(ours: GroupCounts, theirs: GroupCounts, *, confidence: float) -> Estimate | None:
    """Return the difference of mean scores in pooled standard deviations (Cohen's d), with its large-sample interval.

    Hedges and Olkin, Statistical Methods for Meta-Analysis (1985), section 5.E. None where all scores are equal.
    """
    n, m = ours.n, theirs.n
    freedom = n + m - 2
    pooled = ((n - 1) * ours.score_variance + (m - 1) * theirs.score_variance) / freedom if freedom > 0 else 0.0
    if pooled <= 0:
        return None
    value = (ours.score_mean - theirs.score_mean) / math.sqrt(pooled)
    width = _z(confidence) * math.sqrt((n + m) / (n * m) + value * value / (2 * (n + m)))
    return Estimate(value=value, low=value - width, high=value + width)


def _opportunity(ours: GroupCounts, theirs: GroupCounts, *, confidence: float) -> Estimate | None:
    return difference(
        share(ours.good_approved, of=ours.good, confidence=confidence),
        share(theirs.good_approved, of=theirs.good, confidence=confidence),
    )


def equalized_odds(ours: GroupCounts, theirs: GroupCounts, *, confidence: float) -> Estimate | None:
    """Return the larger difference in size, as fairlearn does, with an interval that holds for both at once.

    Each difference gets Newcombe's interval at half the error (Bonferroni), so the larger one lies within.
    """
    halved = (1 + confidence) / 2
    parts = (
        _opportunity(ours, theirs, confidence=halved),
        difference(
            share(ours.bad_approved, of=ours.bad, confidence=halved),
            share(theirs.bad_approved, of=theirs.bad, confidence=halved),
        ),
    )
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Estimate(
        value=max(abs(part.value) for part in known),
        low=max(_smallest(part) for part in known),
        high=max(_largest(part) for part in known),
    )


def _calibration(
    ours: GroupCounts, attribute: Protected, group: str, *, limits: Fairness, confidence: float
) -> GroupMeasure:
    width = _z(confidence) * math.sqrt(ours.gap_variance / ours.n)
    value = Estimate(value=ours.gap_mean, low=ours.gap_mean - width, high=ours.gap_mean + width)
    known = value if ours.n > 1 else None
    limit, minimum = limits.calibration_ceiling, limits.minimum_group
    return _judged("calibration", known, attribute, group, n=ours.n, limit=limit, minimum=minimum)


def _judged(
    measure: str,
    value: Estimate | None,
    attribute: Protected,
    group: str,
    *,
    n: int,
    limit: float | None,
    minimum: int,
) -> GroupMeasure:
    verdict, reason, needed = _verdict(value, n=n, limit=limit, minimum=minimum)
    return GroupMeasure(
        measure=measure,
        attribute=attribute.name,
        group=group,
        reference=attribute.reference,
        n=n,
        value=value,
        limit=limit,
        verdict=verdict,
        reason=reason,
        n_that_would_tell=needed,
    )


def _verdict(value: Estimate | None, *, n: int, limit: float | None, minimum: int) -> tuple[str, str, int | None]:
    if value is None or value.low is None or value.high is None:
        return "cannot tell" if limit is not None else "no limit", "a label or a group does not occur", None
    if limit is None:
        return "no limit", "the contract sets no limit", None
    needed = _enough(value, n=n, limit=limit, minimum=minimum)
    if n < minimum:
        return "cannot tell", f"it rests on {n} cases, fewer than {minimum}", needed
    if _largest(value) <= limit:
        return "pass", f"at most {_largest(value):.2f}, the limit is {limit:.2f}", None
    if _smallest(value) > limit:
        return "fail", f"at least {_smallest(value):.2f}, the limit is {limit:.2f}", None
    between = f"between {_smallest(value):.2f} and {_largest(value):.2f}"
    return "cannot tell", f"{between} in size, the limit is {limit:.2f}", needed


def _enough(value: Estimate, *, n: int, limit: float, minimum: int) -> int | None:
    """Return how many cases put the limit outside the interval, whose width shrinks with their square root."""
    assert value.low is not None and value.high is not None  # noqa: PT018, S101 -- the caller has looked
    gap = abs(limit - abs(value.value))
    half = max(value.high - value.value, value.value - value.low)
    if not gap or not n:
        return None
    needed = max(n * (half / gap) ** 2, float(minimum))
    return math.ceil(needed) if needed <= _MOST_CASES else None


def _smallest(value: Estimate) -> float:
    low, high = value.low or 0.0, value.high or 0.0
    return 0.0 if low <= 0 <= high else min(abs(low), abs(high))


def _largest(value: Estimate) -> float:
    return max(abs(value.low or 0.0), abs(value.high or 0.0))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
