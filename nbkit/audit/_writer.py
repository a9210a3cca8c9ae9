"""The process that writes a ledger for another: reads what is there, commits it, answers, and drains the journal."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from nbkit.audit._committer import MOST_IN_A_COMMIT, Committer
from nbkit.audit._entry import Entry, entry_of, record_of
from nbkit.audit._messages import (
    ASIDE,
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
from nbkit.audit._trial import SHADOW_END, SHADOW_ID
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError
from nbkit.frames import CHUNK, Frames, framed

__all__ = ["write_for"]

_LOG = logging.getLogger("nbkit.audit")

# How long records that nobody waits for lie here for others to go with.
_LATER_SECONDS = 0.02


def write_for(
    channel: socket.socket, *, open_committer: Callable[[], Committer], aside: socket.socket | None = None
) -> None:
    """Write what comes over a channel until it closes; the other end is a `RemoteLedger`.

    When the other end dies, what it has handed over is written before this returns.

    Parameters
    ----------
    channel : socket
        Blocking.
    open_committer : callable
        Opens the ledger.
    aside : socket, optional
        Datagrams of processes that nobody waits for: each a list of entries under ids that no decision can have
        (`SHADOW_ID`, `SHADOW_END`); they are written with the next that comes, or soon after, and nobody hears of it.

    Raises
    ------
    AuditError
        It cannot be opened.
    """
    committer = open_committer()
    try:
        _Writer(channel, committer, aside=aside).run()
    finally:
        committer.close()


class _Writer:
    """One thread: reads what is there, commits it, answers, and drains the journal meanwhile."""

    def __init__(self, channel: socket.socket, committer: Committer, *, aside: socket.socket | None) -> None:
        self._channel = channel
        self._aside = aside
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
            self._commit(posts, self._said_aside())
        committer.drain(at_once=True)

    def _next(self) -> tuple[list[Posted | Find | Read | Close], bool]:
        """Wait for messages, while some records wait in the journal not for ever; all that are there come together."""
        messages: list[Posted | Find | Read | Close] = []
        records = 0
        patience = self._committer.patience
        watched = [self._channel] if self._aside is None else [self._channel, self._aside]
        while records < MOST_IN_A_COMMIT:
            ready = select.select(watched, [], [], patience)[0]
            if self._channel not in ready:
                if not ready or messages:
                    break
                # Alone they would be a commit of their own, and whoever comes next would wait for it.
                watched, patience = [self._channel], _LATER_SECONDS
                continue
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

    def _said_aside(self) -> list[Entry]:
        """Take what is there of what nobody waits for."""
        entries: list[Entry] = []
        while self._aside is not None and len(entries) < MOST_IN_A_COMMIT:
            try:
                data = self._aside.recv(CHUNK, socket.MSG_DONTWAIT)
                said = ASIDE.decode(data)
            except BlockingIOError:
                break
            except (OSError, msgspec.MsgspecError) as error:
                _LOG.error("not understood", extra={"fields": {"error": type(error).__name__}})
                break
            # Whoever holds somebody's model may say anything: nothing of it takes the place of a decision.
            entries += [entry for entry in said if _is_shadow(entry)]
        return entries

    def _commit(self, posts: Sequence[Posted], aside: Sequence[Entry] = ()) -> None:
        if not posts and not aside:
            return
        entries = [entry for post in posts for entry in post.entries]
        may_wait = [waits for post in posts for waits in post.may_wait]
        places = iter(self._committer.commit([*entries, *aside], may_wait=[*may_wait, *(False for _ in aside)]))
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


def _is_shadow(entry: Entry) -> bool:
    """Whether it is the record that it is called: what the ledger has once taken it keeps.

    Names that a database would refuse would take along the decisions of the same commit.
    """
    try:
        record = record_of(entry.body, place=entry.id)
    except LedgerTamperedError:
        return False
    names = (entry.id, entry.model, entry.request_id)
    return (
        record.kind == "shadow"
        and record.request_id.startswith(SHADOW_ID)
        and record.id.endswith(SHADOW_END)
        and (record.id, record.model, record.request_id) == names
        and "".join(names).isprintable()
    )


def _told_of(places: list[int | AuditError]) -> int | list[int | Refused]:
    first = places[0]
    if isinstance(first, int) and places == [*range(first, first + len(places))]:
        return first
    return [place if isinstance(place, int) else _refused(place) for place in places]


def _refused(problem: AuditError) -> Refused:
    return Refused(str(problem) or "not recorded", isinstance(problem, AlreadyRecordedError))
