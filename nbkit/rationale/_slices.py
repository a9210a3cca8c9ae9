"""Why the scores of a part of the cases differ from those of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbkit.rationale._explanation import SliceExplanation

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# Below so many explained rows a mean contribution is mostly chance.
_FEWEST_ROWS = 20
# A numeric column with more different values than this is cut at its quartiles.
_MOST_LEVELS = 6
_SHOWN = 3


def explain_slices(
    rows: pd.DataFrame, by_input: Floats, *, names: Sequence[str], columns: Sequence[str]
) -> tuple[SliceExplanation, ...]:
    """Compare the mean contributions of every level of the columns with those of all rows.

    Parameters
    ----------
    rows : pandas.DataFrame
        The explained rows with these columns.
    by_input : ndarray of shape (rows, inputs)
        Contributions.
    names : sequence of str
        The inputs.
    columns : sequence of str
        Inputs or protected attributes; those that the rows do not have are left out.

    Returns
    -------
    tuple of SliceExplanation
        The differences of a level add up to its difference in mean answer.
    """
    overall = by_input.mean(axis=0)
    found = []
    for column in columns:
        for level, inside in _levels(rows[column]) if column in rows else ():
            count = int(inside.sum())
            gaps = by_input[inside].mean(axis=0) - overall if count >= _FEWEST_ROWS else None
            order = [] if gaps is None else np.argsort(-np.abs(gaps), kind="stable")[:_SHOWN].tolist()
            found.append(
                SliceExplanation(
                    column=column,
                    level=level,
                    rows=count,
                    difference=None if gaps is None else float(gaps.sum()),
                    because={} if gaps is None else {names[place]: float(gaps[place]) for place in order},
                )
            )
    return tuple(found)


def _levels(values: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    missing = values.isna().to_numpy()
    known = values[~missing]
    if known.dtype.kind in "iuf" and known.nunique() > _MOST_LEVELS:
        numbers = values.to_numpy(dtype=np.float64)
        edges = np.unique(np.quantile(numbers[~missing], (0.25, 0.5, 0.75)))
        part = np.searchsorted(edges, numbers, side="left")
        for place in range(len(edges) + 1):
            low = f"above {edges[place - 1]:g}" if place else ""
            high = f"up to {edges[place]:g}" if place < len(edges) else ""
            yield " ".join(filter(None, (low, high))), (part == place) & ~missing
    else:
        for level in sorted(known.unique().tolist(), key=str):
            yield f"{level:g}" if isinstance(level, float) else str(level), (values == level).to_numpy(dtype=np.bool_)
    if missing.any():
        yield "missing", missing
