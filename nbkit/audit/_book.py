"""What a ledger is kept in: the part that SQLite and PostgreSQL share, and what each of them must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit._checkpoint import Checkpoint, key_id, sign_checkpoint
from nbkit.audit._entry import Entry, leaf_of
from nbkit.audit._tree import Frontier
from nbkit.errors import AlreadyRecordedError, AuditError, LedgerTamperedError

__all__ = ["Place", "is_address", "shown"]

# A file of SQLite, or the address of a PostgreSQL database.
Place = Path | str

Row = tuple[int, str, str, str, bytes, bytes]
StoredCheckpoint = tuple[int, bytes, str, bytes]


class Rows(Protocol):
    """The answer to one query."""

    def fetchone(self) -> tuple[object, ...] | None:
        """Return the next row."""

    def fetchall(self) -> list[tuple[object, ...]]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        """Go through them."""


class Reader(Protocol):
    """Reads a ledger; SQLite's ``?`` stand for values in either kind."""

    def execute(self, statement: str, given: Sequence[object] = (), /) -> Rows:
        """Ask."""

    def schema_problems(self) -> list[str]:
        """Name what is not as it was created."""

    def close(self) -> None:
        """Let go."""


class Book(Protocol):
    """Appends batches: all that was accepted is durable, under a signed root, when ``append`` returns."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last signed checkpoint that this writer knows."""

    def append(self, entries: Sequence[Entry]) -> list[int | AuditError]:
        """Write in one transaction; return each entry's place, or why that one alone was refused."""

    def reach(self) -> None:
        """Raise `AuditError` where the ledger is not to be reached; any thread may ask, and it may take seconds."""

    def tidy(self) -> None:
        """Do what nobody should wait for: called when those whose records were appended have been told."""

    def close(self) -> None:
        """Let go."""


class Tree:
    """Where the tree ends, as far as this writer has seen it signed; grown for a batch and kept once it is durable."""

    def __init__(self, key: Ed25519PrivateKey, *, now: Callable[[], datetime]) -> None:
        self._key = key
        self._now = now
        self.key_id = key_id(key.public_key())
        self.frontier = Frontier()
        self.checkpoint: Checkpoint | None = None
        self.ledger = ""

    def belongs_to(self, ledger: str, begun_with: str, *, place: Place) -> None:
        """Note which ledger this is.

        Raises
        ------
        AuditError
            It was begun with another key.
        """
        self.ledger = ledger
        if begun_with != self.key_id:
            raise AuditError(f"{shown(place)}: expected the ledger's key {begun_with}, got {self.key_id}")

    def resume(self, one: Callable[[str], Any], *, place: Place) -> None:
        """Take up the tree where the last signed root left it, and believe nothing else; ``one`` asks for one row.

        Raises
        ------
        LedgerTamperedError
            Records, root and right edge do not fit each other.
        """
        records: int = one("SELECT coalesce(max(seq), 0) FROM records")[0]
        last: StoredCheckpoint | None = one(
            "SELECT size, root, at, signature FROM checkpoints ORDER BY size DESC LIMIT 1"
        )
        stored: tuple[int, bytes] | None = one("SELECT size, nodes FROM frontier")
        self.frontier, self.checkpoint = Frontier(), None
        if last is None and not records:
            return
        problem = ""
        if last is None or records != last[0]:
            problem = f"expected {last[0] if last else 0} records under the last signed checkpoint, got {records}"
        elif not stored_checkpoint(self.ledger, last).is_signed_by(self._key.public_key()):
            problem = f"checkpoint {last[0]}: not signed by the ledger's key"
        else:
            self.checkpoint = stored_checkpoint(self.ledger, last)
            frontier = frontier_of(stored)
            if frontier is None or (frontier.size, frontier.root()) != last[:2]:
                problem = "frontier: does not fold to the last signed root"
            else:
                self.frontier = frontier
        if problem:
            raise LedgerTamperedError(f"{shown(place)}: {problem}", next_step="nbkit audit verify")

    def sign(self, frontier: Frontier) -> Checkpoint:
        """Sign a root that is about to become durable."""
        at = self._now().astimezone(UTC).isoformat()
        return sign_checkpoint(self._key, ledger=self.ledger, size=frontier.size, root=frontier.root(), at=at)

    def grew(self, frontier: Frontier, checkpoint: Checkpoint) -> None:
        """Note that a grown tree is durable."""
        self.frontier, self.checkpoint = frontier, checkpoint


def rows_of(entries: Sequence[Entry], frontier: Frontier) -> list[Row]:
    """Give each entry its place, and grow the frontier by it."""
    rows = []
    for seq, entry in enumerate(entries, start=frontier.size + 1):
        leaf = leaf_of(seq, entry.body)
        frontier.append(leaf)
        rows.append((seq, entry.id, entry.model, entry.request_id, leaf, entry.body))
    return rows


def repeated(entry: Entry) -> AlreadyRecordedError:
    what = f"request {entry.request_id!r} of model {entry.model!r} (or record id {entry.id})"
    return AlreadyRecordedError(f"{what} is already in the ledger")


def row_of_checkpoint(checkpoint: Checkpoint) -> StoredCheckpoint:
    root = bytes.fromhex(checkpoint.root.removeprefix("sha256:"))
    return checkpoint.size, root, checkpoint.at, bytes.fromhex(checkpoint.signature)


def stored_checkpoint(ledger: str, row: StoredCheckpoint) -> Checkpoint:
    size, root, at, signature = row
    return Checkpoint(ledger=ledger, size=size, root=f"sha256:{root.hex()}", at=at, signature=signature.hex())


def frontier_of(row: tuple[int, bytes] | None) -> Frontier | None:
    try:
        return Frontier.from_bytes(*row) if row else None
    except ValueError:
        return None


def is_address(place: str) -> bool:
    """Return whether a text is the address of a database rather than the name of a file.

    Parameters
    ----------
    place : str
        As somebody typed it.

    Returns
    -------
    bool
        True for ``postgresql://…``.

    Examples
    --------
    >>> is_address("postgresql://db/ledger"), is_address("ledger.db")
    (True, False)
    """
    return place.startswith(("postgresql://", "postgres://"))


def shown(place: Place) -> str:
    """Return a place as a message may name it: without a password.

    Parameters
    ----------
    place : Path or str
        Of a ledger.

    Returns
    -------
    str
        The file, or host and database.

    Examples
    --------
    >>> shown("postgresql://ada:secret@db/ledger"), shown(Path("ledger.db"))
    ('postgresql://db/ledger', 'ledger.db')
    """
    if isinstance(place, Path):
        return str(place)
    head, found, tail = place.partition("://")
    return f"{head}{found}{tail.partition('?')[0].rpartition('@')[2]}"
