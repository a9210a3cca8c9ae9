"""The splits and leaves of treelite's trees: which leaves lie left of a split, and what goes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nbkit.package._engines import TreeEngine
from nbkit.package._tree_nodes import Fields, array_of

__all__ = ["Node", "TooLargeError", "Tree"]

_LEAF, _NUMERICAL, _CATEGORICAL = 0, 1, 2
_LESS, _LESS_OR_EQUAL = 2, 3
_LARGEST_CATEGORY = float(np.iinfo(np.uint32).max)


class TooLargeError(Exception):
    """The trees have more leaves than a word has bits, or a kind of split that tables do not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A split: the bits of the leaves on its left, and when a row goes there."""

    tree: int
    column: int
    left: int
    at_most: float
    missing_left: bool
    listed: frozenset[int] | None
    listed_left: bool

    def sends_right(self, cell: float) -> bool:
        if cell != cell:
            return not self.missing_left
        if self.listed is None:
            return not cell <= self.at_most
        return (0.0 <= cell <= _LARGEST_CATEGORY and int(cell) in self.listed) != self.listed_left


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Values of the leaves from left to right, and the splits."""

    leaves: list[float]
    nodes: list[Node]

    @classmethod
    def read(cls, fields: Fields, place: int, engine: TreeEngine) -> Tree:
        left, right, kinds = (array_of(fields, name).astype(int).tolist() for name in ("cleft", "cright", "node_type"))
        order, waiting = [], [0]
        while waiting:
            node = waiting.pop()
            order.append(node)
            if kinds[node] != _LEAF:
                waiting += (right[node], left[node])
        count = [1] * len(kinds)
        for node in reversed(order):
            if kinds[node] != _LEAF:
                count[node] = count[left[node]] + count[right[node]]
        if count[0] > 64:
            raise TooLargeError
        values = _leaf_values(fields, engine)
        nodes, leaves = [], []
        splits = _Splits.read(fields, engine, has_categories=_CATEGORICAL in kinds)
        for node in order:
            if kinds[node] == _LEAF:
                leaves.append(values[node])
            else:
                # All leaves seen so far lie on the left of this node.
                bits = ((1 << count[left[node]]) - 1) << len(leaves)
                nodes.append(splits.node(node, tree=place, left=bits))
        return cls(leaves=leaves, nodes=nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splits:
    """The fields of one tree's nodes, as lists."""

    column: list[int]
    at_most: list[float]
    missing_left: list[bool]
    listed: dict[int, frozenset[int]]
    listed_left: list[bool]

    @classmethod
    def read(cls, fields: Fields, engine: TreeEngine, *, has_categories: bool) -> _Splits:
        operators = array_of(fields, "cmp").astype(int)
        threshold = array_of(fields, "threshold")
        listed: dict[int, frozenset[int]] = {}
        kinds = array_of(fields, "node_type").astype(int)
        # Nothing lies below minus infinity, and no limit says so.
        below_all = np.isneginf(threshold[operators == _LESS]).any()
        if below_all or not set(operators[kinds == _NUMERICAL].tolist()) <= {_LESS, _LESS_OR_EQUAL}:
            raise TooLargeError
        if has_categories:
            members = array_of(fields, "category_list").astype(int).tolist()
            begin, end = (array_of(fields, f"category_list_{edge}").astype(int) for edge in ("begin", "end"))
            listed = {
                node: frozenset(members[begin[node] : end[node]])
                for node in np.flatnonzero(kinds == _CATEGORICAL).tolist()
            }
            listed_left = array_of(fields, "category_list_right_child") == 0
        else:
            listed_left = np.ones(len(kinds), dtype=np.bool_)
        return cls(
            column=array_of(fields, "split_index").astype(int).tolist(),
            at_most=_limits(threshold, below=operators == _LESS, engine=engine).tolist(),
            missing_left=(array_of(fields, "default_left") != 0).tolist(),
            listed=listed,
            listed_left=listed_left.tolist(),
        )

    def node(self, node: int, *, tree: int, left: int) -> Node:
        return Node(
            tree=tree, column=self.column[node], left=left, at_most=self.at_most[node],
            missing_left=self.missing_left[node], listed=self.listed.get(node), listed_left=self.listed_left[node],
        )  # fmt: skip


def _limits(threshold: NDArray[np.float64], *, below: NDArray[np.bool_], engine: TreeEngine) -> NDArray[np.float64]:
    """Return the largest float64 that goes left at each threshold, with what the engine does to a cell before it looks.

    No float64 lies between a number and its lower neighbour, so "below" is "at most the neighbour".
    """
    with np.errstate(over="ignore"):  # below the last of all finite numbers lies minus infinity
        limits = np.where(below, np.nextafter(threshold, -np.inf), threshold)
    if engine.row_type == "float32":
        limits = _before_rounding(limits)
    reach = engine.zero_within
    if reach:
        # A cell this near to zero is read as zero.
        limits = np.where((limits >= -reach) & (limits < 0.0), np.nextafter(-reach, -np.inf), limits)
        limits = np.where((limits >= 0.0) & (limits < reach), reach, limits)
    return limits


def _before_rounding(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest float64 that is at most ``limits`` once it is rounded to float32.

    >>> limit = _before_rounding(np.array([0.1]))[0]
    >>> float(np.float32(limit)) <= 0.1, float(np.float32(np.nextafter(limit, 1.0))) <= 0.1
    (True, False)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = limits.astype(np.float32)
        single = np.where(single > limits, np.nextafter(single, np.float32(-np.inf)), single)
        following = np.nextafter(single, np.float32(np.inf))
        low, high = single.astype(np.float64), following.astype(np.float64)
        # Beyond the largest float32 rounding goes on as if there were a next one.
        high = np.where(np.isinf(high), 2.0**128, high)
        low = np.where(np.isneginf(low), -(2.0**128), low)
        middle = low / 2 + high / 2
        # At the middle itself it is the even one of the two that counts.
        rounded = middle.astype(np.float32)
        middle = np.where(rounded <= single, middle, np.nextafter(middle, -np.inf))
    return np.where(np.isposinf(single), np.inf, middle)


def _leaf_values(fields: Fields, engine: TreeEngine) -> list[float]:
    values = array_of(fields, "leaf_value")
    if engine.link == "identity":  # a forest keeps the share of every class in a leaf, one leaf after the other
        vectors = array_of(fields, "leaf_vector").reshape(-1, 2)[:, engine.output]
        begin = array_of(fields, "leaf_vector_begin").astype(int) // 2
        values = np.append(vectors, 0.0)[begin]
    return cast("list[float]", values.tolist())
