"""Where the decisions of a model are recorded; light, for verbs that only ask whether there is a ledger."""

from __future__ import annotations

from pathlib import Path

from nbkit.audit import Place, is_address
from nbkit.errors import UsageError
from nbkit.settings import Settings

# What the one ledger of all models is called where a model's name would stand.
_SHARED = "ledger"


def ledger_path(name: str, *, settings: Settings) -> Path:
    """Return where the decisions of a model are recorded, unless the settings name one ledger for all."""
    return settings.store / "ledger" / f"{name}.db"


def place_of_ledger(given: str) -> Place:
    """Return a ledger that was named: a file, or the address of a PostgreSQL database.

    Raises
    ------
    UsageError
        No such file.
    """
    if is_address(given):
        return given
    if not Path(given).is_file():
        raise UsageError(f"ledger {given!r}: no such file", next_step="--ledger FILE or --ledger postgresql://…")
    return Path(given)


def ledger_place(name: str, *, settings: Settings) -> Place:
    """Return where the decisions of a model are recorded: a file, or the address of a database.

    Raises
    ------
    UsageError
        The settings name something else.
    """
    if not settings.ledger:
        return ledger_path(name, settings=settings)
    if is_address(settings.ledger):
        return settings.ledger
    if "://" in settings.ledger:
        # Not repeated: it may hold a password.
        raise UsageError("NBKIT_LEDGER: expected a file or postgresql://…", next_step="export NBKIT_LEDGER=…")
    return Path(settings.ledger)


def ledger_begun(name: str, *, settings: Settings) -> bool:
    """Return whether there is a ledger to read; whether a database has one is found out by asking it."""
    place = ledger_place(name, settings=settings)
    return isinstance(place, str) or place.exists()


def find_ledgers(settings: Settings) -> tuple[str, ...]:
    """Return the models that have a ledger on this machine; one name where all share one."""
    if settings.ledger:
        return (_SHARED,)
    return tuple(sorted(path.stem for path in (settings.store / "ledger").glob("*.db")))
