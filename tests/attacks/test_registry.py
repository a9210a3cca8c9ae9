"""Hostile moves in MLflow's registry, its database and its files: nothing of it is served, and each is reported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from nbkit import lifecycle
from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, RegistryError
from nbkit.lifecycle._pages import changed_documents
from nbkit.registry import Action, Envelope, Registry, TrustStore

if TYPE_CHECKING:
    from nbkit.package import Package
    from tests.attacks.conftest import World

NAME = "loan-denial"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def other(world: World) -> int:
    """Return a version that nobody has approved for anything."""
    return world.register()


def _refused(world: World, *said: str) -> None:
    """Expect that what is served stays, that a fresh machine gets nothing new either, and that somebody is told."""
    before = world.served()
    result = world.sync()
    assert result.state == "refused", result
    assert world.served() == before
    for text in said:
        assert text in result.reason
        assert text in world.alerts()[-1]


def test_a_gate_downloads_each_package_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    download = Registry.download_package

    def counted(self: Registry, name: str, *, version: int, directory: Path) -> Path:
        asked.append(version)
        return download(self, name, version=version, directory=directory)

    monkeypatch.setattr(Registry, "download_package", counted)
    table = world.gate(1, to="production")
    assert asked == [1]
    assert (table.package.digest, table.production.version) == (world.package.digest, 1)


def test_an_alias_moved_by_the_client(world: World, other: int) -> None:
    with world.alias_on(other):
        _refused(world, "no evidence")
        assert world.served() == 1


def test_an_alias_moved_in_the_database(world: World, other: int) -> None:
    engine = sqlalchemy.create_engine(world.settings.tracking_uri)
    update = sqlalchemy.text(
        "UPDATE registered_model_aliases SET version = :v WHERE name = :n AND alias = 'production'"
    )
    try:
        with engine.begin() as connection:
            assert connection.execute(update, {"v": other, "n": NAME}).rowcount == 1
        _refused(world, "no evidence")
        assert world.served() == 1
    finally:
        with engine.begin() as connection:
            connection.execute(update, {"v": 1, "n": NAME})
        engine.dispose()


def test_an_alias_moved_over_rest_as_the_ui_does(world: World, other: int) -> None:
    from mlflow.server import app, handlers

    before = handlers._tracking_store, handlers._model_registry_store
    handlers._tracking_store, handlers._model_registry_store = None, None
    try:
        handlers.initialize_backend_stores(
            world.settings.tracking_uri, world.settings.tracking_uri, str(world.settings.artifact_root)
        )
        answer = app.test_client().post(
            "/api/2.0/mlflow/registered-models/alias",
            json={"name": NAME, "alias": "production", "version": str(other)},
        )
        assert answer.status_code == 200
        assert world.registry.version_at(NAME, stage="production") == other
        _refused(world, "no evidence")
    finally:
        handlers._tracking_store, handlers._model_registry_store = before
        world.registry.set_alias(NAME, stage="production", version=1)


def test_evidence_copied_from_another_version(world: World, other: int) -> None:
    envelope = world.registry.envelope(NAME, version=1, stage="production")
    assert envelope is not None
    world.registry.save_envelope(NAME, version=other, stage="production", envelope=envelope, pending=False)
    try:
        with world.alias_on(other):
            _refused(world, f"version: expected {other}, got 1")
    finally:
        world.registry._client.delete_model_version_tag(NAME, str(other), "nbkit.evidence.production")


def _signed(world: World, version: int, *names: str, **changes: object) -> Envelope:
    """Return real signatures under a statement that was changed before it was signed."""
    genuine = world.registry.envelope(NAME, version=1, stage="production")
    assert genuine is not None
    statement = genuine.unverified_statement().model_copy(update={"version": version, "epoch": 90, **changes})
    envelope = Envelope.of(statement)
    for name in names:
        envelope = envelope.sign(world.key(name))
    return envelope


@pytest.mark.parametrize(
    ("names", "changes", "said"),
    [
        (("ana", "ben"), {"model": "other-model"}, "model: expected loan-denial, got other-model"),
        (("ana", "ben"), {"stage": "staging"}, "stage: expected production, got staging"),
        (("ana", "ben"), {"package_digest": "sha256:" + "0" * 64}, "package digest: expected"),
        (("ana", "ben"), {"contract_digest": "sha256:" + "0" * 64}, "contract digest: expected"),
        (("ana", "ben"), {"case_set_digest": "sha256:" + "0" * 64}, "case set: expected"),
        (("ana", "ben"), {"gates": ()}, "gates: no results"),
        (("ana", "ben"), {"action": Action.SUBMIT}, "action: expected promote or rollback, got submit"),
        (("ana",), {}, "approvals: expected 1 of other people, got 0"),
        (("ben",), {}, "submitter: expected a counting signature of ana"),
        (("ana", "omar"), {}, "approvals: expected 1 of other people, got 0"),
        (("ana", "ben"), {"impact": "high", "approvals_needed": 2}, "impact: expected low, got high"),
    ],
)
def test_evidence_that_says_something_else(
    world: World, other: int, names: tuple[str, ...], changes: dict[str, object], said: str
) -> None:
    envelope = _signed(world, other, *names, **changes)
    world.registry.save_envelope(NAME, version=other, stage="production", envelope=envelope, pending=False)
    try:
        with world.alias_on(other):
            _refused(world, said)
            assert world.served() == 1
    finally:
        world.registry._client.delete_model_version_tag(NAME, str(other), "nbkit.evidence.production")


def test_one_approver_where_two_are_needed(world: World, high: Package) -> None:
    strict = dataclasses.replace(world, package=high)
    version = strict.register()
    strict.approve(version, to="staging", key="ben")
    with pytest.raises(RefusedError, match="approvals: expected 2 of other people, got 1"):
        strict.promote(version, to="staging")
    about = {
        "package_digest": high.digest, "contract_digest": high.contract.digest, "impact": "high", "approvals_needed": 2,
    }  # fmt: skip
    envelope = _signed(world, version, "ana", "ben", **about)
    world.registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    try:
        with world.alias_on(version):
            _refused(world, "approvals: expected 2 of other people, got 1")
            assert world.served() == 1
    finally:
        world.registry._client.delete_model_version_tag(NAME, str(version), "nbkit.evidence.production")


def _planted(world: World, version: int, text: str) -> None:
    """Put any text where evidence lies, under its right digest."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    run = world.registry.version(NAME, version=version).run_id
    world.registry._log_text(run, text, f"evidence/{NAME}-{version}/production-{digest[:16]}.dsse.json")
    world.registry.set_version_tags(NAME, version=version, tags={"nbkit.evidence.production": f"sha256:{digest}"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('{"payload":', '{"payload":"","payload":', 1), "duplicate key 'payload'"),
        (lambda text: text.replace("application/vnd.in-toto+json", "application/json"), "payloadType: expected"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: text.replace('"keyid":"sha256:', '"keyid":"sha512:', 1), "keyid: expected"),
        (lambda text: json.dumps(json.loads(text) | {"signatures": []}), "no signature of a trusted key"),
    ],
)
def test_an_envelope_that_two_readers_could_read_differently(world: World, other: int, change, said: str) -> None:
    envelope = _signed(world, other, "ana", "ben")
    _planted(world, other, change(envelope.to_json()))
    try:
        with world.alias_on(other):
            _refused(world, said)
            assert world.served() == 1
    finally:
        world.registry._client.delete_model_version_tag(NAME, str(other), "nbkit.evidence.production")


def test_a_tag_that_leads_out_of_the_artifacts(world: World, other: int) -> None:
    for tag in ("../../../etc/passwd", "sha256:" + "0" * 63 + "/", "sha256:" + "0" * 64):
        world.registry.set_version_tags(NAME, version=other, tags={"nbkit.evidence.production": tag})
        with world.alias_on(other):
            _refused(world, "evidence for production: ")
            assert world.served() == 1
    world.registry._client.delete_model_version_tag(NAME, str(other), "nbkit.evidence.production")


def test_other_spellings_of_a_stage_or_a_model_are_nothing(world: World, other: int) -> None:
    client = world.registry._client
    for alias in ("Production", "PRODUCTION", "production_"):
        client.set_registered_model_alias(NAME, alias, str(other))
    assert world.sync().state == "current"
    assert world.served() == 1
    for alias in ("Production", "PRODUCTION", "production_"):
        client.delete_registered_model_alias(NAME, alias)
    for name in ("Loan-Denial", "loan-denial ", "l\u043ean-denial", "loan\u2010denial"):
        with pytest.raises(RegistryError, match="expected lower-case letters"):
            world.registry.version_at(name, stage="production")


class TestFiles:
    def test_an_edited_file_of_the_package(self, world: World, tmp_path: Path) -> None:
        with world.file_changed(f"{world.files_of(1)}/data/plan.json", b"{}"):
            result = world.sync(store=tmp_path)
            assert result.state == "refused"
            assert "plan.json: edited" in result.reason
            table = world.gate(1, to="staging")
            assert "plan.json: edited" in table.results[0].reason
        assert world.served() == 1

    def test_a_removed_file(self, world: World, tmp_path: Path) -> None:
        with world.file_changed(f"{world.files_of(1)}/data/contract.json", None):
            assert "contract.json: removed" in world.sync(store=tmp_path).reason
            assert any("contract.json: removed" in what for what in world.audit(1))

    def test_an_added_file(self, world: World, tmp_path: Path) -> None:
        (folder,) = world.settings.artifact_root.glob(f"{world.files_of(1)}/data")
        (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        try:
            assert "model.pkl: not in the manifest" in world.sync(store=tmp_path).reason
            assert any("model.pkl: not in the manifest" in what for what in world.audit(1))
        finally:
            (folder / "model.pkl").unlink()

    def test_a_contract_with_weaker_gates(self, world: World, tmp_path: Path) -> None:
        weaker = json.loads(world.package.contract.canonical())
        weaker["gates"] = {stage: [{"gate": "parity"}] for stage in weaker["gates"]}
        with world.file_changed(f"{world.files_of(1)}/data/contract.json", json.dumps(weaker).encode()):
            assert "contract.json: edited" in world.sync(store=tmp_path).reason
            assert any("contract.json: edited" in what for what in world.audit(1))

    def test_a_list_of_trusted_types_inside_the_artifact(self, world: World, other: int, tmp_path: Path) -> None:
        (path,) = world.settings.artifact_root.glob(f"{world.files_of(other)}/MLmodel")
        hostile = path.read_bytes() + b"skops:\n  trusted: [posix.system]\n"
        with world.file_changed(f"{world.files_of(other)}/MLmodel", hostile):
            table = world.gate(other, to="staging")
            assert not table.succeeded
            assert any("files in MLflow are not those that were submitted" in each.reason for each in table.results)

    def test_facts_edited_after_they_were_signed(self, world: World, other: int) -> None:
        run = world.registry.version(NAME, version=other).run_id
        pattern = f"*/{run}/artifacts/version-{other}/facts.json"
        (path,) = world.settings.artifact_root.glob(pattern)
        better = path.read_bytes().replace(b'"value":0.8', b'"value":0.9')
        with world.file_changed(pattern, better):
            reasons = " ".join(each.reason for each in world.gate(other, to="staging").results)
            assert "facts.json is not the file that was submitted" in reasons
            with pytest.raises(RefusedError, match=r"facts\.json is not the file"):
                world.approve(other, to="staging")

    @pytest.mark.parametrize(
        ("page", "content", "said"),
        [
            ("report.html", b"<p>Perfect.</p>", "report.html at the top of the run is not the file that was submitted"),
            ("version-{}/rationale.html", b"<p>Perfect.</p>", "rationale.html is not the file that was submitted"),
            ("rationale.html", None, "rationale.html at the top of the run is gone"),
        ],
        ids=["edited", "edited beside the version", "removed"],
    )
    def test_a_page_that_a_reviewer_reads(
        self, world: World, other: int, page: str, content: bytes | None, said: str
    ) -> None:
        run = world.registry.version(NAME, version=other).run_id
        with world.file_changed(f"*/{run}/artifacts/{page.format(other)}", content):
            with pytest.raises(RefusedError, match=said):
                world.approve(other, to="staging")
            assert world.audit(other) == [said]

    def test_a_page_or_a_table_that_nobody_submitted(self, world: World, other: int) -> None:
        run = world.registry.version(NAME, version=other).run_id
        (top,) = world.settings.artifact_root.glob(f"*/{run}/artifacts")
        (top / "tables").mkdir()
        added = [top / "rationale.pdf", top / "tables" / "slices.json"]
        for file in added:
            file.write_bytes(b"{}")
        try:
            problems = [f"{file.relative_to(top)} at the top of the run was not submitted" for file in added]
            assert world.audit(other) == problems
            with pytest.raises(RefusedError, match=r"rationale\.pdf at the top of the run was not submitted"):
                world.approve(other, to="staging")
        finally:
            for file in added:
                file.unlink()

    def test_a_submission_from_before_pages_were_signed_is_not_held_to_them(self, world: World, other: int) -> None:
        envelope = world.registry.envelope(NAME, version=other, stage="candidate")
        assert envelope is not None
        said = envelope.unverified_statement()
        names = ("evaluation.json", "rationale.json", "facts.json", "logged model")
        older = said.model_copy(update={"documents": {name: said.documents[name] for name in names}})
        run = said.run_id
        with world.file_changed(f"*/{run}/artifacts/report.html", b"<p>Perfect.</p>"):
            assert [*changed_documents(older, world.registry)] == []
        with world.file_changed(f"*/{run}/artifacts/version-{other}/facts.json", b"{}"):
            assert dict(changed_documents(older, world.registry)) == {
                "facts.json": "facts.json is not the file that was submitted"
            }

    @pytest.mark.parametrize(
        ("table", "change", "values", "said"),
        [
            ("latest_metrics", "UPDATE latest_metrics SET value = :value WHERE run_uuid = :run AND key = :key",
             {"key": "auc", "value": 0.99}, "metric auc of the run says 0.99; submitted was 0.8"),
            ("latest_metrics", "DELETE FROM latest_metrics WHERE run_uuid = :run AND key = :key",
             {"key": "auc"}, "metric auc of the run is gone; submitted was 0.8"),
            ("params", "UPDATE params SET value = :value WHERE run_uuid = :run AND key = :key",
             {"key": "trees", "value": "500"}, "parameter trees of the run says 500; submitted was 5"),
            ("params", "INSERT INTO params (key, value, run_uuid) VALUES (:key, :value, :run)",
             {"key": "reviewed", "value": "yes"}, "parameter reviewed of the run says yes and was not submitted"),
        ],
        ids=["a metric", "a metric that is gone", "a parameter", "one more parameter"],
    )  # fmt: skip
    def test_a_figure_of_the_run_in_the_database(
        self, world: World, other: int, table: str, change: str, values: dict[str, object], said: str
    ) -> None:
        run = world.registry.version(NAME, version=other).run_id
        engine = sqlalchemy.create_engine(world.settings.tracking_uri)
        rows = sqlalchemy.Table(table, sqlalchemy.MetaData(), autoload_with=engine)
        own = rows.c.run_uuid == run
        with engine.begin() as connection:
            before = [dict(row) for row in connection.execute(rows.select().where(own)).mappings()]
            assert connection.execute(sqlalchemy.text(change), {"run": run, **values}).rowcount == 1
        try:
            assert world.audit(other, kinds=("metric", "parameter")) == [said]
            with pytest.raises(RefusedError, match=re.escape(said)):
                world.approve(other, to="staging")
        finally:
            with engine.begin() as connection:
                connection.execute(rows.delete().where(own))
                connection.execute(rows.insert(), before)
            engine.dispose()
        assert world.audit(other, kinds=("metric", "parameter")) == []

    def test_a_metric_logged_once_more_by_the_client(self, world: World) -> None:
        version = world.register()
        run = world.registry.version(NAME, version=version).run_id
        assert world.registry.run(run).metrics == {"auc": 0.8}  # what the evaluation measured, though nobody logged it
        world.registry.log_metrics(run, {"auc": 0.99, "gini": float("nan")})
        said = ["metric auc of the run says 0.99; submitted was 0.8", "metric gini of the run says nan and was not"]
        found = world.audit(version, kinds=("metric", "parameter"))
        assert [text.removesuffix(" submitted") for text in found] == said
        with pytest.raises(RefusedError, match="metric auc of the run says"):
            world.approve(version, to="staging")
        text = str(lifecycle.review(f"{NAME}@{version}", to="staging", settings=world.settings, now=now()))
        assert said[0] in text

    def test_what_the_index_of_the_evidence_says(self, world: World, other: int) -> None:
        run = world.registry.version(NAME, version=other).run_id
        with world.file_changed(f"*/{run}/artifacts/evidence.json", b'{"versions": "all signed"}'):
            assert world.audit(other) == ["evidence.json at the top of the run does not say what the evidence says"]

    def test_the_notebook_after_it_was_approved(self, world: World, tmp_path: Path) -> None:
        version = world.register()
        run = world.registry.version(NAME, version=version).run_id
        page = tmp_path / "notebook.html"
        page.write_text("<p>As it ran.</p>")
        world.registry.log_file(run, page)
        world.approve(version, to="staging")
        with (
            world.file_changed(f"*/{run}/artifacts/notebook.html", b"<p>Better.</p>"),
            pytest.raises(RefusedError, match="nobody has approved what the gates say now"),
        ):
            world.promote(version, to="staging")
        world.promote(version, to="staging")
        said = "notebook.html at the top of the run is not the file that was approved"
        with world.file_changed(f"*/{run}/artifacts/notebook.html", b"<p>Better.</p>"):
            with pytest.raises(RefusedError, match=said):
                world.approve(version, to="production")
            assert world.audit(version) == [said]

    def test_an_evaluation_on_another_case_set(self, world: World) -> None:
        swapped = {"digest": "sha256:" + "e" * 64, "cases": 600, "positives": 70}
        version = world.register(case_set=swapped)
        with pytest.raises(RefusedError, match="evaluated on eeeeeeeeeeee, but the contract pins cccccccccccc"):
            world.approve(version, to="staging")


class TestPeople:
    def test_nobody_approves_what_they_submitted(self, world: World, other: int) -> None:
        with pytest.raises(RefusedError, match="ana submitted it and cannot approve it"):
            world.approve(other, to="staging", key="ana")

    @pytest.mark.parametrize(
        ("key", "owner"), [("two", "ana"), ("three", "Ana"), ("four", "\uff21NA"), ("five", "\u00e1na")]
    )
    def test_neither_under_another_key_nor_in_another_spelling(
        self, world: World, other: int, key: str, owner: str
    ) -> None:
        before = world.settings.trust_file.read_bytes()
        lifecycle.make_key(key, roles=("approver",), owner=owner, settings=world.settings, now=now())
        try:
            with pytest.raises(RefusedError, match="submitted it and cannot approve it"):
                world.approve(other, to="staging", key=key)
        finally:
            world.settings.trust_file.write_bytes(before)
            (world.settings.keys / f"{key}.pem").unlink()

    @pytest.mark.parametrize("owner", ["a\u0301na", "ana\u00a0", " ana", "an\u200ba"])
    def test_an_owner_that_only_looks_like_another_gets_no_key(self, world: World, owner: str) -> None:
        with pytest.raises(EvidenceError, match="Unicode form NFC"):
            lifecycle.make_key("lookalike", roles=("approver",), owner=owner, settings=world.settings, now=now())
        (world.settings.keys / "lookalike.pem").unlink()

    def test_a_role_that_does_not_suffice(self, world: World, other: int) -> None:
        with pytest.raises(EvidenceError, match="may sign as operator, not as approver"):
            world.approve(other, to="staging", key="omar")
        with pytest.raises(EvidenceError, match="not as operator"):
            lifecycle.rollback(NAME, reason="x", settings=world.settings, now=now(), key="ben")

    def test_a_revoked_key_takes_back_what_it_signed(self, world: World, tmp_path: Path) -> None:
        before = world.settings.trust_file.read_bytes()
        try:
            lifecycle.revoke_key("ben", settings=world.settings, now=now())
            result = world.sync(store=tmp_path)
            assert result.state == "refused"
            assert "key 'ben' of ben was revoked" in result.reason
        finally:
            world.settings.trust_file.write_bytes(before)

    def test_an_expired_key_and_expired_evidence(self, world: World, tmp_path: Path) -> None:
        fresh = dataclasses.replace(world.settings, store=tmp_path)
        later = now() + timedelta(days=3000)
        reason = lifecycle.sync(NAME, settings=fresh, now=later).reason
        assert "key 'ben' of ben is no longer valid now" in reason
        assert "expired at" in reason

    def test_a_trust_file_that_others_can_write(self, world: World, tmp_path: Path) -> None:
        world.settings.trust_file.chmod(0o666)
        try:
            assert "others can write it" in world.sync(store=tmp_path).reason
        finally:
            world.settings.trust_file.chmod(0o600)

    def test_a_trust_file_is_never_read_from_the_registry(self, world: World) -> None:
        run = world.registry.version(NAME, version=1).run_id
        assert TrustStore.load(world.settings.trust_file).keys
        with pytest.raises(RegistryError):
            world.registry.read_artifact(run, "../../trust.json")


def test_a_clock_that_was_set_back(world: World, tmp_path: Path) -> None:
    settings = dataclasses.replace(world.settings, store=tmp_path)
    assert lifecycle.sync(NAME, settings=settings, now=now()).state == "installed"
    result = lifecycle.sync(NAME, settings=settings, now=now() - timedelta(hours=1))
    assert result.state == "refused"
    assert "the clock went back" in result.reason
    assert lifecycle.sync(NAME, settings=settings, now=now()).state == "current"


def test_stages_are_not_skipped(world: World, other: int) -> None:
    with pytest.raises(RefusedError, match="no evidence for staging"):
        world.approve(other, to=Stage.PRODUCTION)


class TestZOlderEvidence:
    """Last, because these promote a second version."""

    def test_evidence_of_an_older_epoch(self, world: World, tmp_path: Path) -> None:
        version = world.climb(world.register())
        assert world.sync().version == version
        with world.alias_on(1):
            # Version 1 still has evidence that holds, of an older epoch: neither here nor on a fresh machine.
            assert world.sync().version == version
            assert world.served() == version
            assert f"version {version} was decided last" in world.alerts()[-1]
            assert world.sync(store=tmp_path).version == version

    def test_newer_evidence_that_was_removed(self, world: World) -> None:
        version = world.served()
        assert version is not None
        tag = world.registry.version(NAME, version=version).tags["nbkit.evidence.production"]
        world.registry._client.delete_model_version_tag(NAME, str(version), "nbkit.evidence.production")
        try:
            with world.alias_on(1):
                _refused(world, "an old statement")
        finally:
            world.registry.set_version_tags(NAME, version=version, tags={"nbkit.evidence.production": tag})
