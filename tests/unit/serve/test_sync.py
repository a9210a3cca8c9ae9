from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nbkit.errors import RegistryUnavailableError
from nbkit.package import Package
from nbkit.registry import Envelope, TrustStore
from nbkit.serve import PackageStore, SyncResult, sync_model


@dataclass
class Shelf:
    """A registry that is two dictionaries; the flow tests use MLflow itself."""

    packages: dict[int, Path] = field(default_factory=dict)
    envelopes: dict[int, Envelope] = field(default_factory=dict)
    production: int | None = None
    canary: int | None = None
    shadow: int | None = None
    trials: dict[tuple[int, str], Envelope] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    reachable: bool = True

    def version_at(self, name: str, *, stage: str) -> int | None:
        if not self.reachable:
            raise RegistryUnavailableError("MLflow cannot be reached")
        return {"production": self.production, "canary": self.canary, "shadow": self.shadow}[stage]

    def download_package(self, name: str, *, version: int, directory: Path) -> Path:
        return Path(shutil.copytree(self.packages[version], directory / "package"))

    def envelope(self, name: str, *, version: int, stage: str) -> Envelope | None:
        return self.envelopes.get(version) if stage == "production" else self.trials.get((version, stage))

    def version(self, name: str, *, version: int) -> Shelf:
        return self


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "store")


@pytest.fixture
def shelf(people: Any, package: Package) -> Shelf:
    return Shelf(packages={1: package.directory}, envelopes={1: people.promotion(package)}, production=1)


def sync(
    shelf: Shelf, store: PackageStore, people: Any, *, trust: TrustStore | None = None, now: datetime | None = None
) -> SyncResult:
    moment = now or datetime.now(UTC)
    return sync_model("loans", registry=shelf, trust=trust or people.trust, store=store, now=moment)


def version_of(store: PackageStore) -> int | None:
    current = store.current("loans")
    return current.version if current else None


def alerts(store: PackageStore) -> list[str]:
    path = store.root / "alerts.jsonl"
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []


def test_what_verifies_is_installed_and_then_current(shelf: Shelf, store: PackageStore, people: Any) -> None:
    assert sync(shelf, store, people) == SyncResult(state="installed", version=1)
    assert sync(shelf, store, people) == SyncResult(state="current", version=1)
    assert version_of(store) == 1
    assert alerts(store) == []


def test_a_new_version_replaces_the_old_one(
    shelf: Shelf, store: PackageStore, people: Any, lender: Any, tmp_path: Path
) -> None:
    sync(shelf, store, people)
    newer = lender.make_package(tmp_path / "two", iterations=12)
    shelf.packages[2], shelf.production = newer.directory, 2
    shelf.envelopes[2] = people.promotion(newer, version=2, epoch=2)
    assert sync(shelf, store, people) == SyncResult(state="installed", version=2)


def test_an_alias_moved_by_hand_is_refused_and_the_last_good_version_stays(
    shelf: Shelf, store: PackageStore, people: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sync(shelf, store, people)
    shelf.production = 2
    with caplog.at_level(logging.WARNING, logger="nbkit.serve"):
        result = sync(shelf, store, people)
    assert (result.state, result.version) == ("refused", 2)
    assert "its alias says production, but there is no evidence for it" in result.reason
    assert version_of(store) == 1
    assert alerts(store) == [result.reason]
    assert "update refused" in caplog.text
    sync(shelf, store, people)
    assert len(alerts(store)) == 1


def test_an_alias_moved_to_a_version_with_evidence_of_another_is_refused(
    shelf: Shelf, store: PackageStore, people: Any, lender: Any, tmp_path: Path
) -> None:
    sync(shelf, store, people)
    other = lender.make_package(tmp_path / "two", iterations=12)
    shelf.packages[2], shelf.envelopes[2], shelf.production = other.directory, shelf.envelopes[1], 2
    result = sync(shelf, store, people)
    assert result.state == "refused"
    assert "version" in result.reason
    assert version_of(store) == 1


def test_files_changed_after_registration_are_refused(
    shelf: Shelf, store: PackageStore, people: Any, package: Package, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(package.directory, tmp_path / "changed"))
    (changed / "reasons.yaml").write_text("format: 1")
    shelf.packages[1] = changed
    result = sync(shelf, store, people)
    assert result.state == "refused"
    assert "TamperedPackageError" in result.reason
    assert version_of(store) is None


@pytest.mark.parametrize("signers", [("ana",), ("ben",), ()])
def test_evidence_that_lacks_a_signature_is_refused(
    shelf: Shelf, store: PackageStore, people: Any, package: Package, signers: tuple[str, ...]
) -> None:
    shelf.envelopes[1] = people.promotion(package, signers=signers)
    result = sync(shelf, store, people)
    assert result.state == "refused"
    assert result.reason.startswith("EvidenceError: evidence")


def test_an_older_epoch_is_refused(
    shelf: Shelf, store: PackageStore, people: Any, lender: Any, package: Package, tmp_path: Path
) -> None:
    newer = lender.make_package(tmp_path / "two", iterations=12)
    shelf.packages[2], shelf.production = newer.directory, 2
    shelf.envelopes[2] = people.promotion(newer, version=2, epoch=2)
    sync(shelf, store, people)
    shelf.production = 1
    result = sync(shelf, store, people)
    assert result.state == "refused"
    assert "epoch: expected at least 2, got 1" in result.reason
    assert version_of(store) == 2


def test_without_a_registry_the_last_good_version_stays(shelf: Shelf, store: PackageStore, people: Any) -> None:
    sync(shelf, store, people)
    shelf.reachable = False
    result = sync(shelf, store, people)
    assert (result.state, result.version) == ("refused", None)
    assert version_of(store) == 1


def test_nothing_in_production_is_said(store: PackageStore, people: Any) -> None:
    result = sync(Shelf(), store, people)
    assert result.state == "refused"
    assert "loans: no version in production. Next: nbkit promote loans@VERSION" in result.reason


def test_what_is_installed_must_still_hold(shelf: Shelf, store: PackageStore, people: Any) -> None:
    sync(shelf, store, people)
    revoked = people.trust.revoke(people.keys["ben"].key_id, datetime.now(UTC))
    assert "was revoked at" in sync(shelf, store, people, trust=revoked).reason
    late = datetime.now(UTC) + timedelta(hours=13)
    assert sync(shelf, store, people, now=late).state == "refused"
    assert version_of(store) == 1


def test_edited_files_in_the_store_are_noticed_and_fetched_again(
    shelf: Shelf, store: PackageStore, people: Any, package: Package
) -> None:
    sync(shelf, store, people)
    (store.root / "packages" / package.digest.split(":")[1] / "reasons.yaml").write_text("format: 1")
    assert sync(shelf, store, people).state == "installed"
    assert "the store's own files" in alerts(store)[0]
    assert store.package(package.digest).digest == package.digest


def test_a_store_that_cannot_be_written_is_said(shelf: Shelf, store: PackageStore, people: Any) -> None:
    store.root.write_text("a file where the folder should be")
    result = sync(shelf, store, people)
    assert result.state == "refused"
    assert "Error" in result.reason


@pytest.fixture
def canary(shelf: Shelf, people: Any, trial: Package) -> Shelf:
    shelf.packages[2], shelf.canary = trial.directory, 2
    shelf.trials[2, "canary"] = people.promotion(trial, version=2, stage="canary", epoch=2)
    return shelf


def sync_stage(shelf: Shelf, store: PackageStore, people: Any, stage: str) -> SyncResult:
    now = datetime.now(UTC)
    return sync_model("loans", registry=shelf, trust=people.trust, store=store, now=now, stage=stage)


def test_a_canary_stands_beside_production(canary: Shelf, store: PackageStore, people: Any) -> None:
    sync(canary, store, people)
    assert sync_stage(canary, store, people, "canary") == SyncResult(state="installed", version=2, stage="canary")
    assert sync_stage(canary, store, people, "canary").state == "current"
    installed = store.current("loans", stage="canary")
    assert installed is not None
    assert (installed.version, installed.stage, installed.share) == (2, "canary", 0.01)
    assert version_of(store) == 1
    assert sync_stage(canary, store, people, "shadow") == SyncResult(state="empty", version=None, stage="shadow")


def test_a_canary_answers_only_shares_that_its_contract_lists(canary: Shelf, store: PackageStore, people: Any) -> None:
    sync_stage(canary, store, people, "canary")
    for said, share, state in (("0.1", 0.1, "installed"), ("0.1", 0.1, "current"), ("0.9", 0.01, "installed")):
        canary.tags["nbkit.canary_share"] = said
        assert sync_stage(canary, store, people, "canary").state == state
        installed = store.current("loans", stage="canary")
        assert installed is not None
        assert installed.share == share
    assert alerts(store) == ["tag nbkit.canary_share: expected one of rollout.canary_shares [0.01, 0.1], got '0.9'"]


def test_evidence_for_another_stage_lets_nothing_answer(
    canary: Shelf, store: PackageStore, people: Any, trial: Package
) -> None:
    canary.trials[2, "canary"] = people.promotion(trial, version=2, stage="shadow", epoch=2)
    result = sync_stage(canary, store, people, "canary")
    assert result.state == "refused"
    assert "stage: expected canary, got shadow" in result.reason
    assert store.current("loans", stage="canary") is None


def test_a_trial_ends_with_its_alias_or_when_its_version_moves_on(
    canary: Shelf, store: PackageStore, people: Any, trial: Package
) -> None:
    canary.shadow = 2
    canary.trials[2, "shadow"] = people.promotion(trial, version=2, stage="shadow", epoch=1)
    assert sync_stage(canary, store, people, "shadow").state == "empty"
    assert sync_stage(canary, store, people, "canary").state == "installed"
    canary.canary = None
    assert sync_stage(canary, store, people, "canary").state == "removed"
    assert store.current("loans", stage="canary") is None
    # Promoted, then rolled back: the alias still says canary, and must not bring it back.
    canary.canary = 2
    canary.envelopes[2] = people.promotion(trial, version=2, epoch=3)
    assert sync_stage(canary, store, people, "canary").state == "empty"
