"""Check rows against the contract: one on the request path, or a whole table by columns."""

from __future__ import annotations

import difflib
import json
import math
import numbers
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from nbkit.contract._columns import Input, sentinel_key
from nbkit.contract._load import shown
from nbkit.contract._model import Contract
from nbkit.contract._plain import LARGE, PlainRow, Value, limits_of
from nbkit.contract._yaml import path_text
from nbkit.errors import ContractViolationError

_Reader = Callable[[object], Value]

_MOST_CATEGORIES_SHOWN = 10


class _WrongValueError(Exception):
    """A value does not fit its input."""


class RowCheck:
    """Checks rows against the inputs of one contract; made once, used for every request.

    Parameters
    ----------
    contract : Contract
        Whose inputs are checked.
    """

    __slots__ = ("_decoder", "_inputs", "_key", "_plain", "_readers", "_with_sentinels")

    def __init__(self, contract: Contract) -> None:
        self._inputs = contract.inputs
        self._readers = tuple((column.name, _reader(column)) for column in contract.inputs)
        self._decoder = msgspec.json.Decoder(dict[str, object])
        special = {column.name for column in contract.inputs if column.sentinels}
        self._with_sentinels = tuple((name, read) for name, read in self._readers if name in special)
        # What `check` decides hangs on these alone.
        self._key = tuple(column.model_dump_json() for column in contract.inputs)
        # A name that JSON would have to escape is no name of a type's field.
        escaped = any(json.dumps(column.name, ensure_ascii=False)[1:-1] != column.name for column in contract.inputs)
        self._plain = None if special or escaped else PlainRow(contract.inputs)

    def same_as(self, other: RowCheck) -> bool:
        """Say whether another check lets the same rows through, as the same.

        Parameters
        ----------
        other : RowCheck
            Of another contract.

        Returns
        -------
        bool
            Then a row that the other has checked needs no second check.
        """
        return self._key == other._key

    @property
    def plain(self) -> PlainRow | None:
        """Reads at once what `decode` and `check` make of a plain row; None where the contract has none."""
        return self._plain

    def decode(self, body: bytes) -> dict[str, object]:
        """Read one JSON object; what is in it is for `check` to judge.

        Parameters
        ----------
        body : bytes
            UTF-8 JSON.

        Returns
        -------
        dict
            Field names and plain JSON values.

        Raises
        ------
        ContractViolationError
            Not strict JSON (``NaN`` and ``Infinity`` are not), not an object, or a key appears twice.
        """
        try:
            row = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _violation([f"$: expected a JSON object ({error})"]) from None
        # A flat object without a repeated key has exactly one colon a key, unless some text holds one.
        if body.count(b":") != len(row):
            _refuse_repeated_keys(body)
        return row

    def check(self, row: Mapping[str, object]) -> dict[str, Value]:
        """Return the row in the contract's order and types.

        Parameters
        ----------
        row : mapping
            A value for every input and nothing else. ``None``, NaN and sentinels mean missing.

        Returns
        -------
        dict
            Inputs in contract order: numbers, integers and booleans as float, categories as str, missing as None.

        Raises
        ------
        ContractViolationError
            Everything that is wrong, at once; values of inputs marked ``pii`` are not repeated.
        """
        try:
            checked = {name: read(row[name]) for name, read in self._readers}
        except (KeyError, _WrongValueError):
            raise _violation(self._problems(row)) from None
        if len(row) != len(checked):
            raise _violation(self._problems(row))
        return checked

    def special(self, row: Mapping[str, object]) -> dict[str, str]:
        """Return which inputs of a row hold a sentinel, and which one: what `check` turns into a missing value.

        Parameters
        ----------
        row : mapping
            As it came, and as `check` takes it.

        Returns
        -------
        dict
            Input to sentinel, as `sentinel_key` writes it; an input that is missing without one is not in it.
        """
        return {
            name: sentinel_key(row[name])
            for name, read in self._with_sentinels
            if not _is_missing(row[name]) and read(row[name]) is None
        }

    def problems_in(self, columns: Mapping[str, Sequence[object]], *, limit: int = 20) -> tuple[str, ...]:
        """Check a whole table, column by column; columns that are not inputs are left alone.

        Parameters
        ----------
        columns : mapping
            Column names to values; a DataFrame is one.
        limit : int
            How many problems are returned at most.

        Returns
        -------
        tuple of str
            At most one problem a column, each with its first row and how many more rows have it; empty when all fit.
        """
        problems: list[str] = []
        for column, (name, read) in zip(self._inputs, self._readers, strict=True):
            if name not in columns:
                problems.append(f"{path_text((name,))}: missing")
            else:
                problems += _column_problem(column, read, columns[name])
        return tuple(problems[:limit])

    def _problems(self, row: Mapping[str, object]) -> list[str]:
        problems = []
        for name, read in self._readers:
            place = path_text((name,))
            complaint = _complaint(read, row[name]) if name in row else "missing"
            if complaint:
                problems.append(f"{place}: {complaint}")
        known = [name for name, _ in self._readers]
        return problems + [_unknown(name, known) for name in row if name not in known]


def _violation(problems: list[str]) -> ContractViolationError:
    return ContractViolationError("the row breaks the contract", problems=problems)


def _unknown(name: object, known: list[str]) -> str:
    text = str(name)
    close = difflib.get_close_matches(text, known, n=1)
    return f"{path_text((text,))}: not an input" + (f"; did you mean {close[0]!r}?" if close else "")


def _refuse_repeated_keys(body: bytes) -> None:
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        repeated.extend(
            f"{path_text((name,))}: appears twice" for name in dict.fromkeys(names) if names.count(name) > 1
        )

    try:
        # Numbers stay text: Python refuses integers of more than 4,300 digits, and their value does not matter here.
        json.loads(body, object_pairs_hook=collect, parse_int=str)
    except RecursionError as error:
        raise _violation([f"$: expected a JSON object ({error})"]) from None
    if repeated:
        raise _violation(repeated)


def _reader(column: Input) -> _Reader:
    return _category_reader(column) if column.type == "category" else _number_reader(column)


def _category_reader(column: Input) -> _Reader:
    known: dict[str, str | None] = {name: name for name in column.categories}
    nullable = column.nullable
    if nullable:
        known |= dict.fromkeys(str(value) for value in column.sentinels)

    def read(value: object) -> Value:
        if isinstance(value, str):
            if value in known:
                return known[value]
        elif nullable and _is_missing(value):
            return None
        raise _WrongValueError(f"expected {_expected(column)}, got {_got(column, value)}")

    return read


def _number_reader(column: Input) -> _Reader:
    low, high = limits_of(column)
    sentinels = _number_sentinels(column)
    nullable, whole, boolean = column.nullable, column.type != "number", column.type == "boolean"

    def read(value: object) -> Value:
        # The two types that JSON brings come first: this runs for every field of every request.
        if type(value) is float:
            number = value
        elif type(value) is int and -LARGE < value < LARGE:
            number = float(value)
        else:
            number = _as_float(value, boolean=boolean)
        if number in sentinels or number != number:
            if nullable:
                return None
        elif low <= number <= high and (not whole or number.is_integer()):
            # Adding zero turns -0.0 into 0.0, which canonical JSON cannot tell apart.
            return number + 0.0
        raise _WrongValueError(f"expected {_expected(column)}, got {_got(column, value)}")

    return read


def _as_float(value: object, *, boolean: bool) -> float:
    """Return a number, NaN for missing, and infinity (which no input allows) for anything else."""
    if value is None:
        return math.nan
    if not isinstance(value, (numbers.Real, np.bool_)) or (isinstance(value, (bool, np.bool_)) and not boolean):
        return math.inf
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _number_sentinels(column: Input) -> frozenset[float]:
    return frozenset(float(value) for value in column.sentinels)


def _expected(column: Input) -> str:
    if column.type == "boolean":
        return "true or false"
    if column.type == "category":
        names = ", ".join(repr(name) for name in column.categories[:_MOST_CATEGORIES_SHOWN])
        more = len(column.categories) - _MOST_CATEGORIES_SHOWN
        return f"one of {names}" + (f" and {more} more" if more > 0 else "")
    noun = "an integer" if column.type == "integer" else ""
    low, high = (
        None if limit is None else f"{limit!r}".removesuffix(".0") for limit in (column.minimum, column.maximum)
    )
    if low is not None and high is not None:
        return f"{noun} {low}..{high}".strip()
    noun = noun or "a finite number"
    if low is not None:
        return f"{noun}, at least {low}"
    return noun if high is None else f"{noun}, at most {high}"


def _got(column: Input, value: object) -> str:
    if column.pii:
        return "a value that is withheld as personal data"
    return shown(value.item() if isinstance(value, np.generic) else value)


def _complaint(read: _Reader, value: object) -> str:
    try:
        read(value)
    except _WrongValueError as error:
        return str(error)
    return ""


def _column_problem(column: Input, read: _Reader, values: Sequence[object]) -> list[str]:
    place = path_text((column.name,))
    array = np.asarray(values) if hasattr(values, "__array__") else None
    if array is not None and array.ndim != 1:
        return [f"{place}: expected one column, got {array.shape[-1]} of that name"]
    if array is not None and column.type != "category" and array.dtype.kind in "iuf":
        wrong = _wrong_numbers(column, array.astype(np.float64))
        first = _complaint(read, array[wrong[0]]) if wrong else ""
    else:
        complaints = {row: _complaint(read, value) for row, value in enumerate(_objects(values))}
        wrong = [row for row, complaint in complaints.items() if complaint]
        first = complaints[wrong[0]] if wrong else ""
    if not wrong:
        return []
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return [f"{place}: {first} in row {wrong[0]}{more}"]


def _objects(values: Sequence[object]) -> list[object]:
    # pandas has several values for missing, and some refuse even to be compared: ask the column itself.
    is_missing = getattr(values, "isna", None)
    if is_missing is None:
        return list(values)
    return [None if missing else value for value, missing in zip(values, is_missing(), strict=True)]


def _wrong_numbers(column: Input, array: NDArray[np.float64]) -> list[int]:
    low, high = limits_of(column)
    missing = np.isnan(array) | np.isin(array, list(_number_sentinels(column)))
    fits = (array >= low) & (array <= high)
    if column.type != "number":
        fits &= array == np.floor(array)
    return [int(row) for row in np.flatnonzero(~np.where(missing, column.nullable, fits))]
