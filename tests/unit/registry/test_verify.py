from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nbkit.contract import Stage
from nbkit.errors import EvidenceError
from nbkit.records import GateResult, Verdict
from nbkit.registry import (
    Action,
    Envelope,
    Signature,
    TrustStore,
    load_key,
    new_key,
    verify_evidence,
    verify_submission,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def refusal(envelope: Envelope, facts: dict[str, object]) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(envelope, **facts)
    return str(caught.value)


def test_a_promotion_that_holds_returns_its_statement(people) -> None:
    statement = verify_evidence(people.promotion(), **people.facts())
    assert statement == people.statement()
    assert verify_evidence(people.promotion(), **people.facts(stage=Stage.PRODUCTION)) == statement


def test_it_survives_the_way_through_json(people) -> None:
    assert verify_evidence(Envelope.from_json(people.promotion().to_json()), **people.facts()).version == 3


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"model": "other"}, "model: expected other, got loan-denial"),
        ({"version": 4}, "version: expected 4, got 3"),
        ({"stage": "staging"}, "stage: expected staging, got production"),
        ({"stage": "Production"}, "stage: expected Production, got production"),
        ({"package_digest": "sha256:" + "b" * 64}, "package digest: expected sha256:bbb"),
        ({"minimum_epoch": 8}, "epoch: expected at least 8, got 7; an old statement"),
    ],
)
def test_evidence_about_something_else_is_refused(people, facts: dict[str, object], reason: str) -> None:
    text = refusal(people.promotion(), people.facts(**facts))
    assert reason in text
    assert "Next: nbkit gate " in text


def test_a_version_of_another_type_is_not_the_same_version(people) -> None:
    envelope = people.promotion(version=1)
    assert "version: expected True, got 1" in refusal(envelope, people.facts(version=True))
    assert "version: expected 1, got 1" in refusal(envelope, people.facts(version="1"))


def test_the_same_epoch_verifies_again(people) -> None:
    assert verify_evidence(people.promotion(), **people.facts(minimum_epoch=7)).epoch == 7


def test_another_contract_is_refused(people, high_impact) -> None:
    text = refusal(people.promotion(), people.facts(contract=high_impact.contract))
    assert "contract digest: expected" in text
    assert "impact: expected high, got medium" in text
    assert "approvals_needed: expected at least 2, got 1" in text


def test_a_stage_outside_the_rollout_path_is_refused(people) -> None:
    text = refusal(people.promotion(stage="canary"), people.facts(stage="canary"))
    assert "stage: expected one of rollout.path (staging, production), got 'canary'" in text


def test_another_case_set_is_refused(people) -> None:
    assert "case set: expected sha256:ccc" in refusal(people.promotion(case_set_digest=""), people.facts())


def test_a_contract_without_pinned_cases_asks_for_none(people) -> None:
    contract = people.contract.model_copy(
        update={"evaluate": people.contract.evaluate.model_copy(update={"case_set": None})}
    )
    envelope = people.promotion(contract_digest=contract.digest, case_set_digest="")
    assert verify_evidence(envelope, **people.facts(contract=contract)).case_set_digest == ""


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.CANNOT_TELL])
def test_a_gate_that_did_not_pass_is_named(people, verdict: Verdict) -> None:
    failed = GateResult(gate="at_least:auc", verdict=verdict, reason="auc is 0.7, below the floor 0.75")
    text = refusal(people.promotion(gates=(people.statement().gates[0], failed)), people.facts())
    assert f"gate at_least:auc: {verdict}: auc is 0.7, below the floor 0.75" in text


def test_a_gate_of_the_contract_without_a_result_is_named(people) -> None:
    text = refusal(people.promotion(gates=people.statement().gates[:1]), people.facts())
    assert "gate at_least:auc: named by the contract, but there is no result" in text


def test_no_gate_results_at_all_are_refused(people) -> None:
    assert "gates: no results" in refusal(people.promotion(gates=()), people.facts())


def test_a_submission_never_lets_a_version_be_served(people) -> None:
    text = refusal(people.promotion(action=Action.SUBMIT), people.facts())
    assert "action: expected promote or rollback, got submit" in text


def test_expired_evidence_is_refused_from_its_very_last_moment(people) -> None:
    end = people.statement().expires_at
    assert verify_evidence(people.promotion(), **people.facts(now=end - timedelta(microseconds=1)))
    assert "expired at" in refusal(people.promotion(), people.facts(now=end))


def test_evidence_from_the_future_is_refused_beyond_what_clocks_differ(people) -> None:
    soon = people.promotion(issued_at=people.now + timedelta(minutes=4))
    late = people.promotion(issued_at=people.now + timedelta(minutes=6))
    assert verify_evidence(soon, **people.facts())
    assert "which is in the future" in refusal(late, people.facts())


def test_evidence_for_longer_than_the_contract_allows_is_refused(people) -> None:
    envelope = people.promotion(expires_at=people.now + 366 * DAY)
    assert "valid for longer than the contract's 365 days" in refusal(envelope, people.facts())


def test_a_naive_clock_is_refused(people) -> None:
    assert "now: expected an aware time" in refusal(
        people.promotion(), people.facts(now=people.now.replace(tzinfo=None))
    )


def test_a_changed_payload_makes_every_signature_false(people) -> None:
    other = people.statement(version=4).payload()
    text = refusal(replace(people.promotion(), payload=other), people.facts(version=4))
    assert "no signature of a trusted key" in text
    assert "the signature of key 'ana' of ana is false" in text


def test_one_false_signature_spoils_the_envelope(people) -> None:
    good = people.promotion("ana", "ben", "cleo")
    forged = Signature(keyid=good.signatures[2].keyid, sig=bytes(64))
    text = refusal(replace(good, signatures=(*good.signatures[:2], forged)), people.facts())
    assert "the signature of key 'cleo' of cleo is false" in text


def test_a_signature_over_the_bare_payload_is_false(people) -> None:
    bare = Signature(keyid=people.keys["ana"].key_id, sig=people.keys["ana"].sign(people.statement().payload()))
    assert "is false" in refusal(Envelope(payload=people.statement().payload(), signatures=(bare,)), people.facts())


def test_an_unsigned_envelope_is_refused_before_it_is_read(people) -> None:
    assert "no signature of a trusted key" in refusal(Envelope(payload=b"not even JSON"), people.facts())


def test_a_stranger_counts_for_nothing_and_spoils_nothing(people, tmp_path) -> None:
    new_key("stranger", directory=tmp_path)
    stranger = load_key("stranger", directory=tmp_path)
    assert verify_evidence(people.promotion().sign(stranger), **people.facts())
    text = refusal(people.promotion("ana").sign(stranger), people.facts())
    assert "approvals: expected 1 of other people, got 0" in text
    assert f"the signature of {stranger.key_id[:19]}… is by a key that is not trusted" in text
    assert "no signature of a trusted key" in refusal(people.promotion(), people.facts(trust=TrustStore()))


def test_the_submitter_must_have_signed(people) -> None:
    assert "submitter: expected a counting signature of ana, got none" in refusal(
        people.promotion("ben", "cleo"), people.facts()
    )


def test_the_submitter_alone_is_not_enough(people) -> None:
    text = refusal(people.promotion("ana"), people.facts())
    assert "approvals: expected 1 of other people, got 0" in text
    assert "the submitter's own approval does not count" in text


def test_a_submitter_whom_the_verifier_does_not_know_is_refused(people) -> None:
    unknown = {"key_id": "sha256:" + "0" * 64, "owner": "zoe"}
    text = refusal(people.promotion("ben", submitter=unknown), people.facts())
    assert "submitter: expected a counting signature of zoe, got none" in text


def test_nobody_approves_by_calling_somebody_else_the_submitter(people) -> None:
    envelope = people.promotion("ana", "ben", submitter={"key_id": people.keys["ana"].key_id, "owner": "zoe"})
    assert "submitter's owner: expected ana, got zoe" in refusal(envelope, people.facts())
    envelope = people.promotion("ben", submitter=people.person("omar"))
    assert "submitter: expected a counting signature of omar, got none" in refusal(envelope, people.facts())


@pytest.mark.parametrize("spelling", ["ana", "Ana", "ANA", "ana\u00a0", "ａna", "anä"])
def test_a_second_key_of_the_submitter_is_no_second_person(people, tmp_path, spelling: str) -> None:
    public = new_key("second", directory=tmp_path)
    trust = people.trust.add(
        public, owner=spelling.strip(), roles=["approver"], not_before=people.now - DAY, not_after=people.now + DAY
    )
    envelope = people.promotion("ana").sign(load_key("second", directory=tmp_path))
    assert "approvals: expected 1 of other people, got 0" in refusal(envelope, people.facts(trust=trust))


def test_two_keys_of_one_approver_are_one_approval(high_impact, tmp_path) -> None:
    public = new_key("second", directory=tmp_path)
    now = high_impact.now
    trust = high_impact.trust.add(public, owner="Ben", roles=["approver"], not_before=now - DAY, not_after=now + DAY)
    envelope = high_impact.promotion().sign(load_key("second", directory=tmp_path))
    assert "approvals: expected 2 of other people, got 1" in refusal(envelope, high_impact.facts(trust=trust))


def test_high_impact_needs_two_other_people(high_impact) -> None:
    assert "approvals: expected 2 of other people, got 1" in refusal(high_impact.promotion(), high_impact.facts())
    assert verify_evidence(high_impact.promotion("ana", "ben", "cleo"), **high_impact.facts())


def test_a_statement_may_ask_for_more_approvals_than_the_contract(people) -> None:
    assert "expected 2 of other people, got 1" in refusal(people.promotion(approvals_needed=2), people.facts())
    assert verify_evidence(people.promotion("ana", "ben", "cleo", approvals_needed=2), **people.facts())


def test_only_an_approver_approves_and_only_a_submitter_submits(people) -> None:
    assert "approvals: expected 1 of other people, got 0" in refusal(people.promotion("ana", "omar"), people.facts())
    envelope = people.promotion("ben", "cleo", submitter=people.person("ben"))
    assert "submitter: key 'ben' of ben may not sign as submitter" in refusal(envelope, people.facts())


@pytest.mark.parametrize("who", ["ana", "ben"])
def test_a_revoked_key_no_longer_counts(people, who: str) -> None:
    trust = people.trust.revoke(people.keys[who].key_id, people.now)
    assert f"key '{who}' of {who} was revoked" in refusal(people.promotion(), people.facts(trust=trust))
    assert verify_evidence(people.promotion(), **people.facts(trust=trust, now=people.now - timedelta(minutes=1)))


def test_a_key_that_came_after_the_statement_does_not_count(people, tmp_path) -> None:
    public = new_key("late", directory=tmp_path)
    trust = people.trust.add(
        public, owner="late", roles=["approver"], not_before=people.now - HOUR / 2, not_after=people.now + DAY
    )
    envelope = people.promotion("ana").sign(load_key("late", directory=tmp_path))
    assert "is not yet valid at signing" in refusal(envelope, people.facts(trust=trust))


def test_an_expired_key_does_not_count(people) -> None:
    later = people.now + 400 * DAY
    envelope = people.promotion(expires_at=people.now + 364 * DAY)
    assert "is no longer valid now" in refusal(envelope, people.facts(now=later))


def test_every_reason_is_given_at_once(people) -> None:
    envelope = people.promotion("ana", gates=(), version=4)
    text = refusal(envelope, people.facts(minimum_epoch=9, now=people.now + 91 * DAY))
    for reason in ("version:", "epoch:", "expired at", "gates: no results", "approvals:"):
        assert reason in text


def test_a_rollback_by_an_operator_holds_while_its_promotion_does(people) -> None:
    rollback = people.rollback(people.promotion())
    assert verify_evidence(rollback, **people.facts(minimum_epoch=9)).action is Action.ROLLBACK
    assert verify_evidence(Envelope.from_json(rollback.to_json()), **people.facts()).epoch == 9
    assert "epoch: expected at least 10, got 9" in refusal(rollback, people.facts(minimum_epoch=10))


def test_a_rollback_needs_an_operator(people) -> None:
    envelope = people.rollback(people.promotion(), "ana", submitter=people.person("ana"))
    assert "operator: key 'ana' of ana may not sign as operator" in refusal(envelope, people.facts())
    envelope = people.rollback(people.promotion(), "ben")
    assert "operator: expected a counting signature of omar, got none" in refusal(envelope, people.facts())


@pytest.mark.parametrize(
    ("names", "changes", "reason"),
    [
        (("ana",), {}, "basis: approvals: expected 1 of other people, got 0"),
        (("ana", "ben"), {"version": 2}, "basis: version: expected 3, got 2"),
        (("ana", "ben"), {"gates": ()}, "basis: gates: no results"),
        (("ana", "ben"), {"epoch": 9}, "basis: epoch: expected below the rollback's 9, got 9"),
        (("ana", "ben"), {"action": Action.SUBMIT}, "basis: action: expected promote or rollback, got submit"),
        (("ana", "ben"), {"package_digest": "sha256:" + "e" * 64}, "basis: package digest: expected"),
    ],
)
def test_a_rollback_to_what_was_never_promoted_is_refused(people, names, changes, reason: str) -> None:
    assert reason in refusal(people.rollback(people.promotion(*names, **changes)), people.facts())


def test_a_rollback_to_an_unsigned_or_malformed_promotion_is_refused(people) -> None:
    unsigned = Envelope.of(people.statement())
    assert "basis: evidence: 1 problem: no signature" in refusal(people.rollback(unsigned), people.facts())
    malformed = people.signed(
        people.rollback(people.promotion()).unverified_statement().model_copy(update={"basis": {"payload": ""}}), "omar"
    )
    assert "basis: envelope: expected exactly payload" in refusal(malformed, people.facts())


def test_a_rollback_cannot_rest_on_a_rollback(people) -> None:
    inner = people.rollback(people.promotion())
    outer = people.rollback(inner, epoch=11)
    assert "basis: action: expected promote or rollback, got rollback" in refusal(outer, people.facts())


def test_a_rollback_ends_with_its_promotion(people) -> None:
    basis = people.promotion(expires_at=people.now + HOUR)
    assert "basis: expired at" in refusal(people.rollback(basis), people.facts(now=people.now + HOUR))


def submission(people, *names: str, **changes: object) -> Envelope:
    content = {"action": Action.SUBMIT, "stage": "candidate", "gates": ()} | changes
    return people.signed(people.statement(**content), *(names or ("ana",)))


def without_stage(people, **changes: object) -> dict[str, object]:
    return {key: value for key, value in people.facts(**changes).items() if key != "stage"}


def test_a_submission_says_who_submitted(people) -> None:
    statement = verify_submission(submission(people), **without_stage(people))
    assert (statement.submitter, statement.action) == (people.person("ana"), Action.SUBMIT)


@pytest.mark.parametrize(
    ("names", "changes", "reason"),
    [
        (("ben",), {}, "submitter: expected a counting signature of ana, got none"),
        (("ana",), {"version": 4}, "version: expected 3, got 4"),
        (("ana",), {"stage": "production"}, "stage: expected candidate, got production"),
        (("ana",), {"action": Action.PROMOTE}, "action: expected submit, got promote"),
        (("ana",), {"package_digest": "sha256:" + "e" * 64}, "package digest: expected"),
    ],
)
def test_a_submission_that_does_not_hold_is_refused(people, names, changes, reason: str) -> None:
    with pytest.raises(EvidenceError, match="submission of loan-denial@3") as caught:
        verify_submission(submission(people, *names, **changes), **without_stage(people))
    assert reason in str(caught.value)
    assert "Next: nbkit register loan-denial" in str(caught.value)


def test_the_statement_of_a_submission_cannot_be_passed_off_as_a_promotion(people) -> None:
    for stage in ("candidate", "production"):
        envelope = submission(people, "ana", "ben", stage=stage, gates=people.statement().gates)
        assert "action: expected promote or rollback, got submit" in refusal(envelope, people.facts(stage=stage))


def test_a_rollback_keeps_the_operators_reason(people) -> None:
    envelope = people.rollback(people.promotion(), reason="default rate doubled")
    assert verify_evidence(envelope, **people.facts()).reason == "default rate doubled"
