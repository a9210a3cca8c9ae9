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
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import load
import peers
import world
from servers import Postgresql, Server, free_port, mlflow_serve, nbkit

import nbkit as measured

RESULT = Path(__file__).parents[1] / "results" / "serve.json"
ECHO = Path(__file__).with_name("echo.py")
DEADLINE_MS = 250.0
# A worker lets in as many as it answers in half of the deadline: with 250 ms and 7,000 a second, 875. With fewer than
# these, callers would wait in the client instead of being turned away.
STORM_CONNECTIONS = 1024

# Of a storm: answers of the model in time of the capacity; those too late of all of them; in time again a second later.
_SHARES = ("goodput_share", "late_share", "recovered_share")


@contextlib.contextmanager
def contestants(
    folder: Path, database: Postgresql
) -> Iterator[tuple[dict[str, Server], dict[str, str], dict[str, str]]]:
    """Start everybody; yields servers, versions, and who is left out and why."""
    home = world.settle(folder / "compiled", deadline_ms=DEADLINE_MS)
    plain = world.settle(folder / "uncompiled", compiled=False, deadline_ms=2000)
    files = {shape: world.bodies(folder / f"{shape}.jsonl", wrap=shape) for shape in ("native", "mlflow", "v2")}
    (folder / "ledgers").mkdir()
    ports = {name: free_port() for name in ("fastapi", "bentoml", "mlserver")}
    others, skipped = peers.prepare(home.model, folder, ports=ports)
    echo = free_port()
    servers = [
        nbkit("nbkit", home, ledger=str(folder / "ledgers" / "one.db"), bodies=files["native"]),
        Server(
            name="echo", port=echo, path="/", health="/", command=[sys.executable, str(ECHO), str(echo)],
            bodies=files["native"],
        ),
        nbkit("nbkit postgresql", home, ledger=database.url, bodies=files["native"], database=database),
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
        # To and fro, so that nobody always comes after the same one.
        for name, server in list(servers.items())[:: 1 if turn % 2 else -1]:
            # The slow ones need longer for as many answers.
            took = seconds if name.startswith(("nbkit", "echo")) else 2 * seconds
            with server.alone(servers.values()):
                server.load_closed(folder, seconds=1.0)
                server.settle()  # a slow one still works off what the client has left
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


def measure(folder: Path, database: Postgresql, *, rounds: int, storms: int, seconds: float) -> dict[str, Any]:
    load.build(folder)
    with contestants(folder, database) as (servers, versions, skipped):
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
            storm = overloads(best, folder, rounds=storms, seconds=seconds)
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
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--storms", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    # As pip does with whatever it installs. The peers come from there; a working copy would be compiled at every start
    # where the environment says that nothing compiled is kept.
    compileall.compile_dir(Path(measured.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder, Postgresql() as database:
        found = measure(Path(folder), database, rounds=given.rounds, storms=given.storms, seconds=given.seconds)
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
        "storms": given.storms,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
