"""The cells of a notebook file, read as plain JSON: checking parameters must not cost the import of nbformat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nbkit.errors import UsageError

# What papermill puts in: the values of a run, and two headings around a failure.
PAPERMILL_TAGS = frozenset({"injected-parameters", "papermill-error-cell-tag"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a notebook."""

    kind: str
    source: str
    tags: frozenset[str]


def read_cells(path: Path) -> tuple[Cell, ...]:
    """Read the cells of a notebook of format 4; a ``UsageError`` says what else the file is."""
    if path.suffix != ".ipynb":
        raise UsageError(f"{path}: expected a notebook that ends in .ipynb")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: expected a notebook, found no file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: expected a notebook, got a file that cannot be read: {error}") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list) or document.get("nbformat") != 4:
        raise UsageError(
            f"{path}: expected a notebook of format 4, got something else",
            next_step="open it in JupyterLab and save it again",
        )
    return tuple(_cell(cell) for cell in cells)


def _cell(cell: dict[str, object]) -> Cell:
    source = cell.get("source", "")
    metadata = cell.get("metadata")
    tags = metadata.get("tags", ()) if isinstance(metadata, dict) else ()
    return Cell(
        kind=str(cell.get("cell_type")),
        source="".join(source) if isinstance(source, list) else str(source),
        tags=frozenset(tags),
    )


def title_of(source: str) -> str:
    """Return the text of the last heading in a markdown cell, or nothing."""
    headings = [line.lstrip("#").strip() for line in source.splitlines() if line.startswith("#")]
    return headings[-1] if headings else ""
