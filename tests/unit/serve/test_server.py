"""The server's connections by themselves: in which order what is decided is sent, and when they end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from nbkit.serve import AccessFile
from nbkit.serve import _server as server_module
from nbkit.serve._answer import Answer
from nbkit.serve._app import Endpoint
from nbkit.serve._express import Express
from nbkit.serve._guard import AccessGuard
from nbkit.serve._http import ARRIVED, JSON, REPLY, Call, RefusedError, Reply
from nbkit.serve._lane import Ask
from nbkit.serve._metrics import Metrics
from nbkit.serve._server import Server, StampingProtocol
from nbkit.serve._turn import ANYONE, Caller

PATH = "/decide"


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> None:
        return None

    @property
    def bodies(self) -> list[str]:
        """Of the replies, in order."""
        return [part.split(b"\r\n\r\n")[1].decode() for part in self.written.split(b"HTTP/1.1 ")[1:]]


class Offered:
    """Takes decisions in place of the express, and lets the test answer them; "now" is refused at once."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[Reply], None]] = {}

    paths = frozenset({PATH.encode()})

    def offer(
        self, url: bytes, headers: Any, body: bytes, *, arrived: float, reply: Callable[[Reply], None], head: Any
    ) -> None:
        assert head is None or head.headers is headers
        assert url == PATH.encode()
        assert arrived > 0
        assert dict(headers)[b"host"] == b"x"
        if body == b"now":
            reply(Reply(status=415, body=b"refused"))
        else:
            self.waiting[body.decode()] = reply

    def answer(self, name: str, **changes: Any) -> None:
        self.waiting.pop(name)(Reply(body=name.encode(), **changes))


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, whole where it may."""
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message.get("body", b"")
    assert scope[ARRIVED] > 0
    if not scope[REPLY](Reply(body=b"app " + body)):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (4 + len(body)))]}
        )
        await send({"type": "http.response.body", "body": b"app " + body})


class Connection:
    """A protocol with its transport."""

    def __init__(self) -> None:
        config = uvicorn.Config(application, http=StampingProtocol, lifespan="off", log_config=None)  # type: ignore[arg-type]
        self.protocol = StampingProtocol(config=config, server_state=ServerState(), app_state={})
        self.offered = Offered()
        self.protocol.express = self.offered  # type: ignore[assignment]
        self.transport = Transport()
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    def receive(self, *bodies: str, path: str = PATH, head: str = "") -> None:
        """Requests in one packet."""
        self.protocol.data_received(b"".join(whole(body, path=path, head=head) for body in bodies))

    def end(self) -> None:
        self.protocol._unset_keepalive_if_required()


def whole(body: str, *, path: str = PATH, head: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def turns() -> None:
    """A few turns of the loop: what is scheduled is done."""
    for _ in range(6):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    # One for all connections of a process; a test has a loop of its own.
    monkeypatch.setattr(StampingProtocol, "_outbox", server_module._Outbox())


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[Connection], Any]], Connection]]:
    def run(play: Callable[[Connection], Any]) -> Connection:
        async def all_of_it() -> Connection:
            connection = Connection()
            await play(connection)
            await turns()
            connection.end()
            return connection

        return asyncio.run(all_of_it())

    return run


Run = Callable[[Callable[[Connection], Any]], Connection]


def test_what_is_refused_at_once_does_not_let_the_third_overtake_the_second(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("now", "two", "now", "four")

    connection = run(play)
    # What is sent before the reply to the first has left is the application's, one after the other.
    assert connection.transport.bodies == ["refused", "app two", "app now", "app four"]
    assert connection.transport.reading


def test_the_application_and_the_express_take_turns_on_a_connection(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one")
        connection.protocol.data_received(whole("other", path="/other") + whole("three"))
        await turns()
        assert connection.transport.bodies == []
        connection.offered.answer("one")
        await turns()
        connection.receive("four")
        connection.offered.answer("four")

    assert run(play).transport.bodies == ["one", "app other", "app three", "four"]


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda sent: sent.replace(b"POST", b"PUT"), {}),
        (lambda sent: sent.replace(b"HTTP/1.1", b"HTTP/1.0"), {}),
        (lambda sent: sent, {"head": "expect: 100-continue\r\n"}),
        (lambda sent: sent, {"path": PATH + "?x=1"}),
    ],
)
def test_what_is_out_of_the_ordinary_is_the_applications(run: Run, change: Any, given: dict[str, str]) -> None:
    async def play(connection: Connection) -> None:
        connection.protocol.data_received(change(whole("one", **given)))

    connection = run(play)
    assert connection.offered.waiting == {}
    assert connection.transport.bodies[-1] == "app one"


def test_a_head_that_came_before_is_not_parsed_again(run: Run) -> None:
    async def play(connection: Connection) -> None:
        shown: list[bytes] = []
        parser = connection.protocol.parser

        class Watching:
            def __getattr__(self, name: str) -> Any:
                return getattr(parser, name)

            def feed_data(self, data: bytes) -> None:
                shown.append(data)
                parser.feed_data(data)

        connection.protocol.parser = Watching()
        sent = [whole(body) for body in ("one", "three", "a body of another length", "one")]
        sent += [
            whole("elsewhere", path="/other"),
            whole("one"),
            whole("x", head="x-new: 1\r\n"),
            whole("yy", head="x-new: 1\r\n"),
        ]
        for each in sent:
            connection.protocol.data_received(each)
            await turns()
            for name in list(connection.offered.waiting):
                connection.offered.answer(name)
            await turns()
        # The first, what goes elsewhere, and the first with another header.
        assert shown == [sent[0], sent[4], sent[6]]

    connection = run(play)
    answered = ["one", "three", "a body of another length", "one", "app elsewhere", "one", "x", "yy"]
    assert connection.transport.bodies == answered


def test_heads_that_differ_each_time_are_not_remembered(run: Run) -> None:
    async def play(connection: Connection) -> None:
        for number in range(12):
            connection.receive("one", head=f"traceparent: {number}\r\n")
            connection.offered.answer("one")
            await turns()
        assert connection.protocol._heads == server_module._MOST_HEADS

    assert run(play).transport.bodies == ["one"] * 12


@pytest.mark.parametrize(
    "second",
    [
        whole("two")[:-1],
        whole("two") + whole("more"),
        whole("two") + b"x",
        whole("two").replace(b"length: 3", b"length: 4"),
        whole("two").replace(b"length: 3", b"length: +3"),
        whole("two").replace(b"length: 3", b"length: 3 "),
        whole("two").replace(b"length: 3", b"length: 0x3"),
        whole("two").replace(b"length: 3", b"length: 99999999999"),
        whole("two").replace(b"content-length: 3", b"transfer-encoding: chunked"),
        whole("two", head="content-length: 3\r\n"),
        whole("two", head="expect: 100-continue\r\n"),
        whole("two", head="connection: close\r\n"),
        whole("two").replace(b"HTTP/1.1", b"HTTP/1.0"),
        whole("two").replace(b"POST", b"post"),
        whole("two").replace(b"\r\n", b"\n"),
        b"\r\n" + whole("two"),
        b"",
    ],
)
def test_a_request_after_a_known_head_is_read_as_it_would_be_without(run: Run, second: bytes) -> None:
    def play(*, knows: bool) -> Connection:
        async def asked(connection: Connection) -> None:
            connection.protocol._heads = 0 if knows else server_module._MOST_HEADS
            connection.receive("one")
            connection.offered.answer("one")
            await turns()
            assert (connection.protocol._head is not None) == knows
            connection.protocol.data_received(second)
            await turns()
            offered.append(sorted(connection.offered.waiting))
            for name in list(connection.offered.waiting):
                connection.offered.answer(name)
            await turns()
            if not connection.transport.closed:
                connection.protocol.data_received(whole("three"))
            await turns()
            if "three" in connection.offered.waiting:
                connection.offered.answer("three")

        return run(asked)

    offered: list[list[str]] = []
    known, unknown = play(knows=True), play(knows=False)
    assert known.transport.written == unknown.transport.written
    assert known.transport.closed == unknown.transport.closed
    assert offered[0] == offered[1]


def test_who_is_known_by_his_head_is_asked_for_his_key_each_time(run: Run, tmp_path: Path) -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    file, key, token = AccessFile.begin().add("shop", scopes=["decide"], now=now)
    file.save(tmp_path / "keys.json")
    guard = AccessGuard(keys=tmp_path / "keys.json", tokens=None, now=lambda: now, metrics=Metrics())
    lane, head = Lanes(), f"content-type: application/json\r\nx-api-key: {token}\r\n"

    async def play(connection: Connection) -> None:
        protocol = connection.protocol
        protocol.express = express_of(lane, guard=guard)
        connection.receive("one", head=head)
        lane.asks[0].answered(Answer(status=200, body={}))
        await turns()
        protocol.parser = None  # type: ignore[assignment]  # whoever asked it now would fail
        connection.receive("two", head=head)
        lane.asks[1].answered(Answer(status=200, body={}))
        await turns()
        file.revoke(key.id, now=now).save(tmp_path / "keys.json")
        guard.reread()
        connection.receive("three", head=head)

    connection = run(play)
    assert [ask.body for ask in lane.asks] == [b"one", b"two"]
    said = [part.split(b" ")[0] for part in connection.transport.written.split(b"HTTP/1.1 ")[1:]]
    assert said == [b"200", b"200", b"401"]


def test_a_known_head_with_too_large_a_body_is_refused(run: Run) -> None:
    lane, head = Lanes(), "content-type: application/json\r\n"

    async def play(connection: Connection) -> None:
        connection.protocol.express = express_of(lane, guard=lambda *_: ANYONE)
        connection.receive("one", head=head)
        lane.asks[0].answered(Answer(status=200, body={}))
        await turns()
        connection.protocol.parser = None  # type: ignore[assignment]
        connection.receive("x" * 11, head=head)

    connection = run(play)
    assert len(lane.asks) == 1
    assert connection.transport.written.count(b"HTTP/1.1 413 ") == 1
    assert connection.transport.closed


def test_a_decision_behind_a_known_head_is_the_last_of_a_connection_that_is_told_to_stop(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one")
        connection.offered.answer("one")
        await turns()
        connection.receive("two")
        connection.protocol.shutdown()
        assert not connection.transport.closed
        connection.offered.answer("two")

    connection = run(play)
    assert connection.transport.bodies == ["one", "two"]
    assert connection.transport.written.count(b"connection: close") == 1
    assert connection.transport.closed


def test_too_many_connections_are_told_so_by_the_server(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.protocol.limit_concurrency = 1
        connection.receive("one")

    connection = run(play)
    assert connection.offered.waiting == {}
    assert connection.transport.written.startswith(b"HTTP/1.1 503 ")


def test_a_request_leaves_no_garbage(run: Run) -> None:
    """Looking for it would hold everybody up for tens of milliseconds."""

    async def play(connection: Connection) -> None:
        def ask(times: int) -> int:
            for number in range(times):
                connection.receive(f"{number}")
                connection.offered.answer(f"{number}")
                connection.protocol._outbox._flush()
            return gc.collect()

        ask(1)
        assert ask(20) == ask(1)

    gc.disable()
    try:
        run(play)
    finally:
        gc.enable()


def test_a_connection_that_is_idle_is_closed(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.protocol.timeout_keep_alive = 0.05
        connection.receive("one")
        connection.offered.answer("one")
        await asyncio.sleep(0.03)
        connection.receive("two")
        await asyncio.sleep(0.1)
        assert not connection.transport.closed  # the second is being decided
        connection.offered.answer("two")
        closed = asyncio.get_running_loop().time()
        while not connection.transport.closed:
            await asyncio.sleep(0.005)
        assert asyncio.get_running_loop().time() - closed >= 0.05
        connection.protocol.connection_lost(None)

    assert run(play).transport.bodies == ["one", "two"]


def test_a_connection_that_was_busy_when_its_time_came_is_looked_at_again(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.protocol.timeout_keep_alive = 0.2
        for name in ("one", "two"):
            connection.receive(name)
            connection.offered.answer(name)
            await asyncio.sleep(0.12)
        assert not connection.transport.closed
        while not connection.transport.closed:
            await asyncio.sleep(0.005)

    run(play)


def test_a_body_that_does_not_come_with_its_head_is_the_applications(run: Run) -> None:
    async def play(connection: Connection) -> None:
        begun = whole("in pieces")
        connection.protocol.data_received(begun[:-4])
        await turns()
        assert connection.offered.waiting == {}
        connection.protocol.data_received(begun[-4:])
        await turns()
        # Begun while another is decided: the piece that waits in the pipeline is the application's too.
        connection.protocol.data_received(whole("first") + begun[:-4])
        connection.offered.answer("first")
        await turns()
        connection.protocol.data_received(begun[-4:])

    assert run(play).transport.bodies == ["app in pieces", "first", "app in pieces"]


def test_a_connection_that_is_told_to_stop_sends_the_reply_that_is_on_its_way(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one")
        connection.offered.answer("one")
        connection.protocol.shutdown()
        assert not connection.transport.closed

    connection = run(play)
    assert connection.transport.bodies == ["one"]
    assert connection.transport.closed


def test_a_connection_that_is_told_to_stop_answers_what_waits_in_its_pipeline(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one", "two")
        connection.offered.answer("one")
        connection.protocol.shutdown()
        assert not connection.transport.closed

    connection = run(play)
    assert connection.transport.bodies == ["one", "app two"]
    assert b"connection: close" in connection.transport.written.split(b"HTTP/1.1 ")[2]
    assert connection.transport.closed


def test_an_idle_connection_that_is_told_to_stop_closes(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.protocol.shutdown()

    assert run(play).transport.closed


def test_nothing_is_written_for_a_caller_who_has_gone(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one")
        connection.protocol.connection_lost(None)
        connection.offered.answer("one")

    assert run(play).transport.written == b""


def test_nothing_is_written_to_a_connection_that_closed_before_the_turn_ended(run: Run) -> None:
    async def play(connection: Connection) -> None:
        other = Connection()
        for each in (connection, other):
            each.receive("one")
            each.offered.answer("one")
        connection.transport.closed = True
        await turns()
        assert other.transport.bodies == ["one"]
        other.end()

    assert run(play).transport.written == b""


def test_a_reply_to_who_does_not_read_waits_until_he_does(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one", "two")
        connection.protocol.pause_writing()
        connection.offered.answer("one")
        await turns()
        assert connection.transport.bodies == []
        assert connection.offered.waiting == {}  # nor is the next begun
        connection.protocol.resume_writing()
        await turns()

    assert run(play).transport.bodies == ["one", "app two"]


def test_a_reply_may_end_the_connection(run: Run) -> None:
    async def play(connection: Connection) -> None:
        connection.receive("one")
        connection.offered.answer("one", headers=[(b"connection", b"close")])

    connection = run(play)
    assert connection.transport.closed
    assert connection.transport.written.count(b"connection: close") == 1


def test_a_server_says_when_it_begins_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    async def begin(self: uvicorn.Server, sockets: Any = None) -> None:
        said.append("began")

    monkeypatch.setattr(uvicorn.Server, "startup", begin)
    server = Server(
        uvicorn.Config(application), starting=lambda: said.append("begins"), stopping=lambda: said.append("stops")
    )
    asyncio.run(server.startup())
    server.handle_exit(15, None)
    assert (said, server.should_exit) == (["begins", "began", "stops"], True)


class Lanes:
    """A lane that keeps what it is given."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def take(self, ask: Ask) -> None:
        self.asks.append(ask)


def express_of(lane: Lanes, *, guard: Callable[[Any, Endpoint], Caller]) -> Express:
    async def nothing(_: Call) -> Reply:
        return Reply()

    endpoint = Endpoint(nothing, methods=("POST",), scope="decide", kinds=frozenset({JSON}), limit=10)
    return Express(
        {PATH: (endpoint, lane)},  # type: ignore[dict-item]
        guard=guard,
        broken=lambda path, error: Reply(status=500, body=f"{path} {type(error).__name__}".encode()),
    )


def offer(
    guard: Callable[[Any, Endpoint], Caller], body: bytes = b"{}", kind: bytes = JSON
) -> tuple[Lanes, list[Reply]]:
    lane, replies = Lanes(), list[Reply]()
    express = express_of(lane, guard=guard)
    (url,) = express.paths
    express.offer(url, {b"content-type": kind}, body, arrived=1.5, reply=replies.append)
    return lane, replies


def refuse(headers: Any, endpoint: Endpoint) -> Caller:
    raise RefusedError(401, "unauthorized", "no")


def fail(headers: Any, endpoint: Endpoint) -> Caller:
    raise KeyError("a fault of ours")


@pytest.mark.parametrize(
    ("guard", "given", "status"),
    [
        (refuse, {}, 401),
        (fail, {}, 500),
        (lambda *_: ANYONE, {"kind": b"text/plain"}, 415),
        (lambda *_: ANYONE, {"body": b"x" * 11}, 413),
    ],
)
def test_what_is_refused_by_its_head_or_its_size_reaches_no_lane(
    guard: Any, given: dict[str, bytes], status: int
) -> None:
    lane, (reply,) = offer(guard, **given)
    assert (reply.status, lane.asks) == (status, [])
    assert status != 500 or reply.body == b"/decide KeyError"


def test_an_answer_and_a_fault_of_a_lane_become_replies() -> None:
    lane, replies = offer(lambda *_: Caller(name="shop", trace="ab"))
    (ask,) = lane.asks
    assert (ask.body, ask.caller.name, ask.arrived) == (b"{}", "shop", 1.5)
    ask.answered(Answer(status=503, body={"b": 1, "a": 2}, retry_after=3))
    ask.broken(ZeroDivisionError())
    told, broken = replies
    assert (told.status, told.body, told.headers[0]) == (503, b'{"a":2,"b":1}', (b"retry-after", b"3"))
    assert told.headers[1][1].startswith(b"00-ab-")
    assert (broken.status, broken.body) == (500, b"/decide ZeroDivisionError")
    lane, replies = offer(lambda *_: ANYONE)
    lane.asks[0].answered(Answer(status=200, body={}))
    assert replies[0].headers == []


def test_bytes_that_are_no_request_are_refused_and_the_connection_ends(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(connection: Connection) -> None:
        with caplog.at_level(logging.WARNING):
            connection.protocol.data_received(b"nonsense\r\n\r\n")

    connection = run(play)
    assert connection.transport.written.startswith(b"HTTP/1.1 400 ")
    assert connection.transport.closed
