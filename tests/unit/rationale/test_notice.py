"""A notice of adverse action: reasons of the record, what the law wants said, and gaps instead of inventions."""

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from nbkit.contract import Notice, parse_contract
from nbkit.errors import RationaleError
from nbkit.package import ReasonBook
from nbkit.rationale import _notice, notice_of
from nbkit.records import AuditRecord

RECEIVED = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

CONTRACT = """\
format: 1
name: loans
kind: tabular
title: Loans
owner: {team: Risk, primary: Ada, deputy: Bo}
impact: high
purpose: Decide.
jurisdictions: [US, GB, SE]
entity: id
target: {column: bad, positive: 1, meaning: bad, label_delay_days: 0}
inputs:
  - {name: debt, type: number, direction: increasing}
  - {name: bureau_score, type: integer, minimum: 300, maximum: 850, nullable: true, sentinels: [-9]}
decision:
  costs:
    approve: {positive: 10, negative: 0}
    refer: {positive: 1, negative: 1}
    decline: {positive: 0, negative: 3}
rollout: {path: [staging, production]}
gates: {staging: [{gate: parity}], production: [{gate: parity}]}
notice:
  creditor: Example <Bank>
  address: 1 Main Street, Springfield
  phone: 555-0100
  agency: Bureau of Examples, Washington
  languages: [en, es]
"""
BUREAU = """\
  bureau: {name: Credit Files, address: 2 File Road, phone: 800-555-0199, inputs: [bureau_score], score: bureau_score}
"""
REASONS = """\
format: 2
codes:
  R01: {inputs: [debt], direction: high, text: {en: Debts too high, es: Deudas excesivas}}
  R02:
    inputs: [bureau_score]
    text: {en: Credit history, es: Historial de crédito}
    missing_text: {en: No credit history, es: Sin historial de crédito}
    special: {"-9": {en: No bureau record, es: Sin registro en la agencia}}
policies:
  P01: {text: {en: Not in this state, es: No en este estado}}
"""


@pytest.fixture
def render():
    def rendered(*, contract: str = CONTRACT, changes=None, **options):
        parsed = parse_contract(contract, source="contract.yaml")
        content = {
            "id": "d1",
            "request_id": "A-77",
            "model": "loans",
            "version": 1,
            "package_digest": "sha256:0",
            "contract_digest": "sha256:1",
            "evidence_digest": "sha256:2",
            "received_at": RECEIVED,
            "decided_at": RECEIVED,
            "subject": "",
            "inputs": {"debt": 0.9, "bureau_score": 512.0},
            "score": 0.8,
            "decision": "decline",
            "reasons": ("R01", "R02"),
            "tags": {"reason.R01": "Debts too high", "reason.R02": "No bureau record"},
        }
        record = AuditRecord(**{**content, **(changes or {})})
        return notice_of(record, contract=parsed, book=ReasonBook.parse(REASONS, contract=parsed), **options)

    return rendered


class Words(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.words = []
        self.feed(html)
        self.text = " ".join("".join(self.words).split())

    def handle_data(self, data):
        self.words.append(data)


def test_it_holds_what_regulation_b_asks_for(render):
    notice = render()
    text = " ".join(notice.text.split())
    for part in (
        "Example <Bank> 1 Main Street, Springfield",
        "We are unable to approve it",
        "1. Debts too high 2. No bureau record",
        "Equal Credit Opportunity Act prohibits creditors from discriminating",
        "race, color, religion, national origin, sex, marital status, or age",
        "public assistance program",
        "Consumer Credit Protection Act",
        "concerning this creditor is Bureau of Examples, Washington",
        "application A-77, which we received on 2026-11-24",
        "call 555-0100",
    ):
        assert part in text
    assert notice.gaps == ()
    assert (notice.jurisdiction, notice.language) == ("US", "en")


def test_it_must_go_out_within_thirty_days(render):
    assert render().send_by == datetime(2026, 12, 24, 9, 30, tzinfo=UTC)


def test_the_html_says_the_same_and_is_safe(render):
    notice = render(contract=CONTRACT + BUREAU)
    page = Words(notice.html).text
    for line in notice.text.splitlines():
        words = " ".join(line.split())
        words = words[3:] if words[:1].isdigit() and words[1:2] == "." else words
        assert words in page or words.upper() in page.upper()
    assert "<Bank>" not in notice.html
    assert "&lt;Bank&gt;" in notice.html
    assert "http" not in notice.html


def test_reasons_are_translated_by_the_text_that_was_told(render):
    notice = render(language="es")
    assert notice.reasons == (("R01", "Deudas excesivas"), ("R02", "Sin registro en la agencia"))
    assert "Equal Credit Opportunity Act" in notice.text
    missing = render(
        language="es", changes={"tags": {"reason.R01": "Debts too high", "reason.R02": "No credit history"}}
    )
    assert missing.reasons[1] == ("R02", "Sin historial de crédito")


def test_a_rules_reason_in_words_stands_as_recorded_and_is_a_gap_elsewhere(render):
    words = "We do not lend here"
    changes = {"reasons": (words, "P01"), "tags": {f"reason.{words}": words, "reason.P01": "Not in this state"}}
    assert render(changes=changes).gaps == ()
    spanish = render(changes=changes, language="es")
    assert spanish.reasons == ((words, words), ("P01", "No en este estado"))
    assert spanish.gaps == (f"reason {words} has no text for US/es; it stands as it was recorded",)


def test_a_record_without_sentences_gets_those_of_the_book(render):
    assert render(changes={"tags": {}}).reasons == (("R01", "Debts too high"), ("R02", "Credit history"))


def test_what_nobody_told_is_a_gap_and_never_invented(render):
    bare = CONTRACT[: CONTRACT.index("notice:")]
    notice = render(contract=bare)
    assert notice.gaps == tuple(
        f"notice.{name} is not set in contract.yaml" for name in ("creditor", "address", "agency")
    )
    assert "[agency: set notice.agency in contract.yaml]" in notice.text
    assert "<mark>[creditor: set notice.creditor in contract.yaml]</mark>" in notice.html
    assert "write to us at the address above.\n" in notice.text
    today = Notice(creditor="New Bank", address="3 High Street", agency="Agency")
    assert render(contract=bare, told_by=today).gaps == ()


def test_the_bureaus_score_is_told_as_far_as_it_is_known(render):
    notice = render(contract=CONTRACT + BUREAU)
    text = " ".join(notice.text.split())
    assert "Credit Files 2 File Road 800-555-0199" in text
    assert "free copy of your report from it if you ask within 60 days" in text
    assert "your credit score from this agency: 512. Its scores range from 300 to 850." in text
    assert [gap.split(":")[0] for gap in notice.gaps] == [
        "the date of the credit score",
        "the key factors of the credit score",
    ]
    unknown = render(contract=CONTRACT + BUREAU, changes={"inputs": {"debt": 0.9, "bureau_score": None}})
    assert unknown.gaps[0] == "the credit score: input 'bureau_score' is not in the record"
    unscored = render(contract=CONTRACT + BUREAU.replace(", score: bureau_score", ""))
    assert unscored.gaps == ()


def test_another_jurisdiction_has_its_own_rights(render):
    british = render(jurisdiction="GB")
    assert "ask for a person to look at this decision" in british.text
    assert "Equal Credit" not in british.text
    assert british.send_by is None
    swedish = render(jurisdiction="SE")
    assert "explain how the assessment was made" in " ".join(swedish.text.split())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"decision": "approve"}, "the decision is approve, which is not adverse"),
        ({"decision": "refer"}, "the decision is refer, which is not adverse; a person has not decided yet"),
        ({"kind": "shadow"}, "it is the record of a version in shadow, which answered nobody"),
        ({"reasons": ()}, "the record holds no reason, and a notice never invents one"),
    ],
)
def test_only_an_answered_decline_with_reasons_gets_a_notice(render, changes, why):
    with pytest.raises(RationaleError) as caught:
        render(changes=changes)
    assert str(caught.value) == f"d1: no notice of adverse action: {why}"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"jurisdiction": "FR"}, "jurisdiction 'FR': the contract decides in US, GB, SE"),
        ({"language": "nb"}, "no notice text for US in 'nb'; there are EU/en, GB/en, US/en, US/es"),
    ],
)
def test_a_notice_that_nobody_wrote_is_refused(render, options, why):
    with pytest.raises(RationaleError, match=why.replace("(", r"\(")):
        render(**options)


def test_texts_of_another_format_are_refused(render, tmp_path, monkeypatch):
    (tmp_path / "us.en.yaml").write_text("format: 2\ntitle: Notice\n")
    monkeypatch.setattr(_notice, "_FOLDER", tmp_path)
    with pytest.raises(RationaleError, match=r"^us\.en\.yaml: expected format 1, got 2$"):
        render()
