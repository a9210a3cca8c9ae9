"""The contestants of ``make bench-serve`` as processes: started, put under load, stood still, weighed, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import load
import mlflow
import world

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
from killing import Postgresql

CONNECTIONS = 32
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
MARKS = ['"fallback":""']


@dataclass(kw_only=True)
class Server:
    """One contestant while it runs."""

    name: str
    port: int
    path: str
    health: str
    command: list[str]
    bodies: Path
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    database: Postgresql | None = None
    process: subprocess.Popen[bytes] | None = None
    ready_seconds: float = 0.0

    def start(self, log: Path) -> None:
        begun = time.perf_counter()
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **QUIET, **self.environment}, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        while not self._is_ready():
            if self.process.poll() is not None or time.perf_counter() - begun > 180:
                raise RuntimeError(f"{self.name} did not start; see {log}:\n{log.read_text()[-2000:]}")
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - begun

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.health}", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            # A child that still answers would make the next start look like none at all.
            gives_up = time.perf_counter() + 20
            while self._is_ready() and time.perf_counter() < gives_up:
                time.sleep(0.05)

    @contextlib.contextmanager
    def alone(self, others: Iterable[Server]) -> Iterator[None]:
        """Have the machine to itself: the others stand still meanwhile.

        A server goes on with requests whose callers have left; they are worked off before another is measured, who
        would pay for that.
        """
        with contextlib.ExitStack() as stack:
            for other in others:
                if other is not self:
                    stack.enter_context(other.standing_still())
            yield
            self.settle()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        self._signal(signal.SIGSTOP)
        try:
            # A database tidies up for minutes after its server's turn.
            with self.database.held_up() if self.database else contextlib.nullcontext():
                yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        for process in list(_family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def settle(self) -> None:
        """Wait until it has nothing to do, ten seconds at most."""
        assert self.process is not None
        gives_up = time.perf_counter() + 10
        before = -1.0
        while time.perf_counter() < gives_up:
            used = sum(_processor_seconds(process) for process in _family(self.process.pid))
            if used - before <= 0.02:
                return
            before = used
            time.sleep(0.25)

    def memory_mb(self) -> float:
        """The proportional share of all its processes: what two of them share counts once."""
        assert self.process is not None
        return sum(_share_kb(process) for process in _family(self.process.pid)) / 1024

    def fallbacks(self) -> int:
        """Answers without the model so far: wrk counts them like any other."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics", headers=self.headers)
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - the benchmark's own server
            lines = answer.read().decode().splitlines()
        return round(sum(float(line.split()[-1]) for line in lines if line.startswith("nbkit_fallbacks_total")))

    def _plan(self, **plan: Any) -> dict[str, Any]:
        return {
            "port": self.port, "path": self.path, "bodies": str(self.bodies), "headers": self.headers, "marks": MARKS,
            "connections": CONNECTIONS, **plan,
        }  # fmt: skip

    def load(self, folder: Path, **plan: Any) -> dict[str, Any]:
        return load.measure(folder / "load", self._plan(**plan))

    def load_closed(self, folder: Path, *, seconds: float, connections: int = CONNECTIONS) -> dict[str, Any]:
        """Ask again when answered, by wrk where it is installed."""
        plan = self._plan(seconds=seconds, connections=connections)
        return load.measure_by_wrk(plan) if load.WRK else load.measure(folder / "load", plan)


def _family(process: int) -> Iterator[int]:
    yield process
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _share_kb(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def _processor_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nbkit(name: str, home: world.World, *, ledger: str, bodies: Path, database: Postgresql | None = None) -> Server:
    port = free_port()
    command = [
        sys.executable, "-m", "nbkit.serve", "--name", world.NAME, "--store", str(home.store), "--port", str(port),
        "--trust", str(home.trust), "--ledger", ledger, "--ledger-key", str(home.ledger_key),
        "--journal", str(home.home / f"{name}.journal"), "--api-keys", str(home.home / "apikeys.json"),
        "--log-level", "warning",
    ]  # fmt: skip
    return Server(
        name=name, port=port, path=f"/v1/models/{world.NAME}/decisions", health="/readyz", command=command,
        bodies=bodies, headers={"authorization": f"Bearer {home.token}"}, database=database,
    )  # fmt: skip


def mlflow_serve(name: str, model: Any, folder: Path, *, bodies: Path) -> Server:
    port, saved = free_port(), folder / name
    mlflow.sklearn.save_model(model, saved, serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(saved), "--env-manager", "local",
        "--workers", "1", "--port", str(port), "--host", "127.0.0.1",
    ]  # fmt: skip
    # It runs uvicorn by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return Server(
        name=name, port=port, path="/invocations", health="/ping", command=command, bodies=bodies,
        environment={"PATH": path},
    )  # fmt: skip
