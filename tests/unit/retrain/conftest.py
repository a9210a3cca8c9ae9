"""Tiny notebooks, written where a test needs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write_notebook(tmp_path: Path) -> Write:
    """Return a function that writes cells (source, or source and tags) as a notebook; ``#md`` begins a text cell."""

    def write(*cells: str | tuple[str, ...], name: str = "train.ipynb") -> Path:
        path = tmp_path / name
        document = {"cells": [_cell(cell) for cell in cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        for number, cell in enumerate(document["cells"]):
            cell["id"] = f"cell-{number}"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write


def _cell(cell: str | tuple[str, ...]) -> dict[str, object]:
    source, *tags = (cell,) if isinstance(cell, str) else cell
    if source.startswith("#md "):
        return {"cell_type": "markdown", "metadata": {"tags": tags}, "source": source.removeprefix("#md ")}
    return {
        "cell_type": "code",
        "metadata": {"tags": tags},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
