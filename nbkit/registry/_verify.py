"""Whoever loads verifies: a version counts only with evidence that this module accepts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from nbkit.errors import EvidenceError
from nbkit.records import Verdict, may_be_waived
from nbkit.registry._certificate import Certificate, CertificateKind
from nbkit.registry._envelope import Envelope
from nbkit.registry._statement import Action, Statement
from nbkit.registry._trust import Role, TrustedKey, TrustStore, owner_identity
from nbkit.registry._verify_certificate import CLOCK_SKEW, fitting_keys, verify_certificate

if TYPE_CHECKING:
    from nbkit.contract import Contract

# What a version is called between its registration and its first promotion.
_SUBMITTED_AS = "candidate"


def verify_evidence(
    envelope: Envelope,
    *,
    trust: TrustStore,
    now: datetime,
    model: str,
    version: int,
    stage: str,
    package_digest: str,
    contract: Contract,
    minimum_epoch: int = 0,
) -> Statement:
    """Accept a version for a stage, or say everything that speaks against it.

    Parameters
    ----------
    envelope : Envelope
        As read from the registry: not trusted for anything before its signatures are checked.
    trust : TrustStore
        The verifier's own configuration.
    now : datetime
        Aware.
    model, version, stage : str, int, str
        What is about to be loaded, and as what.
    package_digest : str
        Of the package on disk, computed by the caller from its bytes.
    contract : Contract
        From that package.
    minimum_epoch : int
        Epoch of what is installed now: older statements cannot be replayed.

    Returns
    -------
    Statement
        What was signed; true from here on.

    Raises
    ------
    EvidenceError
        Naming every reason for the refusal.

    Notes
    -----
    A promotion needs the submitter's signature and those of enough approvers: distinct owners, none of them the
    submitter's. A rollback needs an operator's signature, and the promotion it goes back to must itself still hold.
    """
    if now.utcoffset() is None:
        raise EvidenceError(f"now: expected an aware time, got {now.isoformat()}")
    stage = str(stage)  # a member of Stage is as good as its value
    check = _Check(trust=trust, now=now, contract=contract)
    statement = check.read(envelope)
    check.identity(statement, model=model, version=version, stage=stage, package_digest=package_digest)
    if statement.epoch < minimum_epoch:
        check.problems.append(f"epoch: expected at least {minimum_epoch}, got {statement.epoch}; an old statement")
    if statement.action is Action.ROLLBACK:
        check.rollback(statement)
    else:
        check.promotion(statement)
    if check.problems:
        raise EvidenceError(
            f"evidence of {model} version {version} for {stage}",
            problems=(*check.problems, *check.notes),
            next_step=f"nbkit gate {model}@{version} --to {stage}",
        )
    return statement


def verify_submission(
    envelope: Envelope,
    *,
    trust: TrustStore,
    now: datetime,
    model: str,
    version: int,
    package_digest: str,
    contract: Contract,
) -> Statement:
    """Accept who submitted a version, and with which documents; it lets nothing be served.

    Parameters
    ----------
    envelope : Envelope
        As read from the registry.
    trust : TrustStore
        The verifier's own configuration.
    now : datetime
        Aware.
    model, version : str, int
        What was submitted.
    package_digest : str
        Of the package on disk, computed by the caller from its bytes.
    contract : Contract
        From that package.

    Returns
    -------
    Statement
        What was signed; true from here on.

    Raises
    ------
    EvidenceError
        Naming every reason for the refusal.
    """
    check = _Check(trust=trust, now=now, contract=contract)
    statement = check.read(envelope)
    check.identity(statement, model=model, version=version, stage=_SUBMITTED_AS, package_digest=package_digest)
    if statement.action is not Action.SUBMIT:
        check.problems.append(f"action: expected submit, got {statement.action}")
    check.submitter(statement, role=Role.SUBMITTER)
    if check.problems:
        raise EvidenceError(
            f"submission of {model}@{version}",
            problems=(*check.problems, *check.notes),
            next_step=f"nbkit register {model}",
        )
    return statement


class _Check:
    """Collects every reason; an empty list of problems is the only way to pass."""

    def __init__(self, *, trust: TrustStore, now: datetime, contract: Contract) -> None:
        self.trust = trust
        self.now = now
        self.contract = contract
        self.problems: list[str] = []
        # Why a signature does not count: a problem only where a counting one is missing.
        self.notes: list[str] = []
        self.signers: list[TrustedKey] = []

    def read(self, envelope: Envelope) -> Statement:
        """Check the signatures over the raw bytes; only then read what they say."""
        fitting, problems, notes = fitting_keys(envelope, trust=self.trust)
        self.problems += problems
        self.notes += notes
        if not fitting:
            nobody = ["no signature of a trusted key", *self.problems, *self.notes]
            raise EvidenceError("evidence", problems=nobody, next_step="nbkit gate NAME@VERSION --to STAGE")
        statement = envelope.unverified_statement()
        for key in fitting:
            problem = key.problem(signed_at=statement.issued_at, now=self.now)
            if problem:
                self.notes.append(problem)
            else:
                self.signers.append(key)
        return statement

    def identity(self, statement: Statement, *, model: str, version: int, stage: str, package_digest: str) -> None:
        """Ask whether the statement is about this version of this model in this stage, and of today."""
        contract = self.contract
        self._equal("model", statement.model, model)
        self._equal("contract's model", contract.name, model)
        self._equal("version", statement.version, version)
        self._equal("stage", statement.stage, stage)
        self._equal("package digest", statement.package_digest, package_digest)
        self._equal("contract digest", statement.contract_digest, contract.digest)
        self._equal("impact", statement.impact, contract.impact)
        if contract.evaluate.case_set is not None:
            self._equal("case set", statement.case_set_digest, contract.evaluate.case_set.rpartition("@")[2])
        # A submission asks for nothing yet; `promotion` refuses one that pretends to be more.
        if statement.action is not Action.SUBMIT and stage not in [str(step) for step in contract.rollout.path]:
            path = ", ".join(contract.rollout.path)
            self.problems.append(f"stage: expected one of rollout.path ({path}), got {stage!r}")
        if statement.issued_at > self.now + CLOCK_SKEW:
            self.problems.append(f"issued at {statement.issued_at.isoformat()}, which is in the future")
        if self.now >= statement.expires_at:
            self.problems.append(f"expired at {statement.expires_at.isoformat()}")
        longest = timedelta(days=contract.rollout.evidence_valid_days)
        if statement.expires_at - statement.issued_at > longest:
            self.problems.append(f"valid for longer than the contract's {contract.rollout.evidence_valid_days} days")

    def promotion(self, statement: Statement) -> None:
        """Ask whether every gate passed, the submitter asked, and enough others approved."""
        if statement.action is not Action.PROMOTE:
            self.problems.append(f"action: expected promote or rollback, got {statement.action}")
        self._gates(statement)
        self.submitter(statement, role=Role.SUBMITTER)
        own = {owner_identity(statement.submitter.owner)}
        submitter = self.trust.find(statement.submitter.key_id)
        if submitter is not None:
            own.add(owner_identity(submitter.owner))
        approvers = {owner_identity(key.owner) for key in self.signers if Role.APPROVER in key.roles}
        needed = max(statement.approvals_needed, self.contract.approvals_needed)
        if statement.approvals_needed < self.contract.approvals_needed:
            wanted = f"expected at least {self.contract.approvals_needed}, got {statement.approvals_needed}"
            self.problems.append(f"approvals_needed: {wanted}")
        if len(approvers - own) < needed:
            self.problems.append(f"approvals: expected {needed} of other people, got {len(approvers - own)}")
            if approvers & own:
                self.notes.append("the submitter's own approval does not count")

    def rollback(self, statement: Statement) -> None:
        """Ask whether an operator asked, and the promotion that is gone back to still holds."""
        self.submitter(statement, role=Role.OPERATOR)
        basis = _Check(trust=self.trust, now=self.now, contract=self.contract)
        try:
            promotion = basis.read(Envelope.from_mapping(statement.basis))
        except EvidenceError as error:
            self.problems.append(f"basis: {error}")
            return
        basis.identity(
            promotion,
            model=statement.model,
            version=statement.version,
            stage=statement.stage,
            package_digest=statement.package_digest,
        )
        basis.promotion(promotion)
        if promotion.epoch >= statement.epoch:
            basis.problems.append(f"epoch: expected below the rollback's {statement.epoch}, got {promotion.epoch}")
        if basis.problems:
            self.problems += [f"basis: {problem}" for problem in (*basis.problems, *basis.notes)]

    def _gates(self, statement: Statement) -> None:
        expected = [
            f"{spec.gate}:{spec.metric}" if spec.metric else spec.gate
            for stage, specs in self.contract.gates.items()
            if stage == statement.stage
            for spec in specs
        ]
        found = [result.gate for result in statement.gates]
        missing = sorted({gate for gate in expected if found.count(gate) < expected.count(gate)})
        self.problems += [f"gate {gate}: named by the contract, but there is no result" for gate in missing]
        self.problems += [f"gate {r.gate}: {r.verdict}: {r.reason}" for r in statement.gates if not r.passed]
        if not statement.gates:
            self.problems.append("gates: no results")
        waived = [result.gate for result in statement.gates if result.verdict is Verdict.WAIVED]
        if waived:
            held = self._waivers(statement)
            self.problems += [f"gate {gate}: waived, but no waiver for it holds" for gate in waived if gate not in held]

    def _waivers(self, statement: Statement) -> set[str]:
        """Return the gates for which a waiver lies in the statement that holds and may be given."""
        held = set()
        for content in statement.waivers:
            try:
                waiver = verify_certificate(
                    Envelope.from_mapping(content), trust=self.trust, now=self.now, kind=CertificateKind.WAIVER,
                    model=statement.model, version=statement.version,
                    package_digest=statement.package_digest, contract_digest=statement.contract_digest,
                )  # fmt: skip
            except EvidenceError as error:
                self.problems.append(f"waiver: {error}")
                continue
            problem = _waiver_problem(waiver, statement=statement)
            if problem:
                self.problems.append(f"waiver of {waiver.says.get('gate')}: {problem}")
            else:
                held.add(str(waiver.says["gate"]))
        return held

    def submitter(self, statement: Statement, *, role: Role) -> None:
        """Ask whether the one who is named as asking signed, in a role that may."""
        claimed = statement.submitter
        who = "operator" if role is Role.OPERATOR else "submitter"
        key = next((key for key in self.signers if key.key_id == claimed.key_id), None)
        if key is None:
            self.problems.append(f"{who}: expected a counting signature of {claimed.owner}, got none")
            return
        if role not in key.roles:
            self.problems.append(f"{who}: key {key.name!r} of {key.owner} may not sign as {role}")
        self._equal(f"{who}'s owner", claimed.owner, key.owner)

    def _equal(self, what: str, got: object, expected: object) -> None:
        # A bool is an int and "1" prints like 1: only the same type and value is the same.
        if type(got) is not type(expected) or got != expected:
            self.problems.append(f"{what}: expected {expected}, got {got}")


def _waiver_problem(waiver: Certificate, *, statement: Statement) -> str:
    gate, verdict = str(waiver.says.get("gate")), str(waiver.says.get("verdict"))
    if waiver.says.get("stage") != statement.stage:
        return f"is for {waiver.says.get('stage')}, not for {statement.stage}"
    if verdict not in set(Verdict) or not may_be_waived(gate, verdict=Verdict(verdict)):
        return f"{verdict!r} of this gate is never waived"
    if owner_identity(waiver.signer.owner) == owner_identity(statement.submitter.owner):
        return f"{waiver.signer.owner} submitted the version and cannot waive"
    if statement.expires_at > waiver.expires_at:
        return f"the evidence outlives it (it expires at {waiver.expires_at.isoformat()})"
    return ""
