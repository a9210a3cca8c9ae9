"""Who signs what: keys in their roles, submissions, statements about a move."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import rfc8785

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, UsageError
from nbkit.lifecycle._documents import digest_of
from nbkit.package import Package
from nbkit.records import GateResult
from nbkit.registry import (
    Action,
    Envelope,
    Registry,
    Role,
    SigningKey,
    Statement,
    Submitter,
    TrustedKey,
    TrustStore,
    load_key,
    verify_submission,
)
from nbkit.settings import Settings


def logged_model_digest(name: str, *, version: int, settings: Settings) -> str:
    """Return one digest over every file that MLflow keeps for a version."""
    return digest_of(rfc8785.dumps(dict(Registry(settings).file_digests(name, version=version))))


def signing_key(settings: Settings, *, key: str = "") -> SigningKey:
    """Return the key that signs: the one named, or the settings' identity.

    Raises
    ------
    UsageError
        None is named.
    KeyFileError
        It is missing, or others can read it.
    """
    name = key or settings.identity
    if not name:
        raise UsageError(
            "no key to sign with (--key or NBKIT_IDENTITY)", next_step="nbkit keys new NAME --role submitter"
        )
    return load_key(name, directory=settings.keys)


def trusted(key_id: str, *, role: Role, settings: Settings, now: datetime) -> TrustedKey:
    """Return what this machine knows of a key, if it may act in that role now.

    Raises
    ------
    EvidenceError
        Not trusted, not in that role, expired or revoked.
    """
    key = TrustStore.load(settings.trust_file).find(key_id)
    if key is None:
        raise EvidenceError(
            f"key {key_id[:19]}: not in {settings.trust_file}", next_step="nbkit keys new NAME --role ROLE"
        )
    problem = key.problem(signed_at=now, now=now)
    if problem:
        raise EvidenceError(problem)
    if role not in key.roles:
        raise EvidenceError(
            f"key {key.name!r} of {key.owner} may sign as {', '.join(key.roles)}, not as {role}",
            next_step=f"nbkit keys new NAME --role {role}",
        )
    return key


def submission_of(name: str, *, version: int, package: Package, settings: Settings, now: datetime) -> Statement:
    """Return who submitted a version and with which documents, verified.

    Raises
    ------
    EvidenceError
        Nobody signed, or the signature does not hold.
    """
    envelope = Registry(settings).envelope(name, version=version, stage=Stage.CANDIDATE)
    if envelope is None:
        raise EvidenceError(f"{name}@{version}: nobody signed its submission", next_step=f"nbkit register {name}")
    return verify_submission(
        envelope,
        trust=TrustStore.load(settings.trust_file),
        now=now,
        model=name,
        version=version,
        package_digest=package.digest,
        contract=package.contract,
    )


def statement_about(
    package: Package,
    *,
    version: int,
    stage: Stage,
    action: Action,
    epoch: int,
    now: datetime,
    documents: Mapping[str, str],
    gates: tuple[GateResult, ...],
    submitter: Submitter,
    run_id: str,
    basis: Mapping[str, object] | None = None,
    reason: str = "",
    waivers: tuple[Mapping[str, object], ...] = (),
) -> Statement:
    """Return what is to be signed about a version and a stage; it expires no later than its waivers."""
    contract = package.contract
    ends = [Envelope.from_mapping(waiver).unverified_certificate().expires_at for waiver in waivers]
    return Statement(
        model=contract.name,
        version=version,
        stage=stage.value,
        action=action,
        epoch=epoch,
        issued_at=now,
        expires_at=min([now + timedelta(days=contract.rollout.evidence_valid_days), *ends]),
        package_digest=package.digest,
        contract_digest=contract.digest,
        case_set_digest=(contract.evaluate.case_set or "").rpartition("@")[2],
        documents=dict(documents),
        gates=gates,
        impact=contract.impact,
        approvals_needed=contract.approvals_needed,
        submitter=submitter,
        run_id=run_id,
        basis=basis,
        reason=reason,
        waivers=waivers,
    )
