"""Who may call: API keys, kept as keyed digests in one file that is read again when it changes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from nbkit.errors import AccessError
from nbkit.files import write_atomically

__all__ = ["SCOPES", "AccessFile", "ApiKey"]

# Raise it when a field changes its meaning; tests/unit/serve/golden keeps a file of each older format.
ACCESS_FORMAT = 1

# What a key may allow; ``admin`` allows everything.
SCOPES = ("decide", "explain", "override", "metrics", "admin")

_PREFIX = "nbk_"
_SECRET_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key of a caller, without its secret.

    Parameters
    ----------
    id : str
        Names it in lists.
    name : str
        The caller.
    scopes : tuple of str
        What it may do.
    digest : str
        Keyed digest of the whole token.
    created_at, expires_at : str
        ISO 8601, UTC; the second empty when it does not end.
    revoked_at : str
        When it was revoked; empty while it holds.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    digest: str
    created_at: str
    expires_at: str = ""
    revoked_at: str = ""

    def holds(self, *, now: datetime) -> bool:
        """Return whether the key counts.

        Parameters
        ----------
        now : datetime
            Aware.

        Returns
        -------
        bool
            False once it is revoked or over.
        """
        return not self.revoked_at and (not self.expires_at or now < datetime.fromisoformat(self.expires_at))


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    format: int
    salt: str
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFile:
    """The keys of all callers.

    Parameters
    ----------
    salt : bytes
        Key of the digests, so that digests of one file say nothing in another.
    keys : tuple of ApiKey
        In the order they were made.
    """

    salt: bytes
    keys: tuple[ApiKey, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that only its owner can read.

        Parameters
        ----------
        path : Path
            As `save` wrote it.

        Returns
        -------
        AccessFile
            Its keys.

        Raises
        ------
        AccessError
            It is missing, others can read it, or it is not such a file.
        """
        try:
            with path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_mode & _OTHERS:
                    raise AccessError(f"{path}: others can read it", next_step=f"chmod 600 {path}")
                file = msgspec.json.decode(stream.read(), type=_File)
        except FileNotFoundError as error:
            raise AccessError(f"{path}: no such file", next_step="nbkit apikeys new CALLER --scope decide") from error
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AccessError(f"{path}: expected the keys of callers: {error}") from error
        if file.format != ACCESS_FORMAT:
            raise AccessError(f"{path}: expected format {ACCESS_FORMAT}, got {file.format}")
        try:
            for key in file.keys:
                if key.expires_at and datetime.fromisoformat(key.expires_at).tzinfo is None:
                    raise ValueError(f"key {key.id!r}: expires_at: expected a time with its zone")
            return cls(salt=bytes.fromhex(file.salt), keys=file.keys)
        except ValueError as error:
            raise AccessError(f"{path}: expected the keys of callers: {error}") from error

    @classmethod
    def begin(cls) -> Self:
        """Return a file without keys.

        Returns
        -------
        AccessFile
            With a salt of its own.
        """
        return cls(salt=secrets.token_bytes(_SECRET_BYTES))

    def save(self, path: Path) -> None:
        """Write the file, readable by its owner alone.

        Parameters
        ----------
        path : Path
            Replaced in one step.
        """
        keys = [asdict(key) for key in self.keys]
        content = {"format": ACCESS_FORMAT, "salt": self.salt.hex(), "keys": keys}
        write_atomically(path, content=json.dumps(content, indent=2).encode(), mode=0o600)

    def add(
        self, name: str, *, scopes: Iterable[str], now: datetime, expires_at: datetime | None = None
    ) -> tuple[Self, ApiKey, str]:
        """Make a key.

        Parameters
        ----------
        name : str
            The caller.
        scopes : iterable of str
            Of `SCOPES`.
        now : datetime
            Aware.
        expires_at : datetime, optional
            Aware; never by default.

        Returns
        -------
        tuple
            The file with the key, the key, and the token: shown once, kept nowhere.

        Raises
        ------
        AccessError
            No scope, an unknown one, or no name.
        """
        wanted = tuple(dict.fromkeys(scopes))
        problems = [f"scope: expected one of {', '.join(SCOPES)}, got {s!r}" for s in wanted if s not in SCOPES]
        problems += [] if wanted else ["scope: expected at least one"]
        problems += [] if name.isprintable() and 0 < len(name) <= 64 else ["name: expected 1..64 printable characters"]
        if problems:
            raise AccessError("api key", problems=problems)
        identity = secrets.token_hex(4)
        token = f"{_PREFIX}{identity}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        key = ApiKey(
            id=identity,
            name=name,
            scopes=wanted,
            digest=self.digest(token.encode()),
            created_at=now.isoformat(),
            expires_at=expires_at.isoformat() if expires_at else "",
        )
        return replace(self, keys=(*self.keys, key)), key, token

    def revoke(self, identity: str, *, now: datetime) -> Self:
        """End a key now.

        Parameters
        ----------
        identity : str
            Its id.
        now : datetime
            Aware.

        Returns
        -------
        AccessFile
            Where it does not count any more.

        Raises
        ------
        AccessError
            No such key, or it is revoked already.
        """
        if identity not in {key.id for key in self.keys if not key.revoked_at}:
            raise AccessError(f"api key {identity!r}: none of that id counts", next_step="nbkit apikeys list")
        ended = now.isoformat()
        return replace(self, keys=tuple(replace(k, revoked_at=ended) if k.id == identity else k for k in self.keys))

    def digest(self, token: bytes) -> str:
        """Return the keyed digest of a token.

        Parameters
        ----------
        token : bytes
            As a caller sends it.

        Returns
        -------
        str
            Hex. A token holds 256 random bits: no guess is tried, so no slow hash is needed.
        """
        return hashlib.blake2b(token, key=self.salt, digest_size=32).hexdigest()
