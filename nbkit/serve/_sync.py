"""Bring the version in production from the registry into the store: only what verifies arrives."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from nbkit.contract import Stage
from nbkit.errors import NbkitError, PackageError
from nbkit.package import Package, load_package
from nbkit.registry import Envelope, Statement, TrustStore, verify_evidence
from nbkit.serve._store import PackageStore

__all__ = ["PackageSource", "SyncResult", "accept", "sync_model"]

_LOG = logging.getLogger("nbkit.serve")


class PackageSource(Protocol):
    """What `sync_model` asks of a registry; ``nbkit.registry.Registry`` is one."""

    def version_at(self, name: str, *, stage: str) -> int | None:
        """Return the version that an alias names."""

    def download_package(self, name: str, *, version: int, directory: Path) -> Path:
        """Fetch a version's package."""

    def envelope(self, name: str, *, version: int, stage: str) -> Envelope | None:
        """Return the evidence of a version for a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What `sync_model` did.

    Parameters
    ----------
    state : {"current", "installed", "refused"}
        ``refused`` leaves the last good version in place.
    version : int or None
        What the registry calls production; None when nothing is.
    reason : str
        Why it was refused.
    """

    state: Literal["current", "installed", "refused"]
    version: int | None
    reason: str = ""


def accept(
    package: Package,
    *,
    name: str,
    version: int,
    envelope: Envelope,
    trust: TrustStore,
    now: datetime,
    minimum_epoch: int,
) -> Statement:
    """Verify the evidence of a package for production: the one place that lets something be served."""
    return verify_evidence(
        envelope,
        trust=trust,
        now=now,
        model=name,
        version=version,
        stage=Stage.PRODUCTION.value,
        package_digest=package.digest,
        contract=package.contract,
        minimum_epoch=minimum_epoch,
    )


def sync_model(
    name: str, *, registry: PackageSource, trust: TrustStore, store: PackageStore, now: datetime
) -> SyncResult:
    """Install what the registry's alias ``production`` names, if its files and its evidence verify.

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

    Returns
    -------
    SyncResult
        A refusal is also a warning in the log ``nbkit.serve`` and a line in the store's ``alerts.jsonl``.
    """
    version: int | None = None
    try:
        version = registry.version_at(name, stage=Stage.PRODUCTION.value)
        return _sync(name, version, registry=registry, trust=trust, store=store, now=now)
    except NbkitError as error:
        reason = f"{type(error).__name__}: {error}"
    except OSError as error:
        reason = f"the package store {store.root}: {error}"
    _alert(name, version, reason=reason, store=store, now=now)
    return SyncResult(state="refused", version=version, reason=reason)


class _NothingToServeError(NbkitError):
    """The registry offers nothing."""


def _sync(
    name: str,
    version: int | None,
    *,
    registry: PackageSource,
    trust: TrustStore,
    store: PackageStore,
    now: datetime,
) -> SyncResult:
    if version is None:
        raise _NothingToServeError(f"{name}: no version in production", next_step=f"nbkit promote {name}@VERSION")
    envelope = registry.envelope(name, version=version, stage=Stage.PRODUCTION.value)
    if envelope is None:
        raise _NothingToServeError(
            f"{name} version {version}: its alias says production, but there is no evidence for it",
            next_step=f"nbkit gate {name}@{version} --to production",
        )
    installed = store.current(name)
    if installed is not None and (installed.version, installed.envelope) == (version, envelope.to_json()):
        try:
            package = store.package(installed.package_digest)
        except PackageError as error:
            _alert(name, version, reason=f"the store's own files: {error}", store=store, now=now)
        else:
            accept(
                package,
                name=name,
                version=version,
                envelope=envelope,
                trust=trust,
                now=now,
                minimum_epoch=installed.epoch,
            )
            return SyncResult(state="current", version=version)
    incoming = store.incoming()
    try:
        package = load_package(registry.download_package(name, version=version, directory=incoming))
        statement = accept(
            package,
            name=name,
            version=version,
            envelope=envelope,
            trust=trust,
            now=now,
            minimum_epoch=installed.epoch if installed else 0,
        )
        store.install(
            name,
            version=version,
            package_dir=package.directory,
            envelope_json=envelope.to_json(),
            epoch=statement.epoch,
        )
    finally:
        shutil.rmtree(incoming)
    _LOG.info("installed", extra={"fields": {"model": name, "version": version, "package": package.digest}})
    return SyncResult(state="installed", version=version)


def _alert(name: str, version: int | None, *, reason: str, store: PackageStore, now: datetime) -> None:
    _LOG.warning("update refused", extra={"fields": {"model": name, "version": version, "reason": reason}})
    try:
        store.alert(name, version=version or 0, reason=reason, now=now)
    except OSError as error:
        _LOG.warning("alert not written", extra={"fields": {"model": name, "reason": str(error)}})
