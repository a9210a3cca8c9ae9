from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.audit import Frontier, leaf_hash, node_hash, tree_root

# The inputs and roots of the reference implementation of RFC 6962, which RFC 9162 keeps unchanged for SHA-256.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def root_by_definition(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root_by_definition(leaves[:split]), root_by_definition(leaves[split:]))


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_vectors(size: int) -> None:
    assert tree_root(leaf_hash(leaf) for leaf in LEAVES[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=70))
@settings(deadline=None, derandomize=True)
def test_growing_leaf_by_leaf_gives_the_root_of_the_definition(data: list[bytes]) -> None:
    leaves = [leaf_hash(item) for item in data]
    assert tree_root(leaves) == root_by_definition(leaves)


@given(st.integers(0, 300))
@settings(deadline=None, derandomize=True)
def test_a_frontier_reads_back_what_it_wrote_and_grows_on(size: int) -> None:
    frontier = Frontier()
    for number in range(size):
        frontier.append(leaf_hash(bytes([number % 256])))
    again = Frontier.from_bytes(size, frontier.to_bytes())
    for tree in (frontier, again):
        tree.append(leaf_hash(b"next"))
    assert (again.size, again.root()) == (frontier.size, frontier.root())


def test_a_copy_grows_on_its_own() -> None:
    frontier = Frontier()
    copy = frontier.copy()
    copy.append(leaf_hash(b"a"))
    assert (frontier.size, copy.size) == (0, 1)


def test_a_leaf_is_never_the_node_with_the_same_bytes() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_hashes_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves does not have 1 complete subtrees"):
        Frontier.from_bytes(3, b"\0" * 32)
