"""Reviewers: what the registry says that nobody signed, what they read, sign and see in a real browser."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from nbkit import lifecycle
from nbkit.cli import cli
from nbkit.errors import EvidenceError, RefusedError, RegistryError, UsageError
from nbkit.lifecycle._registry_audit import DriftWatch
from nbkit.registry import Registry
from nbkit.registry._server_rules import FIXED_TAGS
from nbkit.serve import PackageStore
from tests.flow.conftest import Project, copied

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which .ci/run installs")

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 90_000
# Where a person who changes the pages looks at them: NBKIT_SCREENSHOTS=folder make test.
SHOTS = os.environ.get("NBKIT_SCREENSHOTS", "")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def project(run_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 1 in production, version 2 asked for staging and approved by nobody."""
    made = copied(run_once, tmp_path_factory.mktemp("browser"))
    for stage in ("staging", "production"):
        made.climb(1, to=stage)
    assert made.new_version() == 2
    lifecycle.gate("mortgage@2", to="staging", settings=made.settings, now=now())
    return made


def _audit(project: Project) -> set[tuple[str, str]]:
    audit = lifecycle.audit_registry("mortgage", settings=project.settings, now=now())
    assert audit.succeeded == (not audit.findings)
    return {(finding.kind, finding.what) for finding in audit.findings}


TABLES = ("registered_model_aliases", "model_version_tags", "model_versions")


@contextmanager
def _by_hand(project: Project, *statements: tuple[str, tuple[object, ...]]) -> Iterator[None]:
    """Change the database as somebody with its address would, and put the rows back."""
    with closing(sqlite3.connect(project.settings.tracking_uri.removeprefix("sqlite:///"))) as database:
        before = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608
        for statement, values in statements:
            assert database.execute(statement, values).rowcount == 1, statement
        database.commit()
        try:
            yield
        finally:
            for table, rows in before.items():
                database.execute(f"DELETE FROM {table}")  # noqa: S608
                places = ", ".join("?" * len(rows[0]))
                database.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608
            database.commit()


def test_what_was_signed_is_found_as_it_is(project: Project) -> None:
    audit = lifecycle.audit_registry(settings=project.settings, now=now())
    assert str(audit) == "2 versions of mortgage: all is as it was signed"


TAG = "UPDATE model_version_tags SET value = ? WHERE name = 'mortgage' AND version = ? AND key = ?"
NO_TAG = "DELETE FROM model_version_tags WHERE name = 'mortgage' AND version = ? AND key = ?"
NEW_TAG = "INSERT INTO model_version_tags (name, version, key, value) VALUES ('mortgage', ?, ?, ?)"
NEW_ALIAS = "INSERT INTO registered_model_aliases (name, alias, version) VALUES ('mortgage', ?, ?)"


def test_moves_by_hand_are_found_and_alerted_once(project: Project) -> None:
    digest = Registry(project.settings).version("mortgage", version=1).tags["nbkit.evidence.staging"]
    _copy_evidence(project)
    moves = [
        ("UPDATE registered_model_aliases SET version = ? WHERE alias = 'production'", (2,)),
        (NEW_ALIAS, ("Production", 2)),
        (NEW_ALIAS, ("prοduction", 2)),
        ("UPDATE model_versions SET current_stage = ? WHERE version = 2", ("Production",)),
        (TAG, ("mallory", 2, "nbkit.owner")),
        (TAG, ("production", 2, "nbkit.stage")),
        (NO_TAG, (2, "nbkit.submitter")),
        (TAG, ("pass: excellent", 1, "nbkit.gate.parity")),
        (NEW_TAG, (2, "nbkit.evidence.staging", digest)),
    ]
    expected = [
        ("alias", "mortgage@2: alias production points here without evidence: mortgage@2: no evidence for production"),
        ("alias", "mortgage@2: alias 'Production' reads like production and is not: nothing is served by it"),
        ("alias", "mortgage@2: alias 'prοduction' reads like a stage and is not: nothing is served by it"),
        (
            "mlflow stage",
            "mortgage@2: MLflow's own stage is Production; it knows no evidence and nbkit reads it nowhere",
        ),
        ("tag", "mortgage@2: tag nbkit.owner says 'mallory'; signed is 'mortgage-model-owner'"),
        ("tag", "mortgage@2: tag nbkit.stage says 'production'; no evidence says so"),
        ("tag", "mortgage@2: tag nbkit.submitter is missing; signed is 'alice'"),
        ("tag", "mortgage@1: tag nbkit.gate.parity says 'pass: excellent'; signed is 'pass: plan and fitted"),
        ("evidence", "mortgage@2: evidence of mortgage version 2 for staging: "),
    ]
    watch = DriftWatch("mortgage", settings=project.settings)
    with _by_hand(project, *moves):
        told = [(finding.kind, f"{finding.where}: {finding.what}") for finding in watch.look(now())]
        assert watch.look(now()) == ()
    for kind, what in expected:
        assert any(each == kind and text.startswith(what) for each, text in told), (what, told)
    alerts = (project.settings.store / "alerts.jsonl").read_text(encoding="utf-8")
    assert alerts.count("registry: alias: mortgage@2: alias production points here") == 1
    assert watch.look(now() + timedelta(minutes=11)) == ()


def _copy_evidence(project: Project) -> None:
    """Put version 1's evidence where version 2's would lie."""
    run_id = Registry(project.settings).version("mortgage", version=2).run_id
    (folder,) = [p for p in project.settings.artifact_root.rglob("evidence/mortgage-1") if run_id in p.parts]
    for file in folder.glob("staging-*"):
        (folder.with_name("mortgage-2") / file.name).write_bytes(file.read_bytes())


def test_a_version_that_nobody_signed_for_is_found(project: Project) -> None:
    with _by_hand(project, (NO_TAG, (2, "nbkit.evidence.candidate"))):
        found = _audit(project)
    assert ("owner", "mortgage@2: nobody signed its submission. Next: nbkit register mortgage") in found
    assert any(kind == "alias" and "alias candidate points here without evidence" in what for kind, what in found)


def test_changed_files_are_found(project: Project) -> None:
    record = Registry(project.settings).version("mortgage", version=1)
    model = record.source.rpartition("/")[2]
    evidence = record.tags["nbkit.evidence.production"].removeprefix("sha256:")[:16]
    found = _audit_with_changes(
        project,
        f"{model}/artifacts/MLmodel",
        f"{record.run_id}/artifacts/version-1/evaluation.json",
        f"{record.run_id}/artifacts/evidence/mortgage-1/production-{evidence}.dsse.json",
    )
    assert ("files", "the files in MLflow are not those that were submitted") in found
    assert ("files", "evaluation.json is not the file that was submitted") in found
    assert any(kind == "alias" and what.endswith("dsse.json was changed") for kind, what in found)
    found = _audit_with_changes(project, f"{model}/artifacts/data/plan.json")
    assert any(kind == "files" and "plan.json" in what for kind, what in found)
    assert any(kind == "alias" and what.endswith("its files do not verify") for kind, what in found)


def _audit_with_changes(project: Project, *endings: str) -> set[tuple[str, str]]:
    files = [next(project.settings.artifact_root.rglob(ending)) for ending in endings]
    contents = [file.read_bytes() for file in files]
    try:
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content + b" ")
        return _audit(project)
    finally:
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)


def test_a_reviewer_sees_what_waits_and_what_changed(project: Project) -> None:
    waiting = lifecycle.reviews(settings=project.settings)
    assert [target for target, _, _ in waiting.versions] == ["mortgage@2"]
    assert waiting.versions[0][1].startswith("Passes the ")
    shown = lifecycle.review("mortgage@2", settings=project.settings, now=now())
    assert (shown.stage, shown.champion, shown.submitter, shown.approvers) == ("staging", 1, "alice", ())
    text = str(shown)
    assert "approved by" in text
    assert "nobody (0 of 2 needed)" in text
    assert "report.html" in text
    assert "auc" in text
    alone = lifecycle.review("mortgage@1", to="production", settings=project.settings, now=now())
    assert "nothing is in production yet" in str(alone)


def test_the_command_line_asks_and_answers(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.directory)
    for name, value in project.environment().items():
        monkeypatch.setenv(name, value)

    def nbkit(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words))

    assert "mortgage@2" in nbkit("review").output
    shown = json.loads(nbkit("review", "mortgage@2", "--json").output)
    assert (shown["version"], shown["stage"], shown["champion"]) == (2, "staging", 1)
    assert isinstance(nbkit("review", "--approve").exception, UsageError)
    assert isinstance(nbkit("review", "mortgage@2", "--refuse", "--key", "bob").exception, UsageError)
    assert isinstance(nbkit("review", "mortgage@2", "--approve", "--key", "alice").exception, EvidenceError)
    assert nbkit("registry", "audit", "mortgage").exit_code == 0
    with _by_hand(project, (NEW_ALIAS, ("Staging", 2))):
        found = nbkit("registry", "audit", "--json")
    assert found.exit_code == 1
    assert [each["kind"] for each in json.loads(found.output)["findings"]] == ["alias"]


def test_the_pages_say_what_the_moves_said(project: Project) -> None:
    registry = Registry(project.settings)
    first, second = (registry.version("mortgage", version=number) for number in (1, 2))
    assert first.description.startswith("In production since ")
    assert "signed by bob, carol." in first.description.partition("\n")[0]
    assert second.description.startswith("Passes the ")
    assert second.description.partition("\n")[0] == second.tags["nbkit.verdict"]
    titles = ("[evaluation report]", "[rationale]", "[notebook as it ran]", "[evidence]", "Gate before staging")
    order = [second.description.index(title) for title in titles]
    assert order == sorted(order)
    assert len(second.description) <= 5000
    gates = lifecycle.gate("mortgage@2", to="staging", settings=project.settings, now=now())
    shown = {key: value for key, value in second.tags.items() if key.startswith("nbkit.gate.")}
    assert shown == {f"nbkit.gate.{r.gate.replace(':', '.')}": f"{r.verdict.value}: {r.reason}" for r in gates.results}
    run = registry.run(second.run_id)
    assert run.description.partition("\n")[0] == second.tags["nbkit.verdict"]


def test_the_documented_tags_are_the_real_ones(project: Project, request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "how-to" / "review.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(nbkit\.[^`]+)`", page, re.MULTILINE))
    tags = Registry(project.settings).version("mortgage", version=2).tags
    real = {"nbkit.gate.GATE" if key.startswith("nbkit.gate.") else key for key in tags if key.startswith("nbkit.")}
    assert documented == {key for key in real if not key.startswith("nbkit.evidence.")}
    fixed = (request.config.rootpath / "docs" / "reference" / "server-plugin.md").read_text(encoding="utf-8")
    assert [key for key in FIXED_TAGS if f"`{key}`" not in fixed] == []


def test_an_answer_needs_a_reason_and_a_key_that_may(project: Project) -> None:
    def answer(how: str, **more: str) -> lifecycle.Result:
        return lifecycle.answer_review("mortgage@2", answer=how, settings=project.settings, now=now(), **more)

    with pytest.raises(UsageError, match="a refusal needs a reason"):
        answer("refuse", key="bob")
    with pytest.raises(EvidenceError, match="not as approver"):
        answer("refuse", reason="no", key="ops")
    with pytest.raises(UsageError, match="expected approve, refuse, withdraw, got 'reject'"):
        answer("reject", key="bob")
    with pytest.raises(RefusedError, match="bob has refused nothing that could be withdrawn"):
        answer("withdraw", reason="changed my mind", key="bob")


def test_a_refusal_stands_until_who_refused_takes_it_back(project: Project) -> None:
    def answer(how: str, key: str, reason: str = "") -> lifecycle.Result:
        return lifecycle.answer_review(
            "mortgage@2", answer=how, reason=reason, settings=project.settings, now=now(), key=key
        )

    assert answer("approve", "carol", "good work").succeeded
    assert "carol remarks" in str(lifecycle.review("mortgage@2", settings=project.settings, now=now()))
    assert "bob refused" in str(answer("refuse", "bob", "group B is not explained"))
    table = lifecycle.gate("mortgage@2", to="staging", settings=project.settings, now=now())
    (failed,) = [result for result in table.results if not result.passed]
    assert failed.gate == "refusal"
    assert re.match(r"bob refused it on \d{4}-\d\d-\d\d: group B is not explained", failed.reason)
    tags = Registry(project.settings).version("mortgage", version=2).tags
    assert tags["nbkit.verdict"].endswith("stands in the way (refusal).")
    assert tags["nbkit.gate.refusal"].startswith("fail: bob refused it")
    with pytest.raises(RefusedError, match="refusal: fail: bob refused it"):
        answer("approve", "carol")
    with pytest.raises(RefusedError, match="refusal is never waived"):
        lifecycle.waive(
            "mortgage@2", gate_name="refusal", to="staging", reason="hurry", days=5, settings=project.settings,
            now=now(), key="carol",
        )  # fmt: skip
    with pytest.raises(RefusedError, match="carol has refused nothing"):
        answer("withdraw", "carol", "on behalf of bob")
    # Without its tag it stands as well: the file is what counts.
    registry = Registry(project.settings)
    registry.delete_version_tags("mortgage", version=2, keys=["nbkit.certificate.refusal.staging"])
    assert not lifecycle.gate("mortgage@2", to="staging", settings=project.settings, now=now()).succeeded
    assert answer("withdraw", "bob", "explained since").succeeded
    assert lifecycle.gate("mortgage@2", to="staging", settings=project.settings, now=now()).succeeded
    assert "nbkit.gate.refusal" not in registry.version("mortgage", version=2).tags


@pytest.fixture(scope="module")
def mlflow(project: Project) -> Iterator[str]:
    """The UI as ``nbkit ui --guarded`` starts it."""
    port = _free_port()
    command = lifecycle.ui_command(settings=project.settings, port=port, guarded=True)
    yield from _served(command, f"http://127.0.0.1:{port}", "/health", project)


@pytest.fixture(scope="module")
def lab(project: Project) -> Iterator[str]:
    """JupyterLab in the project, with a notebook that opens the panel."""
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, "id": f"c{n}"}
        for n, source in enumerate(["%load_ext nbkit", "%nbkit review mortgage@2 --to staging"])
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (project.directory / "review.ipynb").write_text(json.dumps(notebook))
    settings = project.directory / "lab" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # Otherwise a cell that is out of view is not in the page.
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    port = _free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=tests", f"--ServerApp.root_dir={project.directory}",
        "--allow-root", "--LabApp.news_url=None", f"--LabApp.user_settings_dir={project.directory / 'lab'}",
        f"--LabApp.workspaces_dir={project.directory / 'workspaces'}",
    ]  # fmt: skip
    yield from _served(command, f"http://127.0.0.1:{port}", "/api?token=tests", project, NBKIT_IDENTITY="carol")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _served(command: list[str], address: str, path: str, project: Project, **more: str) -> Iterator[str]:
    log = project.directory / f"{Path(command[2]).name}-{address.rpartition(':')[2]}.log"
    environment = project.environment() | lifecycle.UI_ENVIRONMENT | more
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=project.directory, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            for _ in range(1200):
                assert process.poll() is None, log.read_text()
                try:
                    if requests.get(address + path, timeout=1).ok:
                        break
                except requests.RequestException:
                    time.sleep(0.1)
            else:
                raise AssertionError(log.read_text())
            yield address
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser) -> Iterator[object]:
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


def _look(page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def _go(page, address: str) -> None:
    # MLflow's routes differ only behind the '#': without a page in between nothing is loaded again.
    page.goto("about:blank")
    page.goto(address, wait_until="domcontentloaded")


def _shown(found) -> bool:
    """Return whether what is looked for is to be seen once it has had time to come; too late, the wait itself fails."""
    found.first.wait_for()
    return found.first.is_visible()


@needs_chromium
def test_the_page_of_a_version_begins_with_its_verdict(page, mlflow: str, project: Project) -> None:
    link = Registry(project.settings).version_link("mortgage", 2).replace("http://127.0.0.1:5000", mlflow)
    _go(page, link)
    verdict = Registry(project.settings).version("mortgage", version=2).tags["nbkit.verdict"]
    assert verdict.startswith("Passes the ")
    assert _shown(page.get_by_text(verdict))
    assert _shown(page.get_by_role("columnheader", name="Gate before staging"))
    assert _shown(page.get_by_role("cell", name="parity", exact=True))
    _look(page, "version")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="evaluation report").click()
    report = opened.value
    report.set_default_timeout(PATIENCE_MS)
    assert _shown(report.frame_locator("iframe").first.get_by_text("AUC"))
    _look(report, "report")
    report.close()


@needs_chromium
def test_the_run_shows_the_verdict_its_chips_and_its_rationale(page, mlflow: str, project: Project) -> None:
    registry = Registry(project.settings)
    run_id = registry.version("mortgage", version=2).run_id
    run = f"{mlflow}/{registry.run_path(run_id)}"
    _go(page, run)
    verdict = registry.version("mortgage", version=2).tags["nbkit.verdict"]
    assert verdict.startswith("Passes the ")
    assert _shown(page.get_by_text(verdict))
    chips = ["nbkit.stage", "nbkit.verdict", "nbkit.owner", "nbkit.case_set", "nbkit.contract"]
    assert [chip for chip in chips if _shown(page.get_by_text(chip, exact=True))] == chips
    _look(page, "run")
    _go(page, f"{run}/artifacts/rationale.html")
    assert _shown(page.frame_locator("iframe").first.get_by_text("What moves the score"))
    _look(page, "rationale")


def _give_alias(page, server: str, alias: str):
    """Point an alias at version 2 as a person does, with MLflow's own dialog; return the dialog."""
    _go(page, f"{server}/#/models/mortgage/versions/2")
    page.get_by_title("Edit aliases").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill(alias)
    dialog.get_by_role("combobox").press("Enter")
    dialog.get_by_text(f'The "{alias}" alias is also being used on version 1.').wait_for()
    dialog.get_by_role("button", name="Save aliases").click()
    return dialog


@needs_chromium
def test_an_alias_moved_by_clicking_is_refused_by_the_guarded_server(page, mlflow: str, project: Project) -> None:
    dialog = _give_alias(page, mlflow, "production")
    dialog.get_by_text("nbkit: mortgage@2: no evidence for production").wait_for()
    _look(page, "alias-refused")
    assert Registry(project.settings).version_at("mortgage", stage="production") == 1
    assert lifecycle.audit_registry("mortgage", settings=project.settings, now=now()).succeeded


@needs_chromium
def test_an_alias_moved_by_clicking_changes_nothing_that_is_served(page, project: Project, tmp_path: Path) -> None:
    registry, port = Registry(project.settings), _free_port()
    command = lifecycle.ui_command(settings=project.settings, port=port)
    settings = dataclasses.replace(project.settings, store=tmp_path / "store")
    assert lifecycle.sync("mortgage", settings=settings, now=now()).version == 1
    with contextmanager(_served)(command, f"http://127.0.0.1:{port}", "/health", project) as unguarded:
        _give_alias(page, unguarded, "production").wait_for(state="hidden")
        _look(page, "alias-moved")
    try:
        assert registry.version_at("mortgage", stage="production") == 2
        result = lifecycle.sync("mortgage", settings=settings, now=now())
        said = "mortgage version 2: its alias says production, but there is no evidence for it"
        assert result.state == "refused"
        served = PackageStore(settings.store).current("mortgage")
        assert served is not None
        assert served.version == 1
        assert said in result.reason
        assert said in (settings.store / "alerts.jsonl").read_text(encoding="utf-8")
        found = _audit(project)
        assert any(kind == "alias" and what.startswith("alias production points here without") for kind, what in found)
    finally:
        registry.set_alias("mortgage", stage="production", version=1)
    assert lifecycle.audit_registry("mortgage", settings=project.settings, now=now()).succeeded


def test_a_move_with_its_evidence_goes_through_the_guarded_server(mlflow: str, project: Project) -> None:
    settings = dataclasses.replace(project.settings, tracking_uri=mlflow)
    with pytest.raises(RegistryError, match="nbkit: mortgage@2: no evidence for staging"):
        Registry(settings).set_alias("mortgage", stage="staging", version=2)
    approved = lifecycle.review("mortgage@2", to="staging", settings=settings, now=now()).approvers
    for key in {"bob", "carol"} - set(approved):
        lifecycle.approve("mortgage@2", to="staging", settings=settings, now=now(), key=key)
    lifecycle.promote("mortgage@2", to="staging", settings=settings, now=now())
    record = Registry(project.settings).version("mortgage", version=2)
    assert "staging" in record.stages
    assert record.description.startswith("In staging since ")
    assert lifecycle.audit_registry("mortgage", settings=project.settings, now=now()).succeeded


@needs_chromium
def test_the_panel_signs_a_refusal_with_the_reviewers_key(page, lab: str, project: Project) -> None:
    _go(page, f"{lab}/lab/tree/review.ipynb?token=tests")
    page.locator(".jp-Notebook .jp-Cell").nth(1).wait_for()
    page.get_by_text("| Idle").first.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.get_by_role("button", name="Refuse").wait_for()
    page.get_by_text("Gates before staging").first.wait_for()
    _look(page, "panel")
    page.get_by_placeholder("Why (needed to refuse)").fill("the fall in approvals is not explained")
    page.get_by_role("button", name="Refuse").click()
    page.get_by_text("mortgage@2 -> staging: carol refused").wait_for()
    page.get_by_text("carol refused it on").first.wait_for()
    _look(page, "refused")
    table = lifecycle.gate("mortgage@2", to="staging", settings=project.settings, now=now())
    assert [result.gate for result in table.results if not result.passed] == ["refusal"]
