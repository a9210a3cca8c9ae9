"""Turn contract rows into the model's row: table look-ups and closures for one row, numpy for many."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import ContractViolationError
from nbkit.package._steps import Arithmetic, Lookup, RefusedValueError, Scalar, Step, apply_many, apply_one

InputType = Literal["number", "integer", "boolean", "category"]

# Stands for "not a level that any step knows" among table keys: no category can be an object of our own.
_UNSEEN = "\x00unseen"


class Table(Protocol):
    """Columns by name: a mapping of lists or arrays, or a DataFrame."""

    def __getitem__(self, name: str, /) -> Collection[object]:
        """Return a column."""

    def __contains__(self, name: object, /) -> bool:
        """Whether there is such a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """One input of the contract, as far as scoring needs it."""

    name: str
    type: InputType


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanColumn:
    """One column of the model's row.

    Parameters
    ----------
    source : str
        The input that it is made from.
    level : str or None
        The category that it marks, when it is a one-hot column; ``"infrequent"`` when it marks several.
    missing : bool
        Whether it marks that the input is missing.
    steps : tuple of Step
        What is done to the input's value, in order.
    """

    source: str
    level: str | None = None
    missing: bool = False
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Category:
    name: str
    # Value → the cells that differ from the template row; None where the model refuses the value.
    cells: Mapping[str | None, tuple[tuple[int, float], ...] | None]
    unseen: tuple[tuple[int, float], ...] | None


class RowMaker:
    """Make the model's row from the contract's.

    A category can only ever act through the levels that some step names, so its whole effect is a finite table:
    level → cells.

    Parameters
    ----------
    inputs : sequence of PlanInput
        The inputs of the contract.
    columns : sequence of PlanColumn
        The columns of the model's row, in order.
    """

    __slots__ = ("_categories", "_chains", "_columns", "_numbers", "_plain", "_template", "_types")

    def __init__(self, *, inputs: Sequence[PlanInput], columns: Sequence[PlanColumn]) -> None:
        self._columns = tuple(columns)
        self._types = {item.name: item.type for item in inputs}
        self._template = [0.0] * len(self._columns)
        places: dict[str, list[int]] = {}
        for place, column in enumerate(self._columns):
            places.setdefault(column.source, []).append(place)
        texts = [name for name in places if self._types[name] == "category"]
        self._categories = tuple(self._category(name, places=places[name]) for name in texts)
        self._numbers = tuple((name, places[name]) for name in places if name not in texts)
        numeric = [(name, place) for name, ours in self._numbers for place in ours]
        self._plain = tuple((name, place) for name, place in numeric if not self._columns[place].steps)
        self._chains = tuple(
            (name, place, tuple(_closure(step) for step in self._columns[place].steps))
            for name, place in numeric
            if self._columns[place].steps
        )

    def _category(self, name: str, *, places: list[int]) -> _Category:
        levels = sorted({level for place in places for level in _levels(self._columns[place].steps)})
        unseen = self._image(_UNSEEN, places=places)
        for place, value in zip(places, unseen or (), strict=False):
            self._template[place] = value
        table: dict[str | None, tuple[tuple[int, float], ...] | None] = {None: self._cells(None, places=places)}
        table |= {level: self._cells(level, places=places) for level in levels}
        return _Category(name=name, cells=table, unseen=None if unseen is None else ())

    def _image(self, value: str | None, *, places: list[int]) -> tuple[float, ...] | None:
        try:
            return tuple(cast("float", apply_one(self._columns[place].steps, value)) for place in places)
        except RefusedValueError:
            return None

    def _cells(self, value: str | None, *, places: list[int]) -> tuple[tuple[int, float], ...] | None:
        image = self._image(value, places=places)
        if image is None:
            return None
        return tuple(
            (place, cell)
            for place, cell in zip(places, image, strict=True)
            if cell != self._template[place] and not (cell != cell and self._template[place] != self._template[place])
        )

    def cells(self, row: Mapping[str, Scalar]) -> list[float]:
        """Return the model's row as floats.

        Raises
        ------
        ContractViolationError
            An input is absent, or the model was fitted to refuse its value.
        """
        cells = self._template.copy()
        try:
            for name, place in self._plain:
                value = row[name]
                cells[place] = math.nan if value is None else value  # type: ignore[assignment]
            for name, place, chain in self._chains:
                value = row[name]
                if value is None:
                    value = math.nan
                for function in chain:
                    value = function(value)
                cells[place] = value  # type: ignore[assignment]
            for category in self._categories:
                name = category.name
                value = row[name]
                # NaN is missing too, and is not equal to any key.
                changes = category.cells.get(value if value == value else None, category.unseen)  # type: ignore[arg-type]
                if changes is None:
                    raise RefusedValueError
                for place, cell in changes:
                    cells[place] = cell
        except KeyError:
            raise ContractViolationError(f"$.{name}: missing") from None
        except RefusedValueError:
            raise _refusal(name) from None
        return cells

    def matrix(self, columns: Table) -> NDArray[np.float64]:
        """Return the model's rows, shape (rows, columns): bit for bit what `cells` gives for each.

        Raises
        ------
        ContractViolationError
            A column is absent, holds something of another type, or a value that the model refuses.
        """
        absent = [name for name in self._types if name not in columns]
        if absent:
            raise ContractViolationError("the table", problems=[f"$.{name}: missing" for name in absent])
        count = len(columns[next(iter(self._types))])
        matrix = np.tile(np.array(self._template, dtype=np.float64), (count, 1))
        for name, places in self._numbers:
            values = numbers(columns[name], name=name)
            try:
                for place in places:
                    matrix[:, place] = apply_many(self._columns[place].steps, values)
            except RefusedValueError:
                raise _refusal(name) from None
        for category in self._categories:
            self._fill_category(matrix, category, values=categories(columns[category.name], name=category.name))
        return matrix

    def _fill_category(self, matrix: NDArray[np.float64], category: _Category, *, values: list[str | None]) -> None:
        codes: dict[str | None, int] = {}
        rows = np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.intp)
        for value, code in codes.items():
            changes = category.cells.get(value, category.unseen)
            if changes is None:
                raise _refusal(category.name)
            if changes:
                chosen = rows == code
                for place, cell in changes:
                    matrix[chosen, place] = cell


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
    given = values if convert is None else convert(dtype=object).tolist()
    plain = [value if isinstance(value, str) else None for value in given]
    for value, text in zip(given, plain, strict=True):
        # pandas.NA is recognised by its type's name: pandas is not loaded where decisions are made.
        # It comes first, for comparing it says nothing.
        if text is None and not (type(value).__name__ == "NAType" or value is None or value != value):
            raise ContractViolationError(f"$.{name}: expected text, got {type(value).__name__}")
    return plain


def _levels(steps: Sequence[Step]) -> set[str]:
    levels: set[str] = set()
    for step in steps:
        if isinstance(step, Lookup):
            levels |= {level for level in step.domain if isinstance(level, str)}
    return levels


def _refusal(name: str) -> ContractViolationError:
    # The value itself is not echoed: the input may be personal.
    return ContractViolationError(f"$.{name}: the model was fitted to refuse this value (missing or never seen)")


def _closure(step: Step) -> Callable[[Scalar], Scalar]:
    # A bound constant is twice as quick as an attribute; only the arithmetic is frequent enough to matter.
    if isinstance(step, Arithmetic):
        constant = step.value
        table: dict[str, Callable[[float], float]] = {
            "subtract": lambda value: value - constant,
            "divide": lambda value: value / constant,
            "multiply": lambda value: value * constant,
            "add": lambda value: value + constant,
        }
        return cast("Callable[[Scalar], Scalar]", table[step.kind])
    return step.one
