"""One request on its way through a worker: what the steps hand to each other, and how a step says no."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from nbkit.errors import NbkitError
from nbkit.records import AuditRecord
from nbkit.serve._request import DecisionRequest

if TYPE_CHECKING:
    from nbkit.serve._active import Active
    from nbkit.serve._decide import Judgement

__all__ = ["ANYONE", "Caller", "Choice", "ConflictError", "Follower", "Marker", "Router", "TryAgainError", "Turn"]


class TryAgainError(NbkitError):
    """No decision can be given now."""


class ConflictError(NbkitError):
    """The request id stands for another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Parameters
    ----------
    name : str
        For the log and for counts; empty when nobody had to say.
    scopes : frozenset of str
        What this caller may do.
    wants : str
        The stage that a tester asks to be answered by; empty for whichever the routing chooses.
    trace : str
        Id of the distributed trace (W3C) that the call is part of; empty when it is of none.
    """

    name: str = ""
    scopes: frozenset[str] = frozenset()
    wants: str = ""
    trace: str = ""


ANYONE = Caller()


# What travels with a request holds nothing that leads back to it, so nobody need look for garbage there (gc=False).


class Choice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which version answers a request.

    Parameters
    ----------
    active : Active
        The version.
    tags : mapping of str to str
        Why, for the record.
    """

    active: Active
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


class Turn(msgspec.Struct, kw_only=True, gc=False):
    """One request on its way.

    Parameters
    ----------
    request : DecisionRequest
        Fits the contract of the version in production.
    id : str
        The caller's request id, or the decision's own.
    decision_id : str
        Of the record that will be written.
    active : Active
        The version that answers.
    started : float
        When the last byte of the request was there, on the clock of ``time.perf_counter``.
    received : datetime
        The same in UTC.
    caller : Caller
        Who asks.
    tags : dict of str to str
        What steps want to stand in the record.
    """

    request: DecisionRequest
    id: str
    decision_id: str
    active: Active
    started: float
    received: datetime
    caller: Caller = ANYONE
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    def left(self, *, share: float = 1.0) -> float:
        """Return the seconds until a share of the deadline has passed.

        Parameters
        ----------
        share : float
            0..1.

        Returns
        -------
        float
            Negative when it has.
        """
        return self.active.deadline_seconds * share - (time.perf_counter() - self.started)


class Router(Protocol):
    """Chooses the version that answers; called on the event loop, so it computes and never waits."""

    def __call__(self, request: DecisionRequest, /, *, champion: Active, caller: Caller) -> Choice:
        """Return the version, and why it is this one."""


# Adds tags to a decision before it is recorded, such as the id of a review ticket; computes and never waits.
Marker = Callable[[Turn, "Judgement"], Mapping[str, str]]

# Hears of a decision once its record is durable (shadows, tickets, costs); hands work on and never waits.
Follower = Callable[[Turn, AuditRecord], None]
