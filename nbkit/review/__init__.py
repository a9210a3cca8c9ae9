"""The queue of decisions that wait for a person: derived from the audit records, moved by append-only events."""

from __future__ import annotations

from nbkit.review._queue import ReviewQueue
from nbkit.review._ticket import TICKET_DUE, ReviewLabel, Ticket, TicketState, labels_of, ticket_id, ticket_tags

__all__ = ["TICKET_DUE", "ReviewLabel", "ReviewQueue", "Ticket", "TicketState", "labels_of", "ticket_id", "ticket_tags"]
