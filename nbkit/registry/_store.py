"""One connection to one MLflow store, quiet and quick to say that nobody answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.telemetry import client as telemetry
from mlflow.tracking._tracking_service import utils as tracking

from nbkit.errors import RegistryError, RegistryUnavailableError

# MLflow retries a database for 100 s and a server for minutes before it says that nobody answers.
_CONNECT_SECONDS = 5
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_tracking_uri_lock = threading.Lock()


@lru_cache(maxsize=16)
def connect(tracking_uri: str) -> MlflowClient:
    """Return a client of that store, and of no other; telemetry is off from here on.

    Raises
    ------
    RegistryError
        Not an address of a store with a model registry.
    RegistryUnavailableError
        Nobody answers within `_CONNECT_SECONDS`.
    """
    # MLFLOW_DISABLE_TELEMETRY is the face's to set; this holds even for a caller that forgot.
    telemetry._set_telemetry_client(None)
    check_reachable(tracking_uri)
    if is_local(tracking_uri):
        from nbkit.registry._database import open_database

        return open_database(tracking_uri)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def check_reachable(tracking_uri: str) -> None:
    """Say within `_CONNECT_SECONDS` when nobody answers; see `connect` for the errors."""
    scheme = tracking_uri.partition(":")[0].partition("+")[0]
    if scheme in {"http", "https"}:
        _reach_server(tracking_uri)
    elif scheme in _DATABASES:
        from nbkit.registry._database import reach_database

        reach_database(tracking_uri, seconds=_CONNECT_SECONDS)
    else:
        raise RegistryError(
            f"tracking uri: expected http, https, {', '.join(_DATABASES)}, got {scheme!r}",
            next_step="set MLFLOW_TRACKING_URI",
        )


def is_local(tracking_uri: str) -> bool:
    """Say whether this process writes to the database itself, and so decides where artifacts lie."""
    return not tracking_uri.startswith(("http:", "https:"))


@contextmanager
def as_global_store(tracking_uri: str) -> Iterator[None]:
    """Make this store MLflow's global one for the duration.

    MLflow's SQL store resolves ``models:/m-…`` through the process-wide tracking URI, not through its own (3.17,
    ``create_model_version``). Only the module variable is set and put back: MLflow's own setter would also write the
    environment and, when it restores, delete a variable that it had not set.
    """
    if not is_local(tracking_uri):
        yield
        return
    with _tracking_uri_lock:
        before = tracking._tracking_uri
        tracking._tracking_uri = tracking_uri
        try:
            yield
        finally:
            tracking._tracking_uri = before


def mlflow_version() -> str:
    """Return the version of the MLflow that is in use."""
    return str(mlflow.__version__)


def _reach_server(uri: str) -> None:
    try:
        # Any answer will do, a refusal included: what the caller may do is decided call by call.
        requests.get(f"{uri.rstrip('/')}/health", timeout=_CONNECT_SECONDS)
    except requests.RequestException as error:
        raise RegistryUnavailableError(
            f"MLflow at {uri}: nobody answers: {type(error).__name__}",
            next_step="check MLFLOW_TRACKING_URI, then try again",
        ) from error
