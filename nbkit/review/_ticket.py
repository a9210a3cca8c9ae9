"""One ticket: everything about it follows from its audit record, the events since, and the clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nbkit.contract import Contract, Outcome
from nbkit.records import AuditRecord

__all__ = ["TICKET_DUE", "ReviewLabel", "Ticket", "TicketState", "labels_of", "ticket_id", "ticket_tags"]

# Tags of the audit record that referred: the ticket's terms are on the disk in the same commit as the decision.
TICKET_DUE = "ticket_due"
OTHERWISE = "ticket_otherwise"

_PREFIX = "t-"


class TicketState(StrEnum):
    """Where a ticket stands."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    DECIDED = "decided"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that somebody did to a ticket."""

    seq: int
    ticket: str
    kind: str
    at: datetime
    who: str
    until: datetime | None = None
    outcome: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One decision that waits, or waited, for a person.

    Parameters
    ----------
    id : str
        As the answer named it.
    decision_id, model, version : str, str, int
        The audit record that referred, and who did.
    queued_at, due : datetime
        When the decision was given, and when a person must have decided.
    score : float or None
        The model's.
    reasons : tuple of str
        Why it was referred, as codes.
    state : TicketState
        Now.
    who : str
        Has it, or decided it.
    lease_until : datetime or None
        Until when it stays with whoever has it.
    outcome : str
        What it became: of a person, or, once expired, the contract's conservative default; empty while it waits.
    reason : str
        The code that the person chose.
    note : str
        In the person's words.
    closed_at : datetime or None
        When it was decided or expired.
    """

    id: str
    decision_id: str
    model: str
    version: int
    queued_at: datetime
    due: datetime
    score: float | None
    reasons: tuple[str, ...]
    state: TicketState
    who: str = ""
    lease_until: datetime | None = None
    outcome: str = ""
    reason: str = ""
    note: str = ""
    closed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether a person may still decide it."""
        return self.state in (TicketState.QUEUED, TicketState.ASSIGNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLabel:
    """What a person found about a row, with its origin: a judgement, not what turned out true.

    Parameters
    ----------
    decision_id : str
        The audit record.
    model, version : str, int
        Who referred it.
    outcome : str
        approve or decline.
    origin : str
        ``review``: a person looked; ``review-expired``: nobody did, and the default was taken.
    at : datetime
        When.
    """

    decision_id: str
    model: str
    version: int
    outcome: str
    origin: str
    at: datetime


def ticket_id(decision_id: str) -> str:
    """Return the id of a decision's ticket.

    Parameters
    ----------
    decision_id : str
        The audit record's id.

    Returns
    -------
    str
        Found again without looking anything up.
    """
    return _PREFIX + decision_id


def ticket_tags(contract: Contract, *, decided_at: datetime) -> Mapping[str, str]:
    """Return what the record of a referred decision says about its ticket.

    Parameters
    ----------
    contract : Contract
        Of the version that referred.
    decided_at : datetime
        Aware, UTC.

    Returns
    -------
    mapping of str to str
        Tags of the audit record: a later contract does not move the deadline of a ticket that waits already.
    """
    due = decided_at + timedelta(hours=contract.review.sla_hours)
    return {TICKET_DUE: due.isoformat(), OTHERWISE: contract.review.when_expired}


def ticket_of(record: AuditRecord, events: Sequence[Event], *, now: datetime) -> Ticket | None:
    """Return the ticket of a record, or None when it does not wait for anybody."""
    if record.kind != "decision" or record.decision != Outcome.REFER or TICKET_DUE not in record.tags:
        return None
    due = datetime.fromisoformat(record.tags[TICKET_DUE])
    state, who, until = TicketState.QUEUED, "", None
    outcome = reason = note = ""
    closed_at: datetime | None = None
    for event in events:
        if event.kind == "taken":
            state, who, until = TicketState.ASSIGNED, event.who, event.until
        elif event.kind == "decided":
            state, who, until = TicketState.DECIDED, event.who, None
            outcome, reason, note, closed_at = event.outcome, event.reason, event.note, event.at
    if state is not TicketState.DECIDED and now >= due:
        state, who, until = TicketState.EXPIRED, "", None
        outcome, closed_at = record.tags[OTHERWISE], due
    elif state is TicketState.ASSIGNED and until is not None and now >= until:
        state, who, until = TicketState.QUEUED, "", None
    return Ticket(
        id=ticket_id(record.id), decision_id=record.id, model=record.model, version=record.version,
        queued_at=record.decided_at, due=due, score=record.score, reasons=tuple(record.reasons), state=state, who=who,
        lease_until=until, outcome=outcome, reason=reason, note=note, closed_at=closed_at,
    )  # fmt: skip


def labels_of(tickets: Iterable[Ticket]) -> tuple[ReviewLabel, ...]:
    """Return what closed tickets say about their rows.

    Parameters
    ----------
    tickets : iterable of Ticket
        As `ReviewQueue.tickets` returns them.

    Returns
    -------
    tuple of ReviewLabel
        None for those that wait.
    """
    return tuple(
        ReviewLabel(
            decision_id=ticket.decision_id,
            model=ticket.model,
            version=ticket.version,
            outcome=ticket.outcome,
            origin="review" if ticket.state is TicketState.DECIDED else "review-expired",
            at=ticket.closed_at,
        )
        for ticket in tickets
        if ticket.closed_at is not None
    )
