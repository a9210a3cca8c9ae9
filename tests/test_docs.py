"""What the documents tell people to type is what nbkit takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import nbkit
from nbkit.cli import cli
from nbkit.errors import UsageError
from nbkit.magics._parse import VERBS, parse, parser_of

ROOT = Path(nbkit.__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(?:sh|shell|bash|console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:%{0,2})nbkit [^`\n]+)`(?!`)")
SHELL = re.compile(r"(?:^|&& |\| |\$ |; )(nbkit .*?)(?= && | \| |;|$)")


def typed(page: Path) -> Iterator[str]:
    """Yield every command line of a page: those in blocks, and those in running text."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            stripped = re.sub(r"\s+#.*$", "", line.strip())
            if stripped.startswith("%"):
                yield stripped
            else:
                yield from SHELL.findall(stripped)
    yield from INLINE.findall(re.sub(FENCE, "", text))


def problem_of(line: str) -> str:
    """Return what is wrong with a line; empty when nbkit would take it."""
    return _magic_problem(line) if line.startswith("%") else _shell_problem(line)


def _magic_problem(line: str) -> str:
    words = line.lstrip("%").split()
    if words[0] != "nbkit" or len(words) < 2 or not re.fullmatch(r"[a-z-]+", words[1]):
        return ""
    if words[1] not in VERBS:
        return f"no verb {words[1]!r}"
    known = {option for action in parser_of(words[1])._actions for option in action.option_strings}
    unknown = [word for word in words[2:] if re.fullmatch(r"--[a-z-]+", word) and word not in known]
    return f"{words[1]} has no {', '.join(unknown)}" if unknown else ""


def _shell_problem(line: str) -> str:
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError as error:
        return str(error)
    command: click.Command = cli
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        if words[0] not in command.commands:
            return f"no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    unknown = sorted(given - known - {"-h", "--help"})
    return f"{command.name} has no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    assert {line: found for line in typed(page) if (found := problem_of(line))} == {}


def test_the_pages_are_full_of_commands() -> None:
    assert sum(len(list(typed(page))) for page in PAGES) > 40


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nbkit promte mortgage", "no command 'promte'"),
        ("nbkit promote mortgage --too staging", "promote has no --too"),
        ("nbkit audit verfy", "no command 'verfy'"),
        ("nbkit promote mortgage --to 'x", "No closing quotation"),
        ("%nbkit promte", "no verb 'promte'"),
        ("%nbkit gate --too x", "gate has no --too"),
        ("nbkit promote mortgage --to staging", ""),
        ("%nbkit VERB", ""),
    ],
)
def test_a_page_that_names_what_does_not_exist_would_be_found(line: str, problem: str) -> None:
    assert problem_of(line) == problem


def test_the_readme_session_is_made_of_lines_that_parse() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [re.sub(r"\s+#.*$", "", line).lstrip("%") for line in re.findall(r"^%+nbkit .*$", text, re.MULTILINE)]
    assert len(lines) >= 8
    for line in lines:
        try:
            assert parse(line.removeprefix("nbkit ")).verb in VERBS
        except UsageError as error:
            pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
