"""The audit ledger: what was submitted is on the disk before its future resolves."""

from __future__ import annotations

import hashlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry, entry_of, record_of
from nbkit.audit._journal import Journal
from nbkit.audit._schema import connect_to_read
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

__all__ = ["Ledger"]

_LOG = logging.getLogger("nbkit.audit")

# One commit waits for the disk once, however many records it holds; beyond this the transaction itself takes as long.
_MOST_IN_A_COMMIT = 1024

# More waiting than the disk takes in a few seconds: whoever comes now is better told to come again.
_MOST_WAITING = 16_384

# Told about a commit: the tickets that were handed in, each with the record's place or why it has none.
_Tell = Callable[[Sequence[tuple[object, int | AuditError]]], None]

_Waiting = tuple[Entry, object, _Tell]


class Ledger:
    """An append-only ledger in one SQLite file, with one writer.

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

    def __init__(self, journal: Journal, *, path: Path, seal_key: bytes) -> None:
        self._journal = journal
        self._seal_key = seal_key
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()
        self._reader = connect_to_read(path)
        self._reading = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="nbkit-ledger", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, *, key: Ed25519PrivateKey, now: Callable[[], datetime]) -> Self:
        """Open a ledger for writing, or begin it.

        Parameters
        ----------
        path : Path
            The SQLite file; ``<path>.lock`` beside it keeps a second writer out.
        key : Ed25519PrivateKey
            Signs the checkpoints; a ledger keeps the key it was begun with.
        now : callable
            The clock: aware, UTC.

        Returns
        -------
        Ledger
            Ready for ``submit``.

        Raises
        ------
        LedgerTamperedError
            Its last checkpoint is not signed by the key, or does not fit the records.
        AuditError
            Another process writes it, the key is another one, or the file cannot be written.
        """
        seal_key = hashlib.blake2b(b"nbkit ledger seal 1", key=key.private_bytes_raw(), digest_size=32).digest()
        return cls(Journal(path, key=key, now=now), path=path, seal_key=seal_key)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last signed checkpoint; None while the ledger is empty."""
        return self._journal.checkpoint

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

    def post(self, record: AuditRecord, *, ticket: object, tell: _Tell) -> None:
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
        """
        try:
            waiting: _Waiting = (entry_of(record), ticket, tell)
        except AuditError as error:
            tell([(ticket, error)])
            return
        problem = ""
        with self._gate:
            if self._closed:
                problem = "the ledger is closed"
            elif self._queue.qsize() >= _MOST_WAITING:
                problem = f"the ledger is behind: {_MOST_WAITING} records wait for the disk"
            else:
                self._queue.put(waiting)
        if problem:
            tell([(ticket, AuditError(problem))])

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
        return self._one("model = ? AND request_id = ?", (model, request_id))

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
        return self._one("id = ?", (record_id,))

    def _one(self, where: str, given: tuple[str, ...]) -> AuditRecord | None:
        # Only the two constants above are put into the statement.
        statement = f"SELECT seq, body FROM records WHERE {where}"  # noqa: S608
        try:
            with self._reading:
                row = self._reader.execute(statement, given).fetchone()
        except sqlite3.Error as error:
            raise AuditError(f"the ledger cannot be read: {error}") from error
        return record_of(row[1], place=f"record {row[0]}") if row else None

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
        self._journal.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ends = self._drain(first)
            self._commit(batch)
            if ends:
                return

    def _drain(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < _MOST_IN_A_COMMIT:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        places: list[int | AuditError]
        try:
            places = self._journal.append([entry for entry, _, _ in batch])
        except AuditError as error:
            places = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - a request ends here: its caller must hear of any failure at all
            _LOG.exception("the ledger's writer failed")
            places = [AuditError(f"the ledger's writer failed: {type(error).__name__}: {error}")] * len(batch)
        outcomes: dict[_Tell, list[tuple[object, int | AuditError]]] = {}
        for (_, ticket, tell), place in zip(batch, places, strict=True):
            outcomes.setdefault(tell, []).append((ticket, place))
        for tell, told in outcomes.items():
            tell(told)


def _resolve(outcomes: Sequence[tuple[object, int | AuditError]]) -> None:
    for ticket, place in outcomes:
        future = cast("Future[int]", ticket)
        if not future.set_running_or_notify_cancel():
            continue  # whoever asked has gone; the record stays
        if isinstance(place, AuditError):
            future.set_exception(place)
        else:
            future.set_result(place)
