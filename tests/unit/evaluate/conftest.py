"""A small contract, rows that fit it, and packages whose score is a formula that a reader can check."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from nbkit.contract import Contract, Thresholds

CONTRACT = {
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
        {"name": "income", "type": "number", "nullable": True, "sentinels": [-1]},
        {"name": "kind", "type": "category", "categories": ["fixed", "adjustable"], "nullable": True},
        {"name": "owner", "type": "boolean"},
    ],
    "protected": [{"name": "group", "reference": "a"}],
    "decision": {
        "costs": {
            "approve": {"positive": "100", "negative": "0"},
            "refer": {"positive": "5", "negative": "5"},
            "decline": {"positive": "0", "negative": "20"},
        },
        "review_capacity": 0.2,
    },
    "evaluate": {"slices": ["kind", "risk"], "resamples": 200},
    "gates": {"staging": [{"gate": "parity"}], "production": [{"gate": "parity"}]},
    "rollout": {"path": ["staging", "production"]},
}


@pytest.fixture
def make_contract():
    """Return a function that makes the contract, with whole blocks replaced."""

    def make(**blocks: object) -> Contract:
        return Contract.model_validate(CONTRACT | blocks)

    return make


@pytest.fixture
def contract(make_contract):
    return make_contract()


@pytest.fixture
def pinned(make_contract):
    """Return a function that makes the contract that pins these cases."""

    def pin(cases, **blocks: object) -> Contract:
        return make_contract(evaluate=CONTRACT["evaluate"] | {"case_set": cases.reference}, **blocks)

    return pin


@pytest.fixture
def rows():
    """Return 400 rows whose label follows the logistic of ``risk``; group b is approved a little less often."""
    rng = np.random.default_rng(7)
    count = 400
    risk = rng.normal(-1, 1.5, count).clip(-9, 9)
    frame = pd.DataFrame(
        {
            "loan_id": np.arange(1000, 1000 + count),
            "risk": risk,
            "income": np.where(rng.random(count) < 0.1, -1.0, rng.lognormal(8, 0.5, count)),
            "kind": rng.choice(["fixed", "adjustable"], count),
            "owner": rng.random(count) < 0.5,
            "group": np.where(rng.random(count) < 0.3, "b", "a"),
            "bad": (rng.random(count) < 1 / (1 + np.exp(-risk))).astype(int),
            "not_in_the_contract": 1,
        }
    )
    frame.loc[::25, "kind"] = None
    return frame


@dataclass(frozen=True)
class FormulaPackage:
    """A package without a model: its score is the logistic of ``slope * risk + offset``."""

    contract: Contract
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(refer=0.3, decline=0.7))
    digest: str = "sha256:" + "1" * 64
    slope: float = 1.0
    offset: float = 0.0

    def score_frame(self, frame):
        return 1 / (1 + np.exp(-self.slope * np.asarray(frame["risk"], dtype=float) - self.offset))


@pytest.fixture
def package_class():
    return FormulaPackage
