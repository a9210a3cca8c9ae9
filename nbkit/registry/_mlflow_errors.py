"""What MLflow's error codes mean in nbkit's words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException

from nbkit.errors import NotInRegistryError, RegistryError, RegistryUnavailableError

NOT_THERE = frozenset(
    {
        "CATALOG_DOES_NOT_EXIST",
        "DAC_DOES_NOT_EXIST",
        "EXTERNAL_LOCATION_DOES_NOT_EXIST",
        "MANAGED_RESOURCE_GROUP_DOES_NOT_EXIST",
        "METASTORE_DOES_NOT_EXIST",
        "NOT_FOUND",
        "PRINCIPAL_DOES_NOT_EXIST",
        "PROVIDER_DOES_NOT_EXIST",
        "RECIPIENT_DOES_NOT_EXIST",
        "RESOURCE_DOES_NOT_EXIST",
        "SCHEMA_DOES_NOT_EXIST",
        "SHARE_DOES_NOT_EXIST",
        "STORAGE_CREDENTIAL_DOES_NOT_EXIST",
        "TABLE_DOES_NOT_EXIST",
    }
)
UNAVAILABLE = frozenset(
    {
        "CANCELLED",
        "COULD_NOT_ACQUIRE_LOCK",
        "DEADLINE_EXCEEDED",
        "DEPLOYMENT_TIMEOUT",
        "INSECURE_PARTNER_RESPONSE",
        "MALFORMED_PARTNER_RESPONSE",
        "PROJECTS_OPERATION_TIMEOUT",
        "PROVIDER_SHARE_NOT_ACCESSIBLE",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "SERVICE_UNDER_MAINTENANCE",
        "TEMPORARILY_UNAVAILABLE",
        "UNPARSEABLE_HTTP_ERROR",
        "WORKSPACE_TEMPORARILY_UNAVAILABLE",
    }
)
# Listed, so that a code that a later MLflow adds is seen by a test and placed by a person.
REFUSED = frozenset(
    {
        "ABORTED",
        "ALREADY_EXISTS",
        "BAD_REQUEST",
        "CATALOG_ALREADY_EXISTS",
        "CATALOG_NOT_EMPTY",
        "CUSTOMER_UNAUTHORIZED",
        "DAC_ALREADY_EXISTS",
        "DATA_LOSS",
        "DIRECTORY_NOT_EMPTY",
        "DIRECTORY_PROTECTED",
        "DRY_RUN_FAILED",
        "ENDPOINT_NOT_FOUND",
        "EXTERNAL_LOCATION_ALREADY_EXISTS",
        "FEATURE_DISABLED",
        "GIT_CONFLICT",
        "GIT_REMOTE_ERROR",
        "GIT_SENSITIVE_TOKEN_DETECTED",
        "GIT_UNKNOWN_REF",
        "GIT_URL_NOT_ON_ALLOW_LIST",
        "INTERNAL_ERROR",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "INVALID_STATE_TRANSITION",
        "IO_ERROR",
        "IPYNB_FILE_IN_REPO",
        "MALFORMED_REQUEST",
        "MAX_BLOCK_SIZE_EXCEEDED",
        "MAX_CHILD_NODE_SIZE_EXCEEDED",
        "MAX_LIST_SIZE_EXCEEDED",
        "MAX_NOTEBOOK_SIZE_EXCEEDED",
        "MAX_READ_SIZE_EXCEEDED",
        "METASTORE_ALREADY_EXISTS",
        "METASTORE_NOT_EMPTY",
        "NOT_IMPLEMENTED",
        "PARTIAL_DELETE",
        "PERMISSION_DENIED",
        "PERMISSION_NOT_PROPAGATED",
        "PROVIDER_ALREADY_EXISTS",
        "QUOTA_EXCEEDED",
        "RECIPIENT_ALREADY_EXISTS",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_CONFLICT",
        "RESOURCE_LIMIT_EXCEEDED",
        "SCHEMA_ALREADY_EXISTS",
        "SCHEMA_NOT_EMPTY",
        "SEARCH_QUERY_TOO_LONG",
        "SEARCH_QUERY_TOO_SHORT",
        "SHARE_ALREADY_EXISTS",
        "STORAGE_CREDENTIAL_ALREADY_EXISTS",
        "TABLE_ALREADY_EXISTS",
        "UNAUTHENTICATED",
    }
)
ALREADY_THERE = frozenset({"ALREADY_EXISTS", "RESOURCE_ALREADY_EXISTS"})

_NOT_FOUND = 404
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
# A store's message can hold a whole SQL statement.
_LONGEST_REASON = 500


def error_kind(code: str) -> type[RegistryError]:
    """Return the error that stands for one of MLflow's codes; an unknown code is a plain refusal.

    Examples
    --------
    >>> error_kind("RESOURCE_DOES_NOT_EXIST").__name__
    'NotInRegistryError'
    """
    if code in NOT_THERE:
        return NotInRegistryError
    return RegistryUnavailableError if code in UNAVAILABLE else RegistryError


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn whatever MLflow raises inside into an error of the `RegistryError` family that begins with ``place``."""
    try:
        yield
    except MlflowException as error:
        # MLflow wraps a lost connection of its HTTP client in a plain internal error.
        lost = isinstance(error.__cause__ or error.__context__, requests.ConnectionError | requests.Timeout)
        kind = RegistryUnavailableError if lost else error_kind(error.error_code)
        raise kind(f"{place}: {_short(error)} ({error.error_code})", next_step=_next_step(kind)) from error
    except requests.HTTPError as error:
        # Artifacts travel by plain HTTP, past MLflow's own errors.
        kind = _kind_of_status(error.response.status_code if error.response is not None else 0)
        raise kind(f"{place}: {_short(error)}", next_step=_next_step(kind)) from error
    except _no_answer() as error:
        raise RegistryUnavailableError(
            f"{place}: {_short(error)}", next_step=_next_step(RegistryUnavailableError)
        ) from error
    except OSError as error:
        raise RegistryError(f"{place}: {_short(error)}") from error


def _no_answer() -> tuple[type[Exception], ...]:
    # Whoever asks a server has not loaded SQLAlchemy, and nothing raises what is not loaded.
    database = sys.modules.get("sqlalchemy.exc")
    return (requests.RequestException,) if database is None else (requests.RequestException, database.SQLAlchemyError)


def _kind_of_status(status: int) -> type[RegistryError]:
    if status == _NOT_FOUND:
        return NotInRegistryError
    return RegistryUnavailableError if status in _TRY_AGAIN else RegistryError


def _next_step(kind: type[RegistryError]) -> str:
    return "check MLFLOW_TRACKING_URI, then try again" if kind is RegistryUnavailableError else ""


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"
