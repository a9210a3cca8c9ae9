"""A use-case folder with a small contract, and rows that fit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from nbkit.lifecycle import UseCase, open_use_case

CONTRACT: dict[str, object] = {
    "format": 1,
    "name": "loans",
    "kind": "tabular",
    "title": "Loans that are not paid back",
    "owner": {"team": "Risk", "primary": "Ada", "deputy": "Sam"},
    "impact": "medium",
    "purpose": "test",
    "jurisdictions": ["US"],
    "entity": "loan_id",
    "target": {"column": "bad", "positive": 1, "meaning": "the loan is not paid back", "label_delay_days": 90},
    "inputs": [
        {"name": "risk", "type": "number", "minimum": -10, "maximum": 10},
        {"name": "kind", "type": "category", "categories": ["fixed", "adjustable"], "nullable": True},
        {"name": "phone", "type": "number", "nullable": True, "pii": True},
    ],
    "protected": [{"name": "group", "reference": "a"}],
    "decision": {
        "costs": {
            "approve": {"positive": "100", "negative": "0"},
            "refer": {"positive": "5", "negative": "5"},
            "decline": {"positive": "0", "negative": "20"},
        },
        "thresholds": {"refer": 0.3, "decline": 0.7},
        "review_capacity": 0.2,
    },
    "gates": {"staging": [{"gate": "parity"}], "production": [{"gate": "parity"}]},
    "rollout": {"path": ["staging", "production"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A use case with one golden case and one behaviour."""
    where = tmp_path / "loans"
    for name in ("golden", "behaviours"):
        (where / "cases" / name).mkdir(parents=True)
    (where / "contract.yaml").write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    (where / "cases/golden/safe.yaml").write_text(
        "format: 1\nid: safe\nwhy: It is safe.\ninputs: {risk: -3, kind: fixed, phone: null}\n"
        "expect: {decision: approve}\n"
    )
    (where / "cases/behaviours/risk.yaml").write_text(
        "format: 1\nid: risk\nwhy: w\nkind: direction\nchange: {risk: {add: 1}}\nexpect: not_lower\n"
    )
    return where


@pytest.fixture
def use_case(folder: Path) -> UseCase:
    return open_use_case("", base=folder)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two hundred rows whose label follows the logistic of ``risk``."""
    rng = np.random.default_rng(7)
    risk = rng.normal(-1, 1.5, 200).clip(-9, 9)
    return pd.DataFrame(
        {
            "loan_id": np.arange(1000, 1200),
            "risk": risk,
            "kind": rng.choice(["fixed", "adjustable"], 200),
            "phone": rng.integers(1, 9, 200).astype(float),
            "group": np.where(rng.random(200) < 0.3, "b", "a"),
            "bad": (rng.random(200) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )
