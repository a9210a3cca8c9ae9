"""What the reasons of one declined row cost, beside the libraries that compute the same contributions.

Contributions of one row, the choice of principal reasons, and both together as the service computes them; 20 inputs,
200 trees of 31 leaves. The contestants take turns on the same rows, so that a busy moment meets all of them. The limit
(2 ms a declined row, on a quiet machine) is shown and not asserted. Run it with ``python -P``: ``packaging.py`` beside
it is not the package that shap imports.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import shap
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.contract import Contract
from nbkit.package import Contributions, ReasonBook, compile_plan, principal_reasons

RESULT = Path(__file__).parent / "results" / "reasons.json"
INPUTS, ROWS, REPEATS, LIMIT_MS = 20, 20_000, 300, 2.0


def contract_of(names: list[str]) -> Contract:
    money = {"positive": 1, "negative": 1}
    gates = [{"gate": "parity"}]
    return Contract.model_validate(
        {
            "format": 1,
            "name": "bench",
            "kind": "tabular",
            "title": "Bench",
            "owner": {"team": "t", "primary": "a", "deputy": "b"},
            "impact": "low",
            "purpose": "measure",
            "jurisdictions": ["US"],
            "entity": "id",
            "target": {"column": "bad", "positive": 1, "meaning": "bad", "label_delay_days": 0},
            "inputs": [{"name": name, "type": "number"} for name in names],
            "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
            "rollout": {"path": ["staging", "production"]},
            "gates": {"staging": gates, "production": gates},
        }
    )


def rows(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.DataFrame(rng.normal(size=(ROWS, INPUTS)), columns=[f"input_{place:02d}" for place in range(INPUTS)])
    signal = frame.iloc[:, :12].sum(axis=1) + frame["input_00"] * frame["input_01"]
    return frame, (rng.random(ROWS) < 1 / (1 + np.exp(-0.5 * signal))).astype(int)


def book_of(contract: Contract, frame: pd.DataFrame) -> ReasonBook:
    lines = ["format: 2", "codes:"]
    for place, name in enumerate(frame.columns):
        lines.append(f"  H{place:02d}: {{inputs: [{name}], direction: high, text: High {name}}}")
        lines.append(f"  L{place:02d}: {{inputs: [{name}], direction: low, text: Low {name}}}")
    return ReasonBook.parse("\n".join(lines), contract=contract, typical=frame.median().to_dict())


def contestants(frame: pd.DataFrame, labels: pd.Series) -> dict[str, Callable[[int], object]]:
    contract = contract_of(list(frame.columns))
    book = book_of(contract, frame)
    shape = {"n_estimators": 200, "num_leaves": 31, "n_jobs": 1, "random_state": 0}
    trees = HistGradientBoostingClassifier(max_iter=200, max_leaf_nodes=31, early_stopping=False, random_state=0)
    light = lightgbm.LGBMClassifier(**shape, verbose=-1)
    boost = xgboost.XGBClassifier(
        n_estimators=200, max_leaves=31, max_depth=0, grow_policy="lossguide", tree_method="hist", n_jobs=1
    )
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    for model in (trees, light, boost, linear):
        model.fit(frame, labels)
    records = frame.iloc[:REPEATS].to_dict("records")
    one = [frame.iloc[[place]] for place in range(REPEATS)]
    explainer = shap.TreeExplainer(trees, feature_perturbation="tree_path_dependent")
    booster = boost.get_booster()
    found: dict[str, Callable[[int], object]] = {}
    for name, model in (("HGB", trees), ("LightGBM", light), ("XGBoost", boost), ("linear", linear)):
        plan = compile_plan(model, inputs=contract.inputs)
        background = plan.transform_columns(frame.iloc[:200]) if name == "linear" else None
        explain = Contributions.from_plan(plan, background=background).explain
        found[f"nbkit, {name}"] = lambda place, explain=explain: principal_reasons(
            explain(records[place]), records[place], book
        )
    attribution = Contributions.from_plan(compile_plan(trees, inputs=contract.inputs), background=None).explain(
        records[0]
    )
    found["nbkit, choosing alone"] = lambda place: principal_reasons(attribution, records[0], book)  # noqa: ARG005
    found["shap, HGB"] = lambda place: explainer.shap_values(one[place], check_additivity=False)
    found["pred_contrib, LightGBM"] = lambda place: light.booster_.predict(one[place], pred_contrib=True)
    found["pred_contribs, XGBoost"] = lambda place: booster.predict(xgboost.DMatrix(one[place]), pred_contribs=True)
    return found


def main() -> None:
    frame, labels = rows(np.random.default_rng(0))
    calls = contestants(frame, labels)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for place in range(REPEATS):
        for name, call in calls.items():
            start = time.perf_counter()
            call(place)
            taken[name].append(1000 * (time.perf_counter() - start))
    # The first turns fill caches.
    medians = {name: round(statistics.median(values[20:]), 4) for name, values in taken.items()}
    for name, milliseconds in medians.items():
        limit = f" (limit {LIMIT_MS:g})" if name.startswith("nbkit") else ""
        print(f"{name:<26} {milliseconds:8.3f} ms a row{limit}", file=sys.stderr)
    ratios = {
        "shap / nbkit, HGB": round(medians["shap, HGB"] / medians["nbkit, HGB"], 2),
        "pred_contrib / nbkit, LightGBM": round(medians["pred_contrib, LightGBM"] / medians["nbkit, LightGBM"], 2),
        "pred_contribs / nbkit, XGBoost": round(medians["pred_contribs, XGBoost"] / medians["nbkit, XGBoost"], 2),
    }
    libraries = ("numpy", "scikit-learn", "lightgbm", "xgboost-cpu", "shap", "treelite")
    result = {
        "name": "reasons",
        "ratios": ratios,
        "medians_ms": medians,
        "versions": {name: version(name) for name in libraries},
        "n": REPEATS,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
