"""``nbkit audit costs``: what the decisions of a ledger cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Ledger
from nbkit.cli import cli
from nbkit.errors import UsageError
from nbkit.lifecycle import audit_costs, moment_of
from nbkit.records import AuditRecord
from nbkit.settings import Settings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHOLE: dict[str, object] = {"version": 3, "cost_usd": "0.02"}
CANARY: dict[str, object] = {"version": 4, "cost_usd": "0.05", "stage": "canary"}
SHADOW: dict[str, object] = {"version": 5, "cost_usd": "0.01", "stage": "shadow", "kind": "shadow"}
# The champion, asked about the canary's row.
BESIDE: dict[str, object] = {"version": 3, "cost_usd": "0.02", "kind": "shadow"}
LATE: dict[str, object] = {"version": 3, "fallback": "default", "fallback_cause": "deadline", "score": None}

Write = Callable[..., None]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBKIT_LEDGER", raising=False)
    monkeypatch.setenv("NBKIT_STORE", str(tmp_path / "store"))
    return Settings.from_environment({"NBKIT_STORE": str(tmp_path / "store")}, directory=tmp_path)


@pytest.fixture
def write(settings: Settings) -> Write:
    def write(name: str, *changes: dict[str, object], path: Path | None = None) -> None:
        place = path or settings.store / "ledger" / f"{name}.db"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Ledger.open(place, key=Ed25519PrivateKey.generate(), now=lambda: NOON) as ledger:
            for number, change in enumerate(changes, start=1):
                told: dict[str, object] = {
                    "id": f"{name}-{number}", "request_id": f"{name}-{number}", "model": name, "received_at": NOON,
                    "decided_at": NOON, "package_digest": "", "contract_digest": "", "evidence_digest": "",
                    "subject": "", "inputs": {}, "score": 0.5, "decision": "approve",
                }  # fmt: skip
                ledger.submit(AuditRecord(**(told | change))).result(5)  # type: ignore[arg-type]

    return write


def nbkit(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["audit", "costs", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout


def test_an_answer_pays_for_the_shadows_beside_it(write: Write, settings: Settings) -> None:
    write("loans", WHOLE, WHOLE, LATE, CANARY, BESIDE, SHADOW, SHADOW)
    found = audit_costs("loans", settings=settings)
    assert (found.answers.decisions, found.answers.cost_usd) == (4, "0.13")
    assert (found.answers.mean_usd, found.answers.per_thousand_usd) == ("0.0325", "32.5")
    sums = {kind: (s.decisions, s.cost_usd, s.mean_usd) for kind, s in
            (("production", found.production), ("canary", found.canary), ("shadow", found.shadow))}  # fmt: skip
    assert sums == {
        "production": (3, "0.04", "0.0133333333333"),
        "canary": (1, "0.05", "0.05"),
        "shadow": (3, "0.04", "0.0133333333333"),
    }
    assert [(x.version, x.stage, x.kind, x.fallback, x.per_thousand_usd) for x in found.lines] == [
        (3, "production", "decision", "", "20"),
        (3, "production", "decision", "default", "0"),
        (3, "production", "shadow", "", "20"),
        (4, "canary", "decision", "", "50"),
        (5, "shadow", "shadow", "", "10"),
    ]


def test_it_is_shown_as_a_table(write: Write) -> None:
    write("loans", WHOLE, LATE, SHADOW)
    code, shown = nbkit("loans", "--since", "2026-11-23", "--until", "2026-11-24T01:00+01:00")
    assert code == 0
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == "loans: 2 answers cost 0.03 USD"
    assert lines[1] == "received from 2026-11-23T00:00:00+00:00 to before 2026-11-24T00:00:00+00:00"
    assert lines[2:5] == [
        "production 0.02 USD for 2",
        "shadows 0.01 USD for 1",
        "an answer 0.015 USD, 15 USD per 1,000, shadows included",
    ]
    assert lines[-3:] == [
        "loans 3 production decision model 1 0.02 0.02 20",
        "loans 3 production decision fallback: default 1 0 0 0",
        "loans 5 shadow shadow model 1 0.01 0.01 10",
    ]


def test_it_reads_as_json(write: Write) -> None:
    write("loans", WHOLE, WHOLE | {"received_at": NOON + HOUR})
    code, shown = nbkit("loans", "--until", "2026-11-23T13:00Z", "--json")
    told = json.loads(shown)
    assert code == 0
    assert (told["since"], told["until"]) == (None, "2026-11-23T13:00:00+00:00")
    assert told["production"] == {
        "decisions": 1, "cost_usd": "0.02", "mean_usd": "0.02", "per_thousand_usd": "20",
    }  # fmt: skip
    assert told["lines"][0]["cost_usd"] == "0.02"


def test_without_a_name_every_ledger_of_this_machine_is_read(write: Write, settings: Settings) -> None:
    write("loans", WHOLE)
    write("cards", {"version": 1, "cost_usd": "1"})
    assert audit_costs("", settings=settings).answers.cost_usd == "1.02"
    assert audit_costs("cards", settings=settings).answers.cost_usd == "1"


def test_a_shared_ledger_is_asked_for_one_model(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("all", WHOLE | {"model": "loans"}, WHOLE | {"model": "cards"}, path=tmp_path / "all.db")
    assert json.loads(nbkit("loans", "--ledger", "all.db", "--json")[1])["answers"]["cost_usd"] == "0.02"
    monkeypatch.setenv("NBKIT_LEDGER", str(tmp_path / "all.db"))
    assert json.loads(nbkit("cards", "--json")[1])["answers"]["cost_usd"] == "0.02"
    assert json.loads(nbkit("--json")[1])["answers"]["cost_usd"] == "0.04"


def test_a_ledger_without_such_decisions_cost_nothing(write: Write) -> None:
    write("loans", WHOLE)
    code, shown = nbkit("loans", "--since", "2026-11-24")
    assert code == 0
    assert shown.startswith("loans: 0 answers cost 0 USD\n")
    assert "USD each" not in shown


def test_a_record_that_cannot_be_counted_is_named_and_ends_with_1(write: Write) -> None:
    write("loans", WHOLE, WHOLE | {"cost_usd": "two cents"})
    code, shown = nbkit("loans")
    assert code == 1
    assert shown.startswith("loans: 1 answers cost 0.02 USD; 1 problem(s), what they name is not counted\n")
    assert "record 2: loans-2: cost_usd: expected an amount from 0 to 10**12, got 'two cents'" in shown
    assert "Next: nbkit audit verify" in shown


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-13-01", "2026-11-01T09:30", "2026-11-01 09", "1700000000", "0001-01-01T00:00+23:00",
     "9999-12-31T23:00-10:00", "2026-11-01T09:30 Europe/Berlin"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"^--since: expected a day or a time with its zone, got '.*--since 2026-11-01T"
    ):
        moment_of(text, option="--since")


def test_no_moment_is_none() -> None:
    assert moment_of("", option="--since") is None


def test_a_time_that_ends_before_it_begins_is_refused(write: Write, settings: Settings) -> None:
    write("loans", WHOLE)
    with pytest.raises(UsageError, match=r"--until: expected later than 2026-11-23T12:00:00\+00:00, got 2026"):
        audit_costs("loans", settings=settings, since=NOON, until=NOON)


def test_where_there_is_no_ledger_it_says_so(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"no ledger under .*nbkit serve NAME"):
        audit_costs("", settings=settings)
    with pytest.raises(UsageError, match=r"ledger 'none\.db': no such file"):
        audit_costs("loans", settings=settings, ledger="none.db")
