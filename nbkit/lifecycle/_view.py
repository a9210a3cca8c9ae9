"""One way to show a result: as text in a shell, as HTML in a notebook, as JSON to a program."""

from __future__ import annotations

import dataclasses
import html
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

_STYLE = (
    "<style>.nbkit{font:14px/1.45 system-ui,sans-serif;max-width:60rem}"
    ".nbkit table{border-collapse:collapse;margin:.4em 0}"
    ".nbkit th,.nbkit td{text-align:left;padding:.15em .8em .15em 0;border-bottom:1px solid #8884;vertical-align:top}"
    ".nbkit td:last-child{overflow-wrap:anywhere}.nbkit a{color:#1a6fb5;text-decoration:underline}"
    ".nbkit .next{color:#666}.nbkit h4{margin:.2em 0}</style>"
)


Progress = Callable[[float, str], None]


def no_progress(_fraction: float, _message: str) -> None:
    """Show nothing."""


def number(values: Mapping[str, object], key: str) -> float:
    """Return a number out of facts; NaN when there is none."""
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a person is shown of a result.

    Parameters
    ----------
    headline : str
        The verdict, in one line.
    facts : sequence of (str, str)
        Label and value, in reading order.
    tables : sequence of Table
        Details.
    next_step : str
        What to type next.
    """

    headline: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    next_step: str = ""

    def text(self) -> str:
        """Render for a terminal."""
        lines = [self.headline]
        width = max((len(label) for label, _ in self.facts), default=0)
        lines += [f"  {label:<{width}}  {value}" for label, value in self.facts]
        for table in self.tables:
            lines += ["", *_text_table(table)]
        if self.next_step:
            lines += ["", f"Next: {self.next_step}"]
        return "\n".join(lines)

    def html(self) -> str:
        """Render for a notebook: static, no script, no network."""
        parts = [_STYLE, '<div class="nbkit">', f"<h4>{html.escape(self.headline)}</h4>"]
        if self.facts:
            rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{_linked(b)}</td></tr>" for a, b in self.facts)
            parts.append(f"<table>{rows}</table>")
        for table in self.tables:
            head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
            body = "".join(
                "<tr>" + "".join(f"<td>{_linked(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
            )
            title = f"<b>{html.escape(table.title)}</b>" if table.title else ""
            parts.append(f"{title}<table><tr>{head}</tr>{body}</table>")
        if self.next_step:
            parts.append(f'<p class="next">Next: <code>{html.escape(self.next_step)}</code></p>')
        return "".join([*parts, "</div>"])


def _linked(value: str) -> str:
    escaped = html.escape(value)
    if value.startswith(("http://", "https://")):
        return f'<a href="{escaped}">{escaped}</a>'
    return escaped


def _text_table(table: Table) -> list[str]:
    rows = [table.columns, *table.rows]
    # The last column may be a sentence: it is not padded, so that lines do not carry trailing blanks.
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns) - 1)]

    def line(row: tuple[str, ...]) -> str:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        return "  " + "  ".join([*cells, row[-1]])

    rule = "  " + "  ".join(["-" * width for width in widths] + ["-" * len(table.columns[-1])])
    return [*([table.title] if table.title else []), line(rows[0]), rule, *map(line, rows[1:])]


class Result(ABC):
    """Base of what every verb returns: it shows itself, and reads as JSON.

    A subclass is a frozen dataclass with a ``view`` method.
    """

    __slots__ = ()

    @abstractmethod
    def view(self) -> View:
        """Return what a person is shown."""

    @property
    def succeeded(self) -> bool:
        """Whether a shell should report success (exit code 0)."""
        return True

    def as_json(self) -> dict[str, object]:
        """Return the result as plain JSON values."""
        return {str(key): value for key, value in _plain_mapping(_fields(self)).items()}

    def __str__(self) -> str:
        return self.view().text()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:  # noqa: ARG002
        view = self.view()
        kind = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(self).__name__).lstrip("-")
        return {
            "text/plain": view.text(),
            "text/html": view.html(),
            f"application/vnd.nbkit.{kind}+json": self.as_json(),
        }


def _fields(value: object) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}  # type: ignore[arg-type]


def _plain_mapping(value: Mapping[str, object]) -> dict[str, object]:
    return {str(key): plain(item) for key, item in value.items()}


def plain(value: object) -> object:
    """Turn a result's value into what ``json.dumps`` takes."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_mapping(_fields(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def to_json(result: Result) -> str:
    """Return a result as one JSON document."""
    return json.dumps(result.as_json(), indent=2, ensure_ascii=False)
