"""Bring fitted predictors into treelite, or into a dot product."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import treelite
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression

from nbkit.errors import NotCompilableError
from nbkit.package._engines import Engine, LinearEngine, RowType, TreeEngine
from nbkit.package._symbolic import Frame, transform

_EXACT = 1e-12
# XGBoost adds up in float32; FACTS measured 6e-7.
_SINGLE = 1e-6
# LightGBM's kZeroThreshold, a float32 constant.
_LIGHTGBM_ZERO = float(np.float32(1e-35))


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A fitted predictor as the plan needs it."""

    frame: Frame
    engine: Engine
    tolerance: float = _EXACT


def compile_predictor(model: Any, frame: Frame, *, positive: int) -> Predictor:
    """Return the engine of a fitted binary classifier and the columns it is given.

    Parameters
    ----------
    model : object
        The fitted predictor.
    frame : Frame
        The columns it is given.
    positive : int
        Position of the positive class among the model's two.

    Returns
    -------
    Predictor
        Engine, columns and tolerance.

    Raises
    ------
    NotCompilableError
        No exact engine is known for it.
    """
    family = type(model).__name__
    known = _PREDICTORS.get(f"{type(model).__module__.split('.')[0]}.{family}")
    if known is None:
        raise NotCompilableError(f"{frame.place}: no exact plan is known for {family}")
    width = model.n_features_in_
    if width != len(frame.cells):
        raise NotCompilableError(f"{frame.place}: was fitted on {width} columns, is given {len(frame.cells)}")
    try:
        predictor = known(model, frame)
    except (treelite.TreeliteError, NotImplementedError, AssertionError) as error:
        raise NotCompilableError(f"{frame.place}: treelite cannot read this {family}: {error}") from error
    texts = sorted({cell.column.source for cell in predictor.frame.cells if cell.text})
    if texts:
        raise NotCompilableError(f"{frame.place}: {family} is given categories as text: {', '.join(texts)}")
    if predictor.engine.link == "identity":
        return replace(predictor, engine=replace(predictor.engine, output=positive))
    return predictor


def _hist_gradient_boosting(model: HistGradientBoostingClassifier, frame: Frame) -> Predictor:
    bare = model
    if model._preprocessor is not None:
        # Its own ordinal encoder becomes part of the plan; the trees then see codes in the order of that encoder.
        frame = transform(model._preprocessor, frame.inside("categories"))
        bare = copy.copy(model)
        bare._preprocessor = None
    trees = treelite.sklearn.import_model(bare)
    return Predictor(frame=frame, engine=TreeEngine(trees=trees, row_type="float64", takes_missing=True, link="logit"))


def _forest(model: RandomForestClassifier | ExtraTreesClassifier, frame: Frame) -> Predictor:
    engine = TreeEngine(
        trees=treelite.sklearn.import_model(model),
        row_type="float32",
        takes_missing=not frame.sparse and model.estimators_[0].__sklearn_tags__().input_tags.allow_nan,
        link="identity",
    )
    return Predictor(frame=frame, engine=engine)


def _gradient_boosting(model: GradientBoostingClassifier, frame: Frame) -> Predictor:
    if model.loss != "log_loss":
        raise NotCompilableError(f"{frame.place}: GradientBoostingClassifier(loss={model.loss!r}) gives no log-odds")
    trees = treelite.sklearn.import_model(model)
    return Predictor(frame=frame, engine=TreeEngine(trees=trees, row_type="float32", takes_missing=False, link="logit"))


def _logistic_regression(model: LogisticRegression, frame: Frame) -> Predictor:
    if model.coef_.dtype != np.float64:
        raise NotCompilableError(f"{frame.place}: was fitted in {model.coef_.dtype}, a plan computes in float64")
    engine = LinearEngine(coefficients=tuple(model.coef_[0].tolist()), intercept=float(np.ravel(model.intercept_)[0]))
    return Predictor(frame=frame, engine=engine)


def _lightgbm(model: Any, frame: Frame) -> Predictor:
    settings = model.booster_.params
    if settings.get("zero_as_missing") or settings.get("linear_tree"):
        raise NotCompilableError(f"{frame.place}: no exact plan is known for zero_as_missing or linear_tree")
    trees = treelite.frontend.from_lightgbm(model.booster_)
    engine = replace(_boosted(trees, row_type="float64", place=frame.place), zero_within=_LIGHTGBM_ZERO)
    return Predictor(frame=frame, engine=engine)


def _xgboost(model: Any, frame: Frame) -> Predictor:
    if frame.sparse:
        problem = f"{frame.place}: XGBoost reads the zeros of sparse rows as missing"
        raise NotCompilableError(problem, next_step="build the encoder with sparse_output=False")
    if model.missing is not None and not np.isnan(model.missing):
        problem = f"{frame.place}: no exact plan is known for missing={model.missing}"
        raise NotCompilableError(problem, next_step="declare the value as a sentinel in the contract")
    booster = model.get_booster()
    if "c" in (booster.feature_types or []):
        raise NotCompilableError(f"{frame.place}: no exact plan is known for XGBoost's own categories")
    if model.early_stopping_rounds:
        # predict_proba stops at the best round, the booster holds them all.
        booster = booster[: booster.best_iteration + 1]
    trees = treelite.frontend.from_xgboost(booster)
    return Predictor(frame=frame, engine=_boosted(trees, row_type="float32", place=frame.place), tolerance=_SINGLE)


def _boosted(trees: treelite.Model, *, row_type: RowType, place: str) -> TreeEngine:
    header = trees.get_header_accessor()
    if str(header.get_field("postprocessor")) != "sigmoid" or float(header.get_field("sigmoid_alpha")[0]) != 1.0:
        raise NotCompilableError(f"{place}: its objective gives no plain log-odds")
    return TreeEngine(trees=trees, row_type=row_type, takes_missing=True, link="logit")


_PREDICTORS: Mapping[str, Callable[..., Predictor]] = {
    "sklearn.HistGradientBoostingClassifier": _hist_gradient_boosting,
    "sklearn.RandomForestClassifier": _forest,
    "sklearn.ExtraTreesClassifier": _forest,
    "sklearn.GradientBoostingClassifier": _gradient_boosting,
    "sklearn.LogisticRegression": _logistic_regression,
    "lightgbm.LGBMClassifier": _lightgbm,
    "xgboost.XGBClassifier": _xgboost,
}
