"""The audit ledger: what was submitted is on the disk before its future resolves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._book import Place
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._committer import MOST_IN_A_COMMIT, MOST_WAITING, Committer, seal, seal_key_of
from nbkit.audit._entry import Entry, entry_of
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

__all__ = ["Ledger"]

# Told about a commit: the tickets that were handed in, each with the record's place or why it has none.
Tell = Callable[[Sequence[tuple[object, int | AuditError]]], None]


def tell_all(outcomes: Iterable[tuple[Tell, Iterable[tuple[object, int | AuditError]]]]) -> None:
    """Tell everybody once about all of his records, each with its ticket and what became of it."""
    told: dict[Tell, list[tuple[object, int | AuditError]]] = {}
    for tell, some in outcomes:
        told.setdefault(tell, []).extend(some)
    for tell, records in told.items():
        tell(records)


class _Waiting(NamedTuple):
    entry: Entry
    may_wait: bool
    ticket: object
    tell: Tell


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

    def __init__(self, committer: Committer, *, seal_key: bytes) -> None:
        self._committer = committer
        self._seal_key = seal_key
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()
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
        return cls(Committer.open(place, key=key, now=now, journal=journal), seal_key=seal_key_of(key))

    @property
    def journaled(self) -> int:
        """How many records wait in the local journal for the ledger."""
        return self._committer.journaled

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last signed checkpoint; None while the ledger is empty."""
        return self._committer.checkpoint

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

    def post_all(
        self,
        posts: Sequence[tuple[AuditRecord, object, bool]],
        *,
        tell: Tell,
    ) -> None:
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
                ready.append(_Waiting(entry_of(record), may_wait, ticket, tell))
            except AuditError as error:
                refused.append((ticket, error))
        problem = ""
        with self._gate:
            if self._closed:
                problem = "the ledger is closed"
            elif self._queue.qsize() + len(ready) > MOST_WAITING:
                problem = f"the ledger is behind: {MOST_WAITING} records wait for the disk"
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
        return self._committer.find(model, request_id)

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
        return self._committer.read(record_id)

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
        return seal(data, key=self._seal_key)

    def close(self) -> None:
        """Write what was submitted, then let go of the file; a second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._committer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        ends = False
        while not ends:
            batch, ends = self._next_batch()
            self._committer.drain(at_once=ends)
            if batch:
                self._commit(batch)

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Wait for records; while some wait in the journal not for ever."""
        batch: list[_Waiting] = []
        while len(batch) < MOST_IN_A_COMMIT:
            try:
                waiting = self._queue.get(not batch, timeout=self._committer.patience)
            except queue.Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        places = self._committer.commit([w.entry for w in batch], may_wait=[w.may_wait for w in batch])
        tell_all((w.tell, [(w.ticket, place)]) for w, place in zip(batch, places, strict=True))
        self._committer.tidy()


def _resolve(outcomes: Sequence[tuple[object, int | AuditError]]) -> None:
    for ticket, place in outcomes:
        future = cast("Future[int]", ticket)
        if not future.set_running_or_notify_cancel():
            continue  # whoever asked has gone; the record stays
        if isinstance(place, AuditError):
            future.set_exception(place)
        else:
            future.set_result(place)
