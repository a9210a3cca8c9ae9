r"""Trees as tables of bits: tens of rows a call, at a fifth of what walking the trees costs.

A leaf is a bit of its tree's word, leftmost leaf lowest. A split that sends a row right takes the leaves on its left
out, so the row's leaf is the lowest bit that no split took (Lucchese et al. 2015, "QuickScorer"). Which splits of one
column send right depends on nothing but where the value lies among the column's thresholds; so each place has its word
for every tree ready, and a row's words are the conjunction of one line a column. A category has finitely many values,
so all columns that are made from it share a line.

The leaves are added up tree by tree in the type that treelite adds them up in, so the margins are its own, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.package._engines import TreeEngine
from nbkit.package._kernels import KERNEL, Kernel
from nbkit.package._quick_nodes import Node, TooLargeError, Tree
from nbkit.package._rows import Category, Number, RowMaker
from nbkit.package._steps import RefusedValueError, Scalar
from nbkit.package._tree_nodes import array_of

__all__ = ["QuickTrees"]

# A worker has room for so much beside the trees themselves; larger ensembles are walked.
_MOST_BYTES = 24 * 1024 * 1024

# The line that takes nothing out.
_ALL = 0

# No line: the row is for the engine, which refuses the value or reads it in its own way.
_NOT_HERE = -1

_Words = NDArray[np.uint32] | NDArray[np.uint64]
Row = Mapping[str, Scalar]


# How a number finds its line: sorted thresholds as float64, the line of the lowest place, and that of a missing value.
_Cell = tuple[bytes, int, int]
# A number that is a column as it is, or that becomes several columns or one by steps: it takes as many lines, present
# (one that never changes and one for each function) or absent. A category: the line of each value, and of any other.
_Number = tuple[str, bytes, int, int]
_Chain = tuple[str, int, tuple[int, ...], tuple[tuple[Callable[[float], float], bytes, int, int], ...]]
_Category = tuple[str, dict[str | None, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickTrees:
    """The trees of one plan, laid out for rows of its contract.

    Parameters
    ----------
    words : ndarray of shape (lines, trees)
        Which leaves are left.
    numbers, chains, categories : tuple
        How each input finds its lines.
    leaves : ndarray of shape (trees * bits,)
        Values, one tree after the other.
    divisor, bias : float
        What the sum is divided by, and what is added then.
    """

    words: _Words
    numbers: tuple[_Number, ...]
    chains: tuple[_Chain, ...]
    categories: tuple[_Category, ...]
    leaves: NDArray[Any]
    divisor: float
    bias: float

    @classmethod
    def of(cls, engine: TreeEngine, rows: RowMaker) -> QuickTrees | None:
        """Lay out an engine's trees.

        Parameters
        ----------
        engine : TreeEngine
            Of the plan.
        rows : RowMaker
            Of the plan.

        Returns
        -------
        QuickTrees or None
            None where a tree has more than 64 leaves, a number is a category to the trees, the tables were too large,
            or nbkit was installed without its kernel.
        """
        if KERNEL is None:
            return None
        try:
            return _Layout(engine, rows).lay_out()
        except TooLargeError:
            return None

    def margins(self, rows: Sequence[Row]) -> NDArray[np.float64] | None:
        """Return the margins of rows, shape (rows,), or None where the engine must read them.

        Parameters
        ----------
        rows : sequence of mapping
            Every input by name.

        Returns
        -------
        ndarray of float64 or None
            Bit for bit those of the engine; None where one of the rows has a value that the model may refuse.
        """
        margins = np.empty(len(rows))
        try:
            here = cast("Kernel", KERNEL).margins(
                list(rows), self.numbers, self.chains, self.categories, self.words,
                self.words.shape[1], self.leaves, self.divisor, self.bias, margins,
            )  # fmt: skip
        except RefusedValueError:
            return None
        return margins if here else None


class _Layout:
    """Builds the tables; the lines of all columns lie in one array, the one that takes nothing out first."""

    def __init__(self, engine: TreeEngine, rows: RowMaker) -> None:
        self._engine = engine
        self._rows = rows
        self._header = engine.trees.get_header_accessor()
        trees = [
            Tree.read(engine.trees.get_tree_accessor(place), place, engine) for place in range(engine.trees.num_tree)
        ]
        widest = max((len(tree.leaves) for tree in trees), default=0)
        if not 0 < widest <= 64:
            raise TooLargeError
        self._trees = trees
        self._word = np.uint32 if widest <= 32 else np.uint64
        self._bits = 32 if widest <= 32 else 64
        self._nodes: dict[int, list[Node]] = {}
        for tree in trees:
            for node in tree.nodes:
                self._nodes.setdefault(node.column, []).append(node)
        self._blocks: list[_Words] = [self._full(1)]
        self._lines = 1

    def lay_out(self) -> QuickTrees:
        rows, template = self._rows, self._rows.template
        numbers = []
        for name, place in rows.plain:
            numbers.append((name, *self._cell(place)))
        chains = tuple(self._chain(number, template) for number in rows.chains)
        categories = tuple(self._category(category, template) for category in rows.categories)
        outputs = 2 if self._engine.link == "identity" else 1
        averages = bool(array_of(self._header, "average_tree_output")[0])
        leaves = np.zeros((len(self._trees), self._bits), dtype=self._engine.trees.output_type)
        for place, tree in enumerate(self._trees):
            leaves[place, : len(tree.leaves)] = tree.leaves
        return QuickTrees(
            words=cast("_Words", np.concatenate(self._blocks)),
            numbers=tuple(numbers),
            chains=chains,
            categories=categories,
            leaves=leaves.ravel(),
            divisor=float(len(self._trees)) if averages else 1.0,
            bias=float(array_of(self._header, "base_scores")[self._engine.output if outputs > 1 else 0]),
        )

    def _full(self, lines: int) -> _Words:
        return cast("_Words", np.full((lines, len(self._trees)), np.iinfo(self._word).max, dtype=self._word))

    def _add(self, block: _Words) -> int:
        """Keep lines; return where they begin."""
        first, self._lines = self._lines, self._lines + len(block)
        if self._lines * block[0].nbytes > _MOST_BYTES:
            raise TooLargeError
        self._blocks.append(block)
        return first

    def _fused(self, cells: Mapping[int, float]) -> int:
        """Return the line of several columns of which each holds one value."""
        if not self._engine.takes_missing and any(cell != cell for cell in cells.values()):
            return _NOT_HERE
        line = self._full(1)
        for column, cell in cells.items():
            for node in self._nodes.get(column, ()):
                if node.sends_right(cell):
                    line[0, node.tree] &= self._word(~node.left & np.iinfo(self._word).max)
        return self._add(line)

    def _cell(self, column: int) -> _Cell:
        """Return how a number finds the line of one column, after adding the lines between its thresholds."""
        nodes = self._nodes.get(column, [])
        if any(node.listed is not None for node in nodes):
            raise TooLargeError
        thresholds = sorted({node.at_most for node in nodes})
        places = {threshold: place for place, threshold in enumerate(thresholds, start=1)}
        block = self._full(len(thresholds) + 1)
        for node in nodes:
            block[places[node.at_most], node.tree] &= self._word(~node.left & np.iinfo(self._word).max)
        np.bitwise_and.accumulate(block, axis=0, out=block)
        first = self._add(block)
        return np.array(thresholds, dtype=np.float64).tobytes(), first, self._fused({column: math.nan})

    def _chain(self, number: Number, template: Sequence[float]) -> _Chain:
        moving = {place for place, _ in number.present}
        cells = tuple((function, *self._cell(place)) for place, function in number.present)
        always = self._fused({place: template[place] for place in number.places if place not in moving})
        absent = _NOT_HERE
        if number.missing is not None:
            absent = self._fused({place: template[place] for place in number.places} | dict(number.missing))
        return number.name, always, (absent, *[_ALL] * len(cells)), cells

    def _category(self, category: Category, template: Sequence[float]) -> _Category:
        usual = {place: template[place] for place in category.places}

        def line(changes: Sequence[tuple[int, float]] | None) -> int:
            return _NOT_HERE if changes is None else self._fused(usual | dict(changes))

        known = {value: line(changes) for value, changes in category.cells.items()}
        return category.name, known, line(category.unseen)
