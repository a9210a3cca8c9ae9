"""Fixtures around the small lender of `world.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_PLACE = Path(__file__).with_name("world.py")


def _load() -> object:
    # pytest imports test files without putting their folders on the path.
    spec = importlib.util.spec_from_file_location("nbkit_serve_world", _PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nbkit_serve_world"] = module
    spec.loader.exec_module(module)
    return module


world = sys.modules.get("nbkit_serve_world") or _load()


@pytest.fixture(scope="session")
def lender() -> object:
    return world


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> object:
    return world.People.settle(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> object:
    return world.make_package(tmp_path_factory.mktemp("package") / "one")


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A newer version of the same model, on trial."""
    directory = tmp_path_factory.mktemp("trial") / "two"
    return world.make_package(directory, iterations=12, contract=world.trial_contract())
