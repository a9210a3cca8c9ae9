"""What people did to tickets: one append-only SQLite file a model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.contract import Contract
from nbkit.errors import ReviewError
from nbkit.records import AuditRecord
from nbkit.review._ticket import Event, Ticket, TicketState, ticket_id, ticket_of

__all__ = ["ReviewQueue"]

# Raise it when the table changes: lift an old file in `_open`, and keep one in tests/unit/review/golden.
REVIEW_FORMAT = 1

# "nbkr": tells a review file from any other SQLite file.
_APPLICATION_ID = 0x6E626B72

_BUSY_SECONDS = 5.0

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the review file is append-only'); END"
_STATEMENTS = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, ticket TEXT NOT NULL, kind TEXT NOT NULL, "
    "at TEXT NOT NULL, who TEXT NOT NULL, until TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, "
    "note TEXT NOT NULL) STRICT",
    "CREATE INDEX events_by_ticket ON events (ticket)",
    f"CREATE TRIGGER events_no_update BEFORE UPDATE ON events {_REFUSE}",
    f"CREATE TRIGGER events_no_delete BEFORE DELETE ON events {_REFUSE}",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {REVIEW_FORMAT}",
)


class ReviewQueue:
    """The tickets of one model.

    Parameters
    ----------
    path : Path
        The SQLite file; made when something is first done to a ticket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def tickets(self, records: Iterable[AuditRecord], *, now: datetime) -> tuple[Ticket, ...]:
        """Return the tickets of audit records, the most urgent first.

        Parameters
        ----------
        records : iterable of AuditRecord
            Of the model; those that wait for nobody are left out.
        now : datetime
            Aware, UTC.

        Returns
        -------
        tuple of Ticket
            Open ones by due time, then closed ones.

        Raises
        ------
        ReviewError
            The file cannot be read.
        """
        events: dict[str, list[Event]] = {}
        if self._path.exists():
            with self._open() as connection:
                for event in _events(connection, "", ()):
                    events.setdefault(event.ticket, []).append(event)
        found = (ticket_of(record, events.get(ticket_id(record.id), ()), now=now) for record in records)
        return tuple(sorted((each for each in found if each), key=lambda each: (not each.is_open, each.due, each.id)))

    def take(self, record: AuditRecord, *, who: str, contract: Contract, now: datetime) -> Ticket:
        """Take a ticket for the contract's lease, so that nobody else works on it meanwhile.

        Parameters
        ----------
        record : AuditRecord
            That referred.
        who : str
            Takes it; whoever has it already takes it for longer.
        contract : Contract
            Says how long.
        now : datetime
            Aware, UTC.

        Returns
        -------
        Ticket
            Assigned.

        Raises
        ------
        ReviewError
            It is closed, somebody else has it, or there is no such ticket.
        """
        until = now + timedelta(minutes=contract.review.lease_minutes)
        event = Event(seq=0, ticket=ticket_id(record.id), kind="taken", at=now, who=who, until=until)
        return self._move(record, event, now=now)

    def decide(
        self, record: AuditRecord, *, who: str, outcome: str, reason: str, note: str, contract: Contract, now: datetime
    ) -> Ticket:
        """Decide a ticket that one has taken.

        Parameters
        ----------
        record : AuditRecord
            That referred.
        who : str
            Has taken it.
        outcome : str
            approve or decline.
        reason : str
            One of ``review.override_reasons``.
        note : str
            In the person's words; may be empty.
        contract : Contract
            Of the version that referred.
        now : datetime
            Aware, UTC.

        Returns
        -------
        Ticket
            Decided; nothing moves it any more.

        Raises
        ------
        ReviewError
            It is closed, it was not taken or by somebody else, or outcome or reason are not known.
        """
        problems = []
        if outcome not in ("approve", "decline"):
            problems.append(f"outcome: expected approve or decline, got {outcome!r}")
        if reason not in contract.review.override_reasons:
            problems.append(f"reason: expected one of {', '.join(contract.review.override_reasons)}, got {reason!r}")
        if problems:
            raise ReviewError(f"ticket {ticket_id(record.id)}", problems=problems)
        event = Event(
            seq=0,
            ticket=ticket_id(record.id),
            kind="decided",
            at=now,
            who=who,
            outcome=outcome,
            reason=reason,
            note=note,
        )
        return self._move(record, event, now=now)

    def _move(self, record: AuditRecord, event: Event, *, now: datetime) -> Ticket:
        with self._open() as connection:
            # From here on nobody else moves a ticket: of two who take the same one, the second is told.
            connection.execute("BEGIN IMMEDIATE")
            before = ticket_of(record, list(_events(connection, "WHERE ticket = ?", (event.ticket,))), now=now)
            problem = _problem(before, event)
            if before is None or problem:
                connection.execute("ROLLBACK")
                raise ReviewError(f"ticket {event.ticket}: {problem}", next_step=f"nbkit tickets list {record.model}")
            until = event.until.isoformat() if event.until else ""
            row = (event.ticket, event.kind, now.isoformat(), event.who, until, event.outcome, event.reason, event.note)
            connection.execute(
                "INSERT INTO events (ticket, kind, at, who, until, outcome, reason, note) VALUES (?,?,?,?,?,?,?,?)", row
            )
            after = ticket_of(record, list(_events(connection, "WHERE ticket = ?", (event.ticket,))), now=now)
            connection.execute("COMMIT")
        assert after is not None  # noqa: S101  it was one before
        return after

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in _STATEMENTS:
                        connection.execute(statement)
                connection.execute("COMMIT")
                application = connection.execute("PRAGMA application_id").fetchone()[0]
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if (application, found) != (_APPLICATION_ID, REVIEW_FORMAT):
                    raise ReviewError(
                        f"{self._path}: expected a review file of format {REVIEW_FORMAT}, got another file"
                    )
                yield connection
        except sqlite3.Error as error:
            raise ReviewError(f"{self._path}: cannot be used: {error}") from error


def _problem(ticket: Ticket | None, event: Event) -> str:
    if ticket is None:
        return "the decision does not wait for a person"
    if not ticket.is_open:
        closed = f"{ticket.state} as {ticket.outcome}" + (f" by {ticket.who}" if ticket.who else "")
        return f"it is closed: {closed}"
    if ticket.state is TicketState.ASSIGNED and ticket.who != event.who:
        return f"{ticket.who} has it until {ticket.lease_until:%Y-%m-%d %H:%M} UTC"
    if event.kind == "decided" and ticket.state is TicketState.QUEUED:
        return f"take it first: nbkit tickets take {ticket.model} {ticket.id}"
    return ""


def _events(connection: sqlite3.Connection, where: str, given: tuple[str, ...]) -> Iterator[Event]:
    # Only constants of this module are put into the statement.
    columns = "seq, ticket, kind, at, who, until, outcome, reason, note"
    statement = f"SELECT {columns} FROM events {where} ORDER BY seq"  # noqa: S608
    for seq, ticket, kind, at, who, until, outcome, reason, note in connection.execute(statement, given):
        yield Event(
            seq=seq, ticket=ticket, kind=kind, at=datetime.fromisoformat(at), who=who,
            until=datetime.fromisoformat(until) if until else None, outcome=outcome, reason=reason, note=note,
        )  # fmt: skip
