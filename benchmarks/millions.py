"""The whole evaluation of ten million cases, with its peak of memory.

``python benchmarks/millions.py [CASES] [--champion]``. The cases are made in memory and the score is a formula, so that
what is measured is the evaluation: figures, resamples, slices, the search over three inputs, curves, and with
``--champion`` the comparison on every slice.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

# ruff: noqa: E402  a script's own folder is searched first, and some files there have the names of libraries.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from nbkit.contract import Contract, Thresholds
from nbkit.evaluate import CaseSet, evaluate_package

RESULT = Path(__file__).parent / "results" / "millions.json"
DIGEST = "sha256:" + "0" * 64
REFERENCE = f"cases/made.jsonl@{DIGEST}"
KINDS = ["card", "cash", "loan"]


def contract() -> Contract:
    gates = [{"gate": "parity"}]
    money = {
        "approve": {"positive": 10, "negative": 0, "positive_per": {"amount": "0.9"}},
        "refer": {"positive": 5, "negative": 5},
        "decline": {"positive": 0, "negative": 20},
    }
    return Contract.model_validate(
        {
            "format": 1,
            "name": "fraud",
            "kind": "tabular",
            "title": "Fraud",
            "owner": {"team": "risk", "primary": "ada", "deputy": "sam"},
            "impact": "low",
            "purpose": "benchmark",
            "jurisdictions": ["US"],
            "entity": "id",
            "target": {"column": "bad", "positive": 1, "meaning": "fraud", "label_delay_days": 60},
            "inputs": [
                {"name": "risk", "type": "number"},
                {"name": "amount", "type": "number", "minimum": 0},
                {"name": "kind", "type": "category", "categories": KINDS},
            ],
            "decision": {"costs": money, "review_capacity": 0.01},
            "evaluate": {"slices": ["kind", "amount"], "case_set": REFERENCE},
            "gates": {"staging": gates, "production": gates},
            "rollout": {"path": ["staging", "production"]},
        }
    )


class Formula:
    """A package whose score is the logistic of one input."""

    def __init__(self, slope: float) -> None:
        self.contract, self.slope, self.digest = contract(), slope, DIGEST
        self.thresholds = Thresholds(refer=0.3, decline=0.6)

    def score_frame(self, frame: pd.DataFrame) -> np.ndarray:
        return 1 / (1 + np.exp(3 - self.slope * np.asarray(frame["risk"], dtype=np.float64)))


def cases(count: int) -> CaseSet:
    rng = np.random.default_rng(5)
    risk = rng.normal(size=count)
    labels = rng.random(count) < 1 / (1 + np.exp(3 - risk))
    frame = pd.DataFrame(
        {
            "id": np.arange(count),
            "risk": risk,
            "amount": rng.lognormal(4, 1, count),
            "kind": pd.Series(np.array(KINDS, dtype=object)[rng.integers(0, 3, count)]),
            "bad": labels.astype(np.int64),
        }
    )
    return CaseSet(
        name="made",
        digest=DIGEST,
        reference=REFERENCE,
        frame=frame,
        ids=tuple(range(count)),
        labels=labels,
        inputs=("risk", "amount", "kind"),
    )


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count, against = numbers[0] if numbers else 10_000_000, "--champion" in sys.argv
    made = cases(count)
    before, start = peak_gb(), time.perf_counter()
    champion = Formula(0.8) if against else None
    result = evaluate_package(
        Formula(1.0), cases=made, golden=(), champion=champion, champion_version=1 if against else None
    )
    seconds = time.perf_counter() - start
    print(result.summary_line)
    answer = {
        "name": "millions",
        "ratios": {"peak / what the cases alone take": round(peak_gb() / before, 2)},
        "seconds": round(seconds, 1),
        "gb": {"cases": round(before, 2), "peak": round(peak_gb(), 2)},
        "versions": {name: version(name) for name in ("numba", "numpy", "pandas")},
        "n": {"cases": count, "champion": against, "slices": len(result.slices), "tests": result.search.tests},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
