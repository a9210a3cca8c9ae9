"""Gates: what stands between a version and a stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nbkit.contract import GateSpec, Stage
from nbkit.errors import EvidenceError, TamperedPackageError, UsageError
from nbkit.gates import run_gates
from nbkit.lifecycle._champion import fetch, verified_champion, verify_version
from nbkit.lifecycle._evidence import (
    DOCUMENTS,
    LOGGED_MODEL,
    digest_of,
    logged_model_digest,
    submission_of,
    submitted_folder,
)
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import Package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Registry, Statement
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable(Result):
    """What stands between a version and a stage."""

    name: str
    version: int
    stage: str
    results: tuple[GateResult, ...]
    package_digest: str
    run_id: str

    @property
    def succeeded(self) -> bool:
        """Whether every gate passed."""
        return bool(self.results) and all(result.passed for result in self.results)

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Return gate, verdict and why, with what to do about it."""
        return tuple(
            (r.gate, r.verdict.value, f"{r.reason} [{r.next_step}]" if r.next_step else r.reason) for r in self.results
        )

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
        return View(
            headline=headline, tables=[Table(columns=("gate", "verdict", "why"), rows=self.rows())], next_step=follow
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


def _facts(statement: Statement, package: Package, *, settings: Settings) -> dict[str, object]:
    """Collect what the gates read: recorded facts as signed, and what can be seen now."""
    registry = Registry(settings)
    folder = submitted_folder(statement.version)
    documents = {name: registry.read_artifact(statement.run_id, f"{folder}/{name}") for name in DOCUMENTS}
    changed = [name for name, raw in documents.items() if digest_of(raw) != statement.documents.get(name)]
    scan = [f"{name} is not the file that was submitted" for name in changed]
    # What gates read must be what was signed: a changed file is no source of facts.
    facts: dict[str, object] = {} if "facts.json" in changed else json.loads(documents["facts.json"])
    found = logged_model_digest(statement.model, version=statement.version, settings=settings)
    if found != statement.documents.get(LOGGED_MODEL):
        scan.append("the files in MLflow are not those that were submitted")
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
            "pinned": (contract.evaluate.case_set or "").rpartition("@")[2],
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
        package = fetch(name, version=version, settings=settings)
    except TamperedPackageError as error:
        failed = GateResult(
            gate="scan",
            verdict=Verdict.FAIL,
            reason=str(error),
            next_step=f"register it again: nbkit run {name}",
        )
        return GateTable(name=name, version=version, stage=to, results=(failed,), package_digest="", run_id="")
    stage = parse_stage(to, package=package)
    try:
        submission = submission_of(name, version=version, package=package, settings=settings, now=now)
    except EvidenceError as error:
        failed = GateResult(
            gate="submission", verdict=Verdict.FAIL, reason=str(error), next_step=f"nbkit register {name}"
        )
        return GateTable(
            name=name, version=version, stage=stage, results=(failed,), package_digest=package.digest, run_id=""
        )
    facts = _facts(submission, package, settings=settings)
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
    """Gates that no contract can leave out: unchanged files, the stage before, the champion it was compared with."""
    results: list[GateResult] = []
    if "scan" not in [spec.gate for spec in package.contract.gates[stage]]:
        results += run_gates([GateSpec(gate="scan")], facts=facts)
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


def known_targets(settings: Settings) -> list[str]:
    """Return every model and every ``NAME@VERSION``, for completion."""
    registry = Registry(settings)
    found = []
    for name in registry.names():
        found.append(name)
        found += [f"{name}@{record.version}" for record in registry.versions(name)]
    return found
