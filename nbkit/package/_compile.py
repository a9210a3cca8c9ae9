"""Compile a fitted model into a plan, or say which step stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from nbkit.contract import Input
from nbkit.errors import NotCompilableError
from nbkit.package._plan import Plan
from nbkit.package._predictors import compile_predictor
from nbkit.package._rows import PlanColumn, PlanInput
from nbkit.package._steps import is_missing
from nbkit.package._symbolic import Cell, Frame, transform


def compile_plan(model: object, *, inputs: Sequence[Input], positive: int | str | bool | None = None) -> Plan:
    """Compile a fitted binary classifier into an exact plan.

    Parameters
    ----------
    model : object
        A fitted scikit-learn classifier or Pipeline whose input is a DataFrame with the contract's inputs.
    inputs : sequence of Input
        The contract's inputs.
    positive : int, str or bool, optional
        The class whose probability is the score; the model's second one when not given.

    Returns
    -------
    Plan
        Compare it with the model (`measure_parity`) before you serve it.

    Raises
    ------
    NotCompilableError
        No exact plan is known for a step; the message names it.
    """
    fitted: Any = model
    steps = list(fitted.steps) if type(fitted) is Pipeline else [(type(fitted).__name__, fitted)]
    *before, (last_name, predictor) = steps
    index = positive_place(fitted, positive=positive)
    cells = tuple(_cell(item) for item in _in_fitted_order(fitted, inputs=inputs))
    frame = Frame(cells=cells, none_is_missing=none_is_missing(fitted), place="model")
    for name, step in before:
        frame = replace(transform(step, frame.inside(name)), place="model")
    compiled = compile_predictor(predictor, frame.inside(last_name), positive=index)
    return Plan(
        family=type(predictor).__name__,
        tolerance=compiled.tolerance,
        inputs=[PlanInput(name=item.name, type=item.type) for item in inputs],
        columns=[cell.column for cell in compiled.frame.cells],
        engine=compiled.engine,
        sign=1 if index == 1 or compiled.engine.link == "identity" else -1,
    )


def positive_place(model: Any, *, positive: int | str | bool | None) -> int:
    """Return which of the model's two classes is the positive one.

    Parameters
    ----------
    model : object
        A fitted classifier.
    positive : int, str, bool or None
        The contract's ``target.positive``.

    Returns
    -------
    int
        0 or 1.

    Raises
    ------
    NotCompilableError
        It is no binary classifier, or knows no such class.
    """
    classes = list(np.asarray(getattr(model, "classes_", [])).tolist())
    if len(classes) != 2 or not hasattr(model, "predict_proba"):
        raise NotCompilableError(f"{type(model).__name__}: expected a fitted classifier of two classes, got {classes}")
    if positive is None:
        return 1
    if positive not in classes:
        raise NotCompilableError(f"{type(model).__name__}: target.positive is {positive!r}, the classes are {classes}")
    return classes.index(positive)


def none_is_missing(model: Any) -> bool:
    """Whether the model was fitted on categories whose missing values were ``None`` (else NaN).

    scikit-learn tells the two apart: on the same rows the scores of one model differ by up to 0.08.

    Parameters
    ----------
    model : object
        A fitted estimator.

    Returns
    -------
    bool
        What rows for this model must hold.

    Raises
    ------
    NotCompilableError
        It saw both.
    """
    seen = set()
    for step in _steps(model):
        if type(step) is SimpleImputer and step.missing_values is None:
            seen.add(True)
        for levels in getattr(step, "categories_", []):
            seen |= {level is None for level in levels.tolist() if is_missing(level) and levels.dtype.kind == "O"}
    if len(seen) == 2:
        raise NotCompilableError("the model was fitted on missing categories as None and as NaN; make them one")
    return True in seen


def _steps(model: Any) -> Iterator[Any]:
    yield model
    if isinstance(model, Pipeline):
        for _, step in model.steps:
            yield from _steps(step)
    if isinstance(model, ColumnTransformer):
        for _, step, _ in model.transformers_:
            yield from _steps(step)


def _in_fitted_order(model: Any, *, inputs: Sequence[Input]) -> list[Input]:
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        # A pipeline that begins with "passthrough" does not say; its next step will.
        width = getattr(model, "n_features_in_", len(inputs))
        if width != len(inputs):
            raise NotCompilableError(f"the model was fitted on {width} columns, the contract has {len(inputs)} inputs")
        return list(inputs)
    by_name = {item.name: item for item in inputs}
    absent = [str(name) for name in names if name not in by_name]
    if absent:
        raise NotCompilableError(f"the model was fitted on columns that the contract lacks: {', '.join(absent)}")
    return [by_name[name] for name in names]


def _cell(item: Input) -> Cell:
    return Cell(column=PlanColumn(source=item.name), text=item.type == "category")
