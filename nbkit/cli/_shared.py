"""What every command shares: options, the printed result, the progress bar, settings and clock."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nbkit import lifecycle
from nbkit.settings import Settings

if TYPE_CHECKING:
    from nbkit.lifecycle import Result

USAGE_EXIT = 2
REFUSED_EXIT = 1


def settings() -> Settings:
    return Settings.from_environment(os.environ, directory=Path.cwd())


def now() -> datetime:
    return datetime.now(UTC)


def show(result: Result, *, as_json: bool) -> None:
    """Print a result; one that did not succeed ends the command with exit code 1."""
    click.echo(lifecycle.to_json(result) if as_json else str(result))
    if not result.succeeded:
        raise SystemExit(REFUSED_EXIT)


@contextmanager
def bar(title: str) -> Iterator[Callable[[float, str], None]]:
    from tqdm.auto import tqdm

    with tqdm(
        total=100, desc=title, file=sys.stderr, leave=False, disable=None, bar_format="{desc} {bar} {postfix}"
    ) as shown:

        def progress(fraction: float, message: str) -> None:
            shown.n = round(100 * fraction)
            shown.set_postfix_str(message)

        yield progress


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [path.parent.name for path in Path.cwd().glob("*/contract.yaml") if path.parent.name.startswith(incomplete)]


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
ledger_option = click.option(
    "--ledger", default="", help="A file or postgresql://… (default: what nbkit serve wrote on this machine)."
)
key_option = click.option("--key", default="", help="Name of the key that signs (default: NBKIT_IDENTITY).")
to_option = click.option("--to", required=True, help="The stage: staging, shadow, canary or production.")
name_argument = click.argument("name", default="", shell_complete=complete_names)
model_argument = click.argument("name", shell_complete=complete_names)
target_argument = click.argument("target", metavar="NAME[@VERSION]", shell_complete=complete_names)
