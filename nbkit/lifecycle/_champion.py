"""Versions as they can be trusted: files and evidence verified together."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
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


def verify_version(
    name: str, *, version: int, stage: Stage, settings: Settings, now: datetime, package: Package | None = None
) -> Verified:
    """Load a version for a stage and verify files and evidence; a package that was fetched already is taken as it is.

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
    package = package or fetch(name, version=version, settings=settings)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A version that evidence claims for a stage; only `verify_version` makes it true."""

    version: int
    statement: Statement

    @property
    def promoted_at_epoch(self) -> int:
        """The epoch of its promotion, which a rollback carries inside."""
        basis = self.statement.basis
        return self.statement.epoch if basis is None else Envelope.from_mapping(basis).unverified_statement().epoch


def claimed(name: str, *, stage: Stage, settings: Settings) -> tuple[Claimed, ...]:
    """Return every version for which there is evidence of a stage, the one that was decided last first.

    Nothing is verified but that a key which this machine trusts signed it. Evidence that cannot be read claims nothing.
    """
    trust = TrustStore.load(settings.trust_file)
    found = []
    for record in Registry(settings).versions(name, stages=False):
        digest = record.tags.get(f"nbkit.evidence.{stage.value}")
        if digest is None:
            continue
        try:
            envelope = _envelope_file(settings, name, record.version, record.run_id, stage, digest)
            if not any(
                (key := trust.find(signature.keyid)) and signature.fits(key.raw, payload=envelope.payload)
                for signature in envelope.signatures
            ):
                continue
            statement = envelope.unverified_statement()
        except EvidenceError:
            continue
        if (statement.model, statement.version, statement.stage) == (name, record.version, stage.value):
            found.append(Claimed(version=record.version, statement=statement))
    return tuple(sorted(found, key=lambda each: -each.statement.epoch))


# Files are named by their digest, so what was read once is what would be read again; a follower asks every few seconds.
@lru_cache(maxsize=1024)
def _envelope_file(settings: Settings, name: str, version: int, run_id: str, stage: Stage, digest: str) -> Envelope:
    return Registry(settings).envelope_file(name, version=version, stage=stage, digest=digest, run_id=run_id)


def verified_champion(
    name: str, *, settings: Settings, now: datetime, fetched: Mapping[int, Package] | None = None
) -> Verified | None:
    """Return the version in production whose evidence holds; None when there is none.

    An alias makes no champion: of the versions whose production evidence holds, the one with the highest epoch is it,
    because the epoch counts promotions and rollbacks and so says what was decided last. Packages of the model that were
    fetched already, by version, are taken as they are.
    """
    if not settings.trust_file.exists():
        return None
    for each in claimed(name, stage=Stage.PRODUCTION, settings=settings):
        try:
            return verify_version(
                name, version=each.version, stage=Stage.PRODUCTION, settings=settings, now=now,
                package=(fetched or {}).get(each.version),
            )  # fmt: skip
        except (EvidenceError, TamperedPackageError):
            continue
    return None
