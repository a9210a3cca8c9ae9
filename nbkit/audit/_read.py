"""Reading records back, while a worker writes or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nbkit.audit._entry import leaf_of, record_of
from nbkit.audit._schema import connect_to_read
from nbkit.errors import AuditError, LedgerTamperedError, NotInLedgerError
from nbkit.records import AuditRecord

__all__ = ["read_record", "read_records"]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger for one reader; SQLite's errors come out as ``AuditError``."""
    with closing(connect_to_read(path)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise AuditError(f"{path}: cannot be read: {error}") from error


def read_record(path: Path, record_id: str) -> AuditRecord:
    """Return one record.

    Parameters
    ----------
    path : Path
        The ledger.
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
    with reading(path) as connection:
        row = connection.execute("SELECT seq, leaf, body FROM records WHERE id = ?", (record_id,)).fetchone()
    if row is None:
        raise NotInLedgerError(f"{path}: no record {record_id!r}", next_step="nbkit audit list")
    return _checked(row, path=path)


def read_records(path: Path, *, model: str | None = None, limit: int = 100) -> tuple[AuditRecord, ...]:
    """Return the newest records, newest first.

    Parameters
    ----------
    path : Path
        The ledger.
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
    with reading(path) as connection:
        rows = connection.execute(statement, given).fetchall()
    return tuple(_checked(row, path=path) for row in rows)


def _checked(row: tuple[int, bytes, bytes], *, path: Path) -> AuditRecord:
    seq, leaf, body = row
    if leaf_of(seq, body) != leaf:
        raise LedgerTamperedError(f"{path}: record {seq}: edited", next_step="nbkit audit verify")
    return record_of(body, place=f"{path}: record {seq}")
