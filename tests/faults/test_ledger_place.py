"""One setting says where decisions are recorded, and every verb looks there."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nbkit import lifecycle
from nbkit.audit import Ledger, is_address
from nbkit.errors import NotInLedgerError, UsageError
from nbkit.lifecycle._keys import ledger_key
from nbkit.lifecycle._run import kernel_environment
from nbkit.records import AuditRecord
from nbkit.settings import Settings

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECRET = "postgresql://ada:hunter2@db.internal/audit"


def settings(base: Path, ledger: str = "") -> Settings:
    return Settings.from_environment({"NBKIT_HOME": str(base / "home"), "NBKIT_LEDGER": ledger}, directory=base)


def test_a_file_is_relative_to_the_project_and_an_address_is_left_as_it_is(tmp_path: Path) -> None:
    assert lifecycle.ledger_place("loans", settings=settings(tmp_path)) == tmp_path / ".nbkit" / "ledger" / "loans.db"
    assert lifecycle.ledger_place("loans", settings=settings(tmp_path, "all.db")) == tmp_path / "all.db"
    assert lifecycle.ledger_place("loans", settings=settings(tmp_path, SECRET)) == SECRET
    with pytest.raises(UsageError, match=r"expected a file or postgresql://") as refused:
        lifecycle.ledger_place("loans", settings=settings(tmp_path, "mysql://ada:hunter2@db/audit"))
    assert "hunter2" not in str(refused.value)


def test_the_password_is_in_no_command_and_in_no_text_but_in_the_workers_environment(tmp_path: Path) -> None:
    given = settings(tmp_path, SECRET)
    command = lifecycle.worker_command("loans", settings=given, host="127.0.0.1", port=0, now=NOON)
    assert "hunter2" not in " ".join(command)
    assert "--ledger" not in command
    assert "hunter2" not in repr(given)
    assert lifecycle.worker_environment(given)["NBKIT_LEDGER"] == SECRET
    assert kernel_environment(given, run_id="r")["NBKIT_LEDGER"] == SECRET
    told = lifecycle.worker_command("loans", settings=settings(tmp_path), host="127.0.0.1", port=0, now=NOON)
    assert Path(told[told.index("--ledger") + 1]).name == "loans.db"


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_every_verb_reads_the_shared_ledger(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = "shared/all.db" if kind == "file" else request.getfixturevalue("database")
    given = settings(tmp_path, place)
    command = lifecycle.worker_command("loans", settings=given, host="127.0.0.1", port=0, now=NOON)
    assert ("--ledger" in command) is (kind == "file")
    key = ledger_key(given, now=NOON)
    ledger = lifecycle.ledger_place("loans", settings=given)
    if isinstance(ledger, Path):
        ledger.parent.mkdir()
    record = AuditRecord(
        id="d-1", request_id="r-1", model="loans", version=1, package_digest="sha256:0", contract_digest="sha256:0",
        evidence_digest="", received_at=NOON, decided_at=NOON, subject="", inputs={}, score=None, decision="refer",
        fallback="default", fallback_cause="deadline", tags={"ticket_due": "2026-11-26T12:00:00+00:00"},
    )  # fmt: skip
    with Ledger.open(ledger, key=key.secret, now=lambda: NOON) as opened:
        opened.submit(record).result(timeout=30)
    (name,) = lifecycle.find_ledgers(given)
    checked = lifecycle.audit_verify(name, settings=given)
    assert (checked.records, checked.succeeded) == (1, True)
    assert "@" not in checked.path
    assert [ticket.id for ticket in lifecycle.tickets("loans", settings=given, now=NOON).tickets] == ["t-d-1"]
    with pytest.raises(UsageError, match="fallback 'default' answered"):
        lifecycle.audit_replay("d-1", settings=given)
    with pytest.raises(NotInLedgerError, match="in no ledger that NBKIT_LEDGER names"):
        lifecycle.audit_replay("d-2", settings=given)
    assert is_address(place) is (kind == "postgresql")
    assert "NBKIT_LEDGER" not in os.environ
