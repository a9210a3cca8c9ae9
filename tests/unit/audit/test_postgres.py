"""The ledger in PostgreSQL keeps what it promises in SQLite, and names what was done to it."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Ledger, Place, read_record, read_records, trial_summary, verify_ledger
from nbkit.audit import _postgres as postgres
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError, NotInLedgerError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MakeRecord = Callable[..., AuditRecord]


@pytest.fixture
def eight(schema: str, key: Ed25519PrivateKey, make_record: MakeRecord) -> str:
    """A closed ledger of eight records, each in a commit of its own."""
    with Ledger.open(schema, key=key, now=lambda: NOON) as ledger:
        for number in range(1, 9):
            assert ledger.submit(make_record(number)).result(5) == number
    return schema


def tamper(url: str, *statements: str) -> None:
    """Run SQL as somebody with the database's password would, guards switched off first and on again afterwards."""
    with psycopg.connect(url, autocommit=True) as connection:
        for switch in ("DISABLE", "ENABLE"):
            for table in ("ledger", "records", "checkpoints"):
                connection.execute(f"ALTER TABLE {table} {switch} TRIGGER ALL")
            if switch == "DISABLE":
                for statement in statements:
                    connection.execute(statement)


def test_a_record_is_found_and_read_back_bit_for_bit(
    place: Place, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    record = make_record(1)
    with Ledger.open(place, key=key, now=lambda: NOON) as ledger:
        assert ledger.find("loan-denial", "r-1") is None
        assert ledger.submit(record).result(5) == 1
        assert ledger.find("loan-denial", "r-1") == record
        assert ledger.read("d-1") == record
        assert ledger.read("d-2") is None
        ledger.submit(make_record(2, model="fraud")).result(5)
    assert read_record(place, "d-1") == record
    assert [found.id for found in read_records(place)] == ["d-2", "d-1"]
    assert [found.id for found in read_records(place, model="fraud")] == ["d-2"]
    with pytest.raises(NotInLedgerError, match="no record 'd-9'"):
        read_record(place, "d-9")
    facts = trial_summary([place], model="fraud", version=3, stage="production", since=NOON)
    assert facts["decisions"] == 1


def test_repeats_fail_alone(place: Place, key: Ed25519PrivateKey, make_record: MakeRecord) -> None:
    with Ledger.open(place, key=key, now=lambda: NOON) as ledger:
        ledger.submit(make_record(1)).result(5)
        again, other = ledger.submit(make_record(2, request_id="r-1")), ledger.submit(make_record(3))
        with pytest.raises(AlreadyRecordedError, match="request 'r-1' of model 'loan-denial'"):
            again.result(5)
        assert other.result(5) == 2
        before = ledger.checkpoint
        with pytest.raises(AlreadyRecordedError):
            ledger.submit(make_record(1)).result(5)
        assert ledger.checkpoint is before
    assert verify_ledger(place, public_key=key.public_key()).records == 2


def test_a_request_twice_in_one_commit_is_recorded_once(
    place: Place, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    with Ledger.open(place, key=key, now=lambda: NOON) as ledger:
        entries = [_entry(make_record(1)), _entry(make_record(2, request_id="r-1")), _entry(make_record(3))]
        first, again, other = ledger._committer._book.append(entries)
    assert (first, other) == (1, 2)
    assert isinstance(again, AlreadyRecordedError)


def test_a_repeat_that_another_writer_records_meanwhile_fails_alone(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when those that repeat were looked for, and is when the others are written."""
    with (
        Ledger.open(schema, key=key, now=lambda: NOON) as ledger,
        Ledger.open(schema, key=key, now=lambda: NOON) as other,
    ):
        other.submit(make_record(11, request_id="r-1")).result(5)
        book = cast("postgres.PostgresBook", ledger._committer._book)
        looks, later = book._known, [make_record(12, request_id="r-2"), make_record(13, request_id="r-3")]

        def known(*given: Any) -> frozenset[str]:
            found = looks(*given)
            if later:
                other.submit(later.pop(0)).result(5)
            return found

        monkeypatch.setattr(book, "_known", known)
        places = book.append([_entry(make_record(number)) for number in range(1, 5)])
    assert [type(place) for place in places] == [AlreadyRecordedError] * 3 + [int]
    assert places[3] == 4
    assert verify_ledger(schema, public_key=key.public_key()).records == 4


def test_repeats_among_writers_never_fail_what_is_new(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    """However often, and whatever the driver has prepared by then: a statement that was skipped is not prepared."""
    chance, numbers = random.Random(3), itertools.count(1)

    def entry(request: int) -> Any:
        return _entry(make_record(next(numbers), request_id=f"q-{request}"))

    with (
        Ledger.open(schema, key=key, now=lambda: NOON) as one,
        Ledger.open(schema, key=key, now=lambda: NOON) as two,
    ):
        for turn in range(300):
            book = (one if chance.random() < 0.5 else two)._committer._book
            requests = [3 * (turn // 8) + chance.randrange(6) for _ in range(chance.choice([1, 1, 2, 3]))]
            for place in book.append([entry(request) for request in requests]):
                assert isinstance(place, int | AlreadyRecordedError)
    assert verify_ledger(schema, public_key=key.public_key()).problems == ()


def test_a_unique_key_that_no_repeat_explains_is_an_error(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(schema, key=key, now=lambda: NOON) as ledger:
        ledger.submit(make_record(1)).result(5)
        monkeypatch.setattr(ledger._committer._book, "_known", lambda *_: frozenset())
        with pytest.raises(AuditError, match=r"cannot be written: .*\(UniqueViolation\)"):
            ledger.submit(make_record(1)).result(5)


def _entry(record: AuditRecord) -> Any:
    from nbkit.audit._entry import entry_of

    return entry_of(record)


def test_many_writers_lose_nothing_and_keep_one_tree(
    place: Place, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    def load(first: int) -> None:
        with Ledger.open(place, key=key, now=lambda: NOON) as ledger:
            futures = [ledger.submit(make_record(number)) for number in range(first, first + 50)]
            for future in futures:
                future.result(20)

    Ledger.open(place, key=key, now=lambda: NOON).close()
    threads = [threading.Thread(target=load, args=(first,)) for first in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify_ledger(place, public_key=key.public_key())
    assert (report.records, report.problems) == (200, ())
    assert report.last is not None
    assert report.last.size == 200


def test_another_key_and_another_format_are_refused(eight: str, key: Ed25519PrivateKey) -> None:
    with pytest.raises(AuditError, match=r"expected the ledger's key sha256:.*, got sha256:"):
        Ledger.open(eight, key=Ed25519PrivateKey.generate(), now=lambda: NOON)
    tamper(eight, "UPDATE ledger SET format = 2")
    with pytest.raises(AuditError, match="expected ledger format 1, got 2"):
        Ledger.open(eight, key=key, now=lambda: NOON)
    with pytest.raises(AuditError, match="expected ledger format 1, got 2"):
        read_records(eight)


def test_a_database_without_a_ledger_is_named(schema: str) -> None:
    with pytest.raises(AuditError, match=r"expected a ledger, got none\. Next: nbkit serve NAME"):
        read_records(schema)


def test_a_database_that_does_not_answer_is_named_without_its_password(key: Ed25519PrivateKey, tmp_path: Path) -> None:
    url = f"postgresql://ada:secret@/ledger?host={tmp_path}"
    with pytest.raises(AuditError, match="postgresql:///ledger: cannot be reached") as refused:
        Ledger.open(url, key=key, now=lambda: NOON)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("table", ["records", "checkpoints", "ledger"])
def test_rows_cannot_be_changed_or_deleted_by_mistake(eight: str, table: str) -> None:
    column = {"records": "seq = seq", "checkpoints": "size = size", "ledger": "id = id"}[table]
    update = f"UPDATE {{}} SET {column}"  # noqa: S608
    with psycopg.connect(eight, autocommit=True) as connection:
        for statement in ("DELETE FROM {}", update, "TRUNCATE {}"):
            with pytest.raises(psycopg.errors.RaiseException, match="the ledger is append-only"):
                connection.execute(statement.format(table))


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE records SET body = body || ' ' WHERE seq = 4", "record 4: edited"),
        ("DELETE FROM records WHERE seq = 5", "record 5: deleted"),
        ("INSERT INTO records VALUES (9, 'x', 'm', 'y', '', '')", "record 9: inserted: no signed checkpoint covers it"),
        ("UPDATE records SET model = 'z' WHERE seq = 7", "record 7: column model edited: expected"),
        ("DROP TRIGGER records_append_only ON records", "trigger records_append_only: missing"),
        ("UPDATE frontier SET size = 3", "frontier: not that of the records"),
        ("UPDATE ledger SET key_id = 'k'", "the ledger was begun with k"),
        ("INSERT INTO ledger VALUES ('a', 'b', 'c', 1)", "expected one row in table 'ledger', got 2"),
        ("ALTER TABLE frontier RENAME TO other", "table frontier: missing"),
        ("ALTER TABLE frontier ADD COLUMN x text", "table frontier: changed"),
    ],
)  # fmt: skip
def test_what_was_done_is_named(eight: str, key: Ed25519PrivateKey, statement: str, problem: str) -> None:
    tamper(eight, statement)
    assert any(problem in found for found in verify_ledger(eight, public_key=key.public_key()).problems)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM records WHERE seq = 8", "expected 8 records under the last signed checkpoint, got 7"),
        ("UPDATE frontier SET nodes = ''", "frontier: does not fold to the last signed root"),
        ("UPDATE checkpoints SET at = 'x' WHERE size = 8", "checkpoint 8: not signed by the ledger's key"),
    ],
)
def test_a_ledger_whose_end_was_changed_is_not_continued(
    eight: str, key: Ed25519PrivateKey, statement: str, problem: str
) -> None:
    tamper(eight, statement)
    with pytest.raises(LedgerTamperedError, match=problem):
        Ledger.open(eight, key=key, now=lambda: NOON)


def test_a_broken_connection_fails_those_who_wait_and_nobody_later(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    with Ledger.open(schema, key=key, now=lambda: NOON) as ledger:
        ledger.submit(make_record(1)).result(5)
        assert ledger.find("loan-denial", "r-1") is not None
        _cut_off(schema)
        with pytest.raises(AuditError, match=r"cannot be written: .*\((AdminShutdown|OperationalError)\)"):
            ledger.submit(make_record(2)).result(5)
        with pytest.raises(AuditError, match="the ledger cannot be read"):
            ledger.find("loan-denial", "r-1")
        assert ledger.submit(make_record(3)).result(5) == 2
        assert ledger.find("loan-denial", "r-1") is not None
    assert verify_ledger(schema, public_key=key.public_key()).problems == ()


def _cut_off(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'nbkit' AND pid <> pg_backend_pid()"
        )


@contextmanager
def _held_up(url: str) -> Iterator[None]:
    """Stop the processes that serve a ledger's connections; their kernel goes on to take what is sent."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'nbkit'").fetchall()
    processes = [int(row[0]) for row in found]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def test_a_server_that_neither_answers_nor_goes_away_fails_those_who_wait(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.1)
    with Ledger.open(schema, key=key, now=lambda: NOON) as ledger:
        ledger.submit(make_record(1)).result(5)
        assert ledger.find("loan-denial", "r-1") is not None
        with _held_up(schema):
            with pytest.raises(AuditError, match=r"cannot be written: no answer within 0\.2 s"):
                ledger.submit(make_record(2)).result(5)
            with pytest.raises(AuditError, match=r"the ledger cannot be read: no answer within 0\.2 s"):
                ledger.find("loan-denial", "r-1")
        monkeypatch.setattr(postgres, "BUSY_SECONDS", 5.0)
        assert ledger.submit(make_record(3)).result(5) == 2
        assert ledger.find("loan-denial", "r-1") is not None
        ledger._committer._book.reach()
    assert verify_ledger(schema, public_key=key.public_key()).problems == ()


def test_a_turn_that_never_ends_fails_those_who_wait(
    schema: str, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.1)
    with Ledger.open(schema, key=key, now=lambda: NOON) as ledger, psycopg.connect(schema) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (postgres._TURN,))
        with pytest.raises(AuditError, match=r"cannot be written: .*statement timeout \(QueryCanceled\)"):
            ledger.submit(make_record(1)).result(5)
        other.rollback()
        assert ledger.submit(make_record(2)).result(5) == 1
        ledger._committer._book.close()
    assert ledger.checkpoint is not None


def test_errors_of_the_database_are_errors_of_the_ledger(eight: str, key: Ed25519PrivateKey) -> None:
    with psycopg.connect(eight, autocommit=True) as connection:
        connection.execute("ALTER TABLE records RENAME COLUMN body TO bodies")
        with pytest.raises(AuditError, match="cannot be read: column"):
            read_records(eight)
        connection.execute("ALTER TABLE records RENAME TO recordings")
        with pytest.raises(AuditError, match="cannot be written: relation"):
            Ledger.open(eight, key=key, now=lambda: NOON)
        connection.execute("ALTER TABLE ledger RENAME COLUMN format TO formats")
        with pytest.raises(AuditError, match="cannot be read: column"):
            read_records(eight)
