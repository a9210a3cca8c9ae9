"""The rationale in short, for places that show Markdown: the description of a run and of a version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nbkit.rationale._blocks import Section, Table, Written
from nbkit.rationale._facts import figure, percent
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import objections, open_questions

# MLflow keeps a version's description in a column of 5,000 characters.
MOST_CHARACTERS = 4900

# In the order in which they are left out last: a reviewer reads the description before the document.
_TABLES = (("fairness", 0, (0, 2, 3, 5)), ("performance", 0, (0, 1, 2, 3)), ("architecture", 0, (0, 1, 2)))
_TOP_INPUTS = 8
_ENDING = "The whole document, with figures, is `rationale.html` among the artifacts of the run."


def write_markdown(source: Source, *, chapters: Sequence[Section], line: str) -> str:
    """Write the short form; what does not fit any more is in the whole document.

    Parameters
    ----------
    source : Source
        What the rationale is written from.
    chapters : sequence of Section
        The whole document's.
    line : str
        The verdict: the first line.

    Returns
    -------
    str
        Markdown of at most `MOST_CHARACTERS` characters.
    """
    parts = [line]
    room = MOST_CHARACTERS - len(line) - len(_ENDING) - 3
    for part in _parts(source, chapters):
        if len(part) + 2 <= room:
            parts.append(part)
            room -= len(part) + 2
    return "\n\n".join([*parts, _ENDING]) + "\n"


def _parts(source: Source, chapters: Sequence[Section]) -> Iterator[str]:
    against, unknown = objections(source), open_questions(source)
    if against:
        yield "**Objections**\n\n" + "\n".join(f"- {_escape(sentence)}" for sentence in against)
    if unknown:
        yield "**Open questions**\n\n" + "\n".join(f"- {_escape(sentence)}" for sentence in unknown)
    by_name = {section.name: section for section in chapters}
    for name, place, columns in _TABLES:
        section = by_name[name]
        tables = [block for block in section.blocks if isinstance(block, Table)]
        if len(tables) > place and len(tables[place].columns) > max(columns):
            yield f"**{section.title}**\n\n{_table(tables[place], columns=columns)}"
    yield f"**What moves the score**\n\n{_importance(source)}\n\n{_checked(source)}"
    for written in source.written.values():
        yield _reason(written)


def _importance(source: Source) -> str:
    found = source.explanation
    rows = tuple((name, figure(value)) for name, value in list(found.importance.items())[:_TOP_INPUTS])
    return _table(Table(columns=("Input", f"mean {found.scale}"), rows=rows), columns=(0, 1))


def _checked(source: Source) -> str:
    found = source.explanation
    rows, failed = figure(found.rows), figure(found.failed_rows)
    words = f"Checked against the model in {rows} rows; {failed} needed another computation."
    if found.stability is None:
        return words
    worst = found.stability.worst_share
    return (
        f"{words} Top reasons change in {percent(worst.value)} ({percent(worst.low)} to {percent(worst.high)}) of"
        f" {figure(found.stability.rows)} rows under the worst of three harmless changes."
    )


def _reason(written: Written) -> str:
    note = f" ({written.written_at})" if written.written_at else ""
    return f"**{written.title}**{note}\n\n" + "\n\n".join(map(_escape, written.paragraphs))


def _table(table: Table, *, columns: Sequence[int]) -> str:
    lines = [_row([table.columns[place] for place in columns])]
    lines.append("|" + "|".join(" ---: " if place in table.figures else " --- " for place in columns) + "|")
    lines += [_row([row[place] for place in columns]) for row in table.rows]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escape(cell).replace("|", "\\|") for cell in cells) + " |"


def _escape(text: str) -> str:
    # HTML and emphasis that nobody meant; a line that looks like a heading stays one line of text.
    return re.sub(r"([*_`#\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " "))
