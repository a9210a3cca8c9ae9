"""The credit template keeps its promises on all 1,989 real rows."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
import zen

from nbkit.contract import Contract, RowCheck, Stage, parse_contract

TEMPLATE = Path(__file__).parents[3] / "templates" / "credit"


@pytest.fixture(scope="module")
def contract() -> Contract:
    text = (TEMPLATE / "contract.yaml").read_text().replace("__NAME__", "mortgage")
    return parse_contract(text, source="contract.yaml")


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(TEMPLATE / "train.ipynb", as_version=4)


@pytest.fixture(scope="module")
def applications(notebook: nbformat.NotebookNode) -> pd.DataFrame:
    cell = next(cell for cell in notebook.cells if cell.id == "data")
    names: dict[str, object] = {}
    exec(cell.source, names)  # noqa: S102 -- our own notebook's cell
    frame = names["applications"]
    assert isinstance(frame, pd.DataFrame)
    return frame


@pytest.fixture(scope="module")
def decide() -> zen.ZenDecision:
    return zen.ZenEngine().create_decision((TEMPLATE / "rules.json").read_text())


def good_row() -> dict[str, object]:
    inputs = yaml.safe_load((TEMPLATE / "cases/golden/plainly-good.yaml").read_text())["inputs"]
    assert isinstance(inputs, dict)
    return inputs


def ruled(decide: zen.ZenDecision, contract: Contract, phase: str, **changed: object) -> dict[str, object]:
    row = RowCheck(contract).check(good_row() | changed)
    result = decide.evaluate({**row, "phase": phase, "score": None})["result"]
    assert isinstance(result, dict)
    return result


def test_every_real_application_fits_the_contract(contract: Contract, applications: pd.DataFrame) -> None:
    assert len(applications) == 1989
    assert RowCheck(contract).problems_in(applications) == ()
    assert applications["application_id"].is_unique
    assert applications["denied"].sum() == 244


def test_categories_and_missing_values_are_real(contract: Contract, applications: pd.DataFrame) -> None:
    for column in contract.inputs:
        if column.type == "category":
            assert set(applications[column.name]) == set(column.categories)
        elif column.nullable:
            assert applications[column.name].isna().any()
        else:
            assert applications[column.name].dtype == np.float64
    assert set(applications["race"]) == {"black", "hispanic", "white"}
    assert applications["sex"].isna().sum() == 15


def test_what_a_source_system_sends_for_unknown_is_missing(contract: Contract) -> None:
    row = good_row() | {"liquid_assets": 1_000_000, "meets_guidelines": 666, "credit_lines": 999_999.375}
    checked = RowCheck(contract).check(row | {"loan_term": 999_999.375})
    assert [checked[name] for name in ("liquid_assets", "meets_guidelines", "credit_lines", "loan_term")] == [None] * 4


def test_golden_cases_fit_the_contract(contract: Contract) -> None:
    paths = sorted((TEMPLATE / "cases" / "golden").glob("*.yaml"))
    assert len(paths) == 3
    for path in paths:
        document = yaml.safe_load(path.read_text())
        assert document["id"] == path.stem
        assert list(RowCheck(contract).check(document["inputs"])) == [column.name for column in contract.inputs]


def test_no_input_is_protected_or_decided_by_the_lender(contract: Contract) -> None:
    names = {column.name for column in contract.inputs}
    assert not names & {
        "race",
        "sex",
        "action",
        "reject",
        "approve",
        "typur",
        "inson",
        "married",
        "dep",
        "old",
        "min30",
    }
    assert {attribute.name for attribute in contract.protected} == {"race", "sex"}


def test_every_reason_code_is_used_by_the_contract(contract: Contract) -> None:
    book = yaml.safe_load((TEMPLATE / "reasons.yaml").read_text())
    members = {
        code: [*entry.get("inputs", ()), *(name for group in entry.get("groups", ()) for name in book["groups"][group])]
        for code, entry in book["codes"].items()
    }
    covered = {name: code for code, names in members.items() for name in names}
    assert covered == {column.name: column.reason for column in contract.inputs}


def test_both_stages_ask_for_fairness(contract: Contract) -> None:
    for stage in (Stage.STAGING, Stage.PRODUCTION):
        assert "fairness" in [spec.gate for spec in contract.gates[stage]]
    assert contract.approvals_needed == 2


def test_policy_comes_before_the_model(decide: zen.ZenDecision, contract: Contract) -> None:
    assert ruled(decide, contract, "before") == {}
    assert ruled(decide, contract, "before", bankruptcy=1, obligations_ratio=60) == {}
    declined = ruled(decide, contract, "before", bankruptcy=1, obligations_ratio=61)
    assert declined == {"decision": "decline", "reason": "P01", "rule": "bankrupt-and-overcommitted"}
    referred = ruled(decide, contract, "before", unverifiable=True)
    assert referred == {"decision": "refer", "reason": "R11", "rule": "unverifiable"}
    unknown = ruled(decide, contract, "before", meets_guidelines=None)
    assert unknown == {"decision": "refer", "reason": "R10", "rule": "credit-history-not-assessed"}
    assert ruled(decide, contract, "after") == {}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({}, "fallback-plainly-good"),
        ({"loan_to_price": 0.96}, "fallback-high-loan"),
        ({"obligations_ratio": 46}, "fallback-high-obligations"),
        ({"meets_guidelines": None}, None),
        ({"meets_guidelines": 0}, None),
        ({"bankruptcy": 1}, None),
        ({"loan_to_price": 0.81}, None),
        ({"obligations_ratio": 37}, None),
    ],
)
def test_without_the_model_only_the_plainly_good_are_approved(
    decide: zen.ZenDecision, contract: Contract, changed: dict[str, object], rule: str | None
) -> None:
    answer = ruled(decide, contract, "fallback", **changed)
    assert answer.get("rule") == rule
    assert answer.get("decision") == {None: None, "fallback-plainly-good": "approve"}.get(rule, "refer")


def test_those_whom_rules_approve_were_rarely_denied(
    decide: zen.ZenDecision, contract: Contract, applications: pd.DataFrame
) -> None:
    inputs = applications[[column.name for column in contract.inputs]].astype(object)
    rows = inputs.where(inputs.notna(), None).to_dict("records")
    answers = [decide.evaluate({**row, "phase": "fallback", "score": None})["result"] for row in rows]
    approved = np.array([answer.get("decision") == "approve" for answer in answers])
    assert approved.sum() == 641
    assert applications["denied"][approved].mean() < 0.025


def test_the_notebook_is_clean_and_short(notebook: nbformat.NotebookNode) -> None:
    assert len(notebook.cells) < 15
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and cell.outputs == [] for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]


def test_the_notebook_writes_every_reason_that_the_contract_asks_for(
    notebook: nbformat.NotebookNode, contract: Contract
) -> None:
    first_lines = [
        cell.source.splitlines()[0] for cell in notebook.cells if cell.source.startswith("%%nbkit rationale")
    ]
    assert [line.split()[-1] for line in first_lines] == list(contract.required_reasons)


def test_only_the_name_is_a_placeholder() -> None:
    texts = [path.read_text() for path in TEMPLATE.rglob("*") if path.is_file()]
    assert sum("__NAME__" in text for text in texts) == 2
    assert json.loads((TEMPLATE / "rules.json").read_text())["contentType"] == "application/vnd.gorules.decision"
