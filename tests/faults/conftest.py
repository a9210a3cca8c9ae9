"""Fixtures around the small lender of `world.py`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

_HERE = Path(__file__).parent


def _load(name: str, place: Path) -> ModuleType:
    # pytest imports test files without putting their folders on the path.
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, place)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


world = _load("nbkit_serve_world", _HERE.parent / "unit" / "serve" / "world.py")
kills = _load("nbkit_faults_killing", _HERE / "killing.py")
fuzzing = _load("nbkit_faults_fuzzing", _HERE / "fuzzing.py")


@pytest.fixture(scope="session")
def lender() -> object:
    return world


@pytest.fixture(scope="session")
def killing() -> object:
    return kills


@pytest.fixture(scope="session")
def fuzz() -> object:
    return fuzzing


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> object:
    return world.People.settle(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> object:
    return world.make_package(tmp_path_factory.mktemp("package") / "one")


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a real PostgreSQL of this test's own."""
    with kills.Postgresql() as server:
        yield server.url
