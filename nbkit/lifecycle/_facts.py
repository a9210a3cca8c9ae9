"""What gates read about a version: recorded facts as they were signed, and what can be seen now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from nbkit.audit import trial_summary
from nbkit.contract import Contract, Stage
from nbkit.errors import EvidenceError, PackageError
from nbkit.lifecycle._documents import LOGGED_MODEL, digest_of, place_of
from nbkit.lifecycle._evidence import logged_model_digest
from nbkit.lifecycle._figures import changed_figures
from nbkit.lifecycle._ledger_place import ledger_begun, ledger_place
from nbkit.lifecycle._pages import changed_documents
from nbkit.package import Package
from nbkit.registry import CertificateKind, Registry, Statement, TrustStore, verify_certificate
from nbkit.settings import Settings

_PROFILE = "profile.json"
_FACTS = "facts.json"


def collect_facts(
    submission: Statement,
    package: Package,
    *,
    stage: Stage,
    champion: int | None,
    settings: Settings,
    now: datetime,
) -> dict[str, object]:
    """Collect what the gates read.

    Parameters
    ----------
    submission : Statement
        Verified.
    package : Package
        As fetched from MLflow.
    stage : Stage
        Where the version wants to go.
    champion : int, optional
        The other version that is in production, if one is.
    settings : Settings
        Where MLflow, trust file and ledgers are.
    now : datetime
        Aware.

    Returns
    -------
    dict
        Plain values under one key a topic; what is absent never passes a gate.
    """
    registry, contract = Registry(settings), package.contract
    changed = dict(changed_documents(submission, registry))
    figures = [problem for _, problem in changed_figures(submission, registry)]
    # What gates read must be what was signed: a changed file is no source of facts.
    recorded: dict[str, object] = {} if _FACTS in changed else _recorded(submission, registry)
    case_set = recorded.get("case_set")
    return {
        **recorded,
        "parity": _parity(package),
        "case_set": {
            **(case_set if isinstance(case_set, dict) else {}),
            "pinned": (contract.evaluate.case_set or "").rpartition("@")[2],
        },
        "owner": contract.owner.model_dump(),
        "scan": {"problems": _scan(submission, package, changed=[*changed.values(), *figures], settings=settings)},
        "monitoring": _monitoring(package),
        "limits": _limits(contract) | {"beside_champion": champion is not None},
        **_certificates(submission, settings=settings, now=now, listed=_listed(contract, stage)),
        **_trials(submission, settings=settings, listed=_listed(contract, stage)),
    }


def _recorded(submission: Statement, registry: Registry) -> dict[str, object]:
    raw = registry.read_artifact(submission.run_id, place_of(_FACTS, version=submission.version))
    # Read once more than it was compared: a file that changed in between is no source of facts either.
    facts: dict[str, object] = json.loads(raw) if digest_of(raw) == submission.documents[_FACTS] else {}
    return facts


def _listed(contract: Contract, stage: Stage) -> set[str]:
    return {spec.gate for spec in contract.gates[stage]}


def _parity(package: Package) -> dict[str, object]:
    parity = package.manifest.get("parity")
    return {
        **(parity if isinstance(parity, dict) else {}),
        "compiled": package.compiled,
        "reason": package.manifest.get("not_compiled_because") or "",
    }


def _scan(submission: Statement, package: Package, *, changed: list[str], settings: Settings) -> list[str]:
    """Say what is not as submitted, or not of a type that nbkit itself trusts; the package's files were checked."""
    problems = list(changed)
    found = logged_model_digest(submission.model, version=submission.version, settings=settings)
    if found != submission.documents.get(LOGGED_MODEL):
        problems.append("the files in MLflow are not those that were submitted")
    try:
        package.fitted()
    except PackageError as error:
        problems.append(str(error))
    return problems


def _monitoring(package: Package) -> dict[str, object]:
    contract = package.contract
    try:
        profile = json.loads(package.read(_PROFILE))
    except PackageError:
        profile = {}
    inputs = profile.get("inputs", {})
    missing = [column.name for column in contract.inputs if column.name not in inputs]
    return {
        "missing": missing + ([] if "score" in profile else ["the score"]),
        "inputs": len(inputs),
        "rows": profile.get("rows", 0),
        "alert": contract.monitor.alert,
        "label_delay_days": contract.target.label_delay_days,
    }


def _limits(contract: Contract) -> dict[str, object]:
    guardrails = contract.rollout.guardrails
    return guardrails.model_dump() | {
        "shadow_days": contract.rollout.shadow_days,
        "p99_ms_ceiling": guardrails.p99_ms_ceiling or float(contract.serve.deadline_ms),
    }


def _certificates(
    submission: Statement, *, settings: Settings, now: datetime, listed: set[str]
) -> Mapping[str, dict[str, object] | None]:
    return {
        kind.value: certified(submission, kind=kind, settings=settings, now=now)
        for kind in (CertificateKind.REPRODUCTION, CertificateKind.REHEARSAL)
        if kind.value in listed
    }


def certified(
    submission: Statement, *, kind: CertificateKind, settings: Settings, now: datetime
) -> dict[str, object] | None:
    """Return what a version's certificate says, or the problem with it; None where there is none."""
    empty: dict[str, object] = {"by": "", "expires_on": "", "problem": ""}
    try:
        envelope = Registry(settings).certificate(submission.model, version=submission.version, label=kind.value)
        if envelope is None:
            return None
        found = verify_certificate(
            envelope, trust=TrustStore.load(settings.trust_file), now=now, kind=kind, model=submission.model,
            version=submission.version, package_digest=submission.package_digest,
            contract_digest=submission.contract_digest,
        )  # fmt: skip
    except EvidenceError as error:
        return empty | {"problem": str(error)}
    said = {"by": found.signer.owner, "expires_on": found.expires_at.date().isoformat()}
    return empty | dict(found.says) | said


def _trials(submission: Statement, *, settings: Settings, listed: set[str]) -> dict[str, object]:
    """Sum up the ledger of this machine, from the moment at which the version entered the stage."""
    facts: dict[str, object] = {}
    for stage in (Stage.SHADOW, Stage.CANARY):
        if stage.value not in listed:
            continue
        name, version = submission.model, submission.version
        envelope = Registry(settings).envelope(name, version=version, stage=stage)
        ledger = ledger_place(name, settings=settings)
        if envelope is None or not ledger_begun(name, settings=settings):
            facts[stage.value] = None
            continue
        since = envelope.unverified_statement().issued_at
        facts[stage.value] = trial_summary([ledger], model=name, version=version, stage=stage.value, since=since)
    return facts
