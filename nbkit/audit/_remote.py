"""A ledger whose writer is another process, so that hashing, SQLite and the disk never hold up the one that decides.

This is the end of the socket pair on the event loop of the one that decides; `write_for` is the other.
"""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._book import Place
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._committer import MOST_WAITING, seal, seal_key_of
from nbkit.audit._entry import Entry, entry_of, record_of
from nbkit.audit._find import Finder
from nbkit.audit._ledger import Ledger, Tell, tell_all
from nbkit.audit._messages import (
    ANSWERS,
    Close,
    Closed,
    Find,
    Found,
    Outcome,
    Posted,
    Read,
    Ready,
    Refused,
    Told,
)
from nbkit.errors import AlreadyRecordedError, AuditError
from nbkit.frames import CHUNK, Frames, framed
from nbkit.records import AuditRecord

__all__ = ["AnyLedger", "RemoteLedger"]

_Answer = TypeVar("_Answer", Ready, Closed)

# How long a look into the journal may take: it is asked between two commits.
_ANSWER_SECONDS = 5.0


class RemoteLedger:
    """What a service needs of a ledger, asked of the process that writes it.

    Used from one event loop; `post_all`, `find` and `read` also from other threads.

    Parameters
    ----------
    channel : socket
        To the writer, which runs `write_for`.
    place : Path or str
        Of the ledger: what is committed is read from there.
    key : Ed25519PrivateKey
        Of the ledger, for seals.
    lost : callable
        Called once on the loop when the writer has ended by itself.

    Raises
    ------
    AuditError
        The writer could not open the ledger, and has said why on its log.
    """

    def __init__(
        self, channel: socket.socket, *, place: Place, key: Ed25519PrivateKey, lost: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._lost = lost
        self._seal_key = seal_key_of(key)
        self._finder = Finder(place)
        self._frames = Frames()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._out = bytearray()
        self._lock = threading.Lock()
        self._closed = False
        self._count = 0
        self._waiting = 0
        self._told: dict[int, tuple[list[object], Tell]] = {}
        self._asked: dict[int, tuple[threading.Event, list[Found]]] = {}
        self.journaled = 0
        self.checkpoint: Checkpoint | None = None
        ready = self._wait_for(Ready)
        if ready is None:
            raise AuditError("the ledger's writer could not begin; its log says why")
        self.checkpoint, self.journaled = ready.checkpoint, ready.journaled

    def listen(self) -> None:
        """Hear the writer from now on, so that its end is noticed before anything is posted; on the event loop."""
        if self._loop is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            self._channel.setblocking(False)
            self._loop.add_reader(self._channel.fileno(), self._readable)

    def post_all(self, posts: Sequence[tuple[AuditRecord, object, bool]], *, tell: Tell) -> None:
        """Hand over records (see `Ledger.post_all`); ``tell`` is called on the loop.

        Parameters
        ----------
        posts : sequence of (AuditRecord, object, bool)
            Record, ticket and ``may_wait`` of each.
        tell : callable
            As `Ledger.post` takes it.
        """
        refused: list[tuple[object, int | AuditError]] = []
        entries: list[Entry] = []
        may_wait: list[bool] = []
        tickets: list[object] = []
        for record, ticket, waits in posts:
            try:
                entries.append(entry_of(record))
            except AuditError as error:
                refused.append((ticket, error))
            else:
                may_wait.append(waits)
                tickets.append(ticket)
        problem = ""
        with self._lock:
            if self._closed:
                problem = "the ledger is closed"
            elif self._waiting + len(tickets) > MOST_WAITING:
                problem = f"the ledger is behind: {MOST_WAITING} records wait for the disk"
            elif tickets:
                self._count = number = self._count + 1
                self._waiting += len(tickets)
                self._told[number] = (tickets, tell)
        if problem:
            refused += [(ticket, AuditError(problem)) for ticket in tickets]
        elif tickets:
            self.listen()
            self._send(framed(Posted(number, entries, may_wait)))
        if refused:
            tell(refused)

    def find(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request (see `Ledger.find`); blocks, so not for the event loop."""
        waiting = self._ask(lambda number: Find(number, model, request_id)) if self.journaled else None
        return waiting or self._finder.find(model, request_id)

    def read(self, record_id: str) -> AuditRecord | None:
        """Return a record by its own id (see `Ledger.read`); blocks, so not for the event loop."""
        waiting = self._ask(lambda number: Read(number, record_id)) if self.journaled else None
        return waiting or self._finder.read(record_id)

    def seal(self, data: bytes) -> str:
        """Return a keyed digest (see `Ledger.seal`)."""
        return seal(data, key=self._seal_key)

    def close(self) -> None:
        """Let the writer finish and end; a second call does nothing. After the loop has ended."""
        if self._closed:
            return
        self._detach()
        self._channel.setblocking(True)
        with suppress(OSError):
            closed = self._wait_for(Closed, sending=bytes(self._out) + framed(Close()))
            self.checkpoint = closed.checkpoint if closed else self.checkpoint
        self._end()

    def _ask(self, make: Callable[[int], Find | Read]) -> AuditRecord | None:
        heard, answers = threading.Event(), list[Found]()
        with self._lock:
            if self._closed:
                raise AuditError("the ledger is closed")
            self._count += 1
            number = self._count
            self._asked[number] = (heard, answers)
        self._send(framed(make(number)))
        if not heard.wait(_ANSWER_SECONDS) or not answers:
            with self._lock:
                self._asked.pop(number, None)
            raise AuditError("the ledger's writer does not answer")
        if answers[0].problem:
            raise AuditError(answers[0].problem)
        return record_of(answers[0].body, place="journal") if answers[0].body else None

    def _send(self, data: bytes) -> None:
        loop = self._loop
        if loop is None:
            return  # asked from a thread before the loop listens, or after the writer has ended: there is no answer
        if asyncio._get_running_loop() is loop:
            self._write(data)
        else:
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(self._write, data)

    def _detach(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._channel.fileno())
            self._loop.remove_writer(self._channel.fileno())
        self._loop = None

    def _write(self, data: bytes = b"") -> None:
        """Send what the socket takes; the rest when it takes more. A writer that is behind never blocks the loop."""
        waited = bool(self._out)
        self._out += data
        if waited and data:
            return
        try:
            sent = self._channel.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone()
            return
        del self._out[:sent]
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        if self._out and not waited:
            loop.add_writer(self._channel.fileno(), self._write)
        elif waited and not self._out:
            loop.remove_writer(self._channel.fileno())

    def _readable(self) -> None:
        try:
            data = self._channel.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone()
            return
        for frame in self._frames.feed(data):
            self._hear(ANSWERS.decode(frame))

    def _hear(self, message: Ready | Told | Found | Closed) -> None:
        if isinstance(message, Told):
            self.checkpoint, self.journaled = message.checkpoint, message.journaled
            with self._lock:
                heard_of = [(*self._told.pop(outcome.number), outcome) for outcome in message.outcomes]
                self._waiting -= sum(len(tickets) for tickets, _, _ in heard_of)
            tell_all((tell, zip(tickets, _places_of(outcome), strict=False)) for tickets, tell, outcome in heard_of)
        elif isinstance(message, Found):
            with self._lock:
                asked = self._asked.pop(message.number, None)
            if asked is not None:  # or else it was late, and whoever asked has heard so
                asked[1].append(message)
                asked[0].set()

    def _gone(self) -> None:
        """Tell everybody who waits: whether the last records are durable, their callers learn by asking again."""
        if self._closed:
            return
        self._detach()
        waiting = self._end()
        error = AuditError("the ledger's writer has ended; ask again with the same id")
        tell_all((tell, [(ticket, error) for ticket in tickets]) for tickets, tell in waiting)
        self._lost()

    def _end(self) -> list[tuple[list[object], Tell]]:
        with self._lock:
            self._closed = True
            waiting = list(self._told.values())
            self._told.clear()
            for heard, _ in self._asked.values():
                heard.set()
        self._channel.close()
        self._finder.close()
        return waiting

    def _wait_for(self, kind: type[_Answer], *, sending: bytes = b"") -> _Answer | None:
        """Hear messages until one of a kind comes; None when the writer ends first.

        What is to be sent is sent meanwhile: a writer that waits to be heard does not read.
        """
        rest = memoryview(sending)
        while True:
            readable, _, _ = select.select([self._channel], [self._channel] if rest else [], [])
            with suppress(BlockingIOError):
                rest = rest[self._channel.send(rest, socket.MSG_DONTWAIT) :] if rest else rest
            if not readable:
                continue
            data = self._channel.recv(CHUNK)
            if not data:
                return None
            found = None
            for frame in self._frames.feed(data):
                message = ANSWERS.decode(frame)
                if isinstance(message, kind):
                    found = message
                self._hear(message)
            if found is not None:
                return found


# What a service writes to: one of its own process, or of another.
AnyLedger = Ledger | RemoteLedger


def _places_of(outcome: Outcome) -> Iterable[int | AuditError]:
    if isinstance(outcome.places, int):
        return itertools.count(outcome.places)
    return [_error_of(place) if isinstance(place, Refused) else place for place in outcome.places]


def _error_of(refused: Refused) -> AuditError:
    return AlreadyRecordedError(refused.problem) if refused.repeated else AuditError(refused.problem)
