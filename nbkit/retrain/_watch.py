"""What happens in a running notebook, told by nbclient's hooks: papermill's own errors can be blank."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nbkit.retrain._cells import PAPERMILL_TAGS, title_of

Progress = Callable[[float, str], None]

_NO_TIME_LEFT_S = 0.001
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the notebook did not run to its end, and in which cell (counted from 1) if in one."""

    cell: int | None
    name: str
    text: str
    traceback: str = ""


class Watch:
    """Counts the cells as they start, reports progress, and keeps the first error that the notebook did not expect."""

    def __init__(self, *, cells: int, progress: Progress | None, limit_s: float | None = None) -> None:
        self.limit_s = limit_s
        self.cell: int | None = None
        self.failure: Failure | None = None
        self._cells = cells
        self._progress = progress
        self._title = ""
        self._ends: float | None = None

    def cell_starts(self, cell: Mapping[str, object], cell_index: int) -> None:  # noqa: ARG002
        """Take note that papermill reached a cell (a hook of nbclient, called by these names)."""
        if self.limit_s is not None and self._ends is None:
            self._ends = time.monotonic() + self.limit_s
        if PAPERMILL_TAGS & _tags(cell):
            return
        self.cell = (self.cell or 0) + 1
        if cell.get("cell_type") == "markdown":
            self._title = title_of(str(cell.get("source"))) or self._title
        if self._progress is not None:
            place = f"cell {self.cell} of {self._cells}"
            self._progress((self.cell - 1) / self._cells, f"{place}: {self._title}" if self._title else place)

    def cell_fails(
        self,
        cell: Mapping[str, object],
        cell_index: int,  # noqa: ARG002
        execute_reply: Mapping[str, object],
    ) -> None:
        """Keep the error of a cell, unless the cell is tagged ``raises-exception`` (a hook of nbclient)."""
        if "raises-exception" in _tags(cell):
            return
        content = execute_reply["content"]
        assert isinstance(content, Mapping)  # noqa: S101
        self.failure = self._failure(
            name=str(content.get("ename")), text=str(content.get("evalue")), lines=content.get("traceback") or ()
        )

    def time_left(self, _cell: object = None) -> float | None:
        """Return the seconds that the running cell may take (nbclient reads zero as no limit, so never zero)."""
        return None if self._ends is None else max(self._ends - time.monotonic(), _NO_TIME_LEFT_S)

    @property
    def is_late(self) -> bool:
        """Whether the limit has passed."""
        return self._ends is not None and time.monotonic() >= self._ends

    def finish(self) -> None:
        """Report that the notebook ran to its end."""
        if self._progress is not None:
            self._progress(1.0, "done")

    def _failure(self, *, name: str, text: str, lines: Sequence[str]) -> Failure:
        text = plain(text)
        if name == "SystemExit":
            text = f"the notebook ended itself with exit code {text or 0}; the cells after this one did not run"
        return Failure(cell=self.cell, name=name, text=text, traceback=plain("\n".join(lines)))


def plain(text: str) -> str:
    """Return the text without colours and surrounding space."""
    return _ANSI.sub("", text).strip()


def _tags(cell: Mapping[str, object]) -> set[str]:
    metadata = cell.get("metadata")
    return set(metadata.get("tags", ())) if isinstance(metadata, Mapping) else set()
