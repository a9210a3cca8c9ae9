"""What a replay says is what was decided: with the sentinels that were sent, and as it was answered without reasons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbkit.package import Package
from nbkit.records import AuditRecord
from nbkit.serve import REASONS_FOLLOW, Judge, Judgement, replay_decision
from nbkit.serve._decide import Reasons, Row

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def record_of(package: Package, row: dict[str, Any], judgement: Judgement, **tags: str) -> AuditRecord:
    decision = judgement.decision
    return AuditRecord(
        id="d", request_id="r", model="loans", version=1, package_digest=package.digest,
        contract_digest=package.contract.digest, evidence_digest="", received_at=NOON, decided_at=NOON, subject="",
        inputs=row, score=decision.score, decision=decision.decision, reasons=decision.reasons, route=decision.route,
        tags={"reasons_missing": judgement.reasons_missing, **tags},
    )  # fmt: skip


def test_the_sentinels_that_were_sent_are_told_to_the_reasons_again(
    package: Package, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = lender.BAD | {"income": None}
    record = record_of(package, row, Judge.of(package).after(row, package.score(row)), **{"special.income": "-1"})
    seen: list[dict[str, str]] = []
    explain = Judge.reasons

    def watched(judge: Judge, row: Row, special: Mapping[str, str]) -> Reasons:
        seen.append(dict(special))
        return explain(judge, row, special)

    monkeypatch.setattr(Judge, "reasons", watched)
    assert replay_decision(package, record).decision == record.decision
    assert seen == [{"income": "-1"}]


@pytest.mark.parametrize("reasons", ["given", "none"])
def test_a_decline_whose_reasons_were_to_follow_replays_as_the_decline_that_was_answered(
    reasons: str, lender: Any, package: Package, tmp_path: Path
) -> None:
    explained = reasons == "given"
    silent = package if explained else lender.make_package(tmp_path / "silent", reasons=None)
    judge, row = Judge.of(silent), dict(lender.BAD)
    late = judge.conclude(judge.weigh(row, silent.score(row)), follow=True)
    assert (late.decision.decision, late.reasons_missing) == ("decline", REASONS_FOLLOW)
    again = replay_decision(silent, record_of(silent, row, late))
    # In time it would have been a referral where there is no reason to give: that is not what was answered.
    assert judge.after(row, silent.score(row)).decision.decision == ("decline" if explained else "refer")
    assert again.decision == "decline"
    assert again.score == late.decision.score
    assert bool(again.reasons) is explained


def test_a_rule_that_decided_before_the_model_decides_again(package: Package, lender: Any) -> None:
    row = lender.BAD | {"ratio": 1.0}
    early = Judge.of(package).before(row)
    assert early is not None
    assert replay_decision(package, record_of(package, row, early)) == early.decision
