"""One record by its id or its request's, while others write; a connection of its own, made again when it broke."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import cast

from nbkit.audit import _schema
from nbkit.audit._book import Place, Reader
from nbkit.audit._entry import record_of
from nbkit.audit._read import SqliteReader
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

__all__ = ["Finder"]


class Finder:
    """Finds records for any thread, one at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._reader: Reader | None = None

    @property
    def is_local(self) -> bool:
        """Whether the ledger is a file of this machine, which can be read also while it cannot be written."""
        return not isinstance(self._place, str)

    def find(self, model: str, request_id: str) -> AuditRecord | None:
        """Return the record of a request."""
        return self._one("model = ? AND request_id = ?", (model, request_id))

    def read(self, record_id: str) -> AuditRecord | None:
        """Return a record by its own id."""
        return self._one("id = ?", (record_id,))

    def body(self, record_id: str) -> bytes | None:
        """Return a record's bytes."""
        found = self._row("id = ?", (record_id,))
        return found[1] if found else None

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _one(self, where: str, given: tuple[str, ...]) -> AuditRecord | None:
        row = self._row(where, given)
        return record_of(row[1], place=f"record {row[0]}") if row else None

    def _row(self, where: str, given: tuple[str, ...]) -> tuple[int, bytes] | None:
        # Only the constants above are put into the statement.
        statement = f"SELECT seq, body FROM records WHERE {where}"  # noqa: S608
        with self._lock:
            try:
                if self._reader is None:
                    self._reader = self._connect()
                return cast("tuple[int, bytes] | None", self._reader.execute(statement, given).fetchone())
            except AuditError:
                raise
            except Exception as error:
                if not isinstance(error, sqlite3.Error) and type(error).__module__.split(".")[0] != "psycopg":
                    raise
                self._drop()
                raise AuditError(f"the ledger cannot be read: {error}") from error

    def _connect(self) -> Reader:
        if isinstance(self._place, str):
            from nbkit.audit import _postgres

            return _postgres.connect_to_read(self._place, streams=False)
        return SqliteReader(_schema.connect_to_read(self._place))

    def _drop(self) -> None:
        if self._reader is not None:
            with suppress(Exception):  # what is broken may also break when it is closed
                self._reader.close()
        self._reader = None
