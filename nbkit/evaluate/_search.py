"""Slices that nobody declared: the worst parts of the cases over one and two features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.evaluate._cells import cell_sums
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._holm import holm
from nbkit.evaluate._levels import levels_of
from nbkit.evaluate._metrics import Judged
from nbkit.evaluate._slices import condition
from nbkit.evaluate._student import p_above_each, t_quantile

# Rarer levels of a category than these are too many to look at one by one.
_MOST_LEVELS = 20
_SHOWN = 3
_METHOD = "Welch's t of the slice against the rest, corrected over all slices and figures (Holm)"


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
        Of "no worse than the rest", for a cost difference of "the challenger costs no more", for this slice alone.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Sums over the slices of one or two features; a row for each, in the order of ``names``."""

    names: Sequence[tuple[str, ...]]
    sums: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One slice and one figure."""

    conditions: tuple[str, ...]
    figure: str
    n: int
    positives: int
    value: float
    error: float
    rest: float
    p_value: float


def search_slices(
    judged: Judged,
    frame: pd.DataFrame,
    *,
    columns: Sequence[str],
    champion: Judged | None,
    depth: int,
    minimum: int,
    confidence: float,
) -> SliceSearch | None:
    """Look at every slice of one feature, and of two, for figures that are worse than on the other cases.

    All p values are corrected together (Holm), which holds whatever overlapping slices have to do with each other and
    spends no case on a second sample. The reference for calibration and cost are the other cases, so that a score which
    is off everywhere does not make every slice a finding.
    """
    if depth == 0 or len(judged.scores) < 2 * minimum or not columns:
        return None
    values = _values(judged, champion)
    features = [(name, *_coded(frame[name])) for name in columns]
    tables = [_single(feature, values) for feature in features]
    if depth == 2:
        tables += [_pair(one, other, values) for one, other in combinations(features, 2)]
    total = values.sum(axis=0)
    kept = [(table.names, table.sums, _worth(table.sums, total=total, minimum=minimum)) for table in tables]
    questions = [
        q for names, sums, rows in kept if len(rows) for q in _questions(names, sums[rows], rows=rows, total=total)
    ]
    adjusted = holm([q.p_value for q in questions]) if questions else ()
    return SliceSearch(
        features=tuple(columns),
        candidates=sum(len(rows) for _, _, rows in kept),
        tests=len(questions),
        minimum=minimum,
        level=1 - confidence,
        method=_METHOD,
        found=_worst(questions, adjusted, confidence=confidence),
    )


def _values(judged: Judged, champion: Judged | None) -> Floats:
    """Return what is summed over a slice: cases, positives, then each figure with its square, then what is promised."""
    surprise = judged.labels - judged.scores
    figures = [surprise, judged.costs] + ([judged.costs - champion.costs] if champion else [])
    promised = judged.scores * (1 - judged.scores)
    columns = [np.ones(len(surprise)), judged.labels.astype(np.float64), promised]
    return np.column_stack([*columns, *(part for one in figures for part in (one, one**2))])


_FIGURES = ("calibration", "expected_cost", "cost_difference")


def _coded(values: pd.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the levels that are looked at and every row's; one number more is for all others."""
    names, codes = levels_of(values)
    if len(names) <= _MOST_LEVELS:
        return names, codes
    common = np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable")[:_MOST_LEVELS]
    place = np.full(len(names), _MOST_LEVELS, dtype=np.int64)
    place[common] = np.arange(_MOST_LEVELS)
    return tuple(names[i] for i in common), place[codes]


_Feature = tuple[str, tuple[str, ...], NDArray[np.int64]]


def _single(feature: _Feature, values: Floats) -> _Table:
    column, names, codes = feature
    sums = cell_sums(codes, np.zeros_like(codes), width=1, cells=len(names) + 1, values=values)
    return _Table(names=[(condition(column, name),) for name in names], sums=sums[: len(names)])


def _pair(one: _Feature, other: _Feature, values: Floats) -> _Table:
    width = len(other[1]) + 1
    sums = cell_sums(one[2], other[2], width=width, cells=(len(one[1]) + 1) * width, values=values)
    grid = sums.reshape(len(one[1]) + 1, width, -1)
    # A cell that holds all cases of one of its levels is that level, which is looked at already.
    whole = (grid[..., 0] == grid[..., 0].sum(axis=1, keepdims=True)) | (
        grid[..., 0] == grid[..., 0].sum(axis=0, keepdims=True)
    )
    grid[whole] = 0.0
    names = [(condition(one[0], first), condition(other[0], second)) for first in one[1] for second in other[1]]
    return _Table(names=names, sums=grid[:-1, :-1].reshape(len(names), -1))


def _worth(sums: Floats, *, total: Floats, minimum: int) -> NDArray[np.int64]:
    return np.flatnonzero((sums[:, 0] >= minimum) & (total[0] - sums[:, 0] >= minimum))


def _questions(
    names: Sequence[tuple[str, ...]], sums: Floats, *, rows: NDArray[np.int64], total: Floats
) -> list[_Question]:
    found = []
    n, others = sums[:, 0], total - sums
    for number, figure in enumerate(_FIGURES[: (len(total) - 3) // 2]):
        column = 3 + 2 * number
        values, variances = _moments(sums, column)
        rests, rest_variances = _moments(others, column)
        both, versus = figure == "calibration", figure != "cost_difference"
        if both:
            # Where all labels of a slice agree, its own spread says nothing; the scores promise one.
            variances = np.maximum(variances, sums[:, 2] / n)
        errors = np.sqrt(variances / n + (rest_variances / others[:, 0] if versus else 0.0))
        asked = np.flatnonzero(errors > 0)
        ratios = (values - (rests if versus else 0.0))[asked] / errors[asked]
        p_values = p_above_each(np.abs(ratios) if both else ratios, freedom=n[asked] - 1) * (2 if both else 1)
        own = np.sqrt(variances / n)
        found += [
            _Question(
                conditions=names[rows[i]],
                figure=figure,
                n=int(n[i]),
                positives=int(sums[i, 1]),
                value=float(values[i]),
                error=float(own[i]),
                rest=float(rests[i]),
                p_value=float(p_value),
            )
            for i, p_value in zip(asked, p_values, strict=True)
        ]
    return found


def _moments(sums: Floats, column: int) -> tuple[Floats, Floats]:
    n = sums[:, 0]
    means = sums[:, column] / n
    return means, np.maximum(0.0, sums[:, column + 1] / n - means**2) * n / (n - 1)


def _worst(questions: Sequence[_Question], adjusted: Sequence[float], *, confidence: float) -> tuple[FoundSlice, ...]:
    """Return the worst slices of each figure; one that shares a condition with a listed one says little new."""
    listed: list[FoundSlice] = []
    order = sorted(range(len(questions)), key=lambda i: (questions[i].p_value, len(questions[i].conditions)))
    for i in order:
        one = questions[i]
        same = [set(known.conditions) for known in listed if known.figure == one.figure]
        if len(same) >= _SHOWN or any(known & set(one.conditions) for known in same):
            continue
        width = t_quantile(0.5 + confidence / 2, freedom=one.n - 1) * one.error
        listed.append(
            FoundSlice(
                conditions=one.conditions,
                figure=one.figure,
                n=one.n,
                positives=one.positives,
                value=one.value,
                low=one.value - width,
                high=one.value + width,
                rest=one.rest,
                p_value=one.p_value,
                adjusted=adjusted[i],
                sure=adjusted[i] < 1 - confidence,
            )
        )
    return tuple(listed)
