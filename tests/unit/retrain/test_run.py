"""Notebooks run in real kernels; each start costs a second, so one run answers several questions."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from nbkit.errors import UsageError
from nbkit.retrain import NotebookResult, run_notebook
from nbkit.retrain._kernel import Kernel

NO_PARAMETERS: Mapping[str, object] = {}


def run(path: Path, *, parameters: Mapping[str, object] = NO_PARAMETERS, **options: object) -> NotebookResult:
    return run_notebook(
        path,
        parameters=parameters,
        output=path.parent / "out" / "executed.ipynb",
        directory=path.parent,
        environment={"NBKIT_RUN_ID": "r1", "OMP_NUM_THREADS": "1"},
        **options,
    )


def executed(result: NotebookResult) -> dict[str, object]:
    return json.loads(result.output.read_text())


def printed(result: NotebookResult) -> str:
    outputs = [output for cell in executed(result)["cells"] for output in cell.get("outputs", ())]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def test_a_run_gets_its_parameters_folder_and_environment_and_leaves_no_process(tmp_path, write_notebook):
    folder = tmp_path / "case {month}"
    folder.mkdir()
    path = write_notebook(
        "#md # Load",
        ("n: int = 3\nname: str = 'x'\nrate: float | None = 0.5", "parameters"),
        "#md ## Train",
        "import os, sys, warnings\n"
        "print(n, name, rate, os.getcwd(), os.environ['NBKIT_RUN_ID'])\n"
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'], os.environ['OMP_NUM_THREADS'])\n"
        "print(sys.executable)",
        ("raise ValueError('shown on purpose')", "raises-exception"),
        name="case {month}/train.ipynb",
    )
    before = path.read_bytes()
    seen: list[tuple[float, str]] = []
    result = run(
        path,
        parameters={"n": 5, "name": "a'b\n{é}", "rate": None},
        progress=lambda fraction, message: seen.append((fraction, message)),
    )
    assert (result.succeeded, result.failed_cell, result.error_name) == (True, None, "")
    assert printed(result).splitlines() == [
        "5 a'b",
        f"{{é}} None {folder} r1",
        "true true 1",
        sys.executable,
    ]
    assert seen == [
        (0.0, "cell 1 of 5: Load"),
        (0.2, "cell 2 of 5: Load"),
        (0.4, "cell 3 of 5: Train"),
        (0.6, "cell 4 of 5: Train"),
        (0.8, "cell 5 of 5: Train"),
        (1.0, "done"),
    ]
    assert psutil.Process().children(recursive=True) == []
    assert path.read_bytes() == before
    assert executed(result)["metadata"]["nbkit"] == {"succeeded": True}
    assert str(tmp_path) not in json.dumps(executed(result)["metadata"])
    assert result.seconds > 0


def test_a_failing_cell_is_named_as_a_reader_counts_and_the_rest_does_not_run(write_notebook):
    path = write_notebook("#md # T", ("n: int = 3", "parameters"), "print('before')", "{}['income']", "print('after')")
    result = run(path, parameters={"n": 4})
    assert (result.succeeded, result.failed_cell) == (False, 4)
    assert (result.error_name, result.error_text) == ("KeyError", "'income'")
    assert "----> 1 {}['income']" in result.traceback
    assert "\x1b" not in result.traceback
    assert printed(result) == "before\n"
    notebook = executed(result)
    assert notebook["metadata"]["nbkit"] == {
        "succeeded": False,
        "failed_cell": 4,
        "error_name": "KeyError",
        "error_text": "'income'",
    }
    assert not [cell for cell in notebook["cells"] if "papermill-error-cell-tag" in cell["metadata"]["tags"]]


def test_the_error_of_a_magic_is_told_although_papermill_shows_a_blank_one(write_notebook):
    result = run(write_notebook("%nosuchmagic"))
    assert (result.failed_cell, result.error_name) == (1, "UsageError")
    assert result.error_text == "Line magic function `%nosuchmagic` not found."
    assert executed(result)["cells"][0]["outputs"][-1] == {
        "output_type": "error",
        "ename": "UsageError",
        "evalue": result.error_text,
        "traceback": [f"UsageError: {result.error_text}"],
    }


def test_a_notebook_that_ends_itself_early_did_not_succeed(write_notebook):
    result = run(write_notebook("import sys; sys.exit()", "print('registered')"))
    assert (result.succeeded, result.failed_cell, result.error_name) == (False, 1, "SystemExit")
    assert result.error_text == "the notebook ended itself with exit code 0; the cells after this one did not run"


def test_a_dead_kernel_is_a_failed_run_with_the_exit_code_and_its_last_words(write_notebook):
    path = write_notebook(
        "print('kept')", "import os\nos.write(2, b'free(): invalid pointer\\n')\nos._exit(3)", "print('after')"
    )
    result = run(path)
    assert (result.succeeded, result.failed_cell, result.error_name) == (False, 2, "KernelDied")
    assert result.error_text.startswith("the kernel ended with exit code 3")
    assert printed(result).startswith("kept\n")
    assert executed(result)["cells"][1]["outputs"][-1]["ename"] == "KernelDied"


def test_a_notebook_past_its_limit_is_stopped_and_says_where(write_notebook):
    result = run(write_notebook("#md # Wait", "import time; time.sleep(600)"), limit_s=0.5)
    assert (result.succeeded, result.failed_cell, result.error_name) == (False, 2, "TimeLimit")
    assert result.error_text == "the notebook did not end within 0.5 seconds; this cell was running"
    assert result.seconds < 60
    assert psutil.Process().children(recursive=True) == []


def test_a_kernel_that_does_not_start_says_what_the_interpreter_said(write_notebook):
    path = write_notebook("print(1)")
    (path.parent / "ipykernel_launcher.py").write_text("raise SystemExit('no room for a kernel')")
    result = run(path)
    assert (result.succeeded, result.failed_cell, result.error_name) == (False, None, "KernelDidNotStart")
    assert "the kernel ended with exit code 1: no room for a kernel" in result.error_text
    assert executed(result)["metadata"]["nbkit"]["error_name"] == "KernelDidNotStart"


def test_it_runs_inside_an_event_loop_as_in_jupyterlab_and_an_error_of_the_caller_leaves_no_kernel(write_notebook):
    path = write_notebook("print(1)", "print(2)")

    def stop(fraction: float, message: str) -> None:
        if fraction > 0:
            raise ZeroDivisionError(message)

    async def inside() -> NotebookResult:
        return run(path, progress=stop)

    with pytest.raises(ZeroDivisionError, match="cell 2 of 2"):
        asyncio.run(inside())
    assert psutil.Process().children(recursive=True) == []


def test_a_killed_kernel_names_the_signal_and_the_usual_cause(tmp_path):
    kernel = Kernel(directory=tmp_path, environment={}, folder=tmp_path)
    kernel.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert kernel.how_it_ended() == "the kernel stopped answering"
    kernel.stop()
    kernel.process.stdin.close()
    assert kernel.how_it_ended() == (
        "the kernel was killed by SIGKILL; if nobody did that, the machine was out of memory"
    )


@pytest.mark.parametrize(
    ("output", "directory", "text"),
    [("executed.txt", ".", "expected an output that ends in .ipynb"), ("e.ipynb", "gone", "expected a folder")],
)
def test_a_wrong_place_is_refused_before_a_kernel_starts(tmp_path, write_notebook, output, directory, text):
    with pytest.raises(UsageError, match=text):
        run_notebook(
            write_notebook("1"),
            parameters={},
            output=tmp_path / output,
            directory=tmp_path / directory,
            environment={},
        )


def test_importing_the_runner_hides_the_slow_iri_checker_only_while_it_imports():
    code = (
        "import sys\n"
        "from nbkit.retrain._jupyter import quick_import\n"
        "assert 'papermill' not in sys.modules and 'nbconvert' not in sys.modules\n"
        "with quick_import():\n"
        "    import papermill\n"
        "assert 'rfc3987_syntax' not in sys.modules\n"
        "import rfc3987_syntax\n"
        "with quick_import():\n"
        "    assert sys.modules['rfc3987_syntax'] is rfc3987_syntax\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
