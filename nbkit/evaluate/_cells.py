"""Sums over the cells of a table of two features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._draws import Floats

# Below so many cases, loading the compiled loop takes longer than NumPy.
_FEWEST_COMPILED = 20_000


def cell_sums(first: NDArray[np.int64], second: NDArray[np.int64], *, width: int, cells: int, values: Floats) -> Floats:
    """Add up every column of ``values``, shape (cases, columns), in cell ``first * width + second``."""
    sums = np.zeros((cells, values.shape[1]))
    if len(first) >= _FEWEST_COMPILED:
        try:
            from nbkit.evaluate._kernel import add_cells
        except ImportError:
            pass
        else:
            add_cells(first, second, width, values, sums)
            return sums
    place = first * width + second
    for column in range(values.shape[1]):
        sums[:, column] = np.bincount(place, weights=values[:, column], minlength=cells)
    return sums
