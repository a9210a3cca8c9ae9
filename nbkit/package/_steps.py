"""Exact float64 steps that lead from one input to one column of the model."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

Scalar = float | str | None
"""A number (NaN is missing), a category, or ``None``: a missing category."""

Level = str | float


class RefusedValueError(Exception):
    """The model was fitted to refuse this value (``handle_unknown='error'``); carries no value."""


def is_missing(value: object) -> bool:
    """Whether a scalar stands for a missing value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Put a value where one is missing."""

    value: Level

    def one(self, value: Scalar) -> Scalar:
        return self.value if is_missing(value) else value

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isnan(values), cast("float", self.value), values)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsMissing:
    """1 where the value is missing, else 0."""

    def one(self, value: Scalar) -> float:
        return 1.0 if is_missing(value) else 0.0

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.isnan(values).astype(np.float64)


_OPERATORS: Mapping[str, Callable[..., float]] = {
    "subtract": operator.sub,
    "divide": operator.truediv,
    "multiply": operator.mul,
    "add": operator.add,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """One float64 operation with a constant: the same rounding as numpy's, in the same order."""

    kind: Literal["subtract", "divide", "multiply", "add"]
    value: float

    def one(self, value: Scalar) -> float:
        return _OPERATORS[self.kind](value, self.value)

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(_OPERATORS[self.kind](values, self.value), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Limit to a range; a missing value stays missing."""

    low: float
    high: float

    def one(self, value: Scalar) -> float:
        # max and min give their first argument when the comparison with NaN is false, so NaN passes through.
        return min(max(cast("float", value), self.low), self.high)

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(values, self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A table from levels to numbers, as a fitted encoder answers for one of its output columns.

    Parameters
    ----------
    values : mapping of level to float
        What the encoder gives for these levels.
    other : float
        What it gives for the other levels of ``domain``.
    domain : frozenset of level
        Every level that the encoder knows.
    missing, unknown : float or None
        What it gives for a missing and for an unseen value; None means that it refuses it.
    """

    values: Mapping[Level, float]
    other: float
    domain: frozenset[Level]
    missing: float | None
    unknown: float | None

    def one(self, value: Scalar) -> float:
        if value is None or value != value:
            answer = self.missing
        else:
            answer = self.values.get(value)
            if answer is None:
                answer = self.other if value in self.domain else self.unknown
        if answer is None:
            raise RefusedValueError
        return answer

    def many(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([self.one(value) for value in values.tolist()], dtype=np.float64)


Step = Fill | IsMissing | Arithmetic | Clip | Lookup


def apply_one(steps: Iterable[Step], value: Scalar) -> Scalar:
    """Take one value through the steps."""
    for step in steps:
        value = step.one(value)
    return value


def apply_many(steps: Iterable[Step], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take a column of numbers through the steps, with the same result bit for bit."""
    for step in steps:
        values = step.many(values)
    return values


def function_of(steps: Sequence[Step]) -> Callable[[float], float]:
    """Return one function for the steps of a number: bound constants are twice as quick as attributes.

    Two operations are one function, because a scaler makes two of them and the call costs more than the sum.
    """
    match list(steps):
        case []:
            return float
        case [Arithmetic(kind="subtract", value=first), Arithmetic(kind="divide", value=second)]:
            return lambda value: (value - first) / second
        case [Arithmetic(kind="multiply", value=first), Arithmetic(kind="add", value=second)]:
            return lambda value: value * first + second
    return lambda value: cast("float", apply_one(steps, value))


def step_to_json(step: Step, *, domains: list[tuple[Level, ...]]) -> dict[str, object]:
    """Describe a step; level sets are kept once, in ``domains``, and named by position."""
    match step:
        case Fill():
            return {"step": "fill", "value": step.value}
        case IsMissing():
            return {"step": "missing"}
        case Arithmetic():
            return {"step": step.kind, "value": step.value}
        case Clip():
            return {"step": "clip", "low": step.low, "high": step.high}
        case _:
            domain = tuple(sorted(step.domain, key=lambda level: (isinstance(level, str), level)))
            if domain not in domains:
                domains.append(domain)
            return {
                "step": "lookup",
                "values": [[level, _number_to_json(number)] for level, number in step.values.items()],
                "other": _number_to_json(step.other),
                "domain": domains.index(domain),
                "missing": _number_to_json(step.missing),
                "unknown": _number_to_json(step.unknown),
            }


def step_from_json(spec: Mapping[str, object], *, domains: list[frozenset[Level]]) -> Step:
    """Read what `step_to_json` wrote.

    Raises
    ------
    ValueError
        The step is of no known kind.
    """
    match spec:
        case {"step": "fill", "value": str() | int() | float() as value}:
            return Fill(value=value if isinstance(value, str) else float(value))
        case {"step": "missing"}:
            return IsMissing()
        case {"step": "subtract" | "divide" | "multiply" | "add" as kind, "value": int() | float() as value}:
            return Arithmetic(kind=kind, value=float(value))
        case {"step": "clip", "low": int() | float() as low, "high": int() | float() as high}:
            return Clip(low=float(low), high=float(high))
        case {"step": "lookup", "values": list() as pairs, "domain": int() as domain}:
            return Lookup(
                values={level: cast("float", _number_from_json(number)) for level, number in pairs},
                other=cast("float", _number_from_json(spec["other"])),
                domain=domains[domain],
                missing=_number_from_json(spec["missing"]),
                unknown=_number_from_json(spec["unknown"]),
            )
    raise ValueError(f"expected a step of a plan, got {spec!r}")


# Canonical JSON has no NaN, and null already says "refused".
def _number_to_json(value: float | None) -> float | str | None:
    return "nan" if value is not None and math.isnan(value) else value


def _number_from_json(value: object) -> float | None:
    return None if value is None else float(cast("float", value))
