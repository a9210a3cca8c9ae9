"""What the person concerned is told, and what the law asks: notices, reasons, duties."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._build import contract
from nbkit.cli._shared import REFUSED_EXIT, json_option, ledger_option, name_argument, settings, show


@click.command()
@click.argument("record_id", metavar="ID")
@click.option("--jurisdiction", default="", help="Such as US (default: the contract's first).")
@click.option("--language", default="", help="Such as es (default: the contract's first).")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the notice as HTML to this file.")
@ledger_option
@json_option
def notice(record_id: str, *, jurisdiction: str, language: str, html: Path | None, ledger: str, as_json: bool) -> None:
    """Render the notice of adverse action of a declined decision; exit code 1 while it has gaps."""
    made = lifecycle.notice(
        record_id,
        settings=settings(),
        jurisdiction=jurisdiction,
        language=language,
        html=html,
        base=Path.cwd(),
        ledger=ledger,
    )
    if as_json:
        show(made, as_json=True)
        return
    # The notice itself goes to the output, what is said about it does not: the output can be sent.
    click.echo(made.text, nl=False)
    for name, value in made.view().facts:
        click.echo(f"{name}: {value}", err=True)
    if not made.succeeded:
        raise SystemExit(REFUSED_EXIT)


@click.group()
def reasons() -> None:
    """Check the reasons that declined people are given."""


@reasons.command("check")
@name_argument
@click.option("--limit", default=1000, show_default=True, help="The newest records that are recomputed.")
@ledger_option
@json_option
def reasons_check(name: str, *, limit: int, ledger: str, as_json: bool) -> None:
    """Check reasons.yaml of NAME (or one FILE), and recorded reasons against recomputed ones."""
    found = lifecycle.check_reasons(name, base=Path.cwd(), settings=settings(), limit=limit, ledger=ledger)
    show(found, as_json=as_json)


@contract.command("duties")
@name_argument
@json_option
def contract_duties(name: str, *, as_json: bool) -> None:
    """Show what the law asks in the contract's jurisdictions, and what the contract visibly lacks."""
    use_case = lifecycle.open_use_case(name, base=Path.cwd())
    show(lifecycle.contract_duties(use_case.contract), as_json=as_json)


COMMANDS = (notice, reasons)
