from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nbkit.errors import PackageError, TamperedPackageError
from nbkit.package import Package
from nbkit.serve import PackageStore

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "store")


def install(store: PackageStore, package: Package, *, version: int = 1, epoch: int = 1) -> None:
    store.install("loans", version=version, package_dir=package.directory, envelope_json="{}", epoch=epoch)


def test_an_empty_store_has_nothing(store: PackageStore) -> None:
    assert store.current("loans") is None


def test_an_installed_package_is_found_by_name_and_by_digest(store: PackageStore, package: Package) -> None:
    install(store, package)
    current = store.current("loans")
    assert current is not None
    assert (current.version, current.package_digest, current.epoch, current.envelope) == (1, package.digest, 1, "{}")
    assert store.package(current.package_digest).digest == package.digest
    assert list((store.root / "incoming").iterdir()) == []


def test_an_older_epoch_is_refused_and_changes_nothing(store: PackageStore, package: Package) -> None:
    install(store, package, epoch=5)
    with pytest.raises(PackageError, match="the store holds epoch 5, got the older 4"):
        install(store, package, version=2, epoch=4)
    current = store.current("loans")
    assert current is not None
    assert current.version == 1


def test_an_edited_package_is_not_handed_out_and_is_mended_by_the_next_install(
    store: PackageStore, package: Package
) -> None:
    install(store, package)
    edited = store.root / "packages" / package.digest.split(":")[1] / "reasons.yaml"
    edited.write_text("format: 1")
    with pytest.raises(TamperedPackageError, match=r"reasons\.yaml: edited"):
        store.package(package.digest)
    install(store, package, epoch=2)
    assert store.package(package.digest).digest == package.digest


def test_a_package_that_is_not_whole_is_not_installed(store: PackageStore, package: Package, tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        store.install("loans", version=1, package_dir=tmp_path / "none", envelope_json="{}", epoch=1)
    assert store.current("loans") is None


def test_a_package_under_the_name_of_another_is_refused(store: PackageStore, package: Package) -> None:
    install(store, package)
    home = store.root / "packages" / package.digest.split(":")[1]
    home.rename(home.with_name("a" * 64))
    with pytest.raises(PackageError, match=f"expected package sha256:{'a' * 64}, got {package.digest}"):
        store.package("sha256:" + "a" * 64)


@pytest.mark.parametrize("digest", ["", "sha256:../../etc", "md5:" + "a" * 64, "sha256:" + "A" * 64])
def test_what_is_no_digest_is_refused(store: PackageStore, digest: str) -> None:
    with pytest.raises(PackageError, match="package digest: expected 'sha256:<64 hex digits>'"):
        store.package(digest)


@pytest.mark.parametrize("change", [{"format": 2}, {"name": "other"}, {"more": 1}, {"version": "1"}])
def test_a_pointer_that_is_not_one_is_refused(store: PackageStore, package: Package, change: dict[str, object]) -> None:
    install(store, package)
    path = store.pointer("loans")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PackageError, match="expected"):
        store.current("loans")


def test_an_alert_is_a_line_and_is_not_repeated(store: PackageStore) -> None:
    for reason in ("a", "a", "b"):
        store.alert("loans", version=3, reason=reason, now=NOW)
    lines = [json.loads(line) for line in (store.root / "alerts.jsonl").read_text().splitlines()]
    assert [(line["format"], line["model"], line["version"], line["reason"]) for line in lines] == [
        (1, "loans", 3, "a"),
        (1, "loans", 3, "b"),
    ]


def test_an_alert_follows_a_torn_line(store: PackageStore) -> None:
    for torn in ("{", "[]", ""):
        (store.root).mkdir(exist_ok=True)
        (store.root / "alerts.jsonl").write_text(torn)
        store.alert("loans", version=3, reason="a", now=NOW)
        assert '"reason": "a"' in (store.root / "alerts.jsonl").read_text()


def test_stages_stand_side_by_side(store: PackageStore, package: Package) -> None:
    install(store, package, epoch=5)
    for stage, share in (("canary", 0.1), ("shadow", 0.0)):
        store.install(
            "loans", version=2, package_dir=package.directory, envelope_json="{}", epoch=2, stage=stage, share=share
        )
    canary, production = store.current("loans", stage="canary"), store.current("loans")
    assert canary is not None
    assert production is not None
    assert (canary.version, canary.stage, canary.share, production.version) == (2, "canary", 0.1, 1)
    # What an older nbkit wrote and reads: no word of stages in the pointer of production.
    assert set(json.loads(store.pointer("loans").read_text())) == {
        "format", "name", "version", "package_digest", "epoch", "envelope",
    }  # fmt: skip
    assert store.remove("loans", stage="canary")
    assert not store.remove("loans", stage="canary")
    assert store.current("loans", stage="canary") is None


def test_a_pointer_of_another_stage_is_refused(store: PackageStore, package: Package) -> None:
    install(store, package)
    store.pointer("loans").rename(store.pointer("loans", stage="canary"))
    with pytest.raises(PackageError, match="model 'loans' and stage 'canary', got 1, 'loans' and 'production'"):
        store.current("loans", stage="canary")
