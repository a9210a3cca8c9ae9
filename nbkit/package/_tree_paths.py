r"""Exact path-dependent Shapley values of a tree ensemble, for one row, in numpy.

A leaf of value :math:`v` is a product game over the columns on its path: column :math:`i` contributes the factor
:math:`o_i` (1 if the row satisfies every condition of the path on that column, else 0) when it is known and
:math:`z_i` (the product of the shares of training rows that took those branches) when it is not. Its Shapley value is

.. math:: \varphi_i = v (o_i - z_i) \int_0^1 \prod_{j \ne i} (t o_j + (1 - t) z_j) \, dt,

a polynomial of degree ``d - 1`` in ``t`` for a path of ``d`` columns, so Gauss-Legendre quadrature with ``ceil(d / 2)``
nodes integrates it exactly. Summed over leaves this is what TreeSHAP computes (Lundberg et al. 2020, "From local
explanations to global understanding with explainable AI for trees", algorithm 1), but every leaf at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import PackageError
from nbkit.package._kernels import KERNEL
from nbkit.package._tree_nodes import Leaf, Split, Step, Tree, TreeliteModel, array_of

__all__ = ["TreePaths"]

# treelite stores a category as an unsigned 32-bit number; anything that does not fit matches no category.
_LARGEST_CATEGORY = float(np.iinfo(np.uint32).max)

# About half of the leaves that a tree has.
_APART = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splits:
    """Every split of the ensemble as arrays, decided at once for a row."""

    column: NDArray[np.int32]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    categorical: tuple[tuple[int, frozenset[int], bool], ...]

    @classmethod
    def stack(cls, splits: Sequence[Split]) -> _Splits:
        return cls(
            column=np.array([split.column for split in splits], dtype=np.int32),
            threshold=np.array([split.threshold for split in splits]),
            missing_left=np.array([split.missing_left for split in splits], dtype=np.bool_),
            categorical=tuple(
                (index, split.listed, split.listed_left)
                for index, split in enumerate(splits)
                if split.listed is not None
            ),
        )

    def goes_left(self, row: NDArray[np.float64]) -> NDArray[np.bool_]:
        values = row[self.column]
        left: NDArray[np.bool_] = np.where(np.isnan(values), self.missing_left, values <= self.threshold)
        for split, to_left in self.by_category(row):
            left[split] = to_left
        return left

    def by_category(self, row: NDArray[np.float64]) -> list[tuple[int, bool]]:
        """Return the splits by category that a row meets, each with whether it goes left there."""
        turned = []
        for split, listed, listed_left in self.categorical:
            value = float(row[self.column[split]])
            if not math.isnan(value):  # a missing category goes its default way
                known = 0.0 <= value <= _LARGEST_CATEGORY and int(value) in listed
                turned.append((split, known == listed_left))
        return turned


@dataclass(frozen=True, slots=True, kw_only=True)
class _LeafBlock:
    """Leaves whose paths need the same number of quadrature nodes, padded to the same number of columns.

    Leaves are the last axis, so that every operation runs along memory. Shapes: ``column``, ``split``, ``to_left``,
    ``share`` (columns, leaves), where padding names a split that every row satisfies. ``again`` (cells,) are
    places of columns that a path splits more than once, and ``start`` (cells,) says where the further steps of each
    begin in ``more_split`` and ``more_left`` (steps,). ``time`` and ``weight`` (nodes,). Nothing has an axis of nodes
    beside columns and leaves: such arrays outgrow the cache, and reading them took most of the time.
    """

    value: NDArray[np.float64]
    column: NDArray[np.int32]
    split: NDArray[np.int32]
    to_left: NDArray[np.bool_]
    again: NDArray[np.int32]
    start: NDArray[np.int32]
    more_split: NDArray[np.int32]
    more_left: NDArray[np.bool_]
    share: NDArray[np.float64]
    time: NDArray[np.float64]
    weight: NDArray[np.float64]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return all of them, as the kernel takes them."""
        return (
            self.value, self.column, self.split, self.to_left, self.again, self.start, self.more_split, self.more_left,
            self.share, self.time, self.weight,
        )  # fmt: skip

    def values(self, left: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the Shapley value of each cell (columns, leaves)."""
        satisfied = left[self.split] == self.to_left
        if len(self.again):
            further = np.logical_and.reduceat(left[self.more_split] == self.more_left, self.start)
            satisfied.ravel()[self.again] &= further
        known = satisfied.astype(np.float64)
        others = np.zeros(self.column.shape)
        for time, weight in zip(self.time.tolist(), self.weight.tolist(), strict=True):
            factor = self.share * (1.0 - time)
            factor += known * time
            # What the others are worth: the product of the factors before, and that of those behind.
            before = np.full(self.column.shape, weight)
            np.multiply.accumulate(np.vstack([before[:1], factor[:-1]]), axis=0, out=before)
            behind = np.ones(self.column.shape)
            np.multiply.accumulate(np.vstack([behind[-1:], factor[:0:-1]]), axis=0, out=behind[::-1])
            before *= behind
            others += before
        others *= self.value
        others *= known - self.share
        return others


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePaths:
    """Every path from a root to a leaf of a tree ensemble, laid out for exact Shapley values.

    Parameters
    ----------
    base : float
        The model's mean answer over its training rows: what is known of a row before any column is.
    columns : int
        Number of columns of a preprocessed row.
    """

    base: float
    columns: int
    _splits: _Splits
    _blocks: tuple[_LeafBlock, ...]
    # What the kernel takes: splits, blocks, and room for what it computes on the way, one row at a time.
    _arrays: tuple[tuple[NDArray[Any], ...], tuple[tuple[NDArray[Any], ...], ...], tuple[NDArray[Any], ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        splits, largest = self._splits, max((block.column.size for block in self._blocks), default=0)
        arrays = (
            (splits.column, splits.threshold, splits.missing_left),
            tuple(block.arrays() for block in self._blocks),
            (
                np.empty(len(splits.threshold) + 1, dtype=np.bool_), np.empty(largest, dtype=np.bool_),
                np.empty(largest), np.empty(self.columns),
            ),
        )  # fmt: skip
        object.__setattr__(self, "_arrays", arrays)

    @classmethod
    def from_treelite(cls, model: TreeliteModel, *, output: int = 0) -> TreePaths:
        """Lay out the trees of a treelite model (4.x) that predicts two classes or one number.

        Parameters
        ----------
        model : treelite.Model
            With one output a row, or with two class probabilities.
        output : int
            Which of the outputs is explained.

        Returns
        -------
        TreePaths
            Exact for numerical (``<``, ``<=``) and categorical splits, and for missing values.

        Raises
        ------
        PackageError
            The trees carry no training-row counts, are of a kind that has no single number to explain, or are broken.
        """
        header = model.get_header_accessor()
        base_scores = array_of(header, "base_scores")
        if len(base_scores) > 2 or int(array_of(header, "num_target")[0]) != 1:
            raise PackageError(f"reasons need a model of two classes, got one with {len(base_scores)} outputs a row")
        bias = float(base_scores[output])
        trees: list[Tree] = []
        for index in range(model.num_tree):
            offset = sum(len(tree.splits) for tree in trees)
            fields = model.get_tree_accessor(index)
            trees.append(Tree.read(fields, offset=offset, output=output, outputs=len(base_scores)))
        scale = 1.0 / len(trees) if array_of(header, "average_tree_output")[0] else 1.0
        leaves = [leaf for tree in trees for leaf in tree.leaves(scale=scale)]
        expected = sum(leaf.value * float(np.prod([step.share for step in leaf.steps])) for leaf in leaves)
        by_nodes: dict[int, list[Leaf]] = {}
        for leaf in leaves:
            by_nodes.setdefault((len(leaf.columns()) + 1) // 2, []).append(leaf)
        splits = [split for tree in trees for split in tree.splits]
        columns = int(array_of(header, "num_feature")[0])
        if any(not 0 <= split.column < columns for split in splits):
            raise PackageError(f"the trees ask about a column beyond their {columns}")
        by_nodes.pop(0, None)  # a tree that never split moves nothing but the base
        blocks = [(nodes, _apart(group)) for nodes, group in sorted(by_nodes.items())]
        return cls(
            base=bias + expected,
            columns=columns,
            _splits=_Splits.stack(splits),
            _blocks=tuple(_block(group, nodes=nodes, padding=len(splits)) for nodes, group in blocks),
        )

    def explain(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each column's Shapley value for one preprocessed row.

        Parameters
        ----------
        row : ndarray of shape (columns,)
            As the trees see it: already rounded to float32 where the model does so; NaN is missing.

        Returns
        -------
        ndarray of shape (columns,)
            They add up to the ensemble's answer, less ``base``.
        """
        total = np.zeros(self.columns)
        if KERNEL is not None:
            splits, blocks, room = self._arrays
            KERNEL.shapley(row, splits, self._splits.by_category(row), blocks, room, total)
            return total
        # The last one is the split of the padding: every row satisfies it.
        left = np.append(self._splits.goes_left(row), True)
        for block in self._blocks:
            values = block.values(left)
            total += np.bincount(block.column.ravel(), weights=values.ravel(), minlength=self.columns)
        return total


def _apart(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Put leaves of one tree apart: their paths begin with the same columns, and a sum waits for the one before."""
    return [leaf for begin in range(_APART) for leaf in leaves[begin::_APART]]


def _block(leaves: Sequence[Leaf], *, nodes: int, padding: int) -> _LeafBlock:
    """Pad leaves of ``2 * nodes - 1`` or ``2 * nodes`` columns to the larger number, with a split that always holds."""
    width = 2 * nodes
    share = np.ones((width, len(leaves)))
    column = np.zeros((width, len(leaves)), dtype=np.int32)
    first = np.full((width, len(leaves)), padding, dtype=np.int32)
    to_left = np.ones((width, len(leaves)), dtype=np.bool_)
    again: list[int] = []
    start: list[int] = []
    more: list[Step] = []
    for index, leaf in enumerate(leaves):
        for position, name in enumerate(leaf.columns()):
            column[position, index] = name
            steps = [step for step in leaf.steps if step.column == name]
            for step in steps:
                share[position, index] *= step.share
            first[position, index], to_left[position, index] = steps[0].split, steps[0].to_left
            if len(steps) > 1:
                again.append(position * len(leaves) + index)
                start.append(len(more))
                more += steps[1:]
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return _LeafBlock(
        value=np.array([leaf.value for leaf in leaves]),
        column=column,
        split=first,
        to_left=to_left,
        again=np.array(again, dtype=np.int32),
        start=np.array(start, dtype=np.int32),
        more_split=np.array([step.split for step in more], dtype=np.int32),
        more_left=np.array([step.to_left for step in more], dtype=np.bool_),
        share=share,
        time=(points + 1.0) / 2.0,
        weight=weights / 2.0,
    )
