"""Compare a plan with the fitted model; the comparison is a gate, not a formality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract, Thresholds
from nbkit.errors import ContractViolationError, PackageError
from nbkit.package._compile import none_is_missing, positive_place
from nbkit.package._fitted import FrameShape, frame_shape, model_frame, score_model
from nbkit.package._plan import Plan
from nbkit.package._probes import EdgeRow, Row, edge_rows, split_rows, threshold_rows, typical_row
from nbkit.package._tables import categories, numbers

# The same rows are drawn for every package: parity is not a matter of luck.
_SEED = 20261123

# Sums over rows of another memory order may differ in the last bits.
_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far a plan's scores lie from the fitted model's.

    Parameters
    ----------
    rows : int
        Rows compared, of every kind.
    max_abs : float
        The largest absolute difference of two scores.
    tolerance : float
        What is allowed.
    passed : bool
        Whether the plan may be served.
    worst : mapping
        Where the largest difference was: ``kind``, ``row``, ``plan``, ``model``.
    at_threshold_rows, edge_rows, split_rows : int
        How many rows lay at a decision threshold, at an edge of the contract, on a split point of the trees.
    """

    rows: int
    max_abs: float
    tolerance: float
    passed: bool
    worst: Mapping[str, object] = field(default_factory=dict)
    at_threshold_rows: int = 0
    edge_rows: int = 0
    split_rows: int = 0

    @property
    def reason(self) -> str:
        """A sentence with the figure and its limit."""
        side = "within" if self.passed else "above"
        text = f"the plan differs from the fitted model by at most {self.max_abs:.1e}, {side} {self.tolerance:.0e}"
        return text if self.passed else f"{text} ({self.worst['kind']} row: {self.worst['row']})"

    def to_json(self) -> dict[str, object]:
        """Return the figures for the manifest."""
        return {**asdict(self), "worst": dict(self.worst)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    kind: str
    names: Sequence[str]
    plan: NDArray[np.float64]
    model: NDArray[np.float64]

    @property
    def gaps(self) -> NDArray[np.float64]:
        # A score that is missing on one side only is as wrong as can be.
        both_missing = np.isnan(self.plan) & np.isnan(self.model)
        return np.where(both_missing, 0.0, np.nan_to_num(np.abs(self.plan - self.model), nan=1.0))


def measure_parity(
    model: object, plan: Plan, *, frame: pd.DataFrame, contract: Contract, thresholds: Thresholds
) -> Parity:
    """Compare a plan with the fitted model, row by row.

    Compared are the given rows, exactly as given; rows at the decision thresholds; rows at the edges of the contract;
    and rows on the split points of the trees.

    Parameters
    ----------
    model : object
        The fitted classifier.
    plan : Plan
        What `compile_plan` made of it.
    frame : pandas.DataFrame
        Rows to compare, with at least the contract's inputs.
    contract : Contract
        Names the inputs, their ranges and the positive class.
    thresholds : Thresholds
        Scores at which a decision changes.

    Returns
    -------
    Parity
        ``passed`` only if no score differs by more than the plan's tolerance.

    Raises
    ------
    PackageError
        There is no row to compare, or the fitted model cannot score a row that the contract allows.
    """
    judge = _Judge(model, frame=frame, contract=contract)
    rows = judge.rows
    scores = plan.score_columns(frame)
    near = threshold_rows(rows, plan=plan, scores=scores, thresholds=thresholds)
    splits = split_rows(rows, plan=plan, rng=np.random.default_rng(_SEED))
    edges = judge.edges()
    compared = [
        _Compared(kind="given", names=[f"number {n}" for n in range(len(rows))], plan=scores, model=judge.given()),
        _by_rows("at threshold", near, plan=plan, judge=judge),
        _by_rows("split point", splits, plan=plan, judge=judge),
        _by_edges(edges, plan=plan, judge=judge),
    ]
    worst, size = _worst(compared)
    return Parity(
        rows=sum(len(part.gaps) for part in compared),
        max_abs=size,
        tolerance=plan.tolerance,
        passed=size <= plan.tolerance,
        worst=worst,
        at_threshold_rows=len(near),
        edge_rows=len(edges),
        split_rows=len(splits),
    )


def check_fitted(model: object, *, frame: pd.DataFrame, contract: Contract) -> None:
    """Refuse a model that cannot be served without a plan either.

    Parameters
    ----------
    model : object
        The fitted classifier.
    frame : pandas.DataFrame
        Rows with at least the contract's inputs.
    contract : Contract
        Says which values may be missing, and which categories exist.

    Raises
    ------
    PackageError
        It refuses a row that the contract allows, or scores contract rows otherwise than the given frame.
    """
    judge = _Judge(model, frame=frame, contract=contract)
    judge.score_edges(judge.edges())
    gap = float(np.max(np.abs(judge.score(judge.rows) - judge.given())))
    if not gap <= _SAME:
        raise PackageError(
            f"the fitted model's scores change by {gap:.1e} when the frame is made from contract rows",
            next_step="train on float64 numbers and text categories, missing ones as NaN",
        )


def _by_rows(kind: str, rows: Sequence[Row], *, plan: Plan, judge: _Judge) -> _Compared:
    names = [f"number {number}" for number in range(len(rows))]
    columns = _columns(rows, names=plan.inputs)
    return _Compared(kind=kind, names=names, plan=plan.score_columns(columns), model=judge.score(rows))


def _by_edges(edges: Sequence[EdgeRow], *, plan: Plan, judge: _Judge) -> _Compared:
    ours = []
    for edge in edges:
        try:
            ours.append(plan.score(edge.row))
        except ContractViolationError:
            ours.append(np.nan)
    names = [edge.what for edge in edges]
    return _Compared(kind="edge", names=names, plan=np.array(ours), model=judge.score_edges(edges))


def _worst(compared: Sequence[_Compared]) -> tuple[dict[str, object], float]:
    size, part, place = max(
        ((float(part.gaps.max()), part, int(part.gaps.argmax())) for part in compared if len(part.gaps)),
        key=lambda found: found[0],
    )
    scores = {"plan": float(part.plan[place]), "model": float(part.model[place])}
    shown = {side: None if np.isnan(score) else score for side, score in scores.items()}
    return {"kind": part.kind, "row": part.names[place], **shown}, size


def _columns(rows: Sequence[Row], *, names: Sequence[str]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in names}


class _Judge:
    """The fitted model, asked in the form that it knows."""

    def __init__(self, model: Any, *, frame: pd.DataFrame, contract: Contract) -> None:
        self._model = model
        self._contract = contract
        self._frame = frame
        self._shape: FrameShape = frame_shape(frame, none_is_missing=none_is_missing(model), inputs=contract.inputs)
        self._positive = positive_place(model, positive=contract.target.positive)
        self.rows = contract_rows(frame, contract=contract)
        if not self.rows:
            raise PackageError("parity: expected at least one row to compare, got none")

    def given(self) -> NDArray[np.float64]:
        names = [item.name for item in self._contract.inputs]
        return score_model(self._model, self._frame[names], positive=self._positive)

    def score(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        if not rows:
            return np.zeros(0)
        columns = _columns(rows, names=[item.name for item in self._contract.inputs])
        made = model_frame(columns, inputs=self._contract.inputs, shape=self._shape)
        return score_model(self._model, made, positive=self._positive)

    def edges(self) -> list[EdgeRow]:
        ranges = {}
        for item in self._contract.inputs:
            if item.type in {"number", "integer"}:
                values = numbers(self._frame[item.name], name=item.name)
                known = values[~np.isnan(values)]
                ranges[item.name] = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        return edge_rows(typical_row(self.rows, contract=self._contract), inputs=self._contract.inputs, ranges=ranges)

    def score_edges(self, edges: Sequence[EdgeRow]) -> NDArray[np.float64]:
        """Return the model's scores; NaN where it refuses a row that the contract refuses too."""
        try:
            return self.score([edge.row for edge in edges])
        except ValueError:
            pass  # One row spoils the table and the message does not say which: ask one by one.
        scores, refused = [], []
        for edge in edges:
            try:
                scores.append(float(self.score([edge.row])[0]))
            except ValueError as error:
                scores.append(np.nan)
                if edge.allowed:
                    refused.append(f"{edge.what}: {str(error).splitlines()[0]}")
        if refused:
            raise PackageError(
                "the fitted model cannot score rows that its contract allows",
                problems=refused,
                next_step="add an imputer or handle_unknown to the pipeline, or narrow the contract",
            )
        return np.array(scores)


def contract_rows(frame: pd.DataFrame, *, contract: Contract) -> list[Row]:
    """Return a frame's inputs as contract rows: floats, text, and None for missing.

    Parameters
    ----------
    frame : pandas.DataFrame
        At least the contract's inputs.
    contract : Contract
        Names the inputs and their types.

    Returns
    -------
    list of Row
        One for each row of the frame.

    Raises
    ------
    PackageError
        An input is absent.
    """
    absent = [item.name for item in contract.inputs if item.name not in frame]
    if absent:
        raise PackageError("the table", problems=[f"$.{name}: missing" for name in absent])
    columns: list[list[float | str | None]] = []
    for item in contract.inputs:
        if item.type == "category":
            columns.append(list(categories(frame[item.name], name=item.name)))
        else:
            values = numbers(frame[item.name], name=item.name)
            columns.append([None if value != value else value for value in values.tolist()])
    names = [item.name for item in contract.inputs]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
