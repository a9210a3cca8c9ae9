"""The audit ledger: what was submitted is on the disk before its future resolves."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._book import Book, Place, repeated
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry, entry_of
from nbkit.audit._find import Finder
from nbkit.audit._journal import Journal, renamed
from nbkit.audit._sqlite import SqliteBook
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

__all__ = ["Ledger"]

_LOG = logging.getLogger("nbkit.audit")

# One commit waits for the disk once, however many records it holds; beyond this the transaction itself takes as long.
_MOST_IN_A_COMMIT = 1024

# More waiting than the disk takes in a few seconds: whoever comes now is better told to come again.
_MOST_WAITING = 16_384

# How long the ledger is left alone after it failed, while records go into the journal.
_RETRY_SECONDS = 1.0

# The place of a record that is durable here and not yet in the ledger.
_IN_THE_JOURNAL = 0

# Told about a commit: the tickets that were handed in, each with the record's place or why it has none.
Tell = Callable[[Sequence[tuple[object, int | AuditError]]], None]


class _Waiting(NamedTuple):
    entry: Entry
    ticket: object
    tell: Tell
    may_wait: bool


class Ledger:
    """An append-only ledger, in a file of SQLite or in PostgreSQL.

    Records that arrive while the disk is busy share the next commit. Every commit ends with a signed checkpoint, so all
    that was ever answered lies under a signature. Close it, or use it as a context manager.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from tempfile import TemporaryDirectory
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> with TemporaryDirectory() as directory:
    ...     path = Path(directory) / "ledger.db"
    ...     with Ledger.open(path, key=Ed25519PrivateKey.generate(), now=lambda: datetime.now(UTC)) as ledger:
    ...         ledger.find("loan-denial", "r-1") is None
    True
    """

    def __init__(self, book: Book, *, place: Place, seal_key: bytes, journal: Journal | None = None) -> None:
        self._book = book
        self._journal = journal
        self._seal_key = seal_key
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()
        self._finder = Finder(place)
        self._retry_at = 0.0
        self._writer = threading.Thread(target=self._write, name="nbkit-ledger", daemon=True)
        self._writer.start()

    @classmethod
    def open(
        cls, place: Place, *, key: Ed25519PrivateKey, now: Callable[[], datetime], journal: Path | None = None
    ) -> Self:
        """Open a ledger for writing, or begin it.

        Parameters
        ----------
        place : Path or str
            A file of SQLite (``<path>.lock`` beside it gives writers their turns), or the address of a PostgreSQL
            database. Several processes may write one ledger.
        key : Ed25519PrivateKey
            Signs the checkpoints; a ledger keeps the key it was begun with, and all its writers have it.
        now : callable
            The clock: aware, UTC.
        journal : Path, optional
            A local file for records that are posted with ``may_wait`` while the ledger cannot take them. Of this
            process alone.

        Returns
        -------
        Ledger
            Ready for ``submit``.

        Raises
        ------
        LedgerTamperedError
            Its last checkpoint is not signed by the key, or does not fit the records.
        AuditError
            The key is another one, or it cannot be written.
        """
        seal_key = hashlib.blake2b(b"nbkit ledger seal 1", key=key.private_bytes_raw(), digest_size=32).digest()
        book: Book
        if isinstance(place, str):
            from nbkit.audit._postgres import PostgresBook

            book = PostgresBook(place, key=key, now=now)
        else:
            book = SqliteBook(place, key=key, now=now)
        try:
            waits = Journal(journal, key=seal_key) if journal is not None else None
        except AuditError:
            book.close()
            raise
        return cls(book, place=place, seal_key=seal_key, journal=waits)

    @property
    def journaled(self) -> int:
        """How many records wait in the local journal for the ledger."""
        return len(self._journal) if self._journal is not None else 0

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last signed checkpoint; None while the ledger is empty."""
        return self._book.checkpoint

    def submit(self, record: AuditRecord) -> Future[int]:
        """Hand over a record; never raises.

        Parameters
        ----------
        record : AuditRecord
            What was decided.

        Returns
        -------
        Future of int
            Resolves to the record's place once it is on the disk; to an ``AuditError`` if it cannot be written and to
            an ``AlreadyRecordedError`` if the request has its record.
        """
        future: Future[int] = Future()
        self.post(record, ticket=future, tell=_resolve)
        return future

    def post(self, record: AuditRecord, *, ticket: object, tell: Tell, may_wait: bool = False) -> None:
        """Hand over a record; whoever waits for many hears of each commit once.

        Parameters
        ----------
        record : AuditRecord
            What was decided.
        ticket : object
            Comes back with the outcome.
        tell : callable
            Called on the ledger's thread once a commit with ``(ticket, place or AuditError)`` of each of its records
            that were handed over with this very ``tell``; at once where one cannot even be queued. Must not raise.
        may_wait : bool
            Whether it is enough that the record is durable in the local journal while the ledger cannot take it; its
            place is then 0.
        """
        self.post_all([(record, ticket, may_wait)], tell=tell)

    def post_all(self, posts: Sequence[tuple[AuditRecord, object, bool]], *, tell: Tell) -> None:
        """Hand over records that were decided together: they wake the writer once, and nearly always share a commit.

        Parameters
        ----------
        posts : sequence of (AuditRecord, object, bool)
            Record, ticket and ``may_wait`` of each, as `post` takes them.
        tell : callable
            As `post` takes it.
        """
        refused: list[tuple[object, int | AuditError]] = []
        ready: list[_Waiting] = []
        for record, ticket, may_wait in posts:
            try:
                ready.append(_Waiting(entry_of(record), ticket, tell, may_wait))
            except AuditError as error:
                refused.append((ticket, error))
        problem = ""
        with self._gate:
            if self._closed:
                problem = "the ledger is closed"
            elif self._queue.qsize() + len(ready) > _MOST_WAITING:
                problem = f"the ledger is behind: {_MOST_WAITING} records wait for the disk"
            else:
                for waiting in ready:
                    self._queue.put(waiting)
        if problem:
            refused += [(waiting.ticket, AuditError(problem)) for waiting in ready]
        if refused:
            tell(refused)

    def find(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request.

        Parameters
        ----------
        model : str
            The registered name.
        request_id : str
            What the caller named the request.

        Returns
        -------
        AuditRecord or None
            None when the request has not been recorded.

        Raises
        ------
        AuditError
            The file cannot be read.
        """
        return (self._journal and self._journal.find(model, request_id)) or self._finder.find(model, request_id)

    def read(self, record_id: str) -> AuditRecord | None:
        """Return a record by its own id.

        Parameters
        ----------
        record_id : str
            The ``decision_id`` of the answer.

        Returns
        -------
        AuditRecord or None
            None when there is none.

        Raises
        ------
        AuditError
            The file cannot be read.
        """
        return (self._journal and self._journal.read(record_id)) or self._finder.read(record_id)

    def seal(self, data: bytes) -> str:
        """Return a keyed digest, the same for the same bytes: compares and pseudonymizes without keeping them.

        Parameters
        ----------
        data : bytes
            Anything, however easy to guess: without the ledger's key a guess cannot be tried.

        Returns
        -------
        str
            ``blake2b:`` and 64 hex digits.
        """
        # Keyed BLAKE2 (RFC 7693): one microsecond, where OpenSSL's HMAC looks its hash up anew for 70.
        return "blake2b:" + hashlib.blake2b(data, key=self._seal_key, digest_size=32).hexdigest()

    def close(self) -> None:
        """Write what was submitted, then let go of the file; a second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._book.close()
        if self._journal is not None:
            self._journal.close()
        self._finder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        ends = False
        while not ends:
            batch, ends = self._next_batch()
            if self.journaled and (ends or time.monotonic() >= self._retry_at):
                self._drain_journal()
            if batch:
                self._commit(batch)

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Wait for records; while some wait in the journal not for ever."""
        batch: list[_Waiting] = []
        while len(batch) < _MOST_IN_A_COMMIT:
            try:
                waiting = self._queue.get(not batch, timeout=_RETRY_SECONDS if self.journaled else None)
            except queue.Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        if self.journaled:
            # The order of records is that of their answers: nothing overtakes the journal.
            places = self._set_aside(batch, AuditError("the ledger takes what waits in the journal first"))
        else:
            try:
                places = self._append([waiting.entry for waiting in batch])
            except AuditError as error:
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                places = self._set_aside(batch, error)
        outcomes: dict[Tell, list[tuple[object, int | AuditError]]] = {}
        for waiting, place in zip(batch, places, strict=True):
            outcomes.setdefault(waiting.tell, []).append((waiting.ticket, place))
        for tell, told in outcomes.items():
            tell(told)

    def _append(self, entries: Sequence[Entry]) -> list[int | AuditError]:
        try:
            return self._book.append(entries)
        except AuditError:
            raise
        except Exception as error:
            _LOG.exception("the ledger's writer failed")
            raise AuditError(f"the ledger's writer failed: {type(error).__name__}: {error}") from error

    def _set_aside(self, batch: Sequence[_Waiting], error: AuditError) -> list[int | AuditError]:
        """Put those into the journal that may wait there; the others hear why they cannot be recorded."""
        places: list[int | AuditError] = [error] * len(batch)
        journal = self._journal
        if journal is None:
            return places
        aside: dict[tuple[str, str], int] = {}
        for number, waiting in enumerate(batch):
            request = (waiting.entry.model, waiting.entry.request_id)
            if waiting.may_wait and (request in aside or journal.find(*request) is not None):
                places[number] = repeated(waiting.entry)
            elif waiting.may_wait:
                aside[request] = number
        if aside:
            begins = not len(journal)
            try:
                journal.append([batch[number].entry for number in aside.values()])
            except AuditError as failed:
                problem = AuditError(f"{error}; and the journal: {failed}")
                return [problem if number in aside.values() else place for number, place in enumerate(places)]
            for number in aside.values():
                places[number] = _IN_THE_JOURNAL
            if begins:
                _LOG.warning("records go into the journal", extra={"fields": {"cause": str(error)}})
        return places

    def _drain_journal(self) -> None:
        journal = cast("Journal", self._journal)
        drained = 0
        try:
            while entries := journal.waiting(_MOST_IN_A_COMMIT):
                places = self._append(entries)
                twice = [entry for entry, place in zip(entries, places, strict=True) if isinstance(place, AuditError)]
                # What is there word for word was committed before this process knew; other words were answered too.
                others = [entry for entry in twice if self._finder.body(entry.id) != entry.body]
                if others:
                    self._append([renamed(entry) for entry in others])
                journal.drained(entries)
                drained += len(entries)
        except AuditError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            _LOG.warning("the journal still waits", extra={"fields": {"records": len(journal), "cause": str(error)}})
        if drained:
            _LOG.info("journal drained", extra={"fields": {"records": drained, "left": len(journal)}})


def _resolve(outcomes: Sequence[tuple[object, int | AuditError]]) -> None:
    for ticket, place in outcomes:
        future = cast("Future[int]", ticket)
        if not future.set_running_or_notify_cancel():
            continue  # whoever asked has gone; the record stays
        if isinstance(place, AuditError):
            future.set_exception(place)
        else:
            future.set_result(place)
