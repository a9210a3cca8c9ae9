"""Explain a package on a sample of rows, and check the explanation against the fitted model, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract, Input
from nbkit.errors import RationaleError
from nbkit.package import Package
from nbkit.rationale._explainers import Explained, choose_explainer
from nbkit.rationale._explanation import Dependence, Explanation
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._groups import correlated, rank_correlation
from nbkit.rationale._interactions import strongest_interactions
from nbkit.rationale._slices import explain_slices
from nbkit.rationale._stability import certify

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["explain_package"]

Progress = Callable[[float, str], None]
Floats = NDArray[np.float64]

_SHOWN_INPUTS = 6
_SHOWN_POINTS = 300
# The permutation method asks the fitted model a few thousand times for each row.
_MOST_PERMUTED_ROWS = 60


def explain_package(
    package: Package,
    frame: pd.DataFrame,
    *,
    sample: int = 500,
    seed: int = 0,
    stability: bool = True,
    progress: Progress | None = None,
) -> Explanation:
    """Explain a package on a sample of rows.

    Every way that fits the kind of model (shap's and nbkit's path-dependent and background computations of trees, the
    exact one of linear models, coalitions or permutations of inputs for anything else) is tried on a few rows against
    the fitted model's own answers; the first that adds up in all of them explains. Every explained row is then checked
    in the same way, and where it fails the next way takes over: shap is silently wrong for native categories, and for
    some models against a background.

    Parameters
    ----------
    package : Package
        What is explained.
    frame : pandas.DataFrame
        Rows with the contract's inputs, and the columns of its slices as far as they are known.
    sample : int
        At most so many rows are drawn.
    seed : int
        Draws them, and whatever else has to be drawn.
    stability : bool
        Whether to measure the stability certificate too.
    progress : callable, optional
        Called with a share of the work done and a message.

    Returns
    -------
    Explanation
        Every figure of it agrees with the fitted model.

    Raises
    ------
    RationaleError
        There is no row, or no explanation agrees with the model.
    """
    report = progress or (lambda _share, _message: None)
    contract = package.contract
    names = [column.name for column in contract.inputs]
    if not len(frame):
        raise RationaleError("explain: expected rows, got none", next_step="nbkit freeze")
    rng = np.random.default_rng(seed)
    rows = _drawn(frame, most=sample if package.compiled else min(sample, _MOST_PERMUTED_ROWS), rng=rng)
    model = FittedModel.of(package)
    report(0.02, "trying ways to explain")
    explainer = choose_explainer(package, frame[names], model=model, seed=seed)
    report(0.1, f"explaining {len(rows)} rows, each checked against the model")
    explained = explainer.explain(rows[names])
    importance = _importance(explained, names=names)
    report(0.4, "looking for inputs that act together")
    groups = correlated(frame[names], inputs=contract.inputs, threshold=contract.explain.group_correlation)
    pairs = strongest_interactions(package, rows[names], model=model, importance=importance, seed=seed)
    report(0.6, "certifying that top reasons are stable")
    certificate = certify(package, frame, explainer=explainer, groups=groups, rng=rng) if stability else None
    report(1.0, "explained")
    return Explanation(
        package_digest=package.digest,
        importance=importance,
        rows=len(rows),
        seed=seed,
        trend=_trends(contract.inputs, rows, by_input=explained.by_input),
        dependence=_dependence(
            contract.inputs, rows, by_input=explained.by_input, order=[names.index(name) for name in importance]
        ),
        groups={"+".join(group): _together(explained, names=names, group=group) for group in groups},
        interactions=pairs,
        slices=explain_slices(rows, explained.by_input, names=names, columns=_slices(contract)),
        stability=certificate,
        method=explainer.chosen.method,
        scale=explainer.model.scale,
        base=float(explained.base.mean()),
        failed_rows=explained.failed_rows,
        max_error=explained.max_error,
        tolerance=explainer.tolerance,
        cross_check=explainer.cross_check,
        background=explainer.chosen.background,
        background_digest=explainer.chosen.background_digest,
        trials=explainer.trials,
    )


def _drawn(frame: pd.DataFrame, *, most: int, rng: np.random.Generator) -> pd.DataFrame:
    chosen = np.sort(rng.choice(len(frame), size=min(most, len(frame)), replace=False))
    return frame.iloc[chosen].reset_index(drop=True)


def _importance(explained: Explained, *, names: Sequence[str]) -> dict[str, float]:
    """Return how much each input moves the score on the average, the strongest first."""
    sizes = np.abs(explained.by_input).mean(axis=0)
    order = sorted(range(len(names)), key=lambda place: (-sizes[place], place))
    return {names[place]: float(sizes[place]) for place in order}


def _slices(contract: Contract) -> tuple[str, ...]:
    return contract.evaluate.slices if contract.explain.slices is None else contract.explain.slices


def _together(explained: Explained, *, names: Sequence[str], group: Sequence[str]) -> float:
    places = [names.index(name) for name in group]
    return float(np.abs(explained.by_input[:, places].sum(axis=1)).mean())


def _trends(inputs: Sequence[Input], rows: pd.DataFrame, *, by_input: Floats) -> dict[str, float]:
    return {
        column.name: _rank_correlation(_plain(column, rows[column.name]), by_input[:, place])
        for place, column in enumerate(inputs)
        if column.type != "category" and np.abs(by_input[:, place]).any()
    }


def _dependence(
    inputs: Sequence[Input], rows: pd.DataFrame, *, by_input: Floats, order: Sequence[int]
) -> tuple[Dependence, ...]:
    moving = [place for place in order if not inputs[place].pii and np.abs(by_input[:, place]).any()]
    step = max(1, -(-len(rows) // _SHOWN_POINTS))
    return tuple(
        Dependence(
            input=inputs[place].name,
            values=_spoken(inputs[place], _plain(inputs[place], rows[inputs[place].name])[::step]),
            contributions=tuple(by_input[::step, place].tolist()),
        )
        for place in moving[:_SHOWN_INPUTS]
    )


def _plain(column: Input, values: pd.Series) -> list[float | str | None]:
    missing = values.isna().tolist()
    make = str if column.type == "category" else float
    return [None if absent else make(value) for absent, value in zip(missing, values.tolist(), strict=True)]


def _spoken(column: Input, values: Sequence[float | str | None]) -> tuple[float | str | None, ...]:
    if column.type != "boolean":
        return tuple(values)
    return tuple(None if value is None else "yes" if value else "no" for value in values)


def _rank_correlation(values: Sequence[float | str | None], contributions: Floats) -> float:
    known = np.array([isinstance(value, float) for value in values])
    return rank_correlation(np.array([value for value in values if isinstance(value, float)]), contributions[known])
