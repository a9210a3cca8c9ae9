from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkit.cli import cli
from nbkit.contract import Contract, load_contract
from nbkit.serve import Rules, check_rules

CREDIT = Path(__file__).parents[3] / "templates" / "credit"
REFER = {"decision": "'refer'", "rule": "'r'", "reason": "'R01'"}


@pytest.fixture(scope="module")
def contract(lender: Any) -> Contract:
    inputs = [
        {"name": "income", "type": "number", "minimum": 0, "maximum": 1000, "nullable": True},
        {"name": "ratio", "type": "number", "minimum": 0, "maximum": 1},
        {"name": "purpose", "type": "category", "categories": ("car", "home", "study")},
        {"name": "count", "type": "integer", "minimum": 0, "maximum": 9},
        {"name": "known", "type": "boolean"},
    ]
    made: Contract = lender.make_contract(inputs=inputs)
    return made


def check(lender: Any, contract: Contract, *rules: dict[str, str]) -> tuple[str, ...]:
    fields = ("phase", "score", "income", "ratio", "purpose", "count", "known")
    return check_rules(lender.rules_graph(*[REFER | rule for rule in rules], fields=fields).encode(), contract=contract)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"ratio": "> 'x'"}, "rule 1, 'ratio': compares a number with text 'x'"),
        ({"ratio": "'home'"}, "rule 1, 'ratio': compares a number with text 'home'"),
        ({"known": "true"}, "rule 1, 'known': compares a number with true or false; a boolean input reaches"),
        ({"purpose": "> 3"}, "rule 1, 'purpose': compares text with a number: > 3"),
        ({"purpose": "'boat'"}, "rule 1, 'purpose': 'boat' is no value of purpose; expected one of 'car', 'home'"),
        ({"phase": "'befor'"}, "rule 1, 'phase': 'befor' is no value of phase; expected one of 'before', 'after'"),
        ({"ratio": "> 1"}, "rule 1, 'ratio': '> 1' fits no value that the contract allows"),
        ({"count": "(3..4)"}, "rule 1, 'count': '(3..4)' fits no value that the contract allows"),
        ({"ratio": "null"}, "rule 1, 'ratio': 'null' fits no value that the contract allows"),
        ({"purpose": "not('home')"}, "rule 1, 'purpose': \"not('home')\" fits no value that the contract allows"),
        ({"ratio": "> incom"}, "rule 1, 'ratio': 'incom' is not an input of the contract, nor phase or score"),
        ({"ratio": "> purpose"}, "rule 1, 'ratio': '> purpose' does not fit the types of purpose, ratio: Opcode"),
    ],
)
def test_a_cell_that_no_row_can_fit_is_named(
    lender: Any, contract: Contract, rule: dict[str, str], problem: str
) -> None:
    (found,) = check(lender, contract, rule)
    assert problem in found


def test_all_problems_come_at_once(lender: Any, contract: Contract) -> None:
    assert len(check(lender, contract, {"ratio": "> 'x'", "purpose": "'boat'"}, {"count": "> 10"})) == 3


@pytest.mark.parametrize(
    "rule",
    [
        {"ratio": "> 0.5 and < 0.7", "purpose": "'home','car'"},
        {"income": "null"},
        {"income": "> ratio * 100"},
        {"count": "[3..3]", "known": "1"},
        {"phase": "'after'", "score": ">= 0.5"},
        {"ratio": "abs($) > 5"},  # a function: cannot be judged, so it is left alone
        {"ratio": "3 - 2"},
    ],
)
def test_a_cell_that_may_fit_is_left_alone(lender: Any, contract: Contract, rule: dict[str, str]) -> None:
    assert check(lender, contract, rule) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{}], {"ratio": "> 0.5"}),
        ([{"ratio": "> 0.5"}], {"ratio": "> 0.6"}),
        ([{"ratio": "> 0.5"}], {"ratio": "> 0.5", "purpose": "'home'"}),
        ([{"ratio": "> 0.5"}, {"ratio": "<= 0.5"}], {}),
        ([{"purpose": "'car','home'"}, {"purpose": "'study'"}], {"ratio": "< 0.1"}),
        ([{"income": "null"}, {"income": ">= 0"}], {"known": "0"}),
        ([{"count": "< 5"}, {"count": "> 4"}], {}),
        ([{"ratio": "< 0.5", "known": "1"}, {"ratio": ">= 0.5"}, {"known": "0"}], {"purpose": "'car'"}),
        ([{"phase": "'before','after'"}, {"phase": "'fallback'"}], {"ratio": "> 0.5"}),
        ([{"income": "> ratio"}], {"income": "> ratio", "purpose": "'home'"}),
    ],
)
def test_a_row_that_earlier_rows_always_answer_is_named(
    lender: Any, contract: Contract, earlier: list[dict[str, str]], later: dict[str, str]
) -> None:
    number = len(earlier) + 1
    told = f"rule {number}: never reached: earlier rules answer every row that it fits"
    assert check(lender, contract, *earlier, later) == (told,)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{"ratio": "> 0.5"}], {"ratio": ">= 0.5"}),
        ([{"ratio": "> 0.5"}, {"ratio": "< 0.5"}], {}),
        ([{"income": ">= 0"}], {"known": "0"}),
        ([{"phase": "'before'"}], {}),
        ([{"income": "> ratio"}], {"income": "> 5"}),
        ([{"phase": "'before'"}, {"phase": "'fallback'"}], {"phase": "'after'", "score": "> 0.9"}),
    ],
)
def test_a_row_that_something_is_left_for_is_not_named(
    lender: Any, contract: Contract, earlier: list[dict[str, str]], later: dict[str, str]
) -> None:
    assert check(lender, contract, *earlier, later) == ()


CELLS = {
    "phase": ["", "'before'", "'after'"],
    "ratio": ["", "< 0.5", ">= 0.5", "0.5"],
    "purpose": ["", "'home'", "'home','car'", "'study'"],
    "count": ["", "<= 4", "> 4"],
}


@given(
    st.lists(st.fixed_dictionaries({f: st.sampled_from(c) for f, c in CELLS.items()}), min_size=2, max_size=4),
    st.lists(
        st.fixed_dictionaries(
            {
                "ratio": st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
                "purpose": st.sampled_from(["car", "home", "study"]),
                "count": st.integers(0, 9).map(float),
                "income": st.none(),
                "known": st.just(1.0),
            }
        ),
        min_size=20,
        max_size=20,
    ),
)
@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_ever_meets_a_rule_that_is_called_unreachable(
    lender: Any, contract: Contract, cells: list[dict[str, str]], rows: list[dict[str, Any]]
) -> None:
    given_rules = [cell | REFER | {"rule": f"'{number + 1}'"} for number, cell in enumerate(cells)]
    text = lender.rules_graph(*given_rules, fields=("phase", "score", *CELLS)).encode()
    named = {problem.split()[1].rstrip(":") for problem in check_rules(text, contract=contract)}
    rules = Rules.parse(text, contract=contract)
    for row in rows:
        for phase in ("before", "after"):
            ruling = rules.judge(row, phase=phase, score=0.5 if phase == "after" else None)
            assert ruling is None or ruling.rule not in named


def graph_with(lender: Any, value: str, cell: str) -> bytes:
    graph = json.loads(lender.rules_graph(REFER | {"phase": "'before'", "ratio": cell}))
    expression = {"expressions": [{"id": "x", "key": "limit", "value": value}], "passThrough": True}
    graph["nodes"].append({"id": "e", "type": "expressionNode", "name": "limits", "content": expression})
    return json.dumps(graph).encode()


def test_expressions_outside_a_table_are_checked_too(lender: Any, contract: Contract) -> None:
    assert check_rules(graph_with(lender, "income * 2", "> limit"), contract=contract) == ()
    (unknown,) = check_rules(graph_with(lender, "incom * 2", "> limit"), contract=contract)
    assert unknown == "node 'limits', 'limit': 'incom' is not an input of the contract, nor phase or score"
    (typed,) = check_rules(graph_with(lender, "income * purpose", "> limit"), contract=contract)
    assert "does not fit the types of income, purpose" in typed
    (syntax,) = check_rules(graph_with(lender, "income *", "> limit"), contract=contract)
    assert "cannot be read" in syntax


def test_what_is_no_graph_is_named(contract: Contract) -> None:
    assert check_rules(b"{", contract=contract)[0].startswith("rules.json: expected JSON")


def test_the_template_is_sound() -> None:
    text = (CREDIT / "contract.yaml").read_text().replace("__NAME__", "mortgage")
    from nbkit.contract import parse_contract

    assert check_rules((CREDIT / "rules.json").read_bytes(), contract=parse_contract(text, source="template")) == ()


def test_the_command_names_every_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["new", "mortgage"]).exit_code == 0
    sound = CliRunner().invoke(cli, ["rules", "check", "mortgage"])
    assert sound.exit_code == 0, sound.output
    assert "every rule can fit a row of the contract" in sound.output
    rules = tmp_path / "mortgage" / "rules.json"
    rules.write_text(rules.read_text().replace('"> 60"', "\"> 'sixty'\""))
    wrong = CliRunner().invoke(cli, ["rules", "check", "mortgage", "--json"])
    assert wrong.exit_code == 1
    assert "compares a number with text 'sixty'" in json.loads(wrong.output)["problems"][0]
    rules.unlink()
    assert "no such file: no rules" in CliRunner().invoke(cli, ["rules", "check", "mortgage"]).output
    assert load_contract(tmp_path / "mortgage" / "contract.yaml").name == "mortgage"
