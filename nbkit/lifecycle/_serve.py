"""Serve the version in production, and tell when the registry drifts from what was signed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RegistryError
from nbkit.lifecycle._decided import DecidedRegistry
from nbkit.lifecycle._keys import ledger_key
from nbkit.lifecycle._ledger_place import ledger_place
from nbkit.lifecycle._registry_audit import DriftWatch
from nbkit.registry import MEMORY_FILE, Memory, TrustStore
from nbkit.route import RouteTable
from nbkit.serve import PackageStore, SyncResult, sync_model
from nbkit.settings import Settings

_SYNC_EVERY_SECONDS = 5.0

# Champion and challengers: a worker serves all three side by side.
_SERVED_STAGES = (Stage.PRODUCTION.value, Stage.CANARY.value, Stage.SHADOW.value)


def sync(name: str, *, settings: Settings, now: datetime, stage: str = Stage.PRODUCTION.value) -> SyncResult:
    """Bring the version in production, or on trial in another stage, into the local store, if it verifies.

    When MLflow cannot answer or the trust file cannot be read, that is the reason of a refusal: the worker asks for
    itself whether what it serves is still trusted.
    """
    try:
        trust = TrustStore.load(settings.trust_file)
        store = PackageStore(settings.store)
        Memory(settings.store / MEMORY_FILE).check_clock(now)
        registry = DecidedRegistry(settings, now=now)
        result = sync_model(name, registry=registry, trust=trust, store=store, now=now, stage=stage)
        if registry.alias_lags:
            store.alert(name, version=result.version or 0, reason=registry.alias_lags, now=now)
        return result
    except (RegistryError, EvidenceError) as error:
        return SyncResult(state="refused", version=None, reason=str(error), stage=stage)


def worker_command(
    name: str,
    *,
    settings: Settings,
    host: str,
    port: int,
    now: datetime,
    log_level: str = "info",
    access: tuple[str, ...] = (),
    routes: Path | None = None,
) -> list[str]:
    """Return the command of a scoring worker; it imports neither mlflow nor pandas nor shap.

    ``access`` are its options that say who may call, as `python -m nbkit.serve` takes them. It is to be started in
    `worker_environment`.
    """
    key = ledger_key(settings, now=now)
    place = ledger_place(name, settings=settings)
    # An address may hold a password, and everybody on the machine can read a command: it goes by the environment.
    ledger = () if isinstance(place, str) else ("--ledger", str(place))
    return [
        sys.executable, "-m", "nbkit.serve", "--name", name, "--store", str(settings.store),
        "--trust", str(settings.trust_file), "--host", host, "--port", str(port), "--log-level", log_level,
        "--ledger-key", str(settings.keys / f"{key.name}.pem"), *ledger,
        *access, *(("--routes", str(routes)) if routes else ()),
    ]  # fmt: skip


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a worker; it names the ledger where that is a database."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NBKIT_LEDGER": settings.ledger}


def serve(
    name: str,
    *,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    access: tuple[str, ...] = (),
    routes: Path | None = None,
    report: Callable[[str], None],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> int:
    """Serve the version in production until the process is told to stop.

    This process follows MLflow and verifies; a worker process of its own answers. When MLflow is down or what it says
    does not verify, the worker goes on with the last good version.

    Returns
    -------
    int
        The worker's exit code.

    Raises
    ------
    EvidenceError
        Nothing that verifies has ever been in production.
    RouteError
        The table of routes is wrong.
    """
    first = sync(name, settings=settings, now=clock())
    report(f"{name}: {first.state}{': ' + first.reason if first.reason else ''}")
    if PackageStore(settings.store).current(name) is None:
        raise EvidenceError(
            f"{name}: nothing to serve: {first.reason or 'no version in production'}",
            next_step=f"nbkit gate {name} --to production",
        )
    stop = threading.Event()
    others = tuple(model for model in (RouteTable.load(routes).models if routes else ()) if model != name)
    command = worker_command(name, settings=settings, host=host, port=port, now=clock(), access=access, routes=routes)
    command += ["--supervisor", str(os.getpid())]
    worker = subprocess.Popen(command, env=worker_environment(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    report(f"{name}: answering at http://{host}:{port}/v1/models/{name}/decisions")
    last = {(name, first.stage): first}
    drifts = {model: DriftWatch(model, settings=settings) for model in (name, *others)}
    while worker.poll() is None and not stop.wait(_SYNC_EVERY_SECONDS if len(last) > 1 else 0):
        for model, stage in itertools.product((name, *others), _SERVED_STAGES):
            result = sync(model, settings=settings, now=clock(), stage=stage)
            if result != last.get((model, stage)) and result.state not in ("current", "empty"):
                report(f"{model}: {stage}: {result.state}: {result.reason or f'version {result.version}'}")
            last[model, stage] = result
        for model, drift in drifts.items():
            for finding in drift.look(clock()):
                report(f"{model}: {finding.kind}: {finding.where}: {finding.what}")
    worker.terminate()
    return worker.wait(timeout=30)
