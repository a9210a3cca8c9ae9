"""How often 95 % intervals hold the truth, how often the regression gate blocks without cause, and what it sees.

Cases are drawn from a known law, so that the true figures are known: log-odds are normal, labels follow them, and each
of two versions scores with its own noise (and a noise that both share). A third of the cases lies in each of three
declared slices. One simulated evaluation goes through the functions that `evaluate_package` calls.

- coverage: AUC, expected cost and their differences between two equally good versions, at 200, 2,000 and 20,000 cases;
- false blocks: how often the verdict on two equally good versions is ``worse``, over all cases and three slices;
- power: how often a version whose noise is larger is called worse, and how often these cases cannot tell;
- edge slice: how often a version that is better on two slices and worse on the third is called worse.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

# ruff: noqa: E402  a script's own folder is searched first, and this file has the name of a library.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from nbkit.contract import Evaluate
from nbkit.evaluate._bootstrap import mean_difference, mean_estimate
from nbkit.evaluate._champion import area_and_cost
from nbkit.evaluate._delong import auc, auc_difference, auc_estimate
from nbkit.evaluate._metrics import Judged, Terms
from nbkit.evaluate._verdict import Margins, judge_all

RESULT = Path(__file__).parent / "results" / "coverage.json"
MONEY = np.array([[0.0, 12_000.0], [150.0, 150.0], [3000.0, 0.0]])
# Where the expected cost of these decisions is about lowest.
REFER, DECLINE = 0.1, 0.3
SHARED_NOISE, OWN_NOISE = 0.5, 0.5
SIZES = {200: 4000, 2000: 2000, 20_000: 1000}
VERDICT_SIZES = {200: 1500, 1000: 1000, 5000: 600, 20_000: 400}
LOSSES = (0.5, 0.6, 0.7, 0.9, 1.2)
TRUTH_CASES, TRUTH_ROUNDS = 500_000, 16
TERMS = Terms(confidence=0.95, resamples=1000, review_capacity=0.1, false_positive_rate=0.05)


def judged(scores: np.ndarray, labels: np.ndarray) -> Judged:
    decisions = (scores >= REFER).astype(np.int64) + (scores >= DECLINE)
    return Judged(scores=scores, labels=labels, decisions=decisions, costs=MONEY[decisions, labels.astype(int)])


def draw(
    cases: int, rng: np.random.Generator, *, noise: float | np.ndarray = OWN_NOISE
) -> tuple[Judged, Judged, np.ndarray]:
    """Return a challenger with this noise, the champion, and the slice of every case."""
    logit = rng.normal(-2.0, 1.5, cases)
    labels = rng.random(cases) < 1 / (1 + np.exp(-logit))
    if not 1 < labels.sum() < cases - 1:
        return draw(cases, rng, noise=noise)
    part = rng.integers(0, 3, cases)
    seen = logit + rng.normal(0, SHARED_NOISE, cases)
    own = np.take(noise, part) if isinstance(noise, np.ndarray) else noise
    challenger = 1 / (1 + np.exp(-seen - rng.normal(0, 1, cases) * own))
    champion = 1 / (1 + np.exp(-seen - rng.normal(0, OWN_NOISE, cases)))
    return judged(challenger, labels), judged(champion, labels), part


def truth(rng: np.random.Generator, *, noise: float = OWN_NOISE) -> tuple[float, float]:
    """Return AUC and expected cost, to about three digits more than the intervals have."""
    found = []
    for _ in range(TRUTH_ROUNDS):
        one, _, _ = draw(TRUTH_CASES, rng, noise=noise)
        found.append((auc(one.scores, one.labels), one.costs.mean()))
    return tuple(np.mean(found, axis=0).tolist())


def coverage(cases: int, runs: int, *, true: tuple[float, float], rng: np.random.Generator) -> dict[str, float]:
    hits = np.zeros(4)
    for _ in range(runs):
        one, other, _ = draw(cases, rng)
        intervals = (
            (auc_estimate(one.scores, one.labels, confidence=0.95), true[0]),
            (auc_difference(one.scores, other.scores, one.labels, confidence=0.95), 0.0),
            (mean_estimate(one.costs, confidence=0.95, resamples=TERMS.resamples, rng=rng)[0], true[1]),
            (mean_difference(one.costs - other.costs, confidence=0.95)[0], 0.0),
        )
        hits += [estimate.low <= value <= estimate.high for estimate, value in intervals]
    names = ("auc", "auc difference", "cost", "cost difference")
    return dict(zip(names, (hits / runs).round(4).tolist(), strict=True))


def verdicts(cases: int, runs: int, *, noise: float | np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    limits, counts = Evaluate(), dict.fromkeys(("worse", "no difference", "better", "cannot tell"), 0)
    for _ in range(runs):
        one, other, part = draw(cases, rng, noise=noise)
        margins = Margins(
            auc=limits.auc_margin,
            cost=limits.cost_margin * float(other.costs.mean()),
            level=limits.false_block_level,
        )
        pairs = [area_and_cost(one, other, inside=part == number, terms=TERMS) for number in range(3)]
        overall = area_and_cost(one, other, inside=None, terms=TERMS)
        ruling = judge_all(overall, [(f"part = {n}", pair) for n, pair in enumerate(pairs)], margins=margins).ruling
        counts[ruling.verdict] += 1
    return {name: round(count / runs, 4) for name, count in counts.items()}


def main() -> None:
    quick = "--quick" in sys.argv
    start, rng = time.perf_counter(), np.random.default_rng(11)
    scale = 20 if quick else 1
    true = truth(rng)
    covered = {n: coverage(n, runs // scale, true=true, rng=rng) for n, runs in SIZES.items()}
    for n, row in covered.items():
        print(f"coverage at {n:>6,}: " + ", ".join(f"{name} {value:.1%}" for name, value in row.items()))
    power: dict[str, dict[int, dict[str, float]]] = {}
    for noise in LOSSES:
        lost = true[0] - truth(rng, noise=noise)[0] if noise != OWN_NOISE else 0.0
        dearer = truth(rng, noise=noise)[1] / true[1] - 1 if noise != OWN_NOISE else 0.0
        name = f"AUC -{lost:.3f}, cost +{dearer:.1%}" if noise != OWN_NOISE else "equal"
        power[name] = {n: verdicts(n, runs // scale, noise=noise, rng=rng) for n, runs in VERDICT_SIZES.items()}
        for n, row in power[name].items():
            print(f"{name} at {n:>6,}: {row}")
    edge = np.array([0.2, 0.2, 1.5])
    power["edge slice"] = {n: verdicts(n, runs // scale, noise=edge, rng=rng) for n, runs in VERDICT_SIZES.items()}
    print(f"edge slice: {power['edge slice']}")
    result = {
        "name": "coverage",
        "ratios": {},
        "coverage": covered,
        "verdicts": power,
        "false_block_level": Evaluate().false_block_level,
        "truth": {"auc": round(true[0], 5), "cost": round(true[1], 2)},
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "n": {"coverage runs": SIZES, "verdict runs": VERDICT_SIZES, "slices": 3},
    }
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
