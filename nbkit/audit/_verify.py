"""Proving a ledger: every record under a signed root, and the name of each that is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nbkit.audit import _schema
from nbkit.audit._book import Place, Reader, StoredCheckpoint, frontier_of, stored_checkpoint
from nbkit.audit._checkpoint import Checkpoint, key_id
from nbkit.audit._entry import leaf_of, record_of
from nbkit.audit._read import reading
from nbkit.audit._tree import Frontier
from nbkit.errors import LedgerTamperedError

__all__ = ["LedgerReport", "verify_ledger"]

# Enough to see what happened; a ledger that was rewritten as a whole would name every row.
_MOST_PROBLEMS = 100

# Among this many rows whose hash is wrong, a row that only changed its place is looked for.
_MOST_MOVED = 500

_FRONTIER = "SELECT size, nodes FROM frontier"

_Row = tuple[int, str, str, str, bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What ``verify_ledger`` found.

    Parameters
    ----------
    records : int
        How many rows there are.
    checkpoints : int
        How many signed roots.
    problems : tuple of str
        What is not as it was written; each names its row.
    last : Checkpoint or None
        The newest checkpoint; keep a copy elsewhere and hand it to the next ``verify_ledger`` as ``known``.
    """

    records: int
    checkpoints: int
    problems: tuple[str, ...]
    last: Checkpoint | None

    @property
    def ok(self) -> bool:
        """Whether the ledger is what was written."""
        return not self.problems


def verify_ledger(place: Place, *, public_key: Ed25519PublicKey, known: Sequence[Checkpoint] = ()) -> LedgerReport:
    """Check every record, every signed root and the guards of a ledger; a worker may go on writing.

    A ledger that was cut back together with its checkpoints looks whole from inside. Only a checkpoint that was kept
    elsewhere shows it: pass those as ``known``.

    Parameters
    ----------
    place : Path or str
        The ledger: a file, or the address of a PostgreSQL database.
    public_key : Ed25519PublicKey
        The public half of the key that it was begun with.
    known : sequence of Checkpoint
        Checkpoints that were kept outside the ledger.

    Returns
    -------
    LedgerReport
        ``ok``, or the problems: rows that were edited, deleted, inserted, reordered or cut off.

    Raises
    ------
    AuditError
        The file is missing, is not a ledger, or cannot be read.
    """
    with reading(place) as reader:
        problems = reader.schema_problems()
        if any(problem.startswith("table") for problem in problems):
            return LedgerReport(records=0, checkpoints=0, problems=tuple(problems), last=None)
        return _Proof(reader, place=place, key=public_key, problems=problems).run(known)


@dataclass(slots=True)
class _Wrong:
    """Rows whose bytes do not give their stored leaf."""

    bodies: dict[int, bytes] = field(default_factory=dict)
    leaves: dict[int, bytes] = field(default_factory=dict)


class _Proof:
    def __init__(self, reader: Reader, *, place: Place, key: Ed25519PublicKey, problems: list[str]) -> None:
        self._reader = reader
        self._place = place
        self._key = key
        self._problems = problems
        self._frontier = Frontier()
        self._wrong = _Wrong()
        self._records = 0
        # After this record the roots say nothing any more, because a leaf before them is lost.
        self._lost: int | None = None
        self._ledger = ""

    def run(self, known: Sequence[Checkpoint]) -> LedgerReport:
        try:
            self._ledger, begun_with = _schema.identity(self._reader, path=self._place)
            if begun_with != key_id(self._key):
                self._problems.append(f"key: expected {key_id(self._key)}, the ledger was begun with {begun_with}")
        except LedgerTamperedError as error:
            self._problems.append(str(error))
        rows = self._reader.execute("SELECT size, root, at, signature FROM checkpoints ORDER BY size")
        stored = [stored_checkpoint(self._ledger, cast("StoredCheckpoint", row)) for row in rows]
        roots: dict[int, set[str]] = {}
        for point in self._believed(stored, place="checkpoint") + self._believed(known, place="known checkpoint"):
            roots.setdefault(point.size, set()).add(point.root)
        self._walk(roots)
        self._name_wrong_rows()
        self._check_frontier()
        problems = self._problems
        if len(problems) > _MOST_PROBLEMS:
            problems = [*problems[:_MOST_PROBLEMS], f"and {len(problems) - _MOST_PROBLEMS} more"]
        return LedgerReport(
            records=self._records,
            checkpoints=len(stored),
            problems=tuple(problems),
            last=stored[-1] if stored else None,
        )

    def _believed(self, points: Sequence[Checkpoint], *, place: str) -> list[Checkpoint]:
        believed = []
        for point in points:
            if not point.is_signed_by(self._key):
                self._problems.append(f"{place} {point.size}: not signed by the ledger's key")
            elif point.ledger != self._ledger:
                self._problems.append(f"{place} {point.size}: of another ledger, {point.ledger}")
            else:
                believed.append(point)
        return believed

    def _rows(self) -> Iterator[_Row]:
        rows = self._reader.execute("SELECT seq, id, model, request_id, leaf, body FROM records ORDER BY seq")
        yield from cast("Iterator[_Row]", rows)

    def _walk(self, roots: dict[int, set[str]]) -> None:
        last, proved = 0, 0
        for row in self._rows():
            seq = row[0]
            self._records += 1
            if seq < 1:
                self._problems.append(f"record {seq}: inserted before the first")
                continue
            if seq > last + 1:
                self._lose(last, f"{_range(last + 1, seq - 1)}: deleted")
            last = seq
            self._check_row(row)
            self._frontier.append(row[4])
            if seq in roots:
                self._check_root(proved + 1, seq, roots=roots[seq])
                proved = seq
        self._check_tail(last, signed=max(roots, default=0))
        if self._lost is not None and last > self._lost:
            self._problems.append(f"records after {self._lost}: only their own hashes could be checked, not the roots")

    def _lose(self, after: int, problem: str) -> None:
        self._problems.append(problem)
        self._lost = after if self._lost is None else self._lost

    def _check_root(self, first: int, seq: int, *, roots: set[str]) -> None:
        if self._lost is not None or roots == {f"sha256:{self._frontier.root().hex()}"}:
            return
        if any(first <= wrong <= seq for wrong in self._wrong.bodies):
            self._lost = seq  # the row is named already
        else:
            self._lose(
                seq, f"{_range(first, seq)}: edited, inserted or reordered: not what the root signed at {seq} says"
            )

    def _check_row(self, row: _Row) -> None:
        seq, record_id, model, request_id, leaf, body = row
        if leaf_of(seq, body) != leaf:
            self._wrong.bodies[seq], self._wrong.leaves[seq] = body, leaf
            return
        try:
            record = record_of(body, place=f"record {seq}")
        except LedgerTamperedError as error:
            self._problems.append(str(error))
            return
        told = {"id": record_id, "model": model, "request_id": request_id}
        for column, value in told.items():
            if getattr(record, column) != value:
                was = getattr(record, column)
                self._problems.append(f"record {seq}: column {column} edited: expected {was!r}, got {value!r}")

    def _check_tail(self, last: int, *, signed: int) -> None:
        if signed > last:
            self._problems.append(f"{_range(last + 1, signed)}: cut off: a signed checkpoint counts {signed} records")
        elif last > signed:
            self._problems.append(f"{_range(signed + 1, last)}: inserted: no signed checkpoint covers it")

    def _name_wrong_rows(self) -> None:
        wrong = self._wrong
        others = list(wrong.bodies) if len(wrong.bodies) <= _MOST_MOVED else []
        for seq, body in wrong.bodies.items():
            # A whole row that was moved brought its leaf along; a body that was moved alone left its leaf behind.
            was = next((k for k in others if leaf_of(k, body) in (wrong.leaves[seq], wrong.leaves[k])), None)
            self._problems.append(f"record {seq}: edited" if was is None else f"record {seq}: reordered: it was {was}")

    def _check_frontier(self) -> None:
        if self._problems:
            return
        frontier = frontier_of(cast("tuple[int, bytes] | None", self._reader.execute(_FRONTIER).fetchone()))
        if frontier is None or (frontier.size, frontier.root()) != (self._frontier.size, self._frontier.root()):
            self._problems.append("frontier: not that of the records")


def _range(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first}..{last}"
