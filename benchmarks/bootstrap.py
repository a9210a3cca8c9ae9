"""Paired bootstrap of AUC, average precision and expected cost: nbkit against the loop over scikit-learn.

Two versions score the same 100,000 cases, and 2,000 resamples give intervals of the three figures of both and of their
differences:

- ``nbkit``: `nbkit.evaluate._resample.resample`, which also computes KS, recall at a fixed false positive rate and
  precision at review capacity of every resample; memory does not grow with the resamples;
- ``scikit-learn``: draw rows, then ``roc_auc_score`` and ``average_precision_score`` of both versions and the mean of
  the cost columns. Every resample takes equally long, so NAIVE of them are run and the time is scaled to 2,000.

The intervals are compared by the standard error of each figure: two bootstraps of R and S resamples differ by chance by
about ``sqrt(1 / (2 R) + 1 / (2 S))`` of it, and four times that is the largest difference that is accepted.

The compiled loop is loaded before any time is taken; the time that takes is printed.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

# ruff: noqa: E402  a script's own folder is searched first, and these files have the names of libraries.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from nbkit.evaluate._resample import Ordered, resample

RESULT = Path(__file__).parent / "results" / "bootstrap.json"
CASES, RESAMPLES, NAIVE, ROUNDS = 100_000, 2000, 60, 3
MONEY = np.array([[0.0, 12_000.0], [150.0, 150.0], [3000.0, 0.0]])
FIGURES = ("auc", "average_precision", "cost")


def cases(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return labels (one in six positive), and scores and costs of two versions that are equally good."""
    logit = rng.normal(-2.5, 1.5, CASES)
    labels = rng.random(CASES) < 1 / (1 + np.exp(-logit))
    scores = [1 / (1 + np.exp(-logit - rng.normal(0, 0.6, CASES))) for _ in range(2)]
    costs = [MONEY[(one >= 0.1).astype(int) + (one >= 0.3), labels.astype(int)] for one in scores]
    return labels, scores, costs


def by_nbkit(labels: np.ndarray, scores: list[np.ndarray], costs: list[np.ndarray], *, seed: int) -> np.ndarray:
    """Return figures, shape (resamples, versions, 3)."""
    versions = [Ordered.of(one, labels) for one in scores]
    found = resample(
        versions,
        values=np.stack(costs),
        share=0.1,
        rate=0.05,
        resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    both = [np.stack([found.of(name, version=v) for name in FIGURES[:2]] + [found.means[:, v]], axis=1) for v in (0, 1)]
    return np.stack(both, axis=1)


def by_scikit_learn(labels: np.ndarray, scores: list[np.ndarray], costs: list[np.ndarray], *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = np.empty((NAIVE, 2, 3))
    for number in range(NAIVE):
        rows = rng.integers(0, CASES, CASES)
        drawn = labels[rows]
        for v in (0, 1):
            found[number, v] = (
                roc_auc_score(drawn, scores[v][rows]),
                average_precision_score(drawn, scores[v][rows]),
                costs[v][rows].mean(),
            )
    return found


def disagreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return how far the standard errors of every figure and difference lie apart, as a share."""
    found = {}
    for column, name in enumerate(FIGURES):
        for label, pick in (("first", lambda x: x[:, 0]), ("difference", lambda x: x[:, 0] - x[:, 1])):
            mine, other = (float(pick(draws)[:, column].std(ddof=1)) for draws in (ours, theirs))
            found[f"{name}, {label}"] = round(mine / other - 1, 4)
    return found


def main() -> None:
    data = cases(np.random.default_rng(1))
    start = time.perf_counter()
    warm = Ordered.of(np.arange(10_000.0), np.arange(10_000) % 2 == 0)
    resample(
        [warm, warm], values=np.zeros((2, 10_000)), share=0.1, rate=0.05, resamples=1001, rng=np.random.default_rng(0)
    )
    loading = time.perf_counter() - start
    ours_seconds, theirs_seconds = [], []
    for number in range(ROUNDS):
        start = time.perf_counter()
        ours = by_nbkit(*data, seed=number)
        ours_seconds.append(time.perf_counter() - start)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if number == 0:
            start = time.perf_counter()
            theirs = by_scikit_learn(*data, seed=99)
            theirs_seconds.append((time.perf_counter() - start) / NAIVE * RESAMPLES)
            peak = before
    apart = disagreement(ours, theirs)
    allowed = 4 * math.sqrt(1 / (2 * RESAMPLES) + 1 / (2 * NAIVE))
    seconds = {"nbkit": float(np.median(ours_seconds)), "scikit-learn": theirs_seconds[0]}
    print(f"nbkit         {seconds['nbkit']:8.2f} s for {RESAMPLES:,} resamples (median of {ROUNDS})")
    print(f"scikit-learn  {seconds['scikit-learn']:8.2f} s for {RESAMPLES:,} resamples ({NAIVE} run)")
    print(f"loading the compiled loop {loading:.2f} s; standard errors apart by {apart}, allowed {allowed:.3f}")
    assert max(map(abs, apart.values())) <= allowed, "the intervals differ by more than Monte-Carlo error"
    result = {
        "name": "bootstrap",
        "ratios": {"scikit-learn / nbkit": round(seconds["scikit-learn"] / seconds["nbkit"], 1)},
        "seconds": {name: round(value, 3) for name, value in seconds.items()} | {"loading": round(loading, 3)},
        "standard errors apart": apart,
        "allowed": round(allowed, 4),
        "peak_mb": round(peak / 1024),
        "versions": {name: version(name) for name in ("numba", "numpy", "scikit-learn")},
        "n": {"cases": CASES, "resamples": RESAMPLES, "naive resamples run": NAIVE},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
