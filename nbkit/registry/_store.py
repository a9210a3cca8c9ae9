"""One connection to one MLflow store, quiet and quick to say that nobody answers."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.telemetry import client as telemetry
from mlflow.tracking._tracking_service import utils as tracking
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SADeprecationWarning, SQLAlchemyError

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
        return _open_database(tracking_uri)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def check_reachable(tracking_uri: str) -> None:
    """Say within `_CONNECT_SECONDS` when nobody answers; see `connect` for the errors."""
    scheme = tracking_uri.partition(":")[0].partition("+")[0]
    if scheme in {"http", "https"}:
        _reach_server(tracking_uri)
    elif scheme in _DATABASES:
        _reach_database(tracking_uri)
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


def _open_database(uri: str) -> MlflowClient:
    # It tells of every table that it makes on standard error, in the middle of a verb's own lines.
    log = logging.getLogger("mlflow.store.db.utils")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # MLflow 3.17 declares a loader strategy that SQLAlchemy 2.1 deprecates; it does so once, at this import.
            warnings.simplefilter("ignore", SADeprecationWarning)
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    finally:
        log.setLevel(level)


def _reach_server(uri: str) -> None:
    try:
        # Any answer will do, a refusal included: what the caller may do is decided call by call.
        requests.get(f"{uri.rstrip('/')}/health", timeout=_CONNECT_SECONDS)
    except requests.RequestException as error:
        raise RegistryUnavailableError(
            f"MLflow at {uri}: nobody answers: {type(error).__name__}",
            next_step="check MLFLOW_TRACKING_URI, then try again",
        ) from error


def _reach_database(uri: str) -> None:
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            return
        argument = "timeout" if url.get_backend_name() == "mssql" else "connect_timeout"
        engine = sqlalchemy.create_engine(url, connect_args={argument: _CONNECT_SECONDS})
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except (ArgumentError, ValueError) as error:
        raise RegistryError("tracking uri: not a database address", next_step="set MLFLOW_TRACKING_URI") from error
    except (SQLAlchemyError, OSError) as error:
        # The address may hold a password: hide it, and do not repeat the driver's message, which quotes it.
        shown = make_url(uri).render_as_string(hide_password=True)
        raise RegistryUnavailableError(
            f"MLflow's database {shown}: nobody answers: {type(error).__name__}",
            next_step="check MLFLOW_TRACKING_URI, then try again",
        ) from error
