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
    from nbkit.registry import load_lean

    load_lean()
    show(lifecycle.rollback(name, reason=reason, settings=settings(), now=now(), key=key), as_json=as_json)


@click.group()
def keys() -> None:
    """Make signing keys, and say which ones this machine trusts."""


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


@keys.command("list")
@json_option
def keys_list(*, as_json: bool) -> None:
    """Show which keys this machine trusts, in which roles, and whether they count now."""
    show(lifecycle.list_keys(settings=settings(), now=now()), as_json=as_json)


@keys.command("revoke")
@click.argument("name")
@json_option
def keys_revoke(name: str, *, as_json: bool) -> None:
    """Stop trusting a key (by name or id): nothing that it signed counts from now on."""
    show(lifecycle.revoke_key(name, settings=settings(), now=now()), as_json=as_json)


@keys.command("trust")
@click.argument("name")
@click.option("--public-key", required=True, help="As `nbkit keys new` printed it on the owner's machine.")
@click.option("--owner", required=True, help="The person who alone can use the key.")
@click.option(
    "--role", "roles", multiple=True, required=True, help="submitter, approver, operator or ledger; repeatable."
)
@click.option("--days", type=int, default=365, show_default=True, help="How long it counts.")
@json_option
def keys_trust(name: str, *, public_key: str, owner: str, roles: tuple[str, ...], days: int, as_json: bool) -> None:
    """Trust a key that somebody else made, from now on."""
    show(
        lifecycle.trust_key(
            name, public_key=public_key, owner=owner, roles=roles, days=days, settings=settings(), now=now()
        ),
        as_json=as_json,
    )


COMMANDS = (gate, approve, promote, rollback, keys)
