"""Several people at the same moment, and power cuts: exactly one promotion wins, no signature is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbkit import lifecycle
from nbkit.contract import Stage
from nbkit.errors import RefusedError
from nbkit.lifecycle._champion import claimed, verified_champion
from nbkit.registry import Action, Registry

if TYPE_CHECKING:
    from tests.attacks.conftest import World

NAME = "loan-denial"


def now() -> datetime:
    return datetime.now(UTC)


def test_of_many_who_claim_the_same_thing_the_first_wins(world: World) -> None:
    start = threading.Barrier(6)

    def claim(number: int) -> str:
        registry = Registry(world.settings)
        start.wait()
        return registry.claim(NAME, key="move.test.1", value=f"value {number}")

    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(claim, range(6)))
    assert len(set(held)) == 1
    assert world.registry.claims(NAME)["move.test.1"] == held[0]
    assert world.registry.claim(NAME, key="move.test.1", value="later") == held[0]
    run = world.registry.versions(NAME)[-1].run_id
    assert world.registry.run(run).parameters == {"trees": "5"}


@pytest.fixture(scope="module")
def rivals(world: World) -> tuple[int, int]:
    """Two versions, both approved for production at the same epoch."""
    versions = world.register(), world.register()
    for version in versions:
        world.climb(version, to="staging")
    for version in versions:
        world.approve(version, to="production")
    return versions


def test_of_two_promotions_at_the_same_moment_one_wins(
    world: World, rivals: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Barrier(2)
    claim = Registry.claim

    def together(self: Registry, name: str, *, key: str, value: str) -> str:
        if key.startswith("move."):
            start.wait(timeout=60)
        return claim(self, name, key=key, value=value)

    monkeypatch.setattr(Registry, "claim", together)

    def promote(version: int) -> object:
        try:
            return world.promote(version, to="production")
        except RefusedError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(promote, rivals))
    lost = [result for result in results if isinstance(result, RefusedError)]
    won = [result for result in results if not isinstance(result, RefusedError)]
    assert len(won) == len(lost) == 1
    winner = won[0].version
    assert f"version {winner} moved at the same moment" in str(lost[0])
    assert world.registry.version_at(NAME, stage="production") == winner
    assert world.sync().version == winner
    (loser,) = set(rivals) - {winner}
    assert world.registry.envelope(NAME, version=loser, stage="production") is None
    # What was approved for the loser was approved beside another champion.
    with pytest.raises(RefusedError, match="production is version"):
        world.promote(loser, to="production")


def test_two_people_who_approve_at_the_same_moment_lose_no_signature(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = world.register()
    start = threading.Barrier(2)
    save = Registry.save_envelope

    def together(self: Registry, name: str, **given: object) -> None:
        start.wait(timeout=60)
        save(self, name, **given)

    monkeypatch.setattr(Registry, "save_envelope", together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda key: world.approve(version, to="staging", key=key), ["ben", "cleo"]))
    (pending,) = world.registry.pending(NAME, version=version, stage="staging")
    assert {signature.keyid for signature in pending.signatures} == {world.key(name).key_id for name in ("ben", "cleo")}
    monkeypatch.undo()
    moved = world.promote(version, to="staging")
    assert set(moved.approvers) == {"ben", "cleo"}
    statement = world.registry.envelope(NAME, version=version, stage="staging")
    assert statement is not None
    assert statement.unverified_statement().action is Action.PROMOTE


# Writes of a promotion, in order: the claim, two files, the evidence's tag (the step in which it moves), the approval's
# tag that goes, the gates' tags, the alias, the run's tag, what becomes of the version before.
EVIDENCE_IS_SET = "set_model_version_tag nbkit.evidence.production"
KILLED_BEFORE = ("log_param", "log_artifact", EVIDENCE_IS_SET)
KILLED_AFTER = (
    "delete_model_version_tag",
    "set_model_version_tag nbkit.stage",
    "set_registered_model_alias production",
)


@pytest.mark.parametrize("point", [*KILLED_BEFORE, *KILLED_AFTER])
def test_a_promotion_that_is_killed_is_before_or_after(world: World, point: str, tmp_path: Path) -> None:
    # Every other one on each store; all on both: make sweep-promotion.
    on_postgresql = world.settings.tracking_uri.startswith("postgresql")
    if not os.environ.get("NBKIT_SWEEP") and [*KILLED_BEFORE, *KILLED_AFTER].index(point) % 2 != on_postgresql:
        pytest.skip("in make sweep-promotion")
    before = world.sync().version
    version = world.climb(world.register(), to="staging")
    world.approve(version, to="production")
    assert _killed_at(point, world=world, version=version)
    expected = version if point in KILLED_AFTER else before
    champion = verified_champion(NAME, settings=world.settings, now=now())
    assert champion is not None
    # The gates' champion, a server that was there and one that is new: all see the same.
    assert (champion.version, world.sync().version, world.sync(store=tmp_path).version) == (expected,) * 3
    assert world.promote(version, to="production").version == version
    assert world.registry.version_at(NAME, stage="production") == version
    assert world.sync().version == version


def _killed_at(point: str, *, world: World, version: int) -> bool:
    """Promote in a child process that is killed just before one write; say whether it was."""
    child = os.fork()
    if child == 0:
        try:
            _kill_before(point)
            world.promote(version, to="production")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _kill_before(point: str) -> None:
    from mlflow import MlflowClient
    from mlflow.store.model_registry import sqlalchemy_store as registry_store
    from mlflow.store.tracking import sqlalchemy_store as tracking_store

    for store in (registry_store, tracking_store):
        for engine in store.SqlAlchemyStore._engine_map.values():
            # A connection belongs to the process that opened it.
            engine.dispose(close=False)
    method, _, said = point.partition(" ")
    write = getattr(MlflowClient, method)

    def killed(self: MlflowClient, *arguments: object, **options: object) -> object:
        if any(str(argument).startswith(said) for argument in arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(self, *arguments, **options)

    setattr(MlflowClient, method, killed)


def test_a_rollback_goes_back_in_seconds_and_twice_goes_back_twice(world: World) -> None:
    def back() -> lifecycle.Result:
        return lifecycle.rollback(NAME, reason="complaints", settings=world.settings, now=now(), key="omar")

    while len(claimed(NAME, stage=Stage.PRODUCTION, settings=world.settings)) < 3:
        world.climb(world.register())
    current = world.sync().version
    first = back()
    assert first.rolled_back_from == current
    assert world.sync().version == first.version
    second = back()
    assert second.rolled_back_from == first.version
    assert second.version < first.version
    assert world.sync().version == second.version
    # A version that was rolled back from does not come back by itself: not by its alias, not by another rollback.
    with world.alias_on(current):
        assert world.sync().version == second.version


ROW = {"loanamt": 250, "mortg": "level 2"}


class _Caller(threading.Thread):
    """Asks a running service one request after another until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[int, object]] = []
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.answers.append(_ask(self._port))

    def finish(self) -> None:
        self._over.set()
        self.join()


def _ask(port: int) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/v1/models/{NAME}/decisions", json.dumps({"inputs": ROW}), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read()).get("model_version")
    finally:
        connection.close()


def _environment(world: World) -> dict[str, str]:
    return {
        **os.environ,
        "NBKIT_HOME": str(world.settings.home),
        "NBKIT_STORE": str(world.settings.store),
        "NBKIT_ARTIFACT_ROOT": str(world.settings.artifact_root),
        "MLFLOW_TRACKING_URI": world.settings.tracking_uri,
    }


@contextmanager
def _serving(world: World, *, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``nbkit serve``: one process that follows MLflow, and its worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "nbkit", "serve", NAME, "--port", str(port)]
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=world.folder, env=_environment(world), stdout=said, stderr=said)
    try:
        yield process, port
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _until_answered_by(version: int, *, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            if _ask(port) == (200, version):
                return
        except OSError:
            # Not listening yet.
            pass
        time.sleep(0.1)
    raise AssertionError(f"version {version} did not answer: {log.read_text()}")


def _worker_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()


def test_a_running_service_goes_back_by_one_command_and_no_request_fails(world: World, tmp_path: Path) -> None:
    if world.settings.tracking_uri.startswith("postgresql"):
        pytest.skip("what a service follows is the same on both stores")
    log = tmp_path / "serve.log"
    later = world.climb(world.register())
    with _serving(world, log=log) as (process, port):
        _until_answered_by(later, port=port, process=process, log=log)
        worker = _worker_of(process)
        caller = _Caller(port)
        caller.start()
        command = [sys.executable, "-m", "nbkit", "rollback", NAME, "--reason", "complaints", "--key", "omar", "--json"]
        done = subprocess.run(command, cwd=world.folder, env=_environment(world), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["rolled_back_from"] == later
        _until_answered_by(said["version"], port=port, process=process, log=log)
        caller.finish()
        assert _worker_of(process) == worker
    assert said["version"] < later
    assert {status for status, _ in caller.answers} == {200}
    # One change of version, from the later to the earlier, and no answer of another one in between.
    versions = [version for _, version in caller.answers]
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == later
    assert set(versions) <= {later, said["version"]}
