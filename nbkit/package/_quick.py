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
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.package._engines import TreeEngine
from nbkit.package._quick_nodes import Node, TooLargeError, Tree
from nbkit.package._rows import Category, Number, RowMaker
from nbkit.package._steps import RefusedValueError, Scalar
from nbkit.package._tree_nodes import array_of

__all__ = ["QuickTrees"]

# A worker has room for so much beside the trees themselves; larger ensembles are walked.
_MOST_BYTES = 24 * 1024 * 1024

# Columns are read one after the other for this many rows and more: then a column's lines stay in the cache.
_MANY_ROWS = 4

# The line that takes nothing out.
_ALL = 0

# No line: the row is for the engine, which refuses the value or reads it in its own way.
_NOT_HERE = -1

_Words = NDArray[np.uint32] | NDArray[np.uint64]
Row = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """How one column of the model finds its line from a number: by its place among thresholds, or that of missing."""

    function: Callable[[float], float]
    thresholds: list[float]
    first: int
    missing: int

    def line(self, value: float) -> int:
        cell = self.function(value)
        return self.missing if cell != cell else self.first + bisect_left(self.thresholds, cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """A number that becomes several columns, or one by steps; it takes the same number of lines present or missing."""

    name: str
    cells: tuple[_Cell, ...]
    always: int
    absent: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickTrees:
    """The trees of one plan, laid out for rows of its contract.

    Parameters
    ----------
    words : ndarray of shape (lines, trees)
        Which leaves are left.
    numbers : tuple
        Name, thresholds, first line and line of missing, of inputs that are a column as they are.
    chains : tuple
        Of other numbers.
    categories : tuple
        Name, line of each value, and line of any other.
    leaves : ndarray of shape (trees * bits,)
        Values, one tree after the other.
    first_leaf : ndarray of shape (trees,)
        Where a tree's values begin, less the exponent of a word's first bit.
    divisor, bias : float
        What the sum is divided by, and what is added then.
    """

    words: _Words
    numbers: tuple[tuple[str, list[float], int, int], ...]
    chains: tuple[_Chain, ...]
    categories: tuple[tuple[str, dict[str | None, int], int], ...]
    leaves: NDArray[Any]
    first_leaf: NDArray[np.intp]
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
            None where a tree has more than 64 leaves, a number is a category to the trees, or the tables were too
            large.
        """
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
        if not rows:
            return np.zeros(0)
        try:
            lines = [self._lines(row) for row in rows]
        except (KeyError, RefusedValueError):
            return None
        if any(_NOT_HERE in some for some in lines):
            return None
        words = self._conjunction(np.array(lines, dtype=np.intp))
        # The lowest bit alone is a power of two, whose exponent is its place.
        lowest = np.bitwise_and(words, np.negative(words), out=words)
        if words.dtype == np.uint32:
            places = (lowest.astype(np.float32).view(np.uint32) >> 23).astype(np.intp)
        else:
            places = (lowest.astype(np.float64).view(np.uint64) >> np.uint64(52)).astype(np.intp)
        places += self.first_leaf
        # Added up from left to right, as treelite does; numpy's sum would add in pairs.
        sums = np.add.accumulate(self.leaves.take(places), axis=1)[:, -1].astype(np.float64)
        means = (sums / self.divisor).astype(self.leaves.dtype).astype(np.float64)
        return cast("NDArray[np.float64]", (means + self.bias).astype(self.leaves.dtype).astype(np.float64))

    def _lines(self, row: Row) -> list[int]:
        lines = []
        for name, thresholds, first, missing in self.numbers:
            value = row[name]
            # NaN is not equal to itself, and is missing too.
            present = value is not None and value == value
            lines.append(first + bisect_left(thresholds, value) if present else missing)  # type: ignore[type-var]
        for chain in self.chains:
            value = row[chain.name]
            if value is None or value != value:
                lines += chain.absent
            else:
                lines.append(chain.always)
                lines += [cell.line(cast("float", value)) for cell in chain.cells]
        for name, known, other in self.categories:
            value = row[name]
            lines.append(known.get(value if value == value else None, other))  # type: ignore[arg-type]
        return lines

    def _conjunction(self, lines: NDArray[np.intp]) -> _Words:
        if len(lines) < _MANY_ROWS:
            return cast("_Words", np.bitwise_and.reduce(self.words[lines], axis=1))
        words = self.words.take(lines[:, 0], axis=0)
        following = np.empty_like(words)
        for place in range(1, lines.shape[1]):
            self.words.take(lines[:, place], axis=0, out=following, mode="clip")
            words &= following
        return words


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
            cell = self._cell(place, float)
            numbers.append((name, cell.thresholds, cell.first, cell.missing))
        chains = tuple(self._chain(number, template) for number in rows.chains)
        categories = tuple(self._category(category, template) for category in rows.categories)
        outputs = 2 if self._engine.link == "identity" else 1
        averages = bool(array_of(self._header, "average_tree_output")[0])
        leaves = np.zeros((len(self._trees), self._bits), dtype=self._engine.trees.output_type)
        for place, tree in enumerate(self._trees):
            leaves[place, : len(tree.leaves)] = tree.leaves
        exponent = 127 if self._bits == 32 else 1023
        return QuickTrees(
            words=cast("_Words", np.concatenate(self._blocks)),
            numbers=tuple(numbers),
            chains=chains,
            categories=categories,
            leaves=leaves.ravel(),
            first_leaf=np.arange(len(self._trees), dtype=np.intp) * self._bits - exponent,
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

    def _cell(self, column: int, function: Callable[[float], float]) -> _Cell:
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
        return _Cell(function=function, thresholds=thresholds, first=first, missing=self._fused({column: math.nan}))

    def _chain(self, number: Number, template: Sequence[float]) -> _Chain:
        moving = {place for place, _ in number.present}
        cells = tuple(self._cell(place, function) for place, function in number.present)
        always = self._fused({place: template[place] for place in number.places if place not in moving})
        absent = _NOT_HERE
        if number.missing is not None:
            absent = self._fused({place: template[place] for place in number.places} | dict(number.missing))
        return _Chain(name=number.name, cells=cells, always=always, absent=(absent, *[_ALL] * len(cells)))

    def _category(self, category: Category, template: Sequence[float]) -> tuple[str, dict[str | None, int], int]:
        usual = {place: template[place] for place in category.places}

        def line(changes: Sequence[tuple[int, float]] | None) -> int:
            return _NOT_HERE if changes is None else self._fused(usual | dict(changes))

        known = {value: line(changes) for value, changes in category.cells.items()}
        return category.name, known, line(category.unseen)
