"""The process in which versions on trial decide: what it is told, what is believed of it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nbkit.audit import Entry, read_records
from nbkit.frames import Frames, framed
from nbkit.package import Package
from nbkit.serve import PackageStore, _shadow_process, _shadows
from nbkit.serve._active import Active, load_active
from nbkit.serve._fork_server import ForkServer
from nbkit.serve._metrics import Metrics
from nbkit.serve._shadow_process import Batch, Judged, Shadowed, Trial, TrialJudge, answer_batches
from nbkit.serve._shadows import Shadows

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECONDS = 60


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


# --- What it does with a batch --------------------------------------------------------------------------------------


def batch_of(package: Package, *rows: dict[str, Any], fits: bool = True, stage: str = "production") -> Batch:
    trial = Trial("loans", 2, "shadow", package.digest, "sha256:c", "sha256:e", "0.01")
    names = [column.name for column in package.contract.inputs]
    decisions = [
        Shadowed(f"d{number}", 1, stage, "approve", NOW, "", [row[name] for name in names])
        for number, row in enumerate(rows)
    ]
    return Batch(trial, fits, names, decisions)


def judge_of(*packages: Package, loaded: list[str] | None = None) -> TrialJudge:
    by_digest = {package.digest: package for package in packages}
    numbers = iter(range(1000))

    def load(digest: str) -> Package:
        if loaded is not None:
            loaded.append(digest)
        return by_digest[digest]

    return TrialJudge(load, now=lambda: NOW, new_id=lambda: f"s{next(numbers)}")


def test_a_version_is_loaded_once_and_the_oldest_goes(trial: Package, lender: Any) -> None:
    loaded: list[str] = []
    judge = judge_of(trial, loaded=loaded)
    for _ in range(2):
        (entry,) = judge.judge(batch_of(trial, lender.GOOD))[0]
    assert loaded == [trial.digest]
    assert (entry.model, entry.request_id) == ("loans", "~shadow:2:d0")
    # Others that cannot be loaded answer nothing, are not tried again at once, and push the first one out at last.
    for number in range(3):
        other = batch_of(trial, lender.GOOD)
        other.trial = msgspec.structs.replace(other.trial, package_digest=f"sha256:{number}")
        assert judge.judge(other) == judge.judge(other) == ([], Judged([]))
    assert len(judge.judge(batch_of(trial, lender.GOOD))[0]) == 1
    assert loaded == [trial.digest, "sha256:0", "sha256:1", "sha256:2", trial.digest]


def test_a_version_that_was_missing_is_loaded_when_it_is_back(
    trial: Package, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shadow_process, "_LOAD_AGAIN_SECONDS", 0.0)
    answers: list[Package | Exception] = [OSError("no such file"), OSError("no such file"), trial]

    def load(_digest: str) -> Package:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    judge = TrialJudge(load, now=lambda: NOW, new_id=lambda: "s1")
    assert [len(judge.judge(batch_of(trial, lender.GOOD))[0]) for _ in range(4)] == [0, 0, 1, 1]
    assert answers == []


def test_a_row_that_its_own_contract_refuses_fails_alone(trial: Package, lender: Any) -> None:
    judge = judge_of(trial)
    wrong = lender.GOOD | {"ratio": 7.0}
    entries, judged = judge.judge(batch_of(trial, lender.GOOD, wrong, lender.BAD, fits=False))
    assert judged.routes == [("model", True, 2), ("fallback", False, 1)]
    records = [json.loads(entry.body) for entry in entries]
    causes = [record["fallback_cause"] for record in records]
    assert causes == ["", "error: ContractViolationError", ""]
    assert [record["score"] is None for record in records] == [False, True, False]
    assert [record["cost_usd"] for record in records] == ["0.01", "0", "0.01"]
    # The champion's contract let it through, as far as this one would.
    fitting = [json.loads(entry.body) for entry in judge.judge(batch_of(trial, lender.GOOD, lender.BAD))[0]]
    assert [record["score"] for record in fitting] == [records[0]["score"], records[2]["score"]]


# --- The channel ----------------------------------------------------------------------------------------------------


@pytest.fixture
def forks(trial: Package) -> Iterator[ForkServer]:
    """Forks processes that judge with the trial's package."""
    made = ForkServer(lambda channel, says: answer_batches(channel, says, judge=judge_of(trial)))
    yield made
    made.close()


def ask(channel: socket.socket, batch: Batch) -> Judged:
    channel.settimeout(SECONDS)
    channel.sendall(framed(batch))
    frames = Frames()
    while True:
        data = channel.recv(1 << 16)
        assert data, "the process has ended"
        for frame in frames.feed(data):
            return msgspec.msgpack.decode(frame, type=Judged)


def said(heard: socket.socket) -> list[Entry]:
    """The next datagram."""
    heard.settimeout(SECONDS)
    return msgspec.msgpack.decode(heard.recv(1 << 18), type=list[Entry])


def test_each_process_answers_until_its_channel_closes(forks: ForkServer, trial: Package, lender: Any) -> None:
    first, second = forks.start(), forks.start()
    with first, second:
        for channel in (first, second, first):
            assert ask(channel, batch_of(trial, *[lender.GOOD, lender.BAD] * 20)).routes == [("model", True, 40)]
            assert [len(said(forks.said)) for _ in range(2)] == [32, 8]
        second.shutdown(socket.SHUT_WR)
        assert second.recv(1) == b""
        assert ask(first, batch_of(trial, lender.GOOD)).routes == [("model", True, 1)]


def test_what_fails_in_a_batch_is_answered_with_nothing(
    trial: Package, lender: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_shadow_process, "_give_way", lambda: None)
    judge = judge_of(trial)
    ours, theirs = socket.socketpair()
    heard, says = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, heard, says:
        broken = batch_of(trial, lender.GOOD)
        broken.decisions[0].values.pop()
        ours.sendall(framed(broken) + framed(batch_of(trial, lender.GOOD)))
        ours.shutdown(socket.SHUT_WR)
        answer_batches(theirs, says, judge=judge)
        answers = [msgspec.msgpack.decode(frame, type=Judged) for frame in Frames().feed(ours.recv(1 << 16))]
        assert len(said(heard)) == 1
    assert [judged.routes for judged in answers] == [[], [("model", True, 1)]]
    assert [record.message for record in caplog.records] == ["shadow failed"]


def test_where_no_process_may_be_idle_it_is_nice(monkeypatch: pytest.MonkeyPatch) -> None:
    nice: list[int] = []
    monkeypatch.setattr(os, "nice", nice.append)
    monkeypatch.delattr(os, "sched_setscheduler")
    _shadow_process._give_way()
    assert nice == [19]


def test_a_fork_server_that_has_ended_says_so() -> None:
    forks = ForkServer(lambda channel, says: None)
    os.kill(forks.process, signal.SIGKILL)
    os.waitpid(forks.process, 0)
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
        forks.start()
    forks.close()


def test_a_model_that_hangs_is_ended_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch, trial: Package, lender: Any
) -> None:
    def hang(self: TrialJudge, batch: Batch) -> tuple[list[Entry], Judged]:
        while True:
            pass

    monkeypatch.setattr(TrialJudge, "judge", hang)
    monkeypatch.setattr(_shadow_process, "_LONGEST_LOADING_SECONDS", 1)
    forks = ForkServer(lambda channel, says: answer_batches(channel, says, judge=judge_of(trial)))
    with forks.start() as channel:
        channel.settimeout(SECONDS)
        channel.sendall(framed(batch_of(trial, lender.GOOD)))
        assert channel.recv(1) == b""
    forks.close()


def test_a_process_that_hangs_ends_with_the_fork_server() -> None:
    def hang(channel: socket.socket, _says: socket.socket) -> None:
        channel.sendall(b"1")
        signal.pause()

    forks = ForkServer(hang)
    with forks.start() as channel:
        channel.settimeout(SECONDS)
        assert channel.recv(1) == b"1"
        forks.close()
        assert channel.recv(1) == b""


def test_what_a_process_has_forked_ends_with_it() -> None:
    def fork(_channel: socket.socket, _says: socket.socket) -> None:
        if os.fork() == 0:
            signal.pause()  # and holds the channel as well

    forks = ForkServer(fork)
    with forks.start() as channel:
        channel.settimeout(SECONDS)
        assert channel.recv(1) == b""
    forks.close()


# --- The worker's end -----------------------------------------------------------------------------------------------


class Peer:
    """The other end of every channel that is asked for."""

    def __init__(self) -> None:
        self.channels: list[socket.socket] = []

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(SECONDS)
        self.channels.append(theirs)
        return ours

    def batch(self, *, of: int = -1) -> Batch:
        """The next batch that comes."""
        data = self.channels[of].recv(1 << 20)
        (frame,) = Frames().feed(data)
        return msgspec.msgpack.decode(frame, type=Batch)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    for channel in made.channels:
        channel.close()


@pytest.fixture
def active(trial: Package, people: Any, tmp_path: Path) -> Active:
    store = PackageStore(tmp_path / "store")
    people.install(trial, store=store, version=2, stage="shadow")
    installed = store.current("loans", stage="shadow")
    assert installed is not None
    now = datetime.now(UTC)
    return load_active("loans", installed=installed, store=store, trust=people.trust, now=now, minimum_epoch=0)


@pytest.fixture
def shadows(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Shadows:
    monkeypatch.setattr(_shadows, "_GATHER_SECONDS", 0.001)
    monkeypatch.setattr(_shadows, "_AGAIN_SECONDS", 0.001)
    return Shadows("loans", start=peer.start, metrics=Metrics())


def hand(shadows: Shadows, active: Active, lender: Any, *, number: int = 0) -> bool:
    """Hand over a decision of the champion, which takes the same inputs."""
    turn: Any = SimpleNamespace(active=active, request=SimpleNamespace(row=lender.GOOD))
    record: Any = SimpleNamespace(
        id=f"d{number}", version=1, stage="production", decision="approve", received_at=NOW, subject=""
    )
    return shadows.take(turn, record, active)


async def followed(shadows: Shadows, act: Callable[[], Any]) -> None:
    """Do something while a process is kept."""
    following = asyncio.create_task(shadows.follow())
    try:
        await act()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def ended_of(shadows: Shadows) -> str:
    text = shadows._metrics.render(version=1)
    return next(
        (line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("nbkit_shadow_process_ended_total{")),
        "0",
    )


def shed_of(shadows: Shadows) -> int:
    found = re.search(r'nbkit_shed_total\{queue="shadows"\} (\d+)', shadows._metrics.render(version=1))
    return int(found[1]) if found else 0


def test_a_trial_that_ends_while_its_process_begins_leaves_none(
    shadows: Shadows, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> socket.socket:
        shadows.want(any_trial=False)
        return peer.start()

    monkeypatch.setattr(shadows, "_start", start)

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: bool(peer.channels))
        assert await asyncio.to_thread(peer.channels[0].recv, 1) == b""

    asyncio.run(followed(shadows, act))
    assert ended_of(shadows) == "0"


def test_a_process_that_reads_nothing_holds_up_no_other_trial(
    shadows: Shadows, peer: Peer, active: Active, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shadows, "_MOST_IN_A_BATCH", 1)
    monkeypatch.setattr(_shadows, "_MOST_SHADOWS", 10_000)

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, lender))
        transport: Any = shadows._transport
        while not transport.get_write_buffer_size():
            assert hand(shadows, active, lender)
        shadows.want(any_trial=False)
        shadows.want(any_trial=True)
        await soon(lambda: len(peer.channels) == 2 and hand(shadows, active, lender))

    asyncio.run(followed(shadows, act))


def test_rows_that_gathered_for_a_process_that_is_gone_go_nowhere(
    shadows: Shadows, peer: Peer, active: Active, lender: Any
) -> None:
    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, lender))
        ((key, gathered),) = shadows._gathered.items()
        transport: Any = shadows._transport
        transport.abort()
        shadows.connection_lost(None)
        shadows._hand_over(key, gathered[2])  # whose time has come before anybody else could hear
        assert (shadows.waiting, shed_of(shadows)) == (0, 1)

    asyncio.run(followed(shadows, act))


def test_without_a_trial_there_is_no_process(shadows: Shadows, peer: Peer, active: Active, lender: Any) -> None:
    async def act() -> None:
        await asyncio.sleep(0.01)
        assert not hand(shadows, active, lender)
        shadows.want(any_trial=True)
        await soon(lambda: bool(peer.channels) and hand(shadows, active, lender))
        shadows.want(any_trial=False)
        assert await asyncio.to_thread(peer.channels[0].recv, 1) == b""
        assert not hand(shadows, active, lender)
        assert shadows.waiting == 0
        # The next trial has a process of its own, and nobody says that the first one was lost.
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, lender))
        assert ended_of(shadows) == "0"

    asyncio.run(followed(shadows, act))
    assert len(peer.channels) == 2
    assert peer.channels[1].recv(1) == b""  # it ends with the worker


def test_a_process_that_dies_is_replaced_and_counted(
    shadows: Shadows, peer: Peer, active: Active, lender: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        shadows.want(any_trial=True)
        for number in range(3):
            await soon(lambda number=number: len(peer.channels) == number + 1 and hand(shadows, active, lender))
            assert shadows.waiting == 1
            peer.channels[-1].close()
        await soon(lambda: ended_of(shadows) == "3")
        # What waited for it is lost, counted, and takes nobody's place.
        assert shed_of(shadows) == 3
        await soon(lambda: hand(shadows, active, lender))
        assert shadows.waiting == 1

    asyncio.run(followed(shadows, act))
    lost = [record.fields for record in caplog.records if record.message == "shadows lost"]  # type: ignore[attr-defined]
    assert [fields["again_in_seconds"] for fields in lost] == [0.001, 0.002, 0.004]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\0\0\0\1\xc1", id="no message"),
        pytest.param(b"\xff\xff\xff\xff", id="a message of four gigabytes"),
        pytest.param(framed(Judged([])) * 2, id="an answer more than was asked for"),
    ],
)
def test_a_process_that_is_not_understood_is_replaced(
    said: bytes, shadows: Shadows, peer: Peer, active: Active, lender: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: len(peer.channels) == 1 and hand(shadows, active, lender))
        await asyncio.to_thread(peer.batch)
        peer.channels[0].sendall(said)
        await soon(lambda: len(peer.channels) == 2)
        await soon(lambda: hand(shadows, active, lender))

    asyncio.run(followed(shadows, act))
    assert [record.message for record in caplog.records[:2]] == ["shadows not understood", "shadows lost"]
    assert (ended_of(shadows), shed_of(shadows)) == ("1", 2)


def test_a_fork_server_that_is_gone_is_asked_again(
    shadows: Shadows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> socket.socket:
        raise BrokenPipeError("Broken pipe")

    monkeypatch.setattr(shadows, "_start", gone)

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: int(ended_of(shadows)) >= 2)

    asyncio.run(followed(shadows, act))
    assert [record.message for record in caplog.records[:2]] == ["no process for shadows", "shadows lost"]


def test_rows_gather_and_go_together(shadows: Shadows, peer: Peer, active: Active, lender: Any) -> None:
    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, lender))
        assert all(hand(shadows, active, lender, number=number) for number in range(1, 5))
        await asyncio.sleep(0.05)
        batch = peer.batch()
        assert [decision.id for decision in batch.decisions] == [f"d{number}" for number in range(5)]
        assert (batch.trial.version, batch.trial.stage, batch.fits) == (2, "shadow", True)
        assert dict(zip(batch.names, batch.decisions[0].values, strict=True)) == lender.GOOD
        # A full batch does not wait, and too many that wait are refused.
        assert sum(hand(shadows, active, lender) for _ in range(600)) == 512 - 5
        assert shadows.waiting == 512

    asyncio.run(followed(shadows, act))


def test_values_go_under_their_names_in_whatever_order_a_row_is(
    shadows: Shadows, peer: Peer, active: Active, lender: Any
) -> None:
    backwards = SimpleNamespace(GOOD=dict(reversed(lender.GOOD.items())))

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, backwards))
        batch = await asyncio.to_thread(peer.batch)
        assert dict(zip(batch.names, batch.decisions[0].values, strict=True)) == lender.GOOD

    asyncio.run(followed(shadows, act))


def test_a_model_without_a_plan_is_asked_about_many_at_once(
    shadows: Shadows, peer: Peer, lender: Any, people: Any, tmp_path: Path
) -> None:
    store = PackageStore(tmp_path / "store")
    slow = lender.make_package(tmp_path / "slow", compiled=False, contract=lender.trial_contract())
    people.install(slow, store=store, version=3, stage="shadow")
    installed = store.current("loans", stage="shadow")
    assert installed is not None
    now = datetime.now(UTC)
    one = load_active("loans", installed=installed, store=store, trust=people.trust, now=now, minimum_epoch=0)

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, one, lender))
        for _ in range(254):
            hand(shadows, one, lender)
        peer.channels[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.batch()
        hand(shadows, one, lender)
        peer.channels[0].settimeout(SECONDS)
        assert len(peer.batch().decisions) == 256

    asyncio.run(followed(shadows, act))


def test_only_answers_to_what_was_asked_are_counted(shadows: Shadows, peer: Peer, active: Active, lender: Any) -> None:
    judged = framed(Judged([("model", True, 2), ("x" * 99, True, 1), ("rules", False, 3), ("rules", False, -1)]))

    async def act() -> None:
        shadows.want(any_trial=True)
        await soon(lambda: hand(shadows, active, lender))
        assert all(hand(shadows, active, lender) for _ in range(3))
        await asyncio.to_thread(peer.batch)
        peer.channels[0].sendall(judged)
        await soon(lambda: shadows.waiting == 0)
        assert shed_of(shadows) == 2  # of four, two were not decided
        labels = {("model", "loans"), ("version", "2"), ("stage", "shadow"), ("kind", "shadow"), ("route", "model")}
        assert [set(known) for known, _ in shadows._metrics.spending.amounts()] == [labels]
        # An answer that nobody asked for ends it, and so do bytes that are none.
        peer.channels[0].sendall(judged)
        await soon(lambda: ended_of(shadows) == "1" and shadows._transport is not None)
        peer.channels[1].sendall(b"\0\0\0\1\xc1")
        await soon(lambda: ended_of(shadows) == "2")

    asyncio.run(followed(shadows, act))


# --- Beside a real worker -------------------------------------------------------------------------------------------


@pytest.fixture
def worker(lender: Any, people: Any, package: Package, trial: Package, tmp_path: Path) -> Iterator[Any]:
    """With a version in shadow, whose process has begun."""
    store = PackageStore(tmp_path / "store")
    people.install(package, store=store)
    people.install(trial, store=store, version=2, epoch=2, stage="shadow")
    with lender.Worker(store=store.root, people=people, ledger=tmp_path / "ledger.db") as started:
        first: set[str] = set()
        until(lambda: is_followed(started, first, lender))
        yield started
        assert started.stop() == 0


def is_followed(worker: Any, answered: set[str], lender: Any) -> bool:
    """Whether a shadow stands in the ledger of any decision; asks for one more."""
    answered.add(worker.decide(lender.GOOD).body["decision_id"])
    records = read_records(worker.ledger, limit=5000)
    return bool(answered & {record.tags["shadow_of"] for record in records if record.kind == "shadow"})


def metrics(worker: Any) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=SECONDS) as answer:
        return str(answer.read(), "utf-8")


def test_a_killed_process_costs_no_answer_and_comes_back(worker: Any, lender: Any) -> None:
    (process,) = trial_processes(worker.process.pid)
    assert Path(f"/proc/{process}/oom_score_adj").read_text(encoding="ascii") == "1000\n"
    assert os.sched_getscheduler(process) == os.SCHED_IDLE
    os.kill(process, signal.SIGKILL)
    answers = [worker.decide(lender.GOOD) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    until(lambda: 'nbkit_shadow_process_ended_total{model="loans"} 1' in metrics(worker))
    again: set[str] = set()
    until(lambda: is_followed(worker, again, lender))
    assert trial_processes(worker.process.pid) != [process]


def test_where_hardly_more_may_come_in_nobody_is_shadowed(worker: Any, lender: Any) -> None:
    def shed() -> int:
        found = re.search(r'nbkit_shed_total\{queue="shadows"\} (\d+)', metrics(worker))
        return int(found[1]) if found else 0

    before = shed()
    with ExitStack() as stack:
        for _ in range(200):  # of 256
            inside = stack.enter_context(socket.create_connection(("127.0.0.1", worker.port)))
            inside.sendall(b"POST /v1/models/loans/decisions HTTP/1.1\r\n")
        until(lambda: worker.decide(lender.GOOD).status == 200 and shed() > before)
    again: set[str] = set()
    until(lambda: is_followed(worker, again, lender))


def trial_processes(worker: int) -> list[int]:
    """Processes that a child of the worker has forked."""
    found = []
    for child in children(worker):
        found += children(child)
    return found


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(number) for number in text.split()]
