"""A store that this process writes to itself; apart, because whoever asks an MLflow server needs no SQLAlchemy."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SADeprecationWarning, SQLAlchemyError

from nbkit.errors import RegistryError, RegistryUnavailableError


def open_database(uri: str) -> MlflowClient:
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


def reach_database(uri: str, *, seconds: int) -> None:
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite":
            if url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            return
        argument = "timeout" if url.get_backend_name() == "mssql" else "connect_timeout"
        engine = sqlalchemy.create_engine(url, connect_args={argument: seconds})
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
