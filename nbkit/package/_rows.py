"""Turn contract rows into the model's row: table look-ups and closures for one row, numpy for many."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import ContractViolationError
from nbkit.package._steps import (
    Fill,
    IsMissing,
    Lookup,
    RefusedValueError,
    Scalar,
    Step,
    apply_many,
    apply_one,
    function_of,
)
from nbkit.package._tables import Table, categories, numbers

InputType = Literal["number", "integer", "boolean", "category"]

# Stands for "not a level that any step knows" among table keys: no category can be an object of our own.
_UNSEEN = "\x00unseen"


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
class Number:
    """A number that takes steps to its columns."""

    name: str
    places: tuple[int, ...]
    present: tuple[tuple[int, Callable[[float], float]], ...]
    # The cells of a missing value; None where the model refuses it.
    missing: tuple[tuple[int, float], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A category, as the table that it is."""

    name: str
    places: tuple[int, ...]
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
        plain = [name for name, ours in self._numbers if len(ours) == 1 and not self._columns[ours[0]].steps]
        self._plain = tuple((name, places[name][0]) for name in plain)
        self._chains = tuple(self._number(name, places=ours) for name, ours in self._numbers if name not in plain)

    @property
    def template(self) -> tuple[float, ...]:
        """The cells that no input changes, and those of values that were never seen."""
        return tuple(self._template)

    @property
    def plain(self) -> tuple[tuple[str, int], ...]:
        """Numbers that are a column as they are: name and place."""
        return self._plain

    @property
    def chains(self) -> tuple[Number, ...]:
        """The other numbers."""
        return self._chains

    @property
    def categories(self) -> tuple[Category, ...]:
        """The categories."""
        return self._categories

    def _number(self, name: str, *, places: list[int]) -> Number:
        functions = []
        for place in places:
            steps = list(self._columns[place].steps)
            if not any(isinstance(step, Lookup) for step in steps):
                # Only a look-up can make a missing value out of a present one; without it, what asks for missing
                # values says the same for every present one.
                steps = [step for step in steps if not isinstance(step, Fill)]
                if any(isinstance(step, IsMissing) for step in steps):
                    self._template[place] = cast("float", apply_one(steps, 0.0))
                    continue
            functions.append((place, function_of(steps)))
        return Number(
            name=name, places=tuple(places), present=tuple(functions), missing=self._cells(math.nan, places=places)
        )

    def _category(self, name: str, *, places: list[int]) -> Category:
        levels = sorted({level for place in places for level in _levels(self._columns[place].steps)})
        unseen = self._image(_UNSEEN, places=places)
        for place, value in zip(places, unseen or (), strict=False):
            self._template[place] = value
        table: dict[str | None, tuple[tuple[int, float], ...] | None] = {None: self._cells(None, places=places)}
        table |= {level: self._cells(level, places=places) for level in levels}
        return Category(name=name, places=tuple(places), cells=table, unseen=None if unseen is None else ())

    def _image(self, value: Scalar, *, places: list[int]) -> tuple[float, ...] | None:
        try:
            return tuple(cast("float", apply_one(self._columns[place].steps, value)) for place in places)
        except RefusedValueError:
            return None

    def _cells(self, value: Scalar, *, places: list[int]) -> tuple[tuple[int, float], ...] | None:
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
            for number in self._chains:
                name = number.name
                value = row[name]
                if value is None or value != value:
                    if number.missing is None:
                        raise RefusedValueError
                    for place, cell in number.missing:
                        cells[place] = cell
                else:
                    for place, function in number.present:
                        cells[place] = function(value)  # type: ignore[arg-type]
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

    def _fill_category(self, matrix: NDArray[np.float64], category: Category, *, values: list[str | None]) -> None:
        codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
        rows = np.fromiter(map(codes.__getitem__, values), dtype=np.intp, count=len(values))
        for value, code in codes.items():
            changes = category.cells.get(value, category.unseen)
            if changes is None:
                raise _refusal(category.name)
            if changes:
                chosen = rows == code
                for place, cell in changes:
                    matrix[chosen, place] = cell


def _levels(steps: Sequence[Step]) -> set[str]:
    levels: set[str] = set()
    for step in steps:
        if isinstance(step, Lookup):
            levels |= {level for level in step.domain if isinstance(level, str)}
    return levels


def _refusal(name: str) -> ContractViolationError:
    # The value itself is not echoed: the input may be personal.
    return ContractViolationError(f"$.{name}: the model was fitted to refuse this value (missing or never seen)")
