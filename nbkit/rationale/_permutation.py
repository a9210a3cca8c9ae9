"""Explain any model by giving it mixed rows: for what has no plan. Exact for few inputs, by permutation for many."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import rfc8785
from numpy.typing import NDArray

from nbkit.contract import Input

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Objects = NDArray[np.object_]
Columns = Mapping[str, Sequence[object]]
Answers = Callable[[Mapping[str, Any]], Floats]

_BACKGROUND_ROWS = 20
# Each order is walked forwards and backwards, which cancels what is linear in the order.
_ORDERS = 4
# 2^8 coalitions cost what 8 orders of 32 inputs do.
_MOST_EXACT_INPUTS = 8


def most_exact_inputs() -> int:
    """Return up to how many inputs every coalition of them is asked."""
    return _MOST_EXACT_INPUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Rows that take the place of absent inputs, pinned by their digest."""

    columns: dict[str, Objects]
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @classmethod
    def draw(cls, frame: pd.DataFrame, *, inputs: Sequence[Input], seed: int) -> Self:
        """Draw at most twenty rows."""
        rng = np.random.default_rng(seed)
        count = min(_BACKGROUND_ROWS, len(frame))
        rows = frame.iloc[np.sort(rng.choice(len(frame), size=count, replace=False))]
        columns = {column.name: objects(rows[column.name]) for column in inputs}
        plain = {name: values.tolist() for name, values in columns.items()}
        return cls(columns=columns, digest="sha256:" + hashlib.sha256(rfc8785.dumps(plain)).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """Rows whose every input is the explained row's or a background row's.

    Parameters
    ----------
    answers : callable
        From a table of inputs to the model's answers.
    rows : int
        Explained rows.
    here, there : dict of str to ndarray
        Each input's values, once for every pair of an explained and a background row.
    """

    answers: Answers
    rows: int
    here: dict[str, Objects]
    there: dict[str, Objects]

    @classmethod
    def of(cls, answers: Answers, columns: Columns, *, background: Background) -> Self:
        """Pair every row with every background row."""
        given = {name: objects(columns[name]) for name in background.columns}
        rows = len(next(iter(given.values())))
        here = {name: values.repeat(len(background)) for name, values in given.items()}
        there = {name: np.tile(values, rows) for name, values in background.columns.items()}
        return cls(answers=answers, rows=rows, here=here, there=there)

    def mean(self, known: frozenset[str]) -> Floats:
        """Return each row's mean answer when only some of its inputs are known."""
        mixed = {name: (self.here if name in known else self.there)[name] for name in self.here}
        return np.asarray(self.answers(mixed).reshape(self.rows, -1).mean(axis=1), dtype=np.float64)


def permuted(
    answers: Answers, columns: Columns, *, background: Background, inputs: Sequence[Input], seed: int
) -> tuple[Floats, Floats]:
    """Average, over orders of the inputs, what the model's answer gains as each input takes the row's value.

    The gains of one order add up exactly to the distance between the row's answer and the mean answer of the background
    (Castro, Gómez and Tejada 2009, "Polynomial calculation of the Shapley value based on sampling").

    Parameters
    ----------
    answers : callable
        From a table of inputs to the model's answers.
    columns : mapping
        What is explained.
    background : Background
        Rows in the place of absent inputs.
    inputs : sequence of Input
        The contract's inputs: one-hot levels are one player.
    seed : int
        Draws the orders.

    Returns
    -------
    tuple
        Contributions (rows, inputs), exact in their sum, and the base of each row.
    """
    rng = np.random.default_rng(seed)
    names = [column.name for column in inputs]
    mixer = Mixer.of(answers, columns, background=background)
    orders = [order for _ in range(_ORDERS) for order in _both_ways(rng.permutation(len(names)))]
    base = mixer.mean(frozenset())
    total = np.zeros((mixer.rows, len(names)))
    for order in orders:
        before, known = base, frozenset[str]()
        for place in order:
            known = known | {names[place]}
            after = mixer.mean(known)
            total[:, place] += after - before
            before = after
    return total / len(orders), base


def exactly(
    answers: Answers, columns: Columns, *, background: Background, inputs: Sequence[Input]
) -> tuple[Floats, Floats]:
    """Return Shapley values from every coalition of inputs.

    Parameters
    ----------
    answers : callable
        From a table of inputs to the model's answers.
    columns : mapping
        What is explained.
    background : Background
        Rows in the place of absent inputs.
    inputs : sequence of Input
        The contract's inputs; at most `most_exact_inputs`.

    Returns
    -------
    tuple
        Contributions (rows, inputs) and the base of each row.
    """
    names = [column.name for column in inputs]
    mixer = Mixer.of(answers, columns, background=background)
    size = len(names)
    means = [
        mixer.mean(frozenset(name for place, name in enumerate(names) if code >> place & 1)) for code in range(2**size)
    ]
    total = np.zeros((mixer.rows, size))
    for code in range(2**size):
        weight = 1.0 / (size * math.comb(size - 1, code.bit_count())) if code.bit_count() < size else 0.0
        for place in (place for place in range(size) if not code >> place & 1):
            total[:, place] += weight * (means[code | 1 << place] - means[code])
    return total, means[0]


def _both_ways(order: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    forwards: list[int] = order.tolist()
    return forwards, forwards[::-1]


def objects(values: Any) -> Objects:
    """Return a column's values as Python objects, missing ones as None."""
    found = np.array(list(values), dtype=object)
    return np.array([None if value is None or value != value else value for value in found.tolist()], dtype=object)
