"""How long the rationale document of a model of 30,000 rows takes, after imports.

The model: 200 boosted trees of 31 leaves over the Taiwan credit-card data (Yeh and Lien 2009; 21,000 rows train, 9,000
are the cases), read from ../shared/data. Where that file is absent, rows of the same shape are made up, and the result
says so. Timed from the packaged model to the HTML: choosing the explainer, 500 rows explained and checked,
interactions, slices, the stability certificate, the document. Printing it is timed apart. The limit of 20 s is for a
quiet machine; it is shown and not asserted, and the processor's seconds beside it tell a busy machine from slow code.
The peer is shap itself: values of the same number of rows and interactions of 100, unchecked.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import shap
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from tqdm import tqdm

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.rationale import Rationale, Reason, explain_package, find_browser, print_pdf, write_rationale

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "taiwan_default.parquet"
RESULT = Path(__file__).parent / "results" / "rationale.json"
LIMIT_SECONDS = 20
ROWS, CASES, EXPLAINED, PAIRED = 30_000, 9_000, 500, 100
TREES, LEAVES = 200, 31
CATEGORIES = ("EDUCATION", "MARRIAGE")
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def load() -> tuple[pd.DataFrame, str]:
    if DATA.exists():
        frame, told = pd.read_parquet(DATA), "Taiwan credit-card data"
    else:
        print(f"{DATA.name} is not there: the rows are made up", file=sys.stderr)
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(rng.normal(size=(ROWS, 20)).round(3), columns=[f"x{place}" for place in range(20)])
        frame["EDUCATION"], frame["MARRIAGE"] = rng.integers(0, 5, ROWS), rng.integers(0, 3, ROWS)
        frame["SEX"], frame["ID"] = rng.integers(1, 3, ROWS), range(ROWS)
        risk = frame["x0"] + frame["x1"] * (frame["x2"] > 0) + 0.3 * frame["EDUCATION"]
        frame["default"] = (rng.random(ROWS) < 1 / (1 + np.exp(2.5 - risk))).astype(int)
        told = "made-up rows"
    numbers = frame.columns.difference([*CATEGORIES, "ID", "default", "SEX"])
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    return frame.assign(**{name: "level " + frame[name].astype(str) for name in CATEGORIES}), told


def contract(frame: pd.DataFrame) -> Contract:
    money = {"positive": 12000, "negative": 3000}
    numbers = frame.columns.difference([*CATEGORIES, "ID", "default", "SEX"])
    texts = [{"name": n, "type": "category", "categories": sorted(frame[n].unique())} for n in CATEGORIES]
    return Contract.model_validate(
        {
            "format": 1,
            "name": "bench",
            "kind": "tabular",
            "title": "Default on credit cards",
            "owner": {"team": "risk", "primary": "ada", "deputy": "sam"},
            "impact": "high",
            "purpose": "benchmark",
            "jurisdictions": ["TW"],
            "entity": "ID",
            "target": {"column": "default", "positive": 1, "meaning": "the customer defaults", "label_delay_days": 30},
            "inputs": [*texts, *({"name": name, "type": "number"} for name in numbers)],
            "protected": [{"name": "SEX", "reference": "1"}],
            "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
            "evaluate": {"slices": [*CATEGORIES, "SEX"]},
            "gates": {"staging": [{"gate": "parity"}], "production": [{"gate": "parity"}]},
            "rollout": {"path": ["staging", "production"]},
            "required_reasons": ["data"],
        }
    )


def package(frame: pd.DataFrame, folder: Path) -> Package:
    made = contract(frame)
    inputs = [column.name for column in made.inputs]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("categories", one_hot, list(CATEGORIES))], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=TREES, max_leaf_nodes=LEAVES, early_stopping=False, random_state=7)
    model = Pipeline([("columns", columns), ("trees", trees)]).fit(frame[inputs], frame["default"])
    return write_package(
        folder / "package", model=model, contract=made, training=frame, thresholds=Thresholds(refer=0.3, decline=0.6),
        threshold_facts={"method": "fixed"}, sources={}, parameters={}, seeds={"seed": 7}, git_commit="0" * 40,
        created_at=NOW,
    )  # fmt: skip


def document(made: Package, cases: pd.DataFrame) -> Rationale:
    with tqdm(total=100, desc="explain", bar_format="{desc} {bar} {postfix}") as bar:

        def progress(share: float, message: str) -> None:
            bar.n = round(100 * share)
            bar.set_postfix_str(message)

        explanation = explain_package(made, cases, sample=EXPLAINED, progress=progress)
    facts = {"case_set": {"cases": len(cases)}, "metrics": {}}
    reasons = [Reason(kind="data", text="{{ data.rows }} rows train the model.", written_at=NOW)]
    return write_rationale(
        made, evaluation=facts, explanation=explanation, reasons=reasons, alternatives={}, links={}, now=NOW
    )


def shap_alone(made: Package, cases: pd.DataFrame) -> None:
    model = made.fitted()
    matrix = model.steps[0][1].transform(cases[[column.name for column in made.contract.inputs]].head(EXPLAINED))
    explainer = shap.TreeExplainer(model.steps[-1][1], feature_perturbation="tree_path_dependent")
    explainer.shap_values(matrix, check_additivity=False)
    explainer.shap_interaction_values(matrix[:PAIRED])


def main() -> None:
    frame, told = load()
    training, cases = frame.iloc[:-CASES], frame.iloc[-CASES:].reset_index(drop=True)
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = package(training, Path(folder))
        for name, call in (
            ("shap alone", lambda: shap_alone(made, cases)),
            ("document", lambda: document(made, cases)),
        ):
            started, used = time.perf_counter(), time.process_time()
            written = call()
            seconds[name] = round(time.perf_counter() - started, 2)
            processor[name] = round(time.process_time() - used, 2)
    if browser := find_browser():
        started = time.perf_counter()
        print_pdf(written.html, browser=browser)
        seconds["print as PDF"] = round(time.perf_counter() - started, 2)
    found = written.facts["explanation"]
    shares = ("background_share", "twin_share", "noise_share", "twin_apart_share")
    result = {
        "name": "rationale",
        "ratios": {"document / shap alone": round(processor["document"] / processor["shap alone"], 2)},
        "seconds": seconds,
        "processor_seconds": processor,
        "limit_seconds": LIMIT_SECONDS,
        "rows": told,
        "method": found["method"],
        "max_error": found["max_error"],
        "tried": {trial["method"]: trial["max_error"] for trial in found["trials"]},
        "groups": list(found["groups"]),
        "top_reason_changes": {name: found["stability"][name]["value"] for name in shares},
        "versions": {name: version(name) for name in ("nbkit", "shap", "scikit-learn", "treelite")},
        "n": len(frame),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
