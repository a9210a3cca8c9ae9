"""The Merkle tree of RFC 9162 (section 2.1), grown leaf by leaf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["Frontier", "leaf_hash", "node_hash", "tree_root"]

HASH_BYTES = 32

# The two prefixes keep a leaf from ever being read as a node (RFC 9162, 2.1.1: second-preimage resistance).
# A copy of what has taken one up already costs less than to begin anew.
_LEAF = hashlib.sha256(b"\x00")
_NODE = hashlib.sha256(b"\x01")


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one leaf's bytes.

    Parameters
    ----------
    data : bytes
        What the leaf stands for.

    Returns
    -------
    bytes
        32 bytes.

    Examples
    --------
    >>> leaf_hash(b"").hex()[:8]
    '6e340b9c'
    """
    leaf = _LEAF.copy()
    leaf.update(data)
    return leaf.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node.

    Parameters
    ----------
    left, right : bytes
        The hashes of its two children.

    Returns
    -------
    bytes
        32 bytes.
    """
    node = _NODE.copy()
    node.update(left + right)
    return node.digest()


class Frontier:
    r"""The right edge of the tree: the roots of its complete subtrees, largest first.

    That is all an append needs, so a leaf costs O(log n) at worst and O(1) on average, whatever the size.

    Parameters
    ----------
    size : int
        How many leaves the subtrees hold.
    subtrees : iterable of bytes
        One hash per bit that is set in ``size``.

    Raises
    ------
    ValueError
        The number of hashes does not fit the size.

    Examples
    --------
    >>> frontier = Frontier()
    >>> for record in (b"", b"\x00"):
    ...     frontier.append(leaf_hash(record))
    >>> frontier.size, frontier.root().hex()[:8]
    (2, 'fac54203')
    """

    __slots__ = ("_size", "_subtrees")

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        self._size = size
        self._subtrees = list(subtrees)
        if size < 0 or len(self._subtrees) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves does not have {len(self._subtrees)} complete subtrees")

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add one leaf on the right.

        Parameters
        ----------
        leaf : bytes
            Its ``leaf_hash``.
        """
        carry, bits = leaf, self._size
        while bits & 1:
            carry = node_hash(self._subtrees.pop(), carry)
            bits >>= 1
        self._subtrees.append(carry)
        self._size += 1

    def root(self) -> bytes:
        """Return the root of the whole tree.

        Returns
        -------
        bytes
            32 bytes; the hash of nothing for an empty tree.
        """
        if not self._subtrees:
            return hashlib.sha256().digest()
        edge = reversed(self._subtrees)
        root = next(edge)
        for subtree in edge:
            root = node_hash(subtree, root)
        return root

    def copy(self) -> Frontier:
        """Return a frontier that grows on its own.

        Returns
        -------
        Frontier
            The same tree.
        """
        return Frontier(self._size, self._subtrees)

    def to_bytes(self) -> bytes:
        """Return the hashes in a row; ``from_bytes`` reads them back.

        Returns
        -------
        bytes
            32 bytes for each complete subtree.
        """
        return b"".join(self._subtrees)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what ``to_bytes`` wrote.

        Parameters
        ----------
        size : int
            How many leaves the tree had.
        data : bytes
            The hashes.

        Returns
        -------
        Frontier
            The same tree.

        Raises
        ------
        ValueError
            The bytes do not fit the size.
        """
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes.

    Parameters
    ----------
    leaves : iterable of bytes
        The ``leaf_hash`` of each leaf, in order.

    Returns
    -------
    bytes
        32 bytes.
    """
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()
