"""The whole evaluation of 100,000 cases with ten slices against ``mlflow.models.evaluate`` on the same model.

The same fitted scikit-learn pipeline, as an nbkit package and as a logged MLflow model, in turn and in one process:

- ``nbkit``: `evaluate_package`: scores the cases, then 14 figures with intervals, decisions and their cost, ten
  declared slices with intervals, and curves;
- ``nbkit, everything``: the same with the search for worse slices over one and two of twelve features, and with the
  fairness of one protected attribute (impact ratios, measures by group, proxies);
- ``mlflow, nothing drawn``: ``mlflow.models.evaluate(model_type="classifier")`` with explainability off, and with its
  plots, confusion matrix and evaluation table replaced by nothing (no setting turns them off): it scores the cases
  twice (classes, then probabilities) and computes about ten point figures; no interval, no cost, no slice;
- ``mlflow``: the same with its plots and tables, as a user gets it;
- ``mlflow, ten slices``: what the ten slices take with it: eleven calls, nothing drawn.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# ruff: noqa: E402  what follows has to come before the imports.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models.evaluation.evaluators.classifier import ClassifierEvaluator
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbkit.contract import Contract, Thresholds
from nbkit.evaluate import evaluate_package, freeze_cases
from nbkit.package import load_package, write_package

RESULT = Path(__file__).parent / "results" / "evaluate.json"
CASES, REPEATS = 100_000, 3
NUMBERS = [f"number_{i}" for i in range(10)]
CATEGORIES = {"region": ["east", "north", "south", "west", "abroad"], "product": ["a", "b", "c", "d", "e"]}
INPUTS = [*NUMBERS, *CATEGORIES]


def load(rng: np.random.Generator) -> pd.DataFrame:
    frame = pd.DataFrame(rng.normal(size=(CASES, len(NUMBERS))), columns=NUMBERS)
    for name, levels in CATEGORIES.items():
        frame[name] = rng.choice(levels, CASES)
    logit = frame[NUMBERS[:5]].sum(axis=1) * 0.6 - 2.2 + (frame["product"] == "c") * 0.5
    frame["bad"] = (rng.random(CASES) < 1 / (1 + np.exp(-logit))).astype(int)
    frame["id"] = np.arange(CASES)
    frame["group"] = rng.choice(["a", "b"], CASES)
    return frame


def contract(case_set: str | None, *, depth: int) -> Contract:
    numbers = [{"name": name, "type": "number"} for name in NUMBERS]
    texts = [{"name": name, "type": "category", "categories": levels} for name, levels in CATEGORIES.items()]
    gates = [{"gate": "parity"}]
    money = {
        "approve": {"positive": 12000, "negative": 0},
        "refer": {"positive": 150, "negative": 150},
        "decline": {"positive": 0, "negative": 3000},
    }
    return Contract.model_validate(
        {
            "format": 1,
            "name": "loans",
            "kind": "tabular",
            "title": "Loans",
            "owner": {"team": "risk", "primary": "ada", "deputy": "sam"},
            "impact": "low",
            "purpose": "benchmark",
            "jurisdictions": ["US"],
            "entity": "id",
            "target": {"column": "bad", "positive": 1, "meaning": "bad", "label_delay_days": 60},
            "inputs": [*numbers, *texts],
            "protected": [{"name": "group", "reference": "a"}] if depth else [],
            "decision": {"costs": money},
            "evaluate": {"slices": list(CATEGORIES), "case_set": case_set, "search_depth": depth},
            "gates": {"staging": gates, "production": gates},
            "rollout": {"path": ["staging", "production"]},
        }
    )


class Evaluation:
    """The contestants, each a call that begins with the cases in memory and ends with the figures."""

    def __init__(self, folder: Path) -> None:
        self.frame = load(np.random.default_rng(3))
        columns = ColumnTransformer(
            [
                ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(CATEGORIES)),
                ("numbers", StandardScaler(), NUMBERS),
            ]
        )
        sample = self.frame.head(5000)
        model = Pipeline([("columns", columns), ("line", LogisticRegression(max_iter=500))]).fit(
            sample[INPUTS], sample["bad"]
        )
        self.cases = freeze_cases(self.frame, contract=contract(None, depth=2), directory=folder, share=1.0, seed=0)
        self.packages = {depth: self.package(folder, model, sample, depth=depth) for depth in (0, 2)}
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment("bench")
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model, name="model", pip_requirements=["scikit-learn"], input_example=None, pyfunc_predict_fn="predict"
            )
        self.uri = logged.model_uri
        self.data = self.frame[[*INPUTS, "bad"]]
        self.figures = {"nbkit": 0, "mlflow": 0}

    def package(self, folder: Path, model: Pipeline, sample: pd.DataFrame, *, depth: int) -> object:
        write_package(
            folder / f"package-{depth}",
            model=model,
            contract=contract(self.cases.reference, depth=depth),
            training=sample,
            thresholds=Thresholds(refer=0.2, decline=0.4),
            threshold_facts={},
            sources={},
            parameters={},
            seeds={"seed": 3},
            git_commit="0" * 40,
            created_at=datetime(2026, 11, 25, tzinfo=UTC),
        )
        return load_package(folder / f"package-{depth}")

    def nbkit(self, depth: int = 0) -> None:
        result = evaluate_package(
            self.packages[depth], cases=self.cases, golden=(), champion=None, champion_version=None
        )
        assert len(result.slices) == 10
        self.figures["nbkit"] = len(result.metrics)

    def nbkit_everything(self) -> None:
        self.nbkit(depth=2)

    def mlflow(self, data: pd.DataFrame | None = None) -> None:
        with mlflow.start_run():
            result = mlflow.models.evaluate(
                self.uri,
                self.data if data is None else data,
                targets="bad",
                model_type="classifier",
                evaluator_config={"log_model_explainability": False},
            )
        self.figures["mlflow"] = len(result.metrics)

    def mlflow_nothing_drawn(self) -> None:
        with undrawn():
            self.mlflow()

    def mlflow_ten_slices(self) -> None:
        with undrawn():
            self.mlflow()
            for name in CATEGORIES:
                for _, part in self.data.groupby(name):
                    self.mlflow(part)


class undrawn:  # noqa: N801  reads as a sentence: with undrawn()
    """Replace what MLflow draws and writes beside its figures by nothing."""

    NAMES = ("_log_binary_classifier_artifacts", "_log_confusion_matrix", "log_eval_table")

    def __enter__(self) -> None:
        self.kept = {name: getattr(ClassifierEvaluator, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(ClassifierEvaluator, name, lambda *_args, **_more: None)

    def __exit__(self, *_: object) -> None:
        for name, function in self.kept.items():
            setattr(ClassifierEvaluator, name, function)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="nbkit-bench-") as folder:
        contest = Evaluation(Path(folder))
        contestants: dict[str, Callable[[], None]] = {
            "nbkit": contest.nbkit,
            "nbkit, everything": contest.nbkit_everything,
            "mlflow, nothing drawn": contest.mlflow_nothing_drawn,
            "mlflow": contest.mlflow,
        }
        # Once unmeasured: what is imported or compiled on first use is not the work.
        for call in contestants.values():
            call()
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(REPEATS):
            for name, call in contestants.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        contest.mlflow_ten_slices()
        times["mlflow, ten slices"] = [time.perf_counter() - start]
    seconds = {name: statistics.median(values) for name, values in times.items()}
    for name, value in seconds.items():
        print(f"{name:<24} {value:8.3f} s  (median of {len(times[name])})")
    result = {
        "name": "evaluate",
        "ratios": {
            f"{name} / nbkit": round(seconds[name] / seconds["nbkit"], 2) for name in seconds if "mlflow" in name
        }
        | {
            "mlflow, nothing drawn / nbkit, everything": round(
                seconds["mlflow, nothing drawn"] / seconds["nbkit, everything"], 2
            )
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "figures": contest.figures,
        "versions": {name: version(name) for name in ("mlflow", "scikit-learn", "numba")},
        "n": {"cases": CASES, "slices": 10, "inputs": len(INPUTS), "repeats": REPEATS},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
