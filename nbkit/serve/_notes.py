"""What a worker adds to every decision: the terms of a ticket, and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from nbkit.contract import Outcome
from nbkit.records import AuditRecord
from nbkit.review import ticket_tags
from nbkit.serve._decide import Judgement
from nbkit.serve._metrics import Histogram, Metrics
from nbkit.serve._turn import Turn

__all__ = ["figures_of", "note_ticket"]

_NOTHING: Mapping[str, str] = {}


def note_ticket(turn: Turn, judgement: Judgement) -> Mapping[str, str]:
    """Let the record of a referral carry its ticket (a `Marker`).

    Parameters
    ----------
    turn : Turn
        That is decided.
    judgement : Judgement
        What was decided.

    Returns
    -------
    mapping of str to str
        Tags; none where nobody has to look.
    """
    if judgement.decision.decision != Outcome.REFER:
        return _NOTHING
    return ticket_tags(turn.active.package.contract, decided_at=turn.received)


def figures_of(metrics: Metrics) -> Callable[[Turn, AuditRecord], None]:
    """Return what times every recorded decision by stage, route and outcome (a `Follower`).

    Parameters
    ----------
    metrics : Metrics
        Where it is counted.

    Returns
    -------
    callable
        A rule's name is no label: rules are many, and a scrape must stay small.
    """
    known: dict[tuple[str, str, str], Histogram] = {}

    def follow(turn: Turn, record: AuditRecord) -> None:
        key = (record.stage, "fallback" if record.fallback else record.route.partition(":")[0], record.decision)
        histogram = known.get(key)
        if histogram is None:
            labels = tuple(zip(("stage", "route", "outcome"), key, strict=True))
            histogram = known[key] = metrics.histogram("route_seconds", labels=labels)
        histogram.add(time.perf_counter() - turn.started)

    return follow
