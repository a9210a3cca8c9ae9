"""Who may move a version to which stage."""

from __future__ import annotations

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, key_option, model_argument, now, settings, show, target_argument, to_option


@click.command()
@target_argument
@to_option
@json_option
def gate(target: str, *, to: str, as_json: bool) -> None:
    """Show every gate before a stage and what to do about each."""
    show(lifecycle.gate(target, to=to, settings=settings(), now=now()), as_json=as_json)


@click.command()
@target_argument
@to_option
@key_option
@json_option
def approve(target: str, *, to: str, key: str, as_json: bool) -> None:
    """Sign a move as its approver; never as its submitter."""
    show(lifecycle.approve(target, to=to, settings=settings(), now=now(), key=key), as_json=as_json)


@click.command()
@target_argument
@to_option
@key_option
@json_option
def promote(target: str, *, to: str, key: str, as_json: bool) -> None:
    """Move a version to a stage that its evidence allows; its submitter signs."""
    show(lifecycle.promote(target, to=to, settings=settings(), now=now(), key=key), as_json=as_json)


@click.command()
@model_argument
@click.option("--reason", required=True, help="Why; kept in the evidence.")
@key_option
@json_option
def rollback(name: str, *, reason: str, key: str, as_json: bool) -> None:
    """Return production to the last version whose evidence still holds."""
    show(lifecycle.rollback(name, reason=reason, settings=settings(), now=now(), key=key), as_json=as_json)


@click.group()
def keys() -> None:
    """Make signing keys."""


@keys.command("new")
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, help="submitter, approver, operator or ledger; repeatable."
)
@click.option("--owner", default="", help="The person who holds it (default: NAME).")
@json_option
def keys_new(name: str, *, roles: tuple[str, ...], owner: str, as_json: bool) -> None:
    """Make a private key (0600, outside the repository) and trust it on this machine."""
    show(lifecycle.make_key(name, roles=roles, owner=owner, settings=settings(), now=now()), as_json=as_json)


COMMANDS = (gate, approve, promote, rollback, keys)
