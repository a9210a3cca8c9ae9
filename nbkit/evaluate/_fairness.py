"""How decisions differ between protected groups, and whether the cases are enough to tell."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from nbkit.contract import Fairness, Protected
from nbkit.evaluate._bootstrap import wilson
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._group_table import GroupCounts, crossed, group_counts
from nbkit.evaluate._metrics import Judged

# A count of zero would make the logarithm of a ratio infinite; half a case keeps it finite.
_EMPTY_COUNT = 0.5
# A figure this close to its floor could only be told by more cases than anyone will have.
_MOST_CASES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """How one group was decided, compared with the reference group.

    Parameters
    ----------
    attribute, group, reference : str
        Which attribute, which of its groups, and the group it is compared with.
    n : int
        Cases of the group.
    approval_rate : Estimate
        Share approved, with Wilson's interval.
    impact_ratio : Estimate or None
        Its approval rate over the reference group's, with Katz's logarithmic interval; None where the reference group
        is empty or never approved.
    opportunity : Estimate or None
        Equal opportunity: difference of approval rates among cases that did not turn out positive, Newcombe's interval.
    verdict : str
        ``pass`` when the whole interval of the ratio reaches the floor, ``fail`` when none of it does, otherwise
        ``cannot tell``.
    reason : str
        Why.
    n_that_would_tell : int or None
        About how many cases of the group would tell, if the ratio stays and the reference group grows alike; None where
        it is known already or no number would.
    """

    attribute: str
    group: str
    reference: str
    n: int
    approval_rate: Estimate
    impact_ratio: Estimate | None
    opportunity: Estimate | None
    verdict: str
    reason: str
    n_that_would_tell: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeResult:
    """One protected attribute.

    Parameters
    ----------
    attribute, reference : str
        Its name, and the group that others are compared with.
    reference_n : int
        Cases of the reference group.
    reference_rate : Estimate or None
        Its approval rate; None when there is no such case.
    unknown : int
        Cases whose group is not recorded; they are in no group.
    groups : tuple of GroupResult
        Every other group.
    """

    attribute: str
    reference: str
    reference_n: int
    reference_rate: Estimate | None
    unknown: int
    groups: tuple[GroupResult, ...]


def fairness_of(
    judged: Judged, frame: pd.DataFrame, *, attributes: tuple[Protected, ...], limits: Fairness, confidence: float
) -> tuple[AttributeResult, ...]:
    """Compare every group of every protected attribute with its reference group."""
    return tuple(_attribute(judged, frame, (one,), limits=limits, confidence=confidence) for one in attributes)


def intersections_of(
    judged: Judged, frame: pd.DataFrame, *, attributes: tuple[Protected, ...], limits: Fairness, confidence: float
) -> tuple[AttributeResult, ...]:
    """Compare every combination of two attributes' groups with the combination of their reference groups."""
    return tuple(
        _attribute(judged, frame, pair, limits=limits, confidence=confidence)
        for pair in itertools.combinations(attributes, 2)
    )


def _attribute(
    judged: Judged, frame: pd.DataFrame, attributes: tuple[Protected, ...], *, limits: Fairness, confidence: float
) -> AttributeResult:
    columns = frame[[attribute.name for attribute in attributes]]
    counts = group_counts(judged, columns)
    name = crossed(tuple(attribute.name for attribute in attributes))
    against = crossed(tuple(attribute.reference for attribute in attributes))
    reference = counts.pop(against, None)
    return AttributeResult(
        attribute=name,
        reference=against,
        reference_n=reference.n if reference else 0,
        reference_rate=wilson(reference.approved, of=reference.n, confidence=confidence) if reference else None,
        unknown=int(columns.isna().any(axis=1).sum()),
        groups=tuple(
            _group(name, group, (found, reference), against=against, limits=limits, confidence=confidence)
            for group, found in counts.items()
        ),
    )


def _group(
    attribute: str,
    group: str,
    pair: tuple[GroupCounts, GroupCounts | None],
    *,
    against: str,
    limits: Fairness,
    confidence: float,
) -> GroupResult:
    ours, theirs = pair
    counts = (ours.approved, ours.n, theirs.approved if theirs else 0, theirs.n if theirs else 0)
    ratio = impact_ratio(*counts, confidence=confidence) if counts[2] else None
    verdict, reason, needed = _verdict(ratio, counts, reference=against, limits=limits, confidence=confidence)
    return GroupResult(
        attribute=attribute,
        group=group,
        reference=against,
        n=ours.n,
        approval_rate=wilson(ours.approved, of=ours.n, confidence=confidence),
        impact_ratio=ratio,
        opportunity=difference(
            share(ours.good_approved, of=ours.good, confidence=confidence),
            share(theirs.good_approved, of=theirs.good, confidence=confidence) if theirs else None,
        ),
        verdict=verdict,
        reason=reason,
        n_that_would_tell=needed,
    )


def nobody(attribute: AttributeResult) -> GroupResult:
    """Return what is known of an attribute of which no case has another group than the reference: nothing."""
    gaps = f"; {attribute.unknown:,} have no group" if attribute.unknown else ""
    return GroupResult(
        attribute=attribute.attribute,
        group="any other",
        reference=attribute.reference,
        n=0,
        approval_rate=Estimate(value=0.0),
        impact_ratio=None,
        opportunity=None,
        verdict="cannot tell",
        reason=f"no case has a group to compare{gaps}",
        n_that_would_tell=None,
    )


def share(hits: int, *, of: int, confidence: float) -> Estimate | None:
    """Return a share with Wilson's interval; None of nothing."""
    return wilson(hits, of=of, confidence=confidence) if of else None


def impact_ratio(approved: int, n: int, reference_approved: int, reference_n: int, *, confidence: float) -> Estimate:
    """Return the ratio of two approval rates with Katz's interval on the logarithmic scale.

    Parameters
    ----------
    approved, n : int
        How many of the group were approved, and its size.
    reference_approved, reference_n : int
        The same of the reference group; at least one must be approved.
    confidence : float
        Such as 0.95.

    Returns
    -------
    Estimate
        The interval is finite also where everyone or no one is approved.

    Examples
    --------
    >>> ratio = impact_ratio(60, 100, 150, 200, confidence=0.95)
    >>> round(ratio.value, 3), round(ratio.low, 3), round(ratio.high, 3)
    (0.8, 0.669, 0.957)
    """
    value = (approved / n) / (reference_approved / reference_n)
    counts = (approved, n, reference_approved, reference_n)
    centre, error = _log_ratio(counts)
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return Estimate(value=value, low=min(value, math.exp(centre - width)), high=max(value, math.exp(centre + width)))


def _log_ratio(counts: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return the logarithm of the ratio and its standard error, also where everyone or no one is approved."""
    approved, n, reference_approved, reference_n = counts
    edge = approved in (0, n) or reference_approved in (0, reference_n)
    add = _EMPTY_COUNT if edge else 0.0
    a, b, c, d = approved + add, n + add, reference_approved + add, reference_n + add
    return math.log(a / b) - math.log(c / d), math.sqrt(max(0.0, 1 / a - 1 / b + 1 / c - 1 / d))


def _verdict(
    ratio: Estimate | None,
    counts: tuple[int, int, int, int],
    *,
    reference: str,
    limits: Fairness,
    confidence: float,
) -> tuple[str, str, int | None]:
    _, n, _, reference_n = counts
    floor = limits.impact_ratio_floor
    if ratio is None or ratio.low is None or ratio.high is None:
        what = "has no case" if reference_n == 0 else "was never approved"
        return "cannot tell", f"the reference group {reference!r} {what}", None
    needed = _enough(counts, floor=floor, minimum=limits.minimum_group, confidence=confidence)
    small = [name for name, size in (("group", n), ("reference group", reference_n)) if size < limits.minimum_group]
    if small:
        return "cannot tell", f"the {small[0]} has fewer than {limits.minimum_group} cases", needed
    if ratio.low >= floor:
        return "pass", f"at least {ratio.low:.2f}, the floor is {floor:.2f}", None
    if ratio.high < floor:
        return "fail", f"at most {ratio.high:.2f}, the floor is {floor:.2f}", None
    return "cannot tell", f"between {ratio.low:.2f} and {ratio.high:.2f}, the floor is {floor:.2f}", needed


def _enough(counts: tuple[int, int, int, int], *, floor: float, minimum: int, confidence: float) -> int | None:
    """Return how many cases of the group put the floor outside the interval, both groups growing alike."""
    _, n, _, reference_n = counts
    if floor <= 0:
        return None
    centre, error = _log_ratio(counts)
    gap = abs(centre - math.log(floor))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    growth = max((z * error / gap) ** 2 if gap else math.inf, minimum / n, minimum / reference_n)
    needed = n * growth
    return math.ceil(needed) if needed <= _MOST_CASES else None


def difference(ours: Estimate | None, theirs: Estimate | None) -> Estimate | None:
    """Return the difference of two shares with Newcombe's interval (his method 10, from two Wilson intervals)."""
    if ours is None or theirs is None:
        return None
    assert ours.low is not None and ours.high is not None and theirs.low is not None and theirs.high is not None  # noqa: PT018, S101
    value = ours.value - theirs.value
    below = math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    above = math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(value=value, low=value - below, high=value + above)
