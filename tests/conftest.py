"""What holds for every test: one thread per library, no telemetry, and properties that try the same examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Set before a test module imports numpy: with more threads than free cores a small model takes tens of seconds to fit.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ[_name] = "true"
os.environ.setdefault("MPLBACKEND", "agg")

settings.register_profile("nbkit", deadline=None, derandomize=True)
settings.load_profile("nbkit")


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project whose notebook ran in a real kernel; whoever changes it takes a copy (`flow.copied`)."""
    from tests.flow.conftest import make_project

    directory = tmp_path_factory.mktemp("run-once")
    result = make_project(directory).run()
    assert result.succeeded, str(result)
    return directory
