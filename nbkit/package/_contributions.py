"""How much each input moved one score: exact, from the compiled plan, light enough for the request path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import PackageError
from nbkit.package._engines import LinearEngine, TreeEngine
from nbkit.package._plan import Plan
from nbkit.package._steps import Scalar
from nbkit.package._tree_paths import TreePaths

__all__ = ["Attribution", "Contributions"]

# Float64 rounding over some ten thousand leaves stays far below the first; trees whose leaves are float32 are summed in
# float32 by the model itself, so its margin carries that rounding.
_EXACT = 1e-9
_SINGLE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """One margin, taken apart.

    Parameters
    ----------
    base : float
        The margin when nothing is known about a row.
    margin : float
        The plan's margin of this row: ``base`` and all contributions, added up.
    by_input : dict of str to float
        What each input contributed towards the positive class; one-hot columns are added back to their input.
    by_column : tuple of float
        The same for each of the plan's columns.
    scale : {"log-odds", "probability"}
        What the numbers are differences of; forests have no log-odds.
    """

    base: float
    margin: float
    by_input: dict[str, float]
    by_column: tuple[float, ...]
    scale: Literal["log-odds", "probability"] = "log-odds"


class Contributions:
    """Explain rows of one plan.

    Trees: path-dependent Shapley values, exact. Linear models: coefficient times the distance from the mean of the
    background, which is the Shapley value under independent columns. Immutable and safe to share between threads.

    Parameters
    ----------
    plan : Plan
        What is explained.
    base : float
        The margin when nothing is known about a row.
    explain : TreePaths or ndarray of shape (columns,)
        Tree paths, or a linear model's background mean.
    """

    __slots__ = ("_base", "_explain", "_plan", "_slots", "_tolerance")

    def __init__(self, *, plan: Plan, base: float, explain: TreePaths | NDArray[np.float64]) -> None:
        self._plan = plan
        self._base = base
        self._explain = explain
        place = {name: index for index, name in enumerate(plan.inputs)}
        self._slots = np.array([place[column.source] for column in plan.columns], dtype=np.intp)
        single = isinstance(plan.engine, TreeEngine) and plan.engine.trees.output_type == "float32"
        self._tolerance = _SINGLE if single else _EXACT

    @classmethod
    def from_plan(cls, plan: Plan, *, background: NDArray[np.float64] | None) -> Self:
        """Prepare to explain a plan's rows.

        Parameters
        ----------
        plan : Plan
            Trees or a dot product.
        background : ndarray of shape (rows, columns) or None
            Rows that linear models are compared with, as `Plan.transform` gives them; trees carry their own.

        Returns
        -------
        Contributions
            Ready to explain any row of the contract.

        Raises
        ------
        PackageError
            The trees kept no training-row counts, or a linear plan has no usable background.

        References
        ----------
        Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.
        """
        engine = plan.engine
        if isinstance(engine, LinearEngine):
            mean = _background_mean(background, columns=len(plan.columns))
            base = float(engine.intercept + np.dot(engine.coefficients, mean))
            return cls(plan=plan, base=plan.sign * base, explain=mean)
        paths = TreePaths.from_treelite(engine.trees, output=engine.output)
        return cls(plan=plan, base=plan.sign * paths.base, explain=paths)

    @property
    def base(self) -> float:
        """The margin when nothing is known about a row."""
        return self._base

    def explain(self, row: Mapping[str, Scalar]) -> Attribution:
        """Take one row's margin apart.

        Parameters
        ----------
        row : mapping
            Every input by name, as ``RowCheck.check`` returns it.

        Returns
        -------
        Attribution
            Positive contributions push towards the positive class.

        Raises
        ------
        ContractViolationError
            An input is absent, or the model was fitted to refuse its value.
        PackageError
            The contributions do not add up to the plan's margin: the plan's files are not what was packaged.
        """
        return self._attribution(self._plan.transform(row), margin=self._plan.margin(row))

    def explain_columns(self, columns: Mapping[str, Sequence[object]]) -> tuple[Attribution, ...]:
        """Take the margins of many rows apart, each as `explain` does.

        Parameters
        ----------
        columns : mapping
            Every input's values by name; a DataFrame is one.

        Returns
        -------
        tuple of Attribution
            In the order of the rows.

        Raises
        ------
        ContractViolationError, PackageError
            As `explain`.
        """
        matrix = self._plan.transform_columns(columns)
        if not self._plan.engine.takes_missing:
            self._plan.score_columns(columns)  # names the missing inputs that the model refuses
        margins = (self._plan.sign * self._plan.engine.many(matrix)).tolist()
        return tuple(self._attribution(cells, margin=margin) for cells, margin in zip(matrix, margins, strict=True))

    def _attribution(self, cells: NDArray[np.float64], *, margin: float) -> Attribution:
        by_column = self._plan.sign * self._by_column(cells)
        sums = np.bincount(self._slots, weights=by_column, minlength=len(self._plan.inputs)).tolist()
        gap = abs(self._base + sum(sums) - margin)
        # Not ">": a NaN compares false and must not pass.
        if not gap <= self._tolerance * max(1.0, abs(margin)):
            raise PackageError(f"contributions do not add up to the margin {margin!r}: they are {gap:.3g} off")
        return Attribution(
            base=self._base,
            margin=margin,
            by_input=dict(zip(self._plan.inputs, sums, strict=True)),
            by_column=tuple(by_column.tolist()),
            scale="log-odds" if self._plan.link == "logit" else "probability",
        )

    def _by_column(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        engine = self._plan.engine
        if isinstance(self._explain, TreePaths):
            single = isinstance(engine, TreeEngine) and engine.row_type == "float32"
            return self._explain.explain(cells.astype(np.float32).astype(np.float64) if single else cells)
        coefficients = engine.coefficients if isinstance(engine, LinearEngine) else ()
        return np.array(coefficients) * (cells - self._explain)


def _background_mean(background: NDArray[np.float64] | None, *, columns: int) -> NDArray[np.float64]:
    if background is None or background.ndim != 2 or not len(background):
        raise PackageError("reasons of a linear model need a background sample, and the package holds none")
    if background.shape[1] != columns:
        raise PackageError(f"background: expected {columns} columns, got {background.shape[1]}")
    if not np.isfinite(background).all():
        raise PackageError("background: expected finite values only")
    return np.asarray(background.mean(axis=0), dtype=np.float64)
