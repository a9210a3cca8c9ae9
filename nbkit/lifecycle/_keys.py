"""Make the keys that sign, and say what this machine trusts them for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.errors import UsageError
from nbkit.lifecycle._view import Result, View
from nbkit.registry import SigningKey, TrustStore, load_key, new_key
from nbkit.settings import Settings

LEDGER_KEY = "ledger"
_KEY_VALID_DAYS = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade(Result):
    """A new signing key and what this machine trusts it for."""

    name: str
    key_id: str
    path: Path
    owner: str
    roles: tuple[str, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}: key made for {self.owner}",
            facts=[
                ("private key", f"{self.path} (readable by you alone; never put it into a repository)"),
                ("key id", self.key_id),
                ("trusted here as", ", ".join(self.roles)),
            ],
            next_step=f"export NBKIT_IDENTITY={self.name}",
        )


def make_key(name: str, *, roles: tuple[str, ...], owner: str = "", settings: Settings, now: datetime) -> KeyMade:
    """Make a signing key for a person and trust it on this machine in the given roles.

    Raises
    ------
    UsageError
        No role, or an unknown one.
    KeyFileError
        A key of that name exists.
    """
    if not roles:
        raise UsageError("a key needs a role", next_step=f"nbkit keys new {name} --role submitter")
    trust = TrustStore.load(settings.trust_file) if settings.trust_file.exists() else TrustStore()
    public = new_key(name, directory=settings.keys)
    trusted = trust.add(
        public,
        owner=owner or name,
        roles=roles,
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=_KEY_VALID_DAYS),
    )
    trusted.save(settings.trust_file)
    return KeyMade(
        name=name, key_id=public.key_id, path=settings.keys / f"{name}.pem", owner=owner or name, roles=roles
    )


def ledger_key(settings: Settings, *, now: datetime) -> SigningKey:
    """Return the key that signs the ledger's checkpoints on this machine, made when there is none."""
    if not (settings.keys / f"{LEDGER_KEY}.pem").exists():
        make_key(LEDGER_KEY, roles=("ledger",), settings=settings, now=now)
    return load_key(LEDGER_KEY, directory=settings.keys)
