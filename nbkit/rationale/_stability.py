"""The stability certificate: how often a row's top reason changes although nothing of substance did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract, Input
from nbkit.package import Contributions, Package
from nbkit.package._engines import TreeEngine
from nbkit.rationale._explainers import CheckedExplainer
from nbkit.rationale._explanation import Share, Stability
from nbkit.rationale._groups import joined, rank_correlation
from nbkit.rationale._permutation import Background, exactly, most_exact_inputs, permuted
from nbkit.rationale._tree_games import TreeGames

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Columns = Mapping[str, Sequence[object]]

_ROWS = 200
_ROWS_WITHOUT_PLAN = 30
_BACKGROUND_ROWS = 50
# Rank noise of this spread gives a twin of rank correlation about 0.9: 1 / sqrt(1 + 12 * 0.14^2).
_TWIN_SPREAD = 0.14
_TWIN_CORRELATION = 0.9
_NOISE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Certified:
    """The rows of the certificate, as they are, and which reason each input belongs to."""

    contract: Contract
    rows: pd.DataFrame
    by_input: Floats
    # 0 and 1, shape (inputs, reasons).
    reasons: Floats

    def top(self, by_input: Floats) -> NDArray[np.intp]:
        """Return each row's reason that pushes most towards the positive class; -1 where none does."""
        by_reason = by_input @ self.reasons
        return np.where(by_reason.max(axis=1) > 0, by_reason.argmax(axis=1), -1)

    def changed(self, by_input: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.top(by_input) != self.top(self.by_input))


def certify(
    package: Package,
    frame: pd.DataFrame,
    *,
    explainer: CheckedExplainer,
    groups: Sequence[tuple[str, ...]],
    rng: np.random.Generator,
) -> Stability:
    """Measure how often the top reason of a row changes.

    Inputs of one reason code, and inputs of one correlated group, are one reason.

    Parameters
    ----------
    package : Package
        What is explained.
    frame : pandas.DataFrame
        All cases, with the contract's inputs.
    explainer : CheckedExplainer
        As it explains the version; each explanation of a changed row is checked too.
    groups : sequence of tuple of str
        Correlated inputs.
    rng : numpy.random.Generator
        Draws background, twins and noise.

    Returns
    -------
    Stability
        Every share with its interval, at the contract's confidence.
    """
    contract = package.contract
    names = [column.name for column in contract.inputs]
    scores = explainer.model.answers(cast("Columns", frame[names]))
    most = _ROWS if package.compiled else _ROWS_WITHOUT_PLAN
    chosen = np.sort(np.argsort(-scores, kind="stable")[: min(most, len(frame))])
    rows = frame[names].iloc[chosen].reset_index(drop=True)
    certified = _Certified(
        contract=contract,
        rows=rows,
        by_input=explainer.explain(rows).by_input,
        reasons=_reasons(contract, groups=groups),
    )
    other, told = _other_background(package, frame[names], rows=rows, explainer=explainer, rng=rng)
    twin, apart, correlation = _twins(certified, frame[names], explainer=explainer, rng=rng)
    noisy = explainer.explain(_noisy(rows, frame, inputs=contract.inputs, rng=rng)).by_input
    confidence = contract.evaluate.confidence
    shares = [
        share_of(changed, confidence=confidence)
        for changed in (certified.changed(other), twin, certified.changed(noisy))
    ]
    return Stability(
        rows=len(rows),
        declined=_declined(package, scores[chosen]),
        background_share=shares[0],
        twin_share=shares[1],
        noise_share=shares[2],
        worst_share=max(shares, key=lambda share: (share.value, share.high)),
        background=told,
        twin_correlation=correlation,
        twin_apart_share=share_of(apart, confidence=confidence),
        noise=_NOISE,
    )


def share_of(changed: NDArray[np.bool_], *, confidence: float) -> Share:
    """Return a share with Wilson's interval (1927), which holds for small shares of few rows too.

    Examples
    --------
    >>> share = share_of(np.array([True, False, False, False]), confidence=0.95)
    >>> share.value, round(share.low, 3), round(share.high, 3)
    (0.25, 0.046, 0.699)
    """
    n, hits = len(changed), int(changed.sum())
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (hits + z * z / 2) / (n + z * z)
    reach = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    # At the ends the formula leaves a rounding error of 1e-17 on the wrong side.
    return Share(value=hits / n, low=0.0 if not hits else low, high=1.0 if hits == n else high)


def _reasons(contract: Contract, *, groups: Sequence[tuple[str, ...]]) -> Floats:
    names = [column.name for column in contract.inputs]
    by_code: dict[str, list[str]] = {}
    for column in contract.inputs:
        if column.reason is not None:
            by_code.setdefault(column.reason, []).append(column.name)
    chains = [*groups, *by_code.values()]
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    parts = joined(names, pairs)
    return np.array([[float(name in part) for part in parts] for name in names])


def _declined(package: Package, answers: Floats) -> int:
    threshold = package.thresholds.decline
    if package.plan is not None and package.plan.link == "logit":
        threshold = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.inf * (threshold - 0.5)
    return int((answers >= threshold).sum())


def _other_background(
    package: Package, frame: pd.DataFrame, *, rows: pd.DataFrame, explainer: CheckedExplainer, rng: np.random.Generator
) -> tuple[Floats, str]:
    drawn = frame.iloc[np.sort(rng.choice(len(frame), size=min(_BACKGROUND_ROWS, len(frame)), replace=False))]
    plan, columns = package.plan, cast("Columns", rows)
    if plan is None:
        inputs, seed = package.contract.inputs, int(rng.integers(2**31))
        background = Background.draw(frame, inputs=inputs, seed=seed)
        ask = explainer.model.answers
        if len(inputs) <= most_exact_inputs():
            values, _ = exactly(ask, columns, background=background, inputs=inputs)
        else:
            values, _ = permuted(ask, columns, background=background, inputs=inputs, seed=seed)
        return values, f"{len(background)} other cases"
    matrix = plan.transform_columns(cast("Columns", drawn))
    told = f"{len(drawn)} cases instead of {explainer.chosen.background}"
    if isinstance(plan.engine, TreeEngine):
        by_column, _ = TreeGames.of(plan.engine).against(plan.transform_columns(columns), matrix)
        sources = np.array([[float(column.source == name) for name in plan.inputs] for column in plan.columns])
        return plan.sign * by_column @ sources, told
    found = Contributions.from_plan(plan, background=matrix).explain_columns(columns)
    return np.array([list(one.by_input.values()) for one in found]), told


def _twins(
    certified: _Certified, frame: pd.DataFrame, *, explainer: CheckedExplainer, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Explain a model that uses, half of the time, a twin of each row's strongest input.

    Half of the model with the input and half of it with the twin is a model whose contributions are known exactly:
    Shapley values are linear in the model.
    """
    strongest = certified.by_input.argmax(axis=1)
    moved, pairs = certified.rows.copy(), []
    for place, column in enumerate(certified.contract.inputs):
        concerned = np.flatnonzero(strongest == place)
        twins = _twin(certified.rows[column.name], frame[column.name], column=column, rng=rng)
        moved[column.name] = _with(certified.rows[column.name], twins, places=concerned)
        if column.type != "category":
            known = [(a, b) for a, b in zip(certified.rows[column.name], twins, strict=True) if a == a and b == b]
            if known:
                pairs.append(rank_correlation(*np.array(known, dtype=np.float64).T))
    again = explainer.explain(moved).by_input
    half = (certified.by_input + again) / 2
    twin_part = np.zeros_like(half)
    each = np.arange(len(half))
    twin_part[each, strongest] = again[each, strongest] / 2
    without = half - twin_part
    # As an input of its own the twin takes its half away from the reason; unless it is the largest itself.
    by_reason = without @ certified.reasons
    largest = twin_part.sum(axis=1) >= by_reason.max(axis=1)
    apart = certified.changed(without) & ~largest
    grouped = certified.contract.explain.group_correlation <= _TWIN_CORRELATION
    correlation = float(np.median(pairs)) if pairs else _TWIN_CORRELATION
    return (certified.changed(half) if grouped else apart), apart, correlation


def _with(values: pd.Series, twins: list[object], *, places: NDArray[np.intp]) -> pd.Series:
    changed = values.astype(object).copy()
    for place in places.tolist():
        changed.iloc[place] = twins[place]
    return changed.astype(values.dtype)


def _twin(values: pd.Series, all_values: pd.Series, *, column: Input, rng: np.random.Generator) -> list[object]:
    """Return, for every value, another row's: one of nearly the same rank, or now and then any level of a category."""
    known = all_values.dropna()
    if not len(known):
        return list(values)
    if column.type in ("category", "boolean") or known.nunique() <= 2:
        drawn = known.iloc[rng.integers(len(known), size=len(values))].tolist()
        again = rng.random(len(values)) < 1 - _TWIN_CORRELATION
        return [new if change and old == old else old for old, new, change in zip(values, drawn, again, strict=True)]
    ordered = np.sort(known.to_numpy(dtype=np.float64))
    low = np.searchsorted(ordered, values.to_numpy(dtype=np.float64), side="left")
    high = np.searchsorted(ordered, values.to_numpy(dtype=np.float64), side="right")
    moved = (low + high) / 2 + rng.normal(0.0, _TWIN_SPREAD * len(ordered), size=len(values))
    # A step over the end comes back, so that the ends are not crowded.
    moved = np.abs(moved)
    moved = np.where(moved > len(ordered) - 1, 2 * (len(ordered) - 1) - moved, moved)
    near = ordered[np.clip(moved.round().astype(int), 0, len(ordered) - 1)]
    return [new if old == old else old for old, new in zip(values, near.tolist(), strict=True)]


def _noisy(
    rows: pd.DataFrame, frame: pd.DataFrame, *, inputs: Sequence[Input], rng: np.random.Generator
) -> pd.DataFrame:
    noisy = rows.copy()
    for column in inputs:
        if column.type not in ("number", "integer"):
            continue
        values = rows[column.name].to_numpy(dtype=np.float64)
        known = frame[column.name].dropna().to_numpy(dtype=np.float64)
        if not len(known):
            continue
        low, high = np.quantile(known, (0.05, 0.95))
        moved = values + rng.normal(0.0, 1.0, size=len(values)) * _NOISE * (high - low)
        if column.type == "integer":
            moved = moved.round()
        noisy[column.name] = np.clip(
            moved,
            -np.inf if column.minimum is None else column.minimum,
            np.inf if column.maximum is None else column.maximum,
        )
    return noisy
