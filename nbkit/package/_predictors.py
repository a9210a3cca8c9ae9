"""Bring fitted predictors into treelite, or into a dot product."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from nbkit.package._engines import Engine, LinearEngine, TreeEngine
from nbkit.package._symbolic import Frame, transform

_EXACT = 1e-12
# XGBoost adds up in float32; FACTS measured 6e-7.
_SINGLE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A fitted predictor as the plan needs it."""

    frame: Frame
    engine: Engine
    tolerance: float = _EXACT


def compile_predictor(model: Any, *, frame: Frame, place: str, positive: int) -> Predictor:
    """Return the engine of a fitted binary classifier and the columns it is given.

    Parameters
    ----------
    model : object
        The fitted predictor.
    frame : Frame
        The columns it is given.
    place : str
        Where it stands in the pipeline, for the message.
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
        raise NotCompilableError(f"{place}: no exact plan is known for {family}")
    if model.n_features_in_ != len(frame.cells):
        raise NotCompilableError(f"{place}: was fitted on {model.n_features_in_} columns, is given {len(frame.cells)}")
    try:
        predictor = known(model, frame=frame, place=place, positive=positive)
    except (treelite.TreeliteError, NotImplementedError, AssertionError) as error:
        raise NotCompilableError(f"{place}: treelite cannot read this {family}: {error}") from error
    texts = sorted({cell.column.source for cell in predictor.frame.cells if cell.text})
    if texts:
        raise NotCompilableError(f"{place}: {family} is given categories as text: {', '.join(texts)}")
    return predictor


def _hist_gradient_boosting(
    model: HistGradientBoostingClassifier, *, frame: Frame, place: str, positive: int
) -> Predictor:
    bare = model
    if model._preprocessor is not None:
        # Its own ordinal encoder becomes part of the plan; the trees then see codes, in the order of that encoder's output.
        frame = transform(model._preprocessor, frame=frame, place=f"{place} → categories")
        bare = copy.copy(model)
        bare._preprocessor = None
    trees = treelite.sklearn.import_model(bare)
    return Predictor(frame=frame, engine=TreeEngine(trees=trees, row_type="float64", takes_missing=True, link="logit"))


def _forest(
    model: RandomForestClassifier | ExtraTreesClassifier, *, frame: Frame, place: str, positive: int
) -> Predictor:
    engine = TreeEngine(
        trees=treelite.sklearn.import_model(model),
        row_type="float32",
        takes_missing=not frame.sparse and model.estimators_[0].__sklearn_tags__().input_tags.allow_nan,
        link="identity",
        output=positive,
    )
    return Predictor(frame=frame, engine=engine)


def _gradient_boosting(model: GradientBoostingClassifier, *, frame: Frame, place: str, positive: int) -> Predictor:
    if model.loss != "log_loss":
        raise NotCompilableError(f"{place}: GradientBoostingClassifier(loss={model.loss!r}) gives no log-odds")
    trees = treelite.sklearn.import_model(model)
    return Predictor(frame=frame, engine=TreeEngine(trees=trees, row_type="float32", takes_missing=False, link="logit"))


def _logistic_regression(model: LogisticRegression, *, frame: Frame, place: str, positive: int) -> Predictor:
    if model.coef_.dtype != np.float64:
        raise NotCompilableError(f"{place}: was fitted in {model.coef_.dtype}, a plan computes in float64")
    engine = LinearEngine(coefficients=tuple(model.coef_[0].tolist()), intercept=float(np.ravel(model.intercept_)[0]))
    return Predictor(frame=frame, engine=engine)


def _lightgbm(model: Any, *, frame: Frame, place: str, positive: int) -> Predictor:
    settings = model.booster_.params
    if settings.get("zero_as_missing") or settings.get("linear_tree"):
        raise NotCompilableError(f"{place}: no exact plan is known for zero_as_missing or linear_tree")
    trees = treelite.frontend.from_lightgbm(model.booster_)
    return Predictor(frame=frame, engine=_boosted(trees, row_type="float64", place=place))


def _xgboost(model: Any, *, frame: Frame, place: str, positive: int) -> Predictor:
    if frame.sparse:
        raise NotCompilableError(
            f"{place}: XGBoost reads the zeros of sparse rows as missing; build the encoder with sparse_output=False"
        )
    if model.missing is not None and not np.isnan(model.missing):
        raise NotCompilableError(f"{place}: XGBClassifier(missing={model.missing}); declare the value as a sentinel")
    booster = model.get_booster()
    if "c" in (booster.feature_types or []):
        raise NotCompilableError(f"{place}: no exact plan is known for XGBoost's own categories")
    if model.early_stopping_rounds:
        # predict_proba stops at the best round, the booster holds them all.
        booster = booster[: booster.best_iteration + 1]
    trees = treelite.frontend.from_xgboost(booster)
    return Predictor(frame=frame, engine=_boosted(trees, row_type="float32", place=place), tolerance=_SINGLE)


def _boosted(trees: treelite.Model, *, row_type: Any, place: str) -> TreeEngine:
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
