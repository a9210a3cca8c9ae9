"""The flow through a real MLflow server: files travel by HTTP, and the server decides where they lie."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests
from mlflow.entities import FileInfo

from nbkit.errors import NotInRegistryError, RegistryError, RegistryUnavailableError
from nbkit.package import load_package
from nbkit.registry import Registry
from nbkit.registry._artifacts import Artifacts
from nbkit.settings import Settings

NAME = "loan-denial"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*command, *store], env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        _end(process)
        log.close()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        try:
            if requests.get(address, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def test_a_package_goes_through_a_server_and_comes_back_the_same(server, people, package, tmp_path) -> None:
    address, process = server
    settings = Settings(tracking_uri=address, artifact_root=tmp_path / "unused", home=tmp_path, store=tmp_path)
    registry = Registry(settings)
    run = registry.create_run(NAME, name="train", tags={}, parameters={"trees": 200})
    assert registry.run(run).artifact_location.startswith("mlflow-artifacts:/")
    version = registry.register(package, run_id=run, description="Passes every gate.", tags={})
    registry.set_alias(NAME, stage="production", version=version)
    envelope = people.promotion(version=version)
    registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)

    assert registry.version_at(NAME, stage="production") == version
    assert registry.envelope(NAME, version=version, stage="production") == envelope
    directory = registry.download_package(NAME, version=version, directory=tmp_path / "package")
    files = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    assert load_package(directory).digest == package.digest
    assert set(registry.file_digests(NAME, version=version)) >= {"MLmodel", *(f"data/{path}" for path in files)}
    with pytest.raises(NotInRegistryError):
        registry.read_artifact(run, "nothing.html")
    assert not (tmp_path / "unused").exists()

    _end(process)
    with pytest.raises(RegistryUnavailableError, match=r"nobody answers.*check MLFLOW_TRACKING_URI"):
        registry.check_reachable()


class _Listing:
    """Stands for a store that lists what it likes."""

    def __init__(self, answers: dict[str | None, list[FileInfo]]) -> None:
        self.answers = answers

    def list_artifacts(self, path: str | None) -> list[FileInfo]:
        return self.answers.get(path, self.answers[None])


def _file(path: str) -> FileInfo:
    return FileInfo(path, is_dir=False, file_size=1)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ([_file("../../home/ana/.ssh/authorized_keys")], "expected a path inside, got '../../home"),
        ([_file("/etc/passwd")], "expected a path inside, got '/etc/passwd'"),
        ([_file("data/../../x")], "expected a path inside"),
        ([_file("MLmodel")], "'data' lists 'MLmodel', which lies outside"),
        ([_file("database/x")], "'data' lists 'database/x', which lies outside"),
        ([_file("data/x"), _file("data/x")], "none twice"),
        ([_file(f"data/{number}") for number in range(10_001)], "expected at most 10000 files"),
        ([FileInfo("data/x", is_dir=True, file_size=None)], "'data/x' lists 'data/x', which lies outside"),
    ],
)
def test_a_listing_that_leads_outside_or_never_ends_is_refused(listing: list[FileInfo], message: str) -> None:
    artifacts = Artifacts("http://127.0.0.1:1/x", tracking_uri="http://127.0.0.1:1")
    artifacts._repository = _Listing({None: listing})
    with pytest.raises(RegistryError, match=message):
        artifacts.paths("data")


def test_folders_without_end_are_refused() -> None:
    class Endless:
        def list_artifacts(self, path: str) -> list[FileInfo]:
            return [FileInfo(f"{path}/more", is_dir=True, file_size=None)]

    artifacts = Artifacts("http://127.0.0.1:1/x", tracking_uri="http://127.0.0.1:1")
    artifacts._repository = Endless()
    with pytest.raises(RegistryError, match="folders nested too deeply"):
        artifacts.paths("data")
