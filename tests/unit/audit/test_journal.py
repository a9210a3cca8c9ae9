"""While the ledger cannot take records, those that may wait are durable in a local file and move when it is back."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Ledger, read_records, verify_ledger
from nbkit.audit import _committer as committer_module
from nbkit.audit import _journal as journal_module
from nbkit.audit._entry import Entry, entry_of
from nbkit.audit._journal import JOURNALED_TWICE, Journal
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MakeRecord = Callable[..., AuditRecord]
KEY = bytes(32)


class Outage:
    """Stands before a book and says no while it is on."""

    def __init__(self, ledger: Ledger) -> None:
        self._append = ledger._committer._book.append
        self.on = True
        self.tried = 0
        ledger._committer._book.append = self  # type: ignore[method-assign, assignment]

    def __call__(self, entries: list[Entry]) -> list[int | AuditError]:
        self.tried += 1
        if self.on:
            raise AuditError("the database is gone")
        return self._append(entries)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "RETRY_SECONDS", 0.02)


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "loans.journal"


@pytest.fixture
def ledger(path: Path, waits: Path, key: Ed25519PrivateKey) -> Iterator[Ledger]:
    with Ledger.open(path, key=key, now=lambda: NOON, journal=waits) as opened:
        yield opened


def post(ledger: Ledger, *records: AuditRecord, may_wait: bool = True) -> list[object]:
    """Return the places of records, or what went wrong."""
    told: dict[str, object] = {}
    done = threading.Event()

    def tell(outcomes: object) -> None:
        told.update(outcomes)  # type: ignore[call-overload]
        if len(told) == len(records):
            done.set()

    for record in records:
        ledger.post(record, ticket=record.id, tell=tell, may_wait=may_wait)
    assert done.wait(10)
    return [told[record.id] for record in records]


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_records_wait_in_the_journal_and_move_when_the_ledger_is_back(
    ledger: Ledger, path: Path, waits: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    outage = Outage(ledger)
    assert post(ledger, make_record(1)) == [0]
    assert post(ledger, make_record(2)) == [0]
    assert ledger.journaled == 2
    assert ledger.find("loan-denial", "r-1") == make_record(1)
    assert ledger.read("d-2") == make_record(2)
    assert ledger.find("loan-denial", "r-9") is None
    assert ledger.read("d-9") is None
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    assert not waits.exists()
    assert post(ledger, make_record(3)) == [3]
    assert [record.id for record in read_records(path)] == ["d-3", "d-2", "d-1"]
    assert verify_ledger(path, public_key=key.public_key()).problems == ()


def test_looking_for_a_ledger_that_does_not_answer_holds_nobody_up(
    ledger: Ledger, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, answers, asked = Outage(ledger), threading.Event(), threading.Event()

    def reach() -> None:
        asked.set()
        assert answers.wait(10)
        if outage.on:
            raise AuditError("nobody answers there")

    monkeypatch.setattr(ledger._committer._book, "reach", reach)
    assert post(ledger, make_record(1)) == [0]
    assert asked.wait(10)
    tried = outage.tried
    for number in range(2, 6):
        assert post(ledger, make_record(number)) == [0]
    asked.clear()
    answers.set()
    assert asked.wait(10)  # it said no, and is looked for again
    assert (ledger.journaled, outage.tried) == (5, tried)
    outage.on = False
    wait_until(lambda: not ledger.journaled)


def test_a_ledger_that_answers_and_cannot_be_written_is_tried_less_and_less_often(
    ledger: Ledger, make_record: MakeRecord
) -> None:
    outage = Outage(ledger)
    post(ledger, make_record(1))
    wait_until(lambda: ledger._committer._pause > 2 * committer_module.RETRY_SECONDS)
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    assert post(ledger, make_record(2)) == [2]
    outage.on = True
    post(ledger, make_record(3))
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    assert ledger._committer._pause <= 2 * committer_module.RETRY_SECONDS


def test_what_may_not_wait_hears_that_the_ledger_is_gone(ledger: Ledger, make_record: MakeRecord) -> None:
    outage = Outage(ledger)
    (refused,) = post(ledger, make_record(1), may_wait=False)
    assert "the database is gone" in str(refused)
    assert post(ledger, make_record(2)) == [0]
    (behind,) = post(ledger, make_record(3), may_wait=False)
    assert isinstance(behind, AuditError)
    outage.on = False


def test_a_request_that_waits_is_not_recorded_twice(ledger: Ledger, make_record: MakeRecord) -> None:
    Outage(ledger)
    post(ledger, make_record(1))
    (again,) = post(ledger, make_record(2, request_id="r-1"))
    assert isinstance(again, AlreadyRecordedError)
    entries = [entry_of(make_record(n, request_id="r-7")) for n in (3, 4)]
    first, second = ledger._committer._set_aside(entries, [True, True], AuditError("gone"))
    assert first == 0
    assert isinstance(second, AlreadyRecordedError)


def test_a_request_that_is_recorded_does_not_wait_beside_its_record(
    ledger: Ledger, path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk can be read: the request stays decided as it was."""
    assert post(ledger, make_record(1)) == [1]
    outage = Outage(ledger)
    (again,) = post(ledger, make_record(2, request_id="r-1"))
    assert isinstance(again, AlreadyRecordedError)
    assert ledger.journaled == 0

    def unreadable(*_: object) -> None:
        raise AuditError("the ledger cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(ledger._committer._finder, "find", unreadable)
        assert post(ledger, make_record(3)) == [0]
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    assert [record.id for record in read_records(path)] == ["d-3", "d-1"]


def test_a_database_that_is_gone_is_not_asked_what_it_has(
    ledger: Ledger, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for its answer would wait until the deadline; what is there twice shows when the journal drains."""
    assert post(ledger, make_record(1)) == [1]
    outage = Outage(ledger)
    asked: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(type(ledger._committer._finder), "is_local", False)
        patch.setattr(ledger._committer._finder, "find", lambda *given: asked.append(given))
        assert post(ledger, make_record(2, request_id="r-1")) == [0]
        assert asked == []
    outage.on = False
    wait_until(lambda: not ledger.journaled)


def test_what_a_process_left_behind_is_drained_by_the_next(
    path: Path, waits: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    first = Ledger.open(path, key=key, now=lambda: NOON, journal=waits)
    Outage(first)
    post(first, make_record(1), make_record(2))
    first.close()
    assert waits.exists()
    with Ledger.open(path, key=key, now=lambda: NOON, journal=waits) as second:
        wait_until(lambda: not second.journaled)
    assert {record.id for record in read_records(path)} == {"d-1", "d-2"}


def test_a_journal_that_is_named_after_its_ledger_has_a_lock_of_its_own(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    with Ledger.open(path, key=key, now=lambda: NOON, journal=path.with_name(path.name + ".journal")) as ledger:
        assert post(ledger, make_record(1)) == [1]


def test_what_was_committed_unknown_to_the_writer_is_not_written_again(
    ledger: Ledger, path: Path, make_record: MakeRecord
) -> None:
    post(ledger, make_record(1))
    outage = Outage(ledger)
    journal = ledger._committer._journal
    assert journal is not None
    journal.append([entry_of(make_record(1))])  # the commit was acknowledged to nobody
    post(ledger, make_record(2))
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    assert [record.id for record in read_records(path)] == ["d-2", "d-1"]


def test_an_answer_that_another_worker_gave_too_is_kept_beside_it(
    ledger: Ledger, path: Path, make_record: MakeRecord
) -> None:
    outage = Outage(ledger)
    post(ledger, make_record(1))
    outage._append([entry_of(make_record(2, request_id="r-1"))])  # the other worker's
    outage.on = False
    wait_until(lambda: not ledger.journaled)
    kept, other = read_records(path)
    assert (other.id, other.request_id) == ("d-2", "r-1")
    assert (kept.id, kept.request_id, kept.tags[JOURNALED_TWICE]) == ("d-1", "d-1:journal", "r-1")


def test_a_journal_that_cannot_be_written_answers_nobody(
    ledger: Ledger, waits: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(ledger)
    post(ledger, make_record(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused, alone = post(ledger, make_record(2)) + post(ledger, make_record(3), may_wait=False)
    assert "and the journal: " in str(refused)
    assert "No space left on device" in str(refused)
    assert "and the journal" not in str(alone)
    # Nothing of what was refused may be found later.
    assert waits.read_bytes().count(b"\n") == 2
    assert post(ledger, make_record(4)) == [0]
    outage.on = False
    wait_until(lambda: not ledger.journaled)


def test_a_journal_reads_back_whole_records_and_drops_a_torn_one(waits: Path, make_record: MakeRecord) -> None:
    journal = Journal(waits, key=KEY)
    journal.append([entry_of(make_record(1)), entry_of(make_record(2))])
    journal.close()
    whole = waits.read_bytes()
    waits.write_bytes(whole + whole.splitlines()[-1][:-7])
    again = Journal(waits, key=KEY)
    assert [entry.id for entry in again.waiting(9)] == ["d-1", "d-2"]
    assert waits.read_bytes() == whole
    again.drained(again.waiting(1))
    assert waits.exists()
    again.drained(again.waiting(1))
    assert not waits.exists()
    again.close()


def test_an_edited_journal_is_refused(waits: Path, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord) -> None:
    journal = Journal(waits, key=KEY)
    journal.append([entry_of(make_record(1))])
    journal.close()
    waits.write_bytes(waits.read_bytes().replace(b"refer", b"approve"))
    with pytest.raises(LedgerTamperedError, match="record 1: edited"):
        Journal(waits, key=KEY)
    waits.write_bytes(b"something else\n")
    with pytest.raises(AuditError, match="expected 'nbkit journal 1' in its first line"):
        Ledger.open(path, key=key, now=lambda: NOON, journal=waits)


def test_a_journal_whose_first_line_was_cut_short_by_a_full_disk_begins_anew(
    waits: Path, make_record: MakeRecord
) -> None:
    for begun in (b"", b"nbkit jour"):
        waits.parent.mkdir(exist_ok=True)
        waits.write_bytes(begun)
        journal = Journal(waits, key=KEY)
        assert len(journal) == 0
        journal.append([entry_of(make_record(1))])
        journal.close()
        again = Journal(waits, key=KEY)
        assert [entry.id for entry in again.waiting(9)] == ["d-1"]
        again.drained(again.waiting(9))
        again.close()


def left_behind(waits: Path, *records: AuditRecord) -> Path:
    """Records in the journal of a second worker that died."""
    first, second = Journal(waits, key=KEY), Journal(waits, key=KEY)
    second.append([entry_of(record) for record in records])
    first.close()
    second.close()
    return second._path


def test_what_a_second_worker_left_is_taken_over_by_the_only_one_that_starts(
    waits: Path, make_record: MakeRecord
) -> None:
    left = left_behind(waits, make_record(1), make_record(2))
    alone = Journal(waits, key=KEY)
    assert not left.exists()
    assert [entry.id for entry in alone.waiting(9)] == ["d-1", "d-2"]
    alone.close()
    # The copy is on the disk before the original goes; a crash between leaves both, which counts once.
    again = Journal(waits, key=KEY)
    assert len(again) == 2
    again.close()
    left.write_bytes(waits.read_bytes())
    once = Journal(waits, key=KEY)
    assert (len(once), left.exists()) == (2, False)
    once.close()


def test_two_answers_to_one_request_in_two_journals_are_both_kept(waits: Path, make_record: MakeRecord) -> None:
    left_behind(waits, make_record(2, request_id="r-1"))
    mine = Journal(waits.with_name("own.journal"), key=KEY)
    mine.append([entry_of(make_record(1))])
    mine.close()
    mine._path.rename(waits)
    both = Journal(waits, key=KEY)
    assert [(entry.id, entry.request_id) for entry in both.waiting(9)] == [("d-1", "r-1"), ("d-2", "d-2:journal")]
    both.close()


def test_a_journal_that_is_held_or_edited_is_left_where_it_is(waits: Path, make_record: MakeRecord) -> None:
    left = left_behind(waits, make_record(1))
    left.write_bytes(left.read_bytes().replace(b"refer", b"approve"))
    alone = Journal(waits, key=KEY)
    assert (len(alone), left.exists()) == (0, True)
    alone.close()
    left.write_bytes(left.read_bytes().replace(b"approve", b"refer"))
    lock = journal_module._lock(left)
    assert lock is not None
    second = Journal(waits, key=KEY)
    assert (len(second), left.exists()) == (0, True)
    second.close()
    os.close(lock)


def test_each_process_has_a_journal_of_its_own(waits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Journal(waits, key=KEY), Journal(waits, key=KEY)
    assert [journal._path.name for journal in (one, two)] == ["loans.journal", "loans~2.journal"]
    monkeypatch.setattr(journal_module, "_MOST_JOURNALS", 2)
    with pytest.raises(AuditError, match="2 workers hold a journal here"):
        Journal(waits, key=KEY)
    one.close()
    two.close()


def test_only_what_the_database_says_is_an_error_of_the_ledger(ledger: Ledger, path: Path) -> None:
    class Broken:
        def execute(self, *_: object) -> None:
            raise KeyError("a fault of ours")

        def close(self) -> None:
            raise KeyError("again")

    ledger._committer._finder._reader = Broken()  # type: ignore[assignment]
    with pytest.raises(KeyError, match="a fault of ours"):
        ledger.find("loan-denial", "r-1")
    ledger._committer._finder.close()
    path.unlink()
    with pytest.raises(AuditError, match="expected a ledger, got no such file"):
        ledger.find("loan-denial", "r-1")
