"""Move a version: approvals, promotion, rollback; evidence first, alias last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, TamperedPackageError
from nbkit.lifecycle._champion import fetch, verify_version
from nbkit.lifecycle._evidence import signing_key, statement_about, submission_of, trusted
from nbkit.lifecycle._gate import GateTable, gate
from nbkit.lifecycle._view import Result, View
from nbkit.registry import (
    Action,
    Envelope,
    Registry,
    Role,
    Statement,
    Submitter,
    TrustStore,
    owner_identity,
    verify_evidence,
)
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved(Result):
    """One person's signature under a move."""

    name: str
    version: int
    stage: Stage
    approver: str
    approvals: int
    approvals_needed: int

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        enough = self.approvals >= self.approvals_needed
        verb = "promote" if enough else "approve"
        follow = f"nbkit {verb} {target} --to {self.stage}" + ("" if enough else " --key NAME (another person)")
        return View(
            headline=f"{target} -> {self.stage}: approved by {self.approver} "
            f"({self.approvals} of {self.approvals_needed})",
            next_step=follow,
        )


def _require_gates(table: GateTable) -> None:
    if table.succeeded:
        return
    problems = [f"{r.gate}: {r.verdict.value}: {r.reason}" for r in table.results if not r.passed]
    steps = [r.next_step for r in table.results if not r.passed and r.next_step]
    raise RefusedError(
        f"{table.name}@{table.version} -> {table.stage}",
        problems=problems or ["the contract lists no gate for this stage"],
        next_step=steps[0] if steps else f"nbkit gate {table.name}@{table.version} --to {table.stage}",
    )


def _next_epoch(name: str, *, stage: Stage, settings: Settings) -> int:
    registry = Registry(settings)
    epochs = [0]
    for record in registry.versions(name):
        envelope = registry.envelope(name, version=record.version, stage=stage)
        if envelope is not None:
            epochs.append(envelope.unverified_statement().epoch)
    return max(epochs) + 1


def approve(target: str, *, to: str, settings: Settings, now: datetime, key: str = "") -> Approved:
    """Sign a move as its approver.

    All approvals are signatures over one payload: gates, package, contract, case set, documents.

    Raises
    ------
    RefusedError
        A gate does not pass, or the approver submitted the version or has approved already.
    EvidenceError
        The key is not trusted as an approver's.
    """
    table = gate(target, to=to, settings=settings, now=now)
    _require_gates(table)
    name, version, stage = table.name, table.version, Stage(table.stage)
    package = fetch(name, version=version, settings=settings)
    submission = submission_of(name, version=version, package=package, settings=settings, now=now)
    signer = signing_key(settings, key=key)
    approver = trusted(signer.key_id, role=Role.APPROVER, settings=settings, now=now).owner
    if owner_identity(approver) == owner_identity(submission.submitter.owner):
        raise RefusedError(
            f"{name}@{version}: {approver} submitted it and cannot approve it",
            next_step=f"ask another approver: nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    envelope = _pending(table, settings=settings)
    if envelope is None:
        statement = statement_about(
            package, version=version, stage=stage, action=Action.PROMOTE,
            epoch=_next_epoch(name, stage=stage, settings=settings), now=now, documents=submission.documents,
            gates=table.results, submitter=submission.submitter, run_id=submission.run_id,
        )  # fmt: skip
        envelope = Envelope.of(statement)
    owners = _approvers(envelope, settings=settings, now=now)
    if owner_identity(approver) in map(owner_identity, owners):
        raise RefusedError(
            f"{name}@{version}: {approver} has approved already",
            next_step=f"ask another approver: nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    Registry(settings).save_envelope(name, version=version, stage=stage, envelope=envelope.sign(signer), pending=True)
    return Approved(
        name=name,
        version=version,
        stage=stage,
        approver=approver,
        approvals=len(owners) + 1,
        approvals_needed=package.contract.approvals_needed,
    )


def _approvers(envelope: Envelope, *, settings: Settings, now: datetime) -> tuple[str, ...]:
    submitter = envelope.unverified_statement().submitter.key_id
    signers = [signature.keyid for signature in envelope.signatures if signature.keyid != submitter]
    return tuple(trusted(key_id, role=Role.APPROVER, settings=settings, now=now).owner for key_id in signers)


def _pending(table: GateTable, *, settings: Settings) -> Envelope | None:
    """Return the payload that is being signed, unless what it says is no longer so."""
    stage = Stage(table.stage)
    envelope = Registry(settings).envelope(table.name, version=table.version, stage=stage, pending=True)
    if envelope is None:
        return None
    statement = envelope.unverified_statement()
    same = statement.gates == table.results and statement.package_digest == table.package_digest
    return envelope if same and statement.epoch == _next_epoch(table.name, stage=stage, settings=settings) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Result):
    """A version that has moved to a stage."""

    name: str
    version: int
    stage: Stage
    epoch: int
    approvers: tuple[str, ...]
    version_link: str
    rolled_back_from: int | None = None

    def view(self) -> View:
        """Return what a person is shown."""
        verb = "promoted" if self.rolled_back_from is None else f"rolled back from {self.rolled_back_from}"
        path = (
            f"nbkit serve {self.name}"
            if self.stage is Stage.PRODUCTION
            else f"nbkit gate {self.name}@{self.version} --to production"
        )
        return View(
            headline=f"{self.name}@{self.version}: {verb}, now {self.stage}",
            facts=[
                ("signed by", ", ".join(self.approvers)),
                ("epoch", str(self.epoch)),
                ("version", self.version_link),
            ],
            next_step=path,
        )


def promote(target: str, *, to: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Move a version to a stage: gates pass, enough others approved, and its submitter signs.

    Raises
    ------
    RefusedError
        A gate does not pass, approvals are missing or were given for something else, or somebody else than the
        submitter asks.
    """
    table = gate(target, to=to, settings=settings, now=now)
    _require_gates(table)
    name, version, stage = table.name, table.version, Stage(table.stage)
    package = fetch(name, version=version, settings=settings)
    envelope = _pending(table, settings=settings)
    if envelope is None:
        raise RefusedError(
            f"{name}@{version} -> {stage}: nobody has approved what the gates say now",
            next_step=f"nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    owners = _approvers(envelope, settings=settings, now=now)
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
    _move(envelope, statement=statement, owners=owners, settings=settings)
    return Promoted(
        name=name,
        version=version,
        stage=stage,
        epoch=statement.epoch,
        approvers=owners,
        version_link=Registry(settings).version_link(name, version),
    )


def _move(envelope: Envelope, *, statement: Statement, owners: tuple[str, ...], settings: Settings) -> None:
    """Evidence first, alias last: whoever loads in between finds the state before, complete."""
    registry = Registry(settings)
    name, version, stage = statement.model, statement.version, Stage(statement.stage)
    previous = registry.version_at(name, stage=stage)
    registry.save_envelope(name, version=version, stage=stage, envelope=envelope, pending=False)
    tags = {f"nbkit.gate.{r.gate.replace(':', '.')}": f"{r.verdict.value}: {r.reason}" for r in statement.gates}
    tags |= {"nbkit.stage": stage.value, "nbkit.signed_by": ", ".join(owners)}
    registry.set_version_tags(name, version=version, tags=tags)
    registry.set_alias(name, stage=stage, version=version)
    registry.set_run_tags(statement.run_id, {"nbkit.stage": stage.value})
    if stage is Stage.PRODUCTION and previous is not None and previous != version:
        registry.set_version_tags(name, version=previous, tags={"nbkit.stage": Stage.ARCHIVED.value})
        registry.set_alias(name, stage=Stage.ARCHIVED, version=previous)


def rollback(name: str, *, reason: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Return production to the last version before the current one whose evidence still holds.

    Raises
    ------
    RefusedError
        No earlier version's evidence holds, or no reason is given.
    """
    if not reason.strip():
        raise RefusedError(f"{name}: a rollback needs a reason", next_step=f'nbkit rollback {name} --reason "..."')
    registry = Registry(settings)
    stage = Stage.PRODUCTION
    current = registry.version_at(name, stage=stage)
    signer = signing_key(settings, key=key)
    operator = trusted(signer.key_id, role=Role.OPERATOR, settings=settings, now=now).owner
    held, failed = [], []
    for record in registry.versions(name):
        if record.version == current or registry.envelope(name, version=record.version, stage=stage) is None:
            continue
        try:
            held.append(verify_version(name, version=record.version, stage=stage, settings=settings, now=now))
        except (EvidenceError, TamperedPackageError) as error:
            failed.append(f"version {record.version}: {error}")
    if not held:
        raise RefusedError(
            f"{name}: no earlier version in production whose evidence holds",
            problems=failed,
            next_step=f"nbkit gate {name}@VERSION --to production",
        )
    last = max(held, key=lambda verified: verified.statement.epoch)
    basis = last.envelope.as_mapping() if last.statement.basis is None else last.statement.basis
    statement = statement_about(
        last.package, version=last.version, stage=stage, action=Action.ROLLBACK,
        epoch=_next_epoch(name, stage=stage, settings=settings), now=now, documents=last.statement.documents,
        gates=last.statement.gates, submitter=Submitter(key_id=signer.key_id, owner=operator),
        run_id=last.statement.run_id, basis=basis, reason=reason.strip(),
    )  # fmt: skip
    _move(Envelope.of(statement).sign(signer), statement=statement, owners=(operator,), settings=settings)
    registry.set_version_tags(name, version=last.version, tags={"nbkit.rollback_reason": reason.strip()})
    return Promoted(
        name=name,
        version=last.version,
        stage=stage,
        epoch=statement.epoch,
        approvers=(operator,),
        version_link=registry.version_link(name, last.version),
        rolled_back_from=current,
    )
