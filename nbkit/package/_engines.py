"""What turns the model's row into a margin: treelite trees or a dot product."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.package._treelite import LIB, RawConfig, TreeliteModel, raw_outputs

RowType = Literal["float64", "float32"]
Link = Literal["logit", "identity"]

_C_TYPES: Mapping[str, type[ctypes.c_double] | type[ctypes.c_float]] = {
    "float64": ctypes.c_double,
    "float32": ctypes.c_float,
}

# treelite.gtil.predict spends 50–70 µs of a one-row call on making arrays and a configuration; its C entry point does
# not. Measured for 200 trees of 31 leaves: 88 µs there, 21 µs here, 67 µs as tuples in Python, 80 µs in numpy.
# PyDLL keeps the interpreter lock for the 5–40 µs of one row: giving it up would let another thread hold it for 5 ms.
_predict_row = ctypes.PyDLL(LIB._name).TreeliteGTILPredict


# The steps of numpy take as long as so many margins do one by one.
_FEW = 32


def sigmoid(margin: float) -> float:
    """Return the probability of a log-odds, without overflow at either end.

    Examples
    --------
    >>> sigmoid(0.0), sigmoid(-1000.0), sigmoid(1000.0)
    (0.5, 0.0, 1.0)
    """
    if margin >= 0:
        return 1.0 / (1.0 + math.exp(-margin))
    power = math.exp(margin)
    return power / (1.0 + power)


def sigmoids(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `sigmoid` of many log-odds, bit for bit.

    The powers are those of `math.exp`, because numpy's vectorised ``exp`` may differ in the last bit.

    Examples
    --------
    >>> sigmoids(np.array([0.0, -1000.0, 1000.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    if len(margins) <= _FEW:
        return np.array([sigmoid(margin) for margin in margins.tolist()], dtype=np.float64)
    powers = np.fromiter(map(math.exp, (-np.abs(margins)).tolist()), dtype=np.float64, count=len(margins))
    scores: NDArray[np.float64] = np.where(margins >= 0, 1.0, powers) / (1.0 + powers)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearEngine:
    """A dot product and an intercept, added up from left to right."""

    coefficients: tuple[float, ...]
    intercept: float
    takes_missing: Literal[False] = False
    link: Literal["logit"] = "logit"

    def one(self, cells: list[float]) -> float:
        """Return the log-odds of one row."""
        total = 0.0
        # Not sum(): since Python 3.12 it compensates, and would differ from `many` in the last bit.
        for cell, coefficient in zip(cells, self.coefficients, strict=True):
            total += cell * coefficient
        return total + self.intercept

    def many(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of many rows, bit for bit as `one` gives them."""
        total = np.zeros(len(matrix))
        for place, coefficient in enumerate(self.coefficients):
            total += matrix[:, place] * coefficient
        return total + self.intercept

    def to_json(self) -> dict[str, object]:
        """Describe the engine for plan.json."""
        return {"kind": "linear", "coefficients": list(self.coefficients), "intercept": self.intercept}


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEngine:
    """Trees evaluated by treelite's general tree inference library on one thread.

    Parameters
    ----------
    trees : treelite.Model
        The trees; binary, one margin or one probability for each of two classes.
    row_type : {"float64", "float32"}
        What the fitted model casts its rows to; the wrong one costs up to 1e-1 in the score.
    takes_missing : bool
        Whether the fitted model accepts NaN.
    link : {"logit", "identity"}
        ``identity``: the trees give a probability (forests).
    output : int
        Which of the trees' outputs is the margin.
    zero_within : float
        Cells at most this far from 0 count as 0. LightGBM does so before it looks at its trees, some of which split at
        exactly that point.
    """

    trees: TreeliteModel
    row_type: RowType
    takes_missing: bool
    link: Link
    output: int = 0
    zero_within: float = 0.0
    _call: tuple[object, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = _C_TYPES[self.trees.input_type]
        outputs = 2 if self.link == "identity" else 1
        cast_first = self.row_type == "float32" and self.trees.input_type == "float64"
        object.__setattr__(
            self,
            "_call",
            (
                ctypes.c_float * self.trees.num_feature if cast_first else None,
                given * self.trees.num_feature,
                _C_TYPES[self.trees.output_type] * outputs,
                self.trees.handle,
                self.trees.input_type.encode(),
                ctypes.c_uint64(1),
                RawConfig(),
            ),
        )

    def one(self, cells: list[float]) -> float:
        """Return the margin of one row."""
        single, row, outputs, handle, input_type, one, config = self._call
        if self.zero_within:
            reach = self.zero_within
            cells = [0.0 if -reach <= cell <= reach else cell for cell in cells]
        if single is not None:
            cells = single(*cells)  # type: ignore[operator]
        answer = outputs()  # type: ignore[operator]
        failed = _predict_row(handle, row(*cells), input_type, one, answer, config.handle)  # type: ignore[operator,attr-defined]
        if failed:
            raise RuntimeError(f"treelite could not evaluate a row of {len(cells)} cells")
        return cast("float", answer[self.output])

    def many(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the margins of many rows, bit for bit as `one` gives them."""
        rows = matrix.astype(self.row_type)
        if self.zero_within:
            rows[np.abs(rows) <= self.zero_within] = 0.0
        if not len(rows):
            return np.zeros(0)
        return raw_outputs(self.trees, rows)[:, self.output].astype(np.float64)

    def to_json(self) -> dict[str, object]:
        """Describe the engine for plan.json; the trees go into a file of their own."""
        return {
            "kind": "trees",
            "row_type": self.row_type,
            "takes_missing": self.takes_missing,
            "link": self.link,
            "output": self.output,
            "zero_within": self.zero_within,
        }


Engine = LinearEngine | TreeEngine


def engine_from_json(spec: Mapping[str, object], *, trees: bytes | None, file: str) -> Engine:
    """Make the engine that ``to_json`` described; ``trees`` are the bytes of ``file``."""
    match spec:
        case {"kind": "linear", "coefficients": list() as coefficients, "intercept": int() | float() as intercept}:
            return LinearEngine(coefficients=tuple(map(float, coefficients)), intercept=float(intercept))
        case {"kind": "trees", "row_type": str() as row_type, "link": str() as link, "output": int() as output}:
            if trees is None:
                raise ValueError(f"{file} is missing")
            return TreeEngine(
                trees=TreeliteModel.deserialize_bytes(trees),
                row_type=cast("RowType", row_type),
                takes_missing=spec["takes_missing"] is True,
                link=cast("Link", link),
                output=output,
                zero_within=float(cast("float", spec["zero_within"])),
            )
    raise ValueError(f"expected an engine, got {spec!r}")
