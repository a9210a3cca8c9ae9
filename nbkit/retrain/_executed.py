"""The executed notebook as it is kept: the true outcome in it, papermill's marks and this machine's paths out of it."""

from __future__ import annotations

import json
from pathlib import Path

from nbkit.files import write_atomically
from nbkit.retrain._cells import PAPERMILL_TAGS
from nbkit.retrain._watch import Failure

OUTCOME = "nbkit"


def finish_executed(output: Path, *, source: Path, failure: Failure | None) -> None:
    """Write the outcome into the executed notebook, so that the file says by itself why a run failed.

    A dead kernel or a time limit leaves no output of its own: the failed cell gets one.
    """
    notebook = json.loads(output.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if "papermill-error-cell-tag" not in cell["metadata"].get("tags", ())]
    notebook["cells"] = cells
    notebook["metadata"].get("papermill", {}).update(input_path=source.name, output_path=output.name)
    notebook["metadata"][OUTCOME] = {"succeeded": failure is None}
    if failure is not None:
        notebook["metadata"][OUTCOME] |= {
            "failed_cell": failure.cell,
            "error_name": failure.name,
            "error_text": failure.text,
        }
        _show(cells, failure)
    write_atomically(
        output, content=(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    )


def _show(cells: list[dict[str, object]], failure: Failure) -> None:
    if failure.cell is None:
        return
    counted = [cell for cell in cells if not PAPERMILL_TAGS & set(cell["metadata"].get("tags", ()))]  # type: ignore[attr-defined]
    outputs = counted[failure.cell - 1].setdefault("outputs", [])
    assert isinstance(outputs, list)  # noqa: S101
    if not any(output["output_type"] == "error" for output in outputs):
        line = f"{failure.name}: {failure.text}"
        outputs.append({"output_type": "error", "ename": failure.name, "evalue": failure.text, "traceback": [line]})
