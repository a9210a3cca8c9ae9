"""What every decision on every case loses: constant amounts, amounts that follow a column, or a function's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nbkit.contract import CostRow, Costs
from nbkit.errors import EvaluationError
from nbkit.evaluate._draws import Floats

Columns = Mapping[str, Sequence[object]]
CostFunction = Callable[[Mapping[str, NDArray[np.float64]], NDArray[np.bool_]], ArrayLike]
"""Given the number columns that it names and the labels: money lost by approve, refer and decline, shape (n, 3)."""

GROUP = "nbkit.costs"
_SHOWN = 3


def money_of(costs: Costs, *, labels: NDArray[np.bool_], columns: Columns | None = None) -> Floats:
    """Return what each decision on each case loses, shape (cases, 3): approve, refer, decline.

    Parameters
    ----------
    costs : Costs
        The cost matrix.
    labels : numpy.ndarray
        Whether each case turned out positive, shape (n,), bool.
    columns : mapping or None
        The inputs; needed where an amount follows a column or a function.

    Returns
    -------
    numpy.ndarray
        In the currency of the matrix, at least 0.

    Raises
    ------
    EvaluationError
        A column is absent, or an amount is missing, not finite or below 0.

    Examples
    --------
    >>> from decimal import Decimal
    >>> free = CostRow(positive=Decimal(0), negative=Decimal(0))
    >>> lose = CostRow(positive=Decimal(15), negative=Decimal(0), positive_per={"amount": Decimal("0.5")})
    >>> costs = Costs(approve=lose, refer=free, decline=free)
    >>> money_of(costs, labels=np.array([True, False]), columns={"amount": [100.0, 100.0]})[:, 0].tolist()
    [65.0, 0.0]
    """
    given: Columns = {} if columns is None else columns
    rows = (costs.approve, costs.refer, costs.decline)
    money = np.stack([_row(row, labels=labels, columns=given) for row in rows], axis=1)
    if costs.function is not None:
        money = money + _by_function(costs.function, labels=labels, columns=given)
    wrong = ~(money >= 0) | np.isinf(money)
    if wrong.any():
        first = [
            f"row {row}, {('approve', 'refer', 'decline')[column]}: {money[row, column]}"
            for row, column in np.argwhere(wrong)[:_SHOWN]
        ]
        raise EvaluationError(
            f"costs: {int(wrong.any(axis=1).sum())} of {len(labels)} cases have an amount that is not at least 0",
            problems=first,
            next_step="correct decision.costs in contract.yaml, or the cases",
        )
    return money


def cost_functions() -> tuple[str, ...]:
    """Return the names that ``decision.costs.function`` can have: entry points of the group ``nbkit.costs``."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def _row(row: CostRow, *, labels: NDArray[np.bool_], columns: Columns) -> Floats:
    positive, negative = (
        float(base)
        + sum((_column(columns, name) * float(factor) for name, factor in per.items()), np.zeros(len(labels)))
        for base, per in ((row.positive, row.positive_per), (row.negative, row.negative_per))
    )
    found: Floats = np.where(labels, positive, negative)
    return found


def _column(columns: Columns, name: str) -> Floats:
    if name not in columns:
        raise EvaluationError(f"costs: {name}: no such column among the cases", next_step="freeze the cases again")
    return np.asarray(columns[name], dtype=np.float64)


def _by_function(name: str, *, labels: NDArray[np.bool_], columns: Columns) -> Floats:
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        known = ", ".join(cost_functions()) or "none"
        raise EvaluationError(
            f"costs: function {name!r} is not installed; installed are: {known}",
            next_step=f"install the package that registers it under the entry point group {GROUP}",
        )
    function: CostFunction = found[0].load()
    numbers = {key: np.asarray(values, dtype=np.float64) for key, values in columns.items() if _is_number(values)}
    money = np.asarray(function(numbers, labels), dtype=np.float64)
    if money.shape != (len(labels), 3):
        raise EvaluationError(f"costs: function {name!r}: expected shape ({len(labels)}, 3), got {money.shape}")
    return money


def _is_number(values: Sequence[object]) -> bool:
    return np.asarray(values).dtype.kind in "biuf"
