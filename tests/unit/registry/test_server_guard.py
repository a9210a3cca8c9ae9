"""A real guarded MLflow server: nbkit's own way through it, and the moves that it refuses on every route."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import sqlalchemy
from sqlalchemy.engine import make_url
from werkzeug.security import generate_password_hash

from nbkit.errors import RegistryError
from nbkit.package import Package
from nbkit.registry import Action, Envelope, Registry, SigningKey, Statement, Submitter, TrustStore, load_key, new_key
from nbkit.settings import Settings
from tests.unit.registry.conftest import GATES, ROLES

NAME = "loan-denial"
LOGIN = ("admin", "a-long-enough-password-1")
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
ROUTES = ("api", "ajax-api")


@dataclass(frozen=True, kw_only=True)
class World:
    """A guarded server, the keys that its trust file knows, and a package to register."""

    address: str
    auth: tuple[str, str] | None
    files: Path
    keys: dict[str, SigningKey]
    package: Package
    registry: Registry

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        return requests.request(method, f"{self.address}/{path}", auth=self.auth, timeout=60, **options)

    def statement(self, version: int, **changes: object) -> Statement:
        contract, now = self.package.contract, datetime.now(UTC)
        content = {
            "model": NAME, "version": version, "stage": "production", "action": Action.PROMOTE, "epoch": version,
            "issued_at": now, "expires_at": now + timedelta(days=30), "package_digest": self.package.digest,
            "contract_digest": contract.digest, "case_set_digest": contract.evaluate.case_set.rpartition("@")[2],
            "gates": GATES, "impact": contract.impact, "approvals_needed": contract.approvals_needed,
            "submitter": Submitter(key_id=self.keys["ana"].key_id, owner="ana"),
        }  # fmt: skip
        return Statement.model_validate(content | changes)

    def signed(self, statement: Statement, *names: str) -> Envelope:
        envelope = Envelope.of(statement)
        for name in names:
            envelope = envelope.sign(self.keys[name])
        return envelope

    def submitted(self) -> int:
        """Register one more version and sign its submission, as ``nbkit register`` does."""
        run = self.registry.create_run(NAME, name="train", tags={}, parameters={})
        version = self.registry.register(
            self.package, run_id=run, description="New.", tags={"nbkit.stage": "candidate"}
        )
        statement = self.statement(version, stage="candidate", action=Action.SUBMIT, gates=())
        self.save(self.signed(statement, "ana"))
        self.registry.set_alias(NAME, stage="candidate", version=version)
        return version

    def save(self, envelope: Envelope, *, version: int = 0, stage: str = "", pending: bool = False) -> None:
        said = envelope.unverified_statement()
        self.registry.save_envelope(
            NAME, version=version or said.version, stage=stage or said.stage, envelope=envelope, pending=pending
        )

    def promoted(self, **changes: object) -> int:
        """Take one more version to production, as ``nbkit approve`` and ``nbkit promote`` do."""
        version = self.submitted()
        statement = self.statement(version, **changes)
        self.save(self.signed(statement, "ben"), pending=True)
        before = self.registry.version_at(NAME, stage="production")
        self.save(self.signed(statement, "ben", "ana"))
        self.registry.set_version_tags(
            NAME, version=version, tags={"nbkit.stage": "production", "nbkit.gate.auc": "pass"}
        )
        self.registry.set_alias(NAME, stage="production", version=version)
        if before:
            self.registry.set_version_tags(NAME, version=before, tags={"nbkit.stage": "archived"})
            self.registry.set_alias(NAME, stage="archived", version=before)
        return version

    def stored(self, path: str) -> str:
        """Return where the server keeps a file, below its artifacts."""
        (found,) = [file for file in self.files.rglob("*") if str(file).endswith(path)]
        return found.relative_to(self.files).as_posix()


@contextmanager
def served(folder: Path, package: Package, *, database: str, login: bool, workers: int) -> Iterator[World]:
    """Run a guarded server with a trust file of its own, which does not know eve."""
    trust, keys, now = TrustStore(), {}, datetime.now(UTC)
    for name, roles in (ROLES | {"eve": ["approver", "submitter"]}).items():
        public = new_key(name, directory=folder / "home" / "keys")
        keys[name] = load_key(name, directory=folder / "home" / "keys")
        if name != "eve":
            valid = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=365)}
            trust = trust.add(public, owner=name, roles=roles, **valid)
    trust.save(folder / "home" / "trust.json")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "nbkit-basic-auth" if login else "nbkit",
        "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers),
        "--backend-store-uri", database, "--artifacts-destination", str(folder / "files"),
    ]  # fmt: skip
    environment = os.environ | QUIET | {"NBKIT_HOME": str(folder / "home")}
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        if login:
            environment |= _login(folder, patch)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(f"{address}/health", process, folder / "log")
            if login:
                _hash_cheaply(folder / "auth.db")
            settings = Settings(tracking_uri=address, artifact_root=folder / "unused", home=folder, store=folder)
            yield World(
                address=address, auth=LOGIN if login else None, files=folder / "files", keys=keys, package=package,
                registry=Registry(settings),
            )  # fmt: skip
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=60)


def _login(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {LOGIN[0]}\nadmin_password = {LOGIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    patch.setenv("MLFLOW_TRACKING_USERNAME", LOGIN[0])
    patch.setenv("MLFLOW_TRACKING_PASSWORD", LOGIN[1])
    return {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "tests"}


def _hash_cheaply(users: Path) -> None:
    """Let the login be checked as ever, at a thousandth of its price: MLflow does it at every request."""
    cheap = generate_password_hash(LOGIN[1], method="pbkdf2:sha256:1")
    with closing(sqlite3.connect(users)) as database:
        assert database.execute("UPDATE users SET password_hash = ?", (cheap,)).rowcount == 1
        database.commit()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, package: Package) -> Iterator[World]:
    """A server on SQLite with version 2 in production, 1 archived and 3 a candidate."""
    folder = tmp_path_factory.mktemp("guard")
    with served(folder, package, database=f"sqlite:///{folder / 'mlflow.db'}", login=False, workers=1) as made:
        made.promoted()
        made.promoted()
        made.submitted()
        yield made


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(address, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_nbkit_itself_goes_through(world: World) -> None:
    assert world.registry.version_at(NAME, stage="production") == 2
    assert world.registry.version(NAME, version=1).stages == ("archived",)
    assert world.registry.version(NAME, version=2).tags["nbkit.stage"] == "production"
    assert "nbkit.evidence.production.pending" not in world.registry.version(NAME, version=2).tags


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("alias", "why"),
    [
        ("production", "no evidence for production"),
        ("staging", "no evidence for staging"),
        ("archived", "no evidence for production"),
        ("Production", "the stage is spelled 'production'"),
        ("PRODUCTION", "the stage is spelled 'production'"),
        ("ｐroduction", "the stage is spelled 'production'"),
        ("prοduction", "expected ASCII letters"),
        ("production\n", "the stage is spelled 'production'"),
    ],
)
def test_an_alias_without_evidence_is_refused(world: World, route: str, alias: str, why: str) -> None:
    asked = {"name": NAME, "alias": alias, "version": "3"}
    answer = world.call("POST", f"{route}/2.0/mlflow/registered-models/alias", json=asked)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert why in answer.json()["message"]
    assert world.registry.version_at(NAME, stage="production") == 2


def test_an_alias_that_is_no_stage_is_anybodys(world: World) -> None:
    asked = {"name": NAME, "alias": "baseline", "version": "1"}
    assert world.call("POST", "api/2.0/mlflow/registered-models/alias", json=asked).ok
    assert world.call("DELETE", "api/2.0/mlflow/registered-models/alias", json=asked).ok


@pytest.mark.parametrize("route", ROUTES)
def test_a_stage_is_not_taken_away(world: World, route: str) -> None:
    asked = {"name": NAME, "alias": "production"}
    answer = world.call("DELETE", f"{route}/2.0/mlflow/registered-models/alias", json=asked)
    assert answer.status_code == 403
    assert world.registry.version_at(NAME, stage="production") == 2


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stage", ["Production", "production", "Staging", "Archived"])
def test_the_deprecated_stages_are_refused(world: World, route: str, stage: str) -> None:
    asked = {"name": NAME, "version": "1", "stage": stage, "archive_existing_versions": False}
    answer = world.call("POST", f"{route}/2.0/mlflow/model-versions/transition-stage", json=asked)
    assert answer.status_code == 403
    assert "MLflow's own stage" in answer.json()["message"]


def test_evidence_of_an_older_epoch_does_not_come_back(world: World) -> None:
    asked = {"name": NAME, "alias": "production", "version": "1"}
    answer = world.call("POST", "api/2.0/mlflow/registered-models/alias", json=asked)
    assert answer.status_code == 403
    assert "evidence of epoch 1, but epoch 2 holds" in answer.json()["message"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nbkit.evidence.production", "sha256:" + "0" * 64),
        ("nbkit.evidence.production", "verified"),
        ("nbkit.evidence.production.pending", "sha256:" + "0" * 64),
        ("nbkit.evidence.archived", "sha256:" + "0" * 64),
        ("nbkit.evidence.Production", "sha256:" + "0" * 64),
        ("nbkit.stage", "production"),
        ("nbkit.stage", "Production"),
        ("nbkit.package_digest", "sha256:" + "0" * 64),
        ("nbkit.owner", "mallory"),
    ],
)
def test_a_tag_that_claims_more_than_the_evidence_is_refused(world: World, route: str, key: str, value: str) -> None:
    asked = {"name": NAME, "version": "3", "key": key, "value": value}
    answer = world.call("POST", f"{route}/2.0/mlflow/model-versions/set-tag", json=asked)
    assert answer.status_code == 403, answer.text


def test_tags_of_other_people_are_theirs(world: World) -> None:
    asked = {"name": NAME, "version": "1", "key": "ticket", "value": "RISK-12"}
    assert world.call("POST", "api/2.0/mlflow/model-versions/set-tag", json=asked).ok
    assert world.call("DELETE", "api/2.0/mlflow/model-versions/delete-tag", json=asked).ok


@pytest.mark.parametrize(
    "key", ["nbkit.evidence.production", "nbkit.evidence.candidate", "nbkit.stage", "nbkit.package_digest"]
)
def test_evidence_is_not_deleted(world: World, key: str) -> None:
    asked = {"name": NAME, "version": "2", "key": key}
    for route in ROUTES:
        answer = world.call("DELETE", f"{route}/2.0/mlflow/model-versions/delete-tag", json=asked)
        assert answer.status_code == 403


def test_approvals_that_wait_are_not_deleted_before_the_evidence_is_there(world: World) -> None:
    version = world.submitted()
    world.save(world.signed(world.statement(version), "ben"), pending=True)
    asked = {"name": NAME, "version": str(version), "key": "nbkit.evidence.production.pending"}
    assert world.call("DELETE", "api/2.0/mlflow/model-versions/delete-tag", json=asked).status_code == 403


def test_evidence_that_does_not_verify_is_not_kept(world: World) -> None:
    version = world.submitted()
    right = world.statement(version)
    cases = {
        "approvals: expected 1 of other people, got 0": world.signed(right, "ana"),
        "no signature of a trusted key": world.signed(right, "eve"),
        "version: expected": world.signed(world.statement(1), "ana", "ben"),
        "package digest: expected": world.signed(
            world.statement(version, package_digest="sha256:" + "b" * 64), "ana", "ben"
        ),
    }
    for why, envelope in cases.items():
        with pytest.raises(RegistryError, match=f"(?s){why}"):
            world.save(envelope, version=version)
    with pytest.raises(RegistryError, match="no approver of the trust file has signed this"):
        world.save(world.signed(right, "eve"), pending=True)
    with pytest.raises(RegistryError, match="these are approvals of loan-denial@1 for production"):
        world.save(world.signed(world.statement(1), "ben"), version=version, pending=True)
    assert set(world.registry.version(NAME, version=version).tags) & {"nbkit.evidence.production"} == set()


def test_a_version_is_not_born_with_evidence(world: World) -> None:
    record = world.registry.version(NAME, version=2)
    for tags in (
        {"nbkit.evidence.production": record.tags["nbkit.evidence.production"]},
        {"nbkit.stage": "production"},
    ):
        entries = [{"key": key, "value": value} for key, value in tags.items()]
        asked = {"name": NAME, "source": record.source, "run_id": record.run_id, "tags": entries}
        asked["model_id"] = record.source.removeprefix("models:/")
        for route in ROUTES:
            answer = world.call("POST", f"{route}/2.0/mlflow/model-versions/create", json=asked)
            assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("route", ROUTES)
def test_what_decisions_were_recorded_under_is_kept(world: World, route: str) -> None:
    record = world.registry.version(NAME, version=1)
    model_id = record.source.removeprefix("models:/")
    experiment = world.registry.run(record.run_id).experiment_id
    moves = [
        ("DELETE", "mlflow/model-versions/delete", {"name": NAME, "version": "1"}),
        ("DELETE", "mlflow/registered-models/delete", {"name": NAME}),
        ("POST", "mlflow/registered-models/rename", {"name": NAME, "new_name": "other"}),
        ("POST", "mlflow/runs/delete", {"run_id": record.run_id}),
        ("POST", "mlflow/experiments/delete", {"experiment_id": experiment}),
        ("DELETE", f"mlflow/logged-models/{model_id}", None),
    ]
    for method, path, asked in moves:
        answer = world.call(method, f"{route}/2.0/{path}", json=asked)
        assert answer.status_code == 403, f"{path}: {answer.text}"
    assert world.registry.version(NAME, version=1) == record


@pytest.mark.parametrize("route", ROUTES)
def test_a_registered_file_is_neither_changed_nor_joined_by_another(world: World, route: str) -> None:
    model_id = world.registry.version(NAME, version=2).source.removeprefix("models:/")
    plan = world.stored(f"{model_id}/artifacts/data/plan.json")
    before = (world.files / plan).read_bytes()
    added = plan.replace("plan.json", "more.json")
    for path in (
        plan,
        added,
        plan.replace("/data/", "//data/./"),
        quote(plan, safe=""),
        plan.replace("data", "%2564ata"),
    ):
        answer = world.call("PUT", f"{route}/2.0/mlflow-artifacts/artifacts/{path}", data=b"{}")
        assert answer.status_code == 403, f"{path}: {answer.status_code} {answer.text}"
    assert (world.files / plan).read_bytes() == before
    assert not (world.files / added).exists()


@pytest.mark.parametrize("route", ROUTES)
def test_signed_files_are_neither_overwritten_nor_deleted(world: World, route: str) -> None:
    run = world.registry.version(NAME, version=2).run_id
    (evidence,) = [
        p for p in (world.files).rglob("production-*.dsse.json") if run in p.parts and "evidence" in p.parts
    ][:1]
    path = evidence.relative_to(world.files).as_posix()
    before = evidence.read_bytes()
    proxied = f"{route}/2.0/mlflow-artifacts/artifacts"
    assert world.call("PUT", f"{proxied}/{path}", data=b"{}").status_code == 403
    for part in (path, str(Path(path).parent), path.split("/")[0], f"{path.split('/')[0]}/{run}"):
        assert world.call("DELETE", f"{proxied}/{part}").status_code == 403, part
    inside = path.partition("/artifacts/")[2]
    answer = world.call("POST", f"ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={inside}", data=b"{}")
    assert answer.status_code == 403
    assert evidence.read_bytes() == before
    # What reviewers read: the notebook's page comes after registration, and once.
    home = path.partition("/artifacts/")[0] + "/artifacts"
    for page in (f"report-{route}", "notebook.html", "rationale.pdf", "tables/slices.json"):
        first = 403 if (world.files / home / page).exists() else 200
        assert world.call("PUT", f"{proxied}/{home}/{page}", data=b"<p>").status_code == first, page
        again = 200 if page.startswith("report-") else 403
        assert world.call("PUT", f"{proxied}/{home}/{page}", data=b"<p>Better.").status_code == again, page
    assert world.call("DELETE", f"{proxied}/{home}/notebook.html").status_code == 403
    # A new file of the run is welcome: the next signature is one.
    assert world.call("PUT", f"{proxied}/{Path(path).parent}/note-{route}.txt", data=b"x").ok


def test_graphql_changes_nothing_in_this_mlflow(world: World) -> None:
    query = "{__schema {mutationType {fields {name}}}}"
    answer = world.call("POST", "graphql", json={"query": query})
    fields = {field["name"] for field in answer.json()["data"]["__schema"]["mutationType"]["fields"]}
    # A search is a mutation in MLflow's schema; a name that is new here has to be looked at.
    assert fields == {"mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"}


def test_what_was_refused_is_said_to_nbkit_as_to_anybody(world: World) -> None:
    with pytest.raises(RegistryError, match=r"nbkit: .*no evidence for production.*PERMISSION_DENIED"):
        world.registry.set_alias(NAME, stage="production", version=3)


def test_the_same_holds_on_postgresql_with_two_workers_and_a_login(
    postgresql_uri: str, tmp_path_factory: pytest.TempPathFactory, package: Package
) -> None:
    folder = tmp_path_factory.mktemp("login")
    # Its own database: a server keeps files elsewhere than the tests that write to the shared one themselves.
    engine = sqlalchemy.create_engine(postgresql_uri, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE guard"))
    database = make_url(postgresql_uri).set(database="guard").render_as_string(hide_password=False)
    with served(folder, package, database=database, login=True, workers=2) as world:
        path = "api/2.0/mlflow/registered-models/alias"
        alias = {"name": NAME, "alias": "production", "version": "1"}
        assert requests.post(f"{world.address}/{path}", json=alias, timeout=60).status_code == 401
        assert world.submitted() == 1
        # Often enough that both workers answer.
        answers = [world.call("POST", path, json=alias) for _ in range(4)]
        assert {answer.status_code for answer in answers} == {403}
        assert "no evidence for production" in answers[0].text
        world.save(world.signed(world.statement(1), "ben", "ana"))
        world.registry.set_alias(NAME, stage="production", version=1)
        stage = {"name": NAME, "version": "1", "stage": "Production", "archive_existing_versions": True}
        assert world.call("POST", "ajax-api/2.0/mlflow/model-versions/transition-stage", json=stage).status_code == 403
        model_id = world.registry.version(NAME, version=1).source.removeprefix("models:/")
        plan = world.stored(f"{model_id}/artifacts/data/plan.json")
        assert world.call("PUT", f"api/2.0/mlflow-artifacts/artifacts/{plan}", data=b"{}").status_code == 403
        assert world.registry.version_at(NAME, stage="production") == 1
