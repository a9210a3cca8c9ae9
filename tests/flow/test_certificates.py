"""Train again, rehearse, waive, and take the evidence away: signed beside a move, read by gates and examiners."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbkit import lifecycle
from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, UsageError
from nbkit.gates import require_rehearsal, require_reproduction
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._evidence import submission_of
from nbkit.lifecycle._facts import certified
from nbkit.registry import CertificateKind, Registry

if TYPE_CHECKING:
    from nbkit.settings import Settings
    from tests.flow.conftest import Project


def now() -> datetime:
    return datetime.now(UTC)


def _certificate(project: Project, kind: CertificateKind) -> dict[str, object] | None:
    package = fetch("mortgage", version=1, settings=project.settings)
    submission = submission_of("mortgage", version=1, package=package, settings=project.settings, now=now())
    return certified(submission, kind=kind, settings=project.settings, now=now())


def test_a_version_is_trained_again_from_its_record_to_the_bit(project: Project) -> None:
    assert _certificate(project, CertificateKind.REPRODUCTION) is None
    before = sorted(path.name for path in (project.use_case.directory / ".nbkit" / "runs").iterdir())
    result = lifecycle.reproduce("mortgage@1", base=project.directory, settings=project.settings, now=now(), key="bob")
    assert result.succeeded, str(result)
    assert (result.differs, result.by) == ((), "bob")
    found = _certificate(project, CertificateKind.REPRODUCTION)
    assert found is not None
    verdict = require_reproduction()({"reproduction": found})
    assert verdict.passed, verdict.reason
    assert f"the same to the bit on {result.cases:,} cases" in verdict.reason
    # Neither the folder nor MLflow has seen the second training.
    assert sorted(path.name for path in (project.use_case.directory / ".nbkit" / "runs").iterdir()) == before
    assert [record.version for record in Registry(project.settings).versions("mortgage")] == [1]


def test_only_the_deputy_rehearses(project: Project) -> None:
    with pytest.raises(RefusedError, match="the deputy is mortgage-model-deputy, and bob cannot rehearse for them"):
        lifecycle.rehearse("mortgage@1", base=project.directory, settings=project.settings, now=now(), key="bob")
    deputy = project.use_case.contract.owner.deputy
    lifecycle.make_key("dora", roles=("operator",), owner=deputy, settings=project.settings, now=now())
    result = lifecycle.rehearse("mortgage@1", base=project.directory, settings=project.settings, now=now(), key="dora")
    assert result.steps[0] == "trained again: the same to the bit"
    assert "no earlier version in production" in result.steps[1]
    found = _certificate(project, CertificateKind.REHEARSAL)
    assert found is not None
    assert require_rehearsal()({"rehearsal": found, "owner": {"deputy": deputy}}).passed
    later = certified(
        submission_of(
            "mortgage",
            version=1,
            package=fetch("mortgage", version=1, settings=project.settings),
            settings=project.settings,
            now=now(),
        ),
        kind=CertificateKind.REHEARSAL,
        settings=project.settings,
        now=result.expires_at,
    )
    assert later is not None
    assert "expired at" in str(later["problem"])


def test_what_is_never_waived_and_who_never_waives(project: Project) -> None:
    def waive(gate: str, *, to: str = "production", key: str = "bob", reason: str = "urgent", days: int = 30) -> object:
        return lifecycle.waive(
            "mortgage@1", gate_name=gate, to=to, reason=reason, days=days, settings=project.settings, now=now(), key=key
        )

    with pytest.raises(RefusedError, match="path is never waived when it says 'fail'"):
        waive("path")
    with pytest.raises(UsageError, match="'golden' does not stand in the way; these do: path"):
        waive("golden")
    with pytest.raises(UsageError, match="expected 1 to 90 days, got 91"):
        waive("path", days=91)
    with pytest.raises(UsageError, match="a waiver needs a reason"):
        waive("path", reason=" ")
    with pytest.raises(EvidenceError, match="not as approver"):
        waive("path", key="ops")


def test_evidence_is_verified_where_mlflow_cannot_be_imported(project: Project, tmp_path: Path) -> None:
    """An examiner's laptop: the files, a trust file and the light core."""
    project.climb(1, to="staging")
    shown = lifecycle.show_evidence("mortgage@1", settings=project.settings)
    assert [move["stage"] for move in shown.moves] == ["candidate", "staging"]
    assert "bob" in str(shown.moves[1]["signed_by"])
    folder = tmp_path / "evidence"
    lifecycle.export_evidence("mortgage@1", to="staging", directory=folder, settings=project.settings)
    done = _examined(folder, project)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (result["problems"], set(result["signed_by"])) == ([], {"alice", "bob", "carol"})
    assert result["says"]["stage"] == Stage.STAGING
    facts = folder / "facts.json"
    facts.write_bytes(facts.read_bytes().replace(b"1", b"2", 1))
    done = _examined(folder, project)
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"] == ["facts.json: not the file that was signed"]
    again = lifecycle.examine(folder, trust_file=project.settings.trust_file, now=now(), minimum_epoch=2)
    assert again.problems == ("epoch: expected at least 2, got 1; an old statement",)
    with pytest.raises(UsageError, match="expected a folder that is empty"):
        lifecycle.export_evidence("mortgage@1", to="staging", directory=folder, settings=project.settings)


def _examined(folder: Path, project: Project) -> subprocess.CompletedProcess[str]:
    heavy = "mlflow", "pandas", "sklearn", "skops", "shap"
    program = f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); from nbkit.cli import main; main()"
    trust = str(project.settings.trust_file)
    command = [sys.executable, "-c", program, "evidence", "verify", str(folder), "--trust", trust, "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_are_listed_trusted_and_revoked(project: Project) -> None:
    elsewhere = lifecycle.make_key(
        "erin",
        roles=("approver",),
        settings=_other_home(project),
        now=now(),
    )
    given = {"public_key": elsewhere.public_key, "owner": "Erin", "days": 30}
    lifecycle.trust_key("erin", **given, roles=("approver",), settings=project.settings, now=now())
    with pytest.raises(EvidenceError, match="already trusted as 'erin' of Erin"):
        lifecycle.trust_key("erin", **given, roles=("approver",), settings=project.settings, now=now())
    with pytest.raises(UsageError, match="expected the 32 bytes of a public key in base64"):
        lifecycle.trust_key(
            "x", public_key="AAAA", owner="X", roles=("approver",), days=1, settings=project.settings, now=now()
        )
    listed = str(lifecycle.list_keys(settings=project.settings, now=now()))
    assert "erin" in listed
    assert "counts" in listed
    changed = lifecycle.revoke_key("erin", settings=project.settings, now=now())
    assert "revoked from" in str(changed)
    (erin,) = [key for key in lifecycle.list_keys(settings=project.settings, now=now()).keys if key.name == "erin"]
    assert erin.revoked_at is not None
    with pytest.raises(UsageError, match="expected one key 'nobody', got none"):
        lifecycle.revoke_key("nobody", settings=project.settings, now=now())


def _other_home(project: Project) -> Settings:
    return dataclasses.replace(project.settings, home=project.settings.home.with_name("elsewhere"))
