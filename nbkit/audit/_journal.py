"""A local file of records that the ledger could not take yet: fsynced before anybody is answered, drained when it can.

One line a record: a keyed digest, a blank, the record's bytes. A torn last line was never answered, and is dropped.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from nbkit.audit._entry import Entry, entry_of, record_of
from nbkit.errors import AuditError, LedgerTamperedError
from nbkit.records import AuditRecord

_LOG = logging.getLogger("nbkit.audit")

_FORMAT = b"nbkit journal 1\n"

# More workers than this share no machine.
_MOST_JOURNALS = 256

# Tag of a record that found its request recorded when it came from the journal: by another worker, with other words.
JOURNALED_TWICE = "journaled_twice"


class Journal:
    """What waits for the ledger.

    Parameters
    ----------
    path : Path
        Where another process holds it, ``~2``, ``~3`` and so on is taken. What a worker that died left in any of them
        is taken over by the next that starts.
    key : bytes
        Of the digests: nobody else can slip a line in.
    """

    def __init__(self, path: Path, *, key: bytes) -> None:
        self._path, self._lock = _claim(path)
        self._key = key
        self._entries: dict[tuple[str, str], Entry] = {}
        self._file: int | None = None
        try:
            self._entries = {(entry.model, entry.request_id): entry for entry in self._load(self._path)}
        except AuditError:
            os.close(self._lock)
            raise
        for other in sorted({path, *path.parent.glob(f"{path.stem}~*{path.suffix}")} - {self._path}):
            self._take_over(other)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request that waits here."""
        entry = self._entries.get((model, request_id))
        return record_of(entry.body, place=str(self._path)) if entry else None

    def read(self, record_id: str) -> AuditRecord | None:
        """Return a record that waits here by its own id."""
        for entry in tuple(self._entries.values()):
            if entry.id == record_id:
                return record_of(entry.body, place=str(self._path))
        return None

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries of requests that do not wait here yet; they are on the disk when this returns.

        Raises
        ------
        AuditError
            They are not.
        """
        try:
            file = self._open() if self._file is None else self._file
            end = os.lseek(file, 0, os.SEEK_END)
            try:
                _write(file, b"".join(self._line(entry.body) for entry in entries))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, end)  # nobody is answered: nothing of it may be found later
                raise
        except OSError as error:
            self._let_go()
            raise AuditError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._entries.update({(entry.model, entry.request_id): entry for entry in entries})

    def waiting(self, most: int) -> list[Entry]:
        """Return the oldest."""
        return list(self._entries.values())[:most]

    def drained(self, entries: Sequence[Entry]) -> None:
        """Forget entries that are in the ledger now; the file goes when none is left.

        A process that dies before finds them again, and the ledger knows them already.
        """
        for entry in entries:
            self._entries.pop((entry.model, entry.request_id), None)
        if not self._entries:
            self._let_go()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, and let another process have it."""
        self._let_go()
        os.close(self._lock)

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _open(self) -> int:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < len(_FORMAT):
            os.ftruncate(self._file, 0)  # a full disk may have cut the first line short
            _write(self._file, _FORMAT)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name itself must survive a power cut
            finally:
                os.close(folder)
        return self._file

    def _line(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=16).hexdigest().encode() + b" " + body + b"\n"

    def _take_over(self, other: Path) -> None:
        """Move what nobody else would drain here: copied first, so that a crash leaves it twice rather than never."""
        if not other.exists() or (lock := _lock(other)) is None:
            return  # whoever holds it drains it
        try:
            found = self._load(other)
            fresh = [self._beside(entry) for entry in found if entry not in self._entries.values()]
            if fresh:
                self.append(fresh)
            other.unlink()
            _LOG.warning("journal taken over", extra={"fields": {"from": str(other), "records": len(fresh)}})
        except (AuditError, OSError) as error:
            # It stays where it is, as evidence or for the next that starts.
            _LOG.error("a journal is left alone", extra={"fields": {"journal": str(other), "reason": str(error)}})
        finally:
            os.close(lock)

    def _beside(self, entry: Entry) -> Entry:
        return renamed(entry) if (entry.model, entry.request_id) in self._entries else entry

    def _load(self, path: Path) -> list[Entry]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        if len(content) < len(_FORMAT) and _FORMAT.startswith(content):
            return []  # whoever began it got no further, so nobody was answered
        head, _, lines = content.partition(b"\n")
        if head + b"\n" != _FORMAT:
            raise AuditError(f"{path}: expected {_FORMAT.decode().strip()!r} in its first line")
        *whole, torn = lines.split(b"\n")
        entries = []
        for number, line in enumerate(whole, start=1):
            body = line.partition(b" ")[2]
            if self._line(body) != line + b"\n":
                raise LedgerTamperedError(f"{path}: record {number}: edited", next_step="keep it as evidence")
            record = record_of(body, place=f"{path}: record {number}")
            entries.append(Entry(id=record.id, model=record.model, request_id=record.request_id, body=body))
        if torn:
            os.truncate(path, len(content) - len(torn))
        return entries


def _claim(path: Path) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, _MOST_JOURNALS + 1):
        # No model's name has this sign, so a second worker of one model never holds the journal of another model.
        free = path if number == 1 else path.with_stem(f"{path.stem}~{number}")
        lock = _lock(free)
        if lock is not None:
            return free, lock
    raise AuditError(f"{path}: {_MOST_JOURNALS} workers hold a journal here")


def _lock(path: Path) -> int | None:
    """Hold a journal for this process; None where another holds it."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def renamed(entry: Entry) -> Entry:
    """Keep an answer whose request another worker answered as well, under an id of its own."""
    record = record_of(entry.body, place=entry.id)
    tags = {**record.tags, JOURNALED_TWICE: record.request_id}
    return entry_of(replace(record, request_id=f"{record.id}:journal", tags=tags))


def _write(file: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.write(file, data[at:])
