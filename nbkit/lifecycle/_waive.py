"""Let a version move although a gate does not pass: signed, with a reason, for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, UsageError
from nbkit.lifecycle._evidence import signing_key, trusted
from nbkit.lifecycle._view import Result, View
from nbkit.records import GateResult, Verdict, may_be_waived
from nbkit.registry import (
    Certificate,
    CertificateKind,
    Envelope,
    Registry,
    Role,
    Statement,
    Submitter,
    TrustStore,
    owner_identity,
    verify_certificate,
)
from nbkit.settings import Settings

# A waiver is for the time until a cause is mended, not for the life of a version.
LONGEST_WAIVER_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Waived(Result):
    """One gate's result that may stand for a while."""

    name: str
    version: int
    stage: str
    gate: str
    verdict: str
    found: str
    by: str
    reason: str
    expires_at: datetime

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        return View(
            headline=f"{target} -> {self.stage}: {self.gate} is waived until {self.expires_at.date()}",
            facts=[("waived by", self.by), ("why", self.reason), ("what it said", f"{self.verdict}: {self.found}")],
            next_step=f"nbkit gate {target} --to {self.stage}",
        )


def waive(
    target: str, *, gate_name: str, to: str, reason: str, days: int, settings: Settings, now: datetime, key: str = ""
) -> Waived:
    """Sign that one gate's result may stand, for this version, this stage and this verdict only.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    gate_name : str
        As the table of gates calls it, such as ``at_least:auc``.
    to : str
        The stage.
    reason : str
        Why; kept in the evidence.
    days : int
        How long; the evidence of the move expires with it.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.
    key : str
        Name of an approver's key; its owner is not the submitter.

    Returns
    -------
    Waived
        What was signed.

    Raises
    ------
    UsageError
        No such gate, it passes, no reason, or too long a time.
    RefusedError
        The gate is never waived, or the submitter asks.
    EvidenceError
        The key is not trusted as an approver's.
    """
    from nbkit.lifecycle._gate import judge_gates

    if not reason.strip():
        raise UsageError("waive: a waiver needs a reason", next_step=f'nbkit waive {target} --reason "..."')
    if not 1 <= days <= LONGEST_WAIVER_DAYS:
        raise UsageError(f"waive: expected 1 to {LONGEST_WAIVER_DAYS} days, got {days}")
    signer = signing_key(settings, key=key)
    owner = trusted(signer.key_id, role=Role.APPROVER, settings=settings, now=now).owner
    table = judge_gates(target, to=to, settings=settings, now=now)
    result = next((each for each in table.results if each.gate == gate_name and not each.passed), None)
    if result is None:
        open_gates = ", ".join(each.gate for each in table.results if not each.passed) or "none"
        raise UsageError(f"waive: {gate_name!r} does not stand in the way; these do: {open_gates}")
    if not may_be_waived(result.gate, verdict=result.verdict):
        raise RefusedError(
            f"{target}: {result.gate} is never waived when it says {result.verdict.value!r}", next_step=result.next_step
        )
    if table.submitter and owner_identity(owner) == owner_identity(table.submitter):
        raise RefusedError(f"{target}: {owner} submitted it and cannot waive its gates")
    certificate = Certificate(
        kind=CertificateKind.WAIVER, model=table.name, version=table.version, package_digest=table.package_digest,
        contract_digest=table.contract_digest, issued_at=now, expires_at=now + timedelta(days=days),
        signer=Submitter(key_id=signer.key_id, owner=owner), reason=reason.strip(),
        says={"gate": result.gate, "stage": str(table.stage), "verdict": result.verdict.value, "found": result.reason},
    )  # fmt: skip
    Registry(settings).save_certificate(
        table.name,
        version=table.version,
        label=_label(Stage(table.stage), result.gate),
        envelope=Envelope.of(certificate).sign(signer),
    )
    return Waived(
        name=table.name, version=table.version, stage=str(table.stage), gate=result.gate,
        verdict=result.verdict.value, found=result.reason, by=owner, reason=reason.strip(),
        expires_at=certificate.expires_at,
    )  # fmt: skip


def with_waivers(
    results: Sequence[GateResult], *, submission: Statement, stage: Stage, settings: Settings, now: datetime
) -> tuple[tuple[GateResult, ...], tuple[Mapping[str, object], ...]]:
    """Return the results with those that are waived marked so, and the envelopes of their waivers."""
    judged, waivers = [], []
    for result in results:
        if not result.passed and may_be_waived(result.gate, verdict=result.verdict):
            result, envelope = _waived(result, submission=submission, stage=stage, settings=settings, now=now)
            waivers += [envelope.as_mapping()] if envelope else []
        judged.append(result)
    return tuple(judged), tuple(waivers)


def _waived(
    result: GateResult, *, submission: Statement, stage: Stage, settings: Settings, now: datetime
) -> tuple[GateResult, Envelope | None]:
    try:
        envelope = Registry(settings).certificate(
            submission.model, version=submission.version, label=_label(stage, result.gate)
        )
        if envelope is None:
            return result, None
        waiver = verify_certificate(
            envelope, trust=TrustStore.load(settings.trust_file), now=now, kind=CertificateKind.WAIVER,
            model=submission.model, version=submission.version, package_digest=submission.package_digest,
            contract_digest=submission.contract_digest,
        )  # fmt: skip
    except EvidenceError as error:
        return replace(result, reason=f"{result.reason}; its waiver does not hold: {error}"), None
    said = {"gate": result.gate, "stage": stage.value, "verdict": result.verdict.value}
    about = {key: waiver.says.get(key) for key in said}
    if about != said:
        words = f"{about['verdict']} of {about['gate']} for {about['stage']}"
        return replace(result, reason=f"{result.reason}; its waiver was for {words}"), None
    if owner_identity(waiver.signer.owner) == owner_identity(submission.submitter.owner):
        return replace(result, reason=f"{result.reason}; its waiver is by the submitter"), None
    who = f"waived by {waiver.signer.owner} until {waiver.expires_at.date()}: {waiver.reason}"
    reason = f"{who} ({result.verdict.value}: {result.reason})"
    return GateResult(gate=result.gate, verdict=Verdict.WAIVED, reason=reason), envelope


def _label(stage: Stage, gate: str) -> str:
    return f"waiver.{stage.value}.{gate}"
