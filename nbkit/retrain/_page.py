"""An executed notebook as one HTML file that needs nothing else: MLflow shows it, and a browser without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.retrain._cells import read_cells
from nbkit.retrain._executed import OUTCOME
from nbkit.retrain._jupyter import quick_import
from nbkit.retrain._offline import offline, static_html

if TYPE_CHECKING:
    from nbformat import NotebookNode

_TEMPLATE = "notebook_template"
_PRIORITY = [
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
]


def notebook_html(path: Path) -> str:
    """Render a notebook as a single HTML page that loads nothing and runs no script.

    Pictures are inside the page, links show their address as text, errors and the outcome of the run stand where a
    reader looks first. An output that only a script can draw falls back to its picture or its text.

    Parameters
    ----------
    path : Path
        The notebook, executed or not.

    Returns
    -------
    str
        The page.

    Raises
    ------
    UsageError
        The file is not a notebook.
    """
    read_cells(path)
    with quick_import():
        import nbformat
        from nbconvert import HTMLExporter
        from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
        from traitlets.config import Config
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        _make_static(cell)
    exporter = HTMLExporter(
        template_name=_TEMPLATE,
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_anchor_links=True,
        embed_images=True,
        config=Config({"NbConvertBase": {"display_data_priority": _PRIORITY}}),
    )
    papermill = notebook.metadata.get("papermill", {})
    resources = {
        "metadata": {"name": Path(papermill.get("input_path") or path).stem, "path": str(path.parent)},
        "highlight_css": HtmlFormatter().get_style_defs(".highlight"),
        "outcome": notebook.metadata.get(OUTCOME, {}),
        "summary": _summary(papermill),
    }
    page, _ = exporter.from_notebook_node(notebook, resources=resources)
    return offline(page)


def _make_static(cell: NotebookNode) -> None:
    for output in cell.get("outputs", ()):
        if "data" not in output:
            continue
        kinds = list(output.data)
        if "text/html" in output.data:
            output.data["text/html"] = static_html(output.data["text/html"])
        for kind in kinds:
            if kind not in _PRIORITY or not output.data[kind]:
                del output.data[kind]
        if not output.data and kinds:
            output.data["text/plain"] = f"[an output that is not kept in this page: {', '.join(kinds)}]"


def _summary(papermill: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what to know about the run, from what papermill wrote into the notebook."""
    rows = []
    parameters = papermill.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        rows.append(("Parameters", ", ".join(f"{name} = {value!r}" for name, value in parameters.items())))
    if papermill.get("start_time"):
        rows.append(("Started", str(papermill["start_time"])[:19].replace("T", " ") + " UTC"))
    duration = papermill.get("duration")
    if isinstance(duration, int | float):
        rows.append(("Took", f"{duration:.1f} s"))
    return rows
