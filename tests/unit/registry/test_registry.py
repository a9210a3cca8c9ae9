"""The whole flow on real stores: the same body on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
from datetime import UTC
from pathlib import Path

import pytest

from nbkit.errors import EvidenceError, NotInRegistryError, RegistryError, RegistryUnavailableError
from nbkit.lifecycle._index import INDEX_FORMAT, index_text
from nbkit.registry import Envelope, Registry
from nbkit.settings import Settings

NAME = "loan-denial"
FORMATS = Path(__file__).parent / "formats"


@pytest.fixture
def run(registry) -> str:
    return registry.create_run(
        NAME, name="train", tags={"mlflow.source.name": "train.ipynb"}, parameters={"trees": 200}
    )


@pytest.fixture
def version(registry, run, package) -> int:
    return registry.register(package, run_id=run, description="Passes every gate.\n\nMore.", tags={"owner": "ana"})


def _folder(settings: Settings, registry, version: int) -> Path:
    model_id = registry.version(NAME, version=version).source.removeprefix("models:/")
    return settings.artifact_root / NAME / "models" / model_id / "artifacts"


def test_a_run_lives_from_running_to_finished_or_failed(registry, run) -> None:
    assert registry.run(run).status == "RUNNING"
    registry.finish_run(run, succeeded=True)
    assert registry.run(run).status == "FINISHED"
    registry.finish_run(run, succeeded=False)
    found = registry.run(run)
    assert found.status == "FAILED"
    assert found.ended_at is not None
    assert found.ended_at.tzinfo is UTC


def test_a_run_keeps_what_was_logged(registry, run, tmp_path) -> None:
    registry.log_parameters(run, {f"p{number}": number for number in range(250)})
    registry.log_metrics(run, {"auc": 0.83, "ks": 0.5})
    registry.set_run_tags(run, {"nbkit.summary": "good"})
    registry.describe_run(run, "Passes every gate.")
    found = registry.run(run)
    assert (found.name, found.experiment) == ("train", NAME)
    assert found.parameters["trees"] == "200"
    assert len(found.parameters) == 251
    assert found.metrics == {"auc": 0.83, "ks": 0.5}
    assert found.tags["mlflow.source.name"] == "train.ipynb"
    assert found.tags["nbkit.summary"] == "good"
    assert found.description == "Passes every gate."
    assert found.started_at is not None
    assert found.artifact_location.startswith("file:///")


def test_a_parameter_cannot_change(registry, run) -> None:
    with pytest.raises(RegistryError, match=r"parameters: .*INVALID_PARAMETER_VALUE"):
        registry.log_parameters(run, {"trees": 300})


def test_files_and_tables_read_back(registry, run, tmp_path) -> None:
    (tmp_path / "report.html").write_text("<p>é</p>", encoding="utf-8")
    registry.log_file(run, tmp_path / "report.html")
    registry.log_file(run, tmp_path / "report.html", folder="pages/more")
    assert registry.read_artifact(run, "report.html") == "<p>é</p>".encode()
    assert registry.read_artifact(run, "pages/more/report.html") == "<p>é</p>".encode()
    for _ in range(2):
        registry.log_table(run, {"gate": ["auc", "ks"], "value": [0.8, float("nan")]}, path="tables/gates.json")
    table = json.loads(registry.read_artifact(run, "tables/gates.json"))
    assert table == {"columns": ["gate", "value"], "data": [["auc", 0.8], ["ks", None]]}
    shown = json.loads(registry.run(run).tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "tables/gates.json", "type": "table"}]


def test_a_table_that_is_none_is_refused(registry, run) -> None:
    for columns, path in (({"a": [1], "b": []}, "t.json"), ({"a": [1]}, "t.csv")):
        with pytest.raises(RegistryError, match=r"expected a \.json path and columns of one length"):
            registry.log_table(run, columns, path=path)


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a/../../x", "", "a\\..\\b"])
def test_an_artifact_outside_the_run_is_refused(registry, run, path: str) -> None:
    with pytest.raises(RegistryError, match="expected a path inside"):
        registry.read_artifact(run, path)


def test_a_file_that_is_renamed_while_a_folder_is_listed_is_left_out(registry, run, tmp_path, monkeypatch) -> None:
    # MLflow writes under another name first: somebody else's upload is in the listing and then gone.
    (tmp_path / "report.md").write_text("It passes.")
    registry.log_file(run, tmp_path / "report.md")
    walk = os.walk

    def listed(*arguments: object, **options: object) -> object:
        return (
            (folder, inner, [*files, ".artifact.uploading.x"]) for folder, inner, files in walk(*arguments, **options)
        )

    monkeypatch.setattr("nbkit.registry._artifacts.os.walk", listed)
    assert registry.file_paths(run) == ("report.md",)


def test_a_link_that_leads_out_of_the_run_is_not_followed(registry, run, tmp_path) -> None:
    (tmp_path / "secret").write_text("mine", encoding="utf-8")
    location = Path(registry.run(run).artifact_location.removeprefix("file://"))
    location.mkdir(parents=True)
    (location / "link").symlink_to(tmp_path)
    with pytest.raises(RegistryError, match="'link/secret' leads outside"):
        registry.read_artifact(run, "link/secret")


def test_what_is_not_there_is_said_so(registry, run) -> None:
    with pytest.raises(NotInRegistryError, match="RESOURCE_DOES_NOT_EXIST"):
        registry.run("0" * 32)
    with pytest.raises(NotInRegistryError, match=r"no file 'nothing\.html'"):
        registry.read_artifact(run, "nothing.html")
    with pytest.raises(NotInRegistryError, match="nobody@1"):
        registry.version("nobody", version=1)
    with pytest.raises(NotInRegistryError):
        registry.set_alias("nobody", stage="production", version=1)
    assert registry.versions("nobody") == ()
    assert registry.version_at("nobody", stage="production") is None


@pytest.mark.parametrize("name", ["", "../up", "a/b", "é", "x" * 129])
def test_an_experiment_that_is_no_folder_name_is_refused(registry, name: str) -> None:
    with pytest.raises(RegistryError, match="experiment: expected letters"):
        registry.create_run(name, name="x", tags={}, parameters={})


def test_a_registered_version_says_what_it_is(registry, run, version, package) -> None:
    found = registry.version(NAME, version=version)
    assert (found.model, found.version, found.run_id, found.stages) == (NAME, version, run, ())
    assert found.description.splitlines()[0] == "Passes every gate."
    assert found.tags["owner"] == "ana"
    assert found.tags["nbkit.package_digest"] == package.digest
    assert found.tags["nbkit.contract_digest"] == package.contract.digest
    assert found.source.startswith("models:/m-")
    assert NAME in registry.names()
    assert registry.versions(NAME)[0] == found


def test_versions_count_up_and_come_newest_first(registry, run, version, package) -> None:
    following = registry.register(package, run_id=run, description="", tags={})
    assert following == version + 1
    numbers = [record.version for record in registry.versions(NAME)]
    assert numbers == sorted(numbers, reverse=True)


def test_a_long_list_of_versions_is_read_to_its_end(registry, version, monkeypatch) -> None:
    whole = registry.versions(NAME)
    monkeypatch.setattr("nbkit.registry._versions._PAGE", 1)
    assert registry.versions(NAME) == whole


def test_a_version_can_be_described_and_tagged_again(registry, version) -> None:
    registry.describe_version(NAME, version=version, description="Refused.")
    registry.set_version_tags(NAME, version=version, tags={"owner": "ben", "more": "x"})
    found = registry.version(NAME, version=version)
    assert found.description == "Refused."
    assert (found.tags["owner"], found.tags["more"]) == ("ben", "x")


def test_the_model_is_linked_with_its_run_its_metrics_and_its_version(registry, run, package) -> None:
    registry.log_metrics(run, {"auc": 0.83})
    version = registry.register(package, run_id=run, description="", tags={})
    client = registry._client
    model_id = registry.version(NAME, version=version).source.removeprefix("models:/")
    model = client.get_logged_model(model_id)
    assert str(model.status) == "READY"
    assert (model.source_run_id, model.params["trees"]) == (run, "200")
    assert [(metric.key, metric.value) for metric in model.metrics] == [("auc", 0.83)]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": str(version)}]
    assert [output.model_id for output in client.get_run(run).outputs.model_outputs] == [model_id]
    assert len(client.get_metric_history(run, "auc")) == 1


def test_a_stage_points_at_one_version_and_moves(registry, run, version, package) -> None:
    registry.set_alias(NAME, stage="production", version=version)
    assert registry.version_at(NAME, stage="production") == version
    assert registry.version(NAME, version=version).stages == ("production",)
    following = registry.register(package, run_id=run, description="", tags={})
    registry.set_alias(NAME, stage="production", version=following)
    assert registry.version_at(NAME, stage="production") == following
    assert [record.stages for record in registry.versions(NAME)[:2]] == [("production",), ()]


@pytest.mark.parametrize("stage", ["Production", "PRODUCTION", "latest ", "prod'uction", "", "prοduction"])
def test_another_spelling_of_a_stage_is_refused(registry, version, stage: str) -> None:
    for call in (
        lambda: registry.set_alias(NAME, stage=stage, version=version),
        lambda: registry.version_at(NAME, stage=stage),
        lambda: registry.envelope(NAME, version=version, stage=stage),
    ):
        with pytest.raises(RegistryError, match="expected lower-case letters"):
            call()


def test_a_name_that_would_end_the_search_filter_is_refused(registry) -> None:
    with pytest.raises(RegistryError, match="expected lower-case letters"):
        registry.versions("x' OR name LIKE '%")


def test_an_alias_set_by_hand_in_another_spelling_is_not_the_stage(registry, version) -> None:
    before = registry.version_at(NAME, stage="production")
    registry._client.set_registered_model_alias(NAME, "Production", str(version))
    assert registry.version_at(NAME, stage="production") == before
    assert "Production" in registry.version(NAME, version=version).stages


def test_the_downloaded_package_is_the_registered_one(registry, version, package, tmp_path) -> None:
    directory = registry.download_package(NAME, version=version, directory=tmp_path / "deep" / "package")
    original = {p.relative_to(package.directory).as_posix(): p.read_bytes() for p in _files(package.directory)}
    assert {p.relative_to(directory).as_posix(): p.read_bytes() for p in _files(directory)} == original
    assert [path.name for path in directory.parent.iterdir()] == ["package"]


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_folder_that_holds_something_is_not_downloaded_into(registry, version, tmp_path) -> None:
    (tmp_path / "keep").write_text("mine", encoding="utf-8")
    for directory in (tmp_path, tmp_path / "keep"):
        with pytest.raises(RegistryError, match="expected a folder that does not exist or is empty"):
            registry.download_package(NAME, version=version, directory=directory)
    (tmp_path / "empty").mkdir()
    assert registry.download_package(NAME, version=version, directory=tmp_path / "empty").is_dir()


def test_digests_cover_every_file_and_show_every_change(registry, settings, version) -> None:
    before = registry.file_digests(NAME, version=version)
    assert {"MLmodel", "conda.yaml", "data/manifest.json", "python_env.yaml", "requirements.txt"} <= set(before)
    folder = _folder(settings, registry, version)
    (folder / "data" / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "data" / ".mlflow-hidden").write_text("x", encoding="utf-8")
    after = registry.file_digests(NAME, version=version)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {"data/manifest.json", "data/.mlflow-hidden"}


def test_a_link_among_the_files_is_refused(registry, settings, version, tmp_path) -> None:
    (_folder(settings, registry, version) / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(RegistryError, match="expected a file or a folder, not a link"):
        registry.download_package(NAME, version=version, directory=tmp_path / "package")
    with pytest.raises(RegistryError, match="not a link"):
        registry.file_digests(NAME, version=version)
    assert not (tmp_path / "package").exists()


def test_a_version_registered_by_hand_holds_no_package(registry, run, version, tmp_path) -> None:
    client = registry._client
    by_hand = int(client.create_model_version(NAME, source="file:///somewhere", run_id=None).version)
    with pytest.raises(NotInRegistryError, match="holds no nbkit package; it was not registered by nbkit"):
        registry.download_package(NAME, version=by_hand, directory=tmp_path / "package")
    with pytest.raises(NotInRegistryError, match="not registered by nbkit"):
        registry.file_digests(NAME, version=by_hand)
    assert registry.envelope(NAME, version=by_hand, stage="production") is None
    assert not list(tmp_path.iterdir())


def test_a_model_without_package_files_is_no_package(registry, settings, version, tmp_path) -> None:
    for path in _files(_folder(settings, registry, version) / "data"):
        path.unlink()
    with pytest.raises(NotInRegistryError, match="holds no nbkit package"):
        registry.download_package(NAME, version=version, directory=tmp_path / "package")


def test_evidence_is_kept_and_found_again(registry, people, run, version) -> None:
    def saved(*, pending: bool) -> Envelope | None:
        return registry.envelope(NAME, version=version, stage="production", pending=pending)

    assert saved(pending=True) is None
    first, second = people.promotion("ana", version=version), people.promotion("ana", "ben", version=version)
    registry.save_envelope(NAME, version=version, stage="production", envelope=first, pending=True)
    assert saved(pending=True) == first
    assert saved(pending=False) is None
    registry.save_envelope(NAME, version=version, stage="production", envelope=second, pending=False)
    assert saved(pending=False) == second
    assert saved(pending=True) is None
    assert registry.envelope(NAME, version=version, stage="staging") is None
    assert registry.version(NAME, version=version).tags["nbkit.evidence.production"] == second.digest


def test_evidence_can_be_read_by_people_and_its_history_stays(registry, settings, people, run, version) -> None:
    for epoch in (1, 2):
        envelope = people.promotion(version=version, epoch=epoch)
        registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    folder = Path(registry.run(run).artifact_location.removeprefix("file://")) / "evidence" / f"{NAME}-{version}"
    assert len(list(folder.glob("production-*.dsse.json"))) == 2
    readable = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.statement.json")]
    assert sorted(statement["predicate"]["epoch"] for statement in readable) == [1, 2]


def test_evidence_that_was_changed_or_removed_is_refused(registry, people, run, version) -> None:
    envelope = people.promotion(version=version)
    registry.save_envelope(NAME, version=version, stage="production", envelope=envelope, pending=False)
    location = Path(registry.run(run).artifact_location.removeprefix("file://"))
    (path,) = location.glob("evidence/*/production-*.dsse.json")
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(EvidenceError, match=r"evidence for production: the file .* was changed"):
        registry.envelope(NAME, version=version, stage="production")
    path.unlink()
    with pytest.raises(EvidenceError, match=r"evidence for production: the file .* is gone"):
        registry.envelope(NAME, version=version, stage="production")
    registry.set_version_tags(NAME, version=version, tags={"nbkit.evidence.production": "../../x"})
    with pytest.raises(EvidenceError, match="the tag holds no digest"):
        registry.envelope(NAME, version=version, stage="production")


def test_a_version_without_a_run_cannot_hold_evidence(registry, people, version) -> None:
    by_hand = int(registry._client.create_model_version(NAME, source="file:///somewhere", run_id=None).version)
    with pytest.raises(RegistryError, match="has no run; it was not registered by nbkit"):
        registry.save_envelope(NAME, version=by_hand, stage="production", envelope=people.promotion(), pending=False)


def test_links_lead_to_the_pages_of_the_ui(registry, settings, run) -> None:
    experiment = registry.run(run).experiment_id
    assert registry.run_link(run) == f"{settings.ui_url}/#/experiments/{experiment}/runs/{run}"
    assert registry.version_link(NAME, 3) == f"{settings.ui_url}/#/models/loan-denial/versions/3"


def test_the_notebooks_own_mlflow_state_is_left_alone(registry, run, package) -> None:
    import mlflow

    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ))
    registry.register(package, run_id=run, description="", tags={})
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)) == before
    assert mlflow.active_run() is None


def test_two_registries_in_one_process_do_not_mix(registry, other_settings, run, package) -> None:
    other = Registry(other_settings)
    elsewhere = other.create_run(NAME, name="train", tags={}, parameters={})
    here = registry.register(package, run_id=run, description="", tags={})
    there = other.register(package, run_id=elsewhere, description="", tags={})
    assert other.version(NAME, version=there).run_id == elsewhere
    assert registry.version(NAME, version=here).run_id == run
    with pytest.raises(NotInRegistryError):
        other.run(run)
    assert other.run(elsewhere).artifact_location.startswith(other_settings.artifact_root.as_uri())


def test_a_failed_registration_leaves_no_model_that_looks_ready(registry, run, package, broken_package) -> None:
    with pytest.raises(Exception, match=r"requirements\.txt: cannot be read"):
        registry.register(broken_package, run_id=run, description="", tags={})
    client = registry._client
    models = client.search_logged_models([registry.run(run).experiment_id], filter_string=f"source_run_id='{run}'")
    assert [str(model.status) for model in models] == ["FAILED"]


def test_an_experiment_that_another_process_makes_in_between_is_used(registry, monkeypatch) -> None:
    client = registry._client
    real = client.get_experiment_by_name
    answers = iter([None])
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: next(answers, real(name)))
    registry.create_run("between", name="x", tags={}, parameters={})
    answers = iter([None])
    run_id = registry.create_run("between", name="x", tags={}, parameters={})
    assert registry.run(run_id).experiment == "between"


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("postgresql://nbkit:s3cret@127.0.0.1:1/mlflow", RegistryUnavailableError, r"nobody answers: OperationalError"),
        ("http://127.0.0.1:1", RegistryUnavailableError, r"MLflow at http://127\.0\.0\.1:1: nobody answers"),
        ("file:///tmp/mlruns", RegistryError, "tracking uri: expected http, https, sqlite"),
        ("databricks", RegistryError, "tracking uri: expected http"),
        ("postgresql://nbkit@host:port/x", RegistryError, "tracking uri: not a database address"),
    ],
)
def test_a_store_that_nobody_answers_for_says_so_at_once(tmp_path, uri: str, kind: type, message: str) -> None:
    settings = Settings(tracking_uri=uri, artifact_root=tmp_path, home=tmp_path, store=tmp_path)
    with pytest.raises(kind, match=message) as caught:
        Registry(settings).names()
    assert "s3cret" not in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


def test_the_index_of_the_evidence_is_as_format_1_wrote_it(registry, run, version) -> None:
    for name in ("submission", "rollback"):
        envelope = Envelope.from_json((FORMATS / "1" / f"{name}.dsse.json").read_text(encoding="utf-8"))
        stage = envelope.unverified_statement().stage
        registry.save_envelope(NAME, version=version, stage=stage, envelope=envelope, pending=False)
    golden = (FORMATS / "1" / "evidence.json").read_text(encoding="utf-8")
    shown = index_text(run, registry=registry)
    assert shown == golden.replace("loan-denial@1", f"{NAME}@{version}").replace("loan-denial-1", f"{NAME}-{version}")
    assert json.loads(shown)["format"] == INDEX_FORMAT
