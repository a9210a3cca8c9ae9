"""uvicorn, told when a request was whole and that it is stopping."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from nbkit.serve._express import Express
from nbkit.serve._http import ARRIVED, REPLY, Reply, Scope, Send, respond

__all__ = ["Server", "StampingProtocol"]


class _Outbox:
    """Writes the replies of one turn of the loop one right after the other.

    A write that wakes a sleeping caller costs several times one to a caller that is awake: most of a reply.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[StampingProtocol, bytes, bool]] = []

    def put(self, protocol: StampingProtocol, data: bytes, *, closes: bool) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting or loop is not self._loop:
            # What a loop that ended has left is for nobody.
            self._loop, self._waiting = loop, []
            loop.call_soon(self._flush)
        self._waiting.append((protocol, data, closes))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for protocol, data, _ in waiting:
            # A connection that is lost hears so by itself; the replies behind it are for others.
            with suppress(OSError, RuntimeError):
                if not protocol.transport.is_closing():
                    protocol.transport.write(data)
        for protocol, _, closes in waiting:
            with suppress(OSError, RuntimeError):
                protocol.was_sent(closes=closes)


class StampingProtocol(HttpToolsProtocol):
    """Notes when the last byte of a request was read, which starts its deadline, and sends a whole reply at once.

    A decision whose request arrives in one piece goes to the express; everything else becomes a task of the
    application.
    """

    express: Express | None = None
    _outbox = _Outbox()
    _unsent = 0
    _stopping = False
    _feeding = False
    # Whose head is parsed and whose body is not, while bytes are fed.
    _held: RequestResponseCycle | None = None

    def data_received(self, data: bytes) -> None:
        """Parse; a request that stays unfinished is the application's, with the limits it has for that.

        Parameters
        ----------
        data : bytes
            As it arrived.
        """
        self._feeding = True
        super().data_received(data)
        self._feeding = False
        if self._held is not None:
            cycle, self._held = self._held, None
            super()._start_asgi_task(cycle, self.app)

    def on_message_complete(self) -> None:
        """Stamp the request, then go on as uvicorn does."""
        cycle = self.cycle
        if cycle is not None:
            scope = cast("Scope", cycle.scope)
            scope[ARRIVED] = time.perf_counter()
            scope[REPLY] = partial(self._reply, cycle)
        super().on_message_complete()
        if self._held is not None and self._held is cycle:
            self._held = None
            self._offer(cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope = cast("Scope", cycle.scope)
        express = self.express
        if self._unsent:
            # The reply before is done and not sent: sending it starts what comes next, which must be this one alone.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        elif express is None or app is not self.app or cycle.waiting_for_100_continue or not express.takes(scope):
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self._offer(cycle)  # it waited in the pipeline
        elif self._feeding:
            self._held = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _offer(self, cycle: RequestResponseCycle) -> None:
        cast("Express", self.express).offer(cast("Scope", cycle.scope), bytes(cycle.body), partial(self._send, cycle))

    def _send(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        if not self._reply(cycle, reply) and not cycle.disconnected:
            # The caller reads too slowly: wait for him, as the server does.
            task = self.loop.create_task(respond(cast("Send", cycle.send), reply))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    def _reply(self, cycle: RequestResponseCycle, reply: Reply) -> bool:
        """Send a reply in one piece; return False where only the server's own way can."""
        if self.flow.write_paused or cycle.response_started or cycle.disconnected:
            return False
        head = [STATUS_LINE[reply.status], b"content-type: ", reply.kind, b"\r\ncontent-length: %d" % len(reply.body)]
        closes = not cycle.keep_alive
        for name, value in reply.headers:
            head += (b"\r\n", name, b": ", value)
            closes |= name == b"connection" and value == b"close"
        if not cycle.keep_alive:
            head.append(b"\r\nconnection: close")
        head += (b"\r\n\r\n", b"" if cycle.scope["method"] == "HEAD" else reply.body)
        # For the server's own cycle it is done; nobody but `was_sent` says so to the connection.
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self._unsent += 1
        self._outbox.put(self, b"".join(head), closes=closes)
        return True

    def was_sent(self, *, closes: bool) -> None:
        """Go on after a reply that `_reply` took.

        Parameters
        ----------
        closes : bool
            Whether the connection ends with it.
        """
        self._unsent -= 1
        if closes or self._stopping:
            self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Close now, or after the reply that is on its way."""
        if self._unsent and not self.pipeline:
            self._stopping = True
        else:
            super().shutdown()


class Server(uvicorn.Server):
    """Says when it begins, and that it is stopping before it stops.

    Parameters
    ----------
    config : uvicorn.Config
        Of the server.
    starting : callable
        Called on the loop before the first connection is taken.
    stopping : callable
        Called on the first SIGTERM or SIGINT.
    """

    def __init__(self, config: uvicorn.Config, *, starting: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._starting = starting
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin.

        Parameters
        ----------
        sockets : list of socket, optional
            To listen on.
        """
        self._starting()
        await super().startup(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop.

        Parameters
        ----------
        sig, frame : int and frame
            As a signal handler gets them.
        """
        self._stopping()
        super().handle_exit(sig, frame)
