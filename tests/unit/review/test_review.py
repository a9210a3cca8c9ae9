from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nbkit.contract import Contract
from nbkit.errors import ReviewError
from nbkit.records import AuditRecord
from nbkit.review import ReviewQueue, TicketState, labels_of, ticket_id, ticket_tags

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden" / "review-1.db"
MONEY = {"positive": 1, "negative": 1}
CONTRACT = Contract.model_validate(
    {
        "format": 1,
        "name": "loans",
        "kind": "tabular",
        "title": "Loans",
        "owner": {"team": "credit", "primary": "ada", "deputy": "bob"},
        "impact": "low",
        "purpose": "decide",
        "jurisdictions": ["US"],
        "entity": "id",
        "target": {"column": "denied", "positive": 1, "meaning": "denied", "label_delay_days": 0},
        "inputs": [{"name": "income", "type": "number"}],
        "decision": {"costs": {"approve": MONEY, "refer": MONEY, "decline": MONEY}},
        "rollout": {"path": ["staging", "production"]},
        "gates": {"staging": [{"gate": "parity"}], "production": [{"gate": "parity"}]},
    }
)


def record(number: int = 1, **changes: object) -> AuditRecord:
    told: dict[str, object] = {
        "id": f"d{number}",
        "request_id": f"r{number}",
        "model": "loans",
        "version": 3,
        "package_digest": "sha256:1",
        "contract_digest": "sha256:2",
        "evidence_digest": "sha256:3",
        "received_at": NOON,
        "decided_at": NOON,
        "subject": "",
        "inputs": {},
        "score": 0.5,
        "decision": "refer",
        "reasons": ("R01",),
        "tags": ticket_tags(CONTRACT, decided_at=NOON + timedelta(minutes=number)),
    }
    return AuditRecord(**(told | changes))  # type: ignore[arg-type]


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    return ReviewQueue(tmp_path / "review" / "loans.db")


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def states(queue: ReviewQueue, *records: AuditRecord, now: datetime) -> list[tuple[str, str]]:
    return [(ticket.id, ticket.state.value) for ticket in queue.tickets(records, now=now)]


def decide(queue: ReviewQueue, who: str, **changes: object) -> object:
    told = {"outcome": "approve", "reason": "new-information", "note": "", "now": at(0.2), "contract": CONTRACT}
    return queue.decide(record(), who=who, **(told | changes))  # type: ignore[arg-type]


def test_a_referred_decision_waits_without_anything_being_written(queue: ReviewQueue, tmp_path: Path) -> None:
    (ticket,) = queue.tickets([record(), record(2, decision="approve"), record(3, kind="shadow")], now=NOON)
    assert (ticket.id, ticket.state, ticket.due) == ("t-d1", TicketState.QUEUED, at(24) + timedelta(minutes=1))
    assert ticket.id == ticket_id("d1")
    assert not list(tmp_path.iterdir())


def test_a_record_of_before_there_were_tickets_waits_for_nobody(queue: ReviewQueue) -> None:
    assert queue.tickets([record(tags={})], now=NOON) == ()


def test_a_ticket_is_taken_and_decided(queue: ReviewQueue) -> None:
    taken = queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    assert (taken.state, taken.who, taken.lease_until) == (TicketState.ASSIGNED, "ana", at(0.5))
    decide(queue, "ana", note="payslip seen")
    (ticket,) = queue.tickets([record()], now=at(48))
    assert (ticket.state, ticket.outcome, ticket.reason, ticket.note) == (
        TicketState.DECIDED, "approve", "new-information", "payslip seen",
    )  # fmt: skip
    (label,) = labels_of([ticket])
    assert (label.decision_id, label.outcome, label.origin, label.at) == ("d1", "approve", "review", at(0.2))


def test_nobody_else_takes_or_decides_it_meanwhile(queue: ReviewQueue) -> None:
    queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    with pytest.raises(ReviewError, match="ana has it until 2026-11-23 12:30 UTC"):
        queue.take(record(), who="ben", contract=CONTRACT, now=NOON)
    with pytest.raises(ReviewError, match="ana has it until"):
        decide(queue, "ben")


def test_a_lease_ends_and_can_be_renewed(queue: ReviewQueue) -> None:
    queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    assert queue.take(record(), who="ana", contract=CONTRACT, now=at(0.4)).lease_until == at(0.9)
    assert states(queue, record(), now=at(0.95)) == [("t-d1", "queued")]
    assert queue.take(record(), who="ben", contract=CONTRACT, now=at(1)).who == "ben"


def test_one_decides_only_what_one_has_taken(queue: ReviewQueue) -> None:
    with pytest.raises(ReviewError, match="take it first: nbkit tickets take loans t-d1"):
        decide(queue, "ana")


def test_what_nobody_decides_in_time_becomes_the_default(queue: ReviewQueue) -> None:
    queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    (ticket,) = queue.tickets([record()], now=at(25))
    assert (ticket.state, ticket.outcome, ticket.closed_at) == (TicketState.EXPIRED, "decline", ticket.due)
    assert [label.origin for label in labels_of([ticket])] == ["review-expired"]
    with pytest.raises(ReviewError, match="it is closed: expired as decline"):
        queue.take(record(), who="ana", contract=CONTRACT, now=at(25))


def test_what_is_decided_stays(queue: ReviewQueue) -> None:
    queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    decide(queue, "ana")
    with pytest.raises(ReviewError, match="it is closed: decided as approve by ana"):
        decide(queue, "ana", outcome="decline")
    assert labels_of(queue.tickets([record(2)], now=NOON)) == ()


def test_outcome_and_reason_are_coded(queue: ReviewQueue) -> None:
    with pytest.raises(ReviewError) as error:
        decide(queue, "ana", outcome="refer", reason="because")
    assert error.value.problems == (
        "outcome: expected approve or decline, got 'refer'",
        "reason: expected one of new-information, data-error, policy, judgement, got 'because'",
    )


def test_the_most_urgent_comes_first_and_the_closed_last(queue: ReviewQueue) -> None:
    queue.take(record(1), who="ana", contract=CONTRACT, now=NOON)
    decide(queue, "ana")
    listed = states(queue, record(3), record(1), record(2), now=at(1))
    assert listed == [("t-d2", "queued"), ("t-d3", "queued"), ("t-d1", "decided")]


def test_what_does_not_wait_cannot_be_taken(queue: ReviewQueue) -> None:
    with pytest.raises(ReviewError, match="does not wait for a person"):
        queue.take(record(decision="approve"), who="ana", contract=CONTRACT, now=NOON)


def test_events_cannot_be_changed(queue: ReviewQueue, tmp_path: Path) -> None:
    queue.take(record(), who="ana", contract=CONTRACT, now=NOON)
    with closing(sqlite3.connect(tmp_path / "review" / "loans.db")) as connection:
        for statement in ("UPDATE events SET who = 'eve'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE x (y)")
    with pytest.raises(ReviewError, match="expected a review file of format 1"):
        ReviewQueue(path).tickets([record()], now=NOON)
    path.write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(ReviewError, match="cannot be used"):
        ReviewQueue(path).tickets([record()], now=NOON)


def test_a_file_of_the_first_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "golden.db"
    shutil.copy(GOLDEN, path)
    tickets = ReviewQueue(path).tickets([record(), record(2)], now=at(1))
    assert [(ticket.id, ticket.state.value, ticket.who) for ticket in tickets] == [
        ("t-d2", "queued", ""),
        ("t-d1", "decided", "ana"),
    ]


def test_of_two_who_take_at_once_one_gets_it(queue: ReviewQueue) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def take(who: str) -> bool:
        try:
            queue.take(record(), who=who, contract=CONTRACT, now=NOON)
        except ReviewError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, ("a", "b", "c", "d"))) == 1
