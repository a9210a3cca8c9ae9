"""Judge a package: its evaluation, and golden cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.contract import RowCheck
from nbkit.errors import CaseSetError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._champion import verified_champion
from nbkit.lifecycle._contenders import without_the_model
from nbkit.lifecycle._decisions import DecideAll, service_decisions
from nbkit.lifecycle._outputs import keep_evaluation
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._view import Progress, Result, Table, View, no_progress, number
from nbkit.package import Package, load_package
from nbkit.records import Decision
from nbkit.registry import Registry
from nbkit.serve import Rules, decide
from nbkit.settings import Settings

if TYPE_CHECKING:
    from nbkit.evaluate import EvaluationResult, GoldenCase


def write_golden_case(use_case: UseCase, *, case_id: str, why: str, body: str) -> GoldenCase:
    """Write a golden case: a row whose decision must never change silently.

    Parameters
    ----------
    use_case : UseCase
        Its contract says what the inputs are.
    case_id : str
        Name of the case and of its file.
    why : str
        Why this case must not change.
    body : str
        YAML with the two mappings ``inputs`` and ``expect``.

    Returns
    -------
    GoldenCase
        As written to its file.

    Raises
    ------
    CaseSetError
        The body is no such YAML, or its expectation says nothing that can be checked.
    ContractViolationError
        Its inputs break the contract.
    """
    import yaml

    from nbkit.evaluate import GoldenCase, write_golden

    try:
        content = yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise CaseSetError(f"case {case_id}: not YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"inputs", "expect"}:
        raise CaseSetError(f"case {case_id}: expected the two mappings 'inputs' and 'expect'")
    RowCheck(use_case.contract).check(content["inputs"])
    case = GoldenCase(id=case_id, why=why, inputs=content["inputs"], expect=content["expect"])
    write_golden(case, directory=use_case.directory / use_case.contract.evaluate.golden)
    return case


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Result):
    """How a package did on the frozen cases."""

    name: str
    run_id: str
    summary: str
    champion: str
    facts: Mapping[str, object]
    report: Path
    result: EvaluationResult | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        metrics = self.facts.get("metrics")
        rows = tuple(
            (metric, *(f"{number(values, key):.4f}" for key in ("value", "low", "high")))
            for metric, values in (metrics.items() if isinstance(metrics, dict) else ())
        )
        return View(
            headline=f"{self.name}: {self.summary}",
            facts=[("champion", self.champion), ("report", str(self.report))],
            tables=[Table(columns=("metric", "value", "low", "high"), rows=rows)],
            next_step=f"nbkit explain {self.name}",
        )


def evaluate(
    use_case: UseCase,
    *,
    settings: Settings,
    now: datetime,
    run_id: str = "",
    junit: Path | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Judge the latest package on the frozen cases and against the champion on the same cases.

    Metrics, report, tables and JSON go to the MLflow run, and with ``junit`` a file for CI is written. A bad result is
    reported, never raised.

    Raises
    ------
    UsageError
        There is no package or no frozen case set.
    """
    from nbkit.evaluate import MOST_RECORDED, evaluate_package, judge_cases, load_cases, load_expectations

    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    candidate = packaged(build, contract.name)
    cases = load_cases(use_case.directory, contract=contract)
    expected = load_expectations(use_case.directory, contract=contract, cases=cases)
    champion = verified_champion(contract.name, settings=settings, now=now)
    decide_one, decide_all = _as_served(candidate)
    theirs = _as_served(champion.package) if champion else (None, None)
    record = judge_cases(candidate, cases=cases, decide_all=decide_all) if len(cases) <= MOST_RECORDED else None
    result = evaluate_package(
        candidate,
        cases=cases,
        golden=expected.golden,
        behaviours=expected.behaviours,
        unfrozen=expected.unfrozen,
        contenders=without_the_model(candidate, cases),
        record=record.digest if record else "",
        champion=champion.package if champion else None,
        champion_version=champion.version if champion else None,
        decide=decide_one,
        decide_all=decide_all,
        decide_champion=theirs[0],
        decide_all_champion=theirs[1],
        progress=progress or no_progress,
    )
    report = keep_evaluation(result, record, build=build, registry=Registry(settings))
    if junit is not None:
        write_atomically(junit, content=result.to_junit().encode())
    return Evaluated(
        name=contract.name,
        run_id=build.run_id,
        summary=result.summary_line,
        champion=f"version {champion.version}" if champion else "none yet",
        facts=result.facts(),
        report=report,
        result=result,
    )


def _as_served(package: Package) -> tuple[Callable[[Mapping[str, float | str | None]], Decision], DecideAll]:
    """Return what decides one row, and many, as the service does: with rules, and with reasons."""
    rules = Rules.from_package(package)
    return (lambda row: decide(package, row, rules=rules)), service_decisions(package, rules=rules)


def packaged(build: Build, name: str) -> Package:
    """Return the package of a build.

    Raises
    ------
    UsageError
        There is none.
    """
    if not (build.package / "manifest.json").exists():
        raise UsageError(f"{name}: run {build.run_id} has no package yet", next_step="%nbkit package model")
    return load_package(build.package)
