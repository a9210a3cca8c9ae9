"""The process that writes a ledger for another: reads what is there, commits it, answers, and drains the journal."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from nbkit.audit._committer import MOST_IN_A_COMMIT, Committer
from nbkit.audit._entry import entry_of
from nbkit.audit._messages import (
    REQUESTS,
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

__all__ = ["write_for"]


def write_for(channel: socket.socket, *, open_committer: Callable[[], Committer]) -> None:
    """Write what comes over a channel until it closes; the other end is a `RemoteLedger`.

    When the other end dies, what it has handed over is written before this returns.

    Parameters
    ----------
    channel : socket
        Blocking.
    open_committer : callable
        Opens the ledger.

    Raises
    ------
    AuditError
        It cannot be opened.
    """
    committer = open_committer()
    try:
        _Writer(channel, committer).run()
    finally:
        committer.close()


class _Writer:
    """One thread: reads what is there, commits it, answers, and drains the journal meanwhile."""

    def __init__(self, channel: socket.socket, committer: Committer) -> None:
        self._channel = channel
        self._committer = committer
        self._frames = Frames()

    def run(self) -> None:
        committer = self._committer
        self._answer(Ready(committer.checkpoint, committer.journaled))
        ends = False
        while not ends:
            messages, ends = self._next()
            waited = committer.journaled
            committer.drain(at_once=ends)
            if committer.journaled != waited:
                self._answer(Told([], committer.checkpoint, committer.journaled))
            posts: list[Posted] = []
            for message in messages:
                if isinstance(message, Posted):
                    posts.append(message)
                    continue
                self._commit(posts)
                posts = []
                if isinstance(message, Close):
                    committer.drain(at_once=True)
                    self._answer(Closed(committer.checkpoint))
                    return
                self._answer(self._found(message))
            self._commit(posts)
        committer.drain(at_once=True)

    def _next(self) -> tuple[list[Posted | Find | Read | Close], bool]:
        """Wait for messages, while some records wait in the journal not for ever; all that are there come together."""
        messages: list[Posted | Find | Read | Close] = []
        records = 0
        patience = self._committer.patience
        while records < MOST_IN_A_COMMIT and select.select([self._channel], [], [], patience)[0]:
            try:
                data = self._channel.recv(CHUNK)
            except ConnectionResetError:
                data = b""
            if not data:
                return messages, True
            came = [REQUESTS.decode(frame) for frame in self._frames.feed(data)]
            records += sum(len(message.entries) for message in came if isinstance(message, Posted))
            messages += came
            patience = 0.0 if messages else patience
        return messages, False

    def _commit(self, posts: Sequence[Posted]) -> None:
        if not posts:
            return
        entries = [entry for post in posts for entry in post.entries]
        places = iter(self._committer.commit(entries, may_wait=[waits for post in posts for waits in post.may_wait]))
        outcomes = [Outcome(post.number, _told_of([next(places) for _ in post.entries])) for post in posts]
        self._answer(Told(outcomes, self._committer.checkpoint, self._committer.journaled))
        self._committer.tidy()

    def _found(self, asked: Find | Read) -> Found:
        """Look into the journal; what is committed the other end reads for itself, and holds up nobody here."""
        committer = self._committer
        try:
            if isinstance(asked, Find):
                record = committer.find_waiting(asked.model, asked.request_id)
            else:
                record = committer.read_waiting(asked.id)
        except AuditError as error:
            return Found(asked.number, None, str(error))
        return Found(asked.number, None if record is None else entry_of(record).body)

    def _answer(self, message: msgspec.Struct) -> None:
        with suppress(OSError):  # the other end has died: its callers ask the next one
            self._channel.sendall(framed(message))


def _told_of(places: list[int | AuditError]) -> int | list[int | Refused]:
    first = places[0]
    if isinstance(first, int) and places == [*range(first, first + len(places))]:
        return first
    return [place if isinstance(place, int) else _refused(place) for place in places]


def _refused(problem: AuditError) -> Refused:
    return Refused(str(problem) or "not recorded", isinstance(problem, AlreadyRecordedError))
