"""One small table with every kind of input, and models fitted on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package

NUMBERS = ["income", "ratio", "years"]
CATEGORIES = ["purpose", "region"]
INPUTS = [*NUMBERS, "married", *CATEGORIES]
LEVELS = {"purpose": ("car", "home", "study"), "region": ("east", "north", "south", "west")}


def make_contract(**changes: object) -> Contract:
    """Return a contract over the table of `table`."""
    inputs: list[dict[str, object]] = [
        {"name": "income", "type": "number", "nullable": True, "minimum": 0},
        {"name": "ratio", "type": "number", "nullable": True, "minimum": 0, "maximum": 1},
        {"name": "years", "type": "integer", "nullable": True},
        {"name": "married", "type": "boolean"},
        {"name": "purpose", "type": "category", "categories": LEVELS["purpose"], "nullable": True},
        {"name": "region", "type": "category", "categories": LEVELS["region"], "nullable": True},
    ]
    money = {"positive": 1, "negative": 1}
    gates = [{"gate": "parity"}]
    fields: dict[str, object] = {
        "format": 1,
        "name": "loans",
        "kind": "tabular",
        "title": "Loans",
        "owner": {"team": "credit", "primary": "ada", "deputy": "bob"},
        "impact": "high",
        "purpose": "decide",
        "jurisdictions": ["US"],
        "entity": "id",
        "target": {"column": "denied", "positive": 1, "meaning": "denied", "label_delay_days": 0},
        "inputs": inputs,
        "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
        "rollout": {"path": ["staging", "production"]},
        "gates": {"staging": gates, "production": gates},
    }
    return Contract.model_validate(fields | changes)


def make_table(rows: int = 400) -> pd.DataFrame:
    """Return rows with missing numbers and categories, and a target that depends on both."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "income": rng.lognormal(3, 1, rows),
            "ratio": rng.random(rows),
            "years": rng.integers(0, 30, rows).astype(float),
            "married": rng.integers(0, 2, rows).astype(float),
            "purpose": rng.choice(LEVELS["purpose"], rows),
            "region": rng.choice(LEVELS["region"], rows, p=[0.5, 0.3, 0.15, 0.05]),
        }
    )
    margin = 3 * frame["ratio"] - 0.02 * frame["income"] + (frame["purpose"] == "car") - 1
    frame["denied"] = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(int)
    for name in [*NUMBERS, *CATEGORIES]:
        frame[name] = frame[name].mask(rng.random(rows) < 0.1)
    frame["id"] = [f"id{number}" for number in range(rows)]
    return frame


def make_prepared(last: Any, *, sparse: bool = False) -> Pipeline:
    """Return an unfitted pipeline that imputes, scales and one-hot encodes."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=sparse)
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)
    prepare = ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, CATEGORIES)], remainder="passthrough")
    return Pipeline([("prepare", prepare), ("model", last)])


@pytest.fixture(scope="session")
def contract() -> Contract:
    return make_contract()


@pytest.fixture(scope="session")
def contract_with() -> Callable[..., Contract]:
    return make_contract


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return make_table()


@pytest.fixture(scope="session")
def unseen_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table, with categories that no model has seen and more missing values."""
    frame = table.copy()
    frame.loc[frame.index[::7], "purpose"] = "yacht"
    frame.loc[frame.index[3::11], [*NUMBERS, "region"]] = np.nan
    return frame


@pytest.fixture(scope="session")
def prepared() -> Callable[..., Pipeline]:
    return make_prepared


@pytest.fixture(scope="session")
def rows_of() -> Callable[[pd.DataFrame], list[dict[str, Any]]]:
    """A frame's inputs as contract rows."""

    def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
        records = frame[INPUTS].to_dict("records")
        return [{name: None if value != value else value for name, value in record.items()} for record in records]

    return rows


@pytest.fixture
def write(tmp_path: Path, contract: Contract, table: pd.DataFrame) -> Callable[..., Package]:
    """Write a package of a fitted model with plain defaults."""

    def write(model: object, **changes: Any) -> Package:
        given: dict[str, Any] = {
            "model": model,
            "contract": contract,
            "training": table,
            "thresholds": Thresholds(refer=0.4, decline=0.7),
            "threshold_facts": {},
            "sources": {},
            "parameters": {"seed": 7},
            "seeds": {"numpy": 7},
            "git_commit": "c0ffee",
            "created_at": datetime(2026, 11, 23, tzinfo=UTC),
        }
        directory = changes.pop("directory", tmp_path / "package")
        return write_package(directory, **(given | changes))

    return write
