"""Bring the versions that are served from the registry into the store: only what verifies arrives."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from nbkit.contract import Stage
from nbkit.errors import NbkitError, PackageError
from nbkit.package import Package, load_package
from nbkit.registry import Envelope, Statement, TrustStore, verify_evidence
from nbkit.serve._store import PRODUCTION, Installed, PackageStore

__all__ = ["CANARY_SHARE_TAG", "PackageSource", "SyncResult", "VersionTags", "accept", "sync_model"]

_LOG = logging.getLogger("nbkit.serve")

# Tag of a version in the registry: the share that its canary answers now.
CANARY_SHARE_TAG = "nbkit.canary_share"


class PackageSource(Protocol):
    """What `sync_model` asks of a registry; ``nbkit.registry.Registry`` is one."""

    def version_at(self, name: str, *, stage: str) -> int | None:
        """Return the version that an alias names."""

    def download_package(self, name: str, *, version: int, directory: Path) -> Path:
        """Fetch a version's package."""

    def envelope(self, name: str, *, version: int, stage: str) -> Envelope | None:
        """Return the evidence of a version for a stage."""

    def version(self, name: str, *, version: int) -> VersionTags:
        """Return what is said about a version."""


class VersionTags(Protocol):
    """What `sync_model` asks of a version: a canary's share is a tag of it."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Everything that is said about the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What `sync_model` did.

    Parameters
    ----------
    state : {"current", "installed", "refused", "removed", "empty"}
        ``refused`` leaves the last good version in place; ``removed`` and ``empty``: no version is on trial (any more).
    version : int or None
        What the registry says is in the stage; None when nothing is.
    reason : str
        Why it was refused.
    stage : str
        Which one.
    """

    state: Literal["current", "installed", "refused", "removed", "empty"]
    version: int | None
    reason: str = ""
    stage: str = PRODUCTION


def accept(
    package: Package,
    *,
    name: str,
    version: int,
    envelope: Envelope,
    trust: TrustStore,
    now: datetime,
    minimum_epoch: int,
    stage: str = PRODUCTION,
) -> Statement:
    """Verify the evidence of a package for a stage: the one place that lets something be served."""
    return verify_evidence(
        envelope,
        trust=trust,
        now=now,
        model=name,
        version=version,
        stage=stage,
        package_digest=package.digest,
        contract=package.contract,
        minimum_epoch=minimum_epoch,
    )


def sync_model(
    name: str,
    *,
    registry: PackageSource,
    trust: TrustStore,
    store: PackageStore,
    now: datetime,
    stage: str = PRODUCTION,
) -> SyncResult:
    """Install what the registry's alias of a stage names, if its files and its evidence verify.

    Parameters
    ----------
    name : str
        The registered model.
    registry : PackageSource
        Trusted for nothing.
    trust : TrustStore
        This verifier's own.
    store : PackageStore
        Where it goes; what is there stays when the update is refused.
    now : datetime
        Aware, UTC.
    stage : str
        ``production``, ``canary`` or ``shadow``.

    Returns
    -------
    SyncResult
        A refusal is also a warning in the log ``nbkit.serve`` and a line in the store's ``alerts.jsonl``.
    """
    version: int | None = None
    try:
        version = registry.version_at(name, stage=stage)
        if stage != PRODUCTION and (version is None or _trial_is_over(name, version, stage=stage, registry=registry)):
            state: Literal["removed", "empty"] = "removed" if store.remove(name, stage=stage) else "empty"
            return SyncResult(state=state, version=None, stage=stage)
        return _Sync(name=name, stage=stage, registry=registry, trust=trust, store=store, now=now).run(version)
    except NbkitError as error:
        reason = f"{type(error).__name__}: {error}"
    except OSError as error:
        reason = f"the package store {store.root}: {error}"
    _alert(name, version, reason=reason, store=store, now=now)
    return SyncResult(state="refused", version=version, reason=reason, stage=stage)


# What comes after a trial. An alias stays where it was when its version moves on, and when production goes back.
_LATER = {
    Stage.SHADOW.value: (Stage.CANARY.value, Stage.PRODUCTION.value),
    Stage.CANARY.value: (Stage.PRODUCTION.value,),
}


def _trial_is_over(name: str, version: int, *, stage: str, registry: PackageSource) -> bool:
    """Whether a version has moved on: one that was rolled back from production must not come back as a canary."""
    return any(registry.envelope(name, version=version, stage=later) is not None for later in _LATER.get(stage, ()))


class _NothingToServeError(NbkitError):
    """The registry offers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sync:
    """One look at one stage."""

    name: str
    stage: str
    registry: PackageSource
    trust: TrustStore
    store: PackageStore
    now: datetime

    def run(self, version: int | None) -> SyncResult:
        if version is None:
            step = f"nbkit promote {self.name}@VERSION"
            raise _NothingToServeError(f"{self.name}: no version in {self.stage}", next_step=step)
        envelope = self.registry.envelope(self.name, version=version, stage=self.stage)
        if envelope is None:
            raise _NothingToServeError(
                f"{self.name} version {version}: its alias says {self.stage}, but there is no evidence for it",
                next_step=f"nbkit gate {self.name}@{version} --to {self.stage}",
            )
        installed = self.store.current(self.name, stage=self.stage)
        if installed is not None and (installed.version, installed.envelope) == (version, envelope.to_json()):
            package = self._stored(installed)
            if package is not None:
                self._accept(package, version=version, envelope=envelope, minimum_epoch=installed.epoch)
                return self._again(installed, package)
        return self._fetch(version, envelope=envelope, minimum_epoch=installed.epoch if installed else 0)

    def _stored(self, installed: Installed) -> Package | None:
        try:
            return self.store.package(installed.package_digest)
        except PackageError as error:
            reason = f"the store's own files: {error}"
            _alert(self.name, installed.version, reason=reason, store=self.store, now=self.now)
            return None

    def _again(self, installed: Installed, package: Package) -> SyncResult:
        share = self._share(installed.version, package)
        if share != installed.share:
            self.store.point(replace(installed, share=share))
            fields = {"model": self.name, "version": installed.version, "share": share}
            _LOG.info("canary share", extra={"fields": fields})
            return SyncResult(state="installed", version=installed.version, stage=self.stage)
        return SyncResult(state="current", version=installed.version, stage=self.stage)

    def _fetch(self, version: int, *, envelope: Envelope, minimum_epoch: int) -> SyncResult:
        incoming = self.store.incoming()
        try:
            source = self.registry.download_package(self.name, version=version, directory=incoming)
            package = load_package(source)
            statement = self._accept(package, version=version, envelope=envelope, minimum_epoch=minimum_epoch)
            self.store.install(
                self.name,
                version=version,
                package_dir=package.directory,
                envelope_json=envelope.to_json(),
                epoch=statement.epoch,
                stage=self.stage,
                share=self._share(version, package),
            )
        finally:
            shutil.rmtree(incoming)
        fields = {"model": self.name, "version": version, "stage": self.stage, "package": package.digest}
        _LOG.info("installed", extra={"fields": fields})
        return SyncResult(state="installed", version=version, stage=self.stage)

    def _accept(self, package: Package, *, version: int, envelope: Envelope, minimum_epoch: int) -> Statement:
        return accept(
            package,
            name=self.name,
            version=version,
            envelope=envelope,
            trust=self.trust,
            now=self.now,
            minimum_epoch=minimum_epoch,
            stage=self.stage,
        )

    def _share(self, version: int, package: Package) -> float:
        """Return a canary's share: a tag chooses among the shares of the contract, which the evidence signs."""
        shares = package.contract.rollout.canary_shares
        if self.stage != Stage.CANARY or not shares:
            return 0.0
        said = self.registry.version(self.name, version=version).tags.get(CANARY_SHARE_TAG, "")
        chosen = next((share for share in shares if repr(share) == said), None)
        if said and chosen is None:
            reason = f"tag {CANARY_SHARE_TAG}: expected one of rollout.canary_shares {list(shares)}, got {said!r}"
            _alert(self.name, version, reason=reason, store=self.store, now=self.now)
        return shares[0] if chosen is None else chosen


def _alert(name: str, version: int | None, *, reason: str, store: PackageStore, now: datetime) -> None:
    _LOG.warning("update refused", extra={"fields": {"model": name, "version": version, "reason": reason}})
    try:
        store.alert(name, version=version or 0, reason=reason, now=now)
    except OSError as error:
        _LOG.warning("alert not written", extra={"fields": {"model": name, "reason": str(error)}})
