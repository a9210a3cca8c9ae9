"""A ledger in a file of SQLite; several processes may append to one, each thread of them at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import _schema
from nbkit.audit._book import Row, Tree, repeated, row_of_checkpoint, rows_of
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry
from nbkit.audit._tree import Frontier
from nbkit.errors import AuditError

_COLUMNS = "(?, ?, ?, ?, ?, ?)"

# A statement of each length up to this is kept prepared, so that nearly every commit inserts in one.
_MOST_ROWS_IN_A_STATEMENT = 64
_STATEMENTS = [
    "INSERT INTO records VALUES " + ", ".join([_COLUMNS] * many)  # noqa: S608 - only question marks are put in
    for many in range(_MOST_ROWS_IN_A_STATEMENT + 1)
]

# After about so many pages in the log they are brought into the file, which takes 2 ms. SQLite by itself does it after
# 1000, and then a commit takes 3 ms longer; it still does where readers or other writers have kept this from ending.
_MOST_LOGGED = 450

# Pages that every commit writes, however few records it holds.
_PAGES_OF_A_COMMIT = 8

# A commit of another process takes about this long.
_LOOK_AGAIN_SECONDS = 0.0005


class SqliteBook:
    """Appends to a file. Writers take turns by a lock beside it, which the kernel lets go of however one dies.

    SQLite's own lock is polled with pauses of up to 100 ms, and would let one of several workers starve.
    """

    def __init__(self, path: Path, *, key: Ed25519PrivateKey, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._tree = Tree(key, now=now)
        self._connection: sqlite3.Connection | None = None
        self._logged = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(path.name + ".lock")
        self._lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with self._turn():
                self._open()
        except (sqlite3.Error, AuditError) as error:
            self.close()
            raise error if isinstance(error, AuditError) else _unwritable(path, error) from error

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self._tree.checkpoint

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
            with self._turn():
                places = self._commit(self._connection or self._open(), entries)
        except sqlite3.Error as error:
            raise _unwritable(self._path, error) from error
        finally:
            if places is None:
                # Whether the last commit reached the disk is unknown now: the next batch reads the file again.
                self._disconnect()
        self._logged += _PAGES_OF_A_COMMIT + len(entries)
        return places

    def reach(self) -> None:
        """Do nothing: a file is there at once, or append says at once why not."""

    def tidy(self) -> None:
        """Bring pages from the log into the file when there are many; readers and other writers go on meanwhile."""
        if self._logged >= _MOST_LOGGED and self._connection is not None:
            self._logged = 0
            with suppress(sqlite3.Error):  # all is durable where it lies; SQLite tries again in a later commit
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self._disconnect()
        os.close(self._lock)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        gives_up = time.monotonic() + _schema.BUSY_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > gives_up:
                    raise AuditError(f"{self._path}: another process holds this ledger") from error
                time.sleep(_LOOK_AGAIN_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):  # closing rolls back; a file that fails here has already failed above
                self._connection.close()
        self._connection = None

    def _open(self) -> sqlite3.Connection:
        connection = _schema.connect_to_write(self._path)
        try:
            if _schema.is_new(connection):
                _schema.create(connection, key_id=self._tree.key_id, now=self._now())
            _schema.check_format(connection, path=self._path)
            ledger, begun_with = _schema.identity(connection, path=self._path)
            self._tree.belongs_to(ledger, begun_with, place=self._path)
            self._resume(connection)
        except (sqlite3.Error, AuditError):
            connection.close()
            raise
        self._connection = connection
        return connection

    def _resume(self, connection: sqlite3.Connection) -> None:
        self._tree.resume(lambda statement: connection.execute(statement).fetchone(), place=self._path)

    def _commit(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> list[int | AuditError]:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT size FROM frontier").fetchone() != (self._tree.frontier.size,):
            self._resume(connection)  # another process has appended
        frontier = self._tree.frontier.copy()
        rows = rows_of(entries, frontier)
        try:
            # One statement, not one a record: each gives up the interpreter lock, and waits to have it back.
            _insert(connection, rows)
            places: list[int | AuditError] = [row[0] for row in rows]
        except sqlite3.IntegrityError as error:
            _raise_unless_repeated(error)
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            frontier = self._tree.frontier.copy()
            places = _insert_one_by_one(connection, entries, frontier)
        if frontier.size == self._tree.frontier.size:
            connection.execute("ROLLBACK")
            return places
        checkpoint = self._tree.sign(frontier)
        row = row_of_checkpoint(checkpoint)
        connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", row)
        connection.execute("UPDATE frontier SET size = ?, nodes = ?", (frontier.size, frontier.to_bytes()))
        connection.execute("COMMIT")
        self._tree.grew(frontier, checkpoint)
        return places


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    for at in range(0, len(rows), _MOST_ROWS_IN_A_STATEMENT):
        some = rows[at : at + _MOST_ROWS_IN_A_STATEMENT]
        connection.execute(_STATEMENTS[len(some)], [value for row in some for value in row])


def _insert_one_by_one(
    connection: sqlite3.Connection, entries: Sequence[Entry], frontier: Frontier
) -> list[int | AuditError]:
    """Insert what is new and refuse what is not, after a statement of many met a record that is there already."""
    places: list[int | AuditError] = []
    for entry in entries:
        rows = rows_of([entry], frontier.copy())
        try:
            _insert(connection, rows)
        except sqlite3.IntegrityError as error:
            _raise_unless_repeated(error)
            places.append(repeated(entry))
        else:
            frontier.append(rows[0][4])
            places.append(rows[0][0])
    return places


def _raise_unless_repeated(error: sqlite3.IntegrityError) -> None:
    if error.sqlite_errorname != "SQLITE_CONSTRAINT_UNIQUE":
        raise error


def _unwritable(path: Path, error: sqlite3.Error) -> AuditError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return AuditError(f"{path}: cannot be written: {error} ({name})")
