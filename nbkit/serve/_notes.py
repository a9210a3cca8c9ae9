"""What a worker adds to every decision: the terms of a ticket, and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from nbkit.contract import Outcome
from nbkit.records import AuditRecord
from nbkit.review import ticket_tags
from nbkit.serve._decide import Judgement
from nbkit.serve._metrics import Metrics
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

    def follow(turn: Turn, record: AuditRecord) -> None:
        route = "fallback" if record.fallback else record.route.partition(":")[0]
        labels = (("stage", record.stage), ("route", route), ("outcome", record.decision))
        metrics.observe("route_seconds", time.perf_counter() - turn.started, labels=labels)

    return follow
