from __future__ import annotations

import fcntl
import math
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nbkit.audit import Ledger, Place, read_record, read_records, verify_ledger
from nbkit.audit import _sqlite as sqlite_module
from nbkit.audit._entry import entry_of, record_of
from nbkit.audit._sqlite import SqliteBook
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError, NotInLedgerError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

MakeRecord = Callable[..., AuditRecord]


def test_a_record_is_readable_by_others_once_its_future_resolves(
    ledger: Ledger, path: Path, make_record: MakeRecord
) -> None:
    record = make_record(1)
    assert ledger.submit(record).result(5) == 1
    assert read_record(path, "d-1") == record


def test_records_are_read_newest_first_and_by_model(ledger: Ledger, path: Path, make_record: MakeRecord) -> None:
    for number in range(4):
        ledger.submit(make_record(number, model="fraud" if number == 2 else "loan-denial")).result(5)
    assert [record.id for record in read_records(path)] == ["d-3", "d-2", "d-1", "d-0"]
    assert [record.id for record in read_records(path, model="loan-denial", limit=2)] == ["d-3", "d-1"]


def test_a_record_that_is_not_there_is_named(ledger: Ledger, path: Path) -> None:
    with pytest.raises(NotInLedgerError, match=r"no record 'd-9'\. Next: nbkit audit list"):
        read_record(path, "d-9")


def test_a_ledger_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="expected a ledger, got no such file"):
        read_records(tmp_path / "none.db")


def test_a_request_is_found_by_its_name(ledger: Ledger, make_record: MakeRecord) -> None:
    ledger.submit(make_record(1)).result(5)
    assert ledger.find("loan-denial", "r-1") == make_record(1)
    assert ledger.find("fraud", "r-1") is None


def test_a_second_record_of_a_request_fails_alone(ledger: Ledger, path: Path, make_record: MakeRecord) -> None:
    ledger.submit(make_record(1)).result(5)
    again, other = ledger.submit(make_record(2, request_id="r-1")), ledger.submit(make_record(3))
    with pytest.raises(AlreadyRecordedError, match=r"request 'r-1' of model 'loan-denial'.*is already in the ledger"):
        again.result(5)
    assert other.result(5) == 2
    assert [record.id for record in read_records(path)] == ["d-3", "d-1"]


def test_a_batch_of_nothing_but_repeats_signs_nothing(ledger: Ledger, make_record: MakeRecord) -> None:
    ledger.submit(make_record(1)).result(5)
    before = ledger.checkpoint
    with pytest.raises(AlreadyRecordedError):
        ledger.submit(make_record(1)).result(5)
    assert ledger.checkpoint is before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"score": math.nan}, "score: expected a finite number, got nan"),
        ({"inputs": {"amount": math.inf}}, "inputs.amount: expected a finite number, got inf"),
        ({"inputs": {"amount": {1, 2}, "thing": object()}}, "cannot be written as JSON"),
        ({"decided_at": NOON.replace(tzinfo=None)}, "decided_at: expected a time in UTC, got 2026-11-23T12:00:00"),
        ({"decided_at": NOON.astimezone(timezone(timedelta(hours=2)))}, "decided_at: expected a time in UTC"),
    ],
)
def test_a_record_that_json_cannot_carry_fails_alone(
    ledger: Ledger, make_record: MakeRecord, changes: dict[str, object], problem: str
) -> None:
    wrong, right = ledger.submit(make_record(1, **changes)), ledger.submit(make_record(2))
    with pytest.raises(AuditError, match=problem):
        wrong.result(5)
    assert right.result(5) == 1


@given(st.dictionaries(st.text(max_size=8), st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False)))
@settings(deadline=None, derandomize=True)
def test_inputs_come_back_bit_for_bit(inputs: dict[str, object]) -> None:
    record = replace(_plain(), inputs=inputs)
    back = record_of(entry_of(record).body, place="here")
    assert back == record
    assert [_bits(value) for value in back.inputs.values()] == [_bits(inputs[name]) for name in back.inputs]


def _plain() -> AuditRecord:
    return AuditRecord(
        id="d",
        request_id="r",
        model="m",
        version=1,
        package_digest="",
        contract_digest="",
        evidence_digest="",
        received_at=NOON,
        decided_at=NOON,
        subject="",
        inputs={},
        score=-0.0,
        decision="approve",
    )


def _bits(value: object) -> object:
    return value.hex() if isinstance(value, float) else value


def test_the_same_inputs_in_another_order_are_the_same_bytes() -> None:
    one, other = ({"a": 1.0, "b": "x"}, {"b": "x", "a": 1.0})
    assert entry_of(replace(_plain(), inputs=one)) == entry_of(replace(_plain(), inputs=other))


def test_records_from_many_threads_share_commits_and_none_is_lost(
    ledger: Ledger, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    def load(first: int) -> None:
        futures = [ledger.submit(make_record(number)) for number in range(first, first + 100)]
        for future in futures:
            future.result(20)

    threads = [threading.Thread(target=load, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify_ledger(path, public_key=key.public_key())
    assert (report.records, report.problems) == (800, ())
    assert report.checkpoints < 800


def test_all_that_was_submitted_is_written_before_it_closes(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    ledger = Ledger.open(path, key=key, now=lambda: NOON)
    futures = [ledger.submit(make_record(number)) for number in range(50)]
    ledger.close()
    ledger.close()
    assert [future.result(0) for future in futures] == list(range(1, 51))
    with pytest.raises(AuditError, match="the ledger is closed"):
        ledger.submit(make_record(99)).result(0)


def test_a_caller_who_gave_up_does_not_disturb_the_others(ledger: Ledger, path: Path, make_record: MakeRecord) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # holds the writer back until both have been handed over
        gone, stays = ledger.submit(make_record(1)), ledger.submit(make_record(2))
        gone.cancel()
        other.execute("ROLLBACK")
    assert stays.result(5)
    assert len(read_records(path)) == 2


def test_it_goes_on_where_it_was_closed(ten: Path, key: Ed25519PrivateKey, make_record: MakeRecord) -> None:
    with Ledger.open(ten, key=key, now=lambda: NOON) as ledger:
        assert ledger.submit(make_record(11)).result(5) == 11
    assert verify_ledger(ten, public_key=key.public_key()).problems == ()


def test_writers_share_a_ledger_and_one_tree(place: Place, key: Ed25519PrivateKey, make_record: MakeRecord) -> None:
    with Ledger.open(place, key=key, now=lambda: NOON) as one, Ledger.open(place, key=key, now=lambda: NOON) as other:
        places = [(one if number % 2 else other).submit(make_record(number)).result(5) for number in range(1, 7)]
        assert places == [1, 2, 3, 4, 5, 6]
        with pytest.raises(AlreadyRecordedError):
            other.submit(make_record(99, request_id="r-1")).result(5)
    assert verify_ledger(place, public_key=key.public_key()).problems == ()


def test_a_writer_that_keeps_its_turn_fails_those_who_wait(
    ledger: Ledger, path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.audit._schema.BUSY_SECONDS", 0.05)
    with path.with_name("ledger.db.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="another process holds this ledger"):
            ledger.submit(make_record(1)).result(5)
    assert ledger.submit(make_record(2)).result(5) == 1


def test_another_key_is_refused(ten: Path) -> None:
    with pytest.raises(AuditError, match=r"expected the ledger's key sha256:.*, got sha256:"):
        Ledger.open(ten, key=Ed25519PrivateKey.generate(), now=lambda: NOON)


def test_another_database_is_refused(path: Path, key: Ed25519PrivateKey) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(AuditError, match="expected a ledger of nbkit, got another SQLite file"):
        Ledger.open(path, key=key, now=lambda: NOON)
    with pytest.raises(AuditError, match="expected a ledger of nbkit, got another SQLite file"):
        read_records(path)


def test_bytes_that_are_no_database_are_refused(path: Path, key: Ed25519PrivateKey) -> None:
    path.write_bytes(b"not a database, and long enough to be looked at as one" * 100)
    with pytest.raises(AuditError, match="cannot be written: file is not a database"):
        Ledger.open(path, key=key, now=lambda: NOON)
    with pytest.raises(AuditError, match="cannot be read: file is not a database"):
        read_records(path)


def test_a_newer_format_is_refused(ten: Path, key: Ed25519PrivateKey) -> None:
    with closing(sqlite3.connect(ten)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(AuditError, match="expected ledger format 1, got 2"):
        Ledger.open(ten, key=key, now=lambda: NOON)


@pytest.mark.parametrize("table", ["records", "checkpoints", "ledger"])
def test_rows_cannot_be_changed_or_deleted_by_mistake(ten: Path, table: str) -> None:
    with closing(sqlite3.connect(ten)) as other:
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid"):  # noqa: S608 - names from above
            with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
                other.execute(statement)


def test_a_row_cannot_be_replaced_by_mistake(ten: Path) -> None:
    with (
        closing(sqlite3.connect(ten)) as other,
        pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"),
    ):
        other.execute("INSERT OR REPLACE INTO records SELECT 3, 'x', model, 'y', leaf, body FROM records WHERE seq = 4")


def test_a_row_that_somebody_slipped_in_stops_the_writer(ledger: Ledger, path: Path, make_record: MakeRecord) -> None:
    ledger.submit(make_record(1)).result(5)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO records VALUES (2, 'x', 'm', 'y', x'00', x'00')")
    with pytest.raises(AuditError, match="append-only"):
        ledger.submit(make_record(2)).result(5)
    with pytest.raises(LedgerTamperedError, match="expected 1 records under the last signed checkpoint, got 2"):
        ledger.submit(make_record(3)).result(5)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM records WHERE seq = 10", "expected 10 records under the last signed checkpoint, got 9"),
        ("DELETE FROM checkpoints", "expected 0 records under the last signed checkpoint, got 10"),
        ("UPDATE checkpoints SET at = 'x' WHERE size = 10", "checkpoint 10: not signed by the ledger's key"),
        ("UPDATE frontier SET size = 9", "frontier: does not fold to the last signed root"),
        ("UPDATE frontier SET nodes = zeroblob(64)", "frontier: does not fold to the last signed root"),
        ("UPDATE frontier SET nodes = zeroblob(32)", "frontier: does not fold to the last signed root"),
        ("DELETE FROM frontier", "frontier: does not fold to the last signed root"),
        ("DELETE FROM ledger", "expected one row in table 'ledger', got 0"),
    ],
)
def test_a_ledger_whose_end_was_changed_is_not_continued(
    ten: Path, key: Ed25519PrivateKey, tamper: Callable[..., None], statement: str, problem: str
) -> None:
    tamper(ten, statement)
    with pytest.raises(LedgerTamperedError, match=problem):
        Ledger.open(ten, key=key, now=lambda: NOON)


def test_a_locked_file_fails_those_who_wait_and_nobody_later(
    ledger: Ledger, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.audit._schema.BUSY_SECONDS", 0.05)
    ledger._committer._book._disconnect()  # the next connection waits for a twentieth of a second only
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditError, match=r"cannot be written: database is locked \(SQLITE_BUSY\)"):
            ledger.submit(make_record(1)).result(5)
        other.execute("ROLLBACK")
    assert ledger.submit(make_record(2)).result(5) == 1
    assert verify_ledger(path, public_key=key.public_key()).problems == ()


def test_a_full_disk_fails_those_who_wait_and_nobody_later(
    ledger: Ledger, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    ledger.submit(make_record(1)).result(5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))  # no file may grow beyond this: a full disk
        futures = [ledger.submit(make_record(number, subject="x" * 1000)) for number in range(100, 300)]
        with pytest.raises(AuditError, match=r"cannot be written: .*SQLITE_(FULL|IOERR_WRITE)"):
            [future.result(5) for future in futures]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert ledger.submit(make_record(2)).result(5) > 1
    assert verify_ledger(path, public_key=key.public_key()).problems == ()


def test_what_was_told_is_brought_from_the_log_into_the_file(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sqlite_module, "_MOST_LOGGED", 20)
    book = SqliteBook(path, key=key, now=lambda: NOON)
    copy = tmp_path / "copy.db"

    def in_the_file() -> list[str]:
        shutil.copy(path, copy)  # without the log beside it
        return [record.id for record in read_records(copy)]

    assert book.append([entry_of(make_record(n)) for n in (1, 2, 3)]) == [1, 2, 3]
    book.tidy()  # too little to be worth it
    with pytest.raises(AuditError):
        in_the_file()
    assert book.append([entry_of(make_record(4))]) == [4]
    book.tidy()
    assert in_the_file() == ["d-4", "d-3", "d-2", "d-1"]
    assert book.append([entry_of(make_record(n)) for n in range(5, 25)]) == list(range(5, 25))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM records").fetchone()
        book.tidy()  # somebody reads meanwhile
        assert book.append([entry_of(make_record(n)) for n in range(25, 45)]) == list(range(25, 45))
    book._connection.close()  # type: ignore[union-attr]
    book.tidy()  # what fails here has been durable before
    book._disconnect()
    assert book._logged == 0
    book._logged = 20
    book.tidy()  # there is no connection
    assert book.append([entry_of(make_record(45))]) == [45]
    book.close()
    assert verify_ledger(path, public_key=key.public_key()).problems == ()


def test_a_commit_is_told_before_the_log_is_tidied(ledger: Ledger, make_record: MakeRecord) -> None:
    told, tidied = threading.Event(), threading.Event()
    seen: list[bool] = []

    def tidy() -> None:
        seen.append(told.is_set())
        tidied.set()

    ledger._committer._book.tidy = tidy  # type: ignore[method-assign]
    ledger.post(make_record(1), ticket=1, tell=lambda _: told.set())
    assert tidied.wait(60)
    assert seen == [True]


def test_a_failing_clock_fails_the_batch_and_not_the_writer(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    times = [NOON]
    with Ledger.open(path, key=key, now=lambda: times[0]) as ledger:
        del times[:]
        with pytest.raises(AuditError, match="the ledger's writer failed: IndexError"):
            ledger.submit(make_record(1)).result(5)
        times.append(NOON)
        assert ledger.submit(make_record(2)).result(5) == 1
    assert "the ledger's writer failed" in caplog.text


def test_more_than_the_disk_can_take_is_refused_at_once(
    ledger: Ledger, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.audit._ledger.MOST_WAITING", 0)
    with pytest.raises(AuditError, match="the ledger is behind"):
        ledger.submit(make_record(1)).result(0)


def test_commits_hold_a_bounded_number_of_records(
    ledger: Ledger, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.audit._ledger.MOST_IN_A_COMMIT", 2)
    futures = [ledger.submit(make_record(number)) for number in range(9)]
    assert [future.result(5) for future in futures] == list(range(1, 10))
    assert verify_ledger(path, public_key=key.public_key()).checkpoints >= 5


def test_a_reader_that_cannot_read_says_so(ledger: Ledger) -> None:
    assert ledger.find("loan-denial", "r-1") is None
    ledger._committer._finder._reader.close()
    with pytest.raises(AuditError, match="the ledger cannot be read"):
        ledger.find("loan-denial", "r-1")
    assert ledger.find("loan-denial", "r-1") is None


def test_an_edited_row_is_not_handed_out(ten: Path, tamper: Callable[..., None]) -> None:
    tamper(ten, "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB) WHERE seq = 4")
    with pytest.raises(LedgerTamperedError, match=r"record 4: edited\. Next: nbkit audit verify"):
        read_record(ten, "d-4")


def test_a_seal_needs_the_key(path: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate()
    with (
        Ledger.open(path, key=key, now=lambda: NOON) as one,
        Ledger.open(tmp_path / "other.db", key=other, now=lambda: NOON) as two,
    ):
        assert one.seal(b"subject") == one.seal(b"subject")
        assert one.seal(b"subject") != two.seal(b"subject")


def test_importing_the_ledger_loads_nothing_heavy() -> None:
    program = "import sys, nbkit.audit; print(sorted({'mlflow','shap','pandas','sklearn','skops'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
