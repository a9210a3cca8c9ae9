"""Gates, approvals and stages on a real registry; and the moves that must not work."""

from __future__ import annotations

import json
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbkit import lifecycle
from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, UsageError
from nbkit.registry import Envelope, Registry
from nbkit.serve import PackageStore

if TYPE_CHECKING:
    from tests.flow.conftest import Project


def now() -> datetime:
    return datetime.now(UTC)


def _served(project: Project) -> int | None:
    installed = PackageStore(project.settings.store).current("mortgage")
    return None if installed is None else installed.version


def test_every_gate_says_its_figure(project: Project) -> None:
    table = lifecycle.gate("mortgage", to="staging", settings=project.settings, now=now())
    gates = {result.gate: result for result in table.results}
    assert table.succeeded, str(table)
    listed = [
        f"{spec.gate}:{spec.metric}" if spec.metric else spec.gate
        for spec in project.use_case.contract.gates[Stage.STAGING]
    ]
    assert [result.gate for result in table.results][: len(listed)] == listed
    assert "parity" in gates
    assert all(result.reason for result in table.results)


def test_gates_show_themselves_as_text_html_and_json(project: Project) -> None:
    table = lifecycle.gate("mortgage@1", to="staging", settings=project.settings, now=now())
    bundle = table._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "application/vnd.nbkit.gate-table+json"}
    assert "<table>" in str(bundle["text/html"])
    assert "<script" not in str(bundle["text/html"])
    assert json.loads(lifecycle.to_json(table))["results"][0]["verdict"] == "pass"


def test_a_stage_cannot_be_skipped(project: Project) -> None:
    table = lifecycle.gate("mortgage@1", to="production", settings=project.settings, now=now())
    assert not table.succeeded
    assert [r.gate for r in table.results if not r.passed] == ["path"]
    assert "there is nothing to run beside" in {r.gate: r.reason for r in table.results}["canary"]
    with pytest.raises(RefusedError, match="path: fail: mortgage@1: no evidence for staging"):
        lifecycle.approve("mortgage@1", to="production", settings=project.settings, now=now(), key="bob")


def test_a_stage_outside_the_path_is_a_usage_error(project: Project) -> None:
    with pytest.raises(UsageError, match="expected one of staging, shadow, canary, production, got 'Production'"):
        lifecycle.gate("mortgage@1", to="Production", settings=project.settings, now=now())
    with pytest.raises(UsageError, match="expected NAME@NUMBER"):
        lifecycle.gate("mortgage@one", to="staging", settings=project.settings, now=now())


def test_the_submitter_cannot_approve(project: Project) -> None:
    """Neither with the submitting key, nor with a second key of the same person."""
    with pytest.raises(EvidenceError, match="may sign as submitter, not as approver"):
        lifecycle.approve("mortgage@1", to="staging", settings=project.settings, now=now(), key="alice")
    lifecycle.make_key("alice-two", roles=("approver",), owner="alice", settings=project.settings, now=now())
    with pytest.raises(RefusedError, match="alice submitted it and cannot approve it"):
        lifecycle.approve("mortgage@1", to="staging", settings=project.settings, now=now(), key="alice-two")


def test_one_approval_is_not_enough_for_high_impact(project: Project) -> None:
    version = project.new_version()
    target = f"mortgage@{version}"
    with pytest.raises(RefusedError, match="nobody has approved what the gates say now"):
        lifecycle.promote(target, to="staging", settings=project.settings, now=now())
    approved = lifecycle.approve(target, to="staging", settings=project.settings, now=now(), key="bob")
    assert (approved.approvals, approved.approvals_needed) == (1, 2)
    with pytest.raises(RefusedError, match="approvals: expected 2 of other people, got 1"):
        lifecycle.promote(target, to="staging", settings=project.settings, now=now())
    with pytest.raises(RefusedError, match="bob has approved already"):
        lifecycle.approve(target, to="staging", settings=project.settings, now=now(), key="bob")
    lifecycle.approve(target, to="staging", settings=project.settings, now=now(), key="carol")
    with pytest.raises(RefusedError, match="alice submitted it and has to sign"):
        lifecycle.promote(target, to="staging", settings=project.settings, now=now(), key="ops")
    moved = lifecycle.promote(target, to="staging", settings=project.settings, now=now())
    assert Registry(project.settings).version_at("mortgage", stage=Stage.STAGING) == moved.version == version


def test_nothing_is_served_before_production(project: Project) -> None:
    result = lifecycle.sync("mortgage", settings=project.settings, now=now())
    assert result.state == "refused"
    assert _served(project) is None


def test_a_promoted_version_is_served_and_shown_to_reviewers(live: Project) -> None:
    assert lifecycle.sync("mortgage", settings=live.settings, now=now()).state in ("installed", "current")
    assert _served(live) == 1
    record = Registry(live.settings).version("mortgage", version=1)
    assert "production" in record.stages
    assert record.tags["nbkit.stage"] == "production"
    assert record.tags["nbkit.gate.parity"].startswith("pass: ")


def test_an_alias_moved_by_hand_is_not_served(live: Project, caplog: pytest.LogCaptureFixture) -> None:
    lifecycle.sync("mortgage", settings=live.settings, now=now())
    other = live.new_version()
    Registry(live.settings).set_alias("mortgage", stage=Stage.PRODUCTION, version=other)
    try:
        with caplog.at_level(logging.WARNING, logger="nbkit.serve"):
            result = lifecycle.sync("mortgage", settings=live.settings, now=now())
        assert result.state == "refused"
        assert _served(live) == 1
        assert any("update refused" in record.getMessage() for record in caplog.records)
        alerts = (live.settings.store / "alerts.jsonl").read_text().splitlines()
        assert json.loads(alerts[-1])["version"] == other
    finally:
        Registry(live.settings).set_alias("mortgage", stage=Stage.PRODUCTION, version=1)


def test_an_alias_moved_in_the_database_is_not_served(live: Project) -> None:
    lifecycle.sync("mortgage", settings=live.settings, now=now())
    other = live.new_version()
    database = live.settings.tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(database) as connection:
        statement = "UPDATE registered_model_aliases SET version = ? WHERE name = 'mortgage' AND alias = 'production'"
        assert connection.execute(statement, (other,)).rowcount == 1
    connection.close()
    try:
        assert lifecycle.sync("mortgage", settings=live.settings, now=now()).state == "refused"
        assert _served(live) == 1
    finally:
        Registry(live.settings).set_alias("mortgage", stage=Stage.PRODUCTION, version=1)


def test_copied_evidence_of_another_version_is_refused(live: Project) -> None:
    other = live.new_version()
    registry = Registry(live.settings)
    envelope = registry.envelope("mortgage", version=1, stage=Stage.PRODUCTION)
    assert isinstance(envelope, Envelope)
    registry.save_envelope("mortgage", version=other, stage=Stage.PRODUCTION, envelope=envelope, pending=False)
    registry.set_alias("mortgage", stage=Stage.PRODUCTION, version=other)
    try:
        result = lifecycle.sync("mortgage", settings=live.settings, now=now())
        assert result.state == "refused"
        assert f"version: expected {other}, got 1" in result.reason
    finally:
        registry.set_alias("mortgage", stage=Stage.PRODUCTION, version=1)


def test_a_version_whose_files_changed_is_neither_promoted_nor_served(live: Project, tmp_path: Path) -> None:
    import dataclasses

    version = live.new_version()
    live.climb(version, to="staging")
    live.climb(version, to="production")
    plan = _stored_plan(live, version)
    content = plan.read_bytes()
    plan.write_bytes(content.replace(b"0", b"1", 1))
    try:
        fresh = dataclasses.replace(live.settings, store=tmp_path / "store")
        result = lifecycle.sync("mortgage", settings=fresh, now=now())
        assert result.state == "refused"
        assert "plan.json" in result.reason
        assert PackageStore(fresh.store).current("mortgage") is None
        table = lifecycle.gate(f"mortgage@{version}", to="staging", settings=live.settings, now=now())
        assert not table.succeeded
        assert "plan.json" in table.results[0].reason
        # Without the changed version, production falls back to the one before it.
        back = lifecycle.rollback("mortgage", reason="files changed", settings=live.settings, now=now(), key="ops")
        assert back.version == 1
        assert lifecycle.sync("mortgage", settings=fresh, now=now()).state == "installed"
    finally:
        plan.write_bytes(content)


def _stored_plan(project: Project, version: int) -> Path:
    """Find the plan of a version in MLflow's artifact store, as somebody with access to its disk would."""
    model_id = Registry(project.settings).version("mortgage", version=version).source.rpartition("/")[2]
    (found,) = [path for path in project.settings.artifact_root.rglob("plan.json") if model_id in path.parts]
    return found


def test_an_edited_document_stops_the_gate(project: Project) -> None:
    version = project.new_version()
    run_id = Registry(project.settings).version("mortgage", version=version).run_id
    (path,) = [
        p
        for p in project.settings.artifact_root.rglob("facts.json")
        if f"{run_id}/artifacts/version-{version}/" in str(p)
    ]
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"auc":', b'"auc": ', 1))
    try:
        table = lifecycle.gate(f"mortgage@{version}", to="staging", settings=project.settings, now=now())
        assert not table.succeeded
        assert any("facts.json is not the file that was submitted" in result.reason for result in table.results)
    finally:
        path.write_bytes(content)


def test_rollback_needs_an_operator_and_a_reason(live: Project) -> None:
    with pytest.raises(RefusedError, match="a rollback needs a reason"):
        lifecycle.rollback("mortgage", reason=" ", settings=live.settings, now=now(), key="ops")
    with pytest.raises(EvidenceError, match="not as operator"):
        lifecycle.rollback("mortgage", reason="complaints", settings=live.settings, now=now(), key="bob")


def test_register_refuses_a_package_that_was_not_judged(project: Project) -> None:
    build = project.use_case.latest_build()
    content = build.evaluation.read_text()
    build.evaluation.write_text(json.dumps(json.loads(content) | {"package_digest": "sha256:" + "0" * 64}))
    try:
        with pytest.raises(RefusedError, match="evaluate was run on package sha256:000"):
            lifecycle.register(project.use_case, settings=project.settings, now=now())
    finally:
        build.evaluation.write_text(content)


def test_versions_on_trial_are_served_beside_production(live: Project) -> None:
    version = live.new_version()
    store = PackageStore(live.settings.store)

    def state(stage: str) -> str:
        return lifecycle.sync("mortgage", settings=live.settings, now=now(), stage=stage).state

    with pytest.raises(RefusedError, match="no version is a canary"):
        lifecycle.canary("mortgage", settings=live.settings, now=now())
    live.climb(version, to="staging")
    live.climb(version, to="shadow")
    assert (state("shadow"), state("shadow"), state("canary")) == ("installed", "current", "empty")
    live.waive(version, gate="shadow", to="canary")
    live.climb(version, to="canary")
    assert (state("shadow"), state("canary")) == ("removed", "installed")
    assert state("production") in ("installed", "current")
    shares = []
    for _ in range(3):
        installed = store.current("mortgage", stage="canary")
        assert installed is not None
        assert (installed.version, _served(live)) == (version, 1)
        shares.append(installed.share)
        if len(shares) < 3:
            lifecycle.canary("mortgage", settings=live.settings, now=now())
            assert state("canary") == "installed"
    assert shares == [0.01, 0.1, 0.5]
    with pytest.raises(RefusedError, match="answers the largest share of its contract already"):
        lifecycle.canary("mortgage", settings=live.settings, now=now())
    with pytest.raises(UsageError, match=r"expected one of rollout\.canary_shares"):
        lifecycle.canary("mortgage", share=0.7, settings=live.settings, now=now())
    back = lifecycle.canary("mortgage", share=0.01, settings=live.settings, now=now())
    assert "answers 1.0% of the subjects" in str(back)
