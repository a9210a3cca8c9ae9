"""How long ``nbkit rollback`` takes, from the key press to the prompt, beside the bare move of an alias with MLflow.

One model with five versions, all of them once in production, in three places: an SQLite file, PostgreSQL, and a guarded
MLflow server (``--app-name nbkit``). Each rollback is the installed command in a process of its own, and goes back one
version further. Beside it: ``nbkit gate`` of the version in production, and a script that loads MLflow and moves an
alias, which is the least that anybody can do with MLflow and checks nothing. Wall and processor seconds are those of
the command; the server's own are in the wall. The limit (5 s) is shown and not asserted.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# ruff: noqa: E402  what follows has to come before the imports.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
# A script's own folder is searched first, and packaging.py in it has the name of a library that mlflow imports.
sys.path[0] = str(Path(__file__).parents[1])

import requests

from nbkit import lifecycle
from nbkit.package import Package
from nbkit.settings import Settings
from tests.attacks.conftest import NAME, World, _package, contract, make_world
from tests.faults.killing import Postgresql

RESULT = Path(__file__).parent / "results" / "rollback.json"
LIMIT_SECONDS = 5
VERSIONS = 5
SCRIPTS = Path(sys.executable).parent
BARE = "import mlflow; mlflow.MlflowClient().set_registered_model_alias('loan-denial', 'bare', '1')"


def main() -> None:
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="nbkit-rollback-") as name, Postgresql() as postgresql:
        folder = Path(name)
        package = _package(folder / "package", contract())
        places = {
            "sqlite": contextlib.nullcontext(f"sqlite:///{folder / 'sqlite' / 'mlflow.db'}"),
            "postgresql": contextlib.nullcontext(postgresql.url),
            "server": guarded(folder / "server"),
        }
        for place, address in places.items():
            with address as uri:
                print(f"{place}: {VERSIONS} versions go to production", file=sys.stderr)
                taken[place] = measure(filled(folder / place, uri=uri, package=package))
    medians = {place: {what: round(statistics.median(found), 2) for what, found in those.items()}
               for place, those in taken.items()}  # fmt: skip
    for place, those in medians.items():
        for what, seconds in those.items():
            print(f"{place:11} {what:16} {seconds:6.2f} s")
    print(f"limit of a rollback by the clock: {LIMIT_SECONDS} s")
    bare = {place: those["rollback wall"] / those["bare alias wall"] for place, those in medians.items()}
    result = {
        "name": "rollback",
        "ratios": {f"nbkit rollback / bare alias by mlflow, {place}": round(ratio, 2) for place, ratio in bare.items()},
        "seconds": medians,
        "slowest_rollback_seconds": {place: round(max(those["rollback wall"]), 2) for place, those in taken.items()},
        "limit_seconds": LIMIT_SECONDS,
        "versions": {
            "python": sys.version.split()[0],
            **{library: version(library) for library in ("nbkit", "mlflow", "sqlalchemy", "psycopg")},
        },
        "n": VERSIONS - 1,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def filled(folder: Path, *, uri: str, package: Package) -> World:
    """Return a registry in which every version was in production, one after the other."""
    folder.mkdir(exist_ok=True)
    world = make_world(folder, uri=uri, package=package)
    for _ in range(VERSIONS):
        world.climb(world.register())
    return world


def measure(world: World) -> dict[str, list[float]]:
    """Return wall and processor seconds of each command, in turns."""
    nbkit = str(SCRIPTS / "nbkit")
    # As an operator's shell has it.
    settings = world.settings
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": settings.tracking_uri, "NBKIT_HOME": str(settings.home),
        "NBKIT_STORE": str(settings.store), "NBKIT_ARTIFACT_ROOT": str(settings.artifact_root),
    }  # fmt: skip
    taken: dict[str, list[float]] = {}
    for number in range(VERSIONS, 1, -1):
        commands = {
            "rollback": [nbkit, "rollback", NAME, "--reason", "complaints", "--key", "omar"],
            "gate": [nbkit, "gate", f"{NAME}@{number - 1}", "--to", "production"],
            "bare alias": [sys.executable, "-c", BARE],
        }
        for what, command in commands.items():
            wall, cpu, said = timed(command, environment=environment)
            taken.setdefault(f"{what} wall", []).append(wall)
            taken.setdefault(f"{what} cpu", []).append(cpu)
            if what == "rollback":
                assert said.startswith(f"{NAME}@{number - 1}: rolled back from {number}, now production"), said
    return taken


def timed(command: list[str], *, environment: dict[str, str]) -> tuple[float, float, str]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    # A gate table that does not pass ends with 1 and is a full answer; an error says nothing on standard output.
    assert done.returncode in {0, 1}, done.stderr
    assert done.stdout or command[1] == "-c", done.stderr
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return wall, cpu, done.stdout


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """Run a guarded server on an SQLite file, with the trust file that the world is going to write."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    own = Settings(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", artifact_root=folder / "files", home=folder / "home",
        store=folder / "store",
    )  # fmt: skip
    command = lifecycle.ui_command(settings=own, port=port, guarded=True)
    environment = os.environ | lifecycle.UI_ENVIRONMENT | {"NBKIT_HOME": str(own.home)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert server.poll() is None, (folder / "log").read_text()
                with contextlib.suppress(requests.RequestException):
                    requests.get(f"{address}/health", timeout=5)
                    break
                time.sleep(0.1)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


if __name__ == "__main__":
    main()
