"""uvicorn, told when a request was whole and that it is stopping."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from nbkit.serve._express import Express
from nbkit.serve._head import KnownHead
from nbkit.serve._http import ARRIVED, REPLY, Reply, Scope

__all__ = ["Server", "StampingProtocol"]

# A caller whose heads differ each time, by a trace for example, is not learned from any more.
_MOST_HEADS = 4


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
        # A connection that is lost hears so by itself; the replies behind it are for others.
        for protocol, data, _ in waiting:
            try:
                if not protocol.transport.is_closing():
                    protocol.transport.write(data)
            except (OSError, RuntimeError):
                continue
        for protocol, _, closes in waiting:
            try:
                protocol.was_sent(closes=closes)
            except (OSError, RuntimeError):
                continue


class _Quick:
    """A decision on its way, as far as uvicorn's connection wants to know of it: most of its own cycle is for tasks."""

    __slots__ = ("body", "disconnected", "headers", "keep_alive", "path", "response_complete", "response_started")

    scope: Mapping[str, object] = {"method": "POST"}  # of every decision
    message_event = asyncio.Event()  # for which nobody waits

    def __init__(self, path: bytes, headers: list[tuple[bytes, bytes]], *, keep_alive: bool) -> None:
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = self.response_started = self.response_complete = False


_Cycle = _Quick | RequestResponseCycle


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
    # Whether the parser waits for a head, and what it has seen the last time.
    _between = True
    _head: KnownHead | None = None
    _heads = 0
    _learning: _Quick | None = None
    # Whose head is parsed and whose body is not, while bytes are fed.
    _held: _Quick | None = None
    # When the last reply was sent, while no request is there, on the loop's clock.
    _idle_since: float | None = None

    def data_received(self, data: bytes) -> None:
        """Parse; a request that stays unfinished is the application's, with the limits it has for that.

        Parameters
        ----------
        data : bytes
            As it arrived.
        """
        at_a_head = self._between
        known = self.match_known(data)
        if known is not None:
            self._unset_keepalive_if_required()
            self.on_known_head()
            head = cast("KnownHead", self._head)
            cycle = _Quick(head.url, [], keep_alive=True)
            self.cycle = cast("RequestResponseCycle", cycle)
            self._offer(cycle, *known, head=head)
            return
        self._feeding = True
        super().data_received(data)
        self._feeding = False
        learned, self._learning = self._learning, None
        if learned is not None and at_a_head and self._between and learned.keep_alive and self._heads < _MOST_HEADS:
            self._heads += 1
            self._head = KnownHead.learn(data, url=learned.path, headers=learned.headers)
        held, self._held = self._held, None
        if held is not None and not self.transport.is_closing():
            self.cycle = cast("RequestResponseCycle", None)  # as if this head came now
            self._make_cycle(held.path, held.headers)
            self.on_body(held.body)

    def on_message_begin(self) -> None:
        """Begin a head; what a task would need of it is put together when it turns out to become one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._between = False

    def match_known(self, data: bytes) -> tuple[bytes, Mapping[bytes, bytes]] | None:
        """Return body and headers of a request whose head is known; None where anything is out of the ordinary.

        Parameters
        ----------
        data : bytes
            As it arrived.

        Returns
        -------
        tuple or None
            As `KnownHead.match` returns it; the headers are for reading at once.
        """
        return self._head.match(data) if self._head is not None and self._between and self._is_free() else None

    def is_known(self, data: bytes) -> bool:
        """Whether `match_known` would return something, for who does not want to know what.

        Parameters
        ----------
        data : bytes
            As it arrived.

        Returns
        -------
        bool
            Costs less, because nothing is taken out.
        """
        return self._head is not None and self._between and self._is_free() and self._head.find_body(data) > 0

    def on_known_head(self) -> None:
        """Hear that a head came which the parser has not been shown again."""

    def _is_free(self) -> bool:
        """Whether nothing else goes on here, and the server holds fewer connections than it may."""
        cycle = self.cycle
        return (
            not self._unsent
            and (cycle is None or cycle.response_complete)
            and len(self.connections) < (self.limit_concurrency or sys.maxsize)
        )

    def on_headers_complete(self) -> None:
        """Keep a decision for the express, if nothing else goes on here."""
        parser = self.parser
        if (
            self._feeding
            and self.express is not None
            and self.url in self.express.paths
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not (self.expect_100_continue or parser.should_upgrade())
            and self._is_free()
        ):
            self._held = _Quick(self.url, self.headers, keep_alive=parser.should_keep_alive())
            self.cycle = cast("RequestResponseCycle", self._held)
        else:
            self._make_cycle(self.url, self.headers)

    def _make_cycle(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Go on as uvicorn does."""
        expects = self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep what has come of a body.

        Parameters
        ----------
        body : bytes
            The next part.
        """
        held = self._held
        if held is None:
            super().on_body(body)
        else:
            held.body = held.body + body if held.body else body

    def on_message_complete(self) -> None:
        """Stamp the request; offer a decision, or go on as uvicorn does."""
        self._between = not self.parser.should_upgrade()
        held = self._held
        if held is not None:
            self._held, self._learning = None, held
            self._offer(held, held.body, dict(held.headers))
            return
        cycle = self.cycle
        if cycle is not None:
            scope = cast("Scope", cycle.scope)
            scope[ARRIVED] = time.perf_counter()
            scope[REPLY] = partial(self._reply, cycle)
        super().on_message_complete()

    def _offer(
        self, cycle: _Quick, body: bytes, headers: Mapping[bytes, bytes], *, head: KnownHead | None = None
    ) -> None:
        express = cast("Express", self.express)
        reply = partial(self._send, cycle)
        express.offer(cycle.path, headers, body, arrived=time.perf_counter(), reply=reply, head=head)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._unsent:
            # The reply before is done and not sent: sending it starts what comes next, which must be this one alone.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            super()._start_asgi_task(cycle, app)

    def _send(self, cycle: _Quick, reply: Reply) -> None:
        if not self._reply(cycle, reply) and not cycle.disconnected:
            # The caller reads too slowly: wait for him, as the server does.
            task = self.loop.create_task(self._send_when_he_reads(cycle, reply))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    async def _send_when_he_reads(self, cycle: _Quick, reply: Reply) -> None:
        while self.flow.write_paused:
            await self.flow.drain()
        self._reply(cycle, reply)

    def _reply(self, cycle: _Cycle, reply: Reply) -> bool:
        """Send a reply in one piece; return False where only the server's own way can."""
        if self.flow.write_paused or cycle.response_started or cycle.disconnected:
            return False
        closes = not cycle.keep_alive
        more = b"\r\nconnection: close" if closes else b""
        for name, value in reply.headers:
            more += b"\r\n%b: %b" % (name, value)
            closes |= name == b"connection" and value == b"close"
        data = b"%bcontent-type: %b\r\ncontent-length: %d%b\r\n\r\n%b" % (
            STATUS_LINE[reply.status], reply.kind, len(reply.body), more,
            b"" if cycle.scope["method"] == "HEAD" else reply.body,
        )  # fmt: skip
        # For the server's own cycle it is done; nobody but `was_sent` says so to the connection.
        cycle.response_started = cycle.response_complete = True
        if isinstance(cycle, RequestResponseCycle):
            cycle.message_event.set()
            # What leads back to the cycle would keep it until somebody looks for garbage.
            cast("Scope", cycle.scope).pop(REPLY, None)
        self._unsent += 1
        self._outbox.put(self, data, closes=closes)
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

    def on_response_complete(self) -> None:
        """Begin what waits in the pipeline, or note since when the connection is idle, without a timer each time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._be_idle()

    def _be_idle(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_when_idle(self.timeout_keep_alive)

    def _close_when_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; look again later at one that has not."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._close_when_idle(left)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer.

        Parameters
        ----------
        exc : Exception or None
            Why it ended.
        """
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

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
