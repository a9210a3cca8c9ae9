"""Reading records back, while a worker writes or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from nbkit.audit import _schema
from nbkit.audit._book import Place, Reader, Rows, shown
from nbkit.audit._entry import leaf_of, record_of
from nbkit.errors import AuditError, LedgerTamperedError, NotInLedgerError
from nbkit.records import AuditRecord

__all__ = ["read_record", "read_records"]


class SqliteReader:
    """Asks a file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, given: Sequence[object] = (), /) -> Rows:
        return self._connection.execute(statement, tuple(given))

    def schema_problems(self) -> list[str]:
        return _schema.schema_problems(self._connection)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def reading(place: Place) -> Iterator[Reader]:
    """Open a ledger for one reader that sees one moment of it; the database's errors come out as ``AuditError``."""
    if isinstance(place, str):
        from nbkit.audit import _postgres

        with _postgres.reading(place) as reader:
            yield reader
        return
    sqlite = SqliteReader(_schema.connect_to_read(place))
    try:
        sqlite.execute("BEGIN")
        yield sqlite
    except sqlite3.Error as error:
        raise AuditError(f"{place}: cannot be read: {error}") from error
    finally:
        sqlite.close()


def read_record(place: Place, record_id: str) -> AuditRecord:
    """Return one record.

    Parameters
    ----------
    place : Path or str
        The ledger: a file, or the address of a PostgreSQL database.
    record_id : str
        Its ``id``: the ``decision_id`` of the answer.

    Returns
    -------
    AuditRecord
        As it was written, floats to the bit.

    Raises
    ------
    NotInLedgerError
        No such record.
    LedgerTamperedError
        The row is not what was written.
    AuditError
        The ledger cannot be read.
    """
    with reading(place) as reader:
        row = reader.execute("SELECT seq, leaf, body FROM records WHERE id = ?", (record_id,)).fetchone()
    if row is None:
        raise NotInLedgerError(f"{shown(place)}: no record {record_id!r}", next_step="nbkit audit list")
    return _checked(row, place=place)


def read_records(place: Place, *, model: str | None = None, limit: int = 100) -> tuple[AuditRecord, ...]:
    """Return the newest records, newest first.

    Parameters
    ----------
    place : Path or str
        The ledger: a file, or the address of a PostgreSQL database.
    model : str, optional
        Only this model's.
    limit : int
        At most this many.

    Returns
    -------
    tuple of AuditRecord
        Empty when there are none.

    Raises
    ------
    LedgerTamperedError
        A row is not what was written.
    AuditError
        The ledger cannot be read.
    """
    where = "" if model is None else "WHERE model = ? "
    given = (limit,) if model is None else (model, limit)
    # Only the constant above is put into the statement.
    statement = f"SELECT seq, leaf, body FROM records {where}ORDER BY seq DESC LIMIT ?"  # noqa: S608
    with reading(place) as reader:
        rows = reader.execute(statement, given).fetchall()
    return tuple(_checked(row, place=place) for row in rows)


def _checked(row: tuple[object, ...], *, place: Place) -> AuditRecord:
    seq, leaf, body = cast("tuple[int, bytes, bytes]", row)
    if leaf_of(seq, body) != leaf:
        raise LedgerTamperedError(f"{shown(place)}: record {seq}: edited", next_step="nbkit audit verify")
    return record_of(body, place=f"{shown(place)}: record {seq}")
