"""From the event loop to the ledger's thread and back: once a turn of the loop or a commit, not a record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from nbkit.audit import Ledger
from nbkit.errors import AuditError
from nbkit.records import AuditRecord
from nbkit.serve._metrics import Metrics
from nbkit.serve._turn import TryAgainError

__all__ = ["Recorder"]

_Place = int | AuditError
_Waiting = asyncio.Future[int]


class Recorder:
    """Waits for records to be durable.

    Parameters
    ----------
    ledger : Ledger
        Where they go.
    metrics : Metrics, optional
        Times every commit.
    """

    def __init__(self, ledger: Ledger, *, metrics: Metrics | None = None) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._since = 0.0
        self._waiting = 0
        self._posts: list[tuple[AuditRecord, object, bool]] = []
        # When each is late, and what to say then. One timer stands for the earliest of all.
        self._due: dict[_Waiting, tuple[float, str]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    @property
    def queue_age(self) -> float:
        """Seconds since the disk last took a record, while some wait; 0 when none does."""
        return time.perf_counter() - self._since if self._waiting else 0.0

    async def write(self, record: AuditRecord, *, seconds: float, late: str, may_wait: bool = False) -> None:
        """Return when the record is on the disk.

        Parameters
        ----------
        record : AuditRecord
            What was decided.
        seconds : float
            How long to wait.
        late : str
            What to say when that was not enough; the record may still become durable.
        may_wait : bool
            Whether the local journal is enough while the ledger cannot take it.

        Raises
        ------
        TryAgainError
            It is late.
        AuditError
            It cannot be written.
        AlreadyRecordedError
            Its request has a record.
        """
        loop = asyncio.get_running_loop()
        future: _Waiting = loop.create_future()
        now = time.perf_counter()
        if not self._waiting:
            self._since = now
        self._waiting += 1
        if not self._posts:
            # What is decided in this turn of the loop is handed over at its end.
            loop.call_soon(self._hand_over)
        self._posts.append((record, future, may_wait))
        due = now + max(seconds, 0.0)
        self._due[future] = (due, late)
        if self._alarm is None or due < self._alarm_at:
            self._set_alarm(due, now=now)
        try:
            await future
        finally:
            self._due.pop(future, None)

    def _hand_over(self) -> None:
        posts, self._posts = self._posts, []
        self._ledger.post_all(posts, tell=self._tell)

    def _tell(self, outcomes: Sequence[tuple[object, _Place]]) -> None:
        """On the ledger's thread: wake the loop once for the whole commit."""
        told = cast("Sequence[tuple[_Waiting, _Place]]", outcomes)
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            told[0][0].get_loop().call_soon_threadsafe(self._settle, told)

    def _settle(self, outcomes: Sequence[tuple[_Waiting, _Place]]) -> None:
        self._waiting -= len(outcomes)
        moment = time.perf_counter()
        if self._metrics is not None:
            self._metrics.observe("audit_commit_seconds", moment - self._since)
        self._since = moment
        for future, place in outcomes:
            if future.done():
                continue  # whoever asked has gone; the record stays
            if isinstance(place, AuditError):
                future.set_exception(place)
            else:
                future.set_result(place)

    def _set_alarm(self, due: float, *, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = asyncio.get_running_loop().call_later(max(due - now, 0.0), self._ring)

    def _ring(self) -> None:
        """Let go of those who are late, and set the alarm for the next."""
        self._alarm = None
        now = time.perf_counter()
        for future, (due, late) in self._due.items():
            if due <= now and not future.done():
                future.set_exception(TryAgainError(late))
        waiting = [due for future, (due, _) in self._due.items() if not future.done()]
        if waiting:
            self._set_alarm(min(waiting), now=now)
