"""Figures and checks of other packages: an interval beside the number, evidence behind a stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.errors import EvaluationError
from nbkit.evaluate._leaks import Leak
from nbkit.evaluate._metrics import Judged, Metric
from nbkit.plugins import Plugin, find_plugins, load_plugin

# A stranger's function is called once a resample: so many rows in all, and never more resamples than this.
_MOST_RESAMPLES = 500
_MOST_ROWS = 20_000_000
_FEWEST_RESAMPLES = 50
# When more resamples than this share have no value, their percentiles describe another question.
_MOST_EMPTY_SHARE = 0.05


class CaseMetric(Protocol):
    """A figure of what a version did with every case; entry-point group ``nbkit.metrics``."""

    def __call__(
        self, scores: NDArray[np.float64], labels: NDArray[np.bool_], decisions: NDArray[np.int64], /
    ) -> float:
        """Return the figure; NaN where these cases have none. Decisions are 0 (approve), 1 (refer), 2 (decline)."""
        ...


class DataCheck(Protocol):
    """A look at training rows before anything is fitted on them; entry-point group ``nbkit.checks``."""

    def __call__(self, frame: pd.DataFrame, *, contract: Contract) -> Sequence[Leak]:
        """Return findings; a refused one stops the training with its text."""
        ...


def plugged_metrics(
    judged: Judged,
    *,
    names: Sequence[str],
    taken: Sequence[str],
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Metric, ...]:
    """Compute the figures that the contract names and other packages bring.

    Raises
    ------
    EvaluationError
        One is not installed, has the name of nbkit's own, fails, or returns no number.
    """
    clashing = [name for name in names if name in taken]
    if clashing:
        raise EvaluationError(
            "evaluate.metrics", problems=[f"{name!r} is a figure of nbkit itself" for name in clashing]
        )
    found = _loaded("nbkit.metrics", names, key="evaluate.metrics")
    cases = len(judged.labels)
    count = min(_MOST_RESAMPLES, resamples, max(_FEWEST_RESAMPLES, _MOST_ROWS // cases))
    return tuple(_measured(plugin, judged, count=count, confidence=confidence, rng=rng) for plugin in found)


def plugged_checks(frame: pd.DataFrame, *, contract: Contract) -> tuple[Leak, ...]:
    """Run the checks that the contract names and other packages bring.

    Raises
    ------
    EvaluationError
        One is not installed, fails, or returns something else than findings.
    """
    found: list[Leak] = []
    for plugin in _loaded("nbkit.checks", contract.evaluate.checks, key="evaluate.checks"):
        check = cast("DataCheck", plugin.thing)
        told = _called(plugin, partial(check, frame.copy(), contract=contract))
        if not isinstance(told, list | tuple) or not all(isinstance(leak, Leak) for leak in told):
            raise EvaluationError(f"check {plugin.name!r} of {plugin.source}: expected findings, got {told!r}")
        found += told
    return tuple(found)


def _loaded(group: str, names: Sequence[str], *, key: str) -> list[Plugin]:
    found = [(name, load_plugin(group, name)) for name in names]
    missing = [name for name, plugin in found if plugin is None]
    if missing:
        known = ", ".join(f"{name} ({source})" for name, source in find_plugins(group).items()) or "none"
        raise EvaluationError(
            key, problems=[f"{name!r} is not installed" for name in missing], next_step=f"install it; known: {known}"
        )
    return [plugin for _, plugin in found if plugin is not None]


def _called(plugin: Plugin, call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:
        # A stranger's code may raise anything; the reader needs to know whose it is.
        kind = type(error).__name__
        raise EvaluationError(f"{plugin.name!r} of {plugin.source} failed: {kind}: {error}") from error


def _measured(plugin: Plugin, judged: Judged, *, count: int, confidence: float, rng: np.random.Generator) -> Metric:
    metric = cast("CaseMetric", plugin.thing)

    def value(rows: NDArray[np.int64] | slice) -> float:
        given = (judged.scores[rows].copy(), judged.labels[rows].copy(), judged.decisions[rows].copy())
        told = _called(plugin, partial(metric, *given))
        if isinstance(told, bool) or not isinstance(told, int | float | np.floating | np.integer):
            raise EvaluationError(f"metric {plugin.name!r} of {plugin.source}: expected a number, got {told!r}")
        return float(told)

    whole, cases = value(slice(None)), len(judged.labels)
    if not np.isfinite(whole):
        raise EvaluationError(f"metric {plugin.name!r} of {plugin.source}: these cases have no value ({whole!r})")
    drawn = np.array([value(rng.integers(0, cases, size=cases)) for _ in range(count)])
    usable = drawn[np.isfinite(drawn)]
    low = high = None
    if len(usable) >= (1 - _MOST_EMPTY_SHARE) * count:
        low, high = (float(end) for end in np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2]))
        low, high = min(low, whole), max(high, whole)
    method = f"percentile bootstrap, {count:,} resamples; {plugin.source}"
    return Metric(name=plugin.name, value=whole, low=low, high=high, method=method, n=cases)
