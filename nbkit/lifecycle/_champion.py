"""Versions as they can be trusted: files and evidence verified together."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, TamperedPackageError
from nbkit.package import Package, load_package
from nbkit.registry import Envelope, Registry, Statement, TrustStore, verify_evidence
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A registered version whose files and evidence hold."""

    version: int
    package: Package
    statement: Statement
    envelope: Envelope


def fetch(name: str, *, version: int, settings: Settings) -> Package:
    """Download a version's package and check its files, which live as long as the returned package.

    Raises
    ------
    TamperedPackageError
        The files are not those of the manifest.
    """
    folder = Path(tempfile.mkdtemp(prefix="nbkit-"))
    try:
        package = load_package(Registry(settings).download_package(name, version=version, directory=folder / "package"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(package, shutil.rmtree, folder, ignore_errors=True)
    return package


def verify_version(name: str, *, version: int, stage: Stage, settings: Settings, now: datetime) -> Verified:
    """Load a version for a stage and verify files and evidence.

    Raises
    ------
    EvidenceError
        There is no evidence, or it does not hold.
    TamperedPackageError
        The files are not those of the manifest.
    """
    envelope = Registry(settings).envelope(name, version=version, stage=stage)
    if envelope is None:
        raise EvidenceError(
            f"{name}@{version}: no evidence for {stage}", next_step=f"nbkit gate {name}@{version} --to {stage}"
        )
    package = fetch(name, version=version, settings=settings)
    statement = verify_evidence(
        envelope,
        trust=TrustStore.load(settings.trust_file),
        now=now,
        model=name,
        version=version,
        stage=stage,
        package_digest=package.digest,
        contract=package.contract,
    )
    return Verified(version=version, package=package, statement=statement, envelope=envelope)


def verified_champion(name: str, *, settings: Settings, now: datetime) -> Verified | None:
    """Return the version in production whose evidence holds; None when there is none.

    An alias that points at something else than verified evidence does not make a champion: the newest version whose
    production evidence holds does.
    """
    registry = Registry(settings)
    pointed = registry.version_at(name, stage=Stage.PRODUCTION)
    candidates = [pointed] if pointed else []
    candidates += [record.version for record in registry.versions(name) if record.version != pointed]
    best: Verified | None = None
    for version in candidates:
        if registry.envelope(name, version=version, stage=Stage.PRODUCTION) is None:
            continue
        try:
            found = verify_version(name, version=version, stage=Stage.PRODUCTION, settings=settings, now=now)
        except (EvidenceError, TamperedPackageError):
            continue
        # The epoch counts promotions and rollbacks: the highest is what was decided last.
        if best is None or found.statement.epoch > best.statement.epoch:
            best = found
    return best
