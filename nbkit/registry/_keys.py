"""Ed25519 keys: private ones are files that only their owner can read, outside every repository."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from nbkit.errors import KeyFileError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
# A PKCS8 file of an ed25519 key has 119 bytes; anything much larger is not one.
_FILE_LIMIT = 4096
_OWNER_ONLY = 0o600
_WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The half of a key that verifiers hold.

    Parameters
    ----------
    name : str
        What its owner calls it; never used to decide anything.
    raw : bytes
        The 32 bytes of the ed25519 public key.

    Examples
    --------
    >>> PublicKey(name="ana", raw=bytes(32)).key_id[:17]
    'sha256:66687aadf8'
    """

    name: str
    raw: bytes

    @property
    def key_id(self) -> str:
        """``sha256:`` and the hash of the raw public key."""
        return "sha256:" + hashlib.sha256(self.raw).hexdigest()

    @property
    def base64(self) -> str:
        """The raw key as it stands in the trust file."""
        return base64.b64encode(self.raw).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key, ready to sign; its secret half never shows in ``repr``."""

    public: PublicKey
    secret: Ed25519PrivateKey = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the key's file."""
        return self.public.name

    @property
    def key_id(self) -> str:
        """``sha256:`` and the hash of the raw public key."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte ed25519 signature of ``message``."""
        return self.secret.sign(message)


def new_key(name: str, *, directory: Path) -> PublicKey:
    """Make a key and write its private half to ``directory/NAME.pem`` (PKCS8, mode 0600).

    Parameters
    ----------
    name : str
        Lower-case letters, digits, ``-`` and ``_``, beginning with a letter.
    directory : Path
        Made with mode 0700 when missing; must lie outside every git repository.

    Returns
    -------
    PublicKey
        The half to put into the trust file.

    Raises
    ------
    KeyFileError
        Unusable name, a directory inside a repository or writable by others, or a key of that name exists.
    """
    path = _path(name, directory)
    _refuse_repository(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_shared(directory)
    secret = Ed25519PrivateKey.generate()
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _OWNER_ONLY)
    except FileExistsError as error:
        message = f"{path}: exists already; a key is never overwritten"
        raise KeyFileError(message, next_step=f"nbkit keys new {name}-2") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, _OWNER_ONLY)
        file.write(pem)
        file.flush()
        os.fsync(descriptor)
    return _public(name, secret)


def load_key(name: str, *, directory: Path) -> SigningKey:
    """Read a private key from ``directory/NAME.pem``.

    Parameters
    ----------
    name : str
        As given to `new_key`.
    directory : Path
        Where private keys lie.

    Returns
    -------
    SigningKey
        Ready to sign.

    Raises
    ------
    KeyFileError
        No such key, a file that is not 0600, not the caller's own, a link, or not an ed25519 key in PKCS8.
    """
    path = _path(name, directory)
    data = _read_private(path, name=name)
    _refuse_shared(directory)
    try:
        secret = load_pem_private_key(data, password=None)
    # The library's message may quote the file, so it is not repeated.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        secret = None
    if not isinstance(secret, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path}: expected an unencrypted ed25519 private key in PKCS8 PEM", next_step=f"nbkit keys new {name}-2"
        )
    return SigningKey(public=_public(name, secret), secret=secret)


def _path(name: str, directory: Path) -> Path:
    if not _NAME.match(name):
        raise KeyFileError(
            f"key name: expected lower-case letters, digits, '-' and '_', beginning with a letter, got {name!r}",
            next_step="nbkit keys new NAME",
        )
    return directory / f"{name}.pem"


def _read_private(path: Path, *, name: str) -> bytes:
    try:
        # O_NONBLOCK: a named pipe in the key's place must not hang the caller.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise KeyFileError(f"{path}: no such key", next_step=f"nbkit keys new {name}") from error
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}", next_step=f"nbkit keys new {name}-2") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path}: expected a regular file", next_step=f"nbkit keys new {name}-2")
        if mode != _OWNER_ONLY:
            raise KeyFileError(f"{path}: expected mode 0600, got {mode:04o}", next_step=f"chmod 600 {path}")
        if found.st_uid != os.geteuid():
            raise KeyFileError(f"{path}: belongs to another user", next_step=f"nbkit keys new {name}-2")
        return file.read(_FILE_LIMIT)


def _refuse_repository(directory: Path) -> None:
    resolved = directory.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / ".git").exists():
            raise KeyFileError(
                f"{directory}: lies inside the repository {folder}; a private key must not",
                next_step="set NBKIT_HOME to a folder outside, then nbkit keys new NAME",
            )


def _refuse_shared(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & _WRITABLE_BY_OTHERS:
        raise KeyFileError(f"{directory}: others can write here (mode {mode:04o})", next_step=f"chmod 700 {directory}")


def _public(name: str, secret: Ed25519PrivateKey) -> PublicKey:
    return PublicKey(name=name, raw=secret.public_key().public_bytes_raw())
