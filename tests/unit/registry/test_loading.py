"""From a registered package to one that may be served, and every way in between to be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nbkit.errors import EvidenceError, TamperedPackageError
from nbkit.package import load_package
from nbkit.registry import Envelope, Statement, verify_evidence

NAME = "loan-denial"


@pytest.fixture
def version(registry, package) -> int:
    run = registry.create_run(NAME, name="train", tags={}, parameters={})
    return registry.register(package, run_id=run, description="Passes every gate.", tags={})


def _evidence(people, package, version: int, **changes: object) -> Envelope:
    facts = {"version": version, "package_digest": package.digest, "contract_digest": package.contract.digest}
    return people.promotion(**(facts | changes))


def _serve(registry, people, *, version: int, directory: Path) -> Statement:
    """What a loader does: it trusts nothing that it has not computed or verified itself."""
    number = registry.version_at(NAME, stage="production")
    assert number == version
    package = load_package(registry.download_package(NAME, version=number, directory=directory))
    envelope = registry.envelope(NAME, version=number, stage="production")
    if envelope is None:
        raise EvidenceError(f"{NAME}@{number}: no evidence for production")
    facts = people.facts(version=number, package_digest=package.digest, contract=package.contract)
    return verify_evidence(envelope, **facts)


def test_a_promoted_version_is_loaded(registry, people, package, version, tmp_path) -> None:
    envelope = _evidence(people, package, version)
    registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    registry.set_alias(NAME, stage="production", version=version)
    assert _serve(registry, people, version=version, directory=tmp_path / "package").version == version


def test_an_alias_moved_by_hand_loads_nothing(registry, people, package, version, tmp_path) -> None:
    registry._client.set_registered_model_alias(NAME, "production", str(version))
    with pytest.raises(EvidenceError, match="no evidence for production"):
        _serve(registry, people, version=version, directory=tmp_path / "package")


def test_evidence_copied_from_another_version_loads_nothing(registry, people, package, version, tmp_path) -> None:
    run = registry.version(NAME, version=version).run_id
    other = registry.register(package, run_id=run, description="", tags={})
    envelope = _evidence(people, package, version)
    registry.save_envelope(NAME, version=other, stage="production", envelope=envelope, pending=False)
    registry.set_alias(NAME, stage="production", version=other)
    with pytest.raises(EvidenceError, match=f"version: expected {other}, got {version}"):
        _serve(registry, people, version=other, directory=tmp_path / "package")


def test_files_changed_after_registration_load_nothing(registry, settings, people, package, version, tmp_path) -> None:
    envelope = _evidence(people, package, version)
    registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    registry.set_alias(NAME, stage="production", version=version)
    model_id = registry.version(NAME, version=version).source.removeprefix("models:/")
    plan = settings.artifact_root / NAME / "models" / model_id / "artifacts" / "data" / "plan.json"
    plan.write_bytes(plan.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(TamperedPackageError, match=r"plan\.json"):
        _serve(registry, people, version=version, directory=tmp_path / "package")


def test_another_packages_files_load_nothing(registry, people, package, version, tmp_path) -> None:
    envelope = _evidence(people, package, version, package_digest="sha256:" + "0" * 64)
    registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    registry.set_alias(NAME, stage="production", version=version)
    with pytest.raises(EvidenceError, match="package digest: expected"):
        _serve(registry, people, version=version, directory=tmp_path / "package")


def test_the_mlflow_model_states_its_columns_and_its_pins(registry, package, version) -> None:
    files = registry._model_files(NAME, version)
    described = yaml.safe_load(files.read("MLmodel"))
    signature = described["signature"]["inputs"]
    assert '{"type": "double", "name": "loanamt", "required": true}' in signature
    assert '{"type": "double", "name": "term", "required": false}' in signature
    assert '{"type": "string", "name": "mortg", "required": true}' in signature
    assert described["flavors"]["python_function"]["loader_module"] == "nbkit.lifecycle._pyfunc"
    pins = files.read("requirements.txt").decode().split()
    assert all("==" in pin for pin in pins)
    assert [pin for pin in pins if pin.startswith("mlflow==")]
    assert yaml.safe_load(files.read("python_env.yaml"))["dependencies"] == ["-r requirements.txt"]
