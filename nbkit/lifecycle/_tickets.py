"""Decisions that wait for a person: who has them, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbkit.audit import read_record, read_records
from nbkit.contract import Contract
from nbkit.errors import NotInLedgerError, ReviewError, UsageError
from nbkit.lifecycle._ledger_place import ledger_place
from nbkit.lifecycle._view import Result, Table, View
from nbkit.records import AuditRecord
from nbkit.review import ReviewQueue, Ticket
from nbkit.serve import PackageStore
from nbkit.settings import Settings

_MOST_READ = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickets(Result):
    """The tickets of a model, the most urgent first."""

    name: str
    at: datetime
    tickets: tuple[Ticket, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        waiting = [ticket for ticket in self.tickets if ticket.is_open]
        rows = tuple(
            (t.id, t.state.value, _moment(t.due), t.who, ", ".join(t.reasons), _became(t)) for t in self.tickets
        )
        table = Table(columns=("ticket", "state", "due (UTC)", "who", "referred for", "became"), rows=rows)
        count = "1 decision waits" if len(waiting) == 1 else f"{len(waiting)} decisions wait"
        return View(
            headline=f"{self.name}: {count} for a person",
            tables=[table] if rows else [],
            next_step=f"nbkit tickets take {self.name} {waiting[0].id}" if waiting else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketMoved(Result):
    """One ticket, after somebody took or decided it."""

    name: str
    ticket: Ticket
    reasons_to_choose: tuple[str, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        ticket = self.ticket
        facts = [
            ("decision", ticket.decision_id),
            ("version", str(ticket.version)),
            ("due", f"{_moment(ticket.due)} UTC"),
        ]
        facts += [("score", f"{ticket.score:.4f}")] if ticket.score is not None else []
        facts += [("referred for", ", ".join(ticket.reasons))] if ticket.reasons else []
        if not ticket.is_open:
            return View(
                headline=f"{ticket.id}: {ticket.outcome}, decided by {ticket.who} ({ticket.reason})", facts=facts
            )
        return View(
            headline=f"{ticket.id}: {ticket.who} has it until {_moment(ticket.lease_until)} UTC",
            facts=[*facts, ("codes", ", ".join(self.reasons_to_choose))],
            next_step=f"nbkit tickets decide {self.name} {ticket.id} --outcome approve|decline --reason CODE",
        )


def review_path(name: str, *, settings: Settings) -> Path:
    """Return where the events of a model's tickets are kept."""
    return settings.store / "review" / f"{name}.db"


def tickets(name: str, *, settings: Settings, now: datetime, every: bool = False) -> Tickets:
    """Return the tickets of a model: those that wait, or every one that there ever was.

    Raises
    ------
    AuditError
        There is no ledger.
    """
    records = read_records(ledger_place(name, settings=settings), model=name, limit=_MOST_READ)
    found = ReviewQueue(review_path(name, settings=settings)).tickets(records, now=now)
    return Tickets(name=name, at=now, tickets=tuple(ticket for ticket in found if every or ticket.is_open))


def take_ticket(name: str, *, ticket: str, who: str, settings: Settings, now: datetime) -> TicketMoved:
    """Take a ticket for the contract's lease, so that nobody else works on it.

    Raises
    ------
    ReviewError
        It is closed, somebody else has it, or there is none of that id.
    """
    record, contract = _found(name, ticket, settings=settings)
    queue = ReviewQueue(review_path(name, settings=settings))
    moved = queue.take(record, who=_known(who), contract=contract, now=now)
    return TicketMoved(name=name, ticket=moved, reasons_to_choose=contract.review.override_reasons)


def decide_ticket(
    name: str, *, ticket: str, outcome: str, reason: str, note: str = "", who: str, settings: Settings, now: datetime
) -> TicketMoved:
    """Decide a ticket that one has taken; nothing moves it any more.

    Raises
    ------
    ReviewError
        It is closed, was not taken, somebody else has it, or outcome or reason are not known.
    """
    record, contract = _found(name, ticket, settings=settings)
    queue = ReviewQueue(review_path(name, settings=settings))
    moved = queue.decide(record, who=_known(who), outcome=outcome, reason=reason, note=note, contract=contract, now=now)
    return TicketMoved(name=name, ticket=moved, reasons_to_choose=contract.review.override_reasons)


def _found(name: str, ticket: str, *, settings: Settings) -> tuple[AuditRecord, Contract]:
    step = f"nbkit tickets list {name}"
    try:
        record = read_record(ledger_place(name, settings=settings), ticket.removeprefix("t-"))
    except NotInLedgerError as error:
        raise ReviewError(f"ticket {ticket}: there is none of that id", next_step=step) from error
    if record.model != name:
        raise ReviewError(f"ticket {ticket}: belongs to {record.model}", next_step=f"nbkit tickets list {record.model}")
    return record, PackageStore(settings.store).package(record.package_digest).contract


def _known(who: str) -> str:
    if not who:
        raise UsageError("who takes it? (--as or NBKIT_IDENTITY)", next_step="export NBKIT_IDENTITY=NAME")
    return who


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _became(ticket: Ticket) -> str:
    return f"{ticket.outcome} ({ticket.reason})" if ticket.reason else ticket.outcome
