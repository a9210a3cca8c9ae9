import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from xgboost import XGBClassifier

from nbkit.contract import Input
from nbkit.errors import ContractViolationError, PackageError
from nbkit.package import Attribution, Contributions, compile_plan
from nbkit.package._engines import LinearEngine
from nbkit.package._plan import Plan
from nbkit.package._rows import PlanColumn, PlanInput

with warnings.catch_warnings():
    # shap still sets the ends of its colour maps by methods that matplotlib is about to deprecate.
    warnings.filterwarnings("ignore", category=PendingDeprecationWarning, message=r"The set_(bad|over|under) function")
    import shap

NUMBERS = ["amount", "income", "age", "late"]
INPUTS = [
    *(Input(name=name, type="number", nullable=True) for name in NUMBERS),
    Input(name="purpose", type="category", categories=("home", "car", "other"), nullable=True),
]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(rng.normal(size=(600, 4)), columns=NUMBERS)
    rows["late"] = rng.integers(0, 4, 600).astype(float)
    rows[NUMBERS] = rows[NUMBERS].mask(rng.random((600, 4)) < 0.05)
    rows["purpose"] = pd.Series(rng.choice(["home", "car", "other"], 600), dtype=object)
    rows.loc[rng.random(600) < 0.05, "purpose"] = None
    return rows


@pytest.fixture(scope="module")
def labels(frame) -> np.ndarray:
    known = frame[NUMBERS].fillna(0)
    risk = known["amount"] - known["income"] * known["age"] + known["late"] + (frame["purpose"] == "car")
    return (risk + np.random.default_rng(4).normal(size=len(frame)) > 1.5).to_numpy().astype(int)


def one_hot(*, impute=False):
    steps = [SimpleImputer(strategy="median"), StandardScaler()] if impute else []
    numbers = Pipeline([(type(s).__name__, s) for s in steps]) if steps else "passthrough"
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("purpose", encode, ["purpose"])])


def fitted(model, frame, labels, *, before):
    return Pipeline([("before", before), ("model", model)]).fit(frame, labels)


def rows_of(frame):
    for values in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {k: float("nan") if v is None and k in NUMBERS else v for k, v in values.items()}


def by_shap(pipeline, frame):
    rows = pipeline[:-1].transform(frame)
    explainer = shap.TreeExplainer(pipeline[-1], feature_perturbation="tree_path_dependent")
    values, base = explainer.shap_values(rows, check_additivity=False), explainer.expected_value
    return (values[:, :, 1], base[1]) if np.ndim(values) == 3 else (values, np.ravel(base)[0])


MODELS = {
    "hgb": (HistGradientBoostingClassifier(max_iter=20, early_stopping=False), one_hot(), 1e-9),
    "forest": (RandomForestClassifier(15, max_depth=6, random_state=0, n_jobs=1), one_hot(impute=True), 1e-9),
    "boosting": (GradientBoostingClassifier(n_estimators=20, random_state=0), one_hot(impute=True), 1e-9),
    "lightgbm": (LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1), one_hot(), 1e-9),
    # For XGBoost shap asks the library itself, which adds up in float32.
    "xgboost": (XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1), one_hot(), 2e-5),
}


@pytest.mark.parametrize("name", MODELS)
def test_trees_are_explained_as_shap_explains_the_fitted_model(name, frame, labels):
    model, before, tolerance = MODELS[name]
    with warnings.catch_warnings():
        # LightGBM and scikit-learn disagree on whether an array has feature names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        # shap announces the shape that it returns for LightGBM at every call.
        warnings.filterwarnings("ignore", message="LightGBM binary classifier with TreeExplainer")
        pipeline = fitted(model, frame, labels, before=before)
        expected, base = by_shap(pipeline, frame[:40])
        plan = compile_plan(pipeline, inputs=INPUTS)
        contributions = Contributions.from_plan(plan, background=None)
        margins = (
            pipeline.predict_proba(frame[:40])[:, 1]
            if name == "forest"
            else np.array([-np.log(1 / p - 1) for p in pipeline.predict_proba(frame[:40])[:, 1].astype(float)])
        )
    got = [contributions.explain(row) for row in rows_of(frame[:40])]
    np.testing.assert_allclose([a.by_column for a in got], expected, atol=tolerance)
    assert contributions.base == pytest.approx(base, abs=1e-6)
    np.testing.assert_allclose([a.base + sum(a.by_input.values()) for a in got], margins, atol=max(tolerance, 1e-9))
    assert {a.scale for a in got} == {"probability" if name == "forest" else "log-odds"}


def test_one_hot_columns_are_added_back_to_their_input(frame, labels):
    plan = compile_plan(fitted(*MODELS["hgb"][:1], frame, labels, before=one_hot()), inputs=INPUTS)
    contributions = Contributions.from_plan(plan, background=None)
    attribution = contributions.explain(next(rows_of(frame)))
    levels = [value for c, value in zip(plan.columns, attribution.by_column, strict=True) if c.source == "purpose"]
    assert len(levels) == 4
    assert attribution.by_input["purpose"] == pytest.approx(sum(levels), abs=1e-14)
    assert list(attribution.by_input) == [*NUMBERS, "purpose"]


def test_tables_are_explained_as_their_rows_are(frame, labels):
    plan = compile_plan(fitted(*MODELS["hgb"][:1], frame, labels, before=one_hot()), inputs=INPUTS)
    contributions = Contributions.from_plan(plan, background=None)
    assert contributions.explain_columns(frame[:20]) == tuple(map(contributions.explain, rows_of(frame[:20])))
    refusing = Contributions.from_plan(linear(), background=np.array([[3.0]]))
    with pytest.raises(ContractViolationError, match=r"\$\.amount: missing"):
        refusing.explain_columns({"amount": [1.0, float("nan")]})


def test_native_categories_add_up_to_the_fitted_models_log_odds(frame, labels):
    # shap is off by whole log-odds here, without an error.
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    before = ColumnTransformer([("purpose", encode, ["purpose"]), ("numbers", "passthrough", NUMBERS)])
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, categorical_features=[0])
    pipeline = fitted(model, frame, labels, before=before)
    contributions = Contributions.from_plan(compile_plan(pipeline, inputs=INPUTS), background=None)
    margins = pipeline.decision_function(frame[:60])
    for row, margin in zip(rows_of(frame[:60]), margins, strict=True):
        attribution = contributions.explain(row)
        assert attribution.base + sum(attribution.by_input.values()) == pytest.approx(margin, abs=1e-9)


def test_a_linear_model_is_compared_with_the_mean_of_its_background(frame, labels):
    known = frame.dropna()
    pipeline = fitted(LogisticRegression(), known, labels[known.index], before=one_hot(impute=True))
    plan = compile_plan(pipeline, inputs=INPUTS)
    background = plan.transform_columns(known[:100])
    contributions = Contributions.from_plan(plan, background=background)
    attribution = contributions.explain(next(rows_of(known)))
    cells = pipeline[:-1].transform(known[:1])[0]
    expected = pipeline[-1].coef_[0] * (cells - background.mean(axis=0))
    np.testing.assert_allclose(attribution.by_column, expected, atol=1e-12)
    assert attribution.base + sum(attribution.by_column) == pytest.approx(pipeline.decision_function(known[:1])[0])


def test_the_other_class_is_explained_with_the_signs_turned(frame, labels):
    pipeline = fitted(MODELS["hgb"][0], frame, labels, before=one_hot())
    row = next(rows_of(frame))
    one, zero = (
        Contributions.from_plan(compile_plan(pipeline, inputs=INPUTS, positive=positive), background=None).explain(row)
        for positive in (1, 0)
    )
    assert zero.margin == -one.margin
    assert zero.base == -one.base
    assert zero.by_input == {name: -value for name, value in one.by_input.items()}


def linear(coefficient=2.0) -> Plan:
    return Plan(
        family="LogisticRegression",
        tolerance=1e-12,
        inputs=[PlanInput(name="amount", type="number")],
        columns=[PlanColumn(source="amount")],
        engine=LinearEngine(coefficients=(coefficient,), intercept=1.0),
    )


@pytest.mark.parametrize(
    ("background", "text"),
    [
        (None, "reasons of a linear model need a background sample, and the package holds none"),
        (np.zeros((0, 1)), "reasons of a linear model need a background sample, and the package holds none"),
        (np.zeros((3, 2)), "background: expected 1 columns, got 2"),
        (np.array([[1.0], [np.nan]]), "background: expected finite values only"),
    ],
)
def test_a_linear_model_needs_a_background_that_fits(background, text):
    with pytest.raises(PackageError) as caught:
        Contributions.from_plan(linear(), background=background)
    assert str(caught.value) == text


def test_a_missing_value_is_refused_where_the_model_refuses_it():
    contributions = Contributions.from_plan(linear(), background=np.array([[3.0]]))
    assert contributions.explain({"amount": 5.0}) == Attribution(
        base=7.0, margin=11.0, by_input={"amount": 4.0}, by_column=(4.0,)
    )
    with pytest.raises(ContractViolationError, match=r"\$\.amount: missing"):
        contributions.explain({"amount": float("nan")})


def test_contributions_that_do_not_add_up_are_never_given():
    right, wrong = (Contributions.from_plan(linear(c), background=np.array([[3.0]])) for c in (2.0, 9.0))
    mixed = Contributions(plan=linear(), base=wrong.base, explain=np.array([3.0]))
    assert right.explain({"amount": 5.0}).margin == 11.0
    with pytest.raises(PackageError) as caught:
        mixed.explain({"amount": 5.0})
    assert str(caught.value) == "contributions do not add up to the margin 11.0: they are 21 off"


def test_explaining_on_the_request_path_loads_no_heavy_library():
    code = (
        "import sys; from nbkit.package import Contributions, ReasonBook, principal_reasons;"
        "print(sorted({'pandas', 'sklearn', 'shap', 'skops', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
