"""Ways to explain a model: each is tried against the model's own answers, one is chosen, every row is checked."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.errors import PackageError, RationaleError
from nbkit.package import Contributions, Package, Plan
from nbkit.package._engines import TreeEngine
from nbkit.package._load import BACKGROUND_FILE
from nbkit.rationale._explanation import Trial
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._permutation import Background, exactly, most_exact_inputs, permuted
from nbkit.rationale._tree_games import TreeGames

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Columns = Mapping[str, Sequence[object]]
Explain = Callable[[Columns], tuple[Floats, Floats]]

# How far base and contributions may lie from the fitted model's own log-odds.
TOLERANCE = 1e-6
# XGBoost adds up its float32 leaves in float32. Its explanations are held to the float64 sum of the same leaves, and
# that sum to the model's own answer as closely as float32 allows.
SINGLE_TOLERANCE = 1e-4

_PROBED = 40
# What has no plan is asked thousands of times for each row.
_PROBED_WITHOUT_PLAN = 3
_BACKGROUND_ROWS = 50
_TREES = (
    "ExtraTreesClassifier",
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "LGBMClassifier",
    "RandomForestClassifier",
    "XGBClassifier",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """One way: from rows to contributions by input (rows, inputs) and the base of each row."""

    method: str
    explain: Explain
    background: str
    background_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Contributions that add up to the model's answers, and how many rows needed another way."""

    by_input: Floats
    base: Floats
    answers: Floats
    failed_rows: int
    max_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedExplainer:
    """The chosen way, the ways that take over where it fails, and the model that all are checked against."""

    package: Package
    model: FittedModel
    ways: tuple[Explainer, ...]
    trials: tuple[Trial, ...]
    cross_check: float | None
    tolerance: float = TOLERANCE

    @property
    def chosen(self) -> Explainer:
        """The way that explains a row unless it fails there."""
        return self.ways[0]

    def explain(self, rows: pd.DataFrame) -> Explained:
        """Explain rows, each checked against the model's own answer.

        Raises
        ------
        RationaleError
            No way adds up to the model's answer in some row.
        """
        columns = cast("Columns", rows)
        answers = _answers(self.package, self.model, columns)
        by_input, base = self.chosen.explain(columns)
        errors = np.abs(base + by_input.sum(axis=1) - answers)
        # Not ">": a NaN compares false and must not pass.
        wrong = ~(errors <= self.tolerance)
        failed = int(wrong.sum())
        for way in self.ways[1:]:
            if not wrong.any():
                break
            places = np.flatnonzero(wrong)
            by_input[places], base[places] = way.explain(cast("Columns", rows.iloc[places].reset_index(drop=True)))
            errors[places] = np.abs(base[places] + by_input[places].sum(axis=1) - answers[places])
            wrong = ~(errors <= self.tolerance)
        if wrong.any():
            raise RationaleError(
                f"explain: {int(wrong.sum())} of {len(rows)} explanations do not add up to the model's answer; the"
                f" largest distance is {np.nanmax(errors):.3g}, allowed is {self.tolerance:.0e}",
                next_step="package the model again and compare its parity",
            )
        return Explained(
            by_input=by_input, base=base, answers=answers, failed_rows=failed, max_error=float(errors.max(initial=0.0))
        )


def choose_explainer(package: Package, frame: pd.DataFrame, *, model: FittedModel, seed: int) -> CheckedExplainer:
    """Try every way that fits the model on a few rows, and choose the first whose contributions add up in all of them.

    Parameters
    ----------
    package : Package
        What is explained.
    frame : pandas.DataFrame
        Rows with the contract's inputs.
    model : FittedModel
        Of the package.
    seed : int
        Draws what has to be drawn.

    Returns
    -------
    CheckedExplainer
        The other ways that added up take over in rows where the chosen one does not.
    """
    ways = _ways(package, frame, model=model, seed=seed)
    most = _PROBED if package.compiled else _PROBED_WITHOUT_PLAN
    probe = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, num=min(most, len(frame))).astype(int))]
    probe = probe.reset_index(drop=True)
    answers = _answers(package, model, cast("Columns", probe))
    tried = [_try(way, probe, answers=answers) for way in ways]
    order = sorted(range(len(ways)), key=lambda place: (tried[place][0].failed > 0, place))
    sound = [place for place in order if not tried[place][0].failed] or order[:1]
    # What takes over is compared with what was chosen: two independent computations of the same thing.
    twin = next((tried[place][1] for place in sound[1:] if _same_kind(ways[place], ways[sound[0]])), None)
    first = tried[sound[0]][1]
    return CheckedExplainer(
        package=package,
        model=model,
        ways=tuple(ways[place] for place in sound),
        trials=tuple(replace(trial, chosen=place == sound[0]) for place, (trial, _) in enumerate(tried)),
        cross_check=float(np.abs(first - twin).max()) if first is not None and twin is not None else None,
    )


def _answers(package: Package, model: FittedModel, columns: Columns) -> Floats:
    """Return what explanations must add up to: the model's own answers, of a float32 sum its float64 form."""
    answers = model.answers(columns)
    plan = package.plan
    if not model.single_precision or plan is None or not isinstance(plan.engine, TreeEngine):
        return answers
    exact = plan.sign * TreeGames.of(plan.engine).answers(plan.transform_columns(columns))
    return np.where(np.abs(exact - answers) <= SINGLE_TOLERANCE, exact, answers)


def _same_kind(one: Explainer, other: Explainer) -> bool:
    return one.background_digest == other.background_digest


def _try(way: Explainer, probe: pd.DataFrame, *, answers: Floats) -> tuple[Trial, Floats | None]:
    try:
        # Imports and what is made once are no part of the time a row takes.
        way.explain(cast("Columns", probe.head(1)))
        started = time.perf_counter()
        by_input, base = way.explain(cast("Columns", probe))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        PackageError,
        TypeError,
        ValueError,
    ) as e:
        # A way that does not take this model at all is a finding, not an accident.
        problem = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:160]
        return Trial(
            method=way.method, rows=len(probe), failed=len(probe), max_error=None, ms_per_row=0.0, problem=problem
        ), None
    taken = 1000 * (time.perf_counter() - started) / len(probe)
    errors = np.abs(base + by_input.sum(axis=1) - answers)
    failed = int((~(errors <= TOLERANCE)).sum())
    worst = float(errors.max()) if np.isfinite(errors).all() else None
    trial = Trial(method=way.method, rows=len(probe), failed=failed, max_error=worst, ms_per_row=round(taken, 3))
    return trial, by_input


def _ways(package: Package, frame: pd.DataFrame, *, model: FittedModel, seed: int) -> list[Explainer]:
    if package.plan is None:
        return _ways_without_plan(package, frame, model=model, seed=seed)
    digest = cast("Any", package.manifest["files"])[BACKGROUND_FILE]["sha256"]
    background = package.background()
    assert background is not None  # noqa: S101  a compiled package has one; the check tells mypy
    if not isinstance(package.plan.engine, TreeEngine):
        return [
            Explainer(
                method="exact: coefficient times distance from the background's mean",
                explain=_by_contributions(package.plan, background=background),
                background="the mean of a sample of the training rows that the package holds",
                background_digest=digest,
            )
        ]
    background = background[:_BACKGROUND_ROWS]
    counted = {
        "background": "the training rows, as the trees count them",
        "background_digest": cast("Any", package.manifest["model_digest"])["plan"],
    }
    drawn = {
        "background": f"{len(background)} training rows that the package holds",
        "background_digest": digest,
    }
    return _ways_of_trees(package.plan, package.plan.engine, background, model=model, counted=counted, drawn=drawn)


def _ways_of_trees(
    plan: Plan,
    engine: TreeEngine,
    background: Floats,
    *,
    model: FittedModel,
    counted: Mapping[str, str],
    drawn: Mapping[str, str],
) -> list[Explainer]:
    sources = np.array([[float(column.source == name) for name in plan.inputs] for column in plan.columns])

    def against_rows(columns: Columns) -> tuple[Floats, Floats]:
        by_column, base = TreeGames.of(engine).against(plan.transform_columns(columns), background)
        return plan.sign * by_column @ sources, np.full(len(by_column), plan.sign * base)

    ways = [
        Explainer(
            method="nbkit's own path-dependent computation, exact",
            explain=_by_contributions(plan, background=None),
            **counted,
        ),
        Explainer(method="nbkit's own computation against a background, exact", explain=against_rows, **drawn),
    ]
    if model.family not in _TREES or getattr(model.last, "n_features_in_", -1) != len(plan.columns):
        return ways
    path = _by_shap(plan, model=model, sources=sources, background=None)
    rows = _by_shap(plan, model=model, sources=sources, background=background)
    return [
        Explainer(method="shap TreeExplainer, path-dependent", explain=path, **counted),
        ways[0],
        Explainer(method="shap TreeExplainer, against a background", explain=rows, **drawn),
        ways[1],
    ]


def _by_contributions(plan: Plan, *, background: Floats | None) -> Explain:
    contributions = Contributions.from_plan(plan, background=background)

    def explain(columns: Columns) -> tuple[Floats, Floats]:
        found = contributions.explain_columns(columns)
        by_input = np.array([list(one.by_input.values()) for one in found])
        return by_input, np.full(len(found), contributions.base)

    return explain


def _by_shap(plan: Plan, *, model: FittedModel, sources: Floats, background: Floats | None) -> Explain:
    """Explain the last step by shap, towards the positive class; one-hot columns are added back to their input."""
    made: list[Any] = []

    def explain(columns: Columns) -> tuple[Floats, Floats]:
        matrix = plan.transform_columns(columns)
        with warnings.catch_warnings():
            # shap sets the ends of its colour maps by methods that matplotlib is about to deprecate, and announces at
            # every call the shape that it returns for LightGBM.
            warnings.filterwarnings("ignore", category=PendingDeprecationWarning, message=r"The set_(bad|over|under)")
            warnings.filterwarnings("ignore", category=UserWarning, message="LightGBM binary classifier with")
            warnings.filterwarnings("ignore", category=UserWarning, message="X does not have valid feature names")
            import shap

            if not made:
                how = "tree_path_dependent" if background is None else "interventional"
                made.append(shap.TreeExplainer(model.last, data=background, feature_perturbation=how))
            values = np.asarray(made[0].shap_values(matrix, check_additivity=False), dtype=np.float64)
        base = np.ravel(np.asarray(made[0].expected_value, dtype=np.float64))
        if values.ndim == 3:
            values, one = values[:, :, model.positive], float(base[model.positive])
        else:
            sign = 1.0 if model.positive == 1 else -1.0
            values, one = sign * values, sign * float(base[-1])
        return values @ sources, np.full(len(values), one)

    return explain


def _ways_without_plan(package: Package, frame: pd.DataFrame, *, model: FittedModel, seed: int) -> list[Explainer]:
    inputs = package.contract.inputs
    background = Background.draw(frame, inputs=inputs, seed=seed)
    told = {
        "background": f"{len(background)} of the explained cases, drawn",
        "background_digest": background.digest,
    }
    against = Explainer(
        method=f"permutation against {len(background)} rows: its sum is exact, its parts are sampled",
        explain=lambda columns: permuted(model.answers, columns, background=background, inputs=inputs, seed=seed),
        **told,
    )
    if len(inputs) > most_exact_inputs():
        return [against]
    exact = Explainer(
        method=f"every coalition of inputs against {len(background)} rows, exact",
        explain=lambda columns: exactly(model.answers, columns, background=background, inputs=inputs),
        **told,
    )
    return [exact, against]
