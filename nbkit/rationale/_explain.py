"""Explain a package on a sample of rows, and check the explanation against the fitted model, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Input
from nbkit.errors import RationaleError
from nbkit.package import Contributions, Package, Plan
from nbkit.package._load import BACKGROUND_FILE
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._permutation import explain_by_permutation, sample_digest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dependence", "Explanation", "explain_package"]

Progress = Callable[[float, str], None]
Floats = NDArray[np.float64]

# How far base and contributions may lie from the fitted model's own log-odds.
_TOLERANCE = 1e-6
# A model whose leaves are float32 adds them up in float32: its own log-odds carry about this much.
_SINGLE_TOLERANCE = 1e-4
_SHOWN_INPUTS = 6
_SHOWN_POINTS = 300
# The permutation method asks the fitted model a few thousand times for each row.
_MOST_PERMUTED_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """How the contribution of one input goes with its value.

    Parameters
    ----------
    input : str
        Its name.
    values : tuple of float, str or None
        Its value in each row that is shown; None is missing.
    contributions : tuple of float
        What it contributed there.
    """

    input: str
    values: tuple[float | str | None, ...]
    contributions: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What moves a model's scores, measured on a sample of rows.

    Parameters
    ----------
    package_digest : str
        The package that was explained.
    method : str
        How, in words.
    scale : str
        ``log-odds`` or ``probability``: what the figures are differences of.
    base : float
        The model's mean answer.
    importance : dict of str to float
        Mean absolute contribution by input, largest first.
    trend : dict of str to float
        Rank correlation of value and contribution, -1..1, of numerical inputs that move the score.
    dependence : tuple of Dependence
        Of the most important inputs; never of personal data.
    rows : int
        Rows explained.
    failed_rows : int
        Rows whose first explanation did not add up to the fitted model's answer and that were explained another way.
    max_error : float
        Largest distance between an explanation and the fitted model's answer, of the explanations that are used.
    tolerance : float
        What is allowed.
    cross_check : float or None
        Largest difference between shap and nbkit's own computation by input; None where only one of them applies.
    background_digest : str
        Digest of the rows that absent inputs are compared with; for trees these are their own training counts.
    seed : int
        Draws the sample.
    """

    package_digest: str
    method: str
    scale: str
    base: float
    importance: dict[str, float]
    trend: dict[str, float]
    dependence: tuple[Dependence, ...]
    rows: int
    failed_rows: int
    max_error: float
    tolerance: float
    cross_check: float | None
    background_digest: str
    seed: int

    def to_dict(self) -> dict[str, object]:
        """Return the figures for JSON; without the points of the plots.

        Returns
        -------
        dict
            Every field but ``dependence``.
        """
        names = (name for name in self.__slots__ if name != "dependence")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """Contributions by input, shape (rows, inputs), and how they came about."""

    by_input: Floats
    base: Floats
    method: str
    scale: str
    failed_rows: int = 0
    cross_check: float | None = None
    background_digest: str


def explain_package(
    package: Package, frame: pd.DataFrame, *, sample: int = 500, seed: int = 0, progress: Progress | None = None
) -> Explanation:
    """Explain a package on a sample of rows.

    Trees are explained by shap's path-dependent TreeExplainer, linear models exactly, everything else by permutation of
    the inputs. Every row's explanation is compared with the fitted model's own answer; where shap's does not add up (as
    with native categories, where it is silently wrong), nbkit's exact computation takes its place.

    Parameters
    ----------
    package : Package
        What is explained.
    frame : pandas.DataFrame
        Rows with the contract's inputs.
    sample : int
        At most so many rows are drawn.
    seed : int
        Draws them.
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
    names = [column.name for column in package.contract.inputs]
    if not len(frame):
        raise RationaleError("explain: expected rows, got none", next_step="nbkit freeze")
    rng = np.random.default_rng(seed)
    most = sample if package.compiled else min(sample, _MOST_PERMUTED_ROWS)
    chosen = np.sort(rng.choice(len(frame), size=min(most, len(frame)), replace=False))
    rows = frame[names].iloc[chosen].reset_index(drop=True)
    model = FittedModel.of(package)
    report(0.1, f"explaining {len(rows)} rows")
    columns = cast("Mapping[str, Sequence[object]]", rows)
    answers = model.answers(columns)
    if package.plan is not None:
        tolerance = _SINGLE_TOLERANCE if model.single_precision else _TOLERANCE
        values = _of_plan(package, package.plan, columns=columns, model=model, answers=answers, tolerance=tolerance)
    else:
        tolerance = _TOLERANCE
        values = _by_permutation(package, frame[names], rows=rows, model=model, seed=seed)
    report(0.9, "checking every row against the model")
    errors = np.abs(values.base + values.by_input.sum(axis=1) - answers)
    wrong = int((~(errors <= tolerance)).sum())
    if wrong:
        raise RationaleError(
            f"explain: {wrong} of {len(rows)} explanations do not add up to the model's answer; the largest distance is"
            f" {np.nanmax(errors):.3g}, allowed is {tolerance:.0e}",
            next_step="package the model again and compare its parity",
        )
    report(1.0, "explained")
    return _summary(package, rows, values=values, max_error=float(errors.max()), tolerance=tolerance, seed=seed)


def _of_plan(
    package: Package,
    plan: Plan,
    *,
    columns: Mapping[str, Sequence[object]],
    model: FittedModel,
    answers: Floats,
    tolerance: float,
) -> _Values:
    contributions = Contributions.from_plan(plan, background=package.background())
    exact = contributions.explain_columns(columns)
    by_input = np.array([list(one.by_input.values()) for one in exact])
    files: Any = package.manifest["files"]
    values = _Values(
        by_input=by_input,
        base=np.full(len(answers), contributions.base),
        method="exact: coefficient times distance from the background's mean",
        scale=exact[0].scale,
        background_digest=files[BACKGROUND_FILE]["sha256"],
    )
    found = model.by_shap(plan.transform_columns(columns))
    if found is None:
        return values
    # 0 and 1, shape (columns, inputs): which input a column of the model comes from.
    sources = np.array([[float(column.source == name) for name in plan.inputs] for column in plan.columns])
    return _prefer_shap(values, found, sources=sources, answers=answers, tolerance=tolerance)


def _prefer_shap(
    exact: _Values, found: tuple[Floats, float], *, sources: Floats, answers: Floats, tolerance: float
) -> _Values:
    """Take shap's values in every row where they add up to the model's answer, and the exact ones elsewhere."""
    by_column, base = found
    by_input = by_column @ sources
    holds = np.abs(base + by_input.sum(axis=1) - answers) <= tolerance
    gaps = np.abs(by_input - exact.by_input)[holds]
    return _Values(
        by_input=np.where(holds[:, None], by_input, exact.by_input),
        base=np.where(holds, base, exact.base),
        method="shap TreeExplainer, path-dependent, each row checked against the fitted model",
        scale=exact.scale,
        failed_rows=int((~holds).sum()),
        cross_check=float(gaps.max()) if gaps.size else None,
        background_digest=exact.background_digest,
    )


def _by_permutation(
    package: Package, frame: pd.DataFrame, *, rows: pd.DataFrame, model: FittedModel, seed: int
) -> _Values:
    found = explain_by_permutation(model.answers, rows, frame=frame, inputs=package.contract.inputs, seed=seed)
    return _Values(
        by_input=found.by_input,
        base=found.base,
        method=f"permutation against {len(found.background)} rows: its sum is exact, its parts are sampled",
        scale=model.scale,
        background_digest=sample_digest(found.background),
    )


def _summary(
    package: Package, rows: pd.DataFrame, *, values: _Values, max_error: float, tolerance: float, seed: int
) -> Explanation:
    inputs = package.contract.inputs
    sizes = np.abs(values.by_input).mean(axis=0)
    order = sorted(range(len(inputs)), key=lambda place: (-sizes[place], place))
    shown = [place for place in order if not inputs[place].pii and sizes[place] > 0][:_SHOWN_INPUTS]
    step = max(1, -(-len(rows) // _SHOWN_POINTS))
    columns = {place: _plain(inputs[place], rows[inputs[place].name]) for place in order}
    return Explanation(
        package_digest=package.digest,
        method=values.method,
        scale=values.scale,
        base=float(values.base.mean()),
        importance={inputs[place].name: float(sizes[place]) for place in order},
        trend={
            inputs[place].name: _rank_correlation(columns[place], values.by_input[:, place])
            for place in order
            if inputs[place].type != "category" and sizes[place] > 0
        },
        dependence=tuple(
            Dependence(
                input=inputs[place].name,
                values=_spoken(inputs[place], columns[place][::step]),
                contributions=tuple(values.by_input[::step, place].tolist()),
            )
            for place in shown
        ),
        rows=len(rows),
        failed_rows=values.failed_rows,
        max_error=max_error,
        tolerance=tolerance,
        cross_check=values.cross_check,
        background_digest=values.background_digest,
        seed=seed,
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
    numbers = np.array([value for value in values if isinstance(value, float)])
    if len(set(numbers.tolist())) < 2:
        return 0.0
    ranks = np.vstack([_ranks(numbers), _ranks(contributions[known])])
    if (ranks == ranks[:, :1]).all(axis=1).any():
        return 0.0
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return mid-ranks, so that ties do not depend on their order."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2)[place], dtype=np.float64)
