"""How a column is cut into slices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# A numeric column with more different values than this is cut at its quartiles.
_MOST_LEVELS = 6
_LOOK = 1000
_MISSING = "missing"


def levels_of(values: pd.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the slices and the slice of every row; each row is in exactly one."""
    numeric = pd.api.types.is_numeric_dtype(values)
    # Most numbers have many values, and the first few cases show it.
    many = numeric and values.iloc[:_LOOK].nunique() > _MOST_LEVELS
    names, found = None, np.zeros(0, dtype=np.int64)
    if not many:
        names, found = _different(values, most=_MOST_LEVELS if numeric else None)
    if names is None:
        names, found = _ranges(values.to_numpy(dtype=np.float64))
    if (found < 0).any():
        found = np.where(found < 0, len(names), found)
        names = [*names, _MISSING]
    return tuple(names), found


def _different(values: pd.Series, *, most: int | None) -> tuple[list[str] | None, NDArray[np.int64]]:
    """Return a slice for each different value, in order; none where there are more than ``most``."""
    codes, different = pd.factorize(values, sort=False)
    if most is not None and len(different) > most:
        return None, codes
    order = sorted(range(len(different)), key=lambda i: different[i])
    place = np.full(len(different) + 1, -1, dtype=np.int64)
    place[order] = np.arange(len(different))
    names = [f"{different[i]:g}" if isinstance(different[i], float) else str(different[i]) for i in order]
    return names, place[codes]


def masks_of(values: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each slice's name and rows."""
    names, found = levels_of(values)
    for number, name in enumerate(names):
        yield name, found == number


def _ranges(values: NDArray[np.float64]) -> tuple[list[str], NDArray[np.int64]]:
    edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
    # How many edges lie below: for so few of them faster than a search.
    part = np.zeros(len(values), dtype=np.int64)
    for edge in edges:
        part += values > edge
    part[np.isnan(values)] = -1
    names = [
        f"up to {edges[0]:,.6g}",
        *(f"above {low:,.6g} up to {high:,.6g}" for low, high in pairwise(edges)),
        f"above {edges[-1]:,.6g}",
    ]
    # A part may be empty where many values are equal.
    used = np.flatnonzero(np.bincount(part + 1, minlength=len(names) + 1)[1:])
    place = np.full(len(names) + 1, -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    return [names[i] for i in used], place[part]
