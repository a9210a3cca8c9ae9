from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
import rfc8785

from nbkit.errors import EvidenceError
from nbkit.records import GateResult, Verdict
from nbkit.registry import PREDICATE_TYPE, Action, Envelope, Statement
from nbkit.registry._envelope import pre_authentication_encoding
from nbkit.registry._strict_json import canonical


def test_the_signed_bytes_are_those_of_the_dsse_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_a_statement_is_an_in_toto_statement_in_canonical_json(people) -> None:
    content = json.loads(people.statement().payload())
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["predicateType"] == PREDICATE_TYPE == "urn:nbkit:evidence:1"
    assert content["subject"] == [{"name": "loan-denial/3", "digest": {"sha256": "a" * 64}}]
    assert content["predicate"]["format"] == 1
    assert content["predicate"]["issued_at"] == "2026-11-24T08:30:00.000000Z"
    assert rfc8785.dumps(content) == people.statement().payload()


def test_a_statement_reads_back_the_same(people) -> None:
    basis = people.promotion()
    for statement in (people.statement(), people.rollback(basis).unverified_statement()):
        assert Statement.from_payload(statement.payload()) == statement


def test_an_envelope_reads_back_the_same(people) -> None:
    envelope = people.promotion("ana", "ben", "cleo")
    again = Envelope.from_json(envelope.to_json())
    assert again == envelope
    assert (again.digest, again.payload_type) == (envelope.digest, "application/vnd.in-toto+json")
    assert Envelope.from_json(json.dumps(envelope.as_mapping(), indent=2).encode()) == envelope


def test_nobody_signs_twice(people) -> None:
    with pytest.raises(EvidenceError, match="key 'ana': has signed this already"):
        people.promotion("ana").sign(people.keys["ana"])


def test_nobody_signs_what_is_no_statement(people) -> None:
    with pytest.raises(EvidenceError, match="statement: expected JSON"):
        Envelope(payload=b"{").sign(people.keys["ana"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "Loan-Denial"}, "model"),
        ({"model": "loan-denial\n"}, "model"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"version": 2**53}, "version"),
        ({"package_digest": "sha256:" + "A" * 64}, "package_digest"),
        ({"package_digest": "a" * 64}, "package_digest"),
        ({"case_set_digest": "none"}, "case_set_digest"),
        ({"stage": "Production"}, "stage"),
        ({"action": "promote"}, "action"),
        ({"documents": {"rationale.json": "sha256:"}}, "documents"),
        ({"extra": 1}, "extra"),
        ({"basis": {}}, "basis: expected the envelope of the promotion for a rollback, and nothing otherwise"),
        ({"action": Action.ROLLBACK}, "basis: expected the envelope"),
    ],
)
def test_a_statement_that_makes_no_sense_cannot_be_made(people, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        people.statement(**changes)


def test_a_statement_that_ends_before_it_begins_cannot_be_made(people) -> None:
    with pytest.raises(ValueError, match="expires_at: expected later than issued_at"):
        people.statement(expires_at=people.now - timedelta(hours=1))
    with pytest.raises(ValueError, match="issued_at"):
        people.statement(issued_at=people.now.replace(tzinfo=None))


def test_a_text_that_is_not_unicode_cannot_be_signed(people) -> None:
    gate = GateResult(gate="parity", verdict=Verdict.PASS, reason="\ud800")
    with pytest.raises(EvidenceError, match="cannot be written as canonical JSON"):
        people.statement(gates=(gate,)).payload()


def _edited(people, change) -> bytes:
    content = json.loads(people.statement().payload())
    change(content)
    return rfc8785.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(_type="https://in-toto.io/Statement/v0.1"),
            "_type: expected 'https://in-toto.io/Statement/v1'",
        ),
        (lambda c: c.update(predicateType="urn:nbkit:evidence:2"), "predicateType: expected 'urn:nbkit:evidence:1'"),
        (lambda c: c["predicate"].update(format=2), "format: expected 1, got 2"),
        (lambda c: c["predicate"].update(format=True), "format: expected 1, got True"),
        (lambda c: c["predicate"].pop("format"), "format: expected 1, got None"),
        (lambda c: c["predicate"].pop("epoch"), "epoch: Field required"),
        (lambda c: c["predicate"].update(version="3"), "version: Input should be a valid integer"),
        (lambda c: c["predicate"].update(issued_at="2026-11-24T08:30:00Z"), "not written as nbkit writes it"),
        (lambda c: c["predicate"].update(issued_at=1), "issued_at"),
        (lambda c: c["predicate"]["gates"][0].update(sure=True), "gates"),
        (lambda c: c["subject"].append(c["subject"][0]), "the subject or a value is not written as nbkit writes it"),
        (lambda c: c["subject"][0]["digest"].update(sha256="b" * 64), "the subject or a value is not written"),
        (lambda c: c.update(note="x"), "the subject or a value is not written"),
        (lambda c: c.update(predicate=[]), "expected an in-toto statement with a predicate"),
    ],
)
def test_a_payload_that_nbkit_would_not_write_is_refused(people, change, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Statement.from_payload(_edited(people, change))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"[]", "expected an in-toto statement"),
        (b"", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"NaN", "expected JSON, got the number NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b"[" * 64 + b"]" * 64, "expected an in-toto statement"),
        (b"1" * 5000, "expected JSON"),
        (b"1" * 1_000_001, "expected at most 1000000 bytes, got 1000001"),
        (b"12345678901234567890", "cannot be written as canonical JSON"),
        (b'"\\ud800"', "cannot be written as canonical JSON"),
    ],
)
def test_hostile_payloads_are_refused_and_never_crash(payload: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Statement.from_payload(payload)


def test_what_cannot_be_written_is_refused_and_never_crashes() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(EvidenceError, match="x: nested too deeply"):
        canonical(endless, what="x")


def test_white_space_in_a_payload_is_refused(people) -> None:
    with pytest.raises(EvidenceError, match="expected canonical JSON"):
        Statement.from_payload(people.statement().payload() + b"\n")


def test_duplicate_keys_in_a_payload_are_refused(people) -> None:
    payload = people.statement().payload().replace(b'"version":3', b'"version":3,"version":4')
    with pytest.raises(EvidenceError, match="duplicate key 'version'"):
        Statement.from_payload(payload)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(payloadType="application/json"), "payloadType: expected 'application/vnd.in-toto"),
        (lambda c: c.update(payloadType="Application/vnd.in-toto+json"), "payloadType: expected"),
        (lambda c: c.update(payloadType=None), "payloadType: expected"),
        (lambda c: c.pop("payloadType"), "expected exactly payload, payloadType and signatures"),
        (lambda c: c.update(more=1), "expected exactly payload"),
        (lambda c: c.update(payload=c["payload"].rstrip("=") + "\n"), "payload: expected standard base64"),
        (lambda c: c.update(payload=1), "payload: expected standard base64"),
        (lambda c: c.update(payload="QR=="), "payload: expected standard base64"),
        (lambda c: c.update(signatures={}), "signatures: expected a list"),
        (lambda c: c.update(signatures=c["signatures"] * 20), "expected a list of at most 32"),
        (lambda c: c["signatures"].append(c["signatures"][0]), "one key has signed twice"),
        (lambda c: c["signatures"][0].update(cert=""), r"signatures\[0\]: expected exactly keyid and sig"),
        (lambda c: c["signatures"].append("x"), r"signatures\[2\]: expected exactly keyid and sig"),
        (lambda c: c["signatures"][1].update(keyid="ana"), r"signatures\[1\]\.keyid: expected 'sha256:"),
        (lambda c: c["signatures"][1].update(sig="AAAA"), r"signatures\[1\]\.sig: expected 64 bytes, got 3"),
    ],
)
def test_a_malformed_envelope_is_refused(people, change, message: str) -> None:
    content = people.promotion().as_mapping()
    change(content)
    with pytest.raises(EvidenceError, match=message):
        Envelope.from_json(json.dumps(content))


def test_hostile_envelopes_are_refused_and_never_crash(people) -> None:
    text = people.promotion().to_json()
    with pytest.raises(EvidenceError, match="duplicate key 'payload'"):
        Envelope.from_json(text.replace('{"payload":', '{"payload":"","payload":', 1))
    with pytest.raises(EvidenceError, match="expected at most 1000000 bytes"):
        Envelope.from_json(text + " " * 1_000_000)
    with pytest.raises(EvidenceError, match="expected exactly payload"):
        Envelope.from_json('["\ud800"]')
    with pytest.raises(EvidenceError, match="nested too deeply"):
        Envelope.from_json("[" * 100_000)


def test_the_payload_is_standard_base64_that_any_dsse_tool_reads(people) -> None:
    envelope = people.promotion()
    content = json.loads(envelope.to_json())
    assert base64.b64decode(content["payload"]) == envelope.payload
    assert [s["keyid"] for s in content["signatures"]] == [people.keys["ana"].key_id, people.keys["ben"].key_id]
