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
    known = groups.notna().all(axis=1).to_numpy(dtype=bool)
    if not known.any():
        return {}
    names = groups[known].astype(str).agg(_TIMES.join, axis=1) if groups.shape[1] > 1 else groups[known].iloc[:, 0]
    codes, found = pd.factorize(names.astype(str), sort=True)
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


def crossed(names: tuple[str, ...]) -> str:
    """Return the name of an intersection."""
    return _TIMES.join(names)
