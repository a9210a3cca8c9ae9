"""Reasons are kept with their figures, go stale when these change, and stop at the gate; the document is printed."""

from __future__ import annotations

import json
from datetime import timedelta

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbkit import lifecycle, rationale
from nbkit.errors import RationaleError, UsageError
from nbkit.lifecycle._reasons import recall
from nbkit.package import Package
from nbkit.rationale import find_browser

from .conftest import Project, make_project, now

HONEST = rationale.explain_package
EXPLAINED: dict[str, rationale.Explanation] = {}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A use case whose notebook ran here, cell by cell: a kernel of its own would only cost time."""
    made = make_project(tmp_path_factory.mktemp("rationale"))
    cells = nbformat.read(made.use_case.notebook, as_version=4).cells
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.use_case.directory)
        patch.setattr("os.environ", made.environment())
        shell = InteractiveShell()
        for cell in cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source.replace("cv=5", "cv=2")).raise_error()
        shell.history_manager.end_session()
    return made


@pytest.fixture(autouse=True)
def explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests change texts and figures, never the package: its explanation is computed once."""

    def explain_package(package: Package, frame: pd.DataFrame, **options: object) -> rationale.Explanation:
        if package.digest not in EXPLAINED:
            EXPLAINED[package.digest] = HONEST(package, frame, **options)
        return EXPLAINED[package.digest]

    monkeypatch.setattr(rationale, "explain_package", explain_package)


def explain(project: Project, **options: object) -> lifecycle.Result:
    return lifecycle.explain(project.use_case, settings=project.settings, now=now(), sample=20, pdf=False, **options)


def write(project: Project, text: str, *, kind: str = "limit", run_id: str = "", **options: str) -> lifecycle.Result:
    build = project.use_case.latest_build()
    run_id = run_id or build.run_id
    return lifecycle.write_reason(project.use_case, kind=kind, text=text, run_id=run_id, now=now(), **options)


def change_auc(project: Project, value: float) -> dict[str, float]:
    """Write another AUC into the evaluation, as another evaluation would; return the measured one."""
    path = project.use_case.latest_build().evaluation
    document = json.loads(path.read_text())
    measured = dict(document["facts"]["metrics"]["auc"])
    document["facts"]["metrics"]["auc"]["value"] = value
    path.write_text(json.dumps(document))
    return measured


def test_the_run_holds_the_document_in_every_form(project: Project) -> None:
    build = project.use_case.latest_build()
    written = {path.suffix for path in build.directory.glob("rationale.*")}
    assert written == {".html", ".json", ".md"} | ({".pdf"} if find_browser() else set())
    assert json.loads((build.directory / "facts.json").read_text())["stability"]["rows"] == 200


def test_every_reason_is_kept_with_the_figures_that_it_cites(project: Project) -> None:
    build = project.use_case.latest_build()
    lines = {line["kind"]: line for line in map(json.loads, build.reasons.read_text().splitlines())}
    assert set(lines) == set(project.use_case.contract.required_reasons)
    auc = lines["architecture"]["cited"]["metrics.auc"]
    assert auc["low"] < auc["value"] < auc["high"]


def test_a_reason_is_shown_as_it_will_read(project: Project) -> None:
    result = write(project, "At {{ metrics.auc }} it is useful; {{ metrics.acu }} is not.")
    assert result.unknown == ("{{ metrics.acu }}",)
    assert "filled in later" in str(result)
    result = write(project, "It reaches an AUC of 0.99.")
    assert "contradicted" in str(result)
    assert result.stale[0].startswith("says auc 0.99, measured 0.8")
    assert "correct the figure" in str(result)


@pytest.mark.parametrize("day", ["yesterday", "2026-1-1"])
def test_a_confirmation_is_a_day(project: Project, day: str) -> None:
    with pytest.raises(UsageError, match="--confirmed: expected a day such as 20"):
        write(project, "Not for boats.", confirmed=day)


def test_a_figure_that_changes_makes_the_reason_stale_until_it_is_written_again(project: Project) -> None:
    write(project, "Not useful below {{ metrics.auc }}.")
    assert explain(project).stale == ()
    measured = change_auc(project, 0.7)
    try:
        found = explain(project).stale
        assert len(found) == 2  # the architecture's reason cites it too
        assert any(problem.startswith("limit: cites metrics.auc, which was") for problem in found)
        assert "and is 0.700 now" in found[-1]
        write(project, "Not useful below {{ metrics.auc }}!")
        assert [problem.partition(":")[0] for problem in explain(project).stale] == ["architecture"]
    finally:
        change_auc(project, measured["value"])
    write(project, "Not for boats.")
    assert explain(project).stale == ()


def test_a_stale_reason_stops_at_the_gate(project: Project) -> None:
    write(project, "It reaches an AUC of 0.99.")
    result = explain(project)
    assert "read again what was written, then: %%nbkit rationale limit --confirmed" in str(result)
    version = lifecycle.register(project.use_case, settings=project.settings, now=now()).version
    table = lifecycle.gate(f"mortgage@{version}", to="staging", settings=project.settings, now=now())
    (refused,) = [one for one in table.results if one.gate == "rationale"]
    assert not refused.passed
    assert "no longer agrees with the figures: limit: says auc 0.99, measured" in refused.reason
    write(project, "Not for boats.")
    assert explain(project).stale == ()


def test_a_required_reason_that_nobody_wrote_stops_at_the_gate(project: Project) -> None:
    build = project.use_case.latest_build()
    kept = build.reasons.read_text()
    build.reasons.write_text("".join(line for line in kept.splitlines(keepends=True) if '"data"' not in line[:16]))
    try:
        assert explain(project).missing == ("data",)
        version = lifecycle.register(project.use_case, settings=project.settings, now=now()).version
        table = lifecycle.gate(f"mortgage@{version}", to="staging", settings=project.settings, now=now())
        assert any("the rationale lacks: data" in one.reason for one in table.results)
    finally:
        build.reasons.write_text(kept)


class TestLaterRuns:
    """The notebook writes the same text again, and nobody has read it."""

    @pytest.fixture
    def later(self, project: Project):
        """A later run of the same package, with the same texts, written by a notebook a week later."""
        explain(project)
        first = project.use_case.latest_build()
        second = project.use_case.build(first.run_id + "x")
        for name in ("evaluation.json", "alternatives.json"):
            (second.directory / name).write_bytes((first.directory / name).read_bytes())
        if not second.package.exists():
            second.package.symlink_to(first.package)

        def again(**options: str):
            for line in map(json.loads, first.reasons.read_text().splitlines()):
                lifecycle.write_reason(
                    project.use_case, kind=line["kind"], text=line["text"], run_id=second.run_id,
                    now=now() + timedelta(days=7), **options,
                )  # fmt: skip
            return recall(project.use_case, second)

        yield again
        project.use_case.build(first.run_id)

    def test_the_reason_keeps_the_day_on_which_it_was_new(self, later) -> None:
        week = timedelta(days=6)
        assert all(reason.written_at < now() + week for reason in later())
        assert all(reason.written_at > now() + week for reason in later(confirmed="2027-01-31"))

    def test_its_figures_are_those_of_the_run_that_it_was_written_in(self, later) -> None:
        (architecture,) = [reason for reason in later() if reason.kind == "architecture"]
        assert not architecture.cited["metrics.auc"].run
        assert all(cited.run for reason in later(confirmed="2027-01-31") for cited in reason.cited.values())


def test_a_memory_of_another_format_is_refused(project: Project) -> None:
    path = project.use_case.directory / ".nbkit" / "reasons.json"
    kept = path.read_text()
    path.write_text(kept.replace('"format": 1', '"format": 9'))
    try:
        with pytest.raises(RationaleError, match="format: expected 1, got 9"):
            explain(project)
    finally:
        path.write_text(kept)
