"""Follow fitted scikit-learn transformers column by column, without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_array

from nbkit.errors import NotCompilableError
from nbkit.package._encoders import encode
from nbkit.package._rows import PlanColumn
from nbkit.package._steps import Arithmetic, Clip, Fill, IsMissing, Step, is_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One column on its way to the model."""

    column: PlanColumn
    # Still a category, not yet a number.
    text: bool

    def then(self, *steps: Step, text: bool | None = None) -> Cell:
        """Return the cell after more steps."""
        column = replace(self.column, steps=self.column.steps + steps)
        return Cell(column=column, text=self.text if text is None else text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The columns between two steps.

    Parameters
    ----------
    cells : tuple of Cell
        The columns, in order.
    none_is_missing : bool
        Whether the fitted model saw missing categories as ``None`` (else as NaN).
    place : str
        Where in the pipeline it stands, for messages.
    sparse : bool
        Whether scikit-learn keeps these rows as a sparse matrix.
    """

    cells: tuple[Cell, ...]
    none_is_missing: bool
    place: str
    sparse: bool = False

    def inside(self, name: str) -> Frame:
        """Return the same columns, one step further in."""
        return replace(self, place=f"{self.place} → {name}")


def transform(transformer: Any, frame: Frame) -> Frame:
    """Return the frame after a fitted transformer.

    Parameters
    ----------
    transformer : object
        A fitted scikit-learn transformer, or ``"passthrough"``.
    frame : Frame
        What goes in.

    Returns
    -------
    Frame
        What comes out.

    Raises
    ------
    NotCompilableError
        No exact step is known for it.
    """
    if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
        return frame
    # By exact type: a subclass may transform in its own way.
    known = _TRANSFORMS.get(type(transformer))
    if known is None:
        raise NotCompilableError(f"{frame.place}: no exact plan is known for {type(transformer).__name__}")
    width = getattr(transformer, "n_features_in_", len(frame.cells))
    if width != len(frame.cells):
        raise NotCompilableError(f"{frame.place}: was fitted on {width} columns, is given {len(frame.cells)}")
    return known(transformer, frame)


def _pipeline(pipeline: Pipeline, frame: Frame) -> Frame:
    for name, step in pipeline.steps:
        frame = replace(transform(step, frame.inside(name)), place=frame.place)
    return frame


def _column_transformer(transformer: ColumnTransformer, frame: Frame) -> Frame:
    if transformer.transformer_weights:
        raise NotCompilableError(f"{frame.place}: no exact plan is known for transformer_weights")
    names = list(getattr(transformer, "feature_names_in_", []))
    cells: list[Cell] = []
    for name, step, selection in transformer.transformers_:
        places = chosen_places(selection, names=names, width=len(frame.cells))
        if not places or (isinstance(step, str) and step == "drop"):
            continue
        part = replace(frame.inside(name), cells=tuple(frame.cells[index] for index in places))
        cells += transform(step, part).cells
    return replace(frame, cells=tuple(cells), sparse=bool(transformer.sparse_output_))


def chosen_places(selection: Any, *, names: Sequence[str], width: int) -> list[int]:
    """Return the positions that a column selection of a fitted ColumnTransformer means.

    Parameters
    ----------
    selection : str, int, slice, list or array
        Names, positions or a mask.
    names : sequence of str
        Column names at fit time.
    width : int
        Number of columns.

    Returns
    -------
    list of int
        Positions, in the selection's order.
    """
    if isinstance(selection, slice):
        if isinstance(selection.start, str) or isinstance(selection.stop, str):
            start = 0 if selection.start is None else names.index(selection.start)
            stop = width if selection.stop is None else names.index(selection.stop) + 1
            return list(range(width))[start : stop : selection.step]
        return list(range(width))[selection]
    values = np.atleast_1d(np.asarray(selection, dtype=object)).tolist()
    if values and all(isinstance(value, (bool, np.bool_)) for value in values):
        return [index for index, wanted in enumerate(values) if wanted]
    return [names.index(value) if isinstance(value, str) else int(value) % width for value in values]


def _imputer(imputer: SimpleImputer, frame: Frame) -> Frame:
    wants_none = imputer.missing_values is None
    if not wants_none and not is_missing(imputer.missing_values):
        problem = f"{frame.place}: no exact plan is known for missing_values={imputer.missing_values!r}"
        raise NotCompilableError(problem, next_step="declare the value as a sentinel in the contract")
    filled: list[Cell] = []
    for cell, statistic in zip(frame.cells, imputer.statistics_, strict=True):
        if is_missing(statistic) and not imputer.keep_empty_features:
            continue
        # None in a column of objects is no NaN to scikit-learn: an imputer of one leaves the other alone.
        sees = wants_none == (cell.text and frame.none_is_missing)
        value = statistic if isinstance(statistic, str) else float(statistic)
        filled.append(cell.then(Fill(value=value)) if sees else cell)
    if imputer.indicator_ is not None:
        for index in imputer.indicator_.features_:
            cell = frame.cells[index]
            if wants_none != (cell.text and frame.none_is_missing):
                raise NotCompilableError(
                    f"{frame.place}: the indicator looks for another kind of missing value than it is given"
                )
            marked = replace(cell.column, missing=True, steps=(*cell.column.steps, IsMissing()))
            filled.append(Cell(column=marked, text=False))
    return replace(frame, cells=tuple(filled))


def _scaled(frame: Frame, *, constants: Sequence[tuple[str, Any]]) -> Frame:
    cells = []
    for index, cell in enumerate(frame.cells):
        steps = [
            Arithmetic(kind=kind, value=float(values[index]))  # type: ignore[arg-type]
            for kind, values in constants
            if values is not None
        ]
        cells.append(cell.then(*steps))
    return replace(frame, cells=tuple(cells))


def _divide(scale: Any, frame: Frame) -> tuple[str, Any]:
    # scikit-learn multiplies sparse rows by the reciprocal, which rounds differently.
    return ("multiply", 1 / scale) if frame.sparse and scale is not None else ("divide", scale)


def _standard_scaler(scaler: StandardScaler, frame: Frame) -> Frame:
    mean = scaler.mean_ if scaler.with_mean else None
    return _scaled(frame, constants=[("subtract", mean), _divide(scaler.scale_, frame)])


def _robust_scaler(scaler: RobustScaler, frame: Frame) -> Frame:
    center = scaler.center_ if scaler.with_centering else None
    scale = scaler.scale_ if scaler.with_scaling else None
    return _scaled(frame, constants=[("subtract", center), _divide(scale, frame)])


def _min_max_scaler(scaler: MinMaxScaler, frame: Frame) -> Frame:
    frame = _scaled(frame, constants=[("multiply", scaler.scale_), ("add", scaler.min_)])
    if not scaler.clip:
        return frame
    low, high = map(float, scaler.feature_range)
    return replace(frame, cells=tuple(cell.then(Clip(low=low, high=high)) for cell in frame.cells))


def _encoder(encoder: OneHotEncoder | OrdinalEncoder, frame: Frame) -> Frame:
    cells = []
    encoded = encode(encoder, texts=[cell.text for cell in frame.cells], none_is_missing=frame.none_is_missing)
    for cell, outputs in zip(frame.cells, encoded, strict=True):
        for output in outputs:
            column = replace(cell.column, level=output.level, missing=output.missing)
            cells.append(Cell(column=column, text=cell.text).then(output.lookup, text=False))
    return replace(frame, cells=tuple(cells), sparse=bool(getattr(encoder, "sparse_output", False)))


def _function(transformer: FunctionTransformer, frame: Frame) -> Frame:
    function = transformer.func
    # HistGradientBoosting passes its numbers through check_array, which only makes float64 of them.
    checks = isinstance(function, partial) and function.func is check_array
    if function is None or checks:
        return frame
    raise NotCompilableError(
        f"{frame.place}: no exact plan is known for FunctionTransformer({getattr(function, '__name__', function)})"
    )


_TRANSFORMS: Mapping[type, Callable[..., Frame]] = {
    Pipeline: _pipeline,
    ColumnTransformer: _column_transformer,
    SimpleImputer: _imputer,
    StandardScaler: _standard_scaler,
    RobustScaler: _robust_scaler,
    MinMaxScaler: _min_max_scaler,
    OneHotEncoder: _encoder,
    OrdinalEncoder: _encoder,
    FunctionTransformer: _function,
}
