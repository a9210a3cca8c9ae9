"""The MLflow UI for reviewers: light, on loopback, with deep links to what waits for them."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from nbkit.contract import Stage
from nbkit.errors import RegistryError
from nbkit.registry import Registry, VersionRecord
from nbkit.settings import Settings

# The server would otherwise start ten processes and take 2.3 GB for features that reviewing does not need.
UI_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_APPROVALS = ".pending"


def ui_command(*, settings: Settings, port: int, guarded: bool = False) -> list[str]:
    """Return the command of the MLflow UI on this store, on loopback.

    Parameters
    ----------
    settings : Settings
        Which store.
    port : int
        Where it listens.
    guarded : bool
        Whether it refuses writes that no evidence allows; it then reads the trust file below ``NBKIT_HOME``.

    Returns
    -------
    list of str
        The command.
    """
    return [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", settings.tracking_uri,
        "--default-artifact-root", str(settings.artifact_root), "--serve-artifacts",
        *(["--app-name", "nbkit"] if guarded else []),
    ]  # fmt: skip


def waiting(settings: Settings) -> tuple[VersionRecord, ...]:
    """Return the versions that wait for a reviewer: candidates newer than production, and moves partly approved."""
    registry = Registry(settings)
    found = []
    for name in registry.names():
        try:
            production = registry.version_at(name, stage=Stage.PRODUCTION) or 0
            records = registry.versions(name)
        except RegistryError:
            continue  # not a name that nbkit registers
        for record in records:
            # The tag follows every move; the alias stays where the last candidate was.
            submitted = record.tags.get("nbkit.stage") == Stage.CANDIDATE and record.version > production
            if submitted or any(key.startswith("nbkit.evidence.") and _APPROVALS in key for key in record.tags):
                found.append(record)
    return tuple(found)


def where_to_look(settings: Settings, *, address: str) -> tuple[str, ...]:
    """Return a line with a deep link for each version that waits; where none does, one for all of them."""
    registry = Registry(dataclasses.replace(settings, ui_url=address))
    found = tuple(
        f"{record.model}@{record.version} waits for review: {registry.version_link(record.model, record.version)}"
        for record in waiting(settings)
    )
    # The page that MLflow opens with has no link to its registry.
    return found or (f"no version waits for review; all of them: {address}/#/models",)


def open_ui(*, settings: Settings, port: int, report: Callable[[str], None], guarded: bool = False) -> int:
    """Start the MLflow UI, telemetry and job execution off, and print deep links to what waits for review.

    Where MLflow is a server already, nothing is started: the links lead there.

    Parameters
    ----------
    settings : Settings
        Which store.
    port : int
        Where the UI listens, on loopback.
    report : callable
        Takes a line for each version that waits, or one that says where all of them are.
    guarded : bool
        Whether the server refuses writes that no evidence allows.

    Returns
    -------
    int
        The server's exit code.
    """
    running = settings.tracking_uri.startswith(("http:", "https:"))
    address = settings.tracking_uri if running else f"http://127.0.0.1:{port}"
    for line in where_to_look(settings, address=address):
        report(line)
    if running:
        report(f"MLflow answers at {address}; nothing was started")
        return 0
    # A group of its own: the server starts processes that a signal to it alone would leave behind.
    command = ui_command(settings=settings, port=port, guarded=guarded)
    environment = {**os.environ, **UI_ENVIRONMENT, "NBKIT_HOME": str(settings.home)}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return server.wait()
    except KeyboardInterrupt:
        os.killpg(server.pid, signal.SIGTERM)
        return server.wait(timeout=30)
