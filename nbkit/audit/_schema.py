"""The tables of a ledger file, format 1, and how it is opened."""

from __future__ import annotations

import sqlite3
import uuid
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from nbkit.audit._book import Place, Reader, shown
from nbkit.errors import AuditError, LedgerTamperedError

# Raise it when a table or the bytes under a hash change: add the statements that lift an old file, keep a file of the
# old format in tests/unit/audit/golden, and read both.
LEDGER_FORMAT = 1

# "nbkl": tells a ledger from any other SQLite file.
_APPLICATION_ID = 0x6E626B6C

# A writer inserts by statements of up to 64 lengths, and needs a few more.
_KEPT_STATEMENTS = 96

# How long a writer waits for somebody who holds the file before it says so.
BUSY_SECONDS = 1.0

_TABLES = (
    "CREATE TABLE ledger (id TEXT NOT NULL, key_id TEXT NOT NULL, created_at TEXT NOT NULL) STRICT",
    "CREATE TABLE records (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, "
    "request_id TEXT NOT NULL, leaf BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (model, request_id)) STRICT",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, root BLOB NOT NULL, at TEXT NOT NULL, "
    "signature BLOB NOT NULL) STRICT",
    # The only row that changes: a cache of the tree's right edge, believed only when it folds to a signed root.
    "CREATE TABLE frontier (only INTEGER PRIMARY KEY CHECK (only = 1), size INTEGER NOT NULL, "
    "nodes BLOB NOT NULL) STRICT",
)


def _guards() -> tuple[str, ...]:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    guards = [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
        for table in ("ledger", "records", "checkpoints")
        for verb in ("UPDATE", "DELETE")
    ]
    # REPLACE deletes without firing a delete trigger; a row that must be the next one cannot replace another.
    only_at_end = "WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM records)"
    return (*guards, f"CREATE TRIGGER records_only_at_end BEFORE INSERT ON records {only_at_end} {refuse}")


_STATEMENTS = (*_TABLES, *_guards())


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open the file for its one writer: WAL, and every commit on the disk before it returns."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_KEPT_STATEMENTS,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open the file for reading only.

    Raises
    ------
    AuditError
        There is no such file, or it is not a ledger.
    """
    if not path.is_file():
        raise AuditError(f"{path}: expected a ledger, got no such file", next_step="nbkit serve NAME writes one")
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        check_format(connection, path=path)
    except (sqlite3.Error, AuditError) as error:
        connection.close()
        if isinstance(error, AuditError):
            raise
        raise AuditError(f"{path}: cannot be read: {error}") from error
    return connection


def is_new(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def create(connection: sqlite3.Connection, *, key_id: str, now: datetime) -> None:
    """Write the tables of an empty ledger in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _STATEMENTS:
        connection.execute(statement)
    connection.execute("INSERT INTO ledger VALUES (?, ?, ?)", (uuid.uuid4().hex, key_id, now.isoformat()))
    connection.execute("INSERT INTO frontier VALUES (1, 0, x'')")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {LEDGER_FORMAT}")
    connection.execute("COMMIT")


def check_format(connection: sqlite3.Connection, *, path: Path) -> None:
    """Refuse a file that is not a ledger of this format.

    Raises
    ------
    AuditError
        It is another SQLite file, or a newer ledger.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise AuditError(f"{path}: expected a ledger of nbkit, got another SQLite file")
    if found != LEDGER_FORMAT:
        raise AuditError(f"{path}: expected ledger format {LEDGER_FORMAT}, got {found}")


def schema_problems(connection: sqlite3.Connection) -> list[str]:
    """Name each table or trigger that is not as it was created."""
    written = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    found = dict(connection.execute(written).fetchall())
    problems = []
    for statement in _STATEMENTS:
        kind, name = statement.split()[1:3]
        sql = found.pop(name, None)
        if sql is None:
            problems.append(f"{kind.lower()} {name}: missing")
        elif sql != statement:
            problems.append(f"{kind.lower()} {name}: changed")
    return problems + [f"{name}: not part of a ledger" for name in sorted(found)]


def identity(reader: Reader | sqlite3.Connection, *, path: Place) -> tuple[str, str]:
    """Return the ledger's id and the id of the key it was begun with.

    Raises
    ------
    LedgerTamperedError
        The row is gone, or there are several.
    """
    rows = reader.execute("SELECT id, key_id FROM ledger").fetchall()
    if len(rows) != 1:
        raise LedgerTamperedError(f"{shown(path)}: expected one row in table 'ledger', got {len(rows)}")
    return str(rows[0][0]), str(rows[0][1])
