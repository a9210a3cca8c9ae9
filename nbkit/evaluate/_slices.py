"""The same figures on parts of the case set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.evaluate._bootstrap import mean_estimate, wilson
from nbkit.evaluate._comparison import SliceComparison
from nbkit.evaluate._decide import APPROVE, DECLINE
from nbkit.evaluate._delong import Estimate, auc_estimate
from nbkit.evaluate._levels import masks_of
from nbkit.evaluate._metrics import Judged, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """One part of the case set.

    Parameters
    ----------
    column, level : str
        Which cases: the column and its value, or its range.
    n, positives : int
        How many cases, and how many of them turned out positive.
    auc : Estimate or None
        None where a label is absent.
    cost : Estimate
        Expected cost per case.
    decline_rate : float
        Share that was declined.
    note : str
        Why a figure is absent, or that the whole interval lies below the figure of all cases.
    approval_rate : Estimate or None
        Share that was approved.
    mean_score : float or None
        What was predicted on average; beside ``positives / n`` it says how well the slice is calibrated.
    comparison : SliceComparison or None
        Against the champion on the same cases; None without one.
    """

    column: str
    level: str
    n: int
    positives: int
    auc: Estimate | None
    cost: Estimate
    decline_rate: float
    note: str
    approval_rate: Estimate | None = None
    mean_score: float | None = None
    comparison: SliceComparison | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A declared slice: which column, which value or range of it, and which rows."""

    column: str
    level: str
    inside: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """``kind = fixed``, or ``risk up to 0.3``."""
        return condition(self.column, self.level)


def condition(column: str, level: str) -> str:
    """Write a value or a range of a column as a condition."""
    return f"{column} {level}" if level.startswith(("up to ", "above ")) else f"{column} = {level}"


def parts_of(frame: pd.DataFrame, *, columns: tuple[str, ...]) -> tuple[Part, ...]:
    """Cut the cases along every declared column."""
    return tuple(
        Part(column=column, level=level, inside=inside)
        for column in columns
        for level, inside in masks_of(frame[column])
    )


def slice_results(
    judged: Judged,
    parts: Sequence[Part],
    *,
    comparisons: Sequence[SliceComparison | None],
    overall: float,
    terms: Terms,
    rng: np.random.Generator,
) -> tuple[SliceResult, ...]:
    """Judge every slice; ``overall`` is the area under the curve on all cases."""
    return tuple(
        _result(judged, part, comparison=comparison, overall=overall, terms=terms, rng=rng)
        for part, comparison in zip(parts, comparisons, strict=True)
    )


def _result(
    judged: Judged,
    part: Part,
    *,
    comparison: SliceComparison | None,
    overall: float,
    terms: Terms,
    rng: np.random.Generator,
) -> SliceResult:
    inside, confidence = part.inside, terms.confidence
    labels, decisions = judged.labels[inside], judged.decisions[inside]
    area, note = None, ""
    if 0 < labels.sum() < len(labels):
        area = auc_estimate(judged.scores[inside], labels, confidence=confidence)
        if area.high is not None and area.high < overall:
            note = "ranks worse than on all cases"
    else:
        note = "one label only: no AUC"
    cost, _ = mean_estimate(judged.costs[inside], confidence=confidence, resamples=terms.resamples, rng=rng)
    return SliceResult(
        column=part.column,
        level=part.level,
        n=len(labels),
        positives=int(labels.sum()),
        auc=area,
        cost=cost,
        decline_rate=float((decisions == DECLINE).mean()),
        note=note,
        approval_rate=wilson(int((decisions == APPROVE).sum()), of=len(labels), confidence=confidence),
        mean_score=float(judged.scores[inside].mean()),
        comparison=comparison,
    )
