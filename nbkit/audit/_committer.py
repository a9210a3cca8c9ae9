"""What commits: the ledger, and where it cannot, the journal. Used by one thread."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._book import Book, Place, repeated
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry
from nbkit.audit._find import Finder
from nbkit.audit._journal import Journal, renamed
from nbkit.audit._sqlite import SqliteBook
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

_LOG = logging.getLogger("nbkit.audit")

# One commit waits for the disk once, however many records it holds; beyond this the transaction itself takes as long.
MOST_IN_A_COMMIT = 1024

# More waiting than the disk takes in a few seconds: whoever comes now is better told to come again.
MOST_WAITING = 16_384

# How long the ledger is left alone after it failed, while records go into the journal; twice as long each time that it
# can be reached and fails again, because every try holds up those who are being decided.
RETRY_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

# What is there answers within this; what takes longer is waited for elsewhere.
_AT_ONCE_SECONDS = 0.01

# The place of a record that is durable here and not yet in the ledger.
_IN_THE_JOURNAL = 0


def seal_key_of(key: Ed25519PrivateKey) -> bytes:
    """Return the key of a ledger's seals and of its journals' digests."""
    return hashlib.blake2b(b"nbkit ledger seal 1", key=key.private_bytes_raw(), digest_size=32).digest()


def seal(data: bytes, *, key: bytes) -> str:
    """Return a keyed digest (see `Ledger.seal`)."""
    # Keyed BLAKE2 (RFC 7693): one microsecond, where OpenSSL's HMAC looks its hash up anew for 70.
    return "blake2b:" + hashlib.blake2b(data, key=key, digest_size=32).hexdigest()


class _Search(threading.Thread):
    """Finds out whether a ledger can be reached."""

    def __init__(self, book: Book) -> None:
        super().__init__(name="nbkit-ledger-search", daemon=True)
        self._book = book
        self.problem: AuditError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._book.reach()
        except AuditError as error:
            self.problem = error


class Committer:
    """Writes batches, drains the journal, and finds what is there."""

    def __init__(self, book: Book, *, finder: Finder, journal: Journal | None = None) -> None:
        self._book = book
        self._finder = finder
        self._journal = journal
        self._retry_at = 0.0
        self._pause = RETRY_SECONDS
        self._search: _Search | None = None

    @classmethod
    def open(
        cls, place: Place, *, key: Ed25519PrivateKey, now: Callable[[], datetime], journal: Path | None = None
    ) -> Self:
        """Open a ledger for writing, or begin it (see `Ledger.open`)."""
        book: Book
        if isinstance(place, str):
            from nbkit.audit._postgres import PostgresBook

            book = PostgresBook(place, key=key, now=now)
        else:
            book = SqliteBook(place, key=key, now=now)
        try:
            waits = Journal(journal, key=seal_key_of(key)) if journal is not None else None
        except AuditError:
            book.close()
            raise
        return cls(book, finder=Finder(place), journal=waits)

    @property
    def journaled(self) -> int:
        """How many records wait in the journal for the ledger."""
        return len(self._journal) if self._journal is not None else 0

    @property
    def patience(self) -> float | None:
        """Seconds until the journal should be drained again; None while nothing waits in it."""
        return RETRY_SECONDS if self.journaled else None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last signed checkpoint; None while the ledger is empty."""
        return self._book.checkpoint

    def commit(self, entries: Sequence[Entry], *, may_wait: Sequence[bool]) -> list[int | AuditError]:
        """Write records; each is durable when this returns, be it in the journal, or has a reason why not."""
        if self.journaled:
            # The order of records is that of their answers: nothing overtakes the journal.
            return self._set_aside(entries, may_wait, AuditError("the ledger takes what waits in the journal first"))
        try:
            return self._append(entries)
        except AuditError as error:
            self._pause = RETRY_SECONDS
            self._retry_at = time.monotonic() + self._pause
            return self._set_aside(entries, may_wait, error)

    def tidy(self) -> None:
        """Do what nobody should wait for; to be called when they have been told of a commit."""
        self._book.tidy()

    def drain(self, *, at_once: bool = False) -> None:
        """Bring what waits in the journal into the ledger, if it is time to try and the ledger can be reached."""
        if self.journaled and (at_once or self._is_reached()):
            self._drain_journal()

    def _is_reached(self) -> bool:
        """Look for the ledger on a thread, so that records need not wait for a database that does not answer."""
        if self._search is None and time.monotonic() >= self._retry_at:
            self._search = _Search(self._book)
            self._search.join(_AT_ONCE_SECONDS)
        if self._search is None or self._search.is_alive():
            return False
        problem, self._search = self._search.problem, None
        if problem is not None:
            self._failed_again(problem)
        return problem is None

    def _failed_again(self, error: AuditError) -> None:
        self._retry_at = time.monotonic() + self._pause
        _LOG.warning("the journal still waits", extra={"fields": {"records": self.journaled, "cause": str(error)}})

    def find(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request."""
        return self.find_waiting(model, request_id) or self._finder.find(model, request_id)

    def read(self, record_id: str) -> AuditRecord | None:
        """Return a record by its own id."""
        return self.read_waiting(record_id) or self._finder.read(record_id)

    def find_waiting(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request that waits in the journal."""
        return self._journal.find(model, request_id) if self._journal is not None else None

    def read_waiting(self, record_id: str) -> AuditRecord | None:
        """Return a record that waits in the journal by its own id."""
        return self._journal.read(record_id) if self._journal is not None else None

    def close(self) -> None:
        """Let go of everything."""
        self._book.close()
        if self._journal is not None:
            self._journal.close()
        self._finder.close()

    def _append(self, entries: Sequence[Entry]) -> list[int | AuditError]:
        try:
            return self._book.append(entries)
        except AuditError:
            raise
        except Exception as error:
            _LOG.exception("the ledger's writer failed")
            raise AuditError(f"the ledger's writer failed: {type(error).__name__}: {error}") from error

    def _set_aside(
        self, entries: Sequence[Entry], may_wait: Sequence[bool], error: AuditError
    ) -> list[int | AuditError]:
        """Put those into the journal that may wait there; the others hear why they cannot be recorded."""
        places: list[int | AuditError] = [error] * len(entries)
        journal = self._journal
        if journal is None:
            return places
        aside: dict[tuple[str, str], int] = {}
        for number, (entry, waits) in enumerate(zip(entries, may_wait, strict=True)):
            request = (entry.model, entry.request_id)
            if waits and (request in aside or journal.find(*request) is not None or self._has(*request)):
                places[number] = repeated(entry)
            elif waits:
                aside[request] = number
        if aside:
            begins = not len(journal)
            try:
                journal.append([entries[number] for number in aside.values()])
            except AuditError as failed:
                problem = AuditError(f"{error}; and the journal: {failed}")
                return [problem if number in aside.values() else place for number, place in enumerate(places)]
            for number in aside.values():
                places[number] = _IN_THE_JOURNAL
            if begins:
                _LOG.warning("records go into the journal", extra={"fields": {"cause": str(error)}})
        return places

    def _has(self, model: str, request_id: str) -> bool:
        """Say whether the ledger has a request, where asking cannot hold anybody up."""
        if not self._finder.is_local:
            return False
        try:
            return self._finder.find(model, request_id) is not None
        except AuditError:
            return False  # the file cannot even be read

    def _drain_journal(self) -> None:
        journal = cast("Journal", self._journal)
        drained = 0
        try:
            while entries := journal.waiting(MOST_IN_A_COMMIT):
                places = self._append(entries)
                twice = [entry for entry, place in zip(entries, places, strict=True) if isinstance(place, AuditError)]
                # What is there word for word was committed before this process knew; other words were answered too.
                others = [entry for entry in twice if self._finder.body(entry.id) != entry.body]
                if others:
                    self._append([renamed(entry) for entry in others])
                journal.drained(entries)
                drained += len(entries)
        except AuditError as error:
            self._failed_again(error)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        if drained:
            _LOG.info("journal drained", extra={"fields": {"records": drained, "left": len(journal)}})
