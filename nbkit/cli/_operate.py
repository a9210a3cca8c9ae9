"""Serve decisions, prove them, and let people look."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import (
    REFUSED_EXIT,
    bar,
    json_option,
    ledger_option,
    model_argument,
    name_argument,
    settings,
    show,
)
from nbkit.errors import UsageError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@model_argument
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option("--api-keys", type=_FILE, help="API keys of callers (nbkit apikeys).")
@click.option("--oidc", type=_FILE, help="oidc.json: whose bearer tokens count.")
@click.option("--tls-cert", type=_FILE, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_FILE, help="Its private key, PEM.")
@click.option("--tls-elsewhere", is_flag=True, help="A proxy in front encrypts.")
@click.option("--routes", type=_FILE, help="routes.json: several models behind one address.")
def serve(name: str, *, host: str, port: int, routes: Path | None, tls_elsewhere: bool, **files: Path | None) -> None:
    """Answer decisions from the verified version in production, and try those in canary and shadow."""
    access = [word for option, path in files.items() if path for word in (f"--{option.replace('_', '-')}", str(path))]
    access += ["--tls-elsewhere"] if tls_elsewhere else []
    code = lifecycle.serve(
        name, settings=settings(), host=host, port=port, access=tuple(access), routes=routes, report=click.echo
    )
    raise SystemExit(code)


@click.group()
def audit() -> None:
    """Prove and replay what was decided, and add up what it cost."""


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


@audit.command("costs")
@name_argument
@click.option("--since", default="", help="Received from then on: 2026-11-01 (00:00 UTC), or a time with its zone.")
@click.option("--until", default="", help="Received before then.")
@ledger_option
@json_option
def audit_costs(name: str, *, since: str, until: str, ledger: str, as_json: bool) -> None:
    """Add up, exactly, what the decisions of NAME (or of every model) cost.

    By model, version, stage, kind, route and fallback. Exit code 1 when a record could not be counted.
    """
    with bar("costs") as progress:
        result = lifecycle.audit_costs(
            name,
            settings=settings(),
            since=lifecycle.moment_of(since, option="--since"),
            until=lifecycle.moment_of(until, option="--until"),
            ledger=ledger,
            progress=progress,
        )
    show(result, as_json=as_json)


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
@click.option("--guarded", is_flag=True, help="Refuse writes that no evidence allows (mlflow server --app-name nbkit).")
def ui(port: int, *, guarded: bool) -> None:
    """Start the MLflow UI with telemetry and job execution off, and print where reviewers should look."""
    raise SystemExit(lifecycle.open_ui(settings=settings(), port=port, report=click.echo, guarded=guarded))


COMMANDS = (serve, audit, demo, ui)
