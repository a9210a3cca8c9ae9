"""The same figures on parts of the case set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.evaluate._bootstrap import mean_by_table, wilson
from nbkit.evaluate._comparison import SliceComparison
from nbkit.evaluate._decide import APPROVE, DECLINE
from nbkit.evaluate._delong import Estimate, auc_estimate
from nbkit.evaluate._metrics import Judged

# A numeric column with more different values than this is cut at its quartiles.
_MOST_LEVELS = 6
_MISSING = "missing"


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


def slice_results(
    judged: Judged,
    frame: pd.DataFrame,
    *,
    columns: tuple[str, ...],
    overall: float,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[SliceResult, ...]:
    """Judge every level of every column; ``overall`` is the area under the curve on all cases."""
    found = []
    for column in columns:
        for level, inside in _levels(frame[column]):
            labels = judged.labels[inside]
            area, note = None, ""
            if 0 < labels.sum() < len(labels):
                area = auc_estimate(judged.scores[inside], labels, confidence=confidence)
                if area.high is not None and area.high < overall:
                    note = "ranks worse than on all cases"
            else:
                note = "one label only: no AUC"
            cost = mean_by_table(judged.costs[inside], confidence=confidence, resamples=resamples, rng=rng)
            found.append(
                SliceResult(
                    column=column,
                    level=level,
                    n=int(inside.sum()),
                    positives=int(labels.sum()),
                    auc=area,
                    cost=cost,
                    decline_rate=float((judged.decisions[inside] == DECLINE).mean()),
                    note=note,
                    approval_rate=wilson(
                        int((judged.decisions[inside] == APPROVE).sum()), of=int(inside.sum()), confidence=confidence
                    ),
                    mean_score=float(judged.scores[inside].mean()),
                )
            )
    return tuple(found)


def _levels(values: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    missing = values.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > _MOST_LEVELS:
        yield from _ranges(values.to_numpy(dtype=np.float64))
    else:
        for level in sorted(values.dropna().unique().tolist()):
            text = f"{level:g}" if isinstance(level, float) else str(level)
            yield text, (values == level).fillna(value=False).to_numpy(dtype=bool)
    if missing.any():
        yield _MISSING, missing


def _ranges(values: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
    number = np.searchsorted(edges, values, side="left")
    number[np.isnan(values)] = -1
    for part in range(len(edges) + 1):
        inside = number == part
        if not inside.any():
            continue
        if part == 0:
            name = f"up to {edges[0]:,.6g}"
        elif part == len(edges):
            name = f"above {edges[-1]:,.6g}"
        else:
            name = f"above {edges[part - 1]:,.6g} up to {edges[part]:,.6g}"
        yield name, inside
