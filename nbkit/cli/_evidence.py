"""What is signed beside a move: waivers, certificates; and evidence for those who read and verify it."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import bar, json_option, key_option, now, settings, show, target_argument, to_option


@click.command()
@target_argument
@click.option("--gate", "gate_name", required=True, help="As the table of gates calls it, such as at_least:auc.")
@to_option
@click.option("--reason", required=True, help="Why; kept in the evidence.")
@click.option("--days", type=int, default=30, show_default=True, help="How long; the evidence expires with it.")
@key_option
@json_option
def waive(target: str, *, gate_name: str, to: str, reason: str, days: int, key: str, as_json: bool) -> None:
    """Sign, as an approver, that one gate's result may stand for a while."""
    show(
        lifecycle.waive(
            target, gate_name=gate_name, to=to, reason=reason, days=days, settings=settings(), now=now(), key=key
        ),
        as_json=as_json,
    )


@click.command()
@target_argument
@key_option
@json_option
def reproduce(target: str, *, key: str, as_json: bool) -> None:
    """Train a version again from its record, compare to the bit, and sign what came out."""
    with bar("reproduce") as progress:
        result = lifecycle.reproduce(
            target, base=Path.cwd(), settings=settings(), now=now(), key=key, progress=progress
        )
    show(result, as_json=as_json)


@click.command()
@target_argument
@key_option
@json_option
def rehearse(target: str, *, key: str, as_json: bool) -> None:
    """Rehearse as the deputy: train again, and a dry run of the rollback; signed by the deputy's own key."""
    with bar("rehearse") as progress:
        result = lifecycle.rehearse(target, base=Path.cwd(), settings=settings(), now=now(), key=key, progress=progress)
    show(result, as_json=as_json)


@click.group()
def evidence() -> None:
    """Read what was signed about a version, take it away, verify it elsewhere."""


@evidence.command("show")
@target_argument
@json_option
def evidence_show(target: str, *, as_json: bool) -> None:
    """Show what was signed about a version, stage by stage."""
    show(lifecycle.show_evidence(target, settings=settings()), as_json=as_json)


@evidence.command("export")
@target_argument
@to_option
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="A folder that is empty or new.")
@json_option
def evidence_export(target: str, *, to: str, directory: Path, as_json: bool) -> None:
    """Write evidence, package and documents into a folder that an examiner can take away."""
    show(lifecycle.export_evidence(target, to=to, directory=directory, settings=settings()), as_json=as_json)


@evidence.command("verify")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--trust", "trust_file", type=click.Path(path_type=Path), help="Whose keys count (default: NBKIT_HOME).")
@click.option("--minimum-epoch", type=int, default=0, help="Refuse what was replaced by something already seen.")
@json_option
def evidence_verify(directory: Path, *, trust_file: Path | None, minimum_epoch: int, as_json: bool) -> None:
    """Verify exported evidence with nothing but its files and a trust file: no MLflow, no network."""
    trusted = trust_file or settings().trust_file
    show(lifecycle.examine(directory, trust_file=trusted, now=now(), minimum_epoch=minimum_epoch), as_json=as_json)


COMMANDS = (waive, reproduce, rehearse, evidence)
