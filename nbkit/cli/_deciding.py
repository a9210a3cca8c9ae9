"""What decides beside the model: rules, and people."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, model_argument, name_argument, now, settings, show


@click.group()
def rules() -> None:
    """Check rules.json."""


@rules.command("check")
@name_argument
@json_option
def rules_check(name: str, *, as_json: bool) -> None:
    """Say which rules of NAME could never fit: unknown fields, wrong types, rows that are never reached."""
    show(lifecycle.check_rules_of(lifecycle.open_use_case(name, base=Path.cwd())), as_json=as_json)


@click.command()
@model_argument
@click.option("--share", type=float, default=None, help="One of rollout.canary_shares (default: the next).")
@json_option
def canary(name: str, *, share: float | None, as_json: bool) -> None:
    """Let the canary of NAME answer the next share of the traffic."""
    show(lifecycle.canary(name, share=share, settings=settings(), now=now()), as_json=as_json)


@click.group()
def tickets() -> None:
    """Decide what waits for a person."""


_ticket_argument = click.argument("ticket", metavar="TICKET")
_as_option = click.option("--as", "who", default="", help="Who takes it (default: NBKIT_IDENTITY).")


@tickets.command("list")
@model_argument
@click.option("--all", "every", is_flag=True, help="Also what is decided or expired.")
@json_option
def tickets_list(name: str, *, every: bool, as_json: bool) -> None:
    """Show the decisions of NAME that wait for a person, the most urgent first."""
    show(lifecycle.tickets(name, settings=settings(), now=now(), every=every), as_json=as_json)


@tickets.command("take")
@model_argument
@_ticket_argument
@_as_option
@json_option
def tickets_take(name: str, ticket: str, *, who: str, as_json: bool) -> None:
    """Take a ticket, so that nobody else works on it meanwhile."""
    where = settings()
    result = lifecycle.take_ticket(name, ticket=ticket, who=who or where.identity, settings=where, now=now())
    show(result, as_json=as_json)


@tickets.command("decide")
@model_argument
@_ticket_argument
@click.option("--outcome", required=True, type=click.Choice(["approve", "decline"]))
@click.option("--reason", required=True, help="One of the codes in review.override_reasons.")
@click.option("--note", default="", help="In your own words.")
@_as_option
@json_option
def tickets_decide(name: str, ticket: str, *, outcome: str, reason: str, note: str, who: str, as_json: bool) -> None:
    """Decide a ticket that you have taken."""
    where = settings()
    result = lifecycle.decide_ticket(
        name,
        ticket=ticket,
        outcome=outcome,
        reason=reason,
        note=note,
        who=who or where.identity,
        settings=where,
        now=now(),
    )
    show(result, as_json=as_json)


@click.group()
def apikeys() -> None:
    """Say who may call a worker."""


@apikeys.command("new")
@click.argument("caller")
@click.option("--scope", "scopes", multiple=True, required=True, help="decide, explain, override, metrics or admin.")
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="Ends after so many days (default: never).")
@json_option
def apikeys_new(caller: str, *, scopes: tuple[str, ...], days: int | None, as_json: bool) -> None:
    """Make an API key for CALLER; its token is shown once."""
    show(lifecycle.make_api_key(caller, scopes=scopes, days=days, settings=settings(), now=now()), as_json=as_json)


@apikeys.command("list")
@json_option
def apikeys_list(*, as_json: bool) -> None:
    """Show every API key, without its secret."""
    show(lifecycle.api_keys(settings=settings(), now=now()), as_json=as_json)


@apikeys.command("revoke")
@click.argument("key_id", metavar="ID")
@json_option
def apikeys_revoke(key_id: str, *, as_json: bool) -> None:
    """End an API key; workers notice within a second."""
    show(lifecycle.revoke_api_key(key_id, settings=settings(), now=now()), as_json=as_json)


COMMANDS = (rules, canary, tickets, apikeys)
