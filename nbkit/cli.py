"""The ``nbkit`` command: parse, call a verb, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nbkit
from nbkit import lifecycle
from nbkit.errors import NbkitError, ParameterError, UsageError
from nbkit.settings import Settings

if TYPE_CHECKING:
    from nbkit.lifecycle import Result

__all__ = ["main"]

_USAGE_EXIT = 2
_REFUSED_EXIT = 1


def _settings() -> Settings:
    return Settings.from_environment(os.environ, directory=Path.cwd())


def _now() -> datetime:
    return datetime.now(UTC)


def _show(result: Result, *, as_json: bool) -> None:
    click.echo(lifecycle.to_json(result) if as_json else str(result))
    if not result.succeeded:
        raise SystemExit(_REFUSED_EXIT)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[float, str], None]]:
    from tqdm.auto import tqdm

    with tqdm(
        total=100, desc=title, file=sys.stderr, leave=False, disable=None, bar_format="{desc} {bar} {postfix}"
    ) as bar:

        def progress(fraction: float, message: str) -> None:
            bar.n = round(100 * fraction)
            bar.set_postfix_str(message)

        yield progress


_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_key = click.option("--key", default="", help="Name of the key that signs (default: NBKIT_IDENTITY).")
_to = click.option("--to", required=True, help="The stage: staging, shadow, canary or production.")


def _names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [path.parent.name for path in Path.cwd().glob("*/contract.yaml") if path.parent.name.startswith(incomplete)]


_name = click.argument("name", default="", shell_complete=_names)
_target = click.argument("target", metavar="NAME[@VERSION]", shell_complete=_names)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(nbkit.__version__, prog_name="nbkit")
def cli() -> None:
    """From a notebook to a governed decision.

    The order of the work: new, run (which packages, evaluates, explains and registers), gate, approve, promote, serve,
    audit. NAME is the folder of a use case, or nothing inside that folder.
    """


@cli.command()
@click.argument("name")
@click.option("--template", default="credit", show_default=True, help="What to begin from.")
@_json
def new(name: str, *, template: str, as_json: bool) -> None:
    """Write the folder of a new use case."""
    _show(lifecycle.new(name, template=template, directory=Path.cwd()), as_json=as_json)


@cli.group()
def contract() -> None:
    """Check a contract, or print its JSON Schema."""


@contract.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=Path("contract.yaml"))
@_json
def contract_check(file: Path, *, as_json: bool) -> None:
    """Report everything that is wrong with a contract FILE (or the folder that holds it)."""
    path = file / "contract.yaml" if file.is_dir() else file
    _show(lifecycle.check_contract(path), as_json=as_json)


@contract.command("schema")
def contract_schema() -> None:
    """Print the JSON Schema of contract.yaml, for editors."""
    import json

    from nbkit.contract import contract_schema as schema

    click.echo(json.dumps(schema(), indent=2))


@cli.command()
@_name
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="KEY=VALUE", help="A notebook parameter.")
@_json
def run(name: str, *, pairs: tuple[str, ...], as_json: bool) -> None:
    """Run the notebook of NAME as one MLflow run.

    Parameters are checked against the notebook's annotations before a kernel starts.
    """
    parameters = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ParameterError(f"-p: expected KEY=VALUE, got {pair!r}")
        if key in parameters:
            raise ParameterError(f"-p: {key} is given twice")
        parameters[key] = value
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with _bar(f"run {use_case.contract.name}") as progress:
        result = lifecycle.run(use_case, settings=_settings(), parameters=parameters, progress=progress)
    _show(result, as_json=as_json)


@cli.command()
@_name
@click.option("--from", "source", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--share", default=0.3, show_default=True, help="Share of the rows, 0..1.")
@click.option("--seed", default=0, show_default=True)
def freeze(name: str, *, source: Path, share: float, seed: int) -> None:
    """Freeze a share of a CSV or Parquet file as the cases that judge every version."""
    import pandas as pd

    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    frame = pd.read_parquet(source) if source.suffix == ".parquet" else pd.read_csv(source)
    cases = lifecycle.freeze(use_case, frame, share=share, seed=seed)
    click.echo(f"{use_case.contract.name}: {len(cases.ids)} cases frozen as {cases.reference}")


@cli.command()
@_name
@_json
def evaluate(name: str, *, as_json: bool) -> None:
    """Judge the latest package of NAME on the frozen cases and against the champion."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with _bar("evaluate") as progress:
        result = lifecycle.evaluate(use_case, settings=_settings(), now=_now(), progress=progress)
    _show(result, as_json=as_json)


@cli.command()
@_name
@click.option("--sample", default=500, show_default=True, help="Rows to explain and check.")
@_json
def explain(name: str, *, sample: int, as_json: bool) -> None:
    """Write the rationale document of the latest package of NAME."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    with _bar("explain") as progress:
        result = lifecycle.explain(use_case, settings=_settings(), now=_now(), sample=sample, progress=progress)
    _show(result, as_json=as_json)


@cli.command()
@_name
@_key
@_json
def register(name: str, *, key: str, as_json: bool) -> None:
    """Register the latest package of NAME as a new version and sign the submission."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    _show(lifecycle.register(use_case, settings=_settings(), now=_now(), key=key), as_json=as_json)


@cli.command()
@_target
@_to
@_json
def gate(target: str, *, to: str, as_json: bool) -> None:
    """Show every gate before a stage and what to do about each."""
    _show(lifecycle.gate(target, to=to, settings=_settings(), now=_now()), as_json=as_json)


@cli.command()
@_target
@_to
@_key
@_json
def approve(target: str, *, to: str, key: str, as_json: bool) -> None:
    """Sign a move as its approver; never as its submitter."""
    _show(lifecycle.approve(target, to=to, settings=_settings(), now=_now(), key=key), as_json=as_json)


@cli.command()
@_target
@_to
@_key
@_json
def promote(target: str, *, to: str, key: str, as_json: bool) -> None:
    """Move a version to a stage that its evidence allows; its submitter signs."""
    _show(lifecycle.promote(target, to=to, settings=_settings(), now=_now(), key=key), as_json=as_json)


@cli.command()
@click.argument("name", shell_complete=_names)
@click.option("--reason", required=True, help="Why; kept in the evidence.")
@_key
@_json
def rollback(name: str, *, reason: str, key: str, as_json: bool) -> None:
    """Return production to the last version whose evidence still holds."""
    _show(lifecycle.rollback(name, reason=reason, settings=_settings(), now=_now(), key=key), as_json=as_json)


@cli.group()
def keys() -> None:
    """Make signing keys."""


@keys.command("new")
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, help="submitter, approver, operator or ledger; repeatable."
)
@click.option("--owner", default="", help="The person who holds it (default: NAME).")
@_json
def keys_new(name: str, *, roles: tuple[str, ...], owner: str, as_json: bool) -> None:
    """Make a private key (0600, outside the repository) and trust it on this machine."""
    _show(lifecycle.make_key(name, roles=roles, owner=owner, settings=_settings(), now=_now()), as_json=as_json)


@cli.command()
@click.argument("name", shell_complete=_names)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def serve(name: str, *, host: str, port: int) -> None:
    """Answer decisions from the verified version in production."""
    raise SystemExit(lifecycle.serve(name, settings=_settings(), host=host, port=port, report=click.echo))


@cli.group()
def audit() -> None:
    """Prove and replay what was decided."""


@audit.command("verify")
@_name
@_json
def audit_verify(name: str, *, as_json: bool) -> None:
    """Check every record of NAME (or of every model) against its Merkle tree and signed checkpoints."""
    settings = _settings()
    names = (name,) if name else lifecycle.find_ledgers(settings)
    if not names:
        raise UsageError(f"no ledger under {settings.store}", next_step="nbkit serve NAME")
    results = [lifecycle.audit_verify(each, settings=settings) for each in names]
    for result in results:
        click.echo(lifecycle.to_json(result) if as_json else str(result))
    if not all(result.succeeded for result in results):
        raise SystemExit(_REFUSED_EXIT)


@audit.command("replay")
@click.argument("record_id", metavar="ID")
@_json
def audit_replay(record_id: str, *, as_json: bool) -> None:
    """Score a recorded decision again, bit for bit."""
    _show(lifecycle.audit_replay(record_id, settings=_settings()), as_json=as_json)


@cli.command()
@_json
def demo(*, as_json: bool) -> None:
    """Do the whole job on real mortgage decisions in this folder."""

    def report(line: str) -> None:
        click.echo(line, err=True)

    with _bar("notebook") as progress:
        result = lifecycle.demo(settings=_settings(), directory=Path.cwd(), report=report, progress=progress)
    _show(result, as_json=as_json)


@cli.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """Start the MLflow UI with telemetry and job execution off, and print where reviewers should look."""
    raise SystemExit(lifecycle.open_ui(settings=_settings(), port=port, report=click.echo))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(nbkit completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover  the choices above are those that click knows
        raise UsageError(f"shell: {shell} is not known")
    click.echo(kind(cli, {}, "nbkit", "_NBKIT_COMPLETE").source())


def main() -> None:
    """Run the command; an error is one line, exit code 2 for a wrong call and 1 for a refusal."""
    # Nothing that nbkit starts sends anything anywhere; set before anything imports mlflow.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    try:
        cli(prog_name="nbkit")
    except NbkitError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(_USAGE_EXIT if isinstance(error, ParameterError | UsageError) else _REFUSED_EXIT) from None
