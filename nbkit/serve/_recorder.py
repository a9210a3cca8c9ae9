"""From the event loop to the ledger's writer and back: once a few records or a commit, not a record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from nbkit.audit import AnyLedger
from nbkit.errors import AuditError
from nbkit.records import AuditRecord
from nbkit.serve._alarm import Bell
from nbkit.serve._metrics import Metrics
from nbkit.serve._turn import TryAgainError

__all__ = ["Heard", "Recorder", "resolving"]

_Place = int | AuditError

# Records that go to the writer together: it commits these while the next are decided.
_MOST_TOGETHER = 16

# Hears that a record is durable (None), or why not.
Heard = Callable[[AuditError | TryAgainError | None], None]


class Recorder:
    """Waits for records to be durable.

    Parameters
    ----------
    ledger : Ledger or RemoteLedger
        Where they go.
    metrics : Metrics, optional
        Times every commit.
    """

    def __init__(self, ledger: AnyLedger, *, metrics: Metrics | None = None) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._since = 0.0
        self._waiting = 0
        self._posts: list[tuple[AuditRecord, object, bool]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        # When each is late, who hears of it, and what it was.
        self._due: dict[int, tuple[float, Heard, AuditRecord]] = {}
        self._bell = Bell(self._ring)

    @property
    def queue_age(self) -> float:
        """Seconds since the disk last took a record, while some wait; 0 when none does."""
        return time.perf_counter() - self._since if self._waiting else 0.0

    def post(self, record: AuditRecord, *, heard: Heard, seconds: float, may_wait: bool = False) -> None:
        """Hand over a record.

        Parameters
        ----------
        record : AuditRecord
            What was decided.
        heard : callable
            Called once on the loop: with None when the record is on the disk; with a `TryAgainError` when it is late,
            and may still become durable; with an `AuditError` when it cannot be written, or its request has a record.
        seconds : float
            How long to wait.
        may_wait : bool
            Whether the local journal is enough while the ledger cannot take it.
        """
        now = time.perf_counter()
        if not self._waiting:
            self._since = now
        self._waiting += 1
        if not self._posts:
            # What is decided in this turn of the loop is handed over at its end.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._hand_over)
        self._count += 1
        self._posts.append((record, self._count, may_wait))
        if len(self._posts) >= _MOST_TOGETHER:
            self._hand_over()
        due = now + max(seconds, 0.0)
        self._due[self._count] = (due, heard, record)
        if due < self._bell.at:
            self._bell.set(due, now=now)

    def _hand_over(self) -> None:
        if not self._posts:
            return
        posts, self._posts = self._posts, []
        self._ledger.post_all(posts, tell=self._tell)

    def _tell(self, outcomes: Sequence[tuple[object, _Place]]) -> None:
        """On the loop, or on the ledger's thread: then wake the loop, once for the whole commit."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        if asyncio._get_running_loop() is loop:
            self._settle(outcomes)
            return
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(self._settle, outcomes)

    def _settle(self, outcomes: Sequence[tuple[object, _Place]]) -> None:
        self._waiting -= len(outcomes)
        moment = time.perf_counter()
        if self._metrics is not None:
            self._metrics.observe("audit_commit_seconds", moment - self._since)
        self._since = moment
        for ticket, place in outcomes:
            waiting = self._due.pop(cast("int", ticket), None)
            if waiting is not None:  # or else it was late, and whoever asked has heard so
                waiting[1](place if isinstance(place, AuditError) else None)

    def _ring(self) -> None:
        """Let go of those who are late, and set the bell for the next."""
        now = time.perf_counter()
        for ticket, (due, heard, record) in list(self._due.items()):
            if due <= now:
                del self._due[ticket]
                late = f"request {record.request_id!r}: its record missed the deadline; ask again with the same id"
                heard(TryAgainError(late))
        if self._due:
            self._bell.set(min(due for due, _, _ in self._due.values()), now=now)


def resolving(future: asyncio.Future[None]) -> Heard:
    """Return what resolves a future that waits for a record.

    Parameters
    ----------
    future : Future
        Of the running loop.

    Returns
    -------
    callable
        For `Recorder.post`.
    """

    def heard(problem: AuditError | TryAgainError | None) -> None:
        if future.done():
            return  # whoever asked has gone; the record stays
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)

    return heard
