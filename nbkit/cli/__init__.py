"""The ``nbkit`` command: parse, call a verb, print. No decision is taken here."""

from nbkit.cli._main import cli, main

__all__ = ["cli", "main"]
