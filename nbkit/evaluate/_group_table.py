"""Counts by group on fairlearn's MetricFrame: everything that fairness is computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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
    from fairlearn.metrics import MetricFrame

    scores, labels = judged.scores[known], judged.labels[known]
    sums = {
        "n": _count,
        "approved": _approved,
        "good": _good,
        "good_approved": _good_approved,
        "bad_approved": _bad_approved,
        "score_mean": _mean,
        "score_variance": _variance,
        "gap_mean": _mean,
        "gap_variance": _variance,
    }
    values = {"score_mean": scores, "score_variance": scores}
    values |= dict.fromkeys(("gap_mean", "gap_variance"), labels.astype(np.float64) - scores)
    table = MetricFrame(
        metrics=sums,
        y_true=(~labels).astype(np.int64),
        y_pred=(judged.decisions[known] == APPROVE).astype(np.int64),
        sensitive_features=groups[known].astype(str),
        sample_params={name: {"values": given} for name, given in values.items()},
    ).by_group
    found = {}
    # MetricFrame lists every combination of levels, also those that no case has.
    for key, row in table.dropna(subset=["n"]).iterrows():
        name = _TIMES.join(key) if isinstance(key, tuple) else str(key)
        numbers = row.to_dict()
        found[name] = GroupCounts(
            n=int(numbers["n"]),
            approved=int(numbers["approved"]),
            good=int(numbers["good"]),
            good_approved=int(numbers["good_approved"]),
            bad_approved=int(numbers["bad_approved"]),
            score_mean=float(numbers["score_mean"]),
            score_variance=float(numbers["score_variance"]),
            gap_mean=float(numbers["gap_mean"]),
            gap_variance=float(numbers["gap_variance"]),
        )
    return dict(sorted(found.items()))


def crossed(names: tuple[str, ...]) -> str:
    """Return the name of an intersection."""
    return _TIMES.join(names)


def _count(y_true: ArrayLike, _: ArrayLike) -> int:
    return len(np.asarray(y_true))


def _approved(_: ArrayLike, y_pred: ArrayLike) -> int:
    return int(np.sum(y_pred))


def _good(y_true: ArrayLike, _: ArrayLike) -> int:
    return int(np.sum(y_true))


def _good_approved(y_true: ArrayLike, y_pred: ArrayLike) -> int:
    return int(np.sum(np.asarray(y_true) * np.asarray(y_pred)))


def _bad_approved(y_true: ArrayLike, y_pred: ArrayLike) -> int:
    return int(np.sum((1 - np.asarray(y_true)) * np.asarray(y_pred)))


def _mean(_: ArrayLike, __: ArrayLike, values: NDArray[np.float64]) -> float:
    return float(np.mean(values))


def _variance(_: ArrayLike, __: ArrayLike, values: NDArray[np.float64]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
