"""A subtly wrong plan must be caught: plans are sabotaged here, one detail at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import treelite
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from nbkit.contract import Contract, Thresholds
from nbkit.errors import PackageError
from nbkit.package import Plan, compile_plan, measure_parity
from nbkit.package._engines import LinearEngine, TreeEngine
from nbkit.package._parity import Parity, check_fitted
from nbkit.package._steps import Arithmetic, Fill, Lookup

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]
LIMITS = Thresholds(refer=0.4, decline=0.6)


@pytest.fixture(scope="module")
def hist(table: pd.DataFrame, prepared: Callable[..., Pipeline]) -> Pipeline:
    return prepared(HistGradientBoostingClassifier(max_iter=12, early_stopping=False)).fit(
        table[INPUTS], table["denied"]
    )


@pytest.fixture(scope="module")
def forest(table: pd.DataFrame) -> Pipeline:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer([("codes", codes, ["purpose", "region"])], remainder="passthrough")
    return make_pipeline(prepare, RandomForestClassifier(10, random_state=0)).fit(table[INPUTS], table["denied"])


@pytest.fixture
def measure(table: pd.DataFrame, contract: Contract) -> Callable[..., Parity]:
    def measure(model: object, plan: Plan, **changes: Any) -> Parity:
        given: dict[str, Any] = {"frame": table, "contract": contract, "thresholds": LIMITS}
        return measure_parity(model, plan, **(given | changes))

    return measure


def altered(plan: Plan, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "family": plan.family,
        "tolerance": plan.tolerance,
        "inputs": plan._inputs,
        "columns": plan.columns,
        "engine": plan.engine,
        "sign": plan.sign,
    }
    return Plan(**(fields | changes))


def trees_with(plan: Plan, *, tree: int, field: str, change: Callable[[Any], None]) -> Plan:
    engine = plan.engine
    assert isinstance(engine, TreeEngine)
    trees = treelite.Model.deserialize_bytes(engine.trees.serialize_bytes())
    accessor = trees.get_tree_accessor(tree)
    values = accessor.get_field(field).copy()
    change(values)
    accessor.set_field(field, values)
    return altered(plan, engine=dataclasses.replace(engine, trees=trees))


def test_an_honest_plan_passes_on_rows_of_every_kind(hist: Pipeline, contract: Contract, measure: Any) -> None:
    parity = measure(hist, compile_plan(hist, inputs=contract.inputs))
    assert parity.passed
    assert parity.max_abs <= 1e-15
    assert min(parity.at_threshold_rows, parity.edge_rows, parity.split_rows) > 20
    assert parity.rows == 400 + parity.at_threshold_rows + parity.edge_rows + parity.split_rows
    assert parity.reason.startswith("the plan differs from the fitted model by at most ")
    assert parity.reason.endswith("within 1e-12")
    assert set(parity.to_json()) >= {"rows", "max_abs", "tolerance", "passed", "worst"}


def test_rows_at_the_thresholds_stand_on_both_sides_of_them(
    hist: Pipeline, contract: Contract, table: pd.DataFrame, rows_of: Any
) -> None:
    from nbkit.package._probes import threshold_rows

    plan = compile_plan(hist, inputs=contract.inputs)
    found = threshold_rows(rows_of(table), plan=plan, scores=plan.score_columns(table), thresholds=LIMITS)
    scores = np.array([plan.score(row) for row in found])
    for limit in (LIMITS.refer, LIMITS.decline):
        assert (scores < limit).any()
        assert (scores >= limit).any()
    assert len(found) == 48


def test_a_root_split_moved_by_one_billionth_is_caught(hist: Pipeline, contract: Contract, measure: Any) -> None:
    def move(thresholds: Any) -> None:
        thresholds[0] *= 1 + 1e-9

    parity = measure(
        hist, trees_with(compile_plan(hist, inputs=contract.inputs), tree=0, field="threshold", change=move)
    )
    assert not parity.passed
    assert parity.worst["kind"] == "split point"
    assert "above 1e-12 (split point row: number" in parity.reason


def test_a_leaf_that_is_off_by_a_billionth_is_caught(hist: Pipeline, contract: Contract, measure: Any) -> None:
    def move(values: Any) -> None:
        values += 1e-9

    assert not measure(
        hist, trees_with(compile_plan(hist, inputs=contract.inputs), tree=3, field="leaf_value", change=move)
    ).passed


def test_missing_values_sent_the_other_way_are_caught(contract: Contract, table: pd.DataFrame, measure: Any) -> None:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    prepare = ColumnTransformer([("codes", codes, ["purpose", "region"])], remainder="passthrough")
    model = make_pipeline(prepare, HistGradientBoostingClassifier(max_iter=5, early_stopping=False))
    plan = compile_plan(model.fit(table[INPUTS], table["denied"]), inputs=contract.inputs)
    assert measure(model, plan).passed

    def turn(ways: Any) -> None:
        ways[0] = not ways[0]

    assert not measure(model, trees_with(plan, tree=0, field="default_left", change=turn)).passed


def test_rows_in_the_wrong_precision_are_caught_both_ways(
    hist: Pipeline, forest: Pipeline, contract: Contract, measure: Any
) -> None:
    for model, wrong in ((forest, "float64"), (hist, "float32")):
        plan = compile_plan(model, inputs=contract.inputs)
        assert measure(model, plan).passed
        parity = measure(model, altered(plan, engine=dataclasses.replace(plan.engine, row_type=wrong)))
        assert not parity.passed
        assert parity.max_abs > 1e-4


@pytest.mark.parametrize("wrong", ["imputed value", "scale", "level", "swapped columns", "sign", "unseen", "missing"])
def test_wrong_preprocessing_is_caught(
    wrong: str, contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline], measure: Any
) -> None:
    model = prepared(LogisticRegression()).fit(table[INPUTS], table["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    columns = list(plan.columns)
    if wrong == "swapped columns":
        columns[0], columns[1] = columns[1], columns[0]
    for place, column in enumerate(columns):
        steps = [_sabotage(step, wrong=wrong) for step in column.steps]
        columns[place] = dataclasses.replace(column, steps=tuple(steps))
    assert not measure(model, altered(plan, columns=columns, sign=-1 if wrong == "sign" else 1)).passed


def _sabotage(step: Any, *, wrong: str) -> Any:
    match step:
        case Fill(value=float() as value) if wrong == "imputed value":
            return Fill(value=value + 1e-6)
        case Fill(value=str()) if wrong == "missing":
            return Fill(value="elsewhere")
        case Arithmetic(kind="divide", value=value) if wrong == "scale":
            return Arithmetic(kind="multiply", value=1 / value + 1e-8)
        case Lookup(values=values) if wrong == "level" and "west" in values:
            return dataclasses.replace(step, values={"east": 1.0})
        case Lookup(values=values) if wrong == "unseen" and "west" in values:
            return dataclasses.replace(step, unknown=1.0)
    return step


def test_xgboost_is_held_to_its_own_tolerance(contract: Contract, table: pd.DataFrame, measure: Any) -> None:
    xgboost = pytest.importorskip("xgboost")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    prepare = ColumnTransformer([("codes", codes, ["purpose", "region"])], remainder="passthrough")
    model = make_pipeline(prepare, xgboost.XGBClassifier(n_estimators=20, n_jobs=1)).fit(table[INPUTS], table["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    assert measure(model, plan).passed
    assert not measure(model, altered(plan, tolerance=1e-12)).passed


def test_a_plan_that_answers_where_the_model_refuses_is_caught(
    contract_with: Callable[..., Contract], table: pd.DataFrame, measure: Any
) -> None:
    contract = contract_with(inputs=[_category("purpose"), {"name": "married", "type": "boolean"}])
    frame = table.assign(purpose=table["purpose"].fillna("car"))
    prepare = ColumnTransformer([("text", OneHotEncoder(), ["purpose"])], remainder="passthrough")
    model = make_pipeline(prepare, LogisticRegression()).fit(frame[["purpose", "married"]], frame["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    parity = measure(model, plan, frame=frame, contract=contract)
    assert parity.passed
    columns = [dataclasses.replace(c, steps=tuple(_lenient(s) for s in c.steps)) for c in plan.columns]
    parity = measure(model, altered(plan, columns=columns), frame=frame, contract=contract)
    assert (parity.passed, parity.max_abs) == (False, 1.0)
    assert (parity.worst["row"], parity.worst["model"]) == ("purpose unseen", None)


def _category(name: str) -> dict[str, object]:
    return {"name": name, "type": "category", "categories": ["car", "home", "study"]}


def _lenient(step: Any) -> Any:
    return dataclasses.replace(step, unknown=0.0) if isinstance(step, Lookup) else step


def test_a_model_that_cannot_score_what_its_contract_allows_is_refused(
    contract_with: Callable[..., Contract], table: pd.DataFrame
) -> None:
    nullable = {**_category("purpose"), "nullable": True, "categories": ["car", "home", "study", "boat"]}
    contract = contract_with(inputs=[nullable, {"name": "married", "type": "boolean"}])
    frame = table.assign(purpose=table["purpose"].fillna("car"))
    prepare = ColumnTransformer([("text", OneHotEncoder(), ["purpose"])], remainder="passthrough")
    model = make_pipeline(prepare, LogisticRegression()).fit(frame[["purpose", "married"]], frame["denied"])
    with pytest.raises(PackageError, match="cannot score rows that its contract allows: 3 problems") as caught:
        measure_parity(
            model, compile_plan(model, inputs=contract.inputs), frame=frame, contract=contract, thresholds=LIMITS
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "everything nullable missing",
        "purpose missing",
        "purpose = 'boat'",
    ]
    assert caught.value.next_step.startswith("add an imputer or handle_unknown")
    with pytest.raises(PackageError, match="cannot score rows that its contract allows"):
        check_fitted(model, frame=frame, contract=contract)


def test_a_model_without_a_plan_must_score_contract_rows_as_it_scores_its_own(
    contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline]
) -> None:
    model = prepared(LogisticRegression()).fit(table[INPUTS], table["denied"])
    check_fitted(model, frame=table, contract=contract)
    other = table.astype({"purpose": object})
    other["purpose"] = other["purpose"].where(other["purpose"].notna(), None)
    with pytest.raises(PackageError, match=r"the fitted model's scores change by .* when the frame is made"):
        check_fitted(model, frame=other, contract=contract)


def test_nothing_to_compare_is_no_parity(hist: Pipeline, contract: Contract, table: pd.DataFrame, measure: Any) -> None:
    plan = compile_plan(hist, inputs=contract.inputs)
    with pytest.raises(PackageError, match="parity: expected at least one row to compare, got none"):
        measure(hist, plan, frame=table.head(0))
    with pytest.raises(PackageError, match=r"the table: 1 problem: \$\.ratio: missing"):
        measure(hist, plan, frame=table.drop(columns="ratio"))


def test_an_input_that_is_always_missing_still_has_edges(
    contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline], measure: Any
) -> None:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    prepare = ColumnTransformer([("codes", codes, ["purpose", "region"])], remainder="passthrough")
    model = make_pipeline(prepare, HistGradientBoostingClassifier(max_iter=3, early_stopping=False))
    model.fit(table[INPUTS], table["denied"])
    frame = table.assign(years=np.nan, purpose=pd.Series([None] * len(table), dtype="str"))
    assert measure(model, compile_plan(model, inputs=contract.inputs), frame=frame).passed


def test_thresholds_beyond_every_score_give_the_nearest_rows_alone(
    hist: Pipeline, contract: Contract, measure: Any
) -> None:
    parity = measure(hist, compile_plan(hist, inputs=contract.inputs), thresholds=Thresholds(refer=0, decline=1))
    assert (parity.passed, parity.at_threshold_rows) == (True, 12)


def test_many_split_points_are_drawn_from(contract: Contract, table: pd.DataFrame, measure: Any) -> None:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer([("codes", codes, ["purpose", "region"])], remainder="passthrough")
    model = make_pipeline(prepare, RandomForestClassifier(40, random_state=0)).fit(table[INPUTS], table["denied"])
    parity = measure(model, compile_plan(model, inputs=contract.inputs))
    assert (parity.passed, parity.split_rows) == (True, 1200)


def test_a_split_point_is_brought_back_through_the_steps() -> None:
    from nbkit.package._probes import _undo

    def steps(*pairs: Any) -> list[Any]:
        return [Arithmetic(kind=kind, value=value) for kind, value in pairs]

    assert _undo([Fill(value=3.0), *steps(("subtract", 2.0), ("divide", 4.0))], 1.0) == 6.0
    assert _undo(steps(("multiply", 2.0), ("add", 1.0)), 7.0) == 3.0
    assert _undo(steps(("multiply", 0.0)), 7.0) is None
    refused = Lookup(values={}, other=0.0, domain=frozenset(), missing=0.0, unknown=0.0)
    assert _undo([refused], 1.0) is None
    assert _undo([], float("inf")) is None


def test_a_linear_plan_with_one_wrong_coefficient_is_caught(
    contract: Contract, table: pd.DataFrame, prepared: Callable[..., Pipeline], measure: Any
) -> None:
    model = prepared(LogisticRegression()).fit(table[INPUTS], table["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    assert isinstance(plan.engine, LinearEngine)
    first, *rest = plan.engine.coefficients
    wrong = dataclasses.replace(plan.engine, coefficients=(first + 1e-9, *rest))
    assert not measure(model, altered(plan, engine=wrong)).passed
