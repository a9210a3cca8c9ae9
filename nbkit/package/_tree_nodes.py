"""Read the trees of a treelite model as paths from the root to each leaf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import PackageError

# Values of treelite's TreeNodeType and Operator (treelite/enum/*.h), which its accessors return as numbers.
_LEAF, _NUMERICAL, _CATEGORICAL = 0, 1, 2
_LESS, _LESS_OR_EQUAL = 2, 3


class Fields(Protocol):
    def get_field(self, name: str, /) -> object: ...


class TreeliteModel(Protocol):
    """What is used of ``treelite.Model`` (4.x).

    Its fields are read, not its JSON: that loses an infinite threshold, which separates missing from known values.
    """

    num_tree: int

    def get_header_accessor(self) -> Fields:
        """Return the fields of the whole model."""

    def get_tree_accessor(self, tree_id: int, /) -> Fields:
        """Return the fields of one tree."""


def array_of(fields: Fields, name: str) -> NDArray[np.float64]:
    # A copy: the accessor hands out a view of memory that dies with the model.
    return np.array(fields.get_field(name), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One branch taken on the way to a leaf."""

    split: int
    column: int
    to_left: bool
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    value: float
    steps: tuple[Step, ...]

    def columns(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(step.column for step in self.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """When a row goes left: ``listed`` is None for a numerical split."""

    column: int
    threshold: float
    missing_left: bool
    listed: frozenset[int] | None
    listed_left: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One tree as lists by node; ``number`` is a split's place among all splits of the ensemble."""

    splits: tuple[Split, ...]
    number: dict[int, int]
    children: tuple[tuple[int, int], ...]
    cover: tuple[float, ...]
    value: tuple[float, ...]

    @classmethod
    def read(cls, fields: Fields, *, offset: int, output: int, outputs: int) -> Tree:
        inner = np.flatnonzero(array_of(fields, "node_type") != _LEAF).tolist()
        value = array_of(fields, "leaf_value")
        if outputs > 1:  # a forest keeps the share of every class in a leaf, one leaf after the other
            vectors = array_of(fields, "leaf_vector").reshape(-1, outputs)[:, output]
            begin = array_of(fields, "leaf_vector_begin").astype(int) // outputs
            value = np.append(vectors, 0.0)[begin]
        left, right = array_of(fields, "cleft").astype(int), array_of(fields, "cright").astype(int)
        return cls(
            splits=_read_splits(fields, inner=inner),
            number={node: offset + position for position, node in enumerate(inner)},
            children=tuple(zip(left.tolist(), right.tolist(), strict=True)),
            cover=_cover(fields, nodes=len(value)),
            value=tuple(value.tolist()),
        )

    def leaves(self, *, scale: float) -> Iterator[Leaf]:
        """Walk the tree from its root; the value of a leaf is multiplied by ``scale``."""
        first = min(self.number.values(), default=0)
        waiting: list[tuple[int, tuple[Step, ...]]] = [(0, ())]
        while waiting:
            node, steps = waiting.pop()
            if node not in self.number:
                yield Leaf(value=self.value[node] * scale, steps=steps)
                continue
            number = self.number[node]
            if not self.cover[node] > 0:
                raise PackageError("no training row reached a split of this model; its branches have no shares")
            for child, to_left in zip(self.children[node], (True, False), strict=True):
                step = Step(
                    split=number,
                    column=self.splits[number - first].column,
                    to_left=to_left,
                    share=self.cover[child] / self.cover[node],
                )
                waiting.append((child, (*steps, step)))


def _cover(fields: Fields, *, nodes: int) -> tuple[float, ...]:
    # The weighted count where both are known: it is what bagging and sample weights trained on.
    for name in ("sum_hess", "data_count"):
        cover = array_of(fields, name)
        if len(cover) == nodes and cover[0] > 0 and np.isfinite(cover).all():
            return tuple(cover.tolist())
    if nodes == 1:
        return (1.0,)
    raise PackageError("reasons need the number of training rows in every tree node; this model kept none")


def _read_splits(fields: Fields, *, inner: Sequence[int]) -> tuple[Split, ...]:
    kind, column, operator = (array_of(fields, name) for name in ("node_type", "split_index", "cmp"))
    threshold, missing_left = array_of(fields, "threshold"), array_of(fields, "default_left")
    listed, listed_right = array_of(fields, "category_list").astype(int), array_of(fields, "category_list_right_child")
    begin, end = (array_of(fields, f"category_list_{edge}").astype(int) for edge in ("begin", "end"))
    splits = []
    for node in inner:
        if kind[node] == _NUMERICAL and operator[node] not in (_LESS, _LESS_OR_EQUAL):
            raise PackageError(f"reasons need splits by < or <=, got treelite's operator {int(operator[node])}")
        limit = float(threshold[node])
        if kind[node] == _NUMERICAL and limit != limit:
            raise PackageError("reasons need splits by numbers, got a threshold that is none")
        # No float64 lies between the two, so "below the threshold" and "at most its lower neighbour" are the same.
        at_most = float(np.nextafter(limit, -np.inf)) if operator[node] == _LESS else limit
        categorical = kind[node] == _CATEGORICAL
        splits.append(
            Split(
                column=int(column[node]),
                threshold=float("nan") if categorical else at_most,
                missing_left=bool(missing_left[node]),
                listed=frozenset(listed[begin[node] : end[node]].tolist()) if categorical else None,
                listed_left=not listed_right[node],
            )
        )
    return tuple(splits)
