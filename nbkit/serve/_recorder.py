"""From the event loop to the ledger's thread and back, once a commit and not once a record."""

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
        self._waiting = 0
        self._since = 0.0

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
        if not self._waiting:
            self._since = time.perf_counter()
        self._waiting += 1
        self._ledger.post(record, ticket=future, tell=self._tell, may_wait=may_wait)
        timer = loop.call_later(max(seconds, 0.0), _expire, future, late)
        try:
            await future
        finally:
            timer.cancel()

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


def _expire(future: _Waiting, late: str) -> None:
    if not future.done():
        future.set_exception(TryAgainError(late))
