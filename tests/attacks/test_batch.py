"""A batch loads a version through MLflow itself: it is verified like anything that decides."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from nbkit import lifecycle
from nbkit.errors import EvidenceError, TamperedPackageError
from nbkit.registry import MEMORY_FILE, Memory

if TYPE_CHECKING:
    from tests.attacks.conftest import World

# What a batch verifies lies in files; the same evidence on PostgreSQL is attacked in test_registry.py.
pytestmark = pytest.mark.parametrize("world", ["sqlite"], indirect=True)

NAME = "loan-denial"
ROWS = pd.DataFrame({"loanamt": [100.0, 250.0, 900.0], "mortg": ["level 1", "level 2", "level 4"]})


@pytest.fixture
def load(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("NBKIT_HOME", str(world.settings.home))
    monkeypatch.setenv("NBKIT_ARTIFACT_ROOT", str(world.settings.artifact_root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.settings.tracking_uri)

    def loaded() -> Any:
        with warnings.catch_warnings():
            # MLflow warns at the import of its pyfunc package, of its own type hints and of missing pins.
            warnings.simplefilter("ignore")
            import mlflow.pyfunc

            (folder,) = world.settings.artifact_root.glob(world.files_of(1))
            return mlflow.pyfunc.load_model(str(folder))

    return loaded


def test_the_version_in_production_is_loaded_and_scores_like_its_package(world: World, load: Callable[[], Any]) -> None:
    model = load()
    assert np.array_equal(model.predict(ROWS), world.package.score_frame(ROWS))
    assert model.metadata.metadata == {"nbkit.package_digest": world.package.digest}


def test_what_has_no_evidence_for_the_stage_is_not_loaded(
    load: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBKIT_STAGE", "canary")
    with pytest.raises(EvidenceError, match="no evidence for canary of package sha256"):
        load()
    monkeypatch.setenv("NBKIT_STAGE", "Production")
    with pytest.raises(EvidenceError, match="NBKIT_STAGE: expected one of staging, shadow, canary, production"):
        load()
    monkeypatch.setenv("NBKIT_STAGE", "staging")
    load()


def test_an_edited_file_is_not_loaded(world: World, load: Callable[[], Any]) -> None:
    with (
        world.file_changed(f"{world.files_of(1)}/data/plan.json", b"{}"),
        pytest.raises(TamperedPackageError, match=r"plan\.json: edited"),
    ):
        load()


def test_what_a_revoked_key_signed_is_not_loaded(world: World, load: Callable[[], Any]) -> None:
    before = world.settings.trust_file.read_bytes()
    lifecycle.revoke_key("ben", settings=world.settings, now=datetime.now(UTC))
    try:
        with pytest.raises(EvidenceError, match="key 'ben' of ben was revoked"):
            load()
    finally:
        world.settings.trust_file.write_bytes(before)


def test_what_was_replaced_is_not_loaded_after_a_restart_either(world: World, load: Callable[[], Any]) -> None:
    path = world.settings.home / MEMORY_FILE
    load()
    before = path.read_bytes()
    memory = Memory(path)
    assert memory.highest_epoch(NAME, stage="production") == 1
    memory.accepted(NAME, stage="production", epoch=7, now=datetime.now(UTC))
    memory.accepted(NAME, stage="production", epoch=3, now=datetime.now(UTC))
    assert Memory(path).highest_epoch(NAME, stage="production") == 7
    with pytest.raises(EvidenceError, match="epoch: expected at least 7, got 1; an old statement"):
        load()
    path.write_bytes(b'{"format":1}')
    with pytest.raises(EvidenceError, match="not what nbkit remembers"):
        load()
    path.write_bytes(before)
