"""`nbkit cases`: what judges every version, and how it changes."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit import lifecycle
from nbkit.audit import Ledger
from nbkit.cli import cli
from nbkit.errors import CaseSetError, NotInLedgerError, ParameterError, UsageError
from nbkit.lifecycle import UseCase, open_use_case
from nbkit.records import AuditRecord
from nbkit.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORD = AuditRecord(
    id="01J-7",
    request_id="r7",
    model="loans",
    version=6,
    package_digest="sha256:" + "5" * 64,
    contract_digest="sha256:" + "6" * 64,
    evidence_digest="sha256:" + "7" * 64,
    received_at=NOON,
    decided_at=NOON,
    subject="s-1",
    inputs={"risk": 2.5, "kind": "fixed", "phone": 5551234.0},
    score=0.12,
    decision="approve",
)


def again(use_case: UseCase) -> UseCase:
    """Open the folder as it is now."""
    return open_use_case("", base=use_case.directory)


@pytest.fixture
def frozen(use_case: UseCase, rows: pd.DataFrame) -> UseCase:
    lifecycle.freeze(use_case, rows.iloc[20:], share=0.5)
    return again(use_case)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"NBKIT_HOME": str(tmp_path / "home")}, directory=tmp_path)


@pytest.fixture
def recorded(settings: Settings) -> Settings:
    """A ledger with one decision."""
    path = settings.store / "ledger" / "loans.db"
    path.parent.mkdir(parents=True)
    with Ledger.open(path, key=Ed25519PrivateKey.generate(), now=lambda: NOON) as ledger:
        ledger.submit(RECORD).result(5)
    return settings


def test_freeze_pins_rows_and_expectations_and_returns_the_same_ever_after(frozen: UseCase, rows: pd.DataFrame) -> None:
    shown = lifecycle.show_case_set(frozen)
    assert (shown.cases, shown.golden, shown.behaviours, shown.unfrozen) == (90, ("safe",), ("risk",), ())
    assert shown.pinned
    assert lifecycle.freeze(frozen, rows, share=0.1, seed=9).reference == shown.reference
    assert str(shown).startswith("loans: 90 labelled rows")


def test_an_edited_golden_case_needs_a_reason(frozen: UseCase) -> None:
    before = frozen.contract.evaluate.case_set
    path = frozen.directory / "cases/golden/safe.yaml"
    path.write_text(path.read_text().replace("approve", "refer"))
    (frozen.directory / "cases/behaviours/risk.yaml").unlink()
    with pytest.raises(CaseSetError, match=r"cases/golden/safe.yaml: edited after freezing; cases/behaviours/risk"):
        lifecycle.add_cases(frozen)
    with pytest.raises(UsageError, match="--replace needs --why"):
        lifecycle.freeze_case_set(frozen, replace=True)
    shown = lifecycle.freeze_case_set(frozen, replace=True, why="policy 12 changed")
    assert shown.changes == ("removed behaviour risk", "changed golden safe")
    assert (shown.why, shown.previous) == ("policy 12 changed", (before or "").split("@")[1])
    assert again(frozen).contract.evaluate.case_set == shown.reference != before


def test_rows_and_new_expectations_are_added_under_a_new_digest(frozen: UseCase, rows: pd.DataFrame) -> None:
    before = frozen.contract.evaluate.case_set or ""
    with pytest.raises(UsageError, match="nothing to add"):
        lifecycle.add_cases(frozen)
    (frozen.directory / "cases/golden/new.yaml").write_text(
        "format: 1\nid: new\nwhy: n\ninputs: {risk: 9, kind: fixed, phone: null}\nexpect: {decision: decline}\n"
    )
    shown = lifecycle.add_cases(frozen, rows.iloc[:20], why="frauds of March")
    assert shown.changes == ("20 rows added", "added golden new")
    assert {path for path, _, _ in shown.files} == {"cases/holdout.jsonl", "cases/holdout-2.jsonl"}
    found = lifecycle.diff_case_sets(again(frozen), before)
    assert [(kind, count) for kind, count, _ in found.rows] == [("added", 20), ("removed", 0), ("changed", 0)]
    assert found.changes == ("added golden new",)
    assert "different cases: results on them are not comparable" in str(found)
    short = before.partition("sha256:")[2][:10]
    assert lifecycle.diff_case_sets(again(frozen), short, short).same
    with pytest.raises(CaseSetError, match="0000: no case set of that name"):
        lifecycle.diff_case_sets(frozen, "0000")


def test_nothing_is_added_before_anything_is_frozen(use_case: UseCase) -> None:
    with pytest.raises(UsageError, match="nothing is frozen yet"):
        lifecycle.add_cases(use_case)
    with pytest.raises(UsageError, match="no rows to freeze"):
        lifecycle.freeze_case_set(use_case)


def test_an_incident_becomes_a_case_with_the_record_behind_it(frozen: UseCase, recorded: Settings) -> None:
    made = lifecycle.make_incident(
        frozen,
        "01J-7",
        expect={"decision": ["refer", "decline"]},
        why="Defaulted in a month; the bureau file was a namesake's.",
        settings=recorded,
        replacements={"phone": None},
    )
    document = yaml.safe_load(made.path.read_text())
    assert document["inputs"] == {"risk": 2.5, "kind": "fixed", "phone": None}
    assert document["record"]["decision"] == "approve"
    assert document["record"]["replaced"] == ["phone"]
    assert "5551234" not in made.path.read_text()
    assert "s-1" not in made.path.read_text()
    assert made.answered == "approve, score 0.1200 (version 6, model)"
    assert lifecycle.add_cases(frozen, why="incident").incidents == ("incident-01J-7",)
    with pytest.raises(UsageError, match="exists already"):
        lifecycle.make_incident(
            frozen, "01J-7", expect={"decision": "refer"}, why="w", settings=recorded, replacements={"phone": 1}
        )


def test_an_incident_never_takes_personal_data_along_unasked(frozen: UseCase, recorded: Settings) -> None:
    def make(record: str = "01J-7", **given: object) -> object:
        arguments = {"expect": {"decision": "refer"}, "why": "w", "settings": recorded} | given
        return lifecycle.make_incident(frozen, record, **arguments)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=r"phone is marked pii and not replaced\. Next: .* --set phone=VALUE"):
        make()
    with pytest.raises(UsageError, match="shoe is not an input of the record"):
        make(replacements={"phone": 1, "shoe": 2})
    with pytest.raises(CaseSetError, match=r"expect\.decision: expected approve, refer, decline, got 'maybe'"):
        make(replacements={"phone": 1}, expect={"decision": "maybe"})
    with pytest.raises(NotInLedgerError):
        make("nobody")
    other = dataclasses.replace(frozen, contract=frozen.contract.model_copy(update={"name": "cards"}))
    with pytest.raises(UsageError, match="decided by loans, not by cards"):
        lifecycle.make_incident(other, "01J-7", expect={"decision": "refer"}, why="w", settings=recorded)
    assert not (frozen.directory / "cases/incidents").exists()


def test_the_same_from_a_shell(
    folder: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, recorded: Settings
) -> None:
    rows.iloc[20:].to_csv(folder / "rows.csv", index=False)
    rows.iloc[:20].to_csv(folder / "more.csv", index=False)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NBKIT_STORE", str(recorded.store))

    def run(*words: str) -> dict[str, object]:
        result = CliRunner().invoke(cli, ["cases", *words, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        found: dict[str, object] = json.loads(result.output)
        return found

    first = run("freeze", "--from", "rows.csv", "--share", "0.5")
    assert run("freeze", "--from", "rows.csv")["reference"] == first["reference"]
    incident = ("incident", "01J-7", "--expect", "decision=refer", "--expect", "score_min=0.5", "--why", "w")
    assert run(*incident, "--set", "phone=7")["expected"] == "decision refer, score_min 0.5"
    second = run("add", "--from", "more.csv", "--why", "March")
    assert (second["cases"], second["incidents"]) == (110, ["incident-01J-7"])
    assert run("show", "--set", str(first["reference"]))["pinned"] is False
    changed = run("diff", str(first["reference"]).split("@")[0])
    assert changed["changes"] == ["added incident incident-01J-7"]
    broken = CliRunner().invoke(cli, ["cases", "add", "--from", "contract.yaml"])
    assert isinstance(broken.exception, UsageError | CaseSetError)


def test_options_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ParameterError, match="--expect: expected KEY=VALUE, got 'refer'"):
        lifecycle.expectation_of(("refer",))
    assert lifecycle.expectation_of(("decision=a", "decision=b", "decision=c"))["decision"] == ["a", "b", "c"]
