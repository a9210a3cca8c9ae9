"""Check what decides beside the model."""

from __future__ import annotations

from pathlib import Path

import click

from nbkit import lifecycle
from nbkit.cli._shared import json_option, name_argument, show


@click.group()
def rules() -> None:
    """Check rules.json."""


@rules.command("check")
@name_argument
@json_option
def rules_check(name: str, *, as_json: bool) -> None:
    """Say which rules of NAME could never fit: unknown fields, wrong types, rows that are never reached."""
    show(lifecycle.check_rules_of(lifecycle.open_use_case(name, base=Path.cwd())), as_json=as_json)


COMMANDS = (rules,)
