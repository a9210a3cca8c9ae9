import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import Contract, parse_contract
from nbkit.errors import RationaleError
from nbkit.package import Attribution, ReasonBook, ReasonCode, load_reasons, principal_reasons

CONTRACT = """\
format: 1
name: credit
kind: tabular
title: Credit
owner: {team: risk, primary: Ada, deputy: Bo}
impact: high
purpose: Decide on applications.
jurisdictions: [NO]
entity: application_id
target: {column: denied, positive: 1, meaning: denied, label_delay_days: 0}
inputs:
  - {name: debt, type: number, direction: increasing, reason: R01}
  - {name: housing, type: number}
  - {name: history, type: integer, nullable: true}
  - {name: age, type: number, sentinels: [-1]}
  - {name: purpose, type: category, categories: [car, home], nullable: true}
decision:
  costs:
    approve: {positive: 12000, negative: 0}
    refer: {positive: 150, negative: 150}
    decline: {positive: 0, negative: 3000}
rollout: {path: [staging, production]}
gates: {staging: [{gate: owner}], production: [{gate: parity}]}
"""

REASONS = """\
format: 1
codes:
  R01: {inputs: [debt], text: Debt is high for the income, direction: high}
  R02: {inputs: [housing], text: Housing costs}
  R03: {inputs: [history], text: Credit history, missing_text: No credit history}
  R04: {inputs: [age], text: Account is new, direction: low}
  R05: {inputs: [age], text: Account is old, direction: high, missing_text: No account}
  R06: {inputs: [purpose], text: Purpose of the loan, missing_text: Purpose not given}
"""


@pytest.fixture(scope="module")
def contract() -> Contract:
    return parse_contract(CONTRACT, source="contract.yaml")


@pytest.fixture(scope="module")
def book(contract) -> ReasonBook:
    return ReasonBook.parse(REASONS, contract=contract, typical={"age": 30.0, "debt": 0.3})


ROW = {"debt": 0.4, "housing": 0.3, "history": 1.0, "age": 20.0, "purpose": "car"}


def attribution(**by_input: float) -> Attribution:
    return Attribution(base=0.0, margin=sum(by_input.values()), by_input=by_input, by_column=())


def codes(reasons):
    return [reason.code for reason in reasons]


@pytest.mark.parametrize("apart", [-4e-16, 0.0, 4e-16])
def test_what_differs_by_rounding_only_goes_by_its_code(book, apart):
    reasons = principal_reasons(attribution(purpose=0.3 + apart, history=0.3, housing=0.3 - apart, debt=0.1), ROW, book)
    assert codes(reasons) == ["R02", "R03", "R06", "R01"]
    assert reasons[2].contribution == 0.3 + apart


def test_only_what_pushed_towards_the_decision_is_a_reason(book):
    reasons = principal_reasons(attribution(debt=0.2, housing=-0.9, history=0.5, purpose=0.0), ROW, book)
    assert reasons == (
        ReasonCode(code="R03", text="Credit history", inputs=("history",), contribution=0.5),
        ReasonCode(code="R01", text="Debt is high for the income", inputs=("debt",), contribution=0.2),
    )


def test_reasons_are_never_padded(book):
    assert principal_reasons(attribution(debt=-1.0, housing=-0.1), ROW, book) == ()


def test_rounding_is_no_reason(book):
    assert principal_reasons(attribution(debt=1e-15), ROW, book) == ()


def test_at_most_as_many_as_asked_for(book):
    moved = attribution(debt=0.1, housing=0.2, history=0.3, age=0.4, purpose=0.5)
    assert codes(principal_reasons(moved, ROW, book)) == ["R06", "R04", "R03", "R02"]
    assert codes(principal_reasons(moved, ROW, book, most=2)) == ["R06", "R04"]


def test_equal_contributions_are_ordered_by_code(book):
    assert codes(principal_reasons(attribution(history=0.5, debt=0.5, housing=0.5), ROW, book)) == ["R01", "R02", "R03"]


@pytest.mark.parametrize(("age", "code"), [(20.0, "R04"), (30.0, "R04"), (31.0, "R05")])
def test_the_text_fits_the_side_of_the_value(book, age, code):
    assert codes(principal_reasons(attribution(age=1.0), {**ROW, "age": age}, book)) == [code]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_value_is_said_to_be_missing(book, missing):
    reasons = principal_reasons(attribution(age=1.0, history=0.5), {**ROW, "age": missing, "history": missing}, book)
    assert [reason.text for reason in reasons] == ["No account", "No credit history"]


SHARED = REASONS.replace("inputs: [debt]", "inputs: [debt, housing]").replace(
    "  R02: {inputs: [housing], text: Housing costs}\n", ""
)


def test_inputs_of_one_code_are_added_up(contract):
    contract = parse_contract(
        CONTRACT.replace("housing, type: number", "housing, type: number, direction: increasing"), source="c"
    )
    book = ReasonBook.parse(SHARED, contract=contract, typical={"debt": 0.3, "housing": 0.2})
    (reason,) = principal_reasons(attribution(debt=0.5, housing=0.75, history=-1.0), ROW, book)
    assert (reason.code, reason.inputs, reason.contribution) == ("R01", ("housing", "debt"), 1.25)
    (reason,) = principal_reasons(attribution(debt=0.5, housing=-0.25), ROW, book)
    assert (reason.inputs, reason.contribution) == (("debt",), 0.25)
    assert principal_reasons(attribution(debt=0.5, housing=-0.75), ROW, book) == ()


@settings(deadline=None, derandomize=True)
@given(st.fixed_dictionaries({name: st.floats(-2, 2) for name in ROW}), st.integers(1, 6))
def test_reasons_are_positive_ordered_and_distinct(moved, most):
    book = ReasonBook.parse(REASONS, contract=parse_contract(CONTRACT, source="c"), typical={"age": 30.0, "debt": 0.3})
    reasons = principal_reasons(attribution(**moved), ROW, book, most=most)
    contributions = [reason.contribution for reason in reasons]
    assert contributions == sorted(contributions, reverse=True)
    assert all(contribution > 0 for contribution in contributions)
    assert len(set(codes(reasons))) == len(reasons) <= most
    assert all(moved[name] > 0 for reason in reasons for name in reason.inputs)


def test_a_high_and_a_low_text_need_a_typical_value(contract):
    book = ReasonBook.parse(REASONS, contract=contract)
    with pytest.raises(RationaleError) as caught:
        principal_reasons(attribution(age=1.0), ROW, book)
    assert str(caught.value) == "reasons.yaml: 'age' has a high or a low text, but no typical value to compare"


def test_an_input_without_a_code_is_an_error(book):
    with pytest.raises(RationaleError, match=r"reasons\.yaml: no reason covers input 'salary'"):
        principal_reasons(attribution(salary=1.0), ROW, book)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[housing]", "[hosing]", "$.codes.R02.inputs: 'hosing' is not an input of the contract"),
        ("[housing]", "[hosing]", "input 'housing': no code covers it"),
        ("[housing]", "[housing, housing]", "$.codes.R02.inputs: 'housing' appears twice"),
        ("[housing]", "[]", "$.codes.R02.inputs: list should have at least 1 item after validation, not 0"),
        ("R02", "r2", "$.codes.r2: expected a code such as R01"),
        ("R01", "R11", "input 'debt': the contract names code R01, but it is covered by R11"),
        ("text: Housing costs", "txt: Housing costs", "$.codes.R02.txt: extra inputs are not permitted"),
        ("text: Housing costs", "text: ' '", "$.codes.R02.text: empty"),
        (
            ", missing_text: No credit history",
            "",
            "input 'history': may be missing, but there is no missing_text in R03",
        ),
        (", missing_text: No account", "", "input 'age': may be missing, but there is no missing_text in R04, R05"),
        ("direction: high}", "direction: up}", "$.codes.R01.direction: input should be 'high', 'low' or 'any'"),
        (
            "text: Housing costs",
            "text: Housing costs, direction: high",
            "input 'housing': R02 is only true of high values, and the contract lets the score rise on the other side;"
            " add a code for it, or declare the input's direction in the contract",
        ),
        (
            "[housing]",
            "[housing, age]",
            "input 'age': expected one code, or one for high and one for low; got R02, R04, R05",
        ),
        (
            "text: Purpose of",
            "direction: high, text: Purpose of",
            "input 'purpose': a category is neither high nor low; expected one code with direction any, got R06",
        ),
        ("format: 1", "format: 3", "$.format: expected 1 or 2, got 3"),
        ("  R02: ", "  R01: ", "$.codes.R01: appears twice, in lines 3 and 4"),
    ],
)
def test_a_problem_of_the_file_is_named(contract, old, new, problem):
    with pytest.raises(RationaleError) as caught:
        ReasonBook.parse(REASONS.replace(old, new, 1), contract=contract)
    assert problem in caught.value.problems


def test_all_problems_are_named_at_once(contract):
    broken = REASONS.replace("[housing]", "[hosing]").replace(", missing_text: No credit history", "")
    with pytest.raises(RationaleError) as caught:
        ReasonBook.parse(broken, contract=contract)
    assert str(caught.value) == (
        "reasons.yaml: 3 problems: $.codes.R02.inputs: 'hosing' is not an input of the contract; "
        "input 'housing': no code covers it; input 'history': may be missing, but there is no missing_text in R03. "
        "Next: correct reasons.yaml"
    )


def test_text_that_is_no_yaml_is_refused_with_its_line(contract):
    with pytest.raises(RationaleError, match=r"reasons\.yaml: line 2"):
        ReasonBook.parse("format: 1\ncodes: {", contract=contract)


def test_a_package_brings_its_own_typical_values(contract):
    bins = {"edges": [1.0, 2.0, 3.0], "missing": 0}
    inputs = {
        "debt": {**bins, "counts": [1, 5, 3, 1]},
        "housing": {**bins, "counts": [0, 0, 9, 0]},
        "history": {**bins, "counts": [1, 1, 1, 9]},
        "age": {"edges": [], "counts": [0], "missing": 9},
        "purpose": {"categories": {"car": 9}, "missing": 0},
    }
    files = {"reasons.yaml": REASONS.encode(), "profile.json": json.dumps({"format": 1, "inputs": inputs}).encode()}
    book = ReasonBook.from_package(SimpleNamespace(contract=contract, read=files.__getitem__))
    assert book.typical == {"debt": 2.0, "housing": math.nextafter(3.0, 0.0), "history": 3.0}


def test_a_book_is_read_from_its_file(contract, tmp_path):
    path = tmp_path / "reasons.yaml"
    with pytest.raises(RationaleError, match=r"cannot be read.*Next: write reasons\.yaml"):
        load_reasons(path, contract=contract)
    path.write_text(REASONS)
    assert [entry.code for entry in load_reasons(path, contract=contract).entries] == [f"R0{i}" for i in range(1, 7)]
