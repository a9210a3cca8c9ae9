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
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import PackageError
from nbkit.package._kernels import KERNEL
from nbkit.package._tree_nodes import Leaf, Split, Step, Tree, TreeliteModel, array_of

__all__ = ["TreePaths"]

# treelite stores a category as an unsigned 32-bit number; anything that does not fit matches no category.
_LARGEST_CATEGORY = float(np.iinfo(np.uint32).max)

# Leaves that go through the quadrature together, and sums that are kept of a column: a sum waits for the one before.
_LANES, _SUMS = 16, 4


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
class _Leaves:
    """Every leaf, and a cell for each column of its path, in the order in which they are read.

    Leaves of equally many columns are a block of (chunks, columns, lanes); ``shape`` (blocks, 2) says how many chunks
    and columns. What the last chunk has too many are leaves of value 0 under a split that every row satisfies.
    ``value`` (leaves,). ``code`` and ``share`` (cells,): the first step of a path on a column, as twice the number of
    its split and one more if it goes right there, and the share of all its steps on that column. Those after the first
    are in ``more``, and the cells that they belong to in ``more_cell``, chunk by chunk. ``time`` and ``weight``
    (nodes,), one block's behind the other's. Nothing has an axis of nodes beside columns and leaves: such arrays
    outgrow the cache, and reading them took most of the time.
    """

    shape: NDArray[np.int32]
    value: NDArray[np.float64]
    code: NDArray[np.uint32]
    share: NDArray[np.float64]
    more_cell: NDArray[np.int32]
    more: NDArray[np.uint32]
    time: NDArray[np.float64]
    weight: NDArray[np.float64]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return all of them, as the kernel takes them."""
        return (
            self.shape, self.value, self.code, self.share, self.more_cell, self.more, self.time, self.weight,
        )  # fmt: skip

    def values(self, left: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the Shapley value of each cell."""
        satisfied = left[self.code >> 1] != (self.code & 1)
        satisfied[self.more_cell[left[self.more >> 1] == (self.more & 1)]] = False
        known = satisfied.astype(np.float64)
        values = np.empty(len(self.code))
        leaf = cell = node = 0
        for chunks, width in self.shape.tolist():
            leaves, cells, nodes = chunks * _LANES, chunks * width * _LANES, (width + 1) // 2
            here = slice(cell, cell + cells)
            values[here] = _worth(
                self.value[leaf : leaf + leaves].reshape(chunks, 1, _LANES),
                self.share[here].reshape(chunks, width, _LANES),
                known[here].reshape(chunks, width, _LANES),
                self.time[node : node + nodes],
                self.weight[node : node + nodes],
            ).ravel()
            leaf, cell, node = leaf + leaves, cell + cells, node + nodes
        return values


def _worth(
    value: NDArray[np.float64],
    share: NDArray[np.float64],
    known: NDArray[np.float64],
    times: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    others = np.zeros(share.shape)
    for time, weight in zip(times.tolist(), weights.tolist(), strict=True):
        factor = share * (1.0 - time)
        factor += known * time
        # What the others are worth: the product of the factors before, and that of those behind.
        before = np.full(share.shape, weight)
        before[:, 1:] = factor[:, :-1]
        np.multiply.accumulate(before, axis=1, out=before)
        behind = np.ones(share.shape)
        behind[:, 1:] = factor[:, :0:-1]
        np.multiply.accumulate(behind, axis=1, out=behind)
        before *= behind[:, ::-1]
        others += before
    others *= value
    others *= known - share
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
    _leaves: _Leaves
    # What the kernel takes.
    _arrays: tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        splits = self._splits
        ends = np.searchsorted(splits.column, np.arange(self.columns), side="right").astype(np.int32)
        arrays = (ends, splits.threshold, splits.missing_left), self._leaves.arrays()
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
        splits = [split for tree in trees for split in tree.splits]  # by number
        columns = int(array_of(header, "num_feature")[0])
        if any(not 0 <= split.column < columns for split in splits):
            raise PackageError(f"the trees ask about a column beyond their {columns}")
        return cls(
            base=bias + expected,
            columns=columns,
            _splits=_Splits.stack([splits[number] for number in _in_order(splits)]),
            _leaves=_lay_out(leaves, splits=splits),
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
        if KERNEL is not None:
            total = np.empty(self.columns)
            splits, leaves = self._arrays
            KERNEL.shapley(row, splits, self._splits.by_category(row), leaves, total)
            return total
        # The last one is the split of the padding: every row satisfies it.
        values = self._leaves.values(np.append(self._splits.goes_left(row), True))
        column = np.append(self._splits.column, 0)[self._leaves.code >> 1].reshape(-1, _SUMS)
        sums = np.bincount((column * _SUMS + np.arange(_SUMS)).ravel(), weights=values, minlength=self.columns * _SUMS)
        return reduce(np.add, sums.reshape(self.columns, _SUMS).T)


def _apart(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Put leaves of one tree apart: their paths begin with the same columns, and a sum waits for the one before."""
    return [leaf for begin in range(_LANES) for leaf in leaves[begin::_LANES]]


def _in_order(splits: Sequence[Split]) -> list[int]:
    """Sort the numbers of splits by column and threshold, those by category last: a value parts those of its column."""
    place = {number: (split.column, split.listed is not None, split.threshold) for number, split in enumerate(splits)}
    return sorted(place, key=place.__getitem__)


def _needed(steps: Sequence[Step], splits: Sequence[Split]) -> list[Step]:
    """Return the steps of a path on one column that no other of them implies; often that is one."""
    needed: list[Step] = []
    for step in steps:
        if not any(_implies(other, step, splits) for other in needed):
            needed = [other for other in needed if not _implies(step, other, splits)] + [step]
    return needed


def _implies(step: Step, other: Step, splits: Sequence[Split]) -> bool:
    """Say whether every row that takes one step takes the other, also one whose value is missing."""
    here, there = splits[step.split], splits[other.split]
    if step.to_left != other.to_left or here.listed is not None or there.listed is not None:
        return False
    stricter = here.threshold <= there.threshold if step.to_left else here.threshold >= there.threshold
    return stricter and (there.missing_left == step.to_left or here.missing_left != step.to_left)


def _lay_out(leaves: Sequence[Leaf], *, splits: Sequence[Split]) -> _Leaves:
    """Sort leaves by the number of columns on their paths; one without moves nothing but the base."""
    by_width: dict[int, list[Leaf]] = {}
    for leaf in leaves:
        by_width.setdefault(len(leaf.columns()), []).append(leaf)
    by_width.pop(0, None)
    chunks = {width: -(-len(group) // _LANES) for width, group in sorted(by_width.items())}
    cells = sum(width * many * _LANES for width, many in chunks.items())
    value, share = _aligned(sum(chunks.values()) * _LANES), _aligned(cells)
    share[:] = 1.0
    place = {number: place for place, number in enumerate(_in_order(splits))}
    code = np.full(cells, 2 * len(splits), dtype=np.uint32)
    more: list[tuple[int, int, int, int]] = []
    first_leaf = first_cell = 0
    for width, many in chunks.items():
        for index, leaf in enumerate(_apart(by_width[width])):
            chunk, lane = divmod(index, _LANES)
            value[first_leaf + index] = leaf.value
            for position, name in enumerate(leaf.columns()):
                cell = first_cell + (chunk * width + position) * _LANES + lane
                steps = [step for step in leaf.steps if step.column == name]
                for step in steps:
                    share[cell] *= step.share
                first, *others = [2 * place[step.split] + (not step.to_left) for step in _needed(steps, splits)]
                code[cell] = first
                more += [(first_leaf + index - lane, rank, cell, other) for rank, other in enumerate(others)]
        first_leaf, first_cell = first_leaf + many * _LANES, first_cell + many * width * _LANES
    more.sort()
    points = [np.polynomial.legendre.leggauss((width + 1) // 2) for width in chunks]
    return _Leaves(
        shape=np.array([(many, width) for width, many in chunks.items()], dtype=np.int32).reshape(-1, 2),
        value=value,
        code=code,
        share=share,
        more_cell=np.array([cell for _, _, cell, _ in more], dtype=np.int32),
        more=np.array([number for _, _, _, number in more], dtype=np.uint32),
        time=np.concatenate([np.empty(0), *((time + 1.0) / 2.0 for time, _ in points)]),
        weight=np.concatenate([np.empty(0), *(weight / 2.0 for _, weight in points)]),
    )


def _aligned(many: int) -> NDArray[np.float64]:
    """Return zeros that begin with a line of the cache: a vector over two lines is twice as dear."""
    room = np.zeros(many + 8)
    begin = -room.ctypes.data % 64 // 8
    return room[begin : begin + many]
