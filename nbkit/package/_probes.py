"""Rows on which a wrong plan would show: edges of the contract, split points of the trees, decision thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract, Input, Thresholds
from nbkit.package._engines import TreeEngine
from nbkit.package._plan import Plan
from nbkit.package._steps import Arithmetic, Fill, Scalar, Step

Row = Mapping[str, Scalar]

# Enough to meet every bin edge of a dozen histogram-binned inputs, and 50 ms of parity at most.
_SPLIT_POINTS = 600
_PAIRS_PER_THRESHOLD = 6
# A float64 interval is exhausted after 53 halvings; those near 0 may take a few more.
_HALVINGS = 60
_UNSEEN = "never seen, not even in the contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRow:
    """One row at the edge of the contract.

    Parameters
    ----------
    what : str
        What is special about it.
    row : Row
        Every input by name.
    allowed : bool
        Whether the contract lets such a row through.
    """

    what: str
    row: Row
    allowed: bool = True


def edge_rows(typical: Row, *, inputs: Sequence[Input], ranges: Mapping[str, tuple[float, float]]) -> list[EdgeRow]:
    """Return the rows at the edges of the contract.

    Parameters
    ----------
    typical : Row
        The row that is changed in one input at a time.
    inputs : sequence of Input
        The contract's inputs.
    ranges : mapping of str to (float, float)
        Lowest and highest value seen of each number.

    Returns
    -------
    list of EdgeRow
        Missing values, every category, an unseen one, the extremes of every range; no infinities.
    """
    rows = [EdgeRow(what="a typical row", row=typical)]
    gone = {item.name: None for item in inputs if item.nullable}
    if gone:
        rows.append(EdgeRow(what="everything nullable missing", row={**typical, **gone}))
    rows += [EdgeRow(what=f"{name} missing", row={**typical, name: None}) for name in gone]
    for item in inputs:
        rows += [EdgeRow(what=what, row={**typical, item.name: value}) for what, value in _values(item, ranges=ranges)]
        if item.type == "category":
            rows.append(EdgeRow(what=f"{item.name} unseen", row={**typical, item.name: _UNSEEN}, allowed=False))
    return rows


def _values(item: Input, *, ranges: Mapping[str, tuple[float, float]]) -> Iterator[tuple[str, Scalar]]:
    if item.type == "category":
        yield from ((f"{item.name} = {level!r}", level) for level in item.categories)
        return
    if item.type == "boolean":
        yield from ((f"{item.name} = {value}", value) for value in (0.0, 1.0))
        return
    lowest, highest = ranges[item.name]
    yield f"{item.name} at its lowest", lowest if item.minimum is None else item.minimum
    yield f"{item.name} at its highest", highest if item.maximum is None else item.maximum


def threshold_rows(
    rows: Sequence[Row], *, plan: Plan, scores: NDArray[np.float64], thresholds: Thresholds
) -> list[Row]:
    """Return rows that lie at the decision thresholds.

    The rows that score nearest below and above a threshold are joined by a line, and the line is halved until two
    neighbouring floats remain, one on each side: there a rounding error turns a decision.

    Parameters
    ----------
    rows : sequence of Row
        Given rows.
    plan : Plan
        The plan under test.
    scores : ndarray of float64
        Its scores of the given rows.
    thresholds : Thresholds
        Scores at which a decision changes.

    Returns
    -------
    list of Row
        The nearest given rows and the two ends of each halved line.
    """
    found: list[Row] = []
    order = np.argsort(scores, kind="stable")
    for threshold in sorted({thresholds.refer, thresholds.decline}):
        middle = int(np.searchsorted(scores[order], threshold))
        below = order[max(0, middle - _PAIRS_PER_THRESHOLD) : middle][::-1]
        above = order[middle : middle + _PAIRS_PER_THRESHOLD]
        found += [rows[index] for index in (*below, *above)]
        for low, high in zip(below, above, strict=False):
            found += _halve(rows[low], rows[high], plan=plan, threshold=threshold)
    return found


def _halve(low: Row, high: Row, *, plan: Plan, threshold: float) -> list[Row]:
    left, right = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        if middle in (left, right):
            break
        if plan.score(_between(low, high, share=middle)) < threshold:
            left = middle
        else:
            right = middle
    return [_between(low, high, share=left), _between(low, high, share=right)]


def _between(low: Row, high: Row, *, share: float) -> Row:
    row: dict[str, Scalar] = {}
    for name, start in low.items():
        end = high[name]
        if isinstance(start, float) and isinstance(end, float):
            row[name] = start + (end - start) * share
        else:
            row[name] = start if share < 0.5 else end
    return row


def split_rows(rows: Sequence[Row], *, plan: Plan, rng: np.random.Generator) -> list[Row]:
    """Return rows that stand exactly on split points of the trees, and one float beside them.

    A row is taken from the given ones with its input near the split point, so that it is likely to reach that split.

    Parameters
    ----------
    rows : sequence of Row
        Given rows.
    plan : Plan
        The plan under test.
    rng : numpy.random.Generator
        Draws the split points when there are too many.

    Returns
    -------
    list of Row
        None for a linear model.
    """
    if not isinstance(plan.engine, TreeEngine):
        return []
    points = sorted(_split_points(plan))
    if len(points) > _SPLIT_POINTS:
        points = [points[index] for index in sorted(rng.choice(len(points), size=_SPLIT_POINTS, replace=False))]
    nearest = {name: _by_value(rows, name=name) for name in {name for name, _ in points}}
    found: list[Row] = []
    for name, point in points:
        values, places = nearest[name]
        if len(places):
            base = rows[places[min(int(np.searchsorted(values, point)), len(places) - 1)]]
            found += [{**base, name: value} for value in (point, float(np.nextafter(point, np.inf)))]
    return found


def _split_points(plan: Plan) -> set[tuple[str, float]]:
    points: set[tuple[str, float]] = set()
    trees = cast("TreeEngine", plan.engine).trees
    for index in range(trees.num_tree):
        tree = trees.get_tree_accessor(index)
        inner = tree.get_field("cleft") >= 0
        splits = zip(tree.get_field("split_index")[inner], tree.get_field("threshold")[inner], strict=True)
        for place, threshold in splits:
            column = plan.columns[place]
            value = _undo(column.steps, float(threshold))
            if value is not None and column.source in plan.number_inputs:
                points.add((column.source, value))
    return points


def _undo(steps: Sequence[Step], value: float) -> float | None:
    """Return the input value that the steps bring to (about) this one; None where that says nothing."""
    for step in reversed(steps):
        match step:
            case Arithmetic(kind="subtract"):
                value += step.value
            case Arithmetic(kind="add"):
                value -= step.value
            case Arithmetic(kind="divide"):
                value *= step.value
            case Arithmetic(kind="multiply") if step.value:
                value /= step.value
            case Fill():
                pass
            case _:
                return None
    return value if np.isfinite(value) else None


def _by_value(rows: Sequence[Row], *, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    values = np.array([row[name] for row in rows], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    known = order[: len(values) - int(np.isnan(values).sum())]
    return values[known], known


def typical_row(rows: Sequence[Row], *, contract: Contract) -> Row:
    """Return a row without missing values where the given rows allow one.

    Parameters
    ----------
    rows : sequence of Row
        Given rows.
    contract : Contract
        Names the inputs.

    Returns
    -------
    Row
        The first given value of each input; the first category, or 0, where all are missing.
    """
    typical: dict[str, Scalar] = {}
    for item in contract.inputs:
        spare: Scalar = item.categories[0] if item.type == "category" else 0.0
        typical[item.name] = next((row[item.name] for row in rows if row[item.name] is not None), spare)
    return typical
