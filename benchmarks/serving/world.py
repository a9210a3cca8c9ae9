"""What ``make bench-serve`` serves: one model of 200 trees on 20 mixed features, packaged, signed and installed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Action, Envelope, SigningKey, Statement, Submitter, TrustStore, load_key, new_key
from nbkit.serve import AccessFile, PackageStore

NAME = "payments"
NUMBERS = [f"amount_{place}" for place in range(14)]
CATEGORIES = {f"kind_{place}": [f"k{level}" for level in range(3 + 2 * place)] for place in range(6)}
COLUMNS = [*NUMBERS, *CATEGORIES]
TREES = 200
_ROWS = 20_000


def make_table(rows: int, *, seed: int) -> pd.DataFrame:
    """Rows with a rare positive class, as in fraud."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.gamma(2.0, 50.0, rows).round(2) for name in NUMBERS})
    for name, levels in CATEGORIES.items():
        frame[name] = rng.choice(levels, rows)
    pull = sum(np.sin(frame[name] / (40 + 7 * place)) for place, name in enumerate(NUMBERS))
    pull = pull + (frame["kind_0"] == "k0") + 0.8 * (frame["kind_3"] == "k4") - 4.2
    frame["fraud"] = (rng.random(rows) < 1 / (1 + np.exp(-pull))).astype(int)
    frame["id"] = [f"id{number}" for number in range(rows)]
    return frame


def make_contract(*, deadline_ms: float, **changes: object) -> Contract:
    money = {"positive": 1, "negative": 1}
    gates = [{"gate": "parity"}]
    inputs: list[dict[str, object]] = [
        {"name": name, "type": "number", "minimum": 0, "maximum": 100_000} for name in NUMBERS
    ]
    inputs += [{"name": name, "type": "category", "categories": levels} for name, levels in CATEGORIES.items()]
    content: dict[str, object] = {
        "format": 1, "name": NAME, "kind": "tabular", "title": "Payments", "impact": "medium",
        "owner": {"team": "fraud", "primary": "ada", "deputy": "bob"}, "purpose": "stop fraud", "jurisdictions": ["US"],
        "entity": "id", "target": {"column": "fraud", "positive": 1, "meaning": "fraud", "label_delay_days": 30},
        "inputs": inputs, "decision": {"costs": {"approve": money, "refer": money, "decline": money}},
        "serve": {"deadline_ms": deadline_ms}, "rollout": {"path": ["staging", "shadow", "production"]},
        "gates": {"staging": gates, "shadow": gates, "production": gates},
    }  # fmt: skip
    return Contract.model_validate(content | changes)


def fit(*, compiled: bool) -> tuple[Pipeline, pd.DataFrame]:
    table = make_table(_ROWS, seed=1)
    encode = ColumnTransformer(
        [
            ("kinds", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(CATEGORIES)),
            ("amounts", "passthrough" if compiled else SimpleImputer(), NUMBERS),
        ]
    )
    last = (
        HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False, random_state=0)
        if compiled
        else GaussianNB()
    )
    return Pipeline([("encode", encode), ("model", last)]).fit(table[COLUMNS], table["fraud"]), table


@dataclass(frozen=True, kw_only=True)
class World:
    """A store with one installed version, and everybody's keys."""

    home: Path
    package: Package
    model: Pipeline

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def trust(self) -> Path:
        return self.home / "trust.json"

    @property
    def token(self) -> str:
        return (self.home / "token").read_text()

    @property
    def ledger_key(self) -> Path:
        return self.home / "keys" / "ledger.pem"


_REASONS = "format: 1\ncodes:\n" + "".join(
    f"  R{place:02}: {{inputs: [{name}], text: Unusual {name}}}\n" for place, name in enumerate(COLUMNS)
)


def settle(home: Path, *, compiled: bool = True, deadline_ms: float = 1000.0) -> World:
    """Fit, package, sign and install."""
    model, table = fit(compiled=compiled)
    home.mkdir(parents=True, exist_ok=True)
    (home / "reasons.yaml").write_text(_REASONS)
    scores = model.predict_proba(table[COLUMNS])[:, 1]
    # One payment in a hundred is declined, two more are referred.
    refer, decline = (float(np.quantile(scores, share)) for share in (0.97, 0.99))
    package = write_package(
        home / "package", model=model, contract=make_contract(deadline_ms=deadline_ms), training=table,
        thresholds=Thresholds(refer=refer, decline=max(decline, refer)), threshold_facts={},
        sources={"reasons.yaml": home / "reasons.yaml"}, parameters={}, seeds={}, git_commit="c0ffee",
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )  # fmt: skip
    _install(home, package)
    return World(home=home, package=package, model=model)


def _install(home: Path, package: Package) -> None:
    keys: dict[str, SigningKey] = {}
    trust, now = TrustStore(), datetime.now(UTC)
    for name, role in (("ana", "submitter"), ("ben", "approver"), ("ledger", "ledger")):
        public = new_key(name, directory=home / "keys")
        keys[name] = load_key(name, directory=home / "keys")
        ends = now + timedelta(days=1)
        trust = trust.add(public, owner=name, roles=[role], not_before=now - timedelta(days=1), not_after=ends)
    trust.save(home / "trust.json")
    # The version in production is its own shadow: every row is scored twice, and both scores are recorded.
    for version, stage in ((1, "production"), (2, "shadow")):
        statement: dict[str, Any] = {
            "model": NAME, "version": version, "stage": stage, "action": Action.PROMOTE, "epoch": 1,
            "issued_at": now - timedelta(hours=1), "expires_at": now + timedelta(hours=12),
            "package_digest": package.digest, "contract_digest": package.contract.digest,
            "gates": (GateResult(gate="parity", verdict=Verdict.PASS, reason="0 rows differ"),), "impact": "medium",
            "approvals_needed": 1, "submitter": Submitter(key_id=keys["ana"].key_id, owner="ana"),
        }  # fmt: skip
        envelope = Envelope.of(Statement.model_validate(statement)).sign(keys["ana"]).sign(keys["ben"])
        PackageStore(home / "store").install(
            NAME, version=version, package_dir=package.directory, envelope_json=envelope.to_json(), epoch=1, stage=stage
        )
    file, _, token = AccessFile.begin().add("bench", scopes=["decide", "metrics"], now=now)
    file.save(home / "apikeys.json")
    (home / "token").write_text(token)


def _v2(name: str, value: float | str) -> dict[str, object]:
    kind = (
        {"datatype": "BYTES", "parameters": {"content_type": "str"}} if isinstance(value, str) else {"datatype": "FP64"}
    )
    return {"name": name, "shape": [1], "data": [value], **kind}


def bodies(path: Path, *, rows: int = 5000, wrap: str = "native") -> Path:
    """Write one request body a line, all different."""
    records = make_table(rows, seed=2)[COLUMNS].to_dict("records")
    shape = {
        "native": lambda row: {"inputs": row},
        "mlflow": lambda row: {"dataframe_records": [row]},
        "v2": lambda row: {"parameters": {"content_type": "pd"}, "inputs": [_v2(*item) for item in row.items()]},
    }[wrap]
    path.write_bytes(b"\n".join(json.dumps(shape(row)).encode() for row in records))
    return path
