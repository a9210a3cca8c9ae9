"""Make the keys that sign, and say what this machine trusts them for."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.errors import UsageError
from nbkit.lifecycle._view import Result, Table, View
from nbkit.registry import PublicKey, SigningKey, TrustedKey, TrustStore, load_key, new_key
from nbkit.settings import Settings

LEDGER_KEY = "ledger"
_KEY_VALID_DAYS = 730
_RAW_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade(Result):
    """A new signing key and what this machine trusts it for."""

    name: str
    key_id: str
    path: Path
    owner: str
    roles: tuple[str, ...]
    public_key: str = ""

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}: key made for {self.owner}",
            facts=[
                ("private key", f"{self.path} (readable by you alone; never put it into a repository)"),
                ("key id", self.key_id),
                ("public key", self.public_key),
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
        name=name, key_id=public.key_id, path=settings.keys / f"{name}.pem", owner=owner or name, roles=roles,
        public_key=public.base64,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList(Result):
    """The keys that this machine trusts."""

    trust_file: Path
    keys: tuple[TrustedKey, ...]
    now: datetime

    def view(self) -> View:
        """Return what a person is shown."""
        rows = tuple(
            (
                key.name,
                key.owner,
                ", ".join(key.roles),
                f"{key.not_before.date()} to {key.not_after.date()}",
                key.problem(signed_at=self.now, now=self.now) or "counts",
                key.key_id,
            )
            for key in self.keys
        )
        table = Table(columns=("name", "owner", "roles", "valid", "now", "key id"), rows=rows)
        return View(headline=f"{self.trust_file}: {len(self.keys)} keys are trusted here", tables=[table])


def list_keys(*, settings: Settings, now: datetime) -> KeyList:
    """Show which keys this machine trusts, in which roles, and whether they count now.

    Raises
    ------
    EvidenceError
        There is no trust file, or it cannot be trusted itself.
    """
    return KeyList(trust_file=settings.trust_file, keys=TrustStore.load(settings.trust_file).keys, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged(Result):
    """A key that this machine trusts from now on, or no longer."""

    name: str
    key_id: str
    owner: str
    change: str

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name} of {self.owner}: {self.change}",
            facts=[("key id", self.key_id)],
            next_step="nbkit keys list",
        )


def revoke_key(name: str, *, settings: Settings, now: datetime) -> KeyChanged:
    """Stop trusting a key on this machine: nothing that it signed counts from now on, however old.

    Parameters
    ----------
    name : str
        Name or id of the key in the trust file.
    settings : Settings
        Where the trust file is.
    now : datetime
        From when on.

    Returns
    -------
    KeyChanged
        What was revoked. A worker reads the trust file again within a second and stops serving what rests on the key.

    Raises
    ------
    UsageError
        The trust file holds no such key, or several of that name.
    """
    trust = TrustStore.load(settings.trust_file)
    found = [key for key in trust.keys if name in (key.name, key.key_id)]
    if len(found) != 1:
        ids = ", ".join(key.key_id for key in found) or "none"
        raise UsageError(f"revoke: expected one key {name!r}, got {ids}", next_step="nbkit keys list")
    trust.revoke(found[0].key_id, now).save(settings.trust_file)
    return KeyChanged(
        name=found[0].name, key_id=found[0].key_id, owner=found[0].owner, change=f"revoked from {now.isoformat()} on"
    )


def trust_key(
    name: str, *, public_key: str, owner: str, roles: tuple[str, ...], days: int, settings: Settings, now: datetime
) -> KeyChanged:
    """Trust a key that somebody else made, in the given roles; it counts from now on, never for what is older.

    Raises
    ------
    UsageError
        Not a public key in base64, no owner or role.
    EvidenceError
        The key is trusted already, or something about the entry is wrong.
    """
    try:
        raw = base64.b64decode(public_key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _RAW_KEY_BYTES:
        raise UsageError(
            f"trust: expected the {_RAW_KEY_BYTES} bytes of a public key in base64", next_step=f"nbkit keys new {name}"
        )
    if not owner.strip() or not roles:
        raise UsageError("trust: a key needs an owner and a role", next_step="nbkit keys trust --help")
    if days < 1:
        raise UsageError(f"trust: expected at least 1 day, got {days}")
    trust = TrustStore.load(settings.trust_file) if settings.trust_file.exists() else TrustStore()
    key = PublicKey(name=name, raw=raw)
    trust.add(key, owner=owner, roles=roles, not_before=now, not_after=now + timedelta(days=days)).save(
        settings.trust_file
    )
    return KeyChanged(name=name, key_id=key.key_id, owner=owner, change=f"trusted as {', '.join(roles)}")


def ledger_key(settings: Settings, *, now: datetime) -> SigningKey:
    """Return the key that signs the ledger's checkpoints on this machine, made when there is none."""
    if not (settings.keys / f"{LEDGER_KEY}.pem").exists():
        make_key(LEDGER_KEY, roles=("ledger",), settings=settings, now=now)
    return load_key(LEDGER_KEY, directory=settings.keys)
