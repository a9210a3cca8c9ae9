"""A ledger whose writer is at the other end of a socket pair; here it runs in a thread, in a worker in a process."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.audit import Committer, Ledger, Place, RemoteLedger, read_records, verify_ledger, write_for
from nbkit.audit import _committer as committer_module
from nbkit.audit import _messages as messages_module
from nbkit.audit import _remote as remote_module
from nbkit.audit import _writer as writer_module
from nbkit.audit._entry import Entry, entry_of
from nbkit.audit._journal import Journal
from nbkit.audit._messages import Find, Found, Outcome, Posted, Read, Refused, Told
from nbkit.audit._remote import _error_of
from nbkit.audit._writer import _refused, _told_of
from nbkit.errors import AlreadyRecordedError, AuditError
from nbkit.frames import Frames, framed
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MODEL = "loan-denial"
SECONDS = 60
MakeRecord = Callable[..., AuditRecord]
Place_ = int | AuditError


class Hearer:
    """Hears what became of records, in the order in which it hears it."""

    def __init__(self) -> None:
        self.places: dict[object, Place_] = {}
        self.calls = 0
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, outcomes: Sequence[tuple[object, Place_]]) -> None:
        self.calls += 1
        for ticket, place in outcomes:
            assert ticket not in self.places, "told twice"
            self.places[ticket] = place
        self._loop.call_soon_threadsafe(self._more.set)

    async def all_of(self, count: int) -> list[Place_]:
        async with asyncio.timeout(SECONDS):
            while len(self.places) < count:
                self._more.clear()
                await self._more.wait()
        return list(self.places.values())


class Outage:
    """Stands before a committer: its book says no while it is on, and nothing goes on while it is told to wait."""

    def __init__(self, committer: Committer) -> None:
        self._append = committer._book.append
        self._drain = committer.drain
        self.on = False
        self.reason = "the database is gone"
        self.goes_on = threading.Event()
        self.goes_on.set()
        committer._book.append = self  # type: ignore[method-assign, assignment]
        committer.drain = self.drain  # type: ignore[method-assign]

    def drain(self, *, at_once: bool = False) -> None:
        assert self.goes_on.wait(SECONDS)
        self._drain(at_once=at_once)

    def __call__(self, entries: Sequence[Entry]) -> list[Place_]:
        if self.on:
            raise AuditError(self.reason)
        return self._append(entries)


@dataclass(kw_only=True)
class Writing:
    """The writer's side, in a thread."""

    place: Place
    key: Ed25519PrivateKey
    journal: Path | None = None
    opens: Callable[[], Committer] | None = None
    says: socket.socket = field(init=False)
    aside: socket.socket = field(init=False)
    ours: socket.socket = field(init=False)
    theirs: socket.socket = field(init=False)
    thread: threading.Thread = field(init=False)
    outage: Outage = field(init=False)
    committer: Committer = field(init=False)
    problem: BaseException | None = None

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.says, self.aside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            write_for(self.theirs, open_committer=self.opens or self._open, aside=self.aside)
        except (AuditError, OSError, ValueError) as error:
            self.problem = error
        finally:
            self.theirs.close()
            self.aside.close()
            self.says.close()

    def _open(self) -> Committer:
        self.committer = Committer.open(self.place, key=self.key, now=lambda: NOON, journal=self.journal)
        self.outage = Outage(self.committer)
        return self.committer

    def break_off(self) -> None:
        """End it by itself, as if it were killed: at once, whatever waits."""
        self.theirs.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


@dataclass(kw_only=True)
class Both:
    """Both ends."""

    ledger: RemoteLedger
    writing: Writing
    lost: list[str]


@contextmanager
def both_ends(place: Place, key: Ed25519PrivateKey, *, journal: Path | None = None) -> Iterator[Both]:
    writing = Writing(place=place, key=key, journal=journal)
    lost: list[str] = []
    ledger = RemoteLedger(writing.ours, place=place, key=key, lost=lambda: lost.append("lost"))
    try:
        yield Both(ledger=ledger, writing=writing, lost=lost)
    finally:
        writing.outage.goes_on.set()
        ledger.close()
        writing.wait()


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    return tmp_path / "loans.journal"


@pytest.fixture
def both(path: Path, waits: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    monkeypatch.setattr(committer_module, "RETRY_SECONDS", 0.02)
    with both_ends(path, key, journal=waits) as opened:
        yield opened


async def post(ledger: RemoteLedger, *records: AuditRecord, may_wait: bool = False) -> list[Place_]:
    """Return the places of records that are handed over together, or what went wrong."""
    told = Hearer()
    ledger.post_all([(record, record.id, may_wait) for record in records], tell=told)
    await told.all_of(len(records))
    return [told.places[record.id] for record in records]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


def test_records_are_durable_when_their_places_are_told(both: Both, path: Path, make_record: MakeRecord) -> None:
    async def run() -> None:
        assert await post(both.ledger, make_record(1), make_record(2)) == [1, 2]
        assert [record.id for record in read_records(path)] == ["d-2", "d-1"]
        assert both.ledger.checkpoint is not None
        assert both.ledger.checkpoint.size == 2
        assert await asyncio.to_thread(both.ledger.find, MODEL, "r-1") == make_record(1)
        assert await asyncio.to_thread(both.ledger.read, "d-2") == make_record(2)
        assert await asyncio.to_thread(both.ledger.find, MODEL, "r-3") is None
        assert await asyncio.to_thread(both.ledger.read, "d-3") is None

    asyncio.run(run())


def test_a_postgresql_is_written_and_read_too(schema: str, key: Ed25519PrivateKey, make_record: MakeRecord) -> None:
    with both_ends(schema, key) as both:

        async def run() -> None:
            assert await post(both.ledger, make_record(1)) == [1]
            assert await asyncio.to_thread(both.ledger.find, MODEL, "r-1") == make_record(1)
            (again,) = await post(both.ledger, make_record(2, request_id="r-1"))
            assert isinstance(again, AlreadyRecordedError)

        asyncio.run(run())
    assert verify_ledger(schema, public_key=key.public_key()).problems == ()
    assert both.lost == []


def test_posts_of_other_threads_are_told_on_the_loop(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        here = threading.get_ident()
        threads: list[int] = []
        told = Hearer()

        def tell(outcomes: Sequence[tuple[object, Place_]]) -> None:
            threads.append(threading.get_ident())
            told(outcomes)

        both.ledger.listen()
        both.ledger.listen()  # a second time does nothing
        posts = [[(make_record(n), n, False) for n in range(first, first + 5)] for first in (0, 5, 10)]
        await asyncio.gather(*(asyncio.to_thread(both.ledger.post_all, some, tell=tell) for some in posts))
        assert sorted(await told.all_of(15)) == list(range(1, 16))  # type: ignore[type-var]
        assert set(threads) == {here}

    asyncio.run(run())


def test_who_posts_separately_hears_separately(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        one, other = Hearer(), Hearer()
        both.writing.outage.goes_on.clear()
        both.ledger.post_all([(make_record(1), "a", False), (make_record(2), "b", False)], tell=one)
        both.ledger.post_all([(make_record(3), "c", False)], tell=other)
        both.writing.outage.goes_on.set()
        await one.all_of(2)
        await other.all_of(1)
        assert (one.places, other.places) == ({"a": 1, "b": 2}, {"c": 3})
        assert one.calls == 1

    asyncio.run(run())


def test_a_repeated_request_and_a_record_that_json_cannot_carry_fail_alone(
    both: Both, path: Path, make_record: MakeRecord
) -> None:
    async def run() -> None:
        first, again, refused, last = await post(
            both.ledger,
            make_record(1),
            make_record(2, request_id="r-1"),
            make_record(3, score=float("nan")),
            make_record(4),
        )
        assert (first, last) == (1, 2)
        assert isinstance(again, AlreadyRecordedError)
        assert "request 'r-1' of model 'loan-denial'" in str(again)
        assert "record d-3 cannot be written: 1 problem: score: expected a finite number, got nan" in str(refused)
        (alone,) = await post(both.ledger, make_record(5, inputs={"x": float("inf")}))
        assert "inputs.x: expected a finite number" in str(alone)

    asyncio.run(run())
    assert [record.id for record in read_records(path)] == ["d-4", "d-1"]


def test_what_waits_in_the_journal_is_found_and_drained_when_the_ledger_is_back(
    both: Both, path: Path, waits: Path, make_record: MakeRecord
) -> None:
    async def run() -> None:
        ledger = both.ledger
        assert await post(ledger, make_record(1)) == [1]
        both.writing.outage.on = True
        assert await post(ledger, make_record(2), make_record(3), may_wait=True) == [0, 0]
        assert ledger.journaled == 2
        assert await asyncio.to_thread(ledger.find, MODEL, "r-2") == make_record(2)
        assert await asyncio.to_thread(ledger.read, "d-3") == make_record(3)
        # What is in the ledger already is read from there, and what is nowhere is nowhere.
        assert await asyncio.to_thread(ledger.find, MODEL, "r-1") == make_record(1)
        assert await asyncio.to_thread(ledger.find, MODEL, "r-9") is None
        assert await asyncio.to_thread(ledger.read, "d-9") is None
        refused, again = (
            *(await post(ledger, make_record(4))),
            *(await post(ledger, make_record(5, request_id="r-2"), may_wait=True)),
        )
        assert "the ledger takes what waits in the journal first" in str(refused)
        assert isinstance(again, AlreadyRecordedError)
        both.writing.outage.on = False
        # It is told without anybody posting anything.
        await until(lambda: not ledger.journaled)
        assert ledger.checkpoint is not None
        assert ledger.checkpoint.size == 3
        assert not waits.exists()
        assert await post(ledger, make_record(6)) == [4]

    asyncio.run(run())
    assert [record.id for record in read_records(path)] == ["d-6", "d-3", "d-2", "d-1"]


def test_a_journal_that_was_left_can_be_asked_before_anything_is_posted(
    path: Path, waits: Path, key: Ed25519PrivateKey, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path, key=key, now=lambda: NOON) as ledger:
        ledger.submit(make_record(1)).result(SECONDS)
    left = Journal(waits, key=committer_module.seal_key_of(key))
    left.append([entry_of(make_record(2))])
    left.close()
    with both_ends(path, key, journal=waits) as both:
        both.writing.outage.on = True
        assert both.ledger.journaled == 1
        monkeypatch.setattr(remote_module, "_ANSWER_SECONDS", 0.01)
        with pytest.raises(AuditError, match="the ledger's writer does not answer"):
            both.ledger.find(MODEL, "r-2")  # nobody listens yet
        monkeypatch.setattr(remote_module, "_ANSWER_SECONDS", SECONDS)

        async def run() -> None:
            both.ledger.listen()
            assert await asyncio.to_thread(both.ledger.find, MODEL, "r-2") == make_record(2)

        asyncio.run(run())
        both.writing.outage.on = False
    # Closing drained it.
    assert [record.id for record in read_records(path)] == ["d-2", "d-1"]


def test_a_journal_that_cannot_be_read_is_an_answer_too(
    both: Both, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        both.writing.outage.on = True
        assert await post(both.ledger, make_record(1), may_wait=True) == [0]

        def fail(*_: object) -> None:
            raise AuditError("the journal cannot be read: no")

        def never(*_: object) -> None:
            raise AssertionError("the writer reads what is committed, while records wait for it")

        with monkeypatch.context() as patch:
            patch.setattr(both.writing.committer._finder, "find", never)
            patch.setattr(both.writing.committer._finder, "read", never)
            assert await asyncio.to_thread(both.ledger.find, MODEL, "r-9") is None
            assert await asyncio.to_thread(both.ledger.read, "d-9") is None
            patch.setattr(both.writing.committer._journal, "find", fail)
            with pytest.raises(AuditError, match="the journal cannot be read: no"):
                await asyncio.to_thread(both.ledger.find, MODEL, "r-9")
        both.writing.outage.on = False
        await until(lambda: not both.ledger.journaled)

    asyncio.run(run())


def test_a_question_that_is_not_answered_in_time_is_an_error_and_its_answer_is_dropped(
    both: Both, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        ledger, outage = both.ledger, both.writing.outage
        outage.on = True
        assert await post(ledger, make_record(1), may_wait=True) == [0]
        outage.goes_on.clear()
        with monkeypatch.context() as patch:
            patch.setattr(remote_module, "_ANSWER_SECONDS", 0.0)
            with pytest.raises(AuditError, match="the ledger's writer does not answer"):
                await asyncio.to_thread(ledger.find, MODEL, "r-1")
        outage.goes_on.set()
        # Its late answer disturbs nobody.
        assert await asyncio.to_thread(ledger.find, MODEL, "r-1") == make_record(1)
        ledger._hear(Found(10_000, None))
        assert ledger._asked == {}
        outage.on = False
        await until(lambda: not ledger.journaled)

    asyncio.run(run())


def aside_of(*entries: Entry) -> bytes:
    return msgspec.msgpack.encode(list(entries))


def shadow_of(record: AuditRecord) -> Entry:
    """The record of one that answered nobody."""
    ids = {"id": f"{record.id}s", "request_id": f"~shadow:2:{record.id}"}
    return entry_of(msgspec.structs.replace(record, kind="shadow", **ids))


def test_what_is_said_aside_goes_with_the_next_that_comes(
    both: Both, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_LATER_SECONDS", SECONDS)
    commits: list[int] = []
    append = both.writing.committer._book.append
    monkeypatch.setattr(both.writing.committer._book, "append", lambda some: commits.append(len(some)) or append(some))

    async def run() -> None:
        told = Hearer()
        both.writing.says.send(aside_of(shadow_of(make_record(1)), shadow_of(make_record(2))))
        both.writing.says.send(aside_of(shadow_of(make_record(3))))
        both.ledger.post_all([(make_record(4), 4, False)], tell=told)
        assert await told.all_of(1) == [1]  # whoever waits comes first
        assert commits == [4]

    asyncio.run(run())
    assert both.ledger.checkpoint is not None
    assert both.ledger.checkpoint.size == 4


def test_what_is_said_aside_goes_alone_when_nothing_comes(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        both.ledger.listen()
        both.writing.says.send(aside_of(shadow_of(make_record(1))))
        await until(lambda: both.ledger.checkpoint is not None and both.ledger.checkpoint.size == 1)

    asyncio.run(run())
    assert [record.kind for record in read_records(both.writing.place, limit=9)] == ["shadow"]


def test_no_more_is_taken_aside_than_a_commit_holds(
    both: Both, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_IN_A_COMMIT", 2)
    commits: list[int] = []
    append = both.writing.committer._book.append
    monkeypatch.setattr(both.writing.committer._book, "append", lambda some: commits.append(len(some)) or append(some))

    async def run() -> None:
        both.ledger.listen()
        for numbers in ((1, 2), (3, 4), (5,)):
            both.writing.says.send(aside_of(*(shadow_of(make_record(number)) for number in numbers)))
        await until(lambda: both.ledger.checkpoint is not None and both.ledger.checkpoint.size == 5)

    asyncio.run(run())
    assert (sum(commits), max(commits)) == (5, 2)


def test_nothing_that_is_said_aside_takes_the_place_of_a_decision(
    both: Both, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        told = Hearer()
        # A shadow, the same shadow again, bytes that are nothing, and what is called other than it is.
        one = shadow_of(make_record(2))
        replaced = msgspec.structs.replace
        another = shadow_of(replaced(make_record(1), model="cards"))
        both.writing.says.send(
            aside_of(
                entry_of(make_record(1)),
                entry_of(replaced(make_record(1), kind="shadow")),
                entry_of(replaced(make_record(1), request_id="~shadow:2:x")),
                entry_of(replaced(make_record(3), request_id="~shadow:2:x", kind="shadow")),
                replaced(another, body=b"{}"),
                replaced(another, id=make_record(3).id),
                replaced(another, request_id="~shadow:2:x"),
                replaced(another, model=MODEL),
                shadow_of(replaced(make_record(1), model="no\0text")),
                one,
                one,
            )
        )
        both.writing.says.send(b"\xc1")
        await until(lambda: "not understood" in caplog.text)
        both.ledger.post_all([(make_record(3), 3, False)], tell=told)
        await told.all_of(1)

    asyncio.run(run())
    place = both.writing.place
    requests = sorted(record.request_id for record in read_records(place, limit=19))
    assert requests == sorted([make_record(3).request_id, f"~shadow:2:{make_record(2).id}"])


def test_when_the_writer_ends_by_itself_everybody_who_waits_hears_of_it(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        ledger, outage = both.ledger, both.writing.outage
        outage.on = True
        assert await post(ledger, make_record(1), may_wait=True) == [0]
        outage.goes_on.clear()
        one, other = Hearer(), Hearer()
        ledger.post_all([(make_record(2), "a", False), (make_record(3), "b", False)], tell=one)
        ledger.post_all([(make_record(4), "c", False)], tell=other)
        question = asyncio.create_task(asyncio.to_thread(ledger.find, MODEL, "r-1"))
        await until(lambda: bool(ledger._asked))
        both.writing.break_off()
        for place in (*await one.all_of(2), *await other.all_of(1)):
            assert isinstance(place, AuditError)
            assert str(place) == "the ledger's writer has ended; ask again with the same id"
        assert one.calls == 1
        with pytest.raises(AuditError, match="the ledger's writer does not answer"):
            await question
        assert both.lost == ["lost"]
        (refused,) = await post(ledger, make_record(5))
        assert str(refused) == "the ledger is closed"
        assert ledger.journaled == 1
        with pytest.raises(AuditError, match="the ledger is closed"):
            await asyncio.to_thread(ledger.read, "d-1")
        ledger.listen()  # too late
        ledger._write(b"from a thread that did not know")
        assert both.lost == ["lost"]

    asyncio.run(run())


def test_a_writer_that_ends_before_anything_was_posted_is_noticed(both: Both) -> None:
    async def run() -> None:
        both.ledger.listen()
        both.writing.break_off()
        await until(lambda: bool(both.lost))
        assert both.lost == ["lost"]

    asyncio.run(run())


def test_a_writer_whose_end_shows_when_something_is_sent_is_noticed_too(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        both.ledger.listen()
        both.writing.break_off()
        (failed,) = await post(both.ledger, make_record(1))
        assert "the ledger's writer has ended" in str(failed)
        assert both.lost == ["lost"]

    asyncio.run(run())


def test_a_socket_that_breaks_or_has_nothing_is_understood(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        both.ledger.listen()
        both.ledger._readable()  # woken for nothing
        assert both.lost == []

        class Broken:
            def recv(self, _: int) -> bytes:
                raise ConnectionResetError

        with monkeypatch.context() as patch:
            patch.setattr(both.ledger, "_detach", lambda: None)
            patch.setattr(both.ledger, "_end", list)
            patch.setattr(both.ledger, "_channel", Broken())
            both.ledger._readable()
        assert both.lost == ["lost"]

    asyncio.run(run())


def test_a_writer_that_never_begins_is_an_error(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database at all, and long enough not to be taken for an empty one" * 20)
    writing = Writing(place=path, key=key)
    with pytest.raises(AuditError, match="the ledger's writer could not begin; its log says why"):
        RemoteLedger(writing.ours, place=path, key=key, lost=lambda: None)
    writing.wait()
    assert "file is not a database" in str(writing.problem)
    writing.ours.close()


def test_a_writer_that_is_behind_never_blocks_the_loop_and_loses_nothing(
    both: Both, path: Path, make_record: MakeRecord
) -> None:
    async def run() -> None:
        ledger, outage = both.ledger, both.writing.outage
        both.writing.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        outage.goes_on.clear()
        told = Hearer()
        for number in range(1, 301):
            ledger.post_all([(make_record(number, inputs={"x": "y" * 1000}), number, False)], tell=told)
        # The socket is full, the rest waits here, and the loop turns.
        assert ledger._out
        await asyncio.sleep(0)
        assert told.places == {}
        outage.goes_on.set()
        assert await told.all_of(300) == list(range(1, 301))
        assert list(told.places) == list(range(1, 301))
        assert not ledger._out
        # The way is free again.
        assert await post(ledger, make_record(400)) == [301]

    asyncio.run(run())
    assert [record.id for record in read_records(path, limit=1000)][::-1][:300] == [f"d-{n}" for n in range(1, 301)]


def test_more_than_the_disk_takes_in_seconds_is_refused_at_once(
    both: Both, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        monkeypatch.setattr(remote_module, "MOST_WAITING", 3)
        both.writing.outage.goes_on.clear()
        told = Hearer()
        both.ledger.post_all([(make_record(n), n, False) for n in (1, 2)], tell=told)
        both.ledger.post_all([(make_record(n), n, False) for n in (3, 4)], tell=told)
        assert set(told.places) == {3, 4}
        for place in told.places.values():
            assert str(place) == "the ledger is behind: 3 records wait for the disk"
        both.ledger.post_all([(make_record(5), 5, False)], tell=told)
        both.writing.outage.goes_on.set()
        await told.all_of(5)
        assert (told.places[1], told.places[2], told.places[5]) == (1, 2, 3)

    asyncio.run(run())


def test_closing_writes_what_waits_and_brings_the_last_checkpoint(
    both: Both, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    both.writing.outage.goes_on.clear()

    async def run() -> list[Place_]:
        both.writing.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        both.ledger.post_all(
            [(make_record(n, inputs={"x": "y" * 1000}), n, False) for n in range(60)],
            tell=lambda outcomes: places.extend(place for _, place in outcomes),
        )
        return places

    places: list[Place_] = []
    assert asyncio.run(run()) == []
    both.writing.outage.goes_on.set()
    both.ledger.close()
    # Those who still waited heard of it.
    assert sorted(places) == list(range(1, 61))  # type: ignore[type-var]
    assert both.ledger.checkpoint is not None
    assert both.ledger.checkpoint.size == 60
    both.ledger.close()
    both.writing.wait()
    assert both.lost == []
    report = verify_ledger(path, public_key=key.public_key())
    assert (report.records, report.problems) == (60, ())
    # Posted from a thread that did not know; the loop has ended.
    told: list[tuple[object, Place_]] = []
    both.ledger.post_all([(make_record(99), 99, False)], tell=told.extend)
    assert str(told[0][1]) == "the ledger is closed"


def test_closing_does_not_wait_for_a_writer_that_waits_to_be_heard(
    both: Both, path: Path, make_record: MakeRecord
) -> None:
    """Both ways are full: thousands of records this way, and why the first of them were refused that way."""
    both.writing.outage.goes_on.clear()
    both.writing.outage.on = True
    both.writing.outage.reason = "no" * 500
    places: list[Place_] = []

    async def run() -> None:
        both.ledger.post_all(
            [(make_record(n, inputs={"x": "y" * 500}), n, False) for n in range(3000)],
            tell=lambda outcomes: places.extend(place for _, place in outcomes),
        )

    asyncio.run(run())
    both.writing.outage.goes_on.set()
    both.ledger.close()
    assert len(places) == 3000
    assert {str(place) for place in places} == {"no" * 500}


def test_closing_while_the_loop_runs_and_after_the_writer_died_is_quiet(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    with both_ends(path, key) as both:

        async def run() -> None:
            await post(both.ledger, make_record(1))
            both.ledger.close()

        asyncio.run(run())
        assert both.ledger.checkpoint is not None
    for breaks in (lambda end: end.shutdown(socket.SHUT_RDWR), lambda end: end.shutdown(socket.SHUT_WR)):
        with both_ends(path, key) as both:
            breaks(both.writing.theirs)  # nobody was listening
            both.ledger.close()
            assert both.ledger.checkpoint is not None
            assert both.ledger.checkpoint.size == 1
        assert both.lost == []


def test_what_is_sent_when_the_loop_has_ended_is_dropped(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        await post(both.ledger, make_record(1))

    asyncio.run(run())
    told: list[object] = []
    both.ledger.post_all([(make_record(2), 2, False)], tell=told.extend)
    assert told == []


def test_what_a_worker_handed_over_before_it_died_is_written(
    path: Path, waits: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    """No process may lose an answer: the writer goes on to the end of what came, then ends."""
    writing = Writing(place=path, key=key, journal=waits)
    ledger = RemoteLedger(writing.ours, place=path, key=key, lost=lambda: None)
    writing.outage.goes_on.clear()
    sent = b"".join(framed(Posted(n, [entry_of(make_record(n))], [False])) for n in range(1, 31))
    half = framed(Posted(31, [entry_of(make_record(31))], [False]))[:-1]
    writing.ours.sendall(sent + half)
    ledger._finder.close()
    writing.ours.close()
    writing.outage.goes_on.set()
    writing.wait()
    assert writing.problem is None
    assert {record.id for record in read_records(path)} == {f"d-{n}" for n in range(1, 31)}


def test_a_worker_that_dies_without_reading_its_answers_resets_nothing_that_was_written(
    path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    writing = Writing(place=path, key=key)
    writing.ours.sendall(framed(Posted(1, [entry_of(make_record(1))], [False])))
    ends = time.monotonic() + SECONDS
    while not path.exists() or not _ids(path):
        assert time.monotonic() < ends
        time.sleep(0.002)
    writing.ours.close()  # the answers lie there unread, so the writer's next read is a reset
    writing.wait()
    assert writing.problem is None
    assert _ids(path) == ["d-1"]


def _ids(path: Path) -> list[str]:
    try:
        return [record.id for record in read_records(path)]
    except AuditError:
        return []


def test_a_fault_of_one_who_hears_leaves_the_other_messages_whole(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told["exception"]))

        def fault(_: object) -> None:
            raise ZeroDivisionError

        both.ledger.post_all([(make_record(1), 1, False)], tell=fault)
        await until(lambda: bool(faults))
        assert await post(both.ledger, make_record(2)) == [2]

    asyncio.run(run())


def test_an_outcome_without_words_is_still_a_refusal() -> None:
    assert _refused(AuditError("")).problem == "not recorded"
    told = _error_of(_refused(AlreadyRecordedError("again")))
    assert isinstance(told, AlreadyRecordedError)
    assert str(told) == "again"
    assert not isinstance(_error_of(_refused(AuditError("no"))), AlreadyRecordedError)


def test_places_that_follow_each_other_are_told_as_one() -> None:
    again = AlreadyRecordedError("again")
    assert _told_of([8]) == 8
    assert _told_of([8, 9, 10]) == 8
    assert _told_of([8, 10]) == [8, 10]
    assert _told_of([0, 0]) == [0, 0]  # both in the journal
    assert _told_of([8, again, 9]) == [8, Refused("again", True), 9]
    assert _told_of([again, 8]) == [Refused("again", True), 8]


def test_one_that_is_refused_among_others_leaves_them_their_places(both: Both, make_record: MakeRecord) -> None:
    async def run() -> None:
        assert await post(both.ledger, make_record(1)) == [1]
        places = await post(both.ledger, make_record(2), make_record(3, request_id="r-1"), make_record(4))
        assert (places[0], places[2]) == (2, 3)
        assert isinstance(places[1], AlreadyRecordedError)
        # One that cannot be written at all is told at once, and the others after it keep theirs.
        places = await post(both.ledger, make_record(5), make_record(6, score=math.inf), make_record(7))
        assert (places[0], places[2]) == (4, 5)
        assert "expected a finite number" in "".join(getattr(places[1], "problems", ()))
        assert both.ledger._waiting == 0

    asyncio.run(run())


def test_seals_are_those_of_the_ledger(both: Both, path: Path, key: Ed25519PrivateKey) -> None:
    with Ledger.open(path, key=key, now=lambda: NOON) as ledger:
        assert both.ledger.seal(b"ana") == ledger.seal(b"ana")


_MESSAGES = st.lists(
    st.one_of(
        st.builds(Find, st.integers(0, 2**32), st.text(max_size=9), st.text(max_size=9)),
        st.builds(Read, st.integers(0, 2**32), st.text(max_size=9)),
        st.builds(
            Posted,
            st.just(1),
            st.lists(
                st.builds(
                    Entry,
                    id=st.just("d"),
                    model=st.just("m"),
                    request_id=st.just("r"),
                    body=st.binary(max_size=70_000),
                ),
                max_size=3,
            ),
            st.lists(st.booleans(), max_size=3),
        ),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(_MESSAGES, st.data())
def test_messages_are_the_same_wherever_the_socket_cuts_them(messages: list[object], data: st.DataObject) -> None:
    stream = b"".join(map(framed, messages))  # type: ignore[arg-type]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    frames, heard = Frames(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += [messages_module.REQUESTS.decode(frame) for frame in frames.feed(stream[begin:end])]
    assert heard == messages
    assert frames._rest == b""


def test_every_single_cut_of_two_messages_gives_both() -> None:
    messages = [Told([Outcome(1, 2), Outcome(3, [0, Refused("no", True)])], None, 4), Found(7, None, "x")]
    stream = b"".join(map(framed, messages))
    for cut in range(len(stream) + 1):
        frames = Frames()
        told = frames.feed(stream[:cut]) + frames.feed(stream[cut:])
        assert [messages_module.ANSWERS.decode(frame) for frame in told] == messages
    frames = Frames()
    bytewise = [frame for byte in stream for frame in frames.feed(bytes([byte]))]
    assert [messages_module.ANSWERS.decode(frame) for frame in bytewise] == messages


def test_a_committer_of_its_own_is_closed_when_its_channel_breaks() -> None:
    closed: list[bool] = []

    class Fails:
        checkpoint = None
        journaled = 0
        patience = None

        def drain(self, *, at_once: bool = False) -> None:
            raise ValueError("a fault of ours" if at_once else "")

        def close(self) -> None:
            closed.append(True)

    writing = Writing(place="", key=Ed25519PrivateKey.generate(), opens=Fails)  # type: ignore[arg-type]
    writing.ours.close()
    writing.wait()
    assert (str(writing.problem), closed) == ("a fault of ours", [True])
