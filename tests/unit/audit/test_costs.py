from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from nbkit.audit import CostReport, Ledger, Place, _costs, sum_costs, total_cost
from nbkit.audit._entry import leaf_of
from nbkit.errors import AuditError, LedgerTamperedError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden" / "ledger-1.db"

MakeRecord = Callable[..., AuditRecord]
Tamper = Callable[..., None]
Write = Callable[..., None]

CANARY = {"version": 4, "stage": "canary"}
SHADOW = {"version": 5, "stage": "shadow", "kind": "shadow"}


@pytest.fixture
def write(key: Ed25519PrivateKey, make_record: MakeRecord) -> Write:
    def write(place: Place, *changes: dict[str, object]) -> None:
        with Ledger.open(place, key=key, now=lambda: NOON) as ledger:
            for number, change in enumerate(changes, start=1):
                ledger.submit(make_record(number, **change)).result(5)

    return write


def told(report: CostReport) -> list[tuple[object, ...]]:
    return [(x.version, x.stage, x.kind, x.route, x.fallback, x.decisions, str(x.cost_usd)) for x in report.lines]


def test_costs_are_summed_by_version_stage_kind_route_and_fallback(place: Place, write: Write) -> None:
    write(
        place,
        {"cost_usd": "0.1"},
        {"cost_usd": "0.1"},
        {"cost_usd": "0.1"},  # three times 0.1 is not 0.3 where floats are added
        {"route": "rules:overcommitted"},
        {"route": "rules:on-a-list", "cost_usd": "0.1"},
        {"fallback": "default", "fallback_cause": "deadline"},
        CANARY | {"cost_usd": "0.25"},
        SHADOW | {"cost_usd": "0.0000001"},
        {"kind": "shadow", "cost_usd": "0.1"},  # the champion, asked about a canary's row
        {"model": "cards", "version": 1, "cost_usd": "2"},
    )
    report = sum_costs([place])
    assert told(report) == [
        (1, "production", "decision", "model", "", 1, "2"),
        (3, "production", "decision", "model", "", 3, "0.3"),
        (3, "production", "decision", "model", "default", 1, "0"),
        (3, "production", "decision", "rules", "", 2, "0.1"),
        (3, "production", "shadow", "model", "", 1, "0.1"),
        (4, "canary", "decision", "model", "", 1, "0.25"),
        (5, "shadow", "shadow", "model", "", 1, "1E-7"),
    ]
    assert [line.model for line in report.lines] == ["cards", *["loan-denial"] * 6]
    assert (report.decisions, report.cost_usd, report.problems) == (10, Decimal("2.7500001"), ())
    assert sum_costs([place], model="cards").cost_usd == 2


def test_the_first_moment_counts_and_the_last_does_not(place: Place, write: Write) -> None:
    hour = timedelta(hours=1)
    write(place, *({"received_at": NOON + n * hour, "cost_usd": str(10**n)} for n in range(4)))
    assert sum_costs([place], since=NOON + hour, until=NOON + 3 * hour).cost_usd == 110
    assert sum_costs([place], since=NOON + 3 * hour).cost_usd == 1000
    assert sum_costs([place], until=NOON) == CostReport(lines=(), problems=())


def test_several_ledgers_are_one_sum(tmp_path: Path, write: Write) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    write(one, {"cost_usd": "1"})
    write(other, {"cost_usd": "2"}, CANARY)
    assert told(sum_costs([one, other])) == [
        (3, "production", "decision", "model", "", 2, "3"),
        (4, "canary", "decision", "model", "", 1, "0"),
    ]


def test_a_ledger_without_records_and_none_at_all_cost_nothing(ledger: Ledger, path: Path) -> None:
    assert sum_costs([path]) == sum_costs([]) == CostReport(lines=(), problems=())
    assert sum_costs([path]).cost_usd == 0


@pytest.mark.parametrize(
    "cost",
    ["", "free", "NaN", "Infinity", "-1", "-0", " 1", "1_0", "\u0661", "1E+13", "1E-31", "0E+99", "1E+999999999999",
     "1" * 14, "9" * 65, "0." + "1" * 31],
)  # fmt: skip
def test_a_record_whose_cost_is_no_amount_is_named_and_not_counted(place: Place, write: Write, cost: str) -> None:
    write(place, {"cost_usd": "1"}, {"cost_usd": cost}, {"cost_usd": "1E-30"})
    report = sum_costs([place])
    assert report.cost_usd == Decimal("1.000000000000000000000000000001")
    (problem,) = report.problems
    assert f": record 2: d-2: cost_usd: expected an amount from 0 to 10**12, got '{cost[:64]}'" in problem


def test_a_broken_cost_outside_of_what_is_asked_for_is_none_of_its_business(path: Path, write: Write) -> None:
    write(path, {"cost_usd": "free"}, {"cost_usd": "free", "model": "cards", "received_at": NOON + timedelta(days=1)})
    assert len(sum_costs([path]).problems) == 2
    assert len(sum_costs([path], model="cards").problems) == 1
    assert sum_costs([path], model="cards", until=NOON).problems == ()


def test_an_edited_record_is_named_and_not_counted(ten: Path, tamper: Tamper) -> None:
    tamper(ten, "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB) WHERE seq = 4")
    report = sum_costs([ten])
    assert (report.decisions, report.problems) == (9, (f"{ten}: record 4: edited",))


@pytest.mark.parametrize("body", [b"\xff", b"{}", b'{"received_at": "2026-11-23T12:00:00"}', b'{"version": "x"}'])
def test_bytes_that_are_no_record_are_named(ten: Path, tamper: Tamper, body: bytes) -> None:
    tamper(ten, ("UPDATE records SET body = ?, leaf = ? WHERE seq = 4", (body, leaf_of(4, body))))
    report = sum_costs([ten])
    assert report.decisions == 9
    assert report.problems[0].startswith(f"{ten}: record 4: not an audit record: ")


def test_a_record_before_the_first_is_named(ten: Path, tamper: Tamper) -> None:
    tamper(ten, "UPDATE records SET seq = -4 WHERE seq = 4")
    assert sum_costs([ten]).problems == (f"{ten}: record -4: edited",)


def test_a_time_without_a_zone_is_no_record(ten: Path, tamper: Tamper) -> None:
    tamper(ten, "UPDATE records SET body = CAST(replace(body, '12:00:00Z', '12:00:00') AS BLOB) WHERE seq = 4")
    with closing(sqlite3.connect(ten)) as connection:
        body = connection.execute("SELECT body FROM records WHERE seq = 4").fetchone()[0]
    assert b"12:00:00Z" not in body
    tamper(ten, ("UPDATE records SET leaf = ? WHERE seq = 4", (leaf_of(4, body),)))
    (problem,) = sum_costs([ten]).problems
    assert "record 4: not an audit record" in problem


def test_a_ledger_that_was_rewritten_as_a_whole_does_not_name_every_row(
    ten: Path, tamper: Tamper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_costs, "_MOST_PROBLEMS", 3)
    tamper(ten, "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB)")
    assert sum_costs([ten]).problems[2:] == (f"{ten}: record 3: edited", "and 7 more")


def test_tables_that_were_changed_are_refused(ten: Path, tamper: Tamper) -> None:
    tamper(ten, "ALTER TABLE records RENAME TO others", "CREATE TABLE records (seq, leaf, body)", put_back=False)
    with pytest.raises(LedgerTamperedError, match=r"not the tables of a ledger.*table records: changed"):
        sum_costs([ten])


def test_where_there_is_no_ledger_it_says_so(tmp_path: Path, schema: str) -> None:
    with pytest.raises(AuditError, match="expected a ledger, got no such file"):
        sum_costs([tmp_path / "none.db"])
    with pytest.raises(AuditError, match="expected a ledger, got none"):
        sum_costs([schema])


def test_it_says_how_far_it_is(path: Path, ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_costs, "_ROWS_A_STEP", 5)
    heard: list[tuple[float, str]] = []
    sum_costs([ten, ten], progress=lambda fraction, message: heard.append((fraction, message)))
    assert heard == [(0.25, "5 records"), (0.5, "10 records"), (0.75, "15 records"), (1.0, "20 records")]


def test_a_file_of_the_first_format_is_summed() -> None:
    report = sum_costs([GOLDEN])
    assert report.decisions > 0
    assert report.problems == ()


@given(st.lists(st.decimals(min_value=0, max_value=10**12, places=6), max_size=30))
def test_a_sum_is_that_of_whole_numbers(amounts: list[Decimal]) -> None:
    counts: dict[str, int] = {}
    for amount in amounts:
        counts[str(amount)] = counts.get(str(amount), 0) + 1
    assert total_cost(counts) * 10**6 == sum(int(amount * 10**6) for amount in amounts)
