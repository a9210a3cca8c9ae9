"""The ``nbkit`` command: one group, the help, and what an error becomes."""

from __future__ import annotations

import gc
import os

import click

import nbkit
from nbkit.cli import (
    _build,
    _cases,
    _clock,
    _compare,
    _deciding,
    _evidence,
    _fair,
    _govern,
    _operate,
    _registry,
    _review,
    _telling,
)
from nbkit.cli._extras import missing_extra
from nbkit.cli._shared import REFUSED_EXIT, USAGE_EXIT
from nbkit.errors import NbkitError, ParameterError, UsageError

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(nbkit.__version__, prog_name="nbkit")
def cli() -> None:
    """From a notebook to a governed decision.

    The order of the work: new, run (which packages, evaluates, explains and registers), gate, approve, promote, serve,
    audit. NAME is the folder of a use case, or nothing inside that folder.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(nbkit completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover  the choices above are those that click knows
        raise UsageError(f"shell: {shell} is not known")
    click.echo(kind(cli, {}, "nbkit", "_NBKIT_COMPLETE").source())


for _command in (
    *_build.COMMANDS,
    *_cases.COMMANDS,
    *_compare.COMMANDS,
    *_govern.COMMANDS,
    *_evidence.COMMANDS,
    *_operate.COMMANDS,
    *_deciding.COMMANDS,
    *_telling.COMMANDS,
    *_fair.COMMANDS,
    *_registry.COMMANDS,
    *_review.COMMANDS,
    *_clock.COMMANDS,
):
    cli.add_command(_command)


# Loading MLflow makes a few hundred thousand objects that stay until the end; looking through them every 700 new ones
# takes half a second of a command that takes three.
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the command; an error is one line, exit code 2 for a wrong call and 1 for a refusal."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    # Nothing that nbkit starts sends anything anywhere; set before anything imports mlflow.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    try:
        cli(prog_name="nbkit")
    except NbkitError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(USAGE_EXIT if isinstance(error, ParameterError | UsageError) else REFUSED_EXIT) from None
    except ModuleNotFoundError as error:
        told = missing_extra(error.name or "")
        if not told:
            raise
        click.echo(told, err=True)
        raise SystemExit(USAGE_EXIT) from None
    finally:
        # Otherwise Python looks through all of them twice more on its way out: another half a second.
        gc.freeze()
