from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import CHAMPION_DECISION, Ledger, read_record, trial_summary
from nbkit.audit._entry import leaf_of
from nbkit.errors import LedgerTamperedError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden" / "ledger-1.db"

MakeRecord = Callable[..., AuditRecord]
Facts = dict[str, float | int | None]


@pytest.fixture
def write(path: Path, key: Ed25519PrivateKey, make_record: MakeRecord) -> Callable[..., Path]:
    def write(*changes: dict[str, object]) -> Path:
        with Ledger.open(path, key=key, now=lambda: NOON) as ledger:
            for number, change in enumerate(changes, start=1):
                ledger.submit(make_record(number, **({"decision": "approve"} | change))).result(5)
        return path

    return write


def summary(path: Path, *, stage: str, since: datetime = NOON, version: int = 4) -> Facts:
    return trial_summary([path], model="loan-denial", version=version, stage=stage, since=since)


def shadow(decision: str, champion: str, **changes: object) -> dict[str, object]:
    told = {"version": 4, "kind": "shadow", "stage": "shadow", "decision": decision, "route": "shadow"}
    return told | {"tags": {CHAMPION_DECISION: champion}} | changes


def canary(decision: str, **changes: object) -> dict[str, object]:
    return {"version": 4, "stage": "canary", "decision": decision, **changes}


def test_a_shadow_is_compared_with_the_answers_about_the_same_rows(write: Callable[..., Path]) -> None:
    path = write(
        {"decision": "decline"},  # the champion's own records do not count as the shadow's
        shadow("decline", "decline", latency_us=1000),
        shadow("approve", "decline", latency_us=9000),
        shadow("approve", "approve", latency_us=2000, received_at=NOON + timedelta(days=1)),
        shadow("refer", "approve", latency_us=3000, fallback="default", fallback_cause="error: ValueError"),
    )
    assert summary(path, stage="shadow") == {
        "days": 2,
        "decisions": 4,
        "error_share": 0.25,
        "fallback_share": 0.25,
        "disagreement_share": 0.5,
        "p99_ms": 9.0,
        "decline_share": 0.25,
        "champion_decline_share": 0.5,
    }


def test_a_canary_is_compared_with_the_champion_of_the_same_time(write: Callable[..., Path]) -> None:
    path = write(
        {"decision": "decline", "received_at": NOON},  # before the first answer of the canary
        canary("approve", received_at=NOON + timedelta(hours=1)),
        {"decision": "decline", "received_at": NOON + timedelta(hours=2)},
        {"decision": "approve", "received_at": NOON + timedelta(hours=2)},
        shadow("decline", "approve", version=5, received_at=NOON + timedelta(hours=2)),
        canary("refer", received_at=NOON + timedelta(hours=3), fallback="rules", fallback_cause="deadline"),
    )
    facts = summary(path, stage="canary")
    assert (facts["decisions"], facts["fallback_share"], facts["error_share"]) == (2, 0.5, 0.0)
    assert (facts["decline_share"], facts["champion_decline_share"]) == (0.0, 0.5)
    assert facts["disagreement_share"] is None


def test_a_canary_is_compared_with_what_the_champion_would_have_said_about_its_rows(write: Callable[..., Path]) -> None:
    def champion(would: str, canary: str, version: str = "4") -> dict[str, object]:
        tags = {"canary_decision": canary, "canary_version": version}
        return {"kind": "shadow", "decision": would, "tags": tags}

    path = write(
        canary("approve"),
        champion("approve", "approve"),
        canary("approve"),
        champion("decline", "approve"),
        champion("decline", "approve", version="5"),  # of another canary
    )
    facts = summary(path, stage="canary")
    assert (facts["decisions"], facts["disagreement_share"], facts["champion_decline_share"]) == (2, 0.5, None)
    assert summary(path, stage="shadow", version=3)["decisions"] == 0
    # What nobody was answered is no decision in production either.
    assert summary(path, stage="production", version=3)["decisions"] == 0


def test_what_was_received_before_or_in_another_stage_does_not_count(write: Callable[..., Path]) -> None:
    path = write(canary("decline"), canary("approve", received_at=NOON + timedelta(days=2)), {"version": 4})
    facts = summary(path, stage="canary", since=NOON + timedelta(days=1))
    assert (facts["decisions"], facts["decline_share"], facts["champion_decline_share"]) == (1, 0.0, None)


def test_nothing_to_count_is_none(write: Callable[..., Path]) -> None:
    facts = summary(write({}), stage="shadow")
    assert (facts.pop("days"), facts.pop("decisions")) == (0, 0)
    assert set(facts.values()) == {None}


def test_the_ledgers_of_all_workers_count(write: Callable[..., Path]) -> None:
    path = write(canary("decline"))
    facts = trial_summary([path, path], model="loan-denial", version=4, stage="canary", since=NOON)
    assert facts["decisions"] == 2


def test_records_of_the_first_format_are_decisions_in_production() -> None:
    facts = summary(GOLDEN, stage="production", version=3, since=NOON - timedelta(days=3650))
    assert facts["decisions"]


def test_an_edited_record_is_named(write: Callable[..., Path], tamper: Callable[..., None]) -> None:
    path = write(canary("decline"))
    tamper(path, ("UPDATE records SET body = CAST(replace(body, 'decline', 'approve') AS BLOB)", ()))
    with pytest.raises(LedgerTamperedError, match="record 1: edited"):
        summary(path, stage="canary")
    tamper(path, ("UPDATE records SET body = ?, leaf = ?", (b"[]", leaf_of(1, b"[]"))))
    with pytest.raises(LedgerTamperedError, match="record 1: not an audit record"):
        summary(path, stage="canary")


def test_kind_and_stage_are_kept(write: Callable[..., Path]) -> None:
    record = read_record(write(shadow("refer", "approve")), "d-1")
    assert (record.kind, record.stage) == ("shadow", "shadow")
