"""Slices that nobody declared: the worst parts of the cases over one and two features."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSlice:
    """A part of the cases where a figure is worse than on all others.

    Parameters
    ----------
    conditions : tuple of str
        One or two, such as ``kind = fixed`` or ``risk above 0.3``; all of them hold.
    figure : str
        ``calibration`` (share that turned out positive less mean score), ``expected_cost``, or ``cost_difference``
        (what the challenger costs more than the champion).
    n, positives : int
        How many cases, and how many of them turned out positive.
    value : float
        The figure on the slice.
    low, high : float
        Ends of its interval, for this slice alone.
    rest : float
        The figure on all other cases.
    p_value : float
        Of "no worse than the rest", for this slice alone.
    adjusted : float
        The same after Holm's correction over every slice and figure that was looked at.
    sure : bool
        Whether the adjusted p value is below one less the confidence; otherwise the slice may be chance.
    """

    conditions: tuple[str, ...]
    figure: str
    n: int
    positives: int
    value: float
    low: float
    high: float
    rest: float
    p_value: float
    adjusted: float
    sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSearch:
    """What was looked for, and what was found.

    Parameters
    ----------
    features : tuple of str
        Columns that were searched.
    candidates : int
        Slices of at least the minimum size.
    tests : int
        Slices times figures: what the correction is for.
    minimum : int
        Fewest cases of a slice.
    level : float
        Highest chance that any slice is called sure although none is worse.
    method : str
        How the p values were computed and corrected.
    found : tuple of FoundSlice
        The worst of each figure, the surest first; those that are not sure are there to be looked at.
    """

    features: tuple[str, ...]
    candidates: int
    tests: int
    minimum: int
    level: float
    method: str
    found: tuple[FoundSlice, ...]
