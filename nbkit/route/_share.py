"""A canary's share of the subjects: the same subject stays with the same version, and a growing share only adds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["Split", "canary_point", "split_key"]

# Seven bytes fill the 53 bits that a float holds exactly.
_BITS = 53


def split_key(secret: bytes, *, model: str, version: int) -> bytes:
    """Return the key of one trial's draw.

    Parameters
    ----------
    secret : bytes
        At most 64 bytes that all workers of a model share and nobody outside knows: who could compute the draw could
        choose a name that is drawn.
    model : str
        The registered model.
    version : int
        On trial: the next version draws other subjects, so that the same few are not always first.

    Returns
    -------
    bytes
        The same for the same trial, however its share grows.
    """
    return hashlib.blake2b(f"nbkit canary 1\n{model}\n{version}".encode(), key=secret, digest_size=32).digest()


def canary_point(entity: str, *, key: bytes) -> float:
    """Return where a subject lies in 0..1; a canary with a share above it answers that subject.

    Parameters
    ----------
    entity : str
        Whom the request is about.
    key : bytes
        Of the trial.

    Returns
    -------
    float
        At least 0, below 1, spread evenly over subjects.

    Examples
    --------
    >>> point = canary_point("customer 4711", key=b"k")
    >>> point == canary_point("customer 4711", key=b"k"), 0 <= point < 1
    (True, True)
    """
    drawn = hashlib.blake2b(entity.encode(), key=key, digest_size=7).digest()
    return (int.from_bytes(drawn, "big") >> (56 - _BITS)) / (1 << _BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How traffic is divided between the version in production and the canary.

    Parameters
    ----------
    share : float
        Of the subjects that the canary answers, 0..1.
    key : bytes
        As `split_key` returns it.
    """

    share: float
    key: bytes

    def takes(self, entity: str) -> bool:
        """Return whether the canary answers for a subject.

        Parameters
        ----------
        entity : str
            Whom the request is about.

        Returns
        -------
        bool
            Once true, it stays true when the share grows.
        """
        return self.share > 0 and canary_point(entity, key=self.key) < self.share
