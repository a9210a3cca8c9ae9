"""Collect approvals: signatures of several people under one payload."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

import rfc8785

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._evidence import signing_key, statement_about, submission_of, trusted
from nbkit.lifecycle._gate import GateTable, judge_gates
from nbkit.lifecycle._move import may_still_move, next_epoch
from nbkit.lifecycle._view import Result, View
from nbkit.package import Package
from nbkit.registry import Action, Envelope, Registry, Role, Statement, owner_identity
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
    table: GateTable = field(repr=False)

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


def require_gates(table: GateTable) -> None:
    """Return when every gate passes or is waived.

    Raises
    ------
    RefusedError
        Naming each that does not.
    """
    if table.succeeded:
        return
    problems = [f"{r.gate}: {r.verdict.value}: {r.reason}" for r in table.results if not r.passed]
    steps = [r.next_step for r in table.results if not r.passed and r.next_step]
    raise RefusedError(
        f"{table.name}@{table.version} -> {table.stage}",
        problems=problems or ["the contract lists no gate for this stage"],
        next_step=steps[0] if steps else f"nbkit gate {table.name}@{table.version} --to {table.stage}",
    )


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
    table = judge_gates(target, to=to, settings=settings, now=now)
    require_gates(table)
    name, version, stage = table.name, table.version, Stage(table.stage)
    package = table.package or fetch(name, version=version, settings=settings)
    submission = submission_of(name, version=version, package=package, settings=settings, now=now)
    signer = signing_key(settings, key=key)
    approver = trusted(signer.key_id, role=Role.APPROVER, settings=settings, now=now).owner
    another = f"ask another approver: nbkit approve {name}@{version} --to {stage} --key NAME"
    if owner_identity(approver) == owner_identity(submission.submitter.owner):
        raise RefusedError(f"{name}@{version}: {approver} submitted it and cannot approve it", next_step=another)
    envelope = being_approved(table, settings=settings, now=now)
    if envelope is None:
        envelope = _asked(table, package, submission=submission, settings=settings, now=now)
    if owner_identity(approver) in map(owner_identity, approvers_of(envelope, settings=settings, now=now)):
        raise RefusedError(f"{name}@{version}: {approver} has approved already", next_step=another)
    own = Envelope(payload=envelope.payload).sign(signer)
    Registry(settings).save_envelope(name, version=version, stage=stage, envelope=own, pending=True)
    # Read again: somebody else may have approved at the same moment.
    joined = being_approved(table, settings=settings, now=now) or envelope.joined(own)
    return Approved(
        name=name,
        version=version,
        stage=stage,
        approver=approver,
        approvals=len(approvers_of(joined, settings=settings, now=now)),
        approvals_needed=package.contract.approvals_needed,
        table=table,
    )


def approvers_of(envelope: Envelope, *, settings: Settings, now: datetime) -> tuple[str, ...]:
    """Return the owners of the approvers' keys under a payload that is not final."""
    submitter = envelope.unverified_statement().submitter.key_id
    signers = [signature.keyid for signature in envelope.signatures if signature.keyid != submitter]
    return tuple(trusted(key_id, role=Role.APPROVER, settings=settings, now=now).owner for key_id in signers)


def being_approved(table: GateTable, *, settings: Settings, now: datetime) -> Envelope | None:
    """Return the payload that is being signed with its signatures, unless what it says is no longer so."""
    found = Registry(settings).pending(table.name, version=table.version, stage=Stage(table.stage))
    return next((envelope for envelope in found if _says_what_holds(envelope, table, settings=settings, now=now)), None)


def _says_what_holds(envelope: Envelope, table: GateTable, *, settings: Settings, now: datetime) -> bool:
    statement = envelope.unverified_statement()
    same = (
        (statement.model, statement.version, statement.stage) == (table.name, table.version, str(table.stage))
        and statement.action is Action.PROMOTE
        and statement.gates == table.results
        and statement.package_digest == table.package_digest
        and dict(statement.documents) == dict(table.documents)
        and [dict(waiver) for waiver in statement.waivers] == [dict(waiver) for waiver in table.waivers]
        and now < statement.expires_at
    )
    return same and may_still_move(statement, settings=settings)


def _asked(table: GateTable, package: Package, *, submission: Statement, settings: Settings, now: datetime) -> Envelope:
    """Agree on the one payload that everybody signs: of two who begin at the same moment, the first one's."""
    registry, stage = Registry(settings), Stage(table.stage)
    epoch = next_epoch(table.name, stage=stage, settings=settings)
    statement = statement_about(
        package, version=table.version, stage=stage, action=Action.PROMOTE, epoch=epoch, now=now,
        documents=table.documents, gates=table.results, submitter=submission.submitter,
        run_id=submission.run_id, waivers=table.waivers,
    )  # fmt: skip
    own = Envelope.of(statement)
    registry.save_unsigned(table.name, version=table.version, stage=stage, envelope=own)
    # Whatever else is said about the version is another question; so is the same one on another day.
    question = statement.model_dump(mode="json", exclude={"issued_at", "expires_at"}) | {"day": now.date().isoformat()}
    key = f"asked.{stage.value}.{table.version}.{epoch}.{hashlib.sha256(rfc8785.dumps(question)).hexdigest()[:16]}"
    digest = registry.claim(table.name, key=key, value=own.digest)
    envelope = registry.envelope_file(table.name, version=table.version, stage=stage, digest=digest)
    if not _says_what_holds(envelope, table, settings=settings, now=now):
        raise EvidenceError(f"{table.name}@{table.version}: what is asked to be approved is not what the gates say")
    return Envelope(payload=envelope.payload)
