from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.contract import Contract
from nbkit.errors import ContractViolationError, PackageError
from nbkit.package import Plan, compile_plan
from nbkit.package._engines import LinearEngine, TreeEngine, sigmoid
from nbkit.package._plan import PLAN_FILE, TREES_FILE
from nbkit.package._rows import PlanColumn, PlanInput

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


@pytest.fixture(scope="module")
def hist(contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline]) -> Plan:
    model = prepared(HistGradientBoostingClassifier(max_iter=10, early_stopping=False))
    return compile_plan(model.fit(table[INPUTS], table["denied"]), inputs=contract.inputs)


@pytest.fixture(scope="module")
def linear(contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline]) -> Plan:
    model = prepared(LogisticRegression())
    return compile_plan(model.fit(table[INPUTS], table["denied"]), inputs=contract.inputs)


@settings(deadline=None, derandomize=True)
@given(margin=st.floats(-800, 800))
def test_the_sigmoid_is_a_probability_and_symmetric(margin: float) -> None:
    assert 0 <= sigmoid(margin) <= 1
    assert sigmoid(margin) + sigmoid(-margin) == pytest.approx(1, abs=1e-15)


def test_score_is_the_sigmoid_of_the_margin(hist: Plan, linear: Plan, table: pd.DataFrame, rows_of: Any) -> None:
    for plan in (hist, linear):
        assert plan.link == "logit"
        for row in rows_of(table)[:20]:
            assert plan.score(row) == sigmoid(plan.margin(row))


def test_the_margin_of_a_forest_is_its_score(
    table: pd.DataFrame, contract: Contract, prepared: Any, rows_of: Any
) -> None:
    model = prepared(RandomForestClassifier(5, random_state=0)).fit(table[INPUTS], table["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    assert plan.link == "identity"
    assert plan.margin(rows_of(table)[0]) == plan.score(rows_of(table)[0])


def test_transformed_rows_are_those_of_the_pipeline(
    table: pd.DataFrame, contract: Contract, prepared: Any, rows_of: Any
) -> None:
    model = prepared(LogisticRegression()).fit(table[INPUTS], table["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    expected = model[:-1].transform(table[INPUTS])
    np.testing.assert_array_equal(plan.transform_columns(table), expected)
    np.testing.assert_array_equal(plan.transform(rows_of(table)[3]), expected[3])
    names = [str(name) for name in model[:-1].get_feature_names_out()]
    assert len(names) == len(plan.columns)
    for name, column in zip(names, plan.columns, strict=True):
        assert column.source in name
        assert column.level is None or name.endswith(f"_{column.level}")
        assert column.missing == ("missingindicator" in name)


def test_a_model_without_missing_values_refuses_them_by_name(contract: Contract, table: pd.DataFrame) -> None:
    names = ["income", "ratio", "years"]
    frame = table[names].dropna()
    labels = table["denied"].loc[frame.index]
    for last in (LogisticRegression(), GradientBoostingClassifier(n_estimators=3)):
        plan = compile_plan(make_pipeline(StandardScaler(), last).fit(frame, labels), inputs=contract.inputs[:3])
        row = {"income": 1.0, "ratio": None, "years": None}
        problem = r"Classifier takes no missing values|LogisticRegression takes no missing values"
        for refused in (plan.score, plan.margin):
            with pytest.raises(ContractViolationError, match=problem) as caught:
                refused(row)
            assert caught.value.problems == ("$.ratio: missing", "$.years: missing")
        with pytest.raises(ContractViolationError, match=problem):
            plan.score_columns({name: [0.5, value] for name, value in row.items()})
        assert plan.score_columns({name: [0.5] for name in row})[0] == plan.score(dict.fromkeys(row, 0.5))


def test_a_score_that_is_no_number_is_an_error_and_no_approval() -> None:
    inputs = [PlanInput(name=name, type="number") for name in "ab"]
    columns = [PlanColumn(source=name) for name in "ab"]
    engine = LinearEngine(coefficients=(1e10, -1e10), intercept=0.0)
    plan = Plan(family="Own", tolerance=0.0, inputs=inputs, columns=columns, engine=engine)
    with pytest.raises(ContractViolationError, match="the score is no number: an input is too large"):
        plan.score({"a": 1e300, "b": 1e300})
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(ContractViolationError, match="the score is no number"),
    ):
        plan.score_columns({"a": [1.0, 1e300], "b": [1.0, 1e300]})


def test_no_rows_give_no_scores(hist: Plan, linear: Plan, table: pd.DataFrame) -> None:
    for plan in (hist, linear):
        assert plan.score_columns(table.head(0)).shape == (0,)


def test_lightgbm_reads_almost_nothing_as_zero() -> None:
    # treelite does not: a split at -1e-35 sends -1e-35 left, LightGBM makes it 0 first.
    lightgbm = pytest.importorskip("lightgbm")
    import treelite

    rows = np.linspace(-1, 1, 200).reshape(-1, 1)
    rows[np.abs(rows) < 0.3] = 0.0
    model = lightgbm.LGBMClassifier(n_estimators=2, n_jobs=1, verbose=-1).fit(rows, (rows[:, 0] >= 0).astype(int))
    edge = float(np.float32(1e-35))
    asked = np.array([[-edge], [edge], [0.0], [-2 * edge]])
    trees = treelite.frontend.from_lightgbm(model.booster_)
    engine = TreeEngine(trees=trees, row_type="float64", takes_missing=True, link="logit", zero_within=edge)
    expected = model.booster_.predict(asked, raw_score=True)
    np.testing.assert_allclose(engine.many(asked), expected, rtol=0, atol=1e-14)
    assert [engine.one(cells) for cells in asked.tolist()] == engine.many(asked).tolist()
    plain = TreeEngine(trees=trees, row_type="float64", takes_missing=True, link="logit")
    assert abs(plain.many(asked)[0] - expected[0]) > 1e-3


def test_a_row_of_the_wrong_width_is_no_row() -> None:
    engine = LinearEngine(coefficients=(1.0, 2.0), intercept=0.0)
    with pytest.raises(ValueError, match="zip"):
        engine.one([1.0])


def test_a_failure_inside_treelite_is_no_score(hist: Plan) -> None:
    engine = hist.engine
    assert isinstance(engine, TreeEngine)
    single, row, outputs, handle, _, one, config = engine._call
    broken = TreeEngine(trees=engine.trees, row_type="float64", takes_missing=True, link="logit")
    object.__setattr__(broken, "_call", (single, row, outputs, handle, b"float16", one, config))
    with pytest.raises(RuntimeError, match="treelite could not evaluate a row of"):
        broken.one([0.0] * engine.trees.num_feature)


def test_a_plan_says_what_it_is(hist: Plan) -> None:
    assert hist.inputs == tuple(INPUTS)
    assert hist.number_inputs == {"income", "ratio", "years", "married"}
    assert hist.family == "HistGradientBoostingClassifier"
    assert (hist.sign, hist.tolerance) == (1, 1e-12)


def test_a_plan_is_canonical_json_and_trees_without_pickle(hist: Plan, linear: Plan, tmp_path: Path) -> None:
    hist.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PLAN_FILE, TREES_FILE]
    assert json.loads((tmp_path / PLAN_FILE).read_bytes())["format"] == 1
    assert list(linear.to_files()) == [PLAN_FILE]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda plan: plan.update(format=2), "expected format 1"),
        (lambda plan: plan.pop("sign"), "'sign'"),
        (lambda plan: plan.update(engine={"kind": "guess"}), "expected an engine, got {'kind': 'guess'}"),
        (lambda plan: plan["columns"][0]["steps"].append({"step": "guess"}), "expected a step of a plan"),
        (lambda plan: plan["domains"].clear(), "list index out of range"),
    ],
)
def test_a_plan_of_another_form_is_refused(change: Callable[[Any], Any], problem: str, hist: Plan) -> None:
    files = hist.to_files()
    document = json.loads(files[PLAN_FILE])
    change(document)
    with pytest.raises(PackageError, match=r"plan\.json: no plan that this version reads") as caught:
        Plan.from_files({**files, PLAN_FILE: json.dumps(document).encode()})
    assert problem in str(caught.value)


def test_a_plan_without_its_files_is_refused(hist: Plan, tmp_path: Path) -> None:
    files = hist.to_files()
    with pytest.raises(PackageError, match=r"trees\.treelite is missing"):
        Plan.from_files({PLAN_FILE: files[PLAN_FILE]})
    with pytest.raises(PackageError, match=r"no plan that this version reads \(expected format 1\)"):
        Plan.from_files({PLAN_FILE: b"[]"})
    with pytest.raises(PackageError, match="no plan that this version reads"):
        Plan.load(tmp_path)


def test_steps_of_every_kind_are_stored(tmp_path: Path) -> None:
    inputs = [PlanInput(name="age", type="number")]
    engine = LinearEngine(coefficients=(1.5,), intercept=-0.25)
    plan = Plan(family="Own", tolerance=0.0, inputs=inputs, columns=[PlanColumn(source="age")], engine=engine, sign=-1)
    plan.save(tmp_path)
    assert Plan.load(tmp_path).score({"age": 2.0}) == plan.score({"age": 2.0}) == 1.0 - sigmoid(2.75)


def test_scoring_starts_no_thread_and_loads_neither_pandas_nor_scikit_learn(hist: Plan, tmp_path: Path) -> None:
    hist.save(tmp_path)
    program = """
        import pathlib, sys
        from nbkit.package import Package, Plan, load_package
        plan = Plan.load(pathlib.Path(sys.argv[1]))
        row = dict.fromkeys(plan.inputs)
        before = len(list(pathlib.Path("/proc/self/task").iterdir()))
        score = plan.score(row)
        assert plan.score_columns({name: [None] for name in plan.inputs}).tolist() == [score]
        assert len(list(pathlib.Path("/proc/self/task").iterdir())) == before
        print(sorted({"mlflow", "pandas", "shap", "sklearn", "skops"} & sys.modules.keys()))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
