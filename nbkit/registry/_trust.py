"""Which keys a verifier trusts, in which roles: its own configuration, never the registry's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import rfc8785
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from nbkit.errors import EvidenceError
from nbkit.files import write_atomically
from nbkit.registry._keys import PublicKey
from nbkit.registry._strict_json import SIZE_LIMIT, read_strict

TRUST_FORMAT = 1

_RAW_KEY_BYTES = 32
_WRITABLE_BY_OTHERS = 0o022


class Role(StrEnum):
    """What a key may sign."""

    SUBMITTER = "submitter"
    APPROVER = "approver"
    OPERATOR = "operator"
    LEDGER = "ledger"


def owner_identity(owner: str) -> str:
    r"""Return the same text for every spelling of one owner.

    Case, accents, Unicode compatibility forms, invisible characters and runs of spaces do not make another person.
    Where two people are taken for one, an approval is missing: that is the safe side.

    Examples
    --------
    >>> owner_identity("Ana  Diaz") == owner_identity("\uff21na diaz\u200b")
    True
    """
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", owner).casefold())
    visible = "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Mn"})
    return " ".join(visible.split())


def _plain_owner(owner: str) -> str:
    if not owner_identity(owner) or not owner.isprintable() or owner != unicodedata.normalize("NFC", owner).strip():
        raise ValueError("expected printable text in Unicode form NFC without spaces around it")
    return owner


class TrustedKey(BaseModel):
    """One key that the verifier trusts.

    ``not_before`` (inclusive) and ``not_after`` (exclusive) bound its life; from ``revoked_at`` on nothing that it
    signed counts, however old.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key_id: str
    name: str
    owner: Annotated[str, AfterValidator(_plain_owner)]
    public_key: str
    roles: tuple[Role, ...]
    not_before: AwareDatetime
    not_after: AwareDatetime
    revoked_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.key_id != "sha256:" + hashlib.sha256(self.raw).hexdigest():
            raise ValueError("key_id: expected the sha256 of public_key")
        if not self.roles or len(set(self.roles)) != len(self.roles):
            raise ValueError(f"roles: expected at least one of {', '.join(Role)}, none twice")
        if self.not_before >= self.not_after:
            raise ValueError("not_after: expected later than not_before")
        return self

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the ed25519 public key."""
        try:
            raw = base64.b64decode(self.public_key, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("public_key: expected base64") from error
        if len(raw) != _RAW_KEY_BYTES or base64.b64encode(raw).decode("ascii") != self.public_key:
            raise ValueError(f"public_key: expected {_RAW_KEY_BYTES} bytes in base64")
        return raw

    def problem(self, *, signed_at: datetime, now: datetime) -> str:
        """Say why a signature of this key does not count; empty when it does."""
        who = f"key {self.name!r} of {self.owner}"
        if self.revoked_at is not None and now >= self.revoked_at:
            return f"{who} was revoked at {self.revoked_at.isoformat()}"
        for moment, word in ((signed_at, "at signing"), (now, "now")):
            if moment < self.not_before:
                return f"{who} is not yet valid {word} (from {self.not_before.isoformat()})"
            if moment >= self.not_after:
                return f"{who} is no longer valid {word} (until {self.not_after.isoformat()})"
        return ""


class _TrustFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1]
    keys: tuple[TrustedKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStore:
    """The keys that a verifier trusts; immutable: `add` and `revoke` return a new store.

    Parameters
    ----------
    keys : tuple of TrustedKey
        In the order of the file.
    """

    keys: tuple[TrustedKey, ...] = ()

    def find(self, key_id: str) -> TrustedKey | None:
        """Return the key of that id, or None: then its signatures mean nothing."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    def add(
        self,
        public_key: PublicKey,
        *,
        owner: str,
        roles: tuple[Role | str, ...] | list[Role | str],
        not_before: datetime,
        not_after: datetime,
    ) -> TrustStore:
        """Return a store that also trusts ``public_key``.

        Parameters
        ----------
        public_key : PublicKey
            As `new_key` returned it.
        owner : str
            The person who alone can use the key; two keys of one person are one approver.
        roles : sequence of Role
            What the key may sign.
        not_before : datetime
            First moment at which it counts, aware.
        not_after : datetime
            First moment at which it no longer counts, aware.

        Returns
        -------
        TrustStore
            A new store; this one is unchanged.

        Raises
        ------
        EvidenceError
            The key is there already, or something about the entry is wrong.
        """
        known = self.find(public_key.key_id)
        if known is not None:
            raise EvidenceError(f"key {public_key.name!r}: already trusted as {known.name!r} of {known.owner}")
        unknown = [role for role in roles if role not in set(Role)]
        if unknown:
            raise EvidenceError(f"roles: expected {', '.join(Role)}, got {', '.join(map(repr, unknown))}")
        try:
            key = TrustedKey(
                key_id=public_key.key_id,
                name=public_key.name,
                owner=owner,
                public_key=public_key.base64,
                roles=tuple(Role(role) for role in roles),
                not_before=not_before,
                not_after=not_after,
            )
        except ValidationError as error:
            raise EvidenceError(f"key {public_key.name!r}", problems=_problems(error)) from error
        return replace(self, keys=(*self.keys, key))

    def revoke(self, key_id: str, now: datetime) -> TrustStore:
        """Return a store in which nothing that the key signed counts from ``now`` on.

        Raises
        ------
        EvidenceError
            The store does not hold that key.
        """
        key = self.find(key_id)
        if key is None:
            raise EvidenceError(f"key {key_id}: not in the trust file, so it cannot be revoked")
        if key.revoked_at is not None and key.revoked_at <= now:
            return self
        revoked = key.model_copy(update={"revoked_at": now})
        return replace(self, keys=tuple(revoked if k.key_id == key_id else k for k in self.keys))

    def save(self, path: Path) -> None:
        """Write the trust file in one step: a reader sees the old one or the new one."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = [key.model_dump(mode="json") for key in self.keys]
        write_atomically(path, content=rfc8785.dumps({"format": TRUST_FORMAT, "keys": keys}) + b"\n", mode=0o600)

    @classmethod
    def load(cls, path: Path) -> TrustStore:
        """Read the trust file.

        Parameters
        ----------
        path : Path
            A file that only its owner (the caller or root) can write.

        Returns
        -------
        TrustStore
            The trusted keys.

        Raises
        ------
        EvidenceError
            Missing, writable by others, malformed, of another format, or one key listed twice.
        """
        data = read_strict(_read_protected(path), what=str(path))
        try:
            content = _TrustFile.model_validate_json(rfc8785.dumps(data))
        except ValidationError as error:
            raise EvidenceError(str(path), problems=_problems(error)) from error
        ids = [key.key_id for key in content.keys]
        twice = sorted({key.name for key in content.keys if ids.count(key.key_id) > 1})
        if twice:
            raise EvidenceError(f"{path}: a key is listed twice, as {', '.join(map(repr, twice))}")
        return cls(keys=content.keys)


def _read_protected(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            mode = stat.S_IMODE(found.st_mode)
            if not stat.S_ISREG(found.st_mode):
                raise EvidenceError(f"{path}: expected a regular file")
            if mode & _WRITABLE_BY_OTHERS:
                raise EvidenceError(f"{path}: others can write it (mode {mode:04o})", next_step=f"chmod 644 {path}")
            if found.st_uid not in {0, os.geteuid()}:
                raise EvidenceError(f"{path}: belongs to another user")
            return file.read(SIZE_LIMIT + 1)
    except FileNotFoundError as error:
        raise EvidenceError(f"{path}: no trust file, so no evidence counts", next_step="nbkit keys new NAME") from error
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror}") from error


def _problems(error: ValidationError) -> list[str]:
    return [
        ".".join(("$", *map(str, e["loc"]))) + ": " + e["msg"].removeprefix("Value error, ") for e in error.errors()
    ]
