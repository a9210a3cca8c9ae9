"""Columns of a table as numbers and text, without pandas: it is only recognised."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import ContractViolationError


class Table(Protocol):
    """Columns by name: a mapping of lists or arrays, or a DataFrame."""

    def __getitem__(self, name: str, /) -> Collection[object]:
        """Return a column."""

    def __contains__(self, name: object, /) -> bool:
        """Whether there is such a column."""


def numbers(values: Collection[object], *, name: str) -> NDArray[np.float64]:
    """Return a column as float64 with NaN for missing; takes lists, arrays and pandas columns.

    Raises
    ------
    ContractViolationError
        Something in it is no number.
    """
    convert = getattr(values, "to_numpy", None)
    try:
        if convert is not None:
            return cast("NDArray[np.float64]", convert(dtype=np.float64, na_value=np.nan))
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ContractViolationError(f"$.{name}: expected numbers") from None


def categories(values: Collection[object], *, name: str) -> list[str | None]:
    """Return a column as text with None for missing; takes lists, arrays and pandas columns.

    Raises
    ------
    ContractViolationError
        Something in it is neither text nor missing.
    """
    # Iterating over pandas' arrow text is ten times slower than over objects.
    convert = getattr(values, "to_numpy", None)
    given = list(values) if convert is None else convert(dtype=object).tolist()
    if set(map(type, given)) <= {str}:
        return cast("list[str | None]", given)
    plain = [value if isinstance(value, str) else None for value in given]
    for value, text in zip(given, plain, strict=True):
        # pandas.NA is recognised by its type's name: pandas is not loaded where decisions are made.
        # It comes first, for comparing it says nothing.
        if text is None and not (type(value).__name__ == "NAType" or value is None or value != value):
            raise ContractViolationError(f"$.{name}: expected text, got {type(value).__name__}")
    return plain
