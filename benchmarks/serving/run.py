"""The scoring service beside the servers that people use today: ``make bench-serve``.

All serve the same fitted model (or its compiled plan) to the same varied rows; nbkit also authenticates, records each
decision durably before it answers, gives reasons where adverse, keeps counts, and scores a shadow. All servers are up
at once and take turns under load, so that a busy moment meets each. A server that has stood still while others had
their turns is under load for a second before it is measured. Client and servers share this machine's processors, whose
speed changes from minute to minute: a ratio is the median of those of the turns.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import load
import mlflow
import peers
import world

import nbkit as measured

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
from killing import Postgresql

RESULT = Path(__file__).parents[1] / "results" / "serve.json"
ECHO = Path(__file__).with_name("echo.py")
CONNECTIONS = 32
DEADLINE_MS = 250.0
# More than a worker lets in at once, or callers would wait in the client instead of being turned away.
STORM_CONNECTIONS = 1024
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
MARKS = ['"fallback":""']

# Of a storm: answers of the model in time of the capacity; those too late of all of them; in time again a second later.
_SHARES = ("goodput_share", "late_share", "recovered_share")


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
        stopped = [other for other in others if other is not self]
        for other in stopped:
            other.signal(signal.SIGSTOP)
        try:
            yield
            self.settle()
        finally:
            for other in stopped:
                other.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
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


def nbkit(name: str, home: world.World, *, ledger: str, bodies: Path) -> Server:
    port = free_port()
    command = [
        sys.executable, "-m", "nbkit.serve", "--name", world.NAME, "--store", str(home.store), "--port", str(port),
        "--trust", str(home.trust), "--ledger", ledger, "--ledger-key", str(home.ledger_key),
        "--journal", str(home.home / f"{name}.journal"), "--api-keys", str(home.home / "apikeys.json"),
        "--log-level", "warning",
    ]  # fmt: skip
    return Server(
        name=name, port=port, path=f"/v1/models/{world.NAME}/decisions", health="/readyz", command=command,
        bodies=bodies, headers={"authorization": f"Bearer {home.token}"},
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


@contextlib.contextmanager
def contestants(folder: Path, url: str) -> Iterator[tuple[dict[str, Server], dict[str, str], dict[str, str]]]:
    """Start everybody; yields servers, versions, and who is left out and why."""
    home = world.settle(folder / "compiled", deadline_ms=DEADLINE_MS)
    plain = world.settle(folder / "uncompiled", compiled=False, deadline_ms=2000)
    files = {shape: world.bodies(folder / f"{shape}.jsonl", wrap=shape) for shape in ("native", "mlflow", "v2")}
    (folder / "ledgers").mkdir()
    ports = {name: free_port() for name in ("fastapi", "bentoml", "mlserver")}
    others, skipped = peers.prepare(home.model, folder, ports=ports)
    echo = free_port()
    servers = [
        nbkit("nbkit postgresql", home, ledger=url, bodies=files["native"]),
        nbkit("nbkit", home, ledger=str(folder / "ledgers" / "one.db"), bodies=files["native"]),
        Server(
            name="echo", port=echo, path="/", health="/", command=[sys.executable, str(ECHO), str(echo)],
            bodies=files["native"],
        ),
        nbkit("nbkit uncompiled", plain, ledger=str(folder / "ledgers" / "two.db"), bodies=files["native"]),
        mlflow_serve("mlflow", home.model, folder, bodies=files["mlflow"]),
        mlflow_serve("mlflow uncompiled", plain.model, folder, bodies=files["mlflow"]),
        *(
            Server(
                name=peer.name, port=ports[peer.name], path=peer.path, health=peer.health, command=peer.command,
                bodies=files[peer.shape], environment=peer.environment,
            )
            for peer in others
        ),
    ]  # fmt: skip
    running: dict[str, Server] = {}
    try:
        for server in servers:
            try:
                server.start(folder / f"{server.name}.log")
                running[server.name] = server
            except RuntimeError as error:
                server.stop()
                if server.name.startswith(("nbkit", "mlflow", "echo")):
                    raise
                skipped[server.name] = str(error)[-300:]
        yield running, {peer.name: peer.version for peer in others}, skipped
    finally:
        for server in servers:
            server.stop()


def closed_loop(servers: dict[str, Server], folder: Path, *, rounds: int, seconds: float) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in servers}
    for turn in range(1, rounds + 1):
        for name, server in servers.items():
            # The slow ones need longer for as many answers.
            took = seconds if name.startswith(("nbkit", "echo")) else 2 * seconds
            with server.alone(servers.values()):
                server.load_closed(folder, seconds=1.0)
                found[name].append(server.load_closed(folder, seconds=took))
        print(f"turn {turn} of {rounds}", {n: t[-1]["per_second"] for n, t in found.items() if t}, file=sys.stderr)
    return found


def ratio(closed: dict[str, list[Any]], name: str, other: str, *, key: str = "per_second") -> float:
    """Return the median over the turns of one server's figure divided by another's in the same turn."""
    return statistics.median(mine[key] / its[key] for mine, its in zip(closed[name], closed[other], strict=True))


def overload(server: Server, folder: Path, *, capacity: float) -> dict[str, Any]:
    """Three times the capacity for four seconds, between two stretches at a third of it."""
    calm, storm = [3.0, capacity / 3], [4.0, 3 * capacity]
    told = server.load(folder, phases=[calm, storm, calm], connections=STORM_CONNECTIONS, timeline=True)
    line = told.pop("timeline")
    # By when they were answered: due plus latency. An answer of the model after the deadline does nobody any good.
    during = [took for due, took, kind in line if kind == 1 and 3.5 <= due + took < 7.0]
    on_time = sum(took <= DEADLINE_MS / 1000 for took in during)
    # What is due a second after the storm, or later, is answered in time again.
    after = [kind == 1 and took <= DEADLINE_MS / 1000 for due, took, kind in line if due >= 8.0]
    return {
        **told,
        "capacity_per_second": capacity,
        "offered_per_second": round(3 * capacity),
        "goodput_per_second": round(on_time / 3.5, 1),
        "goodput_share": round(on_time / 3.5 / capacity, 3),
        "late_share": round(1 - on_time / max(len(during), 1), 4),
        "recovered_share": round(sum(after) / max(len(after), 1), 4),
    }


def overloads(server: Server, folder: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Overload it again and again, each time by the capacity of just before: a machine gives more now and less then.

    Returns the one in the middle by goodput; what was lost, and who did not recover, of all.
    """
    told = []
    for _ in range(rounds):
        capacity = server.load_closed(folder, seconds=seconds)["per_second"]
        server.settle()
        told.append(overload(server, folder, capacity=capacity))
        server.settle()
    told.sort(key=lambda each: float(each["goodput_share"]))
    return {
        **told[(rounds - 1) // 2],
        **{name: sum(each[name] for each in told) for name in ("broken", "lost")},
        "recovered_share": min(each["recovered_share"] for each in told),
        "storms": [{name: each[name] for name in ("capacity_per_second", *_SHARES)} for each in told],
    }


def measure(folder: Path, url: str, *, rounds: int, seconds: float) -> dict[str, Any]:
    load.build(folder)
    with contestants(folder, url) as (servers, versions, skipped):
        closed = closed_loop(servers, folder, rounds=rounds, seconds=seconds)
        fallbacks = {name: server.fallbacks() for name, server in servers.items() if name.startswith("nbkit")}
        best = servers["nbkit"]
        with best.alone(servers.values()):
            single = [best.load_closed(folder, connections=1, seconds=seconds) for _ in range(rounds)]
        mean = {
            name: {
                key: round(statistics.median(told[key] for told in all_told), 3)
                for key in ("per_second", "p50_ms", "p99_ms", "p999_ms")
            }
            for name, all_told in closed.items()
        }
        capacity = mean["nbkit"]["per_second"]
        with best.alone(servers.values()):
            half = best.load(folder, phases=[[6.0, capacity / 2]], connections=256)
            storm = overloads(best, folder, rounds=rounds, seconds=seconds)
        memory = {name: round(server.memory_mb(), 1) for name, server in servers.items()}
        starts = {name: [server.ready_seconds] for name, server in servers.items() if name in ("nbkit", "mlflow")}
        for name in starts:
            for _ in range(2):
                servers[name].stop()
                servers[name].start(folder / f"{name}.log")
                starts[name].append(servers[name].ready_seconds)
    names = [name for name in closed if not name.startswith(("nbkit", "echo")) and not name.endswith("uncompiled")]
    ratios = {f"nbkit / {name}": ratio(closed, "nbkit", name) for name in [*names, "echo"]}
    ratios |= {
        "p99 of mlflow / p99 of nbkit": ratio(closed, "mlflow", "nbkit", key="p99_ms"),
        "nbkit on postgresql / on sqlite": ratio(closed, "nbkit postgresql", "nbkit"),
        "nbkit uncompiled / mlflow uncompiled": ratio(closed, "nbkit uncompiled", "mlflow uncompiled"),
        "ready: mlflow / nbkit": statistics.median(starts["mlflow"]) / statistics.median(starts["nbkit"]),
    }
    return {
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "turns_per_second": {name: [told["per_second"] for told in all_told] for name, all_told in closed.items()},
        "closed_32": mean,
        "fallbacks": fallbacks,
        "failed": {name: sum(told["broken"] for told in all_told) for name, all_told in closed.items()},
        "statuses": {name: all_told[-1]["statuses"] for name, all_told in closed.items()},
        "client_cpu_share": {name: all_told[-1]["client_cpu_share"] for name, all_told in closed.items()},
        "closed_1": {key: round(statistics.median(told[key] for told in single), 3) for key in ("p50_ms", "p99_ms")},
        "open_half": half,
        "open_triple": storm,
        "memory_mb": memory,
        "ready_seconds": {name: round(statistics.median(all_told), 2) for name, all_told in starts.items()},
        "skipped": skipped,
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    # As pip does with whatever it installs. The peers come from there; a working copy would be compiled at every start
    # where the environment says that nothing compiled is kept.
    compileall.compile_dir(Path(measured.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder, Postgresql() as server:
        found = measure(Path(folder), server.url, rounds=given.rounds, seconds=given.seconds)
    used = ("nbkit", "uvicorn", "uvloop", "httptools", "msgspec", "treelite", "mlflow", "scikit-learn", "psycopg")
    result = {
        "name": "serve",
        **found,
        "deadline_ms": DEADLINE_MS,
        "adverse_share": 0.03,
        "cpus": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "closed_loop_client": "wrk" if load.WRK else "load.c",
        "open_loop_client": "load.c",
        "versions": {"python": sys.version.split()[0], **{n: version(n) for n in used}, **found["versions"]},
        "n": given.rounds,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
