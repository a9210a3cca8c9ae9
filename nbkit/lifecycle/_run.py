"""Run the notebook through papermill as one MLflow run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbkit.files import write_atomically
from nbkit.lifecycle._package import open_run
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Progress, Result, View
from nbkit.registry import Registry
from nbkit.retrain import check_parameters, notebook_html, notebook_parameters, run_notebook
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran(Result):
    """What became of one run of a notebook."""

    name: str
    run_id: str
    finished: bool
    seconds: float
    parameters: Mapping[str, object]
    version: int | None
    problem: str
    notebook: Path
    run_link: str

    @property
    def succeeded(self) -> bool:
        """Whether the notebook ran to its end."""
        return self.finished

    def view(self) -> View:
        """Return what a person is shown."""
        facts = [("run", self.run_link), ("notebook", str(self.notebook)), ("seconds", f"{self.seconds:.1f}")]
        if not self.finished:
            return View(headline=f"{self.name}: FAILED: {self.problem}", facts=facts, next_step=f"open {self.notebook}")
        follow = (
            f"nbkit gate {self.name}@{self.version} --to staging" if self.version else f"nbkit evaluate {self.name}"
        )
        registered = f", registered as version {self.version}" if self.version else ""
        return View(headline=f"{self.name}: FINISHED{registered}", facts=facts, next_step=follow)


def kernel_environment(settings: Settings, *, run_id: str) -> dict[str, str]:
    """Return what a kernel must know to work in this run: where MLflow, keys and store are; telemetry off."""
    return {
        "NBKIT_RUN_ID": run_id,
        "NBKIT_HOME": str(settings.home),
        "NBKIT_STORE": str(settings.store),
        "NBKIT_ARTIFACT_ROOT": str(settings.artifact_root),
        "NBKIT_IDENTITY": settings.identity,
        "NBKIT_UI_URL": settings.ui_url,
        "NBKIT_LEDGER": settings.ledger,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def run(
    use_case: UseCase,
    *,
    settings: Settings,
    parameters: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Ran:
    """Run the use case's notebook through papermill as one MLflow run.

    The parameters are checked against the typed annotations of the parameters cell before a kernel starts. The run is
    FINISHED or FAILED by what the notebook did, and holds the executed notebook as ``notebook.html``.

    Raises
    ------
    ParameterError
        Unknown name, wrong type or out of range: nothing was started.
    """
    declared = notebook_parameters(use_case.notebook)
    values = check_parameters(parameters or {}, declared=declared)
    logged = {parameter.name: parameter.default for parameter in declared} | values
    registry = Registry(settings)
    run_id = open_run(use_case, settings=settings, parameters=logged)
    finished = False
    try:
        build = use_case.build(run_id)
        executed = build.directory / "notebook.ipynb"
        result = run_notebook(
            use_case.notebook,
            parameters=values,
            output=executed,
            directory=use_case.directory,
            environment=kernel_environment(settings, run_id=run_id),
            progress=progress,
        )
        page = build.directory / "notebook.html"
        write_atomically(page, content=notebook_html(executed).encode())
        registry.log_file(run_id, page)
        finished = result.succeeded
    finally:
        registry.finish_run(run_id, succeeded=finished)
    version = registry.run(run_id).tags.get("nbkit.version")
    return Ran(
        name=use_case.contract.name,
        run_id=run_id,
        finished=finished,
        seconds=result.seconds,
        parameters=logged,
        version=int(version) if version else None,
        problem="" if finished else f"cell {result.failed_cell}: {result.error_name}: {result.error_text}",
        notebook=executed,
        run_link=registry.run_link(run_id),
    )
