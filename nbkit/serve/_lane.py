"""Decisions of one turn of the event loop, taken together: no task, no future and no timer for each of them.

What is ordinary is decided here: a compiled model, a closed breaker, reasons at once or none. Everything else goes on
as `Service.run`, which knows all cases; both are made of the same steps.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from functools import partial

import msgspec

from nbkit.errors import AuditError, NbkitError
from nbkit.records import AuditRecord
from nbkit.serve._answer import Answer, refusal_of
from nbkit.serve._decide import Judgement, Weighed
from nbkit.serve._judge import judge_at_once
from nbkit.serve._record import answer_of
from nbkit.serve._service import Service
from nbkit.serve._turn import Caller, TryAgainError, Turn

__all__ = ["Ask", "Lane"]

# What comes together is decided in parts: whoever waits for an answer has a turn in between, and the ledger's writer
# is at work on one part while the next is decided. When many wait, a part is a quarter: each has its price.
_PART = 16


class Ask(msgspec.Struct, kw_only=True, gc=False):
    """One request of the native protocol, and who wants to hear of it.

    Parameters
    ----------
    body : bytes
        As `read_request` takes it.
    caller : Caller
        Who asks.
    arrived : float
        When the last byte was there, on the clock of ``time.perf_counter``.
    answered : callable
        Called once, on the loop, with the answer.
    broken : callable
        Called instead when nbkit itself failed.
    """

    body: bytes
    caller: Caller
    arrived: float
    answered: Callable[[Answer], None]
    broken: Callable[[Exception], None]


class Lane:
    """Gathers requests until the turn of the loop ends; used from the event loop.

    Parameters
    ----------
    service : Service
        Decides.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._answered = service.metrics.counter("answers", label="status", value="200")
        self._asks: list[Ask] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, ask: Ask) -> None:
        """Decide a request before the next turn of the loop begins.

        Parameters
        ----------
        ask : Ask
            Whose body has arrived.
        """
        if not self._asks:
            asyncio.get_running_loop().call_soon(self._flush)
        self._asks.append(ask)

    def _flush(self) -> None:
        many = max(_PART, len(self._asks) // 4)
        asks, self._asks = self._asks[:many], self._asks[many:]
        if self._asks:
            asyncio.get_running_loop().call_soon(self._flush)
        active, fresh_until = self._service.active, -math.inf
        if active is not None:  # the first has waited the longest
            seconds = active.deadline_seconds
            fresh_until = self._service.admission.fresh_until(since=asks[0].arrived, deadline_seconds=seconds)
        begun = [(ask, turn) for ask in asks if (turn := self._begin(ask, fresh_until=fresh_until)) is not None]
        judged = judge_at_once([turn for _, turn in begun])
        for (ask, turn), told in zip(begun, judged, strict=True):
            if isinstance(told, Judgement) and not self._service.once.is_running(turn):
                self._record(ask, turn, told)
            else:
                self._spawn(self._go_alone(ask, turn, told if isinstance(told, Weighed) else None))

    def _begin(self, ask: Ask, *, fresh_until: float) -> Turn | None:
        service = self._service
        try:
            if time.perf_counter() > fresh_until:
                service.admit(started=ask.arrived)
            return service.begin(service.read(ask.body), started=ask.arrived, caller=ask.caller)
        except Exception as error:  # noqa: BLE001 - a request ends here: its caller hears of it, the others go on
            self._refuse(ask, error, request_id="")
        return None

    def _record(self, ask: Ask, turn: Turn, judgement: Judgement) -> None:
        service = self._service
        service.once.hold(turn)
        try:
            record = service.record_of(turn, judgement)
            service.post(turn, record, heard=partial(self._heard, ask, turn, record))
        except Exception as error:  # noqa: BLE001 - as above
            service.once.release(turn, None)
            self._refuse(ask, error, request_id=turn.id)

    def _heard(self, ask: Ask, turn: Turn, record: AuditRecord, problem: AuditError | TryAgainError | None) -> None:
        """Answer: the record is durable, or will not be in time."""
        service = self._service
        if problem is None:
            service.once.release(turn, record)
            try:
                service.recorded(turn, record)
                self._answer(ask, Answer(status=200, body=answer_of(record)))
            except Exception as error:  # noqa: BLE001 - as above
                self._refuse(ask, error, request_id=turn.id)
        elif turn.request.request_id:
            self._spawn(self._look_up(ask, turn, problem))
        else:
            self._refuse(ask, problem, request_id=turn.id)

    async def _go_alone(self, ask: Ask, turn: Turn, weighed: Weighed | None) -> None:
        try:
            record = await self._service.run(turn, weighed=weighed)
            self._answer(ask, Answer(status=200, body=answer_of(record)))
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(ask, error, request_id=turn.id)

    async def _look_up(self, ask: Ask, turn: Turn, problem: AuditError | TryAgainError) -> None:
        record: AuditRecord | None = None
        try:
            record = await self._service.once.known(turn, problem)
            self._answer(ask, Answer(status=200, body=answer_of(record)))
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(ask, error, request_id=turn.id)
        finally:
            self._service.once.release(turn, record)

    def _answer(self, ask: Ask, answer: Answer) -> None:
        metrics = self._service.metrics
        metrics.took(time.perf_counter() - ask.arrived)
        if answer.status == 200:
            self._answered()
        else:
            metrics.count("answers", label="status", value=str(answer.status))
        ask.answered(answer)

    def _refuse(self, ask: Ask, error: Exception, *, request_id: str) -> None:
        if not isinstance(error, NbkitError):
            ask.broken(error)
            return
        try:
            answer = refusal_of(error, request_id=request_id)
        except NbkitError:
            ask.broken(error)
        else:
            self._answer(ask, answer)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
