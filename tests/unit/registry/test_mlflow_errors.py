from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from sqlalchemy.exc import OperationalError

from nbkit.errors import NotInRegistryError, RegistryError, RegistryUnavailableError
from nbkit.registry._mlflow_errors import NOT_THERE, REFUSED, UNAVAILABLE, error_kind, translated


def test_every_error_code_of_mlflow_has_its_place() -> None:
    placed = [*NOT_THERE, *UNAVAILABLE, *REFUSED]
    assert sorted(placed) == sorted(ErrorCode.keys())


@pytest.mark.parametrize("code", sorted(ErrorCode.keys()))
def test_every_error_of_mlflow_becomes_one_of_nbkit(code: str) -> None:
    with pytest.raises(RegistryError, match=rf"model x: no luck \({code}\)") as caught, translated("model x"):
        raise MlflowException("no luck", error_code=ErrorCode.Value(code))
    assert type(caught.value) is error_kind(code)
    assert isinstance(caught.value.__cause__, MlflowException)


def test_an_unknown_code_is_a_plain_refusal() -> None:
    assert error_kind("SOMETHING_NEW") is RegistryError


def _request_that_finds_nobody() -> None:
    try:
        raise requests.ConnectionError("refused")
    except requests.ConnectionError as error:
        raise MlflowException("API request failed") from error


def test_a_lost_connection_inside_a_plain_internal_error_is_seen() -> None:
    with pytest.raises(RegistryUnavailableError, match="then try again"), translated("runs"):
        _request_that_finds_nobody()


def _http(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_http(404), NotInRegistryError),
        (_http(503), RegistryUnavailableError),
        (_http(403), RegistryError),
        (requests.HTTPError("no answer at all"), RegistryError),
        (requests.Timeout("slow"), RegistryUnavailableError),
        (OperationalError("SELECT 1", {}, Exception("gone")), RegistryUnavailableError),
        (PermissionError(13, "Permission denied"), RegistryError),
    ],
)
def test_errors_that_pass_mlflow_by_are_placed_too(error: Exception, kind: type[RegistryError]) -> None:
    with pytest.raises(RegistryError, match="file x: ") as caught, translated("file x"):
        raise error
    assert type(caught.value) is kind


def test_nbkits_own_errors_pass_unchanged() -> None:
    own = NotInRegistryError("mine")
    with pytest.raises(NotInRegistryError) as caught, translated("file x"):
        raise own
    assert caught.value is own


def test_a_long_message_is_cut() -> None:
    with pytest.raises(RegistryError, match=r"x{500}… \(INTERNAL_ERROR\)$"), translated("a"):
        raise MlflowException("x" * 10_000)
