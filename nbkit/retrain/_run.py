"""Run a notebook through papermill in a kernel of its own, and say what really happened."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbkit.errors import UsageError
from nbkit.retrain._cells import PAPERMILL_TAGS, read_cells
from nbkit.retrain._executed import finish_executed
from nbkit.retrain._jupyter import quick_import
from nbkit.retrain._kernel import KERNEL_ARGUMENTS, Kernel
from nbkit.retrain._watch import Failure, Progress, Watch

_START_WAIT_S = 60
# papermill gives up on a cell whose output still arrives after four seconds; on a busy machine that is a false alarm.
_OUTPUT_WAIT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookResult:
    """How a notebook ran.

    Parameters
    ----------
    succeeded : bool
        Whether every cell ran to its end; a notebook that ends itself early by ``sys.exit`` did not.
    failed_cell : int or None
        The cell in which it ended, counted from 1 as a reader counts (the cell that papermill adds is not counted);
        ``None`` when it succeeded or when no cell was running.
    error_name : str
        Name of the exception, or ``KernelDied``, ``KernelDidNotStart``, ``TimeLimit`` or ``OutputLost``; empty when it
        succeeded.
    error_text : str
        What the error says, without colours.
    traceback : str
        The traceback without colours; empty when there is none.
    seconds : float
        From the start of the kernel to its end.
    output : Path
        The executed notebook.
    """

    succeeded: bool
    failed_cell: int | None
    error_name: str
    error_text: str
    traceback: str
    seconds: float
    output: Path


def run_notebook(
    path: Path,
    *,
    parameters: Mapping[str, object],
    output: Path,
    directory: Path,
    environment: Mapping[str, str],
    progress: Progress | None = None,
    limit_s: float | None = None,
) -> NotebookResult:
    """Run a notebook from its first cell to its last in a fresh kernel of this interpreter.

    A notebook that fails is a result, not an error. The executed notebook is written in any case, the kernel process
    has ended when this returns, and the result does not depend on what papermill reports: papermill shows a blank error
    for a ``UsageError`` and takes ``sys.exit()`` for success.

    Parameters
    ----------
    path : Path
        The notebook; it is not changed.
    parameters : mapping of str to int, float, str, bool or None
        Values from ``check_parameters``; papermill writes them into a cell after the tagged one.
    output : Path
        Where the executed notebook goes; its folder is made.
    directory : Path
        The kernel's working directory.
    environment : mapping of str to str
        Added to the environment that the kernel inherits. Telemetry is off whatever it says.
    progress : callable, optional
        Called with the share of cells done (0..1) and a line of text as each cell starts.
    limit_s : float, optional
        Seconds that all cells together may take; by default as long as they need.

    Returns
    -------
    NotebookResult
        Whether it succeeded, and otherwise where and why it ended.

    Raises
    ------
    UsageError
        The notebook or the directory does not exist or is something else.
    """
    cells = [cell for cell in read_cells(path) if not PAPERMILL_TAGS & cell.tags]
    if output.suffix != ".ipynb":
        raise UsageError(f"{output}: expected an output that ends in .ipynb")
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected a folder to run in")
    output.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(cells=len(cells), progress=progress, limit_s=limit_s)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nbkit-", ignore_cleanup_errors=True) as folder:
        kernel = Kernel(directory=directory.resolve(), environment=environment, folder=Path(folder))
        try:
            failure = _execute(path, output=output, parameters=parameters, kernel=kernel, watch=watch)
        finally:
            kernel.stop()
    finish_executed(output, source=path, failure=failure)
    if failure is None:
        watch.finish()
    return NotebookResult(
        succeeded=failure is None,
        failed_cell=failure.cell if failure else None,
        error_name=failure.name if failure else "",
        error_text=failure.text if failure else "",
        traceback=failure.traceback if failure else "",
        seconds=time.monotonic() - started,
        output=output,
    )


def _execute(
    path: Path,
    *,
    output: Path,
    parameters: Mapping[str, object],
    kernel: Kernel,
    watch: Watch,
) -> Failure | None:
    with quick_import():
        import papermill
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
    # Without any handler Python prints papermill's errors to stderr; the result says the same in one line.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    try:
        papermill.execute_notebook(
            _literal(path),
            _literal(output),
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=_START_WAIT_S,
            iopub_timeout=_OUTPUT_WAIT_S,
            extra_arguments=list(KERNEL_ARGUMENTS),
            kernel_manager_class=kernel.manager_class(),
            timeout_func=watch.time_left,
            on_cell_start=watch.cell_starts,
            on_cell_error=watch.cell_fails,
        )
    except papermill.PapermillExecutionError:
        # Also raised for an error that a cell tagged raises-exception was meant to show: the watch knows better.
        return watch.failure
    except DeadKernelError:
        return Failure(cell=watch.cell, name="KernelDied", text=kernel.how_it_ended())
    except CellTimeoutError:
        return _too_slow(watch)
    except RuntimeError as error:
        if watch.cell is not None:
            raise
        return Failure(cell=None, name="KernelDidNotStart", text=f"{error} ({kernel.how_it_ended()})")
    return watch.failure


def _too_slow(watch: Watch) -> Failure:
    if watch.is_late:
        text = f"the notebook did not end within {watch.limit_s:g} seconds; this cell was running"
        return Failure(cell=watch.cell, name="TimeLimit", text=text)
    text = f"the output of this cell did not arrive within {_OUTPUT_WAIT_S} seconds after it ended"
    return Failure(cell=watch.cell, name="OutputLost", text=text)


def _literal(path: Path) -> str:
    # papermill fills {braces} in a path with parameters.
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")
