from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from nbkit.contract import Contract
from nbkit.errors import NotCompilableError
from nbkit.package import Plan, compile_plan

NUMBERS = ["income", "ratio", "years", "married"]
CATEGORIES = ["purpose", "region"]
INPUTS = [*NUMBERS, *CATEGORIES]


def codes(**options: Any) -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", **({"unknown_value": np.nan} | options))


def columns(numbers: Any, texts: Any, **options: Any) -> ColumnTransformer:
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, CATEGORIES)], **options)


def one_hot(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(sparse_output=False, **({"handle_unknown": "ignore"} | options))


def logistic(**options: Any) -> LogisticRegression:
    # The default solver warns that it has not converged on unscaled columns.
    return LogisticRegression(solver="newton-cholesky", **options)


def native() -> ColumnTransformer:
    return columns("passthrough", codes())


PREDICTORS: dict[str, Callable[[], Any]] = {
    "hist": lambda: HistGradientBoostingClassifier(max_iter=25, early_stopping=False),
    "forest": lambda: RandomForestClassifier(12, random_state=0),
    "extra": lambda: ExtraTreesClassifier(12, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=15, random_state=0),
    "boosting from zero": lambda: GradientBoostingClassifier(n_estimators=5, init="zero", random_state=0),
    "logistic": lambda: logistic(),
    "logistic without intercept": lambda: logistic(fit_intercept=False),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=15, n_jobs=1),
}
PREPARED: dict[str, Callable[[], Any]] = {
    "one-hot": lambda: columns(
        make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
        make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot()),
    ),
    "min-max, infrequent": lambda: columns(
        make_pipeline(SimpleImputer(), MinMaxScaler(clip=True, feature_range=(-1, 2))),
        one_hot(min_frequency=0.2, handle_unknown="infrequent_if_exist"),
    ),
    "robust, dropped": lambda: columns(
        make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), RobustScaler()), one_hot(drop="first")
    ),
    "ordinal with codes": lambda: columns(
        make_pipeline(SimpleImputer(strategy="most_frequent"), MinMaxScaler()),
        codes(unknown_value=-2, encoded_missing_value=-1),
    ),
    "scaled after encoding": lambda: make_pipeline(
        columns(SimpleImputer(), one_hot(drop="if_binary")), StandardScaler()
    ),
    "imputed after encoding": lambda: make_pipeline(columns("passthrough", codes()), SimpleImputer(add_indicator=True)),
    "sparse": lambda: make_pipeline(
        columns(SimpleImputer(), OneHotEncoder(handle_unknown="ignore"), sparse_threshold=1.0),
        StandardScaler(with_mean=False),
    ),
    "constant text": lambda: columns(
        make_pipeline(SimpleImputer(), FunctionTransformer(None)),
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none", add_indicator=True), one_hot()),
    ),
}


def check(model: Any, *, contract: Contract, frame: pd.DataFrame, rows: Sequence[Any], directory: Path) -> Plan:
    """Compare plan and model on a frame; one row, many rows and the stored plan must agree bit for bit."""
    plan = compile_plan(model, inputs=contract.inputs)
    with warnings.catch_warnings():
        # An encoder that drops a level warns of unknown categories on purpose.
        warnings.filterwarnings("ignore", message="Found unknown categories")
        expected = model.predict_proba(frame[INPUTS])[:, 1]
    scores = plan.score_columns(frame)
    assert np.max(np.abs(scores - expected)) <= plan.tolerance
    assert [plan.score(row) for row in rows] == plan.score_rows(rows) == scores.tolist()
    plan.save(directory)
    stored = Plan.load(directory)
    assert stored.score_columns(frame).tobytes() == scores.tobytes()
    assert stored.digest == plan.digest
    return plan


# HistGradientBoosting is not fitted on sparse rows.
@pytest.mark.parametrize(
    ("prepared", "predictor"),
    [pair for pair in product(PREPARED, ["hist", "forest", "logistic"]) if pair != ("sparse", "hist")],
)
def test_preprocessing_is_compiled_exactly(
    prepared: str,
    predictor: str,
    contract: Contract,
    table: pd.DataFrame,
    unseen_table: pd.DataFrame,
    rows_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = make_pipeline(PREPARED[prepared](), PREDICTORS[predictor]())
    model.fit(table[INPUTS], table["denied"])
    check(model, contract=contract, frame=unseen_table, rows=rows_of(unseen_table), directory=tmp_path)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_predictors_are_compiled_exactly(
    predictor: str,
    contract: Contract,
    table: pd.DataFrame,
    unseen_table: pd.DataFrame,
    rows_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = make_pipeline(PREPARED["one-hot"](), PREDICTORS[predictor]()).fit(table[INPUTS], table["denied"])
    plan = check(model, contract=contract, frame=unseen_table, rows=rows_of(unseen_table), directory=tmp_path)
    assert plan.family == type(model[-1]).__name__
    assert plan.tolerance == (1e-6 if predictor == "xgboost" else 1e-12)


@pytest.mark.parametrize("predictor", ["hist", "extra", "lightgbm", "xgboost"])
def test_missing_values_reach_the_trees_as_nan(
    predictor: str,
    contract: Contract,
    table: pd.DataFrame,
    unseen_table: pd.DataFrame,
    rows_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = make_pipeline(native(), PREDICTORS[predictor]()).fit(table[INPUTS], table["denied"])
    plan = check(model, contract=contract, frame=unseen_table, rows=rows_of(unseen_table), directory=tmp_path)
    assert np.isnan(plan.transform({**rows_of(table)[0], "ratio": None})).any()


@pytest.mark.parametrize("how", ["positions", "pandas categories"])
def test_native_categories_of_hist_gradient_boosting_are_exact(
    how: str,
    contract: Contract,
    table: pd.DataFrame,
    unseen_table: pd.DataFrame,
    rows_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    if how == "positions":
        last = HistGradientBoostingClassifier(max_iter=25, early_stopping=False, categorical_features=[4, 5])
        model: Any = make_pipeline(native(), last).fit(table[INPUTS], table["denied"])
    else:
        typed = table[[*CATEGORIES, *NUMBERS]].astype(dict.fromkeys(CATEGORIES, "category"))
        model = HistGradientBoostingClassifier(max_iter=25, early_stopping=False).fit(typed, table["denied"])
        unseen_table = unseen_table[[*CATEGORIES, *NUMBERS]]
        plan = compile_plan(model, inputs=contract.inputs)
        expected = model.predict_proba(unseen_table)[:, 1]
        assert np.max(np.abs(plan.score_columns(unseen_table) - expected)) <= 1e-12
        return
    check(model, contract=contract, frame=unseen_table, rows=rows_of(unseen_table), directory=tmp_path)


def test_none_and_nan_are_told_apart_as_scikit_learn_does(
    contract: Contract, table: pd.DataFrame, rows_of: Callable[..., Any], tmp_path: Path
) -> None:
    frame = table.astype(dict.fromkeys(CATEGORIES, object))
    frame[CATEGORIES] = frame[CATEGORIES].where(frame[CATEGORIES].notna(), None)
    assert frame["purpose"].isin([None]).any()
    # The imputer looks for NaN and leaves None alone; the encoder then makes None a category.
    model = make_pipeline(PREPARED["one-hot"](), logistic()).fit(frame[INPUTS], frame["denied"])
    check(model, contract=contract, frame=frame, rows=rows_of(frame), directory=tmp_path)
    imputer = SimpleImputer(missing_values=None, strategy="constant", fill_value="none", add_indicator=True)
    model = make_pipeline(columns(SimpleImputer(), make_pipeline(imputer, one_hot())), logistic())
    model.fit(frame[INPUTS], frame["denied"])
    check(model, contract=contract, frame=frame, rows=rows_of(frame), directory=tmp_path)


def test_columns_can_be_chosen_in_every_way(
    contract: Contract, table: pd.DataFrame, rows_of: Callable[..., Any], tmp_path: Path
) -> None:
    frame = table[["region", *NUMBERS, "purpose", "id"]]
    inner = ColumnTransformer([("scaled", StandardScaler(), slice("ratio", "years"))], remainder="passthrough")
    prepare = ColumnTransformer(
        [
            ("nested", make_pipeline(SimpleImputer().set_output(transform="pandas"), inner), slice(1, 4)),
            ("mask", SimpleImputer(), [False, False, False, False, True, False, False]),
            ("one", codes(), make_column_selector("purpose")),
            ("last", one_hot(), [-7]),
            ("again", "passthrough", ["married"]),
            ("nothing", StandardScaler(), []),
            ("dropped", "drop", ["income"]),
        ]
    )
    model = Pipeline([("prepare", prepare), ("skip", "passthrough"), ("model", PREDICTORS["hist"]())])
    model.fit(frame, table["denied"])
    with_id = contract.model_copy(
        update={"inputs": (*contract.inputs, contract.inputs[4].model_copy(update={"name": "id"}))}
    )
    plan = compile_plan(model, inputs=with_id.inputs)
    np.testing.assert_allclose(plan.score_columns(table), model.predict_proba(frame)[:, 1], rtol=0, atol=1e-12)
    assert [column.source for column in plan.columns[:4]] == ["ratio", "years", "income", "married"]


def test_a_numeric_input_can_be_one_hot_encoded(
    contract: Contract, table: pd.DataFrame, rows_of: Callable[..., Any], tmp_path: Path
) -> None:
    frame = table.assign(years=table["years"] % 3)
    prepare = ColumnTransformer(
        [("years", one_hot(), ["years", "married"]), ("text", one_hot(), CATEGORIES)], remainder=SimpleImputer()
    )
    model = make_pipeline(prepare, logistic()).fit(frame[INPUTS], frame["denied"])
    seen = frame.assign(years=frame["years"].where(frame.index % 5 > 0, 17.0))
    plan = check(model, contract=contract, frame=seen, rows=rows_of(seen), directory=tmp_path)
    marks = [(column.level, column.missing) for column in plan.columns if column.source == "years"]
    assert marks == [("0.0", False), ("1.0", False), ("2.0", False), (None, True)]


def test_a_model_fitted_on_arrays_takes_the_inputs_by_position(contract: Contract, table: pd.DataFrame) -> None:
    only = contract.inputs[:4]
    frame = table[["income", "ratio", "years", "married"]]
    model = PREDICTORS["hist"]().fit(frame.to_numpy(), table["denied"])
    scores = compile_plan(model, inputs=only).score_columns(frame)
    np.testing.assert_allclose(scores, model.predict_proba(frame.to_numpy())[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("predictor", ["hist", "forest", "logistic", "lightgbm"])
def test_the_positive_class_may_be_the_models_first(predictor: str, contract: Contract, table: pd.DataFrame) -> None:
    labels = np.where(table["denied"] == 1, "bad", "good")
    model = make_pipeline(PREPARED["one-hot"](), PREDICTORS[predictor]()).fit(table[INPUTS], labels)
    plan = compile_plan(model, inputs=contract.inputs, positive="bad")
    np.testing.assert_allclose(plan.score_columns(table), model.predict_proba(table[INPUTS])[:, 0], rtol=0, atol=1e-12)
    row = {name: None if value != value else value for name, value in table[INPUTS].iloc[0].items()}
    assert plan.score(row) == plan.score_columns(table)[0]
    assert np.sign(plan.margin(row) - (0.5 if plan.link == "identity" else 0)) == np.sign(plan.score(row) - 0.5)


def test_boosters_stop_at_their_best_round(contract: Contract, table: pd.DataFrame) -> None:
    prepared = native().fit_transform(table[INPUTS])
    train, test = slice(0, 250), slice(250, None)
    labels = table["denied"].to_numpy()
    early = xgboost.XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=2)
    early.fit(prepared[train], labels[train], eval_set=[(prepared[test], labels[test])], verbose=False)
    stops = [lightgbm.early_stopping(2, verbose=False)]
    light = lightgbm.LGBMClassifier(n_estimators=60, n_jobs=1, verbose=-1)
    light.fit(prepared[train], labels[train], eval_X=prepared[test], eval_y=labels[test], callbacks=stops)
    assert early.best_iteration < 50
    assert light.best_iteration_ < 50
    for last in (early, light):
        model = Pipeline([("prepare", native().fit(table[INPUTS])), ("model", last)])
        with warnings.catch_warnings():
            # LightGBM was fitted on an array above and is given one here; its wrapper names the columns itself.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            expected = model.predict_proba(table[INPUTS])[:, 1]
        plan = compile_plan(model, inputs=contract.inputs)
        assert np.max(np.abs(plan.score_columns(table) - expected)) <= plan.tolerance


class Own(StandardScaler):
    """A transformer that may do anything."""


class OwnModel(ClassifierMixin):
    classes_ = np.array([0, 1])
    n_features_in_ = 6

    def predict_proba(self, rows: Any) -> Any:
        raise NotImplementedError


NUMERIC = ColumnTransformer([("numbers", "passthrough", NUMBERS)])
IMPUTED = ColumnTransformer([("numbers", SimpleImputer(), NUMBERS)])
HIST = PREDICTORS["hist"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: make_pipeline(NUMERIC, Own(), HIST()), "model → own: no exact plan is known for Own"),
        (
            lambda: make_pipeline(IMPUTED, PolynomialFeatures(), HIST()),
            "model → polynomialfeatures: no exact plan is known for PolynomialFeatures",
        ),
        (
            lambda: make_pipeline(IMPUTED, FunctionTransformer(np.log1p), HIST()),
            r"model → functiontransformer: no exact plan is known for FunctionTransformer\(log1p\)",
        ),
        (
            lambda: make_pipeline(
                ColumnTransformer([("a", make_pipeline(SimpleImputer(missing_values=-1)), NUMBERS)]), HIST()
            ),
            "model → columntransformer → a → simpleimputer: .* missing_values=-1. Next: declare the value as",
        ),
        (
            lambda: make_pipeline(
                ColumnTransformer([("a", "passthrough", NUMBERS)], transformer_weights={"a": 2.0}), HIST()
            ),
            "model → columntransformer: no exact plan is known for transformer_weights",
        ),
        (
            lambda: make_pipeline(IMPUTED, CalibratedClassifierCV(logistic(), cv=2)),
            "model → calibratedclassifiercv: no exact plan is known for CalibratedClassifierCV",
        ),
        (
            lambda: make_pipeline(IMPUTED, GradientBoostingClassifier(n_estimators=3, loss="exponential")),
            r"model → gradientboostingclassifier: .*loss='exponential'\) gives no log-odds",
        ),
        (
            lambda: make_pipeline(IMPUTED, GradientBoostingClassifier(n_estimators=3, init=logistic())),
            "model → gradientboostingclassifier: treelite cannot read this .*: Custom init estimator not supported",
        ),
        (
            lambda: make_pipeline(
                columns(SimpleImputer(), OneHotEncoder(), sparse_threshold=1.0), PREDICTORS["xgboost"]()
            ),
            "model → xgbclassifier: XGBoost reads the zeros of sparse rows as missing. Next: .*sparse_output=False",
        ),
        (
            lambda: make_pipeline(NUMERIC, xgboost.XGBClassifier(n_estimators=3, missing=-1.0)),
            "model → xgbclassifier: no exact plan is known for missing=-1.0",
        ),
        (
            lambda: make_pipeline(NUMERIC, xgboost.XGBClassifier(n_estimators=3, booster="gblinear")),
            "model → xgbclassifier: treelite cannot read this XGBClassifier",
        ),
        (
            lambda: make_pipeline(
                native(),
                xgboost.XGBClassifier(
                    n_estimators=3, enable_categorical=True, feature_types=["q", "q", "q", "q", "c", "c"]
                ),
            ),
            "model → xgbclassifier: no exact plan is known for XGBoost's own categories",
        ),
        (
            lambda: make_pipeline(NUMERIC, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, zero_as_missing=True)),
            "model → lgbmclassifier: no exact plan is known for zero_as_missing or linear_tree",
        ),
        (
            lambda: make_pipeline(NUMERIC, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, sigmoid=0.5)),
            "model → lgbmclassifier: its objective gives no plain log-odds",
        ),
    ],
)
def test_what_has_no_exact_plan_is_named_with_its_place(
    model: Callable[[], Any], reason: str, contract: Contract, table: pd.DataFrame
) -> None:
    frame = table[INPUTS]
    if "missing_values" in reason:
        frame = frame.fillna(dict.fromkeys(NUMBERS, -1.0))
    with pytest.raises(NotCompilableError, match=reason):
        compile_plan(model().fit(frame, table["denied"]), inputs=contract.inputs)


def test_a_predictor_fitted_in_single_precision_is_refused(contract: Contract, table: pd.DataFrame) -> None:
    rows = SimpleImputer().fit_transform(table[NUMBERS]).astype(np.float32)
    model = logistic().fit(rows, table["denied"])
    with pytest.raises(NotCompilableError, match="was fitted in float32, a plan computes in float64"):
        compile_plan(model, inputs=contract.inputs[:4])


def test_text_that_reaches_the_predictor_is_refused(contract: Contract, table: pd.DataFrame) -> None:
    model = Pipeline([("prepare", "passthrough"), ("model", HIST().fit(table[NUMBERS].to_numpy(), table["denied"]))])
    with pytest.raises(NotCompilableError, match="model: HistGradientBoostingClassifier is given categories as text"):
        compile_plan(model, inputs=(*contract.inputs[:3], contract.inputs[4]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            lambda x, y: logistic().fit(x, y % 3),
            r"expected a fitted classifier of two classes, got \[0, 1, 2\]",
        ),
        (
            lambda x, y: logistic(),
            r"expected a fitted classifier of two classes, got \[\]",
        ),
        (lambda x, y: OwnModel(), "model → OwnModel: no exact plan is known for OwnModel"),
        (lambda x, y: HIST().fit(x, y % 2), "the model was fitted on 3 columns, the contract has 6 inputs"),
        (
            lambda x, y: HIST().fit(pd.DataFrame(x, columns=["ratio", "race", "sex"]), y % 2),
            "the model was fitted on columns that the contract lacks: race, sex",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_contract_is_refused(
    model: Callable[..., Any], reason: str, contract: Contract
) -> None:
    rows = np.random.default_rng(0).random((60, 3))
    with pytest.raises(NotCompilableError, match=reason):
        compile_plan(model(rows, np.arange(60)), inputs=contract.inputs)


def test_a_positive_class_that_the_model_does_not_know_is_named(contract: Contract, table: pd.DataFrame) -> None:
    model = make_pipeline(PREPARED["one-hot"](), logistic()).fit(table[INPUTS], table["denied"])
    with pytest.raises(NotCompilableError, match=r"target.positive is 'yes', the classes are \[0, 1\]"):
        compile_plan(model, inputs=contract.inputs, positive="yes")


def test_parts_that_do_not_fit_together_are_refused(contract: Contract, table: pd.DataFrame) -> None:
    scaler = StandardScaler().fit(table[NUMBERS[:2]].to_numpy())
    last = HIST().fit(table[NUMBERS].to_numpy(), table["denied"])
    with pytest.raises(NotCompilableError, match="model → scale: was fitted on 2 columns, is given 4"):
        compile_plan(Pipeline([("skip", None), ("scale", scaler), ("model", last)]), inputs=contract.inputs[:4])
    chosen = ColumnTransformer([("two", "passthrough", [0, 1])]).fit(table[NUMBERS].to_numpy())
    with pytest.raises(NotCompilableError, match="model → model: was fitted on 4 columns, is given 2"):
        compile_plan(Pipeline([("choose", chosen), ("model", last)]), inputs=contract.inputs[:4])


def test_missing_categories_of_two_kinds_are_refused(contract: Contract, table: pd.DataFrame) -> None:
    frame = table.astype({"region": object})
    frame["region"] = frame["region"].where(frame["region"].notna(), None)
    model = make_pipeline(columns(SimpleImputer(), one_hot()), logistic()).fit(frame[INPUTS], frame["denied"])
    with pytest.raises(NotCompilableError, match="missing categories as None and as NaN; make them one"):
        compile_plan(model, inputs=contract.inputs)


def test_an_indicator_of_another_kind_of_missing_value_is_refused(contract: Contract, table: pd.DataFrame) -> None:
    frame = table.astype(dict.fromkeys(CATEGORIES, object))
    imputer = SimpleImputer(strategy="constant", fill_value="none", add_indicator=True).fit(frame[CATEGORIES])
    encoder = one_hot().fit(frame[CATEGORIES].where(frame[CATEGORIES].notna(), None))
    texts = Pipeline([("fill", imputer), ("encode", encoder)])
    prepare = columns(SimpleImputer(), "drop").fit(frame[INPUTS])
    prepare.transformers_[1] = ("texts", texts, CATEGORIES)
    model = Pipeline([("prepare", prepare), ("model", logistic())])
    model.steps[1][1].classes_ = np.array([0, 1])
    with pytest.raises(NotCompilableError, match=r"fill: .*looks for another kind of missing value than it is given"):
        compile_plan(model, inputs=contract.inputs)


def test_a_column_without_any_value_is_dropped_as_the_imputer_does(contract: Contract, table: pd.DataFrame) -> None:
    frame = table.assign(years=np.nan)
    with warnings.catch_warnings():
        # The imputer says that it skips the column; that is what is compared.
        warnings.filterwarnings("ignore", message="Skipping features without any observed values")
        model = make_pipeline(IMPUTED, logistic()).fit(frame[INPUTS], frame["denied"])
        expected = model.predict_proba(frame[INPUTS])[:, 1]
    plan = compile_plan(model, inputs=contract.inputs)
    np.testing.assert_allclose(plan.score_columns(frame), expected, rtol=0, atol=1e-12)
    assert [column.source for column in plan.columns] == ["income", "ratio", "married"]
    kept = ColumnTransformer([("numbers", SimpleImputer(keep_empty_features=True), NUMBERS)])
    model = make_pipeline(kept, logistic()).fit(frame[INPUTS], frame["denied"])
    scores = compile_plan(model, inputs=contract.inputs).score_columns(frame)
    np.testing.assert_allclose(scores, model.predict_proba(frame[INPUTS])[:, 1], rtol=0, atol=1e-12)
