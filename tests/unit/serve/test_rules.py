from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkit.contract import Contract, load_contract
from nbkit.errors import RuleError
from nbkit.package import Package
from nbkit.serve import Rules, Ruling
from nbkit.serve._rules import Phase

ROW = {"income": 10.0, "ratio": 0.5, "purpose": "home"}
CREDIT = Path(__file__).parents[3] / "templates" / "credit"


@pytest.fixture(scope="module")
def contract(lender: Any) -> Contract:
    made: Contract = lender.make_contract()
    return made


def table(lender: Any, *rules: dict[str, str], **changes: Any) -> bytes:
    graph: str = lender.rules_graph(*rules, **changes)
    return graph.encode()


REFER = {"decision": "'refer'", "rule": "'r'", "reason": "'R01'"}


def test_the_first_rule_that_fits_answers(lender: Any, contract: Contract) -> None:
    rules = Rules.parse(
        table(
            lender,
            {"phase": "'before'", "ratio": "> 0.4", "decision": "'refer'", "rule": "'first'", "reason": "'R02'"},
            {"phase": "'before'", "decision": "'decline'", "rule": "'second'", "reason": "'R01'"},
        ),
        contract=contract,
    )
    assert rules.judge(ROW, phase="before") == Ruling(decision="refer", rule="first", reason="R02")
    assert rules.judge(ROW | {"ratio": 0.1}, phase="before") == Ruling(decision="decline", rule="second", reason="R01")
    assert rules.judge(ROW, phase="after", score=0.5) is None


def test_rules_after_the_model_see_its_score(lender: Any, contract: Contract) -> None:
    rules = Rules.parse(table(lender, REFER | {"phase": "'after'", "score": "[0.4..0.5]"}), contract=contract)
    assert rules.judge(ROW, phase="after", score=0.45) is not None
    assert rules.judge(ROW, phase="after", score=0.55) is None


def test_a_rule_without_a_name_is_called_unnamed(lender: Any, contract: Contract) -> None:
    rules = Rules.parse(table(lender, {"decision": "'approve'"}), contract=contract)
    assert rules.judge(ROW, phase="fallback") == Ruling(decision="approve", rule="unnamed", reason="")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        # The engine itself reads every one of these as "no rule fits", and says nothing.
        ({"ratio": "> > 3"}, "rule 1, 'ratio': cannot be read: '> > 3'"),
        ({"purpose": "foo("}, "rule 1, 'purpose': cannot be read: 'foo('"),
        ({"reason": "'x"}, "rule 1, 'reason': cannot be read"),
        ({"decision": ""}, "rule 1: expected an output 'decision'"),
        ({"decision": "'maybe'"}, "rule 1, 'decision': expected approve, refer or decline, got 'maybe'"),
        ({"decision": "'decline'", "reason": ""}, "rule 1: declines without an output 'reason'"),
    ],
)
def test_a_rule_that_could_never_fit_is_refused(
    lender: Any, contract: Contract, rule: dict[str, str], problem: str
) -> None:
    with pytest.raises(RuleError) as error:
        Rules.parse(table(lender, REFER | rule), contract=contract)
    assert problem in str(error.value)


def test_a_column_that_no_row_has_is_refused(lender: Any, contract: Contract) -> None:
    text = table(lender, REFER).replace(b'"field": "ratio"', b'"field": "ratoi"')
    with pytest.raises(RuleError, match="column 'ratoi': not an input of the contract, nor phase or score"):
        Rules.parse(text, contract=contract)


def test_nodes_that_run_code_are_refused(lender: Any, contract: Contract) -> None:
    node = {"id": "f", "type": "functionNode", "name": "js", "content": "export const handler = () => 1"}
    with pytest.raises(RuleError, match="node 'js': type 'functionNode' is not allowed"):
        Rules.parse(table(lender, REFER, nodes=(node,)), contract=contract)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "expected JSON"),
        (b"[]", "nodes: expected a list of objects"),
        (b'{"nodes": [1]}', "nodes: expected a list of objects"),
        (b'{"nodes": [{"type": "decisionTableNode", "name": "t"}]}', "node 't': expected a content"),
        (b'{"nodes": [{"type": "decisionTableNode", "content": {}}]}', "inputs: expected a list of objects"),
        (b'{"nodes": []}', "not a decision graph"),
    ],
)
def test_what_is_no_graph_is_refused(contract: Contract, text: bytes, problem: str) -> None:
    with pytest.raises(RuleError) as error:
        Rules.parse(text, contract=contract)
    assert problem in str(error.value)


def test_a_graph_that_is_more_than_one_table_is_evaluated_by_the_engine(lender: Any, contract: Contract) -> None:
    graph = json.loads(lender.rules_graph(REFER | {"phase": "'before'", "ratio": "> limit"}))
    expression = {"expressions": [{"id": "x", "key": "limit", "value": "0.2 + 0.2"}], "passThrough": True}
    graph["nodes"].append({"id": "e", "type": "expressionNode", "name": "limits", "content": expression})
    graph["edges"] = [
        {"id": "1", "sourceId": "i", "targetId": "e", "type": "edge"},
        {"id": "2", "sourceId": "e", "targetId": "t", "type": "edge"},
        {"id": "3", "sourceId": "t", "targetId": "o", "type": "edge"},
    ]
    rules = Rules.parse(json.dumps(graph).encode(), contract=contract)
    assert rules.judge(ROW, phase="before") is not None
    assert rules.judge(ROW | {"ratio": 0.3}, phase="before") is None


def test_an_answer_that_is_no_decision_is_an_error(lender: Any, contract: Contract) -> None:
    rules = Rules.parse(table(lender, REFER | {"decision": "purpose"}), contract=contract)
    with pytest.raises(RuleError, match="decision: expected approve, refer or decline, got 'home'"):
        rules.judge(ROW, phase="before")


def test_several_answers_are_an_error(lender: Any, contract: Contract) -> None:
    rules = Rules.parse(table(lender, REFER, hit_policy="collect"), contract=contract)
    with pytest.raises(RuleError, match="expected one result, got list"):
        rules.judge(ROW, phase="before")


CELLS = {
    "phase": ["", "'before'", "'after'", "'before','fallback'"],
    "score": ["", "> 0.5", "null", "[0.2..0.7)"],
    "income": ["", "> 10", "<= 3", "10", "null", "!= 10", "$ == 10", "> 'x'"],
    "ratio": ["", "< 0.5", "0.5", "> 0.25 and < 0.75", "> income"],
    "purpose": ["", "'home'", "'home','car'", "not('home')", "> 3"],
}
VALUES = {
    "income": st.sampled_from([None, 0.0, 3.0, 10.0, 10.5]),
    "ratio": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    "purpose": st.sampled_from(["home", "car", "study"]),
}


@given(
    st.lists(st.fixed_dictionaries({field: st.sampled_from(cells) for field, cells in CELLS.items()}), max_size=3),
    st.fixed_dictionaries(VALUES),
    st.sampled_from(["before", "after", "fallback"]),
    st.sampled_from([None, 0.0, 0.6]),
)
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_tables_answer_what_the_engine_answers(
    lender: Any,
    contract: Contract,
    cells: list[dict[str, str]],
    row: dict[str, float | str | None],
    phase: Phase,
    score: float | None,
) -> None:
    outputs = [{"decision": "'refer'", "rule": f"'{number}'", "reason": "'R01'"} for number in range(len(cells))]
    given_rules = [cell | output for cell, output in zip(cells, outputs, strict=True)]
    rules = Rules.parse(table(lender, *given_rules), contract=contract)
    said = rules.evaluate_graph({**row, "phase": phase, "score": score})
    ruling = rules.judge(row, phase=phase, score=score)
    assert (ruling.rule if ruling else None) == said.get("rule")


def test_a_package_without_rules_has_rules_that_never_answer(lender: Any, tmp_path: Path) -> None:
    package: Package = lender.make_package(tmp_path / "p", rules=None)
    assert Rules.from_package(package).judge(ROW, phase="before") is None


def test_the_credit_template_rules_are_compiled_and_answer(tmp_path: Path) -> None:
    text = (CREDIT / "contract.yaml").read_text().replace("__NAME__", "mortgage")
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    contract = load_contract(path)
    rules = Rules.parse((CREDIT / "rules.json").read_bytes(), contract=contract)
    row: dict[str, float | str | None] = {column.name: 0.0 for column in contract.inputs}
    ruling = rules.judge(row | {"bankruptcy": 1.0, "obligations_ratio": 70.0}, phase="before")
    assert ruling == Ruling(decision="decline", rule="bankrupt-and-overcommitted", reason="P01")
    assert rules._tables["after"].rules == ()
