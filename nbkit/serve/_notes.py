"""What a worker adds to every decision: the terms of a ticket, and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from nbkit.contract import Outcome
from nbkit.records import AuditRecord
from nbkit.review import ticket_tags
from nbkit.serve._decide import Judgement
from nbkit.serve._metrics import Histogram, Metrics
from nbkit.serve._spending import Tally, route_of
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
    """Return what times every recorded decision by stage, route and outcome, and counts what it cost (a `Follower`).

    Parameters
    ----------
    metrics : Metrics
        Where it is counted.

    Returns
    -------
    callable
        A rule's name is no label: rules are many, and a scrape must stay small.
    """
    known: dict[tuple[str, str, str, str, int, str], tuple[Histogram, Tally]] = {}

    def follow(turn: Turn, record: AuditRecord) -> None:
        key = (record.stage, record.route, record.fallback, record.decision, record.version, record.cost_usd)
        found = known.get(key)
        if found is None:
            labels = (("stage", record.stage), ("route", route_of(record)), ("outcome", record.decision))
            found = known[key] = metrics.histogram("route_seconds", labels=labels), metrics.spending.tally(record)
        histogram, tally = found
        histogram.add(time.perf_counter() - turn.started)
        tally.times += 1

    return follow
