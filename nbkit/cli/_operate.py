"""Serve decisions, prove them, and let people look."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import REFUSED_EXIT, bar, json_option, model_argument, name_argument, settings, show
from nbkit.errors import UsageError


@click.command()
@model_argument
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def serve(name: str, *, host: str, port: int) -> None:
    """Answer decisions from the verified version in production."""
    raise SystemExit(lifecycle.serve(name, settings=settings(), host=host, port=port, report=click.echo))


@click.group()
def audit() -> None:
    """Prove and replay what was decided."""


@audit.command("verify")
@name_argument
@json_option
def audit_verify(name: str, *, as_json: bool) -> None:
    """Check every record of NAME (or of every model) against its Merkle tree and signed checkpoints."""
    where = settings()
    names = (name,) if name else lifecycle.find_ledgers(where)
    if not names:
        raise UsageError(f"no ledger under {where.store}", next_step="nbkit serve NAME")
    results = [lifecycle.audit_verify(each, settings=where) for each in names]
    for result in results:
        click.echo(lifecycle.to_json(result) if as_json else str(result))
    if not all(result.succeeded for result in results):
        raise SystemExit(REFUSED_EXIT)


@audit.command("replay")
@click.argument("record_id", metavar="ID")
@json_option
def audit_replay(record_id: str, *, as_json: bool) -> None:
    """Score a recorded decision again, bit for bit."""
    show(lifecycle.audit_replay(record_id, settings=settings()), as_json=as_json)


@click.command()
@json_option
def demo(*, as_json: bool) -> None:
    """Do the whole job on real mortgage decisions in this folder."""

    def report(line: str) -> None:
        click.echo(line, err=True)

    with bar("notebook") as progress:
        result = lifecycle.demo(settings=settings(), directory=Path.cwd(), report=report, progress=progress)
    show(result, as_json=as_json)


@click.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """Start the MLflow UI with telemetry and job execution off, and print where reviewers should look."""
    raise SystemExit(lifecycle.open_ui(settings=settings(), port=port, report=click.echo))


COMMANDS = (serve, audit, demo, ui)
