"""The file behind a ledger; one thread at a time uses it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import _schema
from nbkit.audit._checkpoint import Checkpoint, key_id, sign_checkpoint
from nbkit.audit._entry import Entry, leaf_of
from nbkit.audit._tree import Frontier
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError


class Journal:
    """Appends batches: all that was accepted is on the disk, under a signed root, when ``append`` returns."""

    def __init__(self, path: Path, *, key: Ed25519PrivateKey, now: Callable[[], datetime]) -> None:
        self._path = path
        self._key = key
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._frontier = Frontier()
        self._ledger = ""
        self.checkpoint: Checkpoint | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            self._open()
        except (sqlite3.Error, AuditError) as error:
            self.close()
            raise error if isinstance(error, AuditError) else _unwritable(path, error) from error

    def append(self, entries: Sequence[Entry]) -> list[int | AuditError]:
        """Write the entries in one transaction.

        Returns the place of each, or why that one alone was refused.

        Raises
        ------
        AuditError
            Nothing was written: the disk is full, the file is locked or broken.
        """
        places: list[int | AuditError] | None = None
        try:
            places = self._commit(self._connection or self._open(), entries)
        except sqlite3.Error as error:
            raise _unwritable(self._path, error) from error
        finally:
            if places is None:
                # Whether the last commit reached the disk is unknown now: the next batch reads the file again.
                self._disconnect()
        return places

    def close(self) -> None:
        self._disconnect()
        os.close(self._lock)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):  # closing rolls back; a file that fails here has already failed above
                self._connection.close()
        self._connection = None

    def _open(self) -> sqlite3.Connection:
        connection = _schema.connect_to_write(self._path)
        try:
            own = key_id(self._key.public_key())
            if _schema.is_new(connection):
                _schema.create(connection, key_id=own, now=self._now())
            _schema.check_format(connection, path=self._path)
            self._ledger, begun_with = _schema.identity(connection, path=self._path)
            if begun_with != own:
                raise AuditError(f"{self._path}: expected the ledger's key {begun_with}, got {own}")
            self._resume(connection)
        except (sqlite3.Error, AuditError):
            connection.close()
            raise
        self._connection = connection
        return connection

    def _resume(self, connection: sqlite3.Connection) -> None:
        """Take up the tree where the last signed root left it, and believe nothing else."""
        self._frontier, self.checkpoint = Frontier(), None
        records = connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0]
        last = connection.execute(
            "SELECT size, root, at, signature FROM checkpoints ORDER BY size DESC LIMIT 1"
        ).fetchone()
        if last is None and not records:
            return
        problem = ""
        if last is None or records != last[0]:
            problem = f"expected {last[0] if last else 0} records under the last signed checkpoint, got {records}"
        elif not stored_checkpoint(self._ledger, last).is_signed_by(self._key.public_key()):
            problem = f"checkpoint {last[0]}: not signed by the ledger's key"
        else:
            self.checkpoint = stored_checkpoint(self._ledger, last)
            frontier = stored_frontier(connection)
            if frontier is None or (frontier.size, frontier.root()) != last[:2]:
                problem = "frontier: does not fold to the last signed root"
            else:
                self._frontier = frontier
        if problem:
            raise LedgerTamperedError(f"{self._path}: {problem}", next_step="nbkit audit verify")

    def _commit(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> list[int | AuditError]:
        frontier = self._frontier.copy()
        connection.execute("BEGIN IMMEDIATE")
        rows = _rows_of(entries, frontier)
        try:
            # One statement a commit, not one a record: each gives up the interpreter lock, and waits to have it back.
            _insert(connection, rows)
            places: list[int | AuditError] = [row[0] for row in rows]
        except sqlite3.IntegrityError as error:
            _raise_unless_repeated(error)
            frontier = self._frontier.copy()
            places = _insert_one_by_one(connection, entries, frontier)
        if frontier.size == self._frontier.size:
            connection.execute("ROLLBACK")
            return places
        checkpoint = self._sign(connection, frontier)
        connection.execute("COMMIT")
        self._frontier, self.checkpoint = frontier, checkpoint
        return places

    def _sign(self, connection: sqlite3.Connection, frontier: Frontier) -> Checkpoint:
        root, at = frontier.root(), self._now().astimezone(UTC).isoformat()
        checkpoint = sign_checkpoint(self._key, ledger=self._ledger, size=frontier.size, root=root, at=at)
        row = (frontier.size, root, at, bytes.fromhex(checkpoint.signature))
        connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", row)
        connection.execute("UPDATE frontier SET size = ?, nodes = ?", (frontier.size, frontier.to_bytes()))
        return checkpoint


_Row = tuple[int, str, str, str, bytes, bytes]

_COLUMNS = "(?, ?, ?, ?, ?, ?)"

# Statements of few lengths are kept prepared.
_ROWS_IN_A_STATEMENT = (64, 16, 4, 1)


def _rows_of(entries: Sequence[Entry], frontier: Frontier) -> list[_Row]:
    """Give each entry its place, and grow the frontier by it."""
    rows = []
    for entry in entries:
        seq = frontier.size + 1
        leaf = leaf_of(seq, entry.body)
        frontier.append(leaf)
        rows.append((seq, entry.id, entry.model, entry.request_id, leaf, entry.body))
    return rows


def _insert(connection: sqlite3.Connection, rows: Sequence[_Row]) -> None:
    at = 0
    for many in _ROWS_IN_A_STATEMENT:
        # Only question marks are put into the statement.
        statement = "INSERT INTO records VALUES " + ", ".join([_COLUMNS] * many)  # noqa: S608
        while len(rows) - at >= many:
            connection.execute(statement, [value for row in rows[at : at + many] for value in row])
            at += many


def _insert_one_by_one(
    connection: sqlite3.Connection, entries: Sequence[Entry], frontier: Frontier
) -> list[int | AuditError]:
    """Insert what is new and refuse what is not, after a statement of many met a record that is there already."""
    connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    places: list[int | AuditError] = []
    for entry in entries:
        grown = frontier.copy()
        rows = _rows_of([entry], grown)
        try:
            _insert(connection, rows)
        except sqlite3.IntegrityError as error:
            _raise_unless_repeated(error)
            what = f"request {entry.request_id!r} of model {entry.model!r} (or record id {entry.id})"
            places.append(AlreadyRecordedError(f"{what} is already in the ledger"))
        else:
            frontier.append(rows[0][4])
            places.append(rows[0][0])
    return places


def _raise_unless_repeated(error: sqlite3.IntegrityError) -> None:
    if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
        raise error


def stored_checkpoint(ledger: str, row: tuple[int, bytes, str, bytes]) -> Checkpoint:
    size, root, at, signature = row
    return Checkpoint(ledger=ledger, size=size, root=f"sha256:{root.hex()}", at=at, signature=signature.hex())


def stored_frontier(connection: sqlite3.Connection) -> Frontier | None:
    row = connection.execute("SELECT size, nodes FROM frontier").fetchone()
    try:
        return Frontier.from_bytes(*row) if row else None
    except ValueError:
        return None


def _lock(path: Path) -> int:
    """Hold the ledger for this process; the kernel lets go when the process dies, however it dies."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise AuditError(
            f"{path}: another process writes this ledger", next_step="give each worker a ledger of its own"
        ) from error
    return lock


def _unwritable(path: Path, error: sqlite3.Error) -> AuditError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return AuditError(f"{path}: cannot be written: {error} ({name})")
