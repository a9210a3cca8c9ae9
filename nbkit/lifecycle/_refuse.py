"""Refuse a move, signed and with a reason; and take a refusal back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nbkit.contract import Stage
from nbkit.errors import RefusedError, UsageError
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._evidence import signing_key, trusted
from nbkit.lifecycle._gate import parse_stage, resolve
from nbkit.lifecycle._refusals import standing_refusals
from nbkit.lifecycle._view import Result, View
from nbkit.registry import (
    Certificate,
    CertificateKind,
    Envelope,
    Registry,
    Role,
    Submitter,
    owner_identity,
)
from nbkit.settings import Settings

# A refusal stands until it is taken back, or a new version comes; a certificate has to end some day.
_STANDS_FOR = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Result):
    """One person's signed no to a move, or its withdrawal."""

    name: str
    version: int
    stage: str
    by: str
    reason: str
    withdrawn: bool = False

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        done = "withdrew the refusal" if self.withdrawn else "refused"
        step = f"nbkit gate {target} --to {self.stage}" if self.withdrawn else f"nbkit run {self.name}"
        return View(
            headline=f"{target} -> {self.stage}: {self.by} {done}", facts=[("why", self.reason)], next_step=step
        )


def refuse(target: str, *, to: str, reason: str, settings: Settings, now: datetime, key: str = "") -> Refused:
    """Sign that a version must not move to a stage; gates show it, and nobody can promote it from then on.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    to : str
        The stage.
    reason : str
        Why; the submitter reads it.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.
    key : str
        Name of an approver's key.

    Returns
    -------
    Refused
        What was signed.

    Raises
    ------
    UsageError
        No reason, or no such stage.
    EvidenceError
        The key is not trusted as an approver's.
    """
    return _sign(target, CertificateKind.REFUSAL, to=to, reason=reason, settings=settings, now=now, key=key)


def withdraw(target: str, *, to: str, reason: str, settings: Settings, now: datetime, key: str = "") -> Refused:
    """Take one's own refusal back; see `refuse` for the parameters.

    Raises
    ------
    RefusedError
        The signer has refused nothing.
    """
    name, version = resolve(target, settings=settings)
    signer = signing_key(settings, key=key)
    owner = trusted(signer.key_id, role=Role.APPROVER, settings=settings, now=now).owner
    package = fetch(name, version=version, settings=settings)
    standing = standing_refusals(name, version=version, stage=Stage(to), package=package, settings=settings, now=now)
    if owner_identity(owner) not in {owner_identity(each.signer.owner) for each in standing}:
        raise RefusedError(f"{name}@{version} -> {to}: {owner} has refused nothing that could be withdrawn")
    return _sign(
        f"{name}@{version}", CertificateKind.WITHDRAWAL, to=to, reason=reason, settings=settings, now=now, key=key
    )


def remark(target: str, *, to: str, reason: str, settings: Settings, now: datetime, key: str = "") -> None:
    """Sign what an approver wants the others to know; see `refuse` for the parameters. It lets and stops nothing."""
    _sign(target, CertificateKind.REMARK, to=to, reason=reason, settings=settings, now=now, key=key)


def _sign(
    target: str, kind: CertificateKind, *, to: str, reason: str, settings: Settings, now: datetime, key: str
) -> Refused:
    if not reason.strip():
        raise UsageError(f"{target}: a {kind} needs a reason", next_step=f'nbkit review {target} --reason "..."')
    name, version = resolve(target, settings=settings)
    package = fetch(name, version=version, settings=settings)
    stage = parse_stage(to, package=package)
    signer = signing_key(settings, key=key)
    owner = trusted(signer.key_id, role=Role.APPROVER, settings=settings, now=now).owner
    certificate = Certificate(
        kind=kind, model=name, version=version, package_digest=package.digest, contract_digest=package.contract.digest,
        issued_at=now, expires_at=now + _STANDS_FOR, signer=Submitter(key_id=signer.key_id, owner=owner),
        says={"stage": stage.value}, reason=reason.strip(),
    )  # fmt: skip
    Registry(settings).save_certificate(
        name, version=version, label=f"{kind.value}.{stage.value}", envelope=Envelope.of(certificate).sign(signer)
    )
    return Refused(
        name=name, version=version, stage=stage.value, by=owner, reason=reason.strip(),
        withdrawn=kind is CertificateKind.WITHDRAWAL,
    )  # fmt: skip
