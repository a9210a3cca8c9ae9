"""No connection stays for ever without a request of its own: whatever is sent on it, and whatever is not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from nbkit.serve import _connection as connection_module
from nbkit.serve._connection import PatientProtocol
from nbkit.serve._gate import BUSY, Gate, _GatedProtocol
from nbkit.serve._metrics import Metrics

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
ASKED = b"POST /decide HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


class Transport:
    """Keeps what is written, and says when it ends."""

    def __init__(self) -> None:
        self.written = b""
        self.unread = 0
        self.ended = asyncio.Event()
        self.how = ""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        self.how = self.how or how
        self.ended.set()

    def is_closing(self) -> bool:
        return self.ended.is_set()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str) -> None:
        return None


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers without reading a body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def config() -> uvicorn.Config:
    return uvicorn.Config(application, lifespan="off", log_config=None)


def play(story: Callable[[PatientProtocol, Transport], Awaitable[None]]) -> Transport:
    async def all_of_it() -> Transport:
        protocol = PatientProtocol(config=config(), server_state=ServerState(), app_state={})
        transport = Transport()
        protocol.connection_made(transport)
        await asyncio.wait_for(story(protocol, transport), timeout=20)
        protocol.connection_lost(None)
        return transport

    return asyncio.run(all_of_it())


async def answered(transport: Transport, *, times: int = 1) -> None:
    while transport.written.count(b"200 OK") < times or not transport.written.endswith(b"ok"):
        await asyncio.sleep(0)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.02)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("head", "after"),
    [(HEALTH + b"\r\n", b"\r\n"), (HEALTH + b"content-length: 100000\r\n\r\n", b"x")],
    ids=["blank lines", "a body that nobody wants"],
)
def test_what_belongs_to_no_request_keeps_no_connection_open(head: bytes, after: bytes) -> None:
    async def story(protocol: PatientProtocol, transport: Transport) -> None:
        protocol.data_received(head)
        await answered(transport)
        while not transport.is_closing():
            protocol.data_received(after)
            await asyncio.sleep(0.001)

    assert play(story).how == "closed"


def test_a_request_that_follows_is_waited_for_no_longer() -> None:
    async def story(protocol: PatientProtocol, transport: Transport) -> None:
        protocol.data_received(HEALTH + b"\r\n")
        await answered(transport)
        protocol.data_received(b"\r\n")
        assert protocol._timer is not None
        protocol.data_received(HEALTH + b"\r\n")
        assert protocol._timer is None
        await answered(transport, times=2)

    assert play(story).how == "closed"  # by the caller


def test_who_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "READ_SECONDS", 0.02)

    async def story(protocol: PatientProtocol, transport: Transport) -> None:
        protocol.pause_writing()
        protocol.pause_writing()
        await transport.ended.wait()

    assert play(story).how == "aborted"


def test_who_reads_in_time_stays() -> None:
    async def story(protocol: PatientProtocol, transport: Transport) -> None:
        protocol.pause_writing()
        assert protocol._unread is not None
        protocol.resume_writing()
        assert protocol._unread is None
        assert not transport.is_closing()

    play(story)


@pytest.mark.parametrize(("unread", "how"), [(0, "closed"), (7, "aborted")])
def test_an_idle_connection_ends_also_where_the_last_reply_was_never_read(unread: int, how: str) -> None:
    async def story(protocol: PatientProtocol, transport: Transport) -> None:
        transport.unread = unread
        protocol.timeout_keep_alive_handler()
        assert not transport.is_closing()  # nothing was asked and answered yet
        protocol._idle_since = protocol.loop.time() - protocol.timeout_keep_alive
        protocol.timeout_keep_alive_handler()

    assert play(story).how == how


def gated(story: Callable[[_GatedProtocol, Transport, Gate], None]) -> None:
    async def all_of_it() -> None:
        gate = Gate(quick=1.0, metrics=Metrics())
        while gate.lets_in():
            gate.enter()
        protocol = _GatedProtocol(gate=gate, config=config(), server_state=ServerState(), app_state={})
        transport = Transport()
        protocol.connection_made(transport)
        story(protocol, transport, gate)
        await asyncio.sleep(0)
        protocol.connection_lost(None)

    asyncio.run(all_of_it())


def test_who_was_turned_away_is_waited_for_as_after_any_reply() -> None:
    def story(protocol: _GatedProtocol, transport: Transport, gate: Gate) -> None:
        protocol.data_received(ASKED)
        assert transport.written == BUSY
        assert protocol._timer is None
        assert protocol.timeout_keep_alive_task is not None

    gated(story)


@pytest.mark.parametrize("other", [b"transfer-encoding: chunked\r\n", b"content-length: 1\r\n"])
def test_a_request_whose_end_is_in_doubt_is_for_the_parser(other: bytes) -> None:
    def story(protocol: _GatedProtocol, transport: Transport, gate: Gate) -> None:
        inside = gate.inside
        protocol.data_received(ASKED.replace(b"content-length", other + b"content-length", 1))
        assert BUSY not in transport.written
        assert b"400 Bad Request" in transport.written
        assert gate.inside == inside + 1

    gated(story)
