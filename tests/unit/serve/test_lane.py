"""Decisions of one turn of the loop: the same as each alone, answered in order, and none of them lost."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from nbkit.audit import Ledger, read_records, verify_ledger
from nbkit.errors import PackageError
from nbkit.package import Package
from nbkit.serve import AccessFile, PackageStore
from nbkit.serve import _decide as decide_module
from nbkit.serve._active import Active, load_active
from nbkit.serve._answer import Answer
from nbkit.serve._lane import Ask, Lane
from nbkit.serve._service import Service
from nbkit.serve._turn import ANYONE
from nbkit.serve._wiring import assemble
from nbkit.serve._worker import WorkerOptions

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATH = "/v1/models/loans/decisions"
SECONDS = 60
TRACE = "0af7651916cd43dd8448eb211c80319c"
# Of every record its own.
OWN = ("decision_id", "request_id", "ticket")
Reply = tuple[int, dict[str, str], Any]


# --- Over a real worker ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(lender: Any, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package whose deadline is long enough for a writer that is held up."""
    contract = lender.make_contract(serve={"deadline_ms": 60_000})
    made: Package = lender.make_package(tmp_path_factory.mktemp("patient") / "one", contract=contract)
    return made


@pytest.fixture(scope="module")
def worker(lender: Any, people: Any, patient: Package, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("lane")
    people.install(patient, store=PackageStore(home / "store"))
    with lender.Worker(store=home / "store", people=people, ledger=home / "ledger.db") as started:
        yield started
        assert started.stop() == 0


class Caller:
    """One connection, and what comes back on it."""

    def __init__(self, worker: Any, *, window: int = 0) -> None:
        self._socket = socket.socket()
        if window:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._socket.settimeout(SECONDS)
        self._socket.connect(("127.0.0.1", worker.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Send pieces one after the other; the next goes when the one before has arrived."""
        for piece in pieces:
            self._socket.sendall(piece)
            self._wait_until_read()

    def send_soon(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self) -> Reply:
        status = self._file.readline()
        assert status.startswith(b"HTTP/1.1 "), status
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = self._file.read(int(headers.get("content-length", 0)))
        is_json = headers.get("content-type", "").startswith("application/json") and body
        return int(status[9:12]), headers, json.loads(body) if is_json else body.decode()

    def ends(self) -> bool:
        """Whether the server closed it."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_until_read(self) -> None:
        """Until nothing of what was sent lies in a kernel's buffer: the worker's process has taken it."""
        here, there = self._socket.getsockname()[1], self._socket.getpeername()[1]
        until(lambda: not _unsent(here, there) and not _unread(there, here))


def _unsent(here: int, there: int) -> int:
    return _queues(here, there)[0]


def _unread(here: int, there: int) -> int:
    return _queues(here, there)[1]


def _queues(here: int, there: int) -> tuple[int, int]:
    """Bytes that wait in the kernel to be sent, and to be read, at one end of a connection of this machine."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{here:04X}") and fields[2].endswith(f":{there:04X}"):
            sending, reading = fields[4].split(":")
            return int(sending, 16), int(reading, 16)
    return 0, 0


def request(
    inputs: object = None, *, method: str = "POST", path: str = PATH, body: bytes | None = None, version: str = "1.1",
    headers: Sequence[str] = (), kind: str = "application/json", **others: object,
) -> bytes:  # fmt: skip
    if body is None:
        body = json.dumps({"inputs": inputs, **others}).encode() if method == "POST" else b""
    lines = [f"{method} {path} HTTP/{version}", "host: x", *headers]
    if method == "POST":
        lines += [f"content-type: {kind}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def apart(whole: bytes) -> tuple[bytes, bytes]:
    head, _, body = whole.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def ask(worker: Any, *pieces: bytes) -> Reply:
    with Caller(worker) as caller:
        caller.send(*pieces)
        return caller.reply()


def writer_of(worker: Any) -> int:
    """The process that writes a worker's ledger."""
    process = worker.process.pid
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    (writer,) = (one for one in children if Path(f"/proc/{one}/comm").read_text(encoding="ascii") == "nbkit-ledger\n")
    return int(writer)


@contextlib.contextmanager
def held_up(worker: Any) -> Iterator[None]:
    """No record becomes durable meanwhile."""
    writer = writer_of(worker)
    os.kill(writer, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(writer, signal.SIGCONT)


def recorded(worker: Any) -> dict[str, Any]:
    return {record.id: record for record in read_records(worker.ledger, limit=100_000)}


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def inside(worker: Any) -> int:
    """Decisions that wait for the disk, by what the worker counts; at least one makes the queue grow old."""
    text: str = worker.get("/metrics").body
    (line,) = [line for line in text.splitlines() if line.startswith("nbkit_audit_queue_age_seconds ")]
    return int(float(line.split()[1]) > 0)


def test_pipelined_requests_are_answered_in_their_order(worker: Any, lender: Any) -> None:
    whole = b"".join(request(lender.GOOD | {"ratio": n / 40}, request_id=f"pipe-{n}") for n in range(20))
    with Caller(worker) as caller:
        caller.send_soon(whole)
        replies = [caller.reply() for _ in range(20)]
        assert [(status, body["request_id"]) for status, _, body in replies] == [(200, f"pipe-{n}") for n in range(20)]
        # And the connection goes on.
        caller.send_soon(request(lender.GOOD, request_id="pipe-last"))
        assert caller.reply()[2]["request_id"] == "pipe-last"


def test_refusals_between_pipelined_decisions_keep_their_places(worker: Any, lender: Any) -> None:
    """What is refused at once must not overtake what waits for the disk, nor let anything behind it do so."""
    kinds: list[tuple[bytes, int]] = []
    for number in range(3):
        kinds += [
            (request(lender.GOOD, kind="text/plain"), 415),
            (request(lender.GOOD, request_id=f"mix-{number}-a"), 200),
            (request(lender.GOOD, kind="text/csv"), 415),
            (request(method="GET", path="/healthz"), 200),
            (request(body=b"{"), 400),
            (request(lender.GOOD, request_id=f"mix-{number}-b"), 200),
            (request(lender.GOOD | {"ratio": 7}), 422),
        ]
    for begin in range(len(kinds[:7])):
        some = kinds[begin:]
        with Caller(worker) as caller:
            with held_up(worker):
                caller.send_soon(b"".join(sent for sent, _ in some))
                until(lambda: inside(worker) > 0)
            replies = [caller.reply() for _ in some]
        assert [status for status, _, _ in replies] == [status for _, status in some]
        wanted = [json.loads(apart(sent)[1] or b"{}").get("request_id") for sent, status in some if status == 200]
        assert [body.get("request_id") for status, _, body in replies if status == 200] == wanted


def test_a_request_in_pieces_is_the_same_request(worker: Any, lender: Any) -> None:
    whole = request(lender.BAD)
    head, body = apart(whole)
    answers = [
        ask(worker, *pieces)
        for pieces in (
            (whole,),
            (head, body),
            (head[:10], head[10:], body[:1], body[1:]),
            (whole[:-1], whole[-1:]),
            (head + body[:7], body[7:]),
            tuple(whole[at : at + 60] for at in range(0, len(whole), 60)),
        )
    ]
    assert {status for status, _, _ in answers} == {200}
    told = [{name: value for name, value in body.items() if name not in OWN} for _, _, body in answers]
    assert told == [told[0]] * len(told)
    assert told[0]["decision"] == "decline"
    assert told[0]["reasons"]
    assert {body["decision_id"] for _, _, body in answers} <= recorded(worker).keys()


def test_the_rest_of_one_request_may_come_with_the_next(worker: Any, lender: Any) -> None:
    one, other = request(lender.GOOD, request_id="rest-1"), request(lender.BAD, request_id="rest-2")
    for cut in (5, len(apart(one)[0]), len(one) - 3, len(one), len(one) + 5, len(one) + len(apart(other)[0])):
        with Caller(worker) as caller:
            caller.send((one + other)[:cut], (one + other)[cut:])
            assert [caller.reply()[2]["request_id"] for _ in range(2)] == ["rest-1", "rest-2"]


def test_a_caller_who_asks_whether_to_go_on_is_told_so(worker: Any, lender: Any) -> None:
    head, body = apart(request(lender.GOOD, headers=["expect: 100-continue"]))
    with Caller(worker) as caller:
        caller.send_soon(head)
        assert caller.reply()[0] == 100
        caller.send_soon(body)
        assert caller.reply()[2]["decision"] == "approve"


def test_a_connection_ends_when_the_caller_wants_it(worker: Any, lender: Any) -> None:
    for sent in (request(lender.GOOD, headers=["connection: close"]), request(lender.GOOD, version="1.0")):
        with Caller(worker) as caller:
            caller.send_soon(sent)
            status, headers, body = caller.reply()
            assert (status, headers["connection"], body["decision"]) == (200, "close", "approve")
            assert caller.ends()


def test_other_methods_on_the_same_path_go_to_the_application(worker: Any, lender: Any) -> None:
    first = ask(worker, request(lender.GOOD, request_id="asked-again"))[2]
    with Caller(worker) as caller:
        caller.send_soon(request(method="GET", path=f"{PATH}?request_id=asked-again"))
        assert caller.reply()[2] == first
        caller.send_soon(request(method="PUT"))
        assert caller.reply()[0] == 405
        caller.send_soon(request(method="HEAD") + request(lender.GOOD, request_id="after-head"))
        line = caller._file.readline()
        assert line.startswith(b"HTTP/1.1 405")
        while caller._file.readline().strip():
            pass
        # A HEAD has no body, so the next reply follows at once.
        assert caller.reply()[2]["request_id"] == "after-head"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"kind": "text/plain", "body": b"{}"}, 415, "unsupported_media_type"),
        ({"body": b'{"x": "' + b"x" * 70_000 + b'"}'}, 413, "too_large"),
        ({"body": b"{"}, 400, "bad_request"),
        ({"body": b'{"inputs": {"income": -1, "ratio": 2, "purpose": "yacht"}}'}, 422, "contract_violation"),
        ({"body": b""}, 400, "bad_request"),
    ],
)
def test_what_is_wrong_is_refused_alike_whole_and_in_pieces(
    worker: Any, sent: dict[str, Any], status: int, code: str
) -> None:
    whole = request(**sent)
    replies = [ask(worker, whole), ask(worker, *apart(whole))] if status != 413 else [ask(worker, whole)]
    for told, _, body in replies:
        assert (told, body["error"]["code"]) == (status, code)
    assert all(body == replies[0][2] for _, _, body in replies)


def test_many_at_once_with_one_bad_are_answered_each_for_itself(worker: Any, lender: Any) -> None:
    rows = [lender.GOOD, lender.BAD, lender.GOOD | {"ratio": 7}, lender.GOOD | {"income": None}] * 6
    callers = [Caller(worker) for _ in rows]
    try:
        for caller, row in zip(callers, rows, strict=True):
            caller.send_soon(request(row))
        replies = [caller.reply() for caller in callers]
    finally:
        for caller in callers:
            caller.close()
    assert [status for status, _, _ in replies] == [200, 200, 422, 200] * 6
    for row, (status, _, body) in zip(rows, replies, strict=True):
        if status == 200:
            alone = worker.decide(row).body
            assert {**body, **dict.fromkeys(OWN)} == {**alone, **dict.fromkeys(OWN)}
            assert bool(body["reasons"]) == (body["decision"] == "decline")


def test_the_same_request_twice_at_once_is_one_decision_and_another_under_its_id_a_conflict(
    worker: Any, lender: Any
) -> None:
    with Caller(worker) as one, Caller(worker) as two, Caller(worker) as three:
        with held_up(worker):
            one.send_soon(request(lender.BAD, request_id="twice"))
            until(lambda: inside(worker) > 0)
            two.send(request(lender.BAD, request_id="twice"))
            three.send(request(lender.GOOD, request_id="twice"))
        replies = [caller.reply() for caller in (one, two, three)]
    assert [status for status, _, _ in replies] == [200, 200, 409]
    assert replies[0][2] == replies[1][2]
    assert replies[2][2]["error"]["code"] == "conflict"
    # Asked later, and in one packet with others, it is the same.
    with Caller(worker) as caller:
        caller.send_soon(request(lender.BAD, request_id="twice") * 2 + request(lender.GOOD, request_id="twice"))
        assert [caller.reply()[2] for _ in range(2)] == [replies[0][2]] * 2
        assert caller.reply()[0] == 409
    found = [record for record in recorded(worker).values() if record.request_id == "twice"]
    assert [record.id for record in found] == [replies[0][2]["decision_id"]]


def test_a_caller_who_goes_away_is_recorded_and_disturbs_nobody(worker: Any, lender: Any) -> None:
    with held_up(worker):
        gone, halfway = Caller(worker), Caller(worker)
        gone.send_soon(request(lender.GOOD, request_id="gone"))
        until(lambda: inside(worker) > 0)
        gone.close()
        halfway.send_soon(apart(request(lender.GOOD))[0])
        halfway.close()
        with Caller(worker) as stays:
            stays.send(request(lender.GOOD, request_id="stays"))
            os.kill(writer_of(worker), signal.SIGCONT)
            assert stays.reply()[2]["request_id"] == "stays"
    # What was decided for him he can still ask for.
    assert {"gone", "stays"} <= {record.request_id for record in recorded(worker).values()}
    assert worker.get(f"{PATH}?request_id=gone").status == 200


def test_who_does_not_read_waits_and_nobody_else(worker: Any, lender: Any) -> None:
    """Refusals of many problems are large: they fill every buffer between the worker and a caller who sleeps."""
    body = json.dumps({"inputs": {f"unknown-{n:04d}": 1 for n in range(3000)}}).encode()
    whole = request(body=body)
    with Caller(worker, window=4096) as lazy:
        sender = threading.Thread(target=lambda: [lazy.send_soon(whole) for _ in range(60)])
        sender.start()
        for _ in range(10):
            assert worker.decide(lender.GOOD).status == 200
        replies = [lazy.reply() for _ in range(60)]
        sender.join(SECONDS)
        assert not sender.is_alive()
        assert {status for status, _, _ in replies} == {422}
        lazy.send_soon(request(lender.GOOD, request_id="read-again"))
        assert lazy.reply()[2]["request_id"] == "read-again"


def test_a_trace_comes_back_and_into_the_record(worker: Any, lender: Any) -> None:
    parent = f"traceparent: 00-{TRACE}-b7ad6b7169203331-01"
    whole = request(lender.GOOD, headers=[parent])
    for pieces in ((whole,), apart(whole)):
        status, headers, body = ask(worker, *pieces)
        version, trace, span, flags = headers["traceparent"].split("-")
        assert (status, version, trace, flags) == (200, "00", TRACE, "01")
        assert span != "b7ad6b7169203331"
        assert recorded(worker)[body["decision_id"]].tags["trace"] == TRACE
    assert "traceparent" not in ask(worker, request(lender.GOOD))[1]


def test_a_shadow_that_is_compiled_is_recorded_beside_the_answer(
    lender: Any, people: Any, package: Package, trial: Package, tmp_path: Path
) -> None:
    store = PackageStore(tmp_path / "store")
    people.install(package, store=store)
    people.install(trial, store=store, version=2, epoch=2, stage="shadow")
    with lender.Worker(store=store.root, people=people, ledger=tmp_path / "ledger.db") as worker:
        # The third is decided by a rule before any model is asked, alone in its batch or not.
        rows = [lender.GOOD, lender.BAD, lender.BAD | {"ratio": 1.0}]
        with Caller(worker) as caller:
            caller.send_soon(b"".join(map(request, rows)))
            answers = [caller.reply()[2] for _ in rows]

        def shadows() -> dict[str, Any]:
            return {r.tags["shadow_of"]: r for r in recorded(worker).values() if r.kind == "shadow"}

        until(lambda: len(shadows()) == len(rows))
        alone = worker.decide(lender.BAD | {"ratio": 1.0}).body
        until(lambda: len(shadows()) == len(rows) + 1)
        for answer in (*answers, alone):
            shadow = shadows()[answer["decision_id"]]
            assert (shadow.version, shadow.stage, shadow.fallback_cause) == (2, "shadow", "")
            assert shadow.tags["champion_decision"] == answer["decision"]
        assert alone["route"] == "rules:overcommitted"
        assert worker.stop() == 0


def test_a_key_is_asked_for_before_anything_is_decided(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    now = datetime.now(UTC)
    file, _, shop = AccessFile.begin().add("shop", scopes=["decide"], now=now, expires_at=now + timedelta(days=1))
    file, _, other = file.add("scraper", scopes=["metrics"], now=now, expires_at=now + timedelta(days=1))
    keys = tmp_path / "apikeys.json"
    file.save(keys)
    place = {"store": tmp_path / "store", "people": people, "ledger": tmp_path / "ledger.db"}
    with lender.Worker(**place, arguments=("--api-keys", str(keys))) as worker:
        sent = [
            (request(lender.GOOD), 401),
            (request(lender.GOOD, headers=["x-api-key: wrong"]), 401),
            (request(lender.GOOD, headers=[f"x-api-key: {other}"]), 403),
            (request(lender.GOOD, headers=[f"x-api-key: {shop}"]), 200),
            (request(lender.GOOD, headers=[f"authorization: Bearer {shop}"]), 200),
        ]
        with Caller(worker) as caller:  # all in one packet
            caller.send_soon(b"".join(whole for whole, _ in sent))
            assert [caller.reply()[0] for _ in sent] == [status for _, status in sent]
        for whole, status in sent:
            assert ask(worker, *apart(whole))[0] == status
        assert len(recorded(worker)) == 4
        assert worker.stop() == 0


def test_what_is_being_decided_when_the_worker_is_told_to_stop_is_answered(
    lender: Any, people: Any, patient: Package, tmp_path: Path
) -> None:
    people.install(patient, store=PackageStore(tmp_path / "store"))
    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
        alone = [Caller(worker) for _ in range(8)]
        piped = Caller(worker)
        with held_up(worker):
            for number, caller in enumerate(alone):
                caller.send_soon(request(lender.GOOD, request_id=f"stop-{number}"))
            piped.send_soon(b"".join(request(lender.GOOD, request_id=f"stop-{number}") for number in (8, 9, 10)))
            until(lambda: inside(worker) > 0)
            for caller in (*alone, piped):
                caller._wait_until_read()
            worker.process.send_signal(signal.SIGTERM)
            until(lambda: _refuses(worker.port))
        replies = [caller.reply() for caller in alone] + [piped.reply() for _ in range(3)]
        assert [(status, body["request_id"]) for status, _, body in replies] == [(200, f"stop-{n}") for n in range(11)]
        assert piped.ends()
        for caller in (*alone, piped):
            caller.close()
        assert worker.process.wait(SECONDS) == 0
    assert {body["decision_id"] for _, _, body in replies} == recorded(worker).keys()


def _refuses(port: int) -> bool:
    """Whether nobody listens any more: the server has begun to stop."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_when_the_writer_is_killed_nothing_that_was_answered_is_lost_and_the_worker_ends(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    answered: list[str] = []
    refused: list[int] = []

    def load(number: int) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            for count in range(100_000):
                reply = worker.decide(lender.GOOD, request_id=f"{number}-{count}")
                if reply.status == 200:
                    answered.append(reply.body["decision_id"])
                else:
                    refused.append(reply.status)

    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
        threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) > 20)
        waits = Caller(worker)
        writer = writer_of(worker)
        os.kill(writer, signal.SIGSTOP)
        waits.send(request(lender.GOOD, request_id="waits"))
        os.kill(writer, signal.SIGKILL)
        status, headers, body = waits.reply()
        assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "try_again")
        assert "ask again with the same id" in body["error"]["message"]
        waits.close()
        for thread in threads:
            thread.join(SECONDS)
        assert worker.process.wait(SECONDS) == 1
        assert worker.wait_for("the ledger's writer has ended")
        assert "the ledger's writer has ended" in worker.wait_for("cannot serve")["reason"]
    assert set(refused) <= {503}
    assert set(answered) <= recorded(worker).keys()
    assert verify_ledger(worker.ledger, public_key=people.keys["ledger"].secret.public_key()).problems == ()


def test_a_writer_that_is_killed_before_anybody_asked_is_noticed(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
        assert worker.get("/healthz").status == 200
        os.kill(writer_of(worker), signal.SIGKILL)
        assert worker.process.wait(SECONDS) == 1
        assert worker.wait_for("the ledger's writer has ended")


# --- In this process ------------------------------------------------------------------------------------------------


@pytest.fixture
def make_service(people: Any, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    with contextlib.ExitStack() as stack:

        def make(package: Package, *, name: str = "lane") -> Service:
            store = PackageStore(tmp_path / name / "store")
            people.install(package, store=store)
            key = people.keys["ledger"].secret
            ledger = stack.enter_context(Ledger.open(tmp_path / name / "ledger.db", key=key, now=lambda: NOW))
            numbers = iter(range(10_000))
            service = Service(name="loans", ledger=ledger, now=lambda: NOW, new_id=lambda: f"d{next(numbers)}")
            service.active = active_of(store, people)
            return service

        yield make


def active_of(store: PackageStore, people: Any) -> Active:
    installed = store.current("loans")
    assert installed is not None
    now = datetime.now(UTC)
    return load_active("loans", installed=installed, store=store, trust=people.trust, now=now, minimum_epoch=0)


async def told_together(
    service: Service, bodies: Sequence[bytes], *, ages: Sequence[float] = ()
) -> list[Answer | Exception]:
    """What a lane says to requests that came in one turn of the loop, each told once.

    ``ages`` are the seconds that each has waited already.
    """
    lane = Lane(service)
    told: dict[int, Answer | Exception] = {}
    done = asyncio.Event()

    def hear(number: int, said: Answer | Exception) -> None:
        assert number not in told
        told[number] = said
        if len(told) == len(bodies):
            done.set()

    for number, body in enumerate(bodies):
        lane.take(
            Ask(
                body=body, caller=ANYONE, arrived=time.perf_counter() - (ages[number] if ages else 0.0),
                answered=lambda said, number=number: hear(number, said),
                broken=lambda said, number=number: hear(number, said),
            )
        )  # fmt: skip
    async with asyncio.timeout(SECONDS):
        await done.wait()
    return [told[number] for number in range(len(bodies))]


def take_together(service: Service, bodies: Sequence[bytes]) -> list[Answer | Exception]:
    """`told_together` on a loop of its own."""
    return asyncio.run(told_together(service, bodies))


def decide_alone(service: Service, bodies: Sequence[bytes]) -> list[Answer]:
    async def run() -> list[Answer]:
        return [await service.decide(body) for body in bodies]

    return asyncio.run(run())


def bodies_of(rows: Sequence[object], **others: object) -> list[bytes]:
    return [json.dumps({"inputs": row, **others}).encode() for row in rows]


def kept(service: Service) -> list[dict[str, object]]:
    """What is recorded, apart from how long it took, and from the evidence, which is signed anew each time."""
    skips = {"latency_us", "evidence_digest"}
    records = sorted(read_records(service.ledger._committer._finder._place, limit=1000), key=lambda r: int(r.id[1:]))
    return [{name: value for name, value in asdict(r).items() if name not in skips} for r in records]


@pytest.mark.parametrize("at_once", [math.inf, -1.0], ids=["reasons at once", "reasons in the thread"])
def test_a_lane_decides_and_records_what_the_service_decides_alone(
    make_service: Callable[..., Service],
    package: Package,
    lender: Any,
    monkeypatch: pytest.MonkeyPatch,
    at_once: float,
) -> None:
    monkeypatch.setattr(decide_module, "_AT_ONCE_SECONDS", at_once)
    monkeypatch.setattr("nbkit.serve._explain._MOST_WAITING", 64)
    rows = [
        lender.GOOD, lender.BAD, lender.GOOD | {"income": None}, lender.BAD | {"ratio": 1.0},
        lender.GOOD | {"income": 0.1}, lender.GOOD | {"ratio": 7}, *[lender.BAD | {"income": n / 2} for n in range(5)],
    ]  # fmt: skip
    bodies = [*bodies_of(rows, subject="ana"), b"{", b"[]", *bodies_of([lender.BAD], request_id="mine")]
    lane, alone = make_service(package), make_service(package, name="alone")
    together = take_together(lane, bodies)
    one_by_one = decide_alone(alone, bodies)
    assert [said.status for said in one_by_one if isinstance(said, Answer)].count(200) == 11
    assert together == one_by_one
    assert kept(lane) == kept(alone)
    # More adverse rows than are explained at once in one turn, and yet all of them have their reasons.
    assert sum(bool(said.body.get("reasons")) for said in one_by_one) > 4


def test_the_same_id_in_one_turn_is_one_decision(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    same = bodies_of([lender.BAD, lender.BAD, lender.GOOD], request_id="one")
    first, again, other = (said for said in take_together(service, same) if isinstance(said, Answer))
    # Which of them comes first is left open within a turn: reasons may take a thread.
    assert sorted({first.status, other.status}) == [200, 409]
    assert first.status == again.status
    if first.status == 200:
        assert first == again
    # In a later turn the ledger knows.
    for body, said in zip(same, (first, again, other), strict=True):
        assert take_together(service, [body]) == [said]
    assert len(kept(service)) == 1
    assert service.once._running == {}


def test_one_that_is_refused_under_a_known_id_refuses_nobody_of_its_turn(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    (first,) = take_together(service, bodies_of([lender.BAD], request_id="one"))
    sent = bodies_of([lender.GOOD, lender.BAD, lender.GOOD, lender.BAD], request_id="one")
    wrong, same, wrong_too, same_too = (said for said in take_together(service, sent) if isinstance(said, Answer))
    assert (wrong.status, wrong_too.status) == (409, 409)
    assert same == same_too == first
    assert len(kept(service)) == 1
    assert service.once._running == {}


def test_a_plan_that_raises_goes_the_long_way_and_the_fallback_answers(
    make_service: Callable[..., Service], package: Package, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[float]:
        raise ZeroDivisionError("income 90.0")

    monkeypatch.setattr(type(package), "score_rows", fail)
    service = make_service(package)
    assert service.active is not None
    answers = take_together(service, bodies_of([lender.GOOD, lender.BAD, *[lender.GOOD] * 8]))
    told = [said.body for said in answers if isinstance(said, Answer)]
    assert [(body["decision"], body["fallback"]) for body in told[:2]] == [("approve", "rules"), ("refer", "default")]
    causes = {body["fallback_cause"] for body in told}
    assert "error: ZeroDivisionError" in causes
    assert service.active.breaker.state == "open"
    # While it is open nobody asks the model.
    (left,) = take_together(service, bodies_of([lender.GOOD]))
    assert isinstance(left, Answer)
    assert (left.status, left.body["fallback_cause"]) == (200, "breaker open")


def test_a_score_that_is_no_probability_never_becomes_an_answer(
    make_service: Callable[..., Service], package: Package, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(package), "score_rows", lambda _, rows: [float("nan")] * len(rows))
    for said in take_together(make_service(package), bodies_of([lender.GOOD, lender.GOOD])):
        assert isinstance(said, Answer)
        assert said.body["score"] is None
        assert said.body["fallback"] == "rules"


def test_who_has_waited_too_long_is_turned_away_and_the_others_of_his_turn_are_not(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    bodies = bodies_of([lender.GOOD] * 3)
    said = asyncio.run(told_together(service, bodies, ages=(3600.0, 0.0, 0.0)))
    assert [each.status for each in said if isinstance(each, Answer)] == [503, 200, 200]
    assert 'nbkit_shed_total{queue="requests"} 1' in service.metrics.render(version=1)


def test_who_waits_too_long_for_those_before_him_in_his_turn_is_turned_away(
    make_service: Callable[..., Service], package: Package, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(package)
    assert service.active is not None
    pause, usual = service.active.deadline_seconds, Service.read

    def slow_for_the_first(self: Service, body: bytes) -> Any:
        if b"first" in body:
            time.sleep(pause)
        return usual(self, body)

    monkeypatch.setattr(Service, "read", slow_for_the_first)
    said = take_together(service, [*bodies_of([lender.GOOD], subject="first"), *bodies_of([lender.GOOD] * 2)])
    assert [each.status for each in said if isinstance(each, Answer)][1:] == [503, 503]
    assert 'nbkit_shed_total{queue="requests"} 2' in service.metrics.render(version=1)


def test_when_the_disk_takes_nothing_a_whole_turn_is_turned_away(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    service._recorder._waiting, service._recorder._since = 1, time.perf_counter() - 3600.0
    said = take_together(service, bodies_of([lender.GOOD] * 2))
    assert [each.status for each in said if isinstance(each, Answer)] == [503, 503]
    assert 'nbkit_shed_total{queue="records"} 2' in service.metrics.render(version=1)


def test_what_is_plain_ends_a_row_of_failures_too(
    make_service: Callable[..., Service], lender: Any, tmp_path: Path
) -> None:
    service = make_service(lender.make_package(tmp_path / "plain", rules=None))
    assert service.active is not None
    breaker = service.active.breaker
    for _ in range(4):
        breaker.failed()
    (said,) = take_together(service, bodies_of([lender.GOOD]))
    assert isinstance(said, Answer)
    assert (said.status, said.body["decision"], said.body["route"]) == (200, "approve", "model")
    breaker.failed()
    assert breaker.state == "closed"


def test_an_answer_is_quick_within_half_of_the_deadline_of_what_is_served(
    people: Any, patient: Package, tmp_path: Path
) -> None:
    def quick(store: PackageStore) -> float:
        options = WorkerOptions(
            name="loans", store=store.root, trust=people.trust_file, ledger=tmp_path / "ledger.db",
            ledger_key=people.keys["ledger"].secret,
        )  # fmt: skip
        with Ledger.open(options.ledger, key=options.ledger_key, now=lambda: NOW) as ledger:
            made = assemble(
                options, ledger=ledger, now=lambda: datetime.now(UTC), new_id=lambda: "d", fork=socket.socket
            )
        return made.gate.quick

    store = PackageStore(tmp_path / "store")
    assert quick(store) == 0.5
    people.install(patient, store=store)
    assert quick(store) == 30.0


def test_a_fault_of_one_request_is_its_own(make_service: Callable[..., Service], package: Package, lender: Any) -> None:
    """Whatever raises, and wherever: one caller hears that nbkit failed, the others are answered."""
    service = make_service(package)
    usual = service.router

    def route(asked: Any, **given: Any) -> Any:
        if asked.subject == "router":
            raise PackageError("not one of HTTP's")
        return usual(asked, **given)

    def mark(turn: Any, _: object) -> dict[str, str]:
        return {} if turn.request.subject != "marker" else {}["no such tag"]

    def follow(turn: Any, _: object) -> None:
        if turn.request.subject == "follower":
            raise ZeroDivisionError

    service.router, service.markers, service.followers = route, (mark,), (follow,)
    bodies = [
        json.dumps({"inputs": lender.GOOD, "subject": subject, "request_id": subject}).encode()
        for subject in ("ana", "router", "marker", "follower", "ben")
    ]
    said = take_together(service, bodies)
    assert [each.status if isinstance(each, Answer) else type(each) for each in said] == [
        200, PackageError, KeyError, ZeroDivisionError, 200,
    ]  # fmt: skip
    assert service.once._running == {}
    # A fault on the long way is told as well.
    service.active.breaker.state = "open"  # type: ignore[union-attr]
    again = take_together(service, bodies_of([lender.GOOD], subject="marker"))
    assert [type(each) for each in again] == [KeyError]


def test_a_record_that_cannot_be_written_gives_no_answer(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    service.ledger.close()
    said = take_together(service, [*bodies_of([lender.GOOD]), *bodies_of([lender.GOOD], request_id="mine")])
    assert [each.status for each in said if isinstance(each, Answer)] == [503, 503]
    assert service.once._running == {}


def test_who_waits_too_long_for_the_disk_is_told_to_ask_again_and_the_record_stays(
    make_service: Callable[..., Service], lender: Any, tmp_path: Path
) -> None:
    contract = lender.make_contract(serve={"deadline_ms": 1000})
    service = make_service(lender.make_package(tmp_path / "quick", contract=contract))
    book = service.ledger._committer._book
    works, goes_on = book.append, threading.Event()

    def held(entries: Any) -> Any:
        assert goes_on.wait(SECONDS)
        return works(entries)

    book.append = held  # type: ignore[method-assign]
    once = bodies_of([lender.GOOD, lender.GOOD])
    mine, others = bodies_of([lender.BAD, lender.GOOD], request_id="mine")

    async def run() -> None:
        # The second came before the first, so it is late before.
        said = await told_together(service, [once[0], mine, once[1]], ages=(0.0, 0.3, 0.1))
        for each in said:
            assert isinstance(each, Answer)
            assert (each.status, each.retry_after) == (503, 1)
        goes_on.set()
        async with asyncio.timeout(SECONDS):
            while service._recorder.queue_age:
                await asyncio.sleep(0.005)
        again = [said for body in (mine, mine, others) for said in await told_together(service, [body])]
        assert [said.status for said in again if isinstance(said, Answer)] == [200, 200, 409]
        assert again[0] == again[1]

    try:
        asyncio.run(run())
    finally:
        goes_on.set()
    assert [record["request_id"] for record in kept(service)].count("mine") == 1
    assert service.once._running == {}


def test_a_service_without_a_version_says_so(
    make_service: Callable[..., Service], package: Package, lender: Any
) -> None:
    service = make_service(package)
    service.active = None
    (said,) = take_together(service, bodies_of([lender.GOOD]))
    assert isinstance(said, Answer)
    assert (said.status, said.retry_after) == (503, 1)
