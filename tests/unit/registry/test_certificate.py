"""Certificates and waivers: signed by one person, for one version, for a while."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nbkit.errors import EvidenceError
from nbkit.files import write_atomically
from nbkit.records import GateResult, Verdict
from nbkit.registry import (
    Action,
    Certificate,
    CertificateKind,
    Envelope,
    Memory,
    Statement,
    Tick,
    TrustStore,
    verify_certificate,
    verify_evidence,
)

GOLDEN = Path(__file__).parent / "formats" / "1"
DAY = timedelta(days=1)


def certificate(people, name: str = "ben", **changes: object) -> Certificate:
    content: dict[str, object] = {
        "kind": CertificateKind.WAIVER,
        "model": "loan-denial",
        "version": 3,
        "package_digest": people.package,
        "contract_digest": people.contract.digest,
        "issued_at": people.now - timedelta(hours=2),
        "expires_at": people.now + 14 * DAY,
        "signer": people.person(name),
        "says": {"gate": "at_least:auc", "stage": "production", "verdict": "fail", "found": "auc is 0.7"},
        "reason": "regulator's date",
    }
    return Certificate.model_validate(content | changes)


def signed(people, name: str = "ben", *, by: str = "", **changes: object) -> Envelope:
    return Envelope.of(certificate(people, name, **changes)).sign(people.keys[by or name])


def asked(people, **changes: object) -> dict[str, object]:
    content: dict[str, object] = {
        "trust": people.trust,
        "now": people.now,
        "kind": CertificateKind.WAIVER,
        "model": "loan-denial",
        "version": 3,
        "package_digest": people.package,
        "contract_digest": people.contract.digest,
    }
    return content | changes


def test_a_certificate_survives_the_way_through_json(people) -> None:
    envelope = Envelope.from_json(signed(people).to_json())
    assert verify_certificate(envelope, **asked(people)) == certificate(people)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": CertificateKind.REHEARSAL}, "kind: expected rehearsal, got waiver"),
        ({"model": "other"}, "model: expected other, got loan-denial"),
        ({"version": 4}, "version: expected 4, got 3"),
        ({"package_digest": "sha256:" + "0" * 64}, "package digest: expected"),
        ({"contract_digest": "sha256:" + "0" * 64}, "contract digest: expected"),
    ],
)
def test_a_certificate_about_something_else_is_refused(people, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(EvidenceError, match=reason):
        verify_certificate(signed(people), **asked(people, **changes))


def test_time_and_signer_are_checked(people) -> None:
    with pytest.raises(EvidenceError, match="expired at"):
        verify_certificate(signed(people), **asked(people, now=people.now + 14 * DAY))
    with pytest.raises(EvidenceError, match="which is in the future"):
        verify_certificate(signed(people), **asked(people, now=people.now - DAY))
    with pytest.raises(EvidenceError, match="may not sign a waiver"):
        verify_certificate(signed(people, "omar"), **asked(people))
    with pytest.raises(EvidenceError, match="signer: expected a signature of ben, got none"):
        verify_certificate(signed(people, by="cleo"), **asked(people))
    with pytest.raises(EvidenceError, match="no signature of a trusted key"):
        verify_certificate(Envelope.of(certificate(people)), **asked(people))
    trust = people.trust.revoke(people.keys["ben"].key_id, people.now)
    with pytest.raises(EvidenceError, match="was revoked"):
        verify_certificate(signed(people), **asked(people, trust=trust))


def test_evidence_and_certificates_do_not_stand_for_each_other(people) -> None:
    with pytest.raises(EvidenceError, match="predicateType: expected 'urn:nbkit:certificate:1'"):
        verify_certificate(people.promotion(), **asked(people))
    with pytest.raises(EvidenceError, match="predicateType: expected 'urn:nbkit:evidence:1'"):
        verify_evidence(signed(people), **people.facts())


def test_a_waiver_needs_a_reason_and_an_end(people) -> None:
    with pytest.raises(ValueError, match="a waiver needs one"):
        certificate(people, reason=" ")
    with pytest.raises(ValueError, match="expires_at: expected later than issued_at"):
        certificate(people, expires_at=people.now - DAY)


def waived(people, *waivers: Envelope, **changes: object) -> Envelope:
    gates = (people.statement().gates[0], GateResult(gate="at_least:auc", verdict=Verdict.WAIVED, reason="waived"))
    content = {"gates": gates, "expires_at": people.now + 14 * DAY, "waivers": tuple(w.as_mapping() for w in waivers)}
    return people.promotion(**(content | changes))


def test_a_waived_gate_passes_with_its_waiver(people) -> None:
    statement = verify_evidence(waived(people, signed(people)), **people.facts())
    assert [result.verdict for result in statement.gates] == [Verdict.PASS, Verdict.WAIVED]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"gate": "golden"}, "gate at_least:auc: waived, but no waiver for it holds"),
        ({"stage": "staging"}, "is for staging, not for production"),
        ({"verdict": "pass"}, "'pass' of this gate is never waived"),
        ({"verdict": "anything"}, "'anything' of this gate is never waived"),
        ({"gate": "scan"}, "'fail' of this gate is never waived"),
    ],
)
def test_a_waiver_for_something_else_does_not_help(people, says: dict[str, object], reason: str) -> None:
    envelope = signed(people, says=dict(certificate(people).says) | says)
    with pytest.raises(EvidenceError, match=reason):
        verify_evidence(waived(people, envelope), **people.facts())


def test_a_waiver_that_does_not_hold_does_not_help(people) -> None:
    def refusal(envelope: Envelope, **facts: object) -> str:
        with pytest.raises(EvidenceError) as caught:
            verify_evidence(envelope, **people.facts(**facts))
        return str(caught.value)

    assert "gate at_least:auc: waived, but no waiver for it holds" in refusal(waived(people))
    assert "ana submitted the version and cannot waive" in refusal(waived(people, signed(people, "ana")))
    assert "may not sign a waiver" in refusal(waived(people, signed(people, "omar")))
    longer = waived(people, signed(people), expires_at=people.now + 15 * DAY)
    assert "the evidence outlives it" in refusal(longer)
    assert "version: expected 3, got 4" in refusal(waived(people, signed(people, version=4)))


def test_approvals_of_different_payloads_are_not_joined(people) -> None:
    one, two = people.promotion("ben"), people.promotion("cleo")
    assert {s.keyid for s in one.joined(two).signatures} == {people.keys[name].key_id for name in ("ben", "cleo")}
    with pytest.raises(EvidenceError, match="under different payloads cannot be joined"):
        one.joined(people.promotion("cleo", epoch=8))


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("promotion", "trust"),
        ("waived", "trust"),
        ("waiver", "trust"),
        ("submission", "more-trust"),
        ("rollback", "more-trust"),
    ],
)
def test_what_format_1_wrote_still_loads_to_the_byte(name: str, trusted: str, tmp_path: Path) -> None:
    text = (GOLDEN / f"{name}.dsse.json").read_text(encoding="utf-8")
    envelope = Envelope.from_json(text)
    assert envelope.to_json() == text
    found = envelope.unverified_certificate() if name == "waiver" else envelope.unverified_statement()
    assert (found.model, found.version) == ("loan-denial", 3)
    assert found.payload() == envelope.payload
    # A checkout may leave the file writable by others, and then it is no trust file.
    path = tmp_path / "trust.json"
    write_atomically(path, content=(GOLDEN / f"{trusted}.json").read_bytes(), mode=0o600)
    trust = TrustStore.load(path)
    for signature in envelope.signatures:
        key = trust.find(signature.keyid)
        assert key is not None
        assert signature.fits(key.raw, payload=envelope.payload)


def test_a_rollback_of_format_1_still_carries_the_promotion_that_it_goes_back_to() -> None:
    rollback = Envelope.from_json((GOLDEN / "rollback.dsse.json").read_text(encoding="utf-8")).unverified_statement()
    promotion = Envelope.from_json((GOLDEN / "promotion.dsse.json").read_text(encoding="utf-8"))
    assert Envelope.from_mapping(rollback.basis) == promotion
    assert (rollback.action, rollback.reason) == (Action.ROLLBACK, "complaints from branch 12")


def test_evidence_without_waivers_does_not_mention_them() -> None:
    payload = Envelope.from_json((GOLDEN / "promotion.dsse.json").read_text(encoding="utf-8")).payload
    assert b"waivers" not in payload
    assert Statement.from_payload(payload).waivers == ()


def test_a_memory_outlives_its_process_and_notices_a_clock_that_went_back(people, tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    passed = [0.0]
    memory = Memory(path, tick=lambda: Tick("boot", passed[0]))
    assert memory.highest_epoch("loan-denial", stage="production") == 0
    memory.check_clock(people.now)
    memory.accepted("loan-denial", stage="production", epoch=3, now=people.now)
    passed[0] = DAY.total_seconds()
    memory.check_clock(people.now + DAY)
    again = Memory(path, tick=lambda: Tick("boot", passed[0]))
    assert again.highest_epoch("loan-denial", stage="production") == 3
    assert again.highest_epoch("loan-denial", stage="staging") == 0
    again.check_clock(people.now + DAY - timedelta(minutes=4))
    with pytest.raises(EvidenceError, match="the clock went back"):
        again.check_clock(people.now)
    path.write_text("[]")
    with pytest.raises(EvidenceError, match="not what nbkit remembers"):
        again.highest_epoch("loan-denial", stage="production")
