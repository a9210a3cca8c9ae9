"""Inputs that say much the same: measured correlation, and the groups that follow from a threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Input

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Levels = NDArray[np.object_]

# A correlation of fewer rows than this is chance.
_FEWEST_ROWS = 30


def correlated(frame: pd.DataFrame, *, inputs: Sequence[Input], threshold: float) -> tuple[tuple[str, ...], ...]:
    """Return groups of inputs, each of which correlates with another of its group at least as the threshold says.

    Numbers by the rank correlation of rows that have both, categories by Cramér's V with Bergsma's correction (2013), a
    category and a number by the correlation ratio of the number's ranks.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with these inputs.
    inputs : sequence of Input
        Their types say how they are compared.
    threshold : float
        Above 0, at most 1.

    Returns
    -------
    tuple of tuple of str
        Groups of two or more, in the contract's order.
    """
    pairs = [
        (one.name, other.name) for one, other in combinations(inputs, 2) if correlation(frame, one, other) >= threshold
    ]
    names = [column.name for column in inputs]
    return tuple(group for group in joined(names, pairs) if len(group) > 1)


def joined(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return the connected parts of a graph, each in the order of the names.

    Examples
    --------
    >>> joined(["a", "b", "c", "d"], [("d", "a"), ("b", "d")])
    (('a', 'b', 'd'), ('c',))
    """
    part = {name: {name} for name in names}
    for one, other in pairs:
        if part[one] is not part[other]:
            both = part[one] | part[other]
            part.update(dict.fromkeys(both, both))
    found: dict[int, tuple[str, ...]] = {}
    for name in names:
        found.setdefault(id(part[name]), tuple(other for other in names if other in part[name]))
    return tuple(found.values())


def correlation(frame: pd.DataFrame, one: Input, other: Input) -> float:
    """Return how strongly two inputs go together, 0..1; 0 where too few rows have both."""
    known = frame[[one.name, other.name]].dropna()
    if len(known) < _FEWEST_ROWS:
        return 0.0
    if one.type == other.type == "category":
        return _cramers_v(known[one.name].astype(str).to_numpy(), known[other.name].astype(str).to_numpy())
    if "category" in (one.type, other.type):
        category, numeric = (one, other) if one.type == "category" else (other, one)
        return _ratio(known[category.name].astype(str).to_numpy(), known[numeric.name].to_numpy(dtype=np.float64))
    return abs(rank_correlation(*(known[column.name].to_numpy(dtype=np.float64) for column in (one, other))))


def rank_correlation(xs: Floats, ys: Floats) -> float:
    """Return Spearman's rank correlation, ties at their middle; 0 where one side never changes.

    Examples
    --------
    >>> round(rank_correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 9.0])), 6)
    1.0
    """
    if len(xs) < 2:
        return 0.0
    ranks = np.vstack([_ranks(xs), _ranks(ys)])
    if (ranks == ranks[:, :1]).all(axis=1).any():
        return 0.0
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return mid-ranks, so that ties do not depend on their order."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place], dtype=np.float64)


def _cramers_v(xs: Levels, ys: Levels) -> float:
    rows, x = np.unique(xs, return_inverse=True)
    columns, y = np.unique(ys, return_inverse=True)
    n = len(xs)
    table = np.bincount(x * len(columns) + y, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    height, width = len(rows), len(columns)
    corrected = max(0.0, phi - (height - 1) * (width - 1) / (n - 1))
    smaller = min(height - (height - 1) ** 2 / (n - 1), width - (width - 1) ** 2 / (n - 1)) - 1
    return min(1.0, math.sqrt(corrected / smaller)) if smaller > 0 else 0.0


def _ratio(levels: Levels, values: Floats) -> float:
    _, place = np.unique(levels, return_inverse=True)
    ranks = _ranks(values)
    spread = float(((ranks - ranks.mean()) ** 2).sum())
    if not spread:
        return 0.0
    count = np.bincount(place)
    means = np.bincount(place, weights=ranks) / count
    return math.sqrt(float((count * (means - ranks.mean()) ** 2).sum()) / spread)
