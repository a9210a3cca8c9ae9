"""Govern: register, gate, approve, promote, roll back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import rfc8785

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, TamperedPackageError, UsageError
from nbkit.gates import run_gates
from nbkit.lifecycle._champion import fetch, verified_champion, verify_version
from nbkit.lifecycle._usecase import Build, UseCase, write_atomically
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import Package, load_package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Envelope, Registry, SigningKey, Statement, TrustStore, load_key, verify_evidence
from nbkit.settings import Settings

# What a submission signs besides the package: the documents that gates and reviewers rely on.
_DOCUMENTS = ("evaluation.json", "rationale.json", "facts.json")


def _digest(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(Result):
    """A new version in the registry."""

    name: str
    version: int
    run_id: str
    package_digest: str
    submitter: str
    run_link: str
    version_link: str

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}@{self.version}: registered as candidate",
            facts=[
                ("submitted by", self.submitter),
                ("package", self.package_digest),
                ("run", self.run_link),
                ("version", self.version_link),
            ],
            next_step=f"nbkit gate {self.name}@{self.version} --to staging",
        )


def register(use_case: UseCase, *, settings: Settings, now: datetime, run_id: str = "", key: str = "") -> Registered:
    """Register the latest package with its evaluation and rationale as a new version, and sign the submission.

    Raises
    ------
    RefusedError
        The package is not evaluated or not explained, or these belong to another package.
    UsageError
        There is no package, or no key to sign with.
    """
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    name = use_case.contract.name
    if not (build.package / "manifest.json").exists():
        raise UsageError(f"{name}: run {build.run_id} has no package yet", next_step="%nbkit package model")
    package = load_package(build.package)
    signer = signing_key(settings, key=key)
    owner = TrustStore.load(settings.trust_file).require(signer.key_id, role="submitter", now=now).owner
    documents = _documents(build, package)
    registry = Registry(settings)
    for document in _DOCUMENTS:
        registry.log_file(build.run_id, build.directory / document)
    rationale = (build.directory / "rationale.md").read_text(encoding="utf-8")
    contract = package.contract
    version = registry.register(
        package,
        run_id=build.run_id,
        description=rationale,
        tags={
            "nbkit.owner": contract.owner.primary,
            "nbkit.submitter": owner,
            "nbkit.package": package.digest,
            "nbkit.contract": contract.digest,
            "nbkit.case_set": contract.evaluate.case_set or "none",
            "nbkit.stage": Stage.CANDIDATE.value,
        },
    )
    statement = _statement(
        package, version=version, stage=Stage.CANDIDATE, action="submit", epoch=version, now=now,
        documents=documents, gates=(), submitter=(signer.key_id, owner), run_id=build.run_id,
    )  # fmt: skip
    envelope = Envelope.of(statement).sign(signer)
    registry.save_envelope(name, version=version, stage=Stage.CANDIDATE, envelope=envelope, pending=False)
    registry.set_alias(name, stage=Stage.CANDIDATE, version=version)
    registry.set_run_tags(build.run_id, {"nbkit.version": str(version), "nbkit.stage": Stage.CANDIDATE.value})
    return Registered(
        name=name,
        version=version,
        run_id=build.run_id,
        package_digest=package.digest,
        submitter=owner,
        run_link=registry.run_link(build.run_id),
        version_link=registry.version_link(name, version),
    )


def _documents(build: Build, package: Package) -> dict[str, str]:
    evaluation, rationale = build.read_json("evaluation.json"), build.read_json("rationale.json")
    name = package.contract.name
    if not evaluation:
        raise RefusedError(f"{name}: not evaluated", next_step=f"nbkit evaluate {name}")
    if not rationale:
        raise RefusedError(f"{name}: no rationale document", next_step=f"nbkit explain {name}")
    for document, verb in ((evaluation, "evaluate"), (rationale, "explain")):
        if document.get("package_digest") != package.digest:
            raise RefusedError(
                f"{name}: {verb} was run on package {document.get('package_digest')}, not on {package.digest}",
                next_step=f"nbkit {verb} {name}",
            )
    recorded = evaluation.get("facts")
    facts = dict(recorded) if isinstance(recorded, dict) else {}
    facts["rationale"] = {"written": True, "missing": rationale.get("missing"), "stale": rationale.get("stale")}
    write_atomically(build.directory / "facts.json", rfc8785.dumps(json.loads(json.dumps(facts))))
    return {document: _digest((build.directory / document).read_bytes()) for document in _DOCUMENTS}


def _statement(
    package: Package,
    *,
    version: int,
    stage: Stage,
    action: str,
    epoch: int,
    now: datetime,
    documents: Mapping[str, str],
    gates: tuple[GateResult, ...],
    submitter: tuple[str, str],
    run_id: str,
) -> Statement:
    contract = package.contract
    return Statement(
        model=contract.name,
        version=version,
        stage=stage.value,
        action=action,
        epoch=epoch,
        issued_at=now,
        expires_at=now + timedelta(days=contract.rollout.evidence_valid_days),
        package_digest=package.digest,
        contract_digest=contract.digest,
        case_set_digest=(contract.evaluate.case_set or "@none").split("@")[1],
        documents=dict(documents),
        gates=gates,
        impact=contract.impact,
        approvals_needed=contract.approvals_needed,
        submitter_key_id=submitter[0],
        submitter_owner=submitter[1],
        run_id=run_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable(Result):
    """What stands between a version and a stage."""

    name: str
    version: int
    stage: Stage
    results: tuple[GateResult, ...]
    package_digest: str
    run_id: str

    @property
    def succeeded(self) -> bool:
        """Whether every gate passed."""
        return bool(self.results) and all(result.passed for result in self.results)

    def view(self) -> View:
        """Return what a person is shown."""
        failed = [result for result in self.results if not result.passed]
        target = f"{self.name}@{self.version}"
        if self.succeeded:
            headline = f"{target} -> {self.stage}: all {len(self.results)} gates pass"
            follow = f"nbkit approve {target} --to {self.stage} --key NAME"
        else:
            headline = f"{target} -> {self.stage}: {len(failed)} of {len(self.results)} gates do not pass"
            follow = failed[0].next_step if failed else "add gates to the contract"
        rows = tuple((r.gate, r.verdict.value, r.reason + (f" [{r.next_step}]" if r.next_step else "")) for r in self.results)
        return View(
            headline=headline, tables=[Table(columns=("gate", "verdict", "why"), rows=rows)], next_step=follow
        )


def resolve(target: str, *, settings: Settings) -> tuple[str, int]:
    """Turn ``NAME@VERSION`` or ``NAME`` (the candidate) into name and version.

    Raises
    ------
    UsageError
        Not of that form.
    NotInRegistryError
        No such version.
    """
    name, _, version = target.partition("@")
    registry = Registry(settings)
    if version:
        if not (version.isascii() and version.isdigit()):
            raise UsageError(f"version: expected NAME@NUMBER, got {target!r}")
        return name, registry.version(name, version=int(version)).version
    candidate = registry.version_at(name, stage=Stage.CANDIDATE)
    if candidate is None:
        raise UsageError(f"{name}: no candidate is registered", next_step=f"nbkit run {name}")
    return name, candidate


def parse_stage(stage: str, *, package: Package) -> Stage:
    """Return the stage, if the contract's path leads there.

    Raises
    ------
    UsageError
        The contract's path does not have it.
    """
    path = package.contract.rollout.path
    if stage not in [step.value for step in path]:
        raise UsageError(f"stage: expected one of {', '.join(path)}, got {stage!r}")
    return Stage(stage)


def _submission(name: str, *, version: int, package: Package, settings: Settings, now: datetime) -> Statement:
    envelope = Registry(settings).envelope(name, version=version, stage=Stage.CANDIDATE)
    if envelope is None:
        raise EvidenceError(f"{name}@{version}: nobody signed its submission", next_step=f"nbkit register {name}")
    return verify_evidence(
        envelope,
        trust=TrustStore.load(settings.trust_file),
        now=now,
        model=name,
        version=version,
        stage=Stage.CANDIDATE,
        package_digest=package.digest,
        contract=package.contract,
    )


def _facts(statement: Statement, package: Package, *, scan: list[str], settings: Settings) -> dict[str, object]:
    """Collect what the gates read: recorded facts as signed, and what can be seen now."""
    raw = Registry(settings).read_artifact(statement.run_id, "facts.json")
    facts: dict[str, object] = {}
    if _digest(raw) == statement.documents.get("facts.json"):
        facts = json.loads(raw)
    else:
        scan = [*scan, "facts.json is not the file that was submitted"]
    for document in ("evaluation.json", "rationale.json"):
        if _digest(Registry(settings).read_artifact(statement.run_id, document)) != statement.documents.get(document):
            scan = [*scan, f"{document} is not the file that was submitted"]
    manifest, contract = package.manifest, package.contract
    parity = manifest.get("parity")
    case_set = facts.get("case_set")
    return {
        **facts,
        "parity": {
            **(parity if isinstance(parity, dict) else {}),
            "compiled": package.compiled,
            "reason": manifest.get("not_compiled_because") or "",
        },
        "case_set": {
            **(case_set if isinstance(case_set, dict) else {}),
            "pinned": (contract.evaluate.case_set or "@").split("@")[1],
        },
        "owner": contract.owner.model_dump(),
        "scan": {"problems": scan},
    }


def gate(target: str, *, to: str, settings: Settings, now: datetime) -> GateTable:
    """Show every gate between a version and a stage, and what to do about each that does not pass.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    to : str
        The stage.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.

    Returns
    -------
    GateTable
        Never raises for a gate that fails.

    Raises
    ------
    UsageError, NotInRegistryError
        There is no such version or stage.
    """
    name, version = resolve(target, settings=settings)
    try:
        package, _folder = fetch(name, version=version, settings=settings)
    except TamperedPackageError as error:
        failed = GateResult(
            gate="scan",
            verdict=Verdict.FAIL,
            reason=str(error),
            next_step=f"register it again: nbkit run {name}",
        )
        return GateTable(
            name=name, version=version, stage=Stage(to), results=(failed,), package_digest="", run_id=""
        )
    stage = parse_stage(to, package=package)
    try:
        submission = _submission(name, version=version, package=package, settings=settings, now=now)
    except EvidenceError as error:
        failed = GateResult(
            gate="submission", verdict=Verdict.FAIL, reason=str(error), next_step=f"nbkit register {name}"
        )
        return GateTable(
            name=name, version=version, stage=stage, results=(failed,), package_digest=package.digest, run_id=""
        )
    facts = _facts(submission, package, scan=[], settings=settings)
    results = list(run_gates(package.contract.gates[stage], facts=facts))
    results += _standing(name, version=version, stage=stage, package=package, facts=facts, settings=settings, now=now)
    return GateTable(
        name=name,
        version=version,
        stage=stage,
        results=tuple(results),
        package_digest=package.digest,
        run_id=submission.run_id,
    )


def _standing(
    name: str,
    *,
    version: int,
    stage: Stage,
    package: Package,
    facts: Mapping[str, object],
    settings: Settings,
    now: datetime,
) -> list[GateResult]:
    """Gates that no contract can leave out: the stage before, and the champion it was compared with."""
    results = []
    path = list(package.contract.rollout.path)
    before = path[path.index(stage) - 1] if path.index(stage) else None
    if before is not None:
        try:
            verify_version(name, version=version, stage=before, settings=settings, now=now)
            results.append(GateResult(gate="path", verdict=Verdict.PASS, reason=f"evidence for {before} holds"))
        except EvidenceError as error:
            step = f"nbkit promote {name}@{version} --to {before}"
            results.append(GateResult(gate="path", verdict=Verdict.FAIL, reason=str(error), next_step=step))
    champion = verified_champion(name, settings=settings, now=now)
    compared = facts.get("champion")
    compared_version = compared.get("version") if isinstance(compared, dict) else None
    current = champion.version if champion and champion.version != version else None
    if current is not None and compared_version != current:
        reason = f"compared with version {compared_version or 'none'}, but production is version {current}"
        results.append(
            GateResult(gate="champion", verdict=Verdict.CANNOT_TELL, reason=reason, next_step=f"nbkit run {name}")
        )
    return results


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
            epochs.append(envelope.statement().epoch)
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
    name, version, stage = table.name, table.version, table.stage
    package, _folder = fetch(name, version=version, settings=settings)
    submission = _submission(name, version=version, package=package, settings=settings, now=now)
    signer = signing_key(settings, key=key)
    trust = TrustStore.load(settings.trust_file)
    approver = trust.require(signer.key_id, role="approver", now=now).owner
    if approver == submission.submitter_owner or signer.key_id == submission.submitter_key_id:
        raise RefusedError(
            f"{name}@{version}: {approver} submitted it and cannot approve it",
            next_step=f"ask another approver: nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    registry = Registry(settings)
    envelope = _pending(name, version=version, stage=stage, table=table, settings=settings)
    if envelope is None:
        statement = _statement(
            package, version=version, stage=stage, action="promote",
            epoch=_next_epoch(name, stage=stage, settings=settings), now=now,
            documents=submission.documents, gates=table.results,
            submitter=(submission.submitter_key_id, submission.submitter_owner), run_id=submission.run_id,
        )  # fmt: skip
        envelope = Envelope.of(statement)
    owners = {trust.require(signature.keyid, role="approver", now=now).owner for signature in envelope.signatures}
    if approver in owners:
        raise RefusedError(f"{name}@{version}: {approver} has approved already", next_step="ask another approver")
    envelope = envelope.sign(signer)
    registry.save_envelope(name, version=version, stage=stage, envelope=envelope, pending=True)
    return Approved(
        name=name,
        version=version,
        stage=stage,
        approver=approver,
        approvals=len(owners) + 1,
        approvals_needed=package.contract.approvals_needed,
    )


def _pending(name: str, *, version: int, stage: Stage, table: GateTable, settings: Settings) -> Envelope | None:
    """Return the payload that is being signed, unless what it says is no longer so."""
    envelope = Registry(settings).envelope(name, version=version, stage=stage, pending=True)
    if envelope is None:
        return None
    statement = envelope.statement()
    current = statement.gates == table.results and statement.package_digest == table.package_digest
    return envelope if current and statement.epoch == _next_epoch(name, stage=stage, settings=settings) else None


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
        path = f"nbkit serve {self.name}" if self.stage is Stage.PRODUCTION else f"nbkit gate {self.name}@{self.version} --to production"
        return View(
            headline=f"{self.name}@{self.version}: {verb}, now {self.stage}",
            facts=[
                ("signed by", ", ".join(self.approvers)),
                ("epoch", str(self.epoch)),
                ("version", self.version_link),
            ],
            next_step=path,
        )


def promote(target: str, *, to: str, settings: Settings, now: datetime) -> Promoted:
    """Move a version to a stage: gates pass, enough people approved, and the evidence says so.

    Raises
    ------
    RefusedError
        A gate does not pass, approvals are missing or were given for something else.
    EvidenceError
        The evidence would not be accepted by the one who loads it.
    """
    table = gate(target, to=to, settings=settings, now=now)
    _require_gates(table)
    name, version, stage = table.name, table.version, table.stage
    package, _folder = fetch(name, version=version, settings=settings)
    envelope = _pending(name, version=version, stage=stage, table=table, settings=settings)
    if envelope is None:
        raise RefusedError(
            f"{name}@{version} -> {stage}: nobody has approved what the gates say now",
            next_step=f"nbkit approve {name}@{version} --to {stage} --key NAME",
        )
    trust = TrustStore.load(settings.trust_file)
    try:
        statement = verify_evidence(
            envelope, trust=trust, now=now, model=name, version=version, stage=stage,
            package_digest=package.digest, contract=package.contract,
        )  # fmt: skip
    except EvidenceError as error:
        raise RefusedError(
            f"{name}@{version} -> {stage}",
            problems=error.problems or (error.message,),
            next_step=f"nbkit approve {name}@{version} --to {stage} --key NAME",
        ) from error
    owners = tuple(trust.require(s.keyid, role="approver", now=now).owner for s in envelope.signatures)
    _move(name, version=version, stage=stage, envelope=envelope, statement=statement, owners=owners, settings=settings)
    return Promoted(
        name=name,
        version=version,
        stage=stage,
        epoch=statement.epoch,
        approvers=owners,
        version_link=Registry(settings).version_link(name, version),
    )


def _move(
    name: str,
    *,
    version: int,
    stage: Stage,
    envelope: Envelope,
    statement: Statement,
    owners: tuple[str, ...],
    settings: Settings,
) -> None:
    """Evidence first, alias last: whoever loads in between finds the state before, complete."""
    registry = Registry(settings)
    previous = registry.version_at(name, stage=stage)
    registry.save_envelope(name, version=version, stage=stage, envelope=envelope, pending=False)
    tags = {f"nbkit.gate.{r.gate.replace(':', '.')}": f"{r.verdict.value}: {r.reason}"[:5000] for r in statement.gates}
    tags |= {"nbkit.stage": stage.value, "nbkit.approvers": ", ".join(owners)}
    registry.set_version_tags(name, version=version, tags=tags)
    registry.set_alias(name, stage=stage, version=version)
    registry.set_run_tags(statement.run_id, {"nbkit.stage": stage.value})
    if stage is Stage.PRODUCTION and previous not in (None, version):
        assert previous is not None  # noqa: S101  for mypy
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
    operator = TrustStore.load(settings.trust_file).require(signer.key_id, role="operator", now=now).owner
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
    epoch = _next_epoch(name, stage=stage, settings=settings)
    statement = last.statement.rolled_back(reason=reason, epoch=epoch, now=now, basis=last.envelope)
    envelope = Envelope.of(statement).sign(signer)
    _move(
        name, version=last.version, stage=stage, envelope=envelope, statement=statement, owners=(operator,),
        settings=settings,
    )  # fmt: skip
    return Promoted(
        name=name,
        version=last.version,
        stage=stage,
        epoch=epoch,
        approvers=(operator,),
        version_link=registry.version_link(name, last.version),
        rolled_back_from=current,
    )


