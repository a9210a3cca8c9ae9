import json
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import Contract, Thresholds, contract_schema, load_contract, parse_contract
from nbkit.contract._load import shown
from nbkit.errors import ContractError


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ContractError) as caught:
        parse_contract(text, source="contract.yaml")
    return caught.value.problems


def message_of(text: str) -> str:
    with pytest.raises(ContractError) as caught:
        parse_contract(text, source="contract.yaml")
    return str(caught.value)


def test_a_contract_is_read_from_its_file(tmp_path: Path, contract_text: str, contract: Contract) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(contract_text)
    assert load_contract(path) == contract
    assert contract.input("amount").maximum == 1e6
    assert contract.decision.costs.approve.positive == Decimal(12000)


def test_norway_is_a_country_and_not_false(contract: Contract) -> None:
    assert contract.jurisdictions == ("NO",)


def test_thresholds_can_be_fixed(contract_text: str) -> None:
    text = contract_text.replace("decision:", "decision:\n  thresholds: {refer: 0.2, decline: 0.6}")
    assert parse_contract(text, source="x").decision.thresholds == Thresholds(refer=0.2, decline=0.6)


def test_json_is_yaml_too(contract_text: str, contract: Contract) -> None:
    data = json.loads(contract.canonical())
    assert parse_contract(json.dumps(data), source="contract.json") == contract


def test_a_byte_order_mark_is_no_part_of_the_first_key(contract_text: str, contract: Contract) -> None:
    assert parse_contract("\ufeff" + contract_text, source="contract.yaml") == contract


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"no such file\. Next: nbkit new NAME --template credit"):
        load_contract(tmp_path / "contract.yaml")


def test_a_folder_is_not_a_contract(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="cannot be read: Is a directory"):
        load_contract(tmp_path)


def test_a_file_that_is_not_utf8_is_refused_with_the_position(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(ContractError, match="expected UTF-8 text, got another byte at position 9"):
        load_contract(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "contract.yaml: expected a mapping of keys to values, got an empty file"),
        ("# nothing\n", "contract.yaml: expected a mapping of keys to values, got an empty file"),
        ("- a", "contract.yaml: expected a mapping of keys to values, got a list"),
        ("just text", "contract.yaml: expected a mapping of keys to values, got a single value"),
        ("a: [1", "contract.yaml: line 1, column 6: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n\tb: 2", "contract.yaml: line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "contract.yaml: line 2, column 1: but found another document"),
        ("a: &x [1]\nb: *x", "contract.yaml: line 2, column 4: anchors and aliases are not allowed"),
        ("a: 1\nb: \x00", "contract.yaml: line 2: a control character that YAML does not allow"),
        ("[" * 5000, "contract.yaml: nested too deeply"),
        ("a" * 1_000_001, "contract.yaml: expected at most 1000000 characters, got 1000001"),
    ],
)
def test_what_is_not_one_yaml_mapping_is_refused(text: str, expected: str) -> None:
    assert message_of(text) == expected


def test_all_problems_are_reported_at_once(contract_text: str) -> None:
    text = (
        contract_text.replace("team: risk", "teem: risk")
        .replace("impact: high", "impact: huge")
        .replace("label_delay_days: 0", "label_delay_days: -1")
        .replace("maximum: 1e6", "maximum: lots")
        .replace("title: Credit\n", "")
    )
    assert problems_of(text) == (
        "$.title: missing",
        "$.owner.team: missing (line 4)",
        "$.owner.teem: unknown key; did you mean 'team'? (line 4)",
        "$.impact: expected 'low', 'medium' or 'high', got 'huge' (line 5)",
        "$.target.label_delay_days: expected at least 0, got -1 (line 9)",
        "$.inputs[0].maximum: expected a number, got 'lots' (line 11)",
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("format: 1", "format: 2", "$.format: expected 1, got 2 (line 1)"),
        (
            "title: Credit",
            "title: C\nnotice: {languages: []}",
            "$.notice.languages: expected at least 1 entry, got a list (line 5)",
        ),
        (
            "title: Credit",
            "title: C\nnotice: {languages: [English]}",
            "$.notice.languages[0]: expected text that matches",
        ),
        (
            "title: Credit",
            "title: C\nnotice: {bureau: {name: B, address: A, phone: P, inputs: [a], score: b}}",
            "$.notice.bureau.score: expected one of inputs, got 'b' (line 5)",
        ),
        (
            "title: Credit",
            "title: C\nnotice: {bureau: {name: B, address: A, phone: P, inputs: [nothing]}}",
            "$.notice.bureau.inputs: 'nothing' is not an input",
        ),
        ("format: 1", "format: true", "$.format: expected 1, got true (line 1)"),
        ("format: 1", "format: '1'", "$.format: expected 1, got '1' (line 1)"),
        ("title: Credit", "title: 5", "$.title: expected text, got 5 (line 4)"),
        ("title: Credit", "title:", "$.title: expected text, got null (line 4)"),
        ("title: Credit", "title: ''", "$.title: expected some text, got '' (line 4)"),
        ("title: Credit", 'title: "\\ud800"', "$.title: half a surrogate pair is not text (line 4)"),
        ("title: Credit", "title: !!binary aGk=", "$.title: tags such as 'tag:yaml.org,2002:binary' are not allowed"),
        ("title: Credit", "title: !!python/name:os.system x", "$.title: tags such as"),
        ("title: Credit", "title: C\ntitle: D", "$.title: appears twice, in lines 4 and 5"),
        ("title: Credit", "title: C\n1: D", "$: expected keys that are text (line 5)"),
        ("title: Credit", "title: C\n? [a]\n: D", "$: expected keys that are text (line 5)"),
        ("title: Credit", "title: C\nunlike_anything: D", "$.unlike_anything: unknown key; known keys: format, name,"),
        ("title: Credit", "title: C\n'two words': D", "$['two words']: unknown key; known keys: format, name,"),
        (
            "name: credit",
            "name: Credit",
            "$.name: expected lower-case letters, digits, '-' and '_', beginning with a letter",
        ),
        ("team: risk", "team: [risk]", "$.owner.team: expected text, got a list (line 5)"),
        ("deputy: Bo", "deputy: Ada", "$.owner.deputy: expected another person than primary (line 5)"),
        ("jurisdictions: [NO]", "jurisdictions: []", "$.jurisdictions: expected at least 1 entry, got a list (line 8)"),
        ("jurisdictions: [NO]", "jurisdictions: NO", "$.jurisdictions: expected a list, got 'NO' (line 8)"),
        ("positive: 1,", "positive: 1.5,", "$.target.positive: expected an integer, text, or true or false, got 1.5"),
        ("positive: 1,", "positive: 99999999999999999999,", "$: 99999999999999999999 exceeds safe integer domain"),
        ("positive: 1,", f"positive: {'9' * 5000},", "$.target.positive: not a number that can be read (line 10)"),
        ("label_delay_days: 0", "label_delay_days: 0.5", "$.target.label_delay_days: expected an integer, got 0.5"),
        (
            "label_delay_days: 0",
            "label_delay_days: {}",
            "$.target.label_delay_days: expected an integer, got a mapping",
        ),
        ("maximum: 1e6", "maximum: .inf", "$.inputs[0].maximum: expected a finite number, got inf (line 12)"),
        ("maximum: 1e6", "maximum: -.INF", "$.inputs[0].maximum: expected a finite number, got -inf (line 12)"),
        ("maximum: 1e6", "maximum: .nan", "$.inputs[0].maximum: expected a finite number, got nan (line 12)"),
        ("maximum: 1e6", "maximum: 1e999", "$.inputs[0].maximum: expected a finite number, got inf (line 12)"),
        ("maximum: 1e6", "maximum: true", "$.inputs[0].maximum: expected a number, got true (line 12)"),
        ("maximum: 1e6", "maximum: -1", "$.inputs[0].minimum: expected at most maximum -1.0, got 0.0 (line 12)"),
        ("type: integer", "type: boolean", "$.inputs[1]: minimum, maximum: not for type 'boolean' (line 13)"),
        ("type: boolean", "type: bool", "$.inputs[2].type: expected 'number', 'integer', 'boolean' or 'category', got"),
        ("[666]", "[[666]]", "$.inputs[1].sentinels[0]: expected a number or text, got a list (line 13)"),
        ("[666]", "[x]", "$.inputs[1].sentinels: expected numbers for type 'integer' (line 13)"),
        ("[NA]", "[1]", "$.inputs[4].sentinels: expected text for type 'category' (line 16)"),
        ("[NA]", "[car]", "$.inputs[4].sentinels: 'car' is also a category (line 16)"),
        ("[car, home]", "[car, car]", "$.inputs[4].categories: expected no duplicates (line 16)"),
        ("[car, home]", "[]", "$.inputs[4].categories: expected at least one for type 'category' (line 16)"),
        ("[car, home]", "[car, home], minimum: 1", "$.inputs[4]: minimum, maximum, direction: not for type 'category'"),
        ("maximum: 1e6", "categories: [a]", "$.inputs[0].categories: not for type 'number' (line 12)"),
        ("name: income", "name: amount", "$.inputs: 'amount' appears twice (line 11)"),
        ("name: income", "name: sex", "$.inputs: 'sex' is protected and can never be an input (line 11)"),
        ("name: income", "name: denied", "$.inputs: 'denied' is the target (line 11)"),
        ("name: income", "name: application_id", "$.inputs: 'application_id' is the entity (line 11)"),
        ("entity: application_id", "entity: denied", "$.entity: 'denied' is the target (line 9)"),
        ("reference: male}", "reference: male}\n  - {name: sex, reference: f}", "$.protected: 'sex' appears twice"),
        (
            "decision:",
            "decision:\n  thresholds: best",
            "$.decision.thresholds: expected 'optimize', or a mapping with refer",
        ),
        ("decision:", "decision:\n  thresholds: {refer: 0.5}", "$.decision.thresholds.decline: missing (line 20)"),
        (
            "decision:",
            "decision:\n  thresholds: {refer: 0.5, decline: 0.4}",
            "$.decision.thresholds.refer: expected at most decline 0.4, got 0.5 (line 20)",
        ),
        ("positive: 12000", "positive: -1", "$.decision.costs.approve.positive: expected at least 0, got -1 (line 21)"),
        (
            "positive: 12000",
            "positive: '1E+99'",
            "$.decision.costs.approve.positive: expected at most 1000000000000, got",
        ),
        (
            "positive: 12000",
            "positive: much",
            "$.decision.costs.approve.positive: expected an amount of money, got 'much'",
        ),
        (
            "positive: 12000",
            "positive: [1]",
            "$.decision.costs.approve.positive: expected an amount of money, got a list",
        ),
        (
            "  costs:",
            "  costs:\n    currency: usd",
            "$.decision.costs.currency: expected text that matches ^[A-Z]{3}$, got",
        ),
        (
            "approve: {positive: 12000, negative: 0}",
            "approve: 5",
            "$.decision.costs.approve: expected a mapping, got 5",
        ),
        (
            "decision:",
            "serve: {deadline_ms: 0}\ndecision:",
            "$.serve.deadline_ms: expected more than 0, got 0 (line 19)",
        ),
        (
            "decision:",
            "serve: {deadline_ms: 99999}\ndecision:",
            "$.serve.deadline_ms: expected at most 60000, got 99999",
        ),
        (
            "decision:",
            "budget: {price_usd: 1}\ndecision:",
            "$.budget.price_usd: expected at most per_decision_usd 0.01, got 1",
        ),
        (
            "decision:",
            "budget: {price_usd: 1e-31}\ndecision:",
            "$.budget.price_usd: expected at most 30 decimals, and at most E+12, got 1E-31",
        ),
        (
            "decision:",
            "budget: {price_usd: '0E+13'}\ndecision:",
            "$.budget.price_usd: expected at most 30 decimals, and at most E+12, got 0E+13",
        ),
        ("decision:", "serve: {fallback: []}\ndecision:", "$.serve.fallback: expected at least one of rules, default"),
        ("decision:", "serve: {fallback: [rules]}\ndecision:", "$.serve.fallback: rules may match nothing; expected"),
        (
            "decision:",
            "serve: {rules: ../x}\ndecision:",
            "$.serve.rules: expected a path inside the use-case folder, got",
        ),
        (
            "decision:",
            "serve: {rules: ''}\ndecision:",
            "$.serve.rules: expected a path inside the use-case folder, got ''",
        ),
        (
            "decision:",
            "evaluate: {slices: [age]}\ndecision:",
            "$.evaluate.slices: 'age' is neither an input nor protected",
        ),
        (
            "decision:",
            "explain: {slices: [age]}\ndecision:",
            "$.explain.slices: 'age' is not among evaluate.slices",
        ),
        (
            "decision:",
            "explain: {group_correlation: 0}\ndecision:",
            "$.explain.group_correlation: expected more than 0, got 0",
        ),
        (
            "decision:",
            "evaluate: {case_set: x}\ndecision:",
            "$.evaluate.case_set: expected 'path@sha256:<64 hex digits>'",
        ),
        (
            "decision:",
            "evaluate: {confidence: 1}\ndecision:",
            "$.evaluate.confidence: expected less than 1, got 1 (line 19)",
        ),
        (
            "[staging, production]",
            "[shadow]",
            "$.rollout.path: expected to begin with staging and to end with production",
        ),
        (
            "[staging, production]",
            "[staging, canary, shadow, production]",
            "$.rollout.path: expected an ordered selection of staging, shadow, canary, production (line 24)",
        ),
        ("  staging: [", "  shadow: [", "$.gates: shadow is not in rollout.path (line 25)"),
        ("  staging: [", "  shadow: [", "$.gates: no gate for staging (line 25)"),
        (
            "  staging: [",
            "  stagin: [",
            "$.gates.stagin: expected 'candidate', 'staging', 'shadow', 'canary', 'production'",
        ),
        ("metric: auc", "metrik: auc", "$.gates.staging[0].metrik: unknown key; did you mean 'metric'? (line 26)"),
    ],
)
def test_a_problem_is_named_with_place_expectation_and_line(
    contract_text: str, old: str, new: str, problem: str
) -> None:
    assert old in contract_text
    found = problems_of(contract_text.replace(old, new, 1))
    assert any(text.startswith(problem) for text in found), found


def test_gates_that_are_not_a_mapping_are_refused(contract_text: str) -> None:
    text = contract_text[: contract_text.index("gates:")] + "gates: []\n"
    assert problems_of(text) == ("$.gates: expected a mapping, got a list (line 25)",)


def test_a_case_set_outside_the_folder_is_refused(contract_text: str) -> None:
    reference = f"../x@sha256:{'0' * 64}"
    text = contract_text.replace("decision:", f"evaluate: {{case_set: '{reference}'}}\ndecision:")
    assert problems_of(text)[0].startswith("$.evaluate.case_set: expected a path inside the use-case folder, got '../x")


def test_an_error_that_has_no_words_yet_is_still_shown(contract_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("nbkit.contract._load", fromlist=["_EXPECTED"])._EXPECTED, "string_type")
    found = problems_of(contract_text.replace("title: Credit", "title: 5"))
    assert found == ("$.title: expected something else (Input should be a valid string), got 5 (line 4)",)


def test_the_same_contract_written_differently_has_the_same_digest(contract_text: str, contract: Contract) -> None:
    shuffled = dict(sorted(yaml.safe_load(contract_text.replace("[NO]", "['NO']").replace("1e6", "1000000")).items()))
    assert parse_contract(yaml.safe_dump(shuffled), source="x").digest == contract.digest
    assert Contract.model_validate_json(contract.canonical()) == contract


def test_high_impact_needs_two_approvals(contract_text: str, contract: Contract) -> None:
    assert contract.approvals_needed == 2
    assert parse_contract(contract_text.replace("high", "low"), source="x").approvals_needed == 1


def test_an_unknown_input_is_a_key_error(contract: Contract) -> None:
    with pytest.raises(KeyError, match="colour"):
        contract.input("colour")


def test_the_schema_accepts_the_contract_and_refuses_an_unknown_key(contract_text: str, contract: Contract) -> None:
    validator = jsonschema.Draft202012Validator(contract_schema())
    validator.check_schema(contract_schema())
    data = json.loads(contract.canonical())
    assert validator.is_valid(data)
    assert not validator.is_valid(data | {"colour": "red"})
    assert contract_schema()["title"] == "nbkit contract, format 1"


def test_every_key_is_described_for_editors() -> None:
    schema = contract_schema()
    blocks = {"Contract": schema} | schema["$defs"]  # type: ignore[operator]
    keys = {
        f"{name}.{key}": value for name, block in blocks.items() for key, value in block.get("properties", {}).items()
    }
    assert len(keys) > 70
    assert [key for key, value in keys.items() if not value.get("description")] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (False, "false"),
        ({"a": 1}, "a mapping"),
        ((1,), "a list"),
        pytest.param(10**5000, "an enormous integer", id="enormous"),
        ("x" * 100, "'" + "x" * 56 + "..."),
        (1.5, "1.5"),
    ],
)
def test_values_are_shown_short_and_on_one_line(value: object, text: str) -> None:
    assert shown(value) == text


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.text(alphabet="ab:[]{}-\n \"'#&*!|>%@0.,?\\~", max_size=40))
def test_whatever_the_text_the_answer_is_a_contract_error(text: str) -> None:
    with pytest.raises(ContractError):
        parse_contract(text, source="contract.yaml")


def test_a_key_that_a_later_nbkit_adds_changes_no_digest_that_was_signed(contract):
    class LaterContract(Contract):
        invented_later: str = "at its default"

    later = LaterContract.model_validate_json(contract.canonical())
    assert later.digest == contract.digest
