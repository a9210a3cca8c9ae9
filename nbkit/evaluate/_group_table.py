"""Counts by group: everything that fairness is computed from; a test holds them to fairlearn's MetricFrame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.evaluate._decide import APPROVE
from nbkit.evaluate._metrics import Judged

# Between the groups of an intersection.
_TIMES = " × "


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """What one group's cases add up to; good cases did not turn out positive."""

    n: int
    approved: int
    good: int
    good_approved: int
    bad_approved: int
    score_mean: float
    score_variance: float
    gap_mean: float
    gap_variance: float

    @property
    def bad(self) -> int:
        """Cases that turned out positive."""
        return self.n - self.good


def group_counts(judged: Judged, groups: pd.DataFrame) -> dict[str, GroupCounts]:
    """Count every group, or every combination of groups that occurs.

    Parameters
    ----------
    judged : Judged
        What was decided, and what turned out true.
    groups : pandas.DataFrame
        One column an attribute; cases of which one is not recorded are in no group.

    Returns
    -------
    dict of str to GroupCounts
        By group, in alphabetical order; combinations as ``white × male``.
    """
    everyone, found = _numbered(groups)
    known = everyone >= 0
    if not known.any():
        return {}
    codes = everyone[known]
    scores, good = judged.scores[known], ~judged.labels[known]
    approved = judged.decisions[known] == APPROVE
    gaps = judged.labels[known].astype(np.float64) - scores

    def total(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(codes, weights=values.astype(np.float64), minlength=len(found)).astype(np.float64)

    n = np.bincount(codes, minlength=len(found))
    means = {"score": total(scores) / n, "gap": total(gaps) / n}
    squares = {"score": total((scores - means["score"][codes]) ** 2), "gap": total((gaps - means["gap"][codes]) ** 2)}
    counts = {
        "approved": total(approved),
        "good": total(good),
        "good_approved": total(good & approved),
        "bad_approved": total(~good & approved),
    }
    # A group of one case has no variance.
    freedom = np.maximum(n - 1, 1)
    return {
        str(name): GroupCounts(
            n=int(n[i]),
            **{key: int(values[i]) for key, values in counts.items()},
            score_mean=float(means["score"][i]),
            score_variance=float(squares["score"][i] / freedom[i]),
            gap_mean=float(means["gap"][i]),
            gap_variance=float(squares["gap"][i] / freedom[i]),
        )
        for i, name in enumerate(found)
    }


def _numbered(groups: pd.DataFrame) -> tuple[NDArray[np.int64], list[str]]:
    """Return every row's group, -1 where an attribute is not recorded, and the names of those that occur."""
    cells, names = np.zeros(len(groups), dtype=np.int64), list[tuple[str, ...]]([()])
    known = np.ones(len(groups), dtype=bool)
    for column in groups:
        codes, different = pd.factorize(groups[column])
        known &= codes >= 0
        cells = cells * max(1, len(different)) + codes
        names = [(*one, str(value)) for one in names for value in different]
    # What is written alike is one group, such as 1 and "1"; and only combinations that occur are groups.
    used, place = np.unique(cells[known], return_inverse=True)
    written = [_TIMES.join(names[cell]) for cell in used]
    found = sorted(set(written))
    everyone = np.full(len(groups), -1, dtype=np.int64)
    everyone[known] = np.array([found.index(name) for name in written], dtype=np.int64)[place]
    return everyone, found


def crossed(names: tuple[str, ...]) -> str:
    """Return the name of an intersection."""
    return _TIMES.join(names)
