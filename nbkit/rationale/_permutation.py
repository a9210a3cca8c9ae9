"""Explain any model by permuting its inputs: for what has no plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rfc8785
from numpy.typing import NDArray

from nbkit.contract import Input

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Answers = Callable[[Mapping[str, Any]], Floats]

_BACKGROUND_ROWS = 20
# Each order is walked forwards and backwards, which cancels what is linear in the order.
_ORDERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Permuted:
    """Contributions (rows, inputs), the base of each row, and the rows that they were compared with."""

    by_input: Floats
    base: Floats
    background: pd.DataFrame


def explain_by_permutation(
    answers: Answers, rows: pd.DataFrame, *, frame: pd.DataFrame, inputs: Sequence[Input], seed: int
) -> Permuted:
    """Average, over orders of the inputs, what the model's answer gains as each input takes the row's value.

    The gains of one order add up exactly to the distance between the row's answer and the mean answer of the background
    (Castro, Gómez and Tejada 2009, "Polynomial calculation of the Shapley value based on sampling").

    Parameters
    ----------
    answers : callable
        From a table of inputs to the model's answers.
    rows : pandas.DataFrame
        What is explained.
    frame : pandas.DataFrame
        The background is drawn from these rows.
    inputs : sequence of Input
        The contract's inputs.
    seed : int
        Draws background and orders.

    Returns
    -------
    Permuted
        Exact in its sum.
    """
    rng = np.random.default_rng(seed)
    count = min(_BACKGROUND_ROWS, len(frame))
    background = frame.iloc[np.sort(rng.choice(len(frame), size=count, replace=False))].reset_index(drop=True)
    names = [column.name for column in inputs]
    total = np.zeros((len(rows), len(names)))
    orders = [order for _ in range(_ORDERS) for order in _both_ways(rng.permutation(len(names)))]
    pairs = {
        name: (_objects(rows[name]).repeat(count), np.tile(_objects(background[name]), len(rows))) for name in names
    }
    base = answers({name: pair[1] for name, pair in pairs.items()}).reshape(len(rows), count).mean(axis=1)
    for order in orders:
        table = {name: pair[1] for name, pair in pairs.items()}
        before = base
        for place in order:
            table[names[place]] = pairs[names[place]][0]
            after = answers(table).reshape(len(rows), count).mean(axis=1)
            total[:, place] += after - before
            before = after
    return Permuted(by_input=total / len(orders), base=base, background=background)


def _both_ways(order: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    forwards: list[int] = order.tolist()
    return forwards, forwards[::-1]


def _objects(values: pd.Series[Any]) -> NDArray[np.object_]:
    return np.array(values.astype(object).where(values.notna(), None).tolist(), dtype=object)


def sample_digest(background: pd.DataFrame) -> str:
    """Return ``sha256:`` and the hash of the background's values, missing ones as null."""
    columns = {str(name): _objects(background[name]).tolist() for name in background.columns}
    return "sha256:" + hashlib.sha256(rfc8785.dumps(columns)).hexdigest()
