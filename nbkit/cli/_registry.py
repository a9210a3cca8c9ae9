"""What the registry says, compared with what was signed."""

from __future__ import annotations

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, name_argument, now, settings, show


@click.group()
def registry() -> None:
    """Compare MLflow's registry with what was signed."""


@registry.command("audit")
@name_argument
@json_option
def registry_audit(name: str, *, as_json: bool) -> None:
    """List what no evidence backs in NAME (or in every model).

    Aliases that moved by hand, MLflow's own stages, edited tags, changed files, versions that nobody signed for.
    """
    show(lifecycle.audit_registry(name, settings=settings(), now=now()), as_json=as_json)


COMMANDS = (registry,)
