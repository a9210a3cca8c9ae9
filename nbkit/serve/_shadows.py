"""A worker's end of the process in which versions on trial decide."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from nbkit.frames import Frames, framed
from nbkit.records import AuditRecord
from nbkit.serve._active import Active
from nbkit.serve._metrics import Metrics
from nbkit.serve._shadow_process import Batch, Judged, Shadowed, Trial
from nbkit.serve._spending import ROUTES
from nbkit.serve._turn import Turn

__all__ = ["Shadows"]

_LOG = logging.getLogger("nbkit.serve")

# A tenth of a second of work: what comes when so much waits is dropped, because a shadow may cost nobody anything.
_MOST_SHADOWS = 512

# Shadows let others gather first: a message for many costs little more than a message for one.
_GATHER_SECONDS = 0.02
_MOST_IN_A_BATCH = 64

# A call of a model without a plan takes as long for one row as for 256: then more gather.
_GATHER_WITHOUT_PLAN_SECONDS = 0.25
_MOST_WITHOUT_PLAN = 256

# Bytes of an answer: a few routes and counts. What claims to be longer is none, and must not be waited for.
_MOST_SAID = 64 * 1024

# Before a process that ended by itself is replaced; twice as long each time, until one has lasted for the longest.
_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Shadows(asyncio.Protocol):
    """Hands decisions to versions on trial; used from the event loop.

    Parameters
    ----------
    name : str
        The registered model.
    start : callable
        Starts the process and returns a channel to it (`ForkServer.start`).
    metrics : Metrics
        Counts processes that ended.
    """

    def __init__(self, name: str, *, start: Callable[[], socket.socket], metrics: Metrics) -> None:
        self._name = name
        self._start = start
        self._metrics = metrics
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._dismissed = False
        self._transport: asyncio.WriteTransport | None = None
        self._frames = Frames(most=_MOST_SAID)
        self._decoder = msgspec.msgpack.Decoder(Judged)
        self._gathered: dict[tuple[int, int], tuple[Active, Active, list[Shadowed]]] = {}
        # Handed over, in order: whom, and how many decisions.
        self._asked: deque[tuple[Trial, int]] = deque()
        # Gathered, or handed over and not yet judged.
        self.waiting = 0

    async def follow(self) -> None:
        """Keep a process while there is something on trial, until cancelled."""
        loop = asyncio.get_running_loop()
        pause = _AGAIN_SECONDS
        while True:
            await self._wanted.wait()
            self._ended.clear()
            self._dismissed = False
            begun = loop.time()
            try:
                await loop.create_unix_connection(lambda: self, sock=self._start())
                if self._dismissed:  # while it began
                    self._forget()
                await self._ended.wait()
            except OSError as error:
                _LOG.error("no process for shadows", extra={"fields": {"model": self._name, "reason": str(error)}})
            finally:
                self._forget()
            if self._dismissed:
                continue
            self._metrics.count("shadow_process_ended", label="model", value=self._name)
            if loop.time() - begun > _LONGEST_PAUSE_SECONDS:
                pause = _AGAIN_SECONDS
            fields = {"model": self._name, "again_in_seconds": pause}
            _LOG.error("shadows lost", extra={"fields": fields})
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def want(self, *, any_trial: bool) -> None:
        """Say whether anything is on trial; what was gathered for a trial that ended is dropped.

        Parameters
        ----------
        any_trial : bool
            Whether a process is needed.
        """
        if any_trial:
            self._wanted.set()
            return
        self._wanted.clear()
        self._dismissed = True
        self._forget()

    def take(self, turn: Turn, record: AuditRecord, shadow: Active) -> bool:
        """Hand over one decision; never waits.

        Parameters
        ----------
        turn : Turn
            That was answered.
        record : AuditRecord
            Durable.
        shadow : Active
            The version that is asked.

        Returns
        -------
        bool
            False where there is no process, or too much waits for it: then nothing was taken.
        """
        if self._transport is None or self.waiting >= _MOST_SHADOWS:
            return False
        answered = turn.active
        key = (id(shadow), id(answered))
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = (shadow, answered, [])
            seconds = _GATHER_SECONDS if shadow.batcher is None else _GATHER_WITHOUT_PLAN_SECONDS
            asyncio.get_running_loop().call_later(seconds, self._hand_over, key, gathered[2])
        decisions = gathered[2]
        row = turn.request.row
        # By name: the row is in the order of the contract that read it, which may be another version's.
        values = [row[name] for name in answered.names]
        decisions.append(
            Shadowed(
                record.id, record.version, record.stage, record.decision, record.received_at, record.subject, values
            )
        )
        self.waiting += 1
        if len(decisions) >= (_MOST_IN_A_BATCH if shadow.batcher is None else _MOST_WITHOUT_PLAN):
            self._hand_over(key, decisions)
        return True

    def _hand_over(self, key: tuple[int, int], decisions: list[Shadowed]) -> None:
        gathered = self._gathered.get(key)
        if gathered is None or gathered[2] is not decisions:
            return  # they went when they were many, or were dropped
        del self._gathered[key]
        shadow, answered, _ = gathered
        trial = Trial(
            self._name, shadow.version, shadow.stage, shadow.package_digest, shadow.contract_digest,
            shadow.evidence_digest, shadow.price_usd,
        )  # fmt: skip
        batch = Batch(trial, shadow.rows.same_as(answered.rows), answered.names, decisions)
        self._asked.append((trial, len(decisions)))
        cast("asyncio.WriteTransport", self._transport).write(framed(batch))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hear that the process can be asked.

        Parameters
        ----------
        transport : WriteTransport
            To it.
        """
        self._frames = Frames(most=_MOST_SAID)
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Count what the process has judged.

        Parameters
        ----------
        data : bytes
            As it arrived.
        """
        if self._transport is None:
            return
        try:
            for frame in self._frames.feed(data):
                self._count(self._decoder.decode(frame), *self._asked.popleft())
        except (msgspec.MsgspecError, ValueError, IndexError):  # no message, or an answer that nobody waits for
            _LOG.error("shadows not understood", extra={"fields": {"model": self._name}})
            self._transport.abort()

    def _count(self, judged: Judged, trial: Trial, decisions: int) -> None:
        self.waiting -= decisions
        for route, asked, times in judged.routes:
            if route in ROUTES and 0 < times <= decisions:
                decisions -= times
                self._metrics.spending.add_shadows(
                    trial.name, trial.version, trial.stage, route=route, cost=trial.price_usd if asked else "0",
                    times=times,
                )  # fmt: skip
        self._shed(decisions)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        """Hear that the process has ended.

        Parameters
        ----------
        exc : Exception or None
            Why.
        """
        self._transport = None
        self._forget()
        self._ended.set()

    def _forget(self) -> None:
        """Let the process end, and what waits for it."""
        if self._transport is not None:
            self._transport.abort()  # one that hangs would never read what is still to be sent
            self._transport = None
        self._gathered.clear()
        self._asked.clear()
        self._shed(self.waiting)
        self.waiting = 0

    def _shed(self, times: int) -> None:
        if times:
            self._metrics.count("shed", label="queue", value="shadows", times=times)
