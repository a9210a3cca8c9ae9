"""Signed checkpoints: at this size, the tree had this root."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["Checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The root of the first ``size`` records, signed.

    A copy that is kept elsewhere (a log line, a ticket) proves later that the ledger was not cut back behind it.

    Parameters
    ----------
    ledger : str
        Id of the ledger, so that one ledger's checkpoint says nothing about another.
    size : int
        How many records the root covers.
    root : str
        ``sha256:`` and the root of their Merkle tree.
    at : str
        When it was signed, UTC.
    signature : str
        The ed25519 signature over ``statement()``, hex.
    """

    ledger: str
    size: int
    root: str
    at: str
    signature: str = ""

    def statement(self) -> bytes:
        """Return the bytes that are signed: five lines of ASCII.

        Returns
        -------
        bytes
            Title, ledger id, size, root and time.
        """
        return f"nbkit ledger checkpoint 1\n{self.ledger}\n{self.size}\n{self.root}\n{self.at}\n".encode()

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Return whether the signature is this key's.

        Parameters
        ----------
        key : Ed25519PublicKey
            The public half of the ledger's key.

        Returns
        -------
        bool
            False for any other key, and when any field was changed.
        """
        try:
            key.verify(bytes.fromhex(self.signature), self.statement())
        except (InvalidSignature, ValueError):
            return False
        return True


def sign_checkpoint(key: Ed25519PrivateKey, *, ledger: str, size: int, root: bytes, at: str) -> Checkpoint:
    """Sign the root of the first ``size`` records."""
    unsigned = Checkpoint(ledger=ledger, size=size, root=f"sha256:{root.hex()}", at=at)
    return Checkpoint(
        ledger=ledger, size=size, root=unsigned.root, at=at, signature=key.sign(unsigned.statement()).hex()
    )


def key_id(key: Ed25519PublicKey) -> str:
    """``sha256:`` and the hash of the raw public key."""
    return "sha256:" + hashlib.sha256(key.public_bytes_raw()).hexdigest()
