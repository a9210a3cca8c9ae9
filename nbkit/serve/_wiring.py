"""Put a worker together: services and the versions they follow, faces, and who may call."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nbkit.audit import AnyLedger
from nbkit.contract import Stage
from nbkit.route import RouteTable
from nbkit.serve._active import Active
from nbkit.serve._app import App, Face, Guard
from nbkit.serve._breaker import Breaker
from nbkit.serve._express import Express
from nbkit.serve._gate import Gate
from nbkit.serve._guard import AccessGuard, open_guard
from nbkit.serve._lane import Lane
from nbkit.serve._metrics import Metrics
from nbkit.serve._mlflow_face import MlflowFace
from nbkit.serve._native import NativeFace, decisions_path
from nbkit.serve._notes import figures_of, note_ticket
from nbkit.serve._openapi import OpenApiFace
from nbkit.serve._routes_face import ModelFace, RoutesFace
from nbkit.serve._service import Service
from nbkit.serve._shadows import Shadows
from nbkit.serve._store import PackageStore
from nbkit.serve._supervisor import Supervisor
from nbkit.serve._trials import Trials
from nbkit.serve._v2_face import InferenceFace
from nbkit.serve._watch import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from nbkit.serve._tokens import TokenVerifier
    from nbkit.serve._worker import WorkerOptions

__all__ = ["Assembled", "assemble", "follow"]

_LOG = logging.getLogger("nbkit.serve")

_Task = Callable[[], Coroutine[object, object, None]]

# Before files are followed again that could not be followed.
_AGAIN_SECONDS = 1.0

# Shadows are shed when records wait for the disk longer than a commit takes.
_BUSY_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """One model of a worker, with the versions on trial."""

    service: Service
    trials: Trials
    shadows: Shadows
    watchers: tuple[Watcher, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A worker that is put together.

    Parameters
    ----------
    app : App
        Follows the store once the server begins.
    stop : callable
        Says that the server is stopping.
    gate : Gate
        How many requests may be inside.
    express : Express
        Takes the decisions of the native protocol.
    """

    app: App
    stop: Callable[[], None]
    gate: Gate
    express: Express


def assemble(
    options: WorkerOptions,
    *,
    ledger: AnyLedger,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    fork: Callable[[], socket.socket],
) -> Assembled:
    """Return a worker with what is installed loaded.

    Parameters
    ----------
    options : WorkerOptions
        Where things are.
    ledger : Ledger or RemoteLedger
        Open.
    now : callable
        The clock: aware, UTC.
    new_id : callable
        Makes ids that never repeat.
    fork : callable
        Starts a process in which versions on trial decide (`ForkServer.start`).

    Returns
    -------
    Assembled
        Application, and what to call before it stops.

    Raises
    ------
    AccessError
        The keys of callers cannot be read.
    RouteError
        The table of routes is wrong.
    """
    metrics = Metrics()
    table = RouteTable.load(options.routes) if options.routes else None
    names = dict.fromkeys((options.name, *(table.models if table else ())))
    secret = hashlib.blake2b(b"nbkit canary 1", key=options.ledger_key.private_bytes_raw(), digest_size=32).digest()
    served: list[Service] = []
    gate = Gate(quick=_quick(served), metrics=metrics)

    def changed() -> None:
        gate.quick = _quick(served)

    models = {
        name: _model(
            name,
            options,
            ledger=ledger,
            secret=secret,
            metrics=metrics,
            now=now,
            new_id=new_id,
            fork=fork,
            gate=gate,
            changed=changed,
        )
        for name in names
    }
    guard = _guard(options, metrics=metrics, now=now)
    services = {name: model.service for name, model in models.items()}
    served += services.values()
    first = services[options.name]
    supervisor = _supervisor(options, metrics=metrics, now=now)

    def warning() -> str:
        told = [supervisor.warning] if supervisor else []
        # Readiness is that of the first: one model that is missing must not take the others away.
        told += [f"{name}: {s.not_ready()}" for name, s in services.items() if s is not first and s.active is None]
        return "; ".join(filter(None, told))

    faces: list[Face] = [ModelFace(service) for name, service in services.items() if name != options.name]
    faces += [RoutesFace(table, services)] if table else []
    faces += [
        NativeFace(first, warning=warning),
        MlflowFace(first),
        InferenceFace(services),
        OpenApiFace(first, secured=options.secured),
    ]
    tasks: list[_Task] = [watcher.follow for model in models.values() for watcher in model.watchers]
    tasks += [model.shadows.follow for model in models.values()]
    tasks += [guard.follow] if isinstance(guard, AccessGuard) else []
    tasks += [supervisor.follow] if supervisor else []
    for model in models.values():
        for watcher in model.watchers:
            watcher.begin()
    app = _app(faces, guard=guard, metrics=metrics, tasks=tasks, models=tuple(models.values()))

    def stop() -> None:
        for service in services.values():
            service.stop()

    paths = {decisions_path(name): service for name, service in services.items()}
    lanes = {path: (app.find(path), Lane(service)) for path, service in paths.items()}
    express = Express(lanes, guard=guard, broken=app.broken)
    return Assembled(app=app, stop=stop, gate=gate, express=express)


def _model(
    name: str,
    options: WorkerOptions,
    *,
    ledger: AnyLedger,
    secret: bytes,
    metrics: Metrics,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    fork: Callable[[], socket.socket],
    gate: Gate,
    changed: Callable[[], None],
) -> _Model:
    store = PackageStore(options.store)
    service = Service(
        name=name,
        ledger=ledger,
        now=now,
        new_id=new_id,
        load_package=store.package,
        metrics=metrics,
        markers=(note_ticket,),
    )
    shadows = Shadows(name, start=fork, metrics=metrics)
    trials = Trials(
        name, shadows=shadows, secret=secret, metrics=metrics,
        busy=lambda: gate.is_crowded or service.queue_age > _BUSY_SECONDS,
    )  # fmt: skip
    service.router = trials.route
    service.followers = (figures_of(metrics), trials.follow)

    def serve_champion(active: Active | None) -> None:
        service.active = active
        changed()

    served = {Stage.PRODUCTION: serve_champion, Stage.CANARY: trials.serve_canary, Stage.SHADOW: trials.serve_shadow}
    watchers = tuple(
        Watcher(name=name, store=store, trust_file=options.trust, now=now, serve=serve, stage=stage.value)
        for stage, serve in served.items()
    )
    _watch(metrics, service=service, trials=trials, first=name == options.name)
    return _Model(service=service, trials=trials, shadows=shadows, watchers=watchers)


def _quick(services: Sequence[Service]) -> float:
    """Return in how many seconds an answer is quick: half of the shortest deadline."""
    shortest = math.inf
    for service in services:
        if service.active is not None:
            shortest = min(shortest, service.active.deadline_seconds)
    return shortest / 2 if shortest < math.inf else 0.5


def _watch(metrics: Metrics, *, service: Service, trials: Trials, first: bool) -> None:
    """Show what can only be read."""
    model = ("model", service.name)
    actives: dict[str, Callable[[], Active | None]] = {
        "production": lambda: service.active,
        "canary": lambda: trials.canary,
        "shadow": lambda: trials.shadow,
    }
    for stage, read in actives.items():
        labels = (model, ("stage", stage))
        metrics.watch("breaker_open", lambda read=read: _openness(read()), labels=labels)  # type: ignore[misc]
        if stage != "production":
            metrics.watch("trial_version", lambda read=read: _version(read()), labels=labels)  # type: ignore[misc]
    metrics.watch("canary_share", lambda: trials.canary.share if trials.canary else 0.0, labels=(model,))
    if first:
        metrics.watch("audit_queue_age_seconds", lambda: service.queue_age)
    else:
        metrics.watch("served_version", lambda: _version(service.active), labels=(model,))


def _supervisor(options: WorkerOptions, *, metrics: Metrics, now: Callable[[], datetime]) -> Supervisor | None:
    if options.supervisor is None:
        return None
    found = Supervisor(process=options.supervisor, name=options.name, store=PackageStore(options.store), now=now)
    metrics.watch("supervisor_lost", lambda: float(found.lost))
    return found


def _version(active: Active | None) -> float:
    return active.version if active else 0


def _openness(active: Active | None) -> float:
    breaker: Breaker | None = active.breaker if active else None
    return {"closed": 0.0, "half-open": 0.5, "open": 1.0}[breaker.state] if breaker else 0.0


def _guard(options: WorkerOptions, *, metrics: Metrics, now: Callable[[], datetime]) -> Guard:
    if not options.secured:
        return open_guard
    return AccessGuard(keys=options.api_keys, tokens=_tokens(options.oidc), now=now, metrics=metrics)


def _tokens(oidc: Path | None) -> TokenVerifier | None:
    if oidc is None:
        return None
    # What reads tokens loads every kind of certificate; keys need none.
    from nbkit.serve._tokens import Issuer, TokenVerifier

    return TokenVerifier(Issuer.load(oidc))


async def follow(task: _Task) -> None:
    """Let a task follow its files until it is cancelled; whatever it raises is told, and it begins again.

    Without it a revoked key, or a version that was withdrawn, would count until the next restart.

    Parameters
    ----------
    task : callable
        Runs for ever.
    """
    while True:
        try:
            await task()
        except Exception:  # noqa: BLE001 - one look ends here, and another begins
            _LOG.exception("following failed")
        else:
            return  # it has said all there was to say
        await asyncio.sleep(_AGAIN_SECONDS)


def _app(faces: list[Face], *, guard: Guard, metrics: Metrics, tasks: list[_Task], models: tuple[_Model, ...]) -> App:
    following: list[asyncio.Task[None]] = []

    async def start() -> None:
        following.extend(asyncio.create_task(follow(task)) for task in tasks)

    async def stop() -> None:
        for task in following:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for model in models:
            model.trials.close()

    return App(faces, start=start, stop=stop, metrics=metrics, guard=guard)
