"""Build: package a fitted model, evaluate it, explain it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.contract import RowCheck, Thresholds
from nbkit.errors import ContractViolationError, UsageError
from nbkit.lifecycle._champion import verified_champion
from nbkit.lifecycle._usecase import Build, UseCase, write_atomically
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import Package, load_package, write_package
from nbkit.registry import Registry
from nbkit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from nbkit.evaluate import EvaluationResult, GoldenCase
    from nbkit.rationale import Explanation, Rationale

Progress = Callable[[float, str], None]


def _no_progress(_fraction: float, _message: str) -> None:
    return None


def git_commit(directory: Path) -> str:
    """Return the commit of the folder, with ``+changes`` when files differ from it; empty outside a checkout."""
    try:
        commit = _git(directory, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(directory, "status", "--porcelain", "--", ".") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def open_run(use_case: UseCase, *, settings: Settings, parameters: Mapping[str, object]) -> str:
    """Create the MLflow run of one training: source, commit, owner and contract are its tags."""
    contract = use_case.contract
    tags = {
        "mlflow.source.name": str(use_case.notebook.name),
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.source.git.commit": git_commit(use_case.directory),
        "nbkit.use_case": contract.name,
        "nbkit.contract": contract.digest,
        "nbkit.owner": contract.owner.primary,
        "nbkit.deputy": contract.owner.deputy,
    }
    tags = {name: value for name, value in tags.items() if value}
    return Registry(settings).create_run(contract.name, name=contract.name, tags=tags, parameters=parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged(Result):
    """A model package that was just written."""

    name: str
    run_id: str
    digest: str
    compiled: bool
    family: str
    parity: Mapping[str, object]
    not_compiled_because: str
    thresholds: Mapping[str, float]
    thresholds_chosen: str
    directory: Path
    package: Package | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        how = "compiled plan" if self.compiled else f"fitted model in micro-batches: {self.not_compiled_because}"
        facts = [
            ("served by", how),
            ("decline from", f"{self.thresholds['decline']:.4f}"),
            ("refer from", f"{self.thresholds['refer']:.4f}"),
            ("thresholds", self.thresholds_chosen),
            ("digest", self.digest),
            ("run", self.run_id),
        ]
        if self.parity:
            figure = f"largest difference {_number(self.parity, 'max_abs'):.1e} on {self.parity.get('rows')} rows"
            facts.insert(1, ("parity", f"{figure} (limit {_number(self.parity, 'tolerance'):.0e})"))
        return View(
            headline=f"{self.name}: packaged ({self.family})", facts=facts, next_step=f"nbkit evaluate {self.name}"
        )


def _number(values: Mapping[str, object], key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")


def package(
    use_case: UseCase,
    model: object,
    *,
    training: pd.DataFrame,
    validation: pd.DataFrame | None = None,
    alternatives: Mapping[str, Mapping[str, float]] | None = None,
    parameters: Mapping[str, object] | None = None,
    seed: int = 0,
    run_id: str,
    settings: Settings,
    now: datetime,
) -> Packaged:
    """Write the model package of a fitted model.

    Parameters
    ----------
    use_case : UseCase
        The folder whose contract the model answers to.
    model : estimator or Pipeline
        Fitted; takes a DataFrame of the contract's inputs.
    training : pandas.DataFrame
        The rows it was fitted on, with target and inputs; profiled and fingerprinted, never stored.
    validation : pandas.DataFrame, optional
        Rows that the thresholds are chosen on; needed when the contract says ``thresholds: optimize``.
    alternatives : mapping, optional
        Other models that were tried, each with its measured figures.
    parameters : mapping, optional
        Parameters of the training.
    seed : int
        Seed of the training.
    run_id : str
        MLflow run that this belongs to.
    settings : Settings
        Where MLflow is.
    now : datetime
        Time of packaging, aware.

    Returns
    -------
    Packaged
        Digest, parity and thresholds.

    Raises
    ------
    ContractViolationError
        The training rows break the contract.
    UsageError
        Thresholds are to be chosen and there is nothing to choose them on.
    PackageError
        The model cannot be packaged.
    """
    contract = use_case.contract
    _check_rows(use_case, training)
    thresholds, facts = _thresholds(use_case, model, validation)
    build = use_case.build(run_id)
    shutil.rmtree(build.package, ignore_errors=True)
    for stale in (build.evaluation, build.rationale):
        stale.unlink(missing_ok=True)
    sources = {
        "notebook.ipynb": use_case.notebook,
        "rules.json": use_case.directory / contract.serve.rules,
        "reasons.yaml": use_case.directory / "reasons.yaml",
    }
    written = write_package(
        build.package,
        model=model,
        contract=contract,
        training=training,
        thresholds=thresholds,
        threshold_facts=facts,
        sources={name: path for name, path in sources.items() if path.is_file()},
        parameters=dict(parameters or {}),
        seeds={"training": seed},
        git_commit=git_commit(use_case.directory),
        created_at=now,
        parity_frame=_case_rows(use_case),
    )
    write_atomically(build.directory / "alternatives.json", json.dumps(alternatives or {}))
    manifest = written.manifest
    parity = manifest.get("parity")
    Registry(settings).set_run_tags(run_id, {"nbkit.package": written.digest})
    return Packaged(
        name=contract.name,
        run_id=run_id,
        digest=written.digest,
        compiled=written.compiled,
        family=str(manifest.get("family", "")),
        parity=parity if isinstance(parity, dict) else {},
        not_compiled_because=str(manifest.get("not_compiled_because") or ""),
        thresholds={"refer": thresholds.refer, "decline": thresholds.decline},
        thresholds_chosen=str(facts["method"]),
        directory=build.package,
        package=written,
    )


def _check_rows(use_case: UseCase, frame: pd.DataFrame) -> None:
    contract = use_case.contract
    missing = [c.name for c in contract.inputs if c.name not in frame.columns]
    missing += [contract.target.column] if contract.target.column not in frame.columns else []
    if missing:
        raise ContractViolationError("training rows", problems=[f"$.{name}: missing" for name in missing])
    problems = RowCheck(contract).problems_in({column.name: frame[column.name] for column in contract.inputs})
    if problems:
        raise ContractViolationError("training rows", problems=problems, next_step="correct the rows or contract.yaml")


def _case_rows(use_case: UseCase) -> pd.DataFrame | None:
    from nbkit.evaluate import load_cases

    if use_case.contract.evaluate.case_set is None:
        return None
    return load_cases(use_case.directory, contract=use_case.contract).frame


def _thresholds(
    use_case: UseCase, model: object, validation: pd.DataFrame | None
) -> tuple[Thresholds, dict[str, object]]:
    from nbkit.evaluate import choose_thresholds

    contract = use_case.contract
    if isinstance(contract.decision.thresholds, Thresholds):
        return contract.decision.thresholds, {"method": "fixed in the contract"}
    if validation is None:
        raise UsageError(
            "package: the contract says 'thresholds: optimize' and there are no validation rows to choose them on",
            next_step="%nbkit package model --training training --validation validation",
        )
    _check_rows(use_case, validation)
    scores = model.predict_proba(validation[[c.name for c in contract.inputs]])[:, 1]  # type: ignore[attr-defined]
    labels = (validation[contract.target.column] == contract.target.positive).to_numpy()
    choice = choose_thresholds(
        scores, labels, costs=contract.decision.costs, review_capacity=contract.decision.review_capacity
    )
    facts: dict[str, object] = {
        "method": f"lowest expected cost on {len(validation)} validation rows",
        "expected_cost": float(choice.expected_cost),
        "rows": len(validation),
        "curve": [[float(threshold), float(cost)] for threshold, cost in choice.curve],
    }
    return choice.thresholds, facts


def write_golden_case(
    use_case: UseCase, *, case_id: str, why: str, inputs: Mapping[str, object], expect: Mapping[str, object]
) -> GoldenCase:
    """Write a golden case: a row whose decision must never change silently.

    Raises
    ------
    ContractViolationError
        Its inputs break the contract.
    CaseSetError
        Its expectation says nothing that can be checked.
    """
    from nbkit.evaluate import GoldenCase, write_golden

    RowCheck(use_case.contract).check(inputs)
    case = GoldenCase(id=case_id, why=why, inputs=dict(inputs), expect=dict(expect))
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
            (metric, *(f"{_number(values, key):.4f}" for key in ("value", "low", "high")))
            for metric, values in (metrics.items() if isinstance(metrics, dict) else ())
        )
        return View(
            headline=f"{self.name}: {self.summary}",
            facts=[("champion", self.champion), ("report", str(self.report))],
            tables=[Table(columns=("metric", "value", "low", "high"), rows=rows)],
            next_step=f"nbkit explain {self.name}",
        )


def evaluate(
    use_case: UseCase, *, settings: Settings, now: datetime, run_id: str = "", progress: Progress | None = None
) -> Evaluated:
    """Judge the latest package on the frozen cases and against the champion on the same cases.

    Metrics, report and JSON go to the MLflow run. A bad result is reported, never raised.

    Raises
    ------
    UsageError
        There is no package or no frozen case set.
    """
    from nbkit.evaluate import evaluate_package, load_cases, load_golden

    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    candidate = _packaged(build, contract.name)
    cases = load_cases(use_case.directory, contract=contract)
    golden = load_golden(use_case.directory / contract.evaluate.golden)
    champion = verified_champion(contract.name, settings=settings, now=now)
    result = evaluate_package(
        candidate,
        cases=cases,
        golden=golden,
        champion=champion.package if champion else None,
        champion_version=champion.version if champion else None,
        progress=progress or _no_progress,
    )
    write_atomically(build.evaluation, result.to_json())
    report = build.directory / "report.html"
    write_atomically(report, result.to_html())
    registry = Registry(settings)
    facts = result.facts()
    metrics = facts["metrics"]
    assert isinstance(metrics, dict)  # noqa: S101  facts() is ours; the check tells mypy
    registry.log_metrics(build.run_id, {name: _number(values, "value") for name, values in metrics.items()})
    registry.log_file(build.run_id, report)
    registry.log_file(build.run_id, build.evaluation)
    registry.set_run_tags(build.run_id, {"nbkit.case_set": cases.digest, "nbkit.summary": result.summary_line})
    return Evaluated(
        name=contract.name,
        run_id=build.run_id,
        summary=result.summary_line,
        champion=f"version {champion.version}" if champion else "none yet",
        facts=facts,
        report=report,
        result=result,
    )


def _packaged(build: Build, name: str) -> Package:
    if not (build.package / "manifest.json").exists():
        raise UsageError(f"{name}: run {build.run_id} has no package yet", next_step="%nbkit package model")
    return load_package(build.package)


def write_reason(use_case: UseCase, *, kind: str, text: str, run_id: str, now: datetime) -> None:
    """Keep what a person wrote about a choice, where the choice was made; the last word on a kind counts.

    Raises
    ------
    RationaleError
        Unknown kind or empty text.
    """
    from nbkit.rationale import Reason

    reason = Reason(kind=kind, text=text, written_at=now)
    build = use_case.build(run_id)
    kept = [line for line in read_reasons(build) if line["kind"] != reason.kind]
    kept.append({"kind": reason.kind, "text": reason.text, "written_at": now.isoformat()})
    write_atomically(build.reasons, "".join(json.dumps(line) + "\n" for line in kept))


def read_reasons(build: Build) -> list[dict[str, str]]:
    """Return the reasons of a build as they were written."""
    if not build.reasons.exists():
        return []
    return [json.loads(line) for line in build.reasons.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained(Result):
    """The rationale document of a package."""

    name: str
    run_id: str
    verdict: str
    importance: tuple[tuple[str, float], ...]
    checked_rows: int
    failed_rows: int
    largest_error: float
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    document: Path
    rationale: Rationale | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        shown = tuple((name, f"{value:.4f}") for name, value in self.importance[:10])
        guard = f"{self.checked_rows} rows, largest error {self.largest_error:.1e}, {self.failed_rows} explained otherwise"
        return View(
            headline=f"{self.name}: {self.verdict}",
            facts=[
                ("document", str(self.document)),
                ("checked against the model", guard),
                ("reasons missing", ", ".join(self.missing) or "none"),
                ("reasons stale", "; ".join(self.stale) or "none"),
            ],
            tables=[Table(columns=("input", "mean |log-odds|"), rows=shown, title="What moves the score")],
            next_step=f"nbkit register {self.name}",
        )


def explain(
    use_case: UseCase,
    *,
    settings: Settings,
    now: datetime,
    run_id: str = "",
    sample: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Explained:
    """Write the rationale document of the latest package, with its explanation checked row by row.

    Raises
    ------
    UsageError
        The package has not been evaluated.
    """
    from nbkit.evaluate import load_cases
    from nbkit.rationale import Reason, explain_package, write_rationale

    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    candidate = _packaged(build, contract.name)
    evaluation = build.read_json("evaluation.json")
    if not evaluation:
        raise UsageError(f"{contract.name}: not evaluated yet", next_step=f"nbkit evaluate {contract.name}")
    cases = load_cases(use_case.directory, contract=contract)
    inputs = cases.frame[[column.name for column in contract.inputs]]
    explanation: Explanation = explain_package(
        candidate, inputs, sample=sample, seed=seed, progress=progress or _no_progress
    )
    reasons = [
        Reason(kind=line["kind"], text=line["text"], written_at=datetime.fromisoformat(line["written_at"]))
        for line in read_reasons(build)
    ]
    registry = Registry(settings)
    written = write_rationale(
        candidate,
        evaluation=evaluation,
        explanation=explanation,
        reasons=reasons,
        alternatives=build.read_json("alternatives.json"),
        links={"run": registry.run_link(build.run_id)},
        now=now,
    )
    document = build.directory / "rationale.html"
    write_atomically(document, written.html)
    write_atomically(build.rationale, written.to_json())
    write_atomically(build.directory / "rationale.md", written.markdown)
    registry.log_file(build.run_id, document)
    registry.log_file(build.run_id, build.rationale)
    registry.describe_run(build.run_id, written.markdown)
    return Explained(
        name=contract.name,
        run_id=build.run_id,
        verdict=written.verdict,
        importance=tuple(explanation.importance.items()),
        checked_rows=explanation.rows,
        failed_rows=explanation.failed_rows,
        largest_error=explanation.max_error,
        missing=written.missing,
        stale=written.stale,
        document=document,
        rationale=written,
    )


