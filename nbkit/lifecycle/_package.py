"""Package a fitted model inside an MLflow run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.contract import RowCheck, Thresholds
from nbkit.errors import ContractViolationError, RuleError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._rules import check_rules_of
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._view import Result, View, number
from nbkit.package import Package
from nbkit.registry import Registry
from nbkit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


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


def close_run(run_id: str, *, settings: Settings, succeeded: bool) -> None:
    """End a run that a notebook session opened."""
    Registry(settings).finish_run(run_id, succeeded=succeeded)


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
            figure = f"largest difference {number(self.parity, 'max_abs'):.1e} on {self.parity.get('rows')} rows"
            facts.insert(1, ("parity", f"{figure} (limit {number(self.parity, 'tolerance'):.0e})"))
        return View(
            headline=f"{self.name}: packaged ({self.family})", facts=facts, next_step=f"nbkit evaluate {self.name}"
        )


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
    RuleError
        ``rules.json`` does not fit the contract: all problems at once.
    PackageError
        The model cannot be packaged.
    """
    from nbkit.package import write_package

    contract = use_case.contract
    _check_rows(use_case, training)
    _check_rules(use_case)
    thresholds, facts = _thresholds(use_case, model, validation)
    build = use_case.build(run_id)
    _clear(build)
    written = write_package(
        build.package,
        model=model,
        contract=contract,
        training=training,
        thresholds=thresholds,
        threshold_facts=facts,
        sources=_sources(use_case),
        parameters=dict(parameters or {}),
        seeds={"training": seed},
        git_commit=git_commit(use_case.directory),
        created_at=now,
        parity_frame=_case_rows(use_case),
    )
    write_atomically(build.directory / "alternatives.json", content=json.dumps(alternatives or {}).encode())
    Registry(settings).set_run_tags(run_id, {"nbkit.package": written.digest})
    return _told(written, run_id=run_id, thresholds=thresholds, chosen=str(facts["method"]), directory=build.package)


def _told(written: Package, *, run_id: str, thresholds: Thresholds, chosen: str, directory: Path) -> Packaged:
    manifest = written.manifest
    parity = manifest.get("parity")
    return Packaged(
        name=written.contract.name,
        run_id=run_id,
        digest=written.digest,
        compiled=written.compiled,
        family=str(manifest.get("family", "")),
        parity=parity if isinstance(parity, dict) else {},
        not_compiled_because=str(manifest.get("not_compiled_because") or ""),
        thresholds={"refer": thresholds.refer, "decline": thresholds.decline},
        thresholds_chosen=chosen,
        directory=directory,
        package=written,
    )


def _clear(build: Build) -> None:
    """Remove an earlier package of the run, and what was said about it."""
    shutil.rmtree(build.package, ignore_errors=True)
    for stale in (build.evaluation, build.rationale, build.directory / "lda.json"):
        stale.unlink(missing_ok=True)


def _sources(use_case: UseCase) -> dict[str, Path]:
    """Return the files of the use case that travel with the model."""
    found = {
        "notebook.ipynb": use_case.notebook,
        "rules.json": use_case.directory / use_case.contract.serve.rules,
        "reasons.yaml": use_case.directory / "reasons.yaml",
    }
    return {name: path for name, path in found.items() if path.is_file()}


def _check_rules(use_case: UseCase) -> None:
    found = check_rules_of(use_case)
    if found.problems:
        raise RuleError(
            found.path.name, problems=found.problems, next_step=f"nbkit rules check {use_case.contract.name}"
        )


def _check_rows(use_case: UseCase, frame: pd.DataFrame) -> None:
    contract = use_case.contract
    missing = [c.name for c in contract.inputs if c.name not in frame.columns]
    missing += [contract.target.column] if contract.target.column not in frame.columns else []
    if missing:
        raise ContractViolationError("training rows", problems=[f"$.{name}: missing" for name in missing])
    problems = RowCheck(contract).problems_in({column.name: frame[column.name].tolist() for column in contract.inputs})
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
    from nbkit.evaluate import choose_thresholds, group_limits

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
        scores,
        labels,
        costs=contract.decision.costs,
        review_capacity=contract.decision.review_capacity,
        columns={column.name: validation[column.name].tolist() for column in contract.inputs},
        limits=group_limits(validation, contract=contract),
    )
    facts: dict[str, object] = {
        "method": f"lowest expected cost on {len(validation)} validation rows",
        "expected_cost": float(choice.expected_cost),
        "rows": len(validation),
        "curve": [[float(threshold), float(cost)] for threshold, cost in choice.curve],
        "plus_minus_20": {name: dict(moved) for name, moved in choice.plus_minus_20.items()},
        "limited_by": list(choice.limited_by),
        "cost_of_limits": float(choice.cost_of_limits),
    }
    return choice.thresholds, facts
