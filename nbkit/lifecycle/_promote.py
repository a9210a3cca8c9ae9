"""Move a version up: gates pass, enough others approved, and its submitter signs."""

from __future__ import annotations

from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError
from nbkit.lifecycle._approve import approvers_of, being_approved, require_gates
from nbkit.lifecycle._champion import Verified, fetch
from nbkit.lifecycle._evidence import signing_key
from nbkit.lifecycle._gate import judge_gates, resolve
from nbkit.lifecycle._move import Promoted, label, move, unfinished
from nbkit.registry import Registry, Statement, TrustStore, verify_evidence
from nbkit.settings import Settings


def promote(target: str, *, to: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Move a version to a stage: gates pass, enough others approved, and its submitter signs.

    Of several promotions at the same moment one wins. One that was killed half-way is finished by asking again.

    Raises
    ------
    RefusedError
        A gate does not pass, approvals are missing or were given for something else, somebody else than the submitter
        asks, or another version moved at the same moment.
    """
    name, version = resolve(target, settings=settings)
    if to in set(Stage):
        begun = unfinished(name, version=version, stage=Stage(to), settings=settings, now=now)
        if begun is not None:
            return _finish(begun, settings=settings)
    table = judge_gates(f"{name}@{version}", to=to, settings=settings, now=now)
    require_gates(table)
    stage = Stage(table.stage)
    package = table.package or fetch(name, version=version, settings=settings)
    envelope = being_approved(table, settings=settings, now=now)
    if envelope is None:
        raise RefusedError(
            f"{name}@{version} -> {stage}: nobody has approved what the gates say now",
            next_step=f"nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    owners = approvers_of(envelope, settings=settings, now=now)
    signer = signing_key(settings, key=key)
    submitter = envelope.unverified_statement().submitter
    if signer.key_id != submitter.key_id:
        raise RefusedError(
            f"{name}@{version} -> {stage}: {submitter.owner} submitted it and has to sign, not key {signer.name!r}",
            next_step=f"nbkit promote {name}@{version} --to {stage} --key NAME (of {submitter.owner})",
        )
    envelope = envelope.sign(signer)
    try:
        statement = verify_evidence(
            envelope, trust=TrustStore.load(settings.trust_file), now=now, model=name, version=version, stage=stage,
            package_digest=package.digest, contract=package.contract,
        )  # fmt: skip
    except EvidenceError as error:
        raise RefusedError(
            f"{name}@{version} -> {stage}",
            problems=error.problems or (error.message,),
            next_step=f"nbkit approve {name}@{version} --to {stage} --key NAME",
        ) from error
    move(envelope, statement=statement, signed_by=owners, settings=settings)
    return _promoted(statement, signed_by=owners, settings=settings)


def _finish(begun: Verified, *, settings: Settings) -> Promoted:
    """Set the labels of a move whose evidence stands."""
    statement = begun.statement
    trust = TrustStore.load(settings.trust_file)
    keys = [trust.find(signature.keyid) for signature in begun.envelope.signatures]
    owners = tuple(key.owner for key in keys if key and key.key_id != statement.submitter.key_id)
    label(statement, signed_by=owners or (statement.submitter.owner,), settings=settings)
    return _promoted(statement, signed_by=owners, settings=settings)


def _promoted(statement: Statement, *, signed_by: tuple[str, ...], settings: Settings) -> Promoted:
    return Promoted(
        name=statement.model,
        version=statement.version,
        stage=Stage(statement.stage),
        epoch=statement.epoch,
        approvers=signed_by,
        version_link=Registry(settings).version_link(statement.model, statement.version),
        statement=statement,
    )
