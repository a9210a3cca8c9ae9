"""One notebook, three ways; and what becomes of a run that fails."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from nbkit import lifecycle
from nbkit.errors import ParameterError, UsageError
from nbkit.lifecycle._ui import where_to_look
from nbkit.registry import Registry

if TYPE_CHECKING:
    from tests.flow.conftest import Project


def _nbkit(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbkit", *arguments]
    return subprocess.run(
        command, cwd=project.directory, env=project.environment(), capture_output=True, text=True, timeout=240
    )


def _edit(project: Project, old: str, new: str) -> None:
    path = project.use_case.notebook
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nbkit_run_registers_a_version_and_keeps_what_reviewers_read(project: Project) -> None:
    run_id = project.use_case.latest_build().run_id
    registry = Registry(project.settings)
    record = registry.run(run_id)
    assert record.status == "FINISHED"
    assert record.tags["nbkit.version"] == "1"
    assert record.tags["mlflow.source.name"] == "train.ipynb"
    assert record.parameters["max_iter"] == "40"
    assert 0.5 < record.metrics["auc"] <= 1
    for page in ("report.html", "rationale.html", "notebook.html"):
        html = registry.read_artifact(run_id, page).decode()
        assert html.lower().startswith("<!doctype html")
        assert 'src="http' not in html
    version = registry.version("mortgage", version=1)
    assert version.run_id == run_id
    assert version.tags["nbkit.owner"] == project.use_case.contract.owner.primary
    assert version.description.strip()


def test_the_same_cases_judge_every_later_run(project: Project) -> None:
    pinned = project.use_case.contract.evaluate.case_set
    assert pinned is not None
    path, digest = pinned.split("@")
    assert (project.use_case.directory / path).is_file()
    assert project.use_case.latest_build().read_json("facts.json")["case_set"]["digest"] == digest  # type: ignore[index]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"max_itre": "40"}, "max_itre"),
        ({"max_iter": "many"}, "max_iter"),
        ({"max_iter": "-1"}, "max_iter"),
    ],
)
def test_a_wrong_parameter_starts_nothing(project: Project, parameters: dict[str, str], problem: str) -> None:
    runs = list((project.use_case.directory / ".nbkit" / "runs").iterdir())
    with pytest.raises(ParameterError, match=problem):
        lifecycle.run(project.use_case, settings=project.settings, parameters=parameters)
    assert list((project.use_case.directory / ".nbkit" / "runs").iterdir()) == runs


def test_a_wrong_parameter_is_exit_code_2_in_a_shell(project: Project) -> None:
    done = _nbkit(project, "run", "mortgage", "-p", "max_itre=40")
    assert done.returncode == 2
    assert "did you mean 'max_iter'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_cell_makes_the_run_failed(empty_project: Project) -> None:
    _edit(empty_project, "%nbkit evaluate", "raise RuntimeError('the feature store is down')")
    done = _nbkit(empty_project, "run", "mortgage", "-p", "max_iter=10", "--json")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert "the feature store is down" in result["problem"]
    record = Registry(empty_project.settings).run(result["run_id"])
    assert record.status == "FAILED"
    page = Registry(empty_project.settings).read_artifact(result["run_id"], "notebook.html").decode()
    assert "the feature store is down" in page


def test_a_copy_of_the_target_stops_the_run(empty_project: Project) -> None:
    contract = empty_project.use_case.directory / "contract.yaml"
    text = contract.read_text()
    leak = "inputs:\n  - {name: loan_status, type: integer, meaning: status code, reason: R01}\n"
    contract.write_text(text.replace("inputs:\n", leak, 1))
    _edit(
        empty_project,
        "%nbkit leaks applications",
        "applications['loan_status'] = applications['denied'] * 2\\n%nbkit leaks applications",
    )
    result = empty_project.run()
    assert not result.succeeded  # type: ignore[attr-defined]
    assert "LeakError" in result.problem  # type: ignore[attr-defined]
    assert "loan_status" in result.problem  # type: ignore[attr-defined]


def test_the_notebook_works_by_papermill_alone(empty_project: Project) -> None:
    output = empty_project.directory / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        "train.ipynb",
        str(output),
        "-p",
        "max_iter",
        "20",
        "--no-progress-bar",
    ]
    done = subprocess.run(
        command, cwd=empty_project.use_case.directory, env=empty_project.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Registry(empty_project.settings).version("mortgage", version=1).version == 1
    run_id = empty_project.use_case.latest_build().run_id
    assert Registry(empty_project.settings).run(run_id).status == "FINISHED"


def test_the_notebook_works_cell_by_cell_in_a_kernel(empty_project: Project) -> None:
    """As a person does it: one cell after the other, each result looked at."""
    from nbclient import NotebookClient

    notebook = nbformat.read(empty_project.use_case.notebook, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(empty_project.use_case.directory)}},
    )
    with client.setup_kernel(env=empty_project.environment()):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    ]
    kinds = {kind for bundle in shown for kind in bundle if kind.startswith("application/vnd.nbkit.")}
    assert {"application/vnd.nbkit.packaged+json", "application/vnd.nbkit.evaluated+json"} <= kinds
    assert all(
        "text/html" in bundle and "text/plain" in bundle for bundle in shown if any("nbkit" in k for k in bundle)
    )
    assert Registry(empty_project.settings).version("mortgage", version=1).version == 1


def test_the_template_notebook_is_clean(empty_project: Project) -> None:
    notebook = nbformat.read(empty_project.use_case.notebook, as_version=4)
    assert len(notebook.cells) < 15
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert any("parameters" in cell.metadata.get("tags", []) for cell in code)


def test_new_refuses_to_write_over_a_use_case(empty_project: Project) -> None:
    before = sorted(Path(empty_project.use_case.directory).rglob("*"))
    with pytest.raises(UsageError, match="exists already; nothing was written"):
        lifecycle.new("mortgage", template="credit", directory=empty_project.directory)
    with pytest.raises(UsageError, match="cannot be the name"):
        lifecycle.new("Mort gage", template="credit", directory=empty_project.directory)
    with pytest.raises(UsageError, match="expected one of credit"):
        lifecycle.new("other", template="crdit", directory=empty_project.directory)
    assert sorted(Path(empty_project.use_case.directory).rglob("*")) == before
    assert [path.name for path in empty_project.directory.iterdir() if path.name.startswith(".")] == []


def test_the_ui_links_to_what_waits_for_review_and_stops_with_its_command(project: Project) -> None:
    port = _free_port()
    command = [sys.executable, "-m", "nbkit", "ui", "--port", str(port)]
    with subprocess.Popen(
        command,
        cwd=project.directory,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as ui:
        assert ui.stdout is not None
        link = f"http://127.0.0.1:{port}/#/models/mortgage/versions/1"
        assert ui.stdout.readline() == f"mortgage@1 waits for review: {link}\n"
        assert _answers(port, within_seconds=60)
        ui.send_signal(signal.SIGTERM)
        ui.communicate(timeout=30)
    assert not _answers(port, within_seconds=0)


def test_where_nothing_waits_the_ui_says_where_all_versions_are(empty_project: Project) -> None:
    told = where_to_look(empty_project.settings, address="http://127.0.0.1:5000")
    assert told == ("no version waits for review; all of them: http://127.0.0.1:5000/#/models",)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, *, within_seconds: float) -> bool:
    give_up = time.monotonic() + within_seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(0.2)
