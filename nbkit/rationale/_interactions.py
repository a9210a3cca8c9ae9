"""What two inputs do together beyond what each does alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.package import Package
from nbkit.package._engines import LinearEngine, TreeEngine
from nbkit.rationale._explanation import Interaction
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._permutation import Background, Mixer
from nbkit.rationale._tree_games import TreeGames

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Columns = Mapping[str, Sequence[object]]

_TOP_INPUTS = 6
_MOST_PAIRS = 8
_ROWS = 100
_ROWS_WITHOUT_PLAN = 20


def strongest_interactions(
    package: Package, rows: pd.DataFrame, *, model: FittedModel, importance: Mapping[str, float], seed: int
) -> tuple[Interaction, ...]:
    """Measure the pairs of a model's most important inputs.

    Trees: exact Shapley interactions against their training counts. A linear model adds its inputs up: none. Anything
    else: what replacing both inputs by a background's changes beyond replacing each of them.

    Parameters
    ----------
    package : Package
        What is explained.
    rows : pandas.DataFrame
        Explained rows.
    model : FittedModel
        Of the package.
    importance : mapping of str to float
        Largest first.
    seed : int
        Draws the background.

    Returns
    -------
    tuple of Interaction
        Strongest first; those that do nothing are left out.
    """
    top = [name for name, size in importance.items() if size > 0][:_TOP_INPUTS]
    plan = package.plan
    if plan is not None and isinstance(plan.engine, LinearEngine):
        return ()
    if plan is not None and isinstance(plan.engine, TreeEngine):
        matrix = plan.transform_columns(cast("Columns", rows.head(_ROWS)))
        sources = np.array([[float(column.source == name) for name in top] for column in plan.columns])
        by_pair = np.abs(sources.T @ TreeGames.of(plan.engine).interactions(matrix) @ sources).mean(axis=0)
        strength = {pair: float(by_pair[top.index(pair[0]), top.index(pair[1])]) for pair in combinations(top, 2)}
    else:
        strength = _by_mixing(package, rows.head(_ROWS_WITHOUT_PLAN), model=model, top=top, seed=seed)
    found = [Interaction(inputs=pair, strength=value) for pair, value in strength.items() if value > 0]
    return tuple(sorted(found, key=lambda one: -one.strength)[:_MOST_PAIRS])


def _by_mixing(
    package: Package, rows: pd.DataFrame, *, model: FittedModel, top: Sequence[str], seed: int
) -> dict[tuple[str, str], float]:
    inputs = package.contract.inputs
    background = Background.draw(rows, inputs=inputs, seed=seed)
    mixer = Mixer.of(model.answers, cast("Columns", rows), background=background)
    every = frozenset(column.name for column in inputs)
    whole = mixer.mean(every)
    alone = {name: mixer.mean(every - {name}) for name in top}
    return {
        (one, other): float(np.abs(whole - alone[one] - alone[other] + mixer.mean(every - {one, other})).mean())
        for one, other in combinations(top, 2)
    }
