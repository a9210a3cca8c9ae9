r"""Trees as games of their leaves: contributions against other backgrounds, and interactions, exact.

A leaf of value :math:`v` answers a row when every column on its path lets it through. Against *counts* of rows, a
column that is not known lets through the share :math:`z_i` that took its branches: a product game, whose Shapley values
and interactions are integrals of polynomials that Gauss-Legendre quadrature solves exactly (see ``nbkit.package``).
Against a *row* that takes the place of absent columns, let :math:`a` columns pass only for the explained row and
:math:`b` only for the other; then each of the former contributes :math:`v\,(a-1)!\,b!/(a+b)!` and each of the latter
:math:`-v\,a!\,(b-1)!/(a+b)!` (Lundberg et al. 2020, supplement).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nbkit.package._engines import TreeEngine
from nbkit.package._tree_nodes import Leaf, Split, Tree, array_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# A branch that no row took has share 0; the smallest normal number keeps the division by a factor finite.
_NO_ROWS = float(np.finfo(np.float64).tiny)
# treelite stores a category as an unsigned 32-bit number; anything that does not fit matches no category.
_LARGEST_CATEGORY = float(np.iinfo(np.uint32).max)
# So many rows are let through all leaves at once; more would only cost memory.
_CHUNK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Leaves with equally many columns on their paths.

    Shapes: ``value`` (leaves,), ``columns`` and ``shares`` (width, leaves), ``split`` and ``to_left`` (steps,),
    ``start`` (width * leaves,): each cell's first step.
    """

    value: Floats
    columns: NDArray[np.intp]
    shares: Floats
    split: NDArray[np.intp]
    to_left: Bools
    start: NDArray[np.intp]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> Self:
        paths = [leaf.columns() for leaf in leaves]
        cells = [
            [step for step in leaf.steps if step.column == columns[position]]
            for position in range(len(paths[0]))
            for leaf, columns in zip(leaves, paths, strict=True)
        ]
        steps = [step for cell in cells for step in cell]
        shape = (len(paths[0]), len(leaves))
        return cls(
            value=np.array([leaf.value for leaf in leaves]),
            columns=np.array(paths, dtype=np.intp).T,
            shares=np.array([math.prod(step.share for step in cell) for cell in cells]).reshape(shape),
            split=np.array([step.split for step in steps], dtype=np.intp),
            to_left=np.array([step.to_left for step in steps], dtype=np.bool_),
            start=np.cumsum([0, *(len(cell) for cell in cells[:-1])]).astype(np.intp),
        )

    def passes(self, left: Bools) -> Bools:
        """Return whether each column of each leaf lets each row through, shape (rows, width, leaves)."""
        found = np.logical_and.reduceat(left[:, self.split] == self.to_left, self.start, axis=1)
        return found.reshape(len(left), *self.columns.shape)

    def gains(self, passes: Bools) -> tuple[Floats, Floats]:
        """Return, of one row, the weighted products (nodes, leaves) and each column's gain (width, nodes, leaves).

        Their product, summed over nodes, is a Shapley value; with two gains it is an interaction.
        """
        points, weights = np.polynomial.legendre.leggauss((len(self.columns) + 1) // 2)
        time = ((points + 1.0) / 2.0)[:, None]
        shares = np.maximum(self.shares, _NO_ROWS)[:, None, :]
        known = passes[:, None, :]
        factor = shares * (1.0 - time) + known * time
        product = factor.prod(axis=0) * (weights / 2.0)[:, None] * self.value
        return product, (known - shares) / factor

    def against(self, passes: Bools, others: Bools) -> Floats:
        """Return one row's mean Shapley values against other rows (rows, width, leaves), shape (width, leaves)."""
        here, there = passes & ~others, ~passes & others
        a, b = here.sum(axis=1), there.sum(axis=1)
        neither = (~passes & ~others).any(axis=1)
        up, down = _weights(len(self.columns))
        gain = (
            np.where(neither, 0.0, up[a, b])[:, None, :] * here - np.where(neither, 0.0, down[a, b])[:, None, :] * there
        )
        return np.asarray(gain.mean(axis=0) * self.value)


def _weights(width: int) -> tuple[Floats, Floats]:
    """Return (a-1)! b! / (a+b)! and its mirror for all a + b up to the width; 0 where there is no such column."""
    up = np.zeros((width + 1, width + 1))
    for a in range(1, width + 1):
        for b in range(width + 1 - a):
            up[a, b] = 1.0 / (a * math.comb(a + b, a))
    return up, up.T.copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeGames:
    """The leaves of a tree ensemble, ready to be asked what each column does.

    Parameters
    ----------
    columns : int
        Of a preprocessed row.
    bias : float
        What is added to the leaves that a row reaches.
    engine : TreeEngine
        Says how rows are rounded before the trees see them.
    """

    columns: int
    bias: float
    engine: TreeEngine
    _splits: tuple[Split, ...]
    _blocks: tuple[_Block, ...]

    @classmethod
    def of(cls, engine: TreeEngine) -> Self:
        """Read the trees of a plan's engine."""
        header = engine.trees.get_header_accessor()
        base_scores = array_of(header, "base_scores")
        trees: list[Tree] = []
        for index in range(engine.trees.num_tree):
            offset = sum(len(tree.splits) for tree in trees)
            fields = engine.trees.get_tree_accessor(index)
            trees.append(Tree.read(fields, offset=offset, output=engine.output, outputs=len(base_scores)))
        scale = 1.0 / len(trees) if array_of(header, "average_tree_output")[0] else 1.0
        by_width: dict[int, list[Leaf]] = {}
        for tree in trees:
            for leaf in tree.leaves(scale=scale):
                by_width.setdefault(len(leaf.columns()), []).append(leaf)
        return cls(
            columns=int(array_of(header, "num_feature")[0]),
            bias=float(base_scores[engine.output]) + sum(leaf.value for leaf in by_width.pop(0, [])),
            engine=engine,
            _splits=tuple(split for tree in trees for split in tree.splits),
            _blocks=tuple(_Block.of(leaves) for _, leaves in sorted(by_width.items())),
        )

    def answers(self, matrix: Floats) -> Floats:
        """Return the float64 sum of the leaves that each row reaches, shape (rows,)."""
        found = np.full(len(matrix), self.bias)
        for block, rows, passes in self._rows(matrix):
            found[rows.start : rows.stop] += passes.all(axis=1) @ block.value
        return found

    def against(self, matrix: Floats, background: Floats) -> tuple[Floats, float]:
        """Return Shapley values against the mean of other rows, shape (rows, columns), and their base."""
        found, base = np.zeros((len(matrix), self.columns)), self.bias
        for block in self._blocks:
            others = block.passes(self._left(background))
            base += float((others.all(axis=1) @ block.value).mean())
            for rows, passes in self._chunks(block, matrix):
                for row, of_row in zip(rows, passes, strict=True):
                    values = block.against(of_row, others)
                    found[row] += np.bincount(block.columns.ravel(), weights=values.ravel(), minlength=self.columns)
        return found, base

    def interactions(self, matrix: Floats) -> Floats:
        """Return the Shapley interactions of every row's columns, shape (rows, columns, columns); 0 with themselves."""
        found = np.zeros((len(matrix), self.columns, self.columns))
        for block, rows, passes in self._rows(matrix):
            pairs = (block.columns[:, None, :] * self.columns + block.columns[None, :, :]).ravel()
            for row, of_row in zip(rows, passes, strict=True):
                product, gain = block.gains(of_row)
                values = np.einsum("nl,wnl,vnl->wvl", product, gain, gain)
                sums = np.bincount(pairs, weights=values.ravel(), minlength=self.columns**2)
                found[row] += sums.reshape(self.columns, self.columns)
        diagonal = np.arange(self.columns)
        found[:, diagonal, diagonal] = 0.0
        return found

    def _rows(self, matrix: Floats) -> Iterator[tuple[_Block, range, Bools]]:
        for block in self._blocks:
            for rows, passes in self._chunks(block, matrix):
                yield block, rows, passes

    def _chunks(self, block: _Block, matrix: Floats) -> Iterator[tuple[range, Bools]]:
        for first in range(0, len(matrix), _CHUNK):
            rows = range(first, min(first + _CHUNK, len(matrix)))
            yield rows, block.passes(self._left(matrix[first : first + _CHUNK]))

    def _left(self, matrix: Floats) -> Bools:
        """Return whether each row goes left at each split, shape (rows, splits)."""
        rows = matrix.astype(self.engine.row_type).astype(np.float64)
        rows[np.abs(rows) <= self.engine.zero_within] = 0.0
        values = rows[:, [split.column for split in self._splits]]
        left = values <= np.array([split.threshold for split in self._splits])
        for place, split in enumerate(self._splits):
            if split.listed is not None:
                known = [0.0 <= value <= _LARGEST_CATEGORY and int(value) in split.listed for value in values[:, place]]
                left[:, place] = np.array(known, dtype=np.bool_) == split.listed_left
        missing_left = np.array([split.missing_left for split in self._splits], dtype=np.bool_)
        return np.asarray(np.where(np.isnan(values), missing_left, left), dtype=np.bool_)
