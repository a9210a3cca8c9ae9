"""Look for less discriminatory alternatives, on labelled rows apart from the frozen cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.errors import UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._view import Progress, Result, Table, View, no_progress
from nbkit.package import load_package
from nbkit.registry import Registry
from nbkit.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from nbkit.evaluate import LdaEntry, LdaLedger

_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativesSought(Result):
    """What a search for less discriminatory alternatives found."""

    name: str
    summary: str
    tried: int
    alternatives: tuple[str, ...]
    possible: tuple[str, ...]
    rows: int
    path: Path
    report: Path
    ledger: LdaLedger | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        shown = (self.ledger.present, *self.ledger.alternatives, *self.ledger.possible) if self.ledger else ()
        tables = []
        if self.ledger is not None and self.ledger.group:
            rows = tuple(self._row(entry) for entry in shown[: _SHOWN + 1])
            columns = ("candidate", "thresholds", f"ratio {self.ledger.group}", "cost", "verdict", "why")
            tables.append(Table(columns=columns, rows=rows, title="The present model, and what beats it"))
        return View(
            headline=f"{self.name}: {self.summary}",
            facts=[
                ("searched on", f"{self.rows:,} rows, none of them a frozen case"),
                ("ledger", str(self.path)),
                ("report", str(self.report)),
            ],
            tables=tables,
            next_step="train a candidate, and let the frozen cases judge it" if len(shown) > 1 else "",
        )

    def _row(self, entry: LdaEntry) -> tuple[str, ...]:
        assert self.ledger is not None  # noqa: S101 -- the caller has looked
        group = entry.group(self.ledger.attribute, self.ledger.group)
        ratio = f"{group.impact_ratio.value:.2f}" if group else ""
        cost = f"{entry.cost.value:.2f}" if entry.cost else ""
        return entry.name, entry.thresholds, ratio, cost, entry.verdict, entry.reason


def seek_alternatives(
    use_case: UseCase,
    model: object | None = None,
    *,
    training: pd.DataFrame,
    validation: pd.DataFrame | None = None,
    settings: Settings,
    cost_share: float | None = None,
    seed: int = 0,
    run_id: str = "",
    progress: Progress | None = None,
) -> AlternativesSought:
    """Try models that might discriminate less, and write the ledger of every candidate.

    ``lda.json`` and ``lda.html`` lie in the build of the run and are logged to it.

    Parameters
    ----------
    use_case : UseCase
        Its contract says what is protected and what mistakes cost.
    model : estimator or Pipeline, optional
        The present model; default: the fitted model of the latest package.
    training, validation : pandas.DataFrame
        Labelled rows with entity, inputs, target and protected attributes; none may be a frozen case. They are put
        together and searched in folds.
    settings : Settings
        Where MLflow is.
    cost_share : float, optional
        How much dearer an alternative may be; default: ``fairness.alternative_cost_share`` of the contract.
    seed : int
        Of the folds.
    run_id : str
        The run to log to; default: the latest.
    progress : callable, optional
        Told ``(share done, what comes next)``.

    Returns
    -------
    AlternativesSought
        Finding one is a result, not an error.

    Raises
    ------
    UsageError
        There is no model, or rows are frozen cases.
    EvaluationError
        The rows cannot be searched.
    """
    import pandas as pd

    from nbkit.evaluate import find_alternatives

    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    frame = training if validation is None else pd.concat([training, validation], ignore_index=True)
    _refuse_cases(use_case, frame)
    ledger = find_alternatives(
        _packaged_model(build, contract.name) if model is None else model,
        frame,
        contract=contract,
        cost_share=cost_share,
        seed=seed,
        progress=progress or no_progress,
    )
    path, report = build.directory / "lda.json", build.directory / "lda.html"
    write_atomically(path, content=ledger.to_json().encode())
    write_atomically(report, content=ledger.to_html().encode())
    registry = Registry(settings)
    for file in (path, report):
        registry.log_file(build.run_id, file)
    return AlternativesSought(
        name=contract.name,
        summary=ledger.summary,
        tried=len(ledger.entries) - 1,
        alternatives=tuple(f"{entry.name}, {entry.thresholds}" for entry in ledger.alternatives),
        possible=tuple(f"{entry.name}, {entry.thresholds}" for entry in ledger.possible),
        rows=ledger.rows,
        path=path,
        report=report,
        ledger=ledger,
    )


def with_search(evaluation: dict[str, object], build: Build) -> dict[str, object]:
    """Return an evaluation with the search for alternatives of the same build, where there was one."""
    result, ledger = evaluation.get("result"), build.read_json("lda.json")
    if not ledger or not isinstance(result, dict):
        return evaluation
    return {**evaluation, "result": {**result, "lda": ledger}}


def _packaged_model(build: Build, name: str) -> object:
    if not (build.package / "manifest.json").exists():
        raise UsageError(f"{name}: run {build.run_id} has no package yet", next_step=f"nbkit run {name}")
    return load_package(build.package).fitted()


def _refuse_cases(use_case: UseCase, frame: pd.DataFrame) -> None:
    """Keep the frozen cases out: they judge what the search finds, and must not have been seen by it."""
    from nbkit.evaluate import load_cases

    contract = use_case.contract
    if contract.evaluate.case_set is None:
        raise UsageError(
            f"{contract.name}: no cases are frozen yet, so nothing would judge what is found",
            next_step=f"nbkit freeze {contract.name}",
        )
    if contract.entity not in frame.columns:
        raise UsageError(f"rows: expected the column {contract.entity!r}, to keep frozen cases out of the search")
    frozen = set(load_cases(use_case.directory, contract=contract).ids)
    shared = [value for value in frame[contract.entity].tolist() if value in frozen]
    if shared:
        raise UsageError(
            f"rows: {len(shared)} are frozen cases (first: {shared[0]!r}); they judge what the search finds",
            next_step="leave out rows whose entity is in cases.ids",
        )
