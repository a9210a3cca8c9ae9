"""A ledger in PostgreSQL: the same tables, tree and checkpoints; writers on many machines append in turn.

One ledger a schema: ``options=-csearch_path%3DNAME`` in the address chooses another than ``public``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar, cast

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._book import Row, Rows, Tree, repeated, row_of_checkpoint, rows_of, shown
from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry
from nbkit.audit._schema import BUSY_SECONDS, LEDGER_FORMAT, identity
from nbkit.errors import AuditError

# "nbkl", as in the header of a ledger file: whoever appends holds it until its transaction ends.
_TURN = 0x6E626B6C

_TABLES = (
    "CREATE TABLE ledger (id text NOT NULL, key_id text NOT NULL, created_at text NOT NULL, format integer NOT NULL)",
    "CREATE TABLE records (seq bigint PRIMARY KEY, id text NOT NULL UNIQUE, model text NOT NULL, "
    "request_id text NOT NULL, leaf bytea NOT NULL, body bytea NOT NULL, UNIQUE (model, request_id))",
    "CREATE TABLE checkpoints (size bigint PRIMARY KEY, root bytea NOT NULL, at text NOT NULL, "
    "signature bytea NOT NULL)",
    "CREATE TABLE frontier (one integer PRIMARY KEY CHECK (one = 1), size bigint NOT NULL, nodes bytea NOT NULL)",
)
_GUARDED = ("ledger", "records", "checkpoints")
_GUARD = (
    "CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN RAISE EXCEPTION 'the ledger is append-only'; END$$"
)
_STATEMENTS = (
    *_TABLES,
    _GUARD,
    *(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION append_only()"
        for table in _GUARDED
    ),
)
_COLUMNS = {
    "ledger": ["id text", "key_id text", "created_at text", "format integer"],
    "records": ["seq bigint", "id text", "model text", "request_id text", "leaf bytea", "body bytea"],
    "checkpoints": ["size bigint", "root bytea", "at text", "signature bytea"],
    "frontier": ["one integer", "size bigint", "nodes bytea"],
}

# Each statement that is sent costs both sides as much as two records, so there are few.
# The turn comes first, then what is seen: under repeatable read, if that is the database's default, it would be older.
_TAKE_TURN = "; ".join(
    ("BEGIN ISOLATION LEVEL READ COMMITTED", f"SELECT pg_advisory_xact_lock({_TURN})", "SELECT size FROM frontier")
)
_APPEND = (
    "WITH signed AS (INSERT INTO checkpoints VALUES (%b, %b, %b, %b)), "
    "edge AS (UPDATE frontier SET size = %b, nodes = %b) "
    "INSERT INTO records SELECT * FROM "
    "unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::bytea[])"
)


_Said = TypeVar("_Said")


class _Connection(psycopg.Connection[Any]):
    """Waits for a server that neither answers nor goes away only so long, whatever it is asked.

    The server's own limits end a statement; they end nothing where the server is held up itself, by its disk or by
    whoever runs it, while its kernel goes on to say that all is well.
    """

    patience: float | None = None

    def wait(
        self, gen: Generator[Any, Any, _Said], interval: float = 0.1, timeout: float | None = None
    ) -> _Said:  # fmt: skip
        patience = self.patience if timeout is None else timeout
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.OperationalError as error:
            if patience is None or error.sqlstate is not None or time.monotonic() - begun < patience:
                raise
            self.pgconn.finish()  # what became of it is unknown, so nothing more may be asked here
            raise psycopg.OperationalError(f"no answer within {patience:g} s") from error


def connect(url: str) -> _Connection:
    """Open a connection on which nothing waits for ever.

    Raises
    ------
    AuditError
        Nobody answers there.
    """
    limit = int(1000 * BUSY_SECONDS)
    try:
        connection = _Connection.connect(
            url, autocommit=True, connect_timeout=2, tcp_user_timeout=2 * limit, application_name="nbkit"
        )
        connection.patience = 2 * BUSY_SECONDS
        connection.execute(f"SET statement_timeout = {limit}")
        connection.execute("SET synchronous_commit = on")
    except psycopg.Error as error:
        raise AuditError(f"{shown(url)}: cannot be reached: {_first_line(error)}") from error
    return connection


class PostgresBook:
    """Appends to a database. Writers take turns by an advisory lock that ends with the transaction, or its writer."""

    def __init__(self, url: str, *, key: Ed25519PrivateKey, now: Callable[[], datetime]) -> None:
        self._url = url
        self._now = now
        self._tree = Tree(key, now=now)
        self._connection: psycopg.Connection[Any] | None = None
        try:
            self._open()
        except psycopg.Error as error:
            raise _unwritable(url, error) from error

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self._tree.checkpoint

    def append(self, entries: Sequence[Entry]) -> list[int | AuditError]:
        """Write the entries in one transaction.

        Returns the place of each, or why that one alone was refused.

        Raises
        ------
        AuditError
            The database cannot be reached or refuses; whether it had committed is unknown until it is asked again.
        """
        places: list[int | AuditError] | None = None
        try:
            places = self._commit(self._connection or self._open(), entries)
        except psycopg.Error as error:
            raise _unwritable(self._url, error) from error
        finally:
            if places is None:
                self.close()
        return places

    def reach(self) -> None:
        """Ask whether the database answers, by a connection of its own.

        Raises
        ------
        AuditError
            It does not.
        """
        connect(self._url).close()

    def tidy(self) -> None:
        """Do nothing: the database looks after itself."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _open(self) -> psycopg.Connection[Any]:
        connection = connect(self._url)
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TURN,))
                if not _is_there(connection):
                    _create(connection, key_id=self._tree.key_id, now=self._now())
                check_format(connection, url=self._url)
                ledger, begun_with = identity(PostgresReader(connection), path=self._url)
                self._tree.belongs_to(ledger, begun_with, place=self._url)
                self._resume(connection)
        except (psycopg.Error, AuditError):
            connection.close()
            raise
        self._connection = connection
        return connection

    def _resume(self, connection: psycopg.Connection[Any]) -> None:
        self._tree.resume(lambda statement: connection.execute(statement).fetchone(), place=self._url)

    def _commit(self, connection: psycopg.Connection[Any], entries: Sequence[Entry]) -> list[int | AuditError]:
        known: frozenset[str] = frozenset()
        while True:
            try:
                return self._append(connection, entries, known=known)
            except psycopg.errors.UniqueViolation:
                connection.execute("ROLLBACK")
                found = self._known(connection, entries)
                if found == known:
                    raise  # none of them repeats anything
                # Another writer may record one more of them before it is this one's turn again.
                known = found

    def _append(
        self, connection: psycopg.Connection[Any], entries: Sequence[Entry], *, known: frozenset[str]
    ) -> list[int | AuditError]:
        """Two round trips: take the turn and see where the tree ends; then insert, sign and commit."""
        turn = connection.execute(_TAKE_TURN)
        while turn.nextset():
            pass
        if turn.fetchone() != (self._tree.frontier.size,):
            self._resume(connection)  # another writer has appended
        new, seen = [], set()
        for entry in entries:
            if entry.id not in known and (entry.model, entry.request_id) not in seen:
                seen.add((entry.model, entry.request_id))
                new.append(entry)
        if not new:
            connection.execute("ROLLBACK")
            return [repeated(entry) for entry in entries]
        frontier = self._tree.frontier.copy()
        rows = rows_of(new, frontier)
        checkpoint = self._tree.sign(frontier)
        signed = row_of_checkpoint(checkpoint)
        edge = (frontier.size, frontier.to_bytes())
        with connection.pipeline():
            connection.execute(_APPEND, (*signed, *edge, *_by_column(rows)), prepare=True)
            # A repeat among the records fails: the driver would take for prepared what the server then skips.
            connection.execute("COMMIT", prepare=False)
        self._tree.grew(frontier, checkpoint)
        places = {row[1]: row[0] for row in rows}
        return [places[entry.id] if entry.id in places else repeated(entry) for entry in entries]

    def _known(self, connection: psycopg.Connection[Any], entries: Sequence[Entry]) -> frozenset[str]:
        """Return the ids of those whose id or request the ledger has; once there, a record stays."""
        found = connection.execute(
            "SELECT given.id FROM unnest(%s::text[], %s::text[], %s::text[]) AS given (id, model, request_id) "
            "WHERE EXISTS (SELECT FROM records r WHERE r.id = given.id "
            "OR (r.model = given.model AND r.request_id = given.request_id))",
            ([e.id for e in entries], [e.model for e in entries], [e.request_id for e in entries]),
        )
        return frozenset(row[0] for row in found)


class PostgresReader:
    """Asks PostgreSQL what is written for SQLite."""

    def __init__(self, connection: psycopg.Connection[Any], *, streams: bool = False) -> None:
        self._connection = connection
        self._streams = streams
        self._cursors: list[Any] = []

    def execute(self, statement: str, given: Sequence[object] = (), /) -> Rows:
        # A ledger of years does not fit into memory: rows come as they are asked for.
        cursor: Any = self._connection.cursor()
        if self._streams:
            cursor = self._connection.cursor(uuid.uuid4().hex)
            self._cursors.append(cursor)
        cursor.execute(statement.replace("?", "%s"), given)
        return cast("Rows", cursor)

    def schema_problems(self) -> list[str]:
        """Name each table or guard that is not as it was created."""
        columns: dict[str, list[str]] = {}
        asked = (
            "SELECT table_name, column_name || ' ' || data_type FROM information_schema.columns "
            "WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position"
        )
        for table, column in self._connection.execute(asked):
            columns.setdefault(table, []).append(column)
        problems = [
            f"table {table}: {'changed' if table in columns else 'missing'}"
            for table, expected in _COLUMNS.items()
            if columns.get(table) != expected
        ]
        guards = self._connection.execute(
            "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE c.relnamespace = current_schema()::regnamespace AND tgenabled = 'O' AND p.proname = 'append_only'"
        )
        found = {row[0] for row in guards}
        return problems + [
            f"trigger {table}_append_only: missing" for table in _GUARDED if f"{table}_append_only" not in found
        ]

    def close(self) -> None:
        for cursor in self._cursors:
            with suppress(psycopg.Error):  # a broken connection has nothing left to close
                cursor.close()
        self._connection.close()


def connect_to_read(url: str, *, streams: bool) -> PostgresReader:
    """Open a ledger for reading; with ``streams`` in one snapshot and row by row.

    Raises
    ------
    AuditError
        Nobody answers, or there is no ledger.
    """
    connection = connect(url)
    try:
        if not _is_there(connection):
            raise AuditError(f"{shown(url)}: expected a ledger, got none", next_step="nbkit serve NAME writes one")
        check_format(connection, url=url)
        if streams:
            # Reading all of it takes longer than any one append may.
            connection.execute("SET statement_timeout = 0")
            connection.patience = None
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except (psycopg.Error, AuditError) as error:
        connection.close()
        raise error if isinstance(error, AuditError) else _unreadable(url, error) from error
    return PostgresReader(connection, streams=streams)


@contextmanager
def reading(url: str) -> Iterator[PostgresReader]:
    """Open a ledger for one reader; PostgreSQL's errors come out as ``AuditError``."""
    reader = connect_to_read(url, streams=True)
    try:
        yield reader
    except psycopg.Error as error:
        raise _unreadable(url, error) from error
    finally:
        reader.close()


def check_format(connection: psycopg.Connection[Any], *, url: str) -> None:
    """Refuse a ledger of another format.

    Raises
    ------
    AuditError
        A newer nbkit wrote it.
    """
    found = connection.execute("SELECT format FROM ledger").fetchone()
    if found != (LEDGER_FORMAT,):
        raise AuditError(f"{shown(url)}: expected ledger format {LEDGER_FORMAT}, got {found and found[0]}")


def _is_there(connection: psycopg.Connection[Any]) -> bool:
    found = connection.execute("SELECT to_regclass(quote_ident(current_schema()) || '.ledger')").fetchone()
    return found is not None and found[0] is not None


def _create(connection: psycopg.Connection[Any], *, key_id: str, now: datetime) -> None:
    for statement in _STATEMENTS:
        connection.execute(statement)
    given = (uuid.uuid4().hex, key_id, now.isoformat(), LEDGER_FORMAT)
    connection.execute("INSERT INTO ledger VALUES (%s, %s, %s, %s)", given)
    connection.execute("INSERT INTO frontier VALUES (1, 0, '')")


def _by_column(rows: Sequence[Row]) -> tuple[list[object], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n", 1)[0]


def _unwritable(url: str, error: psycopg.Error) -> AuditError:
    return AuditError(f"{shown(url)}: cannot be written: {_first_line(error)} ({type(error).__name__})")


def _unreadable(url: str, error: psycopg.Error) -> AuditError:
    return AuditError(f"{shown(url)}: cannot be read: {_first_line(error)}")
