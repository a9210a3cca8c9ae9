"""Ranking figures of one or two versions on the same resamples: compiled for many cases, NumPy for few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._draws import Floats, new_seed, weights

FIGURES = ("auc", "average_precision", "ks", "recall_at_fpr", "precision_at_capacity")
# Below so many drawn cases, loading the compiled loop takes longer than NumPy.
_FEWEST_COMPILED = 10_000_000
# Beyond so many drawn cases fewer resamples are drawn (but never fewer than _FEWEST_RESAMPLES).
_MOST_DRAWN = 20_000_000
_FEWEST_RESAMPLES = 200
# Drawn cases between two reports of progress.
_STEP = 20_000_000
# 0.29 * 100 is 28.999999999999996: 29 cases are meant.
_ROUNDING = 1e-9

Step = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Cases by falling score, where each came from, and where groups of equal score end."""

    scores: Floats
    labels: Floats
    order: NDArray[np.int32]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Floats, labels: NDArray[np.bool_]) -> Ordered:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        return cls(scores=falling, labels=labels[order].astype(np.float64), order=order.astype(np.int32), ends=ends)

    @property
    def marks(self) -> NDArray[np.int8]:
        """1 for a positive case, and 2 more for the last of equal scores."""
        marks = self.labels.astype(np.int8)
        marks[self.ends] += 2
        return marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Figures of every resample.

    Parameters
    ----------
    figures : numpy.ndarray
        Shape (resamples, versions, 5), in the order of ``FIGURES``; NaN where a label is absent.
    means : numpy.ndarray
        Mean of each column of values, shape (resamples, columns).
    """

    figures: Floats
    means: Floats

    def of(self, name: str, *, version: int = 0) -> Floats:
        """Return one figure of one version over all resamples."""
        found: Floats = self.figures[:, version, FIGURES.index(name)]
        return found


def resample_count(wanted: int, *, cases: int) -> int:
    """Return how many resamples are drawn: as many as wanted unless the set is very large."""
    return min(wanted, max(_FEWEST_RESAMPLES, _MOST_DRAWN // max(1, cases)))


def figures_of(ordered: Ordered, *, share: float, rate: float) -> dict[str, float]:
    """Return every figure on the cases themselves."""
    found = _ranked(ordered, np.ones((1, len(ordered.scores))), share=share, rate=rate)[0]
    return dict(zip(FIGURES, found.tolist(), strict=True))


def resample(
    versions: Sequence[Ordered],
    *,
    values: Floats | None = None,
    share: float,
    rate: float,
    resamples: int,
    rng: np.random.Generator,
    step: Step | None = None,
) -> Resampled:
    """Draw the same cases for every version and compute all figures; memory does not grow with the resamples.

    ``values`` has shape (columns, cases), in the cases' own order; ``share`` is the review capacity and ``rate`` the
    false positive rate. ``step`` is told the share that is done.
    """
    cases, seed, base = len(versions[0].scores), new_seed(rng), versions[0].order
    # Cases are drawn by their place in the first version's order, which is then read from front to back.
    place = np.empty(cases, dtype=np.int32)
    place[base] = np.arange(cases, dtype=np.int32)
    orders = np.stack([place[one.order] for one in versions])
    columns = np.zeros((0, cases)) if values is None else np.ascontiguousarray(values[:, base], dtype=np.float64)
    figures, means = np.empty((resamples, len(versions), len(FIGURES))), np.empty((resamples, len(columns)))
    told = step or _silent
    compiled = _compiled() if cases * resamples >= _FEWEST_COMPILED else None
    if compiled is None:
        done = 0
        for weight in weights(cases, resamples=resamples, seed=seed):
            part = slice(done, done + len(weight))
            figures[part] = _by_numpy(versions, orders, weight, share=share, rate=rate)
            means[part] = weight @ columns.T / cases
            done = part.stop
            told(done / resamples)
        return Resampled(figures=figures, means=means)
    marks = np.stack([one.marks for one in versions])
    size = max(1, _STEP // cases)
    for first in range(0, resamples, size):
        part = slice(first, min(first + size, resamples))
        compiled(seed, first, orders, marks, columns, share, rate, figures[part], means[part])
        told(part.stop / resamples)
    return Resampled(figures=figures, means=means)


def _silent(_: float) -> None:
    """Tell nobody."""


@cache
def _compiled() -> Callable[..., None] | None:
    """Return the compiled loop; None without Numba."""
    try:
        from nbkit.evaluate._kernel import resample
    except ImportError:
        return None
    return resample


def _by_numpy(
    versions: Sequence[Ordered], orders: NDArray[np.int32], weight: Floats, *, share: float, rate: float
) -> Floats:
    pairs = zip(versions, orders, strict=True)
    return np.stack([_ranked(one, weight[:, order], share=share, rate=rate) for one, order in pairs], axis=1)


def _ranked(ordered: Ordered, weight: Floats, *, share: float, rate: float) -> Floats:
    """Return the figures of weighted cases in falling order of score, shape (resamples, figures)."""
    found, seen = (np.cumsum(part, axis=1)[:, ordered.ends] for part in (weight * ordered.labels, weight))
    missed = seen - found
    positives, cases = found[:, -1:], seen[:, -1:]
    negatives = cases - positives
    before = np.concatenate([np.zeros((len(weight), 1)), found[:, :-1]], axis=1)
    top = np.maximum(1, np.floor(share * cases + _ROUNDING))
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (np.diff(missed, axis=1, prepend=0.0) * (found + before) / 2).sum(axis=1) / (positives * negatives)[:, 0]
        average = (np.diff(found, axis=1, prepend=0.0) * np.where(seen > 0, found / seen, 0.0)).sum(axis=1)
        average /= positives[:, 0]
        widest = np.abs(found / positives - missed / negatives).max(axis=1)
        reached = np.where(missed <= np.floor(rate * negatives + _ROUNDING), found, 0.0).max(axis=1) / positives[:, 0]
        new = np.diff(seen, axis=1, prepend=0.0)
        taken = np.clip((top - (seen - new)) / new, 0, 1, where=new > 0, out=np.zeros_like(new))
        caught = (np.diff(found, axis=1, prepend=0.0) * taken).sum(axis=1) / top[:, 0]
    figures = np.stack([area, average, widest, reached, caught], axis=1)
    usable = ((positives > 0) & (negatives > 0))[:, 0]
    figures[~usable] = np.nan
    return figures
