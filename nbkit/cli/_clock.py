"""What the time may be, and who says so."""

from __future__ import annotations

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, now, settings, show


@click.group()
def clock() -> None:
    """See whether the clock fits what was seen before, and say that it is right."""


@clock.command("show")
@json_option
def clock_show(*, as_json: bool) -> None:
    """Show what the time must be at least, for servers and for batches on this machine."""
    show(lifecycle.show_clock(settings=settings(), now=now()), as_json=as_json)


@clock.command("accept")
@click.option("--as", "who", default="", help="Who says so (default: NBKIT_IDENTITY).")
@click.option("--reason", required=True, help="Why the later time was wrong; kept in alerts.jsonl.")
@json_option
def clock_accept(*, who: str, reason: str, as_json: bool) -> None:
    """Let the clock of now be right, where a later time was seen by mistake: what had ended by it may count again."""
    where = settings()
    told = lifecycle.accept_clock(who=who or where.identity, reason=reason, settings=where, now=now())
    show(told, as_json=as_json)


COMMANDS = (clock,)
