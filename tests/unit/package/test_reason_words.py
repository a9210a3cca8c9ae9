"""Reasons in jurisdictions and languages, for sentinels and for rules; former formats still load."""

from pathlib import Path

import pytest

from nbkit.contract import parse_contract
from nbkit.errors import RationaleError
from nbkit.package import Attribution, ReasonBook, Words, principal_reasons
from tests.unit.package.test_reasons import CONTRACT, ROW, attribution

FORMATS = Path(__file__).parent / "formats" / "reasons"
FORMAT_2 = (FORMATS / "2.yaml").read_text(encoding="utf-8")
BOTH = CONTRACT.replace("[NO]", "[NO, SE]").replace("rollout:", "notice: {languages: [nb, en]}\nrollout:")
TYPICAL = {"age": 30.0, "debt": 0.3}


@pytest.fixture(scope="module")
def contract():
    text = BOTH.replace("{name: age, type: number,", "{name: age, type: number, nullable: true,")
    return parse_contract(text, source="contract.yaml")


@pytest.fixture(scope="module")
def book(contract) -> ReasonBook:
    return ReasonBook.parse(FORMAT_2, contract=contract, typical=TYPICAL)


@pytest.mark.parametrize("path", sorted(FORMATS.iterdir()), ids=lambda path: path.stem)
def test_every_format_still_loads(path):
    contract = parse_contract(BOTH if path.stem == "2" else CONTRACT, source="c")
    book = ReasonBook.parse(path.read_text(encoding="utf-8"), contract=contract, typical=TYPICAL)
    assert {entry.code for entry in book.entries} >= {"R01", "R02", "R03", "R06"}
    assert principal_reasons(attribution(purpose=1.0), ROW, book)[0].code == "R06"


def test_the_first_jurisdiction_and_language_is_what_the_service_says(book):
    assert book.first == ("NO", "nb")
    assert [reason.text for reason in principal_reasons(attribution(debt=1.0), ROW, book)] == ["Gjelden er høy"]


def test_a_jurisdictions_own_text_comes_before_the_one_for_all(book):
    words = book.find("R01").words
    assert words.find("SE", "en") == "Debt is too high"
    assert words.find("NO", "en") == "Debt is high for the income"
    assert words.find("NO", "fr") == ""
    assert not Words()


def test_a_sentinel_has_a_text_of_its_own(book):
    row = {**ROW, "age": None, "history": None}
    moved = attribution(age=1.0, history=0.5)
    (plain,) = principal_reasons(moved, row, book)
    (special,) = principal_reasons(moved, row, book, special={"age": "-1"})
    (other,) = principal_reasons(moved, row, book, special={"age": "-2"})
    assert (plain.text, special.text, other.text) == (
        "Ingen kreditthistorikk",
        "Ingen konto hos oss",
        "Ingen kreditthistorikk",
    )


def test_what_a_rule_says_of_missing_inputs_is_that_they_are_missing(book):
    absent = {**ROW, "age": None, "history": None}
    assert book.sentence("R03", ROW) == book.sentence("R03", {**absent, "age": 3.0}) == "Kreditthistorikk"
    assert book.sentence("R03", absent) == "Ingen kreditthistorikk"
    assert book.sentence("R03", absent, special={"age": "-1"}) == "Ingen konto hos oss"
    assert book.sentence("P01", absent) == "Vi låner ikke ut til denne sektoren"
    assert book.sentence("In plain words", absent) == "In plain words"


def test_a_value_that_is_there_gets_no_text_of_the_absent(book):
    (reason,) = principal_reasons(attribution(age=1.0, history=0.5), {**ROW, "age": None}, book, special={"age": "-1"})
    assert reason.text == "Kreditthistorikk"


def test_a_group_is_covered_as_if_its_inputs_were_listed(book):
    assert book.find("R03").inputs == ("history", "age")


def test_codes_that_only_rules_give_are_found_and_never_chosen(book):
    assert book.find("P01").text == "Vi låner ikke ut til denne sektoren"
    assert book.find("P99") is None
    assert "P01" not in [entry.code for entry in book.entries]


def test_an_input_whose_value_the_text_is_not_true_of_is_no_reason(book):
    low = {**ROW, "debt": 0.1}
    assert principal_reasons(attribution(debt=1.0), low, book) == ()
    assert [reason.code for reason in principal_reasons(attribution(debt=1.0, housing=0.1), low, book)] == ["R02"]


def test_a_declared_direction_silences_the_other_side_whatever_the_text():
    contract = parse_contract(CONTRACT, source="c")
    text = (FORMATS / "1.yaml").read_text().replace(", direction: high}\n  R02", "}\n  R02")
    book = ReasonBook.parse(text, contract=contract, typical=TYPICAL)
    assert principal_reasons(attribution(debt=1.0), {**ROW, "debt": 0.3}, book) == ()
    assert len(principal_reasons(attribution(debt=1.0), {**ROW, "debt": 0.31}, book)) == 1


def test_what_a_contradicting_input_adds_counts_for_no_code():
    contract = parse_contract(
        CONTRACT.replace("{name: housing, type: number}", "{name: housing, type: number, direction: increasing}"),
        source="c",
    )
    text = (FORMATS / "1.yaml").read_text().replace("inputs: [debt]", "inputs: [debt, housing]")
    text = text.replace("  R02: {inputs: [housing], text: Housing costs}\n", "")
    book = ReasonBook.parse(text, contract=contract, typical={**TYPICAL, "housing": 0.5})
    (reason,) = principal_reasons(Attribution(base=0, margin=3, by_input={"debt": 1.0, "housing": 2.0}, by_column=()),
                                  ROW, book)  # fmt: skip
    assert (reason.inputs, reason.contribution) == (("debt",), 1.0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("language: en", "language: English", "$.language: expected a language such as en, got 'English'"),
        ("[standing]", "[standig]", "$.codes.R03.groups: 'standig' is not defined"),
        ("[standing]", "[standig]", "$.groups.standing: no code uses it"),
        ("    groups: [standing]\n", "", "$.codes.R03: expected inputs or groups"),
        ("[history, age]", "[history, age, age]", "$.codes.R03.inputs: 'age' appears twice"),
        ("nb: Boutgifter", "nb: ' '", "$.codes.R02.text.nb: empty"),
        ("nb: Boutgifter", "nb: ' '", "$.codes.R02.text: no text for NO/nb, SE/nb"),
        (", nb: Formål ikke oppgitt", "", "$.codes.R06.missing_text: no text for NO/nb, SE/nb"),
        (", nb: Ingen konto hos oss", "", "$.codes.R03.special.-1: no text for NO/nb, SE/nb"),
        (", nb: Vi låner ikke ut til denne sektoren", "", "$.policies.P01.text: no text for NO/nb, SE/nb"),
        ("text: {en: Housing costs, nb: Boutgifter}", "text: Housing", "$.codes.R02.text: no text for NO/nb, SE/nb"),
        ("text: {en: Housing costs, nb: Boutgifter}", "text: ' '", "$.codes.R02.text: empty"),
        ("SE: {en", "sweden: {en", "$.codes.R01.text.sweden: expected a jurisdiction such as US"),
        ("SE: {en: Debt is too high", "SE: {en: ' '", "$.codes.R01.text.SE.en: empty"),
        (
            "nb: Boutgifter",
            "nb: Boutgifter, NORSK: Boutgifter",
            "$.codes.R02.text.NORSK: expected a language such as en, or a jurisdiction such as US with languages",
        ),
        ('"-1":', '"-9":', "$.codes.R03.special.-9: not a sentinel of history, age in the contract"),
        ("  P01:", "  p1:", "$.policies.p1: expected a code such as R01"),
        ("  P01:", "  R01:", "$.policies.R01: is also one of codes"),
        ("    text: {en: Purpose", "    txt: {en: Purpose", "$.codes.R06.txt: extra inputs are not permitted"),
        ("text: {en: Housing costs, nb: Boutgifter}", "text: 7", "$.codes.R02.text: input should be a valid string"),
    ],
)
def test_a_problem_of_the_file_is_named(contract, old, new, problem):
    assert old in FORMAT_2
    with pytest.raises(RationaleError) as caught:
        ReasonBook.parse(FORMAT_2.replace(old, new, 1), contract=contract)
    assert problem in caught.value.problems


def test_a_text_for_the_safe_side_of_a_declared_direction_could_never_be_said():
    two = FORMAT_2 + ""
    text = two.replace(
        "  R02:", "  R07:\n    inputs: [debt]\n    direction: low\n    text: {en: Low, nb: Lav}\n  R02:", 1
    )
    with pytest.raises(RationaleError) as caught:
        ReasonBook.parse(text, contract=parse_contract(BOTH, source="c"))
    assert caught.value.problems == (
        "input 'debt': R07 is said of low values, but the contract declares direction increasing; no such value is ever"
        " a reason",
    )


def test_two_texts_for_an_input_without_a_declared_direction_are_fine(contract):
    text = FORMAT_2.replace("    inputs: [housing]\n", "    inputs: [housing]\n    direction: high\n", 1)
    text = text.replace("  R06:", "  R07: {inputs: [housing], direction: low, text: {en: Low, nb: Lav}}\n  R06:", 1)
    book = ReasonBook.parse(text, contract=contract, typical={**TYPICAL, "housing": 0.2})
    assert [reason.code for reason in principal_reasons(attribution(housing=1.0), ROW, book)] == ["R02"]
    assert [reason.code for reason in principal_reasons(attribution(housing=1.0), {**ROW, "housing": 0.1}, book)] == [
        "R07"
    ]


def test_a_text_for_one_side_says_nothing_of_a_value_on_the_other(contract):
    text = FORMAT_2.replace("    inputs: [debt]\n", "    inputs: [debt]\n", 1)
    book = ReasonBook.parse(text, contract=contract, typical=TYPICAL)
    assert book.entry_for("debt", 0.2) is None
    assert book.entry_for("debt", 0.4).code == "R01"


@pytest.mark.parametrize("found", ["true", "3", "'1'"])
def test_an_unknown_format_is_refused(contract, found):
    with pytest.raises(RationaleError, match=r"\$\.format: expected 1 or 2"):
        ReasonBook.parse(f"format: {found}\ncodes: {{}}", contract=contract)
