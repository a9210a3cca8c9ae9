"""What declining and referring the highest scores costs, exactly, for every cut between different scores."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import CostRow, Costs
from nbkit.errors import EvaluationError

_CENTS = Decimal("0.0001")
# Sums of money over all rows must not be rounded before they are compared.
_DIGITS = 60
_INT64_HALF = 2**62
_SHIFTS = (0.8, 1.2)
_NAMES = ("approve", "refer", "decline")
_SIDES = ("negative", "positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Rows in groups of equal score, best to decline first; entry k of each sum covers the first k groups."""

    scores: list[float]
    rows: list[int]
    positives: list[int]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Ranked:
        values, place = np.unique(-scores, return_inverse=True)
        rows = np.concatenate([[0], np.cumsum(np.bincount(place))])
        positives = np.concatenate([[0], np.cumsum(np.bincount(place, weights=labels).astype(np.int64))])
        return cls(
            scores=(-values).tolist(),
            rows=rows.tolist(),
            positives=positives.tolist(),
            order=np.argsort(place, kind="stable"),
        )

    def sums(self, amounts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum of the first k groups, for every k."""
        added = np.cumsum(amounts[self.order], axis=0)[np.array(self.rows[1:]) - 1]
        found: NDArray[np.int64] = np.concatenate([np.zeros_like(added[:1]), added])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Total cost when the first k groups are declined and those up to j are referred: f(k) + g(j) + constant."""

    declining: list[int]
    referring: list[int]
    constant: int
    unit: Decimal
    rows: int

    def per_row(self, declined: int, held: int) -> Decimal:
        return self.money(self.declining[declined] + self.referring[held] + self.constant)

    def money(self, total: int) -> Decimal:
        with localcontext() as context:
            context.prec = _DIGITS
            return (Decimal(total) * self.unit / self.rows).quantize(_CENTS)


class Prices(Protocol):
    """Where the money comes from."""

    def split(self, ranked: Ranked) -> Split:
        """Return the cost of every cut."""
        ...

    def shifted(self) -> list[tuple[str, Prices]]:
        """Return the same with each entry of the matrix 20 % lower and higher."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One amount for each decision and label, in whole units of the smallest decimal."""

    costs: Costs

    def split(self, ranked: Ranked) -> Split:
        matrix = [self.costs.decline, self.costs.refer, self.costs.approve]
        amounts = [amount for row in matrix for amount in (row.positive, row.negative)]
        with localcontext() as context:
            context.prec = _DIGITS
            unit = Decimal(1).scaleb(min(0, *(int(amount.as_tuple().exponent) for amount in amounts)))
            whole = [int(amount / unit) for amount in amounts]
        small = max(whole) * ranked.rows[-1] < _INT64_HALF
        sums = (ranked.rows, ranked.positives)
        rows, positives = (np.array(one, dtype=np.int64 if small else object) for one in sums)
        decline, refer, approve = (
            positives * whole[2 * row] + (rows - positives) * whole[2 * row + 1] for row in range(len(matrix))
        )
        return _split(decline, refer, approve, unit=unit, rows=ranked.rows[-1])

    def shifted(self) -> list[tuple[str, Prices]]:
        found: list[tuple[str, Prices]] = []
        for decision in _NAMES:
            row: CostRow = getattr(self.costs, decision)
            for label in reversed(_SIDES):
                amount: Decimal = getattr(row, label)
                for shift in _SHIFTS if amount else ():
                    other = row.model_copy(update={label: amount * Decimal(str(shift))})
                    costs = self.costs.model_copy(update={decision: other})
                    found.append((_name(decision, label, shift), Matrix(costs=costs)))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """An amount for each row and decision, rounded to a hundredth of a cent so that sums are exact."""

    money: NDArray[np.float64]
    labels: NDArray[np.bool_]

    def split(self, ranked: Ranked) -> Split:
        whole = np.rint(self.money / float(_CENTS))
        if float(whole.max(initial=0.0)) * len(whole) >= _INT64_HALF:
            raise EvaluationError(
                "thresholds: amounts of this size cannot be added up exactly over so many rows",
                next_step="correct decision.costs in contract.yaml",
            )
        sums = ranked.sums(whole.astype(np.int64))
        return _split(sums[:, 2], sums[:, 1], sums[:, 0], unit=_CENTS, rows=ranked.rows[-1])

    def shifted(self) -> list[tuple[str, Prices]]:
        found: list[tuple[str, Prices]] = []
        for column, decision in enumerate(_NAMES):
            for side in (1, 0):
                inside = self.labels == bool(side)
                for shift in _SHIFTS if self.money[inside, column].any() else ():
                    money = self.money.copy()
                    money[inside, column] *= shift
                    found.append((_name(decision, _SIDES[side], shift), Amounts(money=money, labels=self.labels)))
        return found


def _name(decision: str, label: str, shift: float) -> str:
    return f"{decision}.{label} {'-' if shift < 1 else '+'}20%"


def _split(
    decline: NDArray[np.int64], refer: NDArray[np.int64], approve: NDArray[np.int64], *, unit: Decimal, rows: int
) -> Split:
    return Split(
        declining=(decline - refer).tolist(),
        referring=(refer - approve).tolist(),
        constant=int(approve[-1]),
        unit=unit,
        rows=rows,
    )
