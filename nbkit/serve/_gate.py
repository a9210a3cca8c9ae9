"""How many requests are let in at once: as many as are answered in half of their deadline, found by trying.

Turning a request away inside the application costs half of answering it; under three times the load a worker would do
little else. So the gate stands before the parser, and lets in what can be answered in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from nbkit.serve._connection import PatientProtocol
from nbkit.serve._express import Express
from nbkit.serve._metrics import Metrics

__all__ = ["Gate", "gated_protocol"]

# Fewer would leave commits half empty, more than the server holds connections is no limit.
_FEWEST = 8
_MOST = 4096
_FIRST = 256

# Of the limit: before the first is turned away.
_CROWDED = 0.75

# After an answer that took too long.
_SHRINK = 0.8

_BODY = (
    b'{"error":{"code":"overloaded","message":"more requests than can be answered in time","problems":[]},'
    b'"request_id":""}'
)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: "
    + b"%d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class Gate:
    """Counts requests inside, and learns how many that may be: more while answers are quick, fewer when not.

    Parameters
    ----------
    quick : float
        In how many seconds an answer is quick; may be set again.
    metrics : Metrics
        Counts who is turned away.
    clock : callable
        Seconds that never go back.

    Examples
    --------
    >>> gate = Gate(quick=0.05, metrics=Metrics(), clock=lambda: 1.0)
    >>> gate.enter()
    >>> gate.leave(0.2)
    >>> gate.limit
    204.8
    """

    __slots__ = ("_clock", "_shrunk_at", "inside", "limit", "quick", "turn_away")

    def __init__(self, *, quick: float, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self.quick = quick
        # Counts one who does not come in.
        self.turn_away = metrics.counter("shed", label="queue", value="connections")
        self._clock = clock
        self._shrunk_at = 0.0
        self.inside = 0
        self.limit = float(_FIRST)

    def lets_in(self) -> bool:
        """Return whether one more may come in.

        Returns
        -------
        bool
            Whoever comes in calls ``enter`` and ``leave``; for who does not, ``turn_away`` is called.
        """
        return self.inside < self.limit

    @property
    def is_crowded(self) -> bool:
        """Whether hardly more may come in: what nobody waits for has no place then."""
        return self.inside >= self.limit * _CROWDED

    def enter(self) -> None:
        """Count one in."""
        self.inside += 1

    def leave(self, seconds: float | None) -> None:
        """Count one out.

        Parameters
        ----------
        seconds : float or None
            How long it was inside; None when nobody waited for an answer.
        """
        was_busy = self.inside >= self.limit / 2
        self.inside -= 1
        if seconds is None:
            return
        if seconds <= self.quick:
            if was_busy:
                self.limit = min(self.limit + 1 / self.limit, _MOST)
        elif (now := self._clock()) - self._shrunk_at > self.quick:
            # Once for all who were inside together.
            self._shrunk_at = now
            self.limit = max(self.limit * _SHRINK, _FEWEST)


class _GatedProtocol(PatientProtocol):
    """Asks the gate before a request is parsed."""

    def __init__(self, *, gate: Gate, express: Express | None = None, **given: Any) -> None:
        super().__init__(**given)
        self._gate = gate
        self.express = express
        self._entered: float | None = None

    def data_received(self, data: bytes) -> None:
        if self._entered is None and data.startswith(b"POST "):
            gate = self._gate
            if not gate.lets_in() and (self.is_known(data) or self._may_be_turned_away(data)):
                gate.turn_away()
                self._say_busy()
                return
            self._entered = time.perf_counter()
            gate.enter()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._left(answered=True)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left(answered=False)
        super().connection_lost(exc)

    def _left(self, *, answered: bool) -> None:
        if self._entered is not None:
            self._gate.leave(time.perf_counter() - self._entered if answered else None)
            self._entered = None

    def _say_busy(self) -> None:
        """Say 503; the connection then waits for its next request as after any reply."""
        if self._timer is not None:
            self._stop_waiting()
        self.transport.write(BUSY)
        self._be_idle()

    def _may_be_turned_away(self, data: bytes) -> bool:
        """Whether these bytes are one whole request on a connection where nothing else is going on."""
        head, found, body = data.partition(b"\r\n\r\n")
        said = head.lower()
        at = said.find(b"\r\ncontent-length:")
        if (
            not found
            or at < 0
            # Whoever stands in front may see another end of it: that is for the parser to refuse.
            or said.count(b"content-length") > 1
            or b"transfer-encoding" in said
            or self._in_head
            or self._unsent
            or (self.cycle is not None and not self.cycle.response_complete)
        ):
            return False
        length = head[at + 17 :].split(b"\r\n", 1)[0].strip()
        return length.isdigit() and int(length) == len(body) and b"close" not in head


def gated_protocol(gate: Gate, *, express: Express | None = None) -> Callable[..., _GatedProtocol]:
    """Return what makes the server's connections.

    Parameters
    ----------
    gate : Gate
        Of this worker.
    express : Express, optional
        Takes the decisions.

    Returns
    -------
    callable
        For uvicorn's ``http``.
    """
    return partial(_GatedProtocol, gate=gate, express=express)
