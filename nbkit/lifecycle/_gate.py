"""Gates: what stands between a version and a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, TamperedPackageError, UsageError
from nbkit.gates import run_gates
from nbkit.lifecycle._champion import Verified, fetch, verified_champion
from nbkit.lifecycle._evidence import submission_of
from nbkit.lifecycle._facts import collect_facts
from nbkit.lifecycle._pages import notebook_signed
from nbkit.lifecycle._refusals import refusal_gates
from nbkit.lifecycle._standing import standing_gates
from nbkit.lifecycle._view import Result, Table, View
from nbkit.lifecycle._waive import with_waivers
from nbkit.package import Package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Registry
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
    contract_digest: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)
    submitter: str = ""
    waivers: tuple[Mapping[str, object], ...] = ()
    package: Package | None = field(default=None, repr=False)
    production: Verified | None = field(default=None, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether every gate passed, or is waived."""
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
            waived = sum(result.verdict is Verdict.WAIVED for result in self.results)
            headline = f"{target} -> {self.stage}: all {len(self.results)} gates pass"
            headline += f", {waived} of them by a waiver" if waived else ""
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


def judge_gates(target: str, *, to: str, settings: Settings, now: datetime) -> GateTable:
    """Judge every gate between a version and a stage, without touching the version's page (see `gate`).

    Raises
    ------
    UsageError, NotInRegistryError
        There is no such version or stage.
    """
    name, version = resolve(target, settings=settings)
    try:
        package = fetch(name, version=version, settings=settings)
    except TamperedPackageError as error:
        failed = _failed("scan", error, next_step=f"register it again: nbkit run {name}")
        return GateTable(name=name, version=version, stage=to, results=(failed,), package_digest="", run_id="")
    stage = parse_stage(to, package=package)
    production = verified_champion(name, settings=settings, now=now, fetched={version: package})
    try:
        submission = submission_of(name, version=version, package=package, settings=settings, now=now)
    except EvidenceError as error:
        failed = _failed("submission", error, next_step=f"nbkit register {name}")
        return GateTable(
            name=name, version=version, stage=stage, results=(failed,), package_digest=package.digest, run_id="",
            package=package, production=production,
        )  # fmt: skip
    champion = production.version if production and production.version != version else None
    facts = collect_facts(submission, package, stage=stage, champion=champion, settings=settings, now=now)
    results = [*run_gates(package.contract.gates[stage], facts=facts)]
    results += standing_gates(
        name, version=version, stage=stage, package=package, facts=facts, champion=champion, settings=settings, now=now
    )
    judged, waivers = with_waivers(results, submission=submission, stage=stage, settings=settings, now=now)
    judged += refusal_gates(name, version=version, stage=stage, package=package, settings=settings, now=now)
    return GateTable(
        name=name,
        version=version,
        stage=stage,
        results=judged,
        package_digest=package.digest,
        run_id=submission.run_id,
        contract_digest=package.contract.digest,
        documents={**submission.documents, **notebook_signed(submission, Registry(settings))},
        submitter=submission.submitter.owner,
        waivers=waivers,
        package=package,
        production=production,
    )


def _failed(gate: str, error: Exception, *, next_step: str) -> GateResult:
    return GateResult(gate=gate, verdict=Verdict.FAIL, reason=str(error), next_step=next_step)


def known_targets(settings: Settings) -> list[str]:
    """Return every model and every ``NAME@VERSION``, for completion."""
    registry = Registry(settings)
    found = []
    for name in registry.names():
        found.append(name)
        found += [f"{name}@{record.version}" for record in registry.versions(name)]
    return found
