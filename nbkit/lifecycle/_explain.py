"""Explain a package: the rationale document in every form that it is read in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.errors import RationaleError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._judge import packaged
from nbkit.lifecycle._lda import with_search
from nbkit.lifecycle._pages import is_settled
from nbkit.lifecycle._reasons import recall, remember
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._view import Progress, Result, Table, View, no_progress
from nbkit.registry import Registry
from nbkit.settings import Settings

if TYPE_CHECKING:
    from nbkit.package import Package
    from nbkit.rationale import Explanation, Rationale

# Of the work, explaining is this share; the rest is writing and printing.
_EXPLAINING = 0.8


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
    stability: str
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    document: Path
    pdf: str
    rationale: Rationale | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        shown = tuple((name, f"{value:.4f}") for name, value in self.importance[:10])
        guard = (
            f"{self.checked_rows} rows, largest error {self.largest_error:.1e}, {self.failed_rows} explained otherwise"
        )
        kinds = " ".join(dict.fromkeys(problem.partition(":")[0] for problem in self.stale))
        again = f"read again what was written, then: %%nbkit rationale {kinds} --confirmed YYYY-MM-DD"
        return View(
            headline=f"{self.name}: {self.verdict}",
            facts=[
                ("document", str(self.document)),
                ("pdf", self.pdf),
                ("checked against the model", guard),
                ("top reason changes", self.stability),
                ("reasons missing", ", ".join(self.missing) or "none"),
                ("reasons stale", "; ".join(self.stale) or "none"),
            ],
            tables=[Table(columns=("input", "mean |log-odds|"), rows=shown, title="What moves the score")],
            next_step=again if self.stale else f"nbkit register {self.name}",
        )


def explain(
    use_case: UseCase,
    *,
    settings: Settings,
    now: datetime,
    run_id: str = "",
    sample: int = 500,
    seed: int = 0,
    pdf: bool = True,
    progress: Progress | None = None,
) -> Explained:
    """Write the rationale document of the latest package, with its explanation checked row by row.

    Parameters
    ----------
    use_case : UseCase
        Whose latest package.
    settings : Settings
        Where MLflow is.
    now : datetime
        Aware.
    run_id : str
        The run; the latest when empty.
    sample : int
        Rows to explain and check.
    seed : int
        Draws them.
    pdf : bool
        Whether to print the document too, where the machine has a Chromium.
    progress : callable, optional
        Takes fraction and message.

    Returns
    -------
    Explained
        ``rationale.html``, ``.md``, ``.json`` and perhaps ``.pdf`` lie in the build, and in the run unless it is
        registered already: then they are kept beside the next version that it submits.

    Raises
    ------
    UsageError
        The package has not been evaluated.
    RationaleError
        No explanation agrees with the model.
    """
    from nbkit.evaluate import load_cases
    from nbkit.rationale import explain_package

    report = progress or no_progress
    contract = use_case.contract
    build = use_case.build(run_id) if run_id else use_case.latest_build()
    candidate = packaged(build, contract.name)
    evaluation = _evaluation(build, contract.name)
    cases = load_cases(use_case.directory, contract=contract)
    explanation = explain_package(
        candidate,
        cases.frame,
        sample=sample,
        seed=seed,
        progress=lambda share, message: report(_EXPLAINING * share, message),
    )
    report(_EXPLAINING, "writing the document")
    registry = Registry(settings)
    links = {"run": registry.run_link(build.run_id)}
    written = _write(use_case, build, candidate, evaluation=evaluation, explanation=explanation, links=links, now=now)
    document = build.directory / "rationale.html"
    printed = _file(written, document=document, build=build, registry=registry, pdf=pdf, report=report)
    report(1.0, "written")
    return Explained(
        name=contract.name,
        run_id=build.run_id,
        verdict=written.verdict,
        importance=tuple(explanation.importance.items()),
        checked_rows=explanation.rows,
        failed_rows=explanation.failed_rows,
        largest_error=explanation.max_error,
        stability=_stability(explanation),
        missing=written.missing,
        stale=written.stale,
        document=document,
        pdf=printed,
        rationale=written,
    )


def _evaluation(build: Build, name: str) -> Mapping[str, object]:
    """Return what the evaluation said, and what the search for alternatives did.

    Raises
    ------
    UsageError
        It has not been evaluated.
    """
    evaluation = build.read_json("evaluation.json")
    if not evaluation:
        raise UsageError(f"{name}: not evaluated yet", next_step=f"nbkit evaluate {name}")
    return with_search(evaluation, build)


def _write(
    use_case: UseCase,
    build: Build,
    package: Package,
    *,
    evaluation: Mapping[str, object],
    explanation: Explanation,
    links: Mapping[str, str],
    now: datetime,
) -> Rationale:
    """Write the document with the reasons of the build, and remember the figures that they cite."""
    from nbkit.rationale import known_facts, write_rationale

    reasons, alternatives = recall(use_case, build), build.read_json("alternatives.json")
    written = write_rationale(
        package,
        evaluation=evaluation,
        explanation=explanation,
        reasons=reasons,
        alternatives=alternatives,
        links=links,
        now=now,
    )
    facts = known_facts(package, evaluation=evaluation, alternatives=alternatives)
    remember(use_case, build, reasons=reasons, facts=facts)
    return written


def _file(written: Rationale, *, document: Path, build: Build, registry: Registry, pdf: bool, report: Progress) -> str:
    """Put the document into the build, and into its run unless that is registered; return what became of the PDF."""
    write_atomically(document, content=written.html.encode())
    write_atomically(build.rationale, content=written.to_json().encode())
    write_atomically(document.with_suffix(".md"), content=written.markdown.encode())
    registry.describe_run(build.run_id, written.markdown)
    printed = _print(written, document=document, report=report) if pdf else "not asked for"
    if not is_settled(registry, build.run_id):
        for file in (document, build.rationale, document.with_suffix(".pdf")):
            if file.exists():
                registry.log_file(build.run_id, file)
    return printed


def _print(written: Rationale, *, document: Path, report: Progress) -> str:
    """Print the document; a machine that cannot has its document all the same."""
    from nbkit.rationale import find_browser, print_pdf

    printed = document.with_suffix(".pdf")
    # A page of another document must not stay behind.
    printed.unlink(missing_ok=True)
    browser = find_browser()
    if browser is None:
        return "not printed: no Chromium on this machine"
    report((1 + _EXPLAINING) / 2, "printing it")
    try:
        write_atomically(printed, content=print_pdf(written.html, browser=browser))
    except RationaleError as error:
        return f"not printed: {error.message}"
    return str(printed)


def _stability(explanation: Explanation) -> str:
    found = explanation.stability
    if found is None:
        return "not measured"
    value, low, high = (100 * getattr(found.worst_share, part) for part in ("value", "low", "high"))
    return f"in at most {value:.1f} % ({low:.1f} % to {high:.1f} %) of {found.rows} rows"
