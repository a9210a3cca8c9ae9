"""Keys of callers: made, listed, revoked; a worker takes them up within a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.lifecycle._view import Result, Table, View
from nbkit.serve import AccessFile, ApiKey
from nbkit.settings import Settings

_FILE = "apikeys.json"


def api_keys_path(settings: Settings) -> Path:
    """Return the file of the callers' keys on this machine."""
    return settings.home / _FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyMade(Result):
    """A caller's new key; the token is shown once and kept nowhere."""

    name: str
    id: str
    token: str
    scopes: tuple[str, ...]
    expires_at: str
    path: Path

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}: key {self.id} made; its token is shown only now",
            facts=[
                ("token", self.token),
                ("scopes", ", ".join(self.scopes)),
                ("ends", self.expires_at or "never"),
                ("file", f"{self.path} (digests only)"),
            ],
            next_step=f"nbkit serve NAME --api-keys {self.path}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys(Result):
    """The callers' keys, without their secrets."""

    path: Path
    at: datetime
    keys: tuple[ApiKey, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        holding = sum(key.holds(now=self.at) for key in self.keys)
        rows = tuple((key.id, key.name, ", ".join(key.scopes), self._state(key)) for key in self.keys)
        table = Table(columns=("id", "caller", "scopes", "state"), rows=rows)
        return View(headline=f"{self.path}: {holding} of {len(self.keys)} keys count", tables=[table] if rows else [])

    def _state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return f"revoked {key.revoked_at[:16]}"
        if not key.holds(now=self.at):
            return f"ended {key.expires_at[:16]}"
        return f"until {key.expires_at[:16]}" if key.expires_at else "counts"


def make_api_key(
    name: str, *, scopes: tuple[str, ...], days: int | None = None, settings: Settings, now: datetime
) -> ApiKeyMade:
    """Make a key for a caller. To rotate: make the new one, hand it over, revoke the old one.

    Raises
    ------
    AccessError
        No scope or an unknown one, or the file cannot be read.
    """
    path = api_keys_path(settings)
    file = AccessFile.load(path) if path.exists() else AccessFile.begin()
    ends = now + timedelta(days=days) if days is not None else None
    file, key, token = file.add(name, scopes=scopes, now=now, expires_at=ends)
    file.save(path)
    return ApiKeyMade(name=name, id=key.id, token=token, scopes=key.scopes, expires_at=key.expires_at, path=path)


def api_keys(*, settings: Settings, now: datetime) -> ApiKeys:
    """Return the callers' keys.

    Raises
    ------
    AccessError
        There are none, or the file cannot be read.
    """
    path = api_keys_path(settings)
    return ApiKeys(path=path, at=now, keys=AccessFile.load(path).keys)


def revoke_api_key(key_id: str, *, settings: Settings, now: datetime) -> ApiKeys:
    """End a key now.

    Raises
    ------
    AccessError
        No key of that id counts.
    """
    path = api_keys_path(settings)
    file = AccessFile.load(path).revoke(key_id, now=now)
    file.save(path)
    return ApiKeys(path=path, at=now, keys=file.keys)
