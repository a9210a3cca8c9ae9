from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Ledger, read_records, verify_ledger
from nbkit.audit._entry import leaf_of
from nbkit.errors import AuditError
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden" / "ledger-1.db"

MakeRecord = Callable[..., AuditRecord]
Tamper = Callable[..., None]


def problems(path: Path, key: Ed25519PrivateKey) -> tuple[str, ...]:
    return verify_ledger(path, public_key=key.public_key()).problems


def body_of(path: Path, seq: int) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        return bytes(connection.execute("SELECT body FROM records WHERE seq = ?", (seq,)).fetchone()[0])


def test_an_untouched_ledger_is_proved(ten: Path, key: Ed25519PrivateKey) -> None:
    report = verify_ledger(ten, public_key=key.public_key())
    assert (report.records, report.checkpoints, report.problems, report.ok) == (10, 10, (), True)
    assert report.last is not None
    assert report.last.size == 10


def test_an_empty_ledger_is_proved(ledger: Ledger, path: Path, key: Ed25519PrivateKey) -> None:
    report = verify_ledger(path, public_key=key.public_key())
    assert (report.records, report.last, report.ok) == (0, None, True)


def test_a_ledger_is_proved_while_it_is_written(
    ledger: Ledger, path: Path, key: Ed25519PrivateKey, make_record: MakeRecord
) -> None:
    futures = [ledger.submit(make_record(number)) for number in range(200)]
    futures[0].result(5)
    assert problems(path, key) == ()
    futures[-1].result(5)


def test_an_edited_row_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB) WHERE seq = 4")
    assert problems(ten, key) == ("record 4: edited",)


def test_a_row_edited_together_with_its_hash_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    forged = body_of(ten, 4).replace(b"refer", b"approve")
    tamper(ten, ("UPDATE records SET body = ?, leaf = ? WHERE seq = 4", (forged, leaf_of(4, forged))))
    assert problems(ten, key) == (
        "record 4: edited, inserted or reordered: not what the root signed at 4 says",
        "records after 4: only their own hashes could be checked, not the roots",
    )


def test_the_last_row_edited_together_with_its_hash_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    forged = body_of(ten, 10).replace(b"refer", b"approve")
    tamper(ten, ("UPDATE records SET body = ?, leaf = ? WHERE seq = 10", (forged, leaf_of(10, forged))))
    assert problems(ten, key) == ("record 10: edited, inserted or reordered: not what the root signed at 10 says",)


def test_a_row_whose_bytes_are_no_record_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    forged = b"[]"
    tamper(ten, ("UPDATE records SET body = ?, leaf = ? WHERE seq = 10", (forged, leaf_of(10, forged))))
    found = problems(ten, key)
    assert found[0].startswith("record 10: expected an audit record, got other bytes")


@pytest.mark.parametrize("column", ["id", "model", "request_id"])
def test_an_edited_column_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper, column: str) -> None:
    tamper(ten, f"UPDATE records SET {column} = 'forged' WHERE seq = 7")  # noqa: S608 - names from above
    (problem,) = problems(ten, key)
    assert problem.startswith(f"record 7: column {column} edited: expected ")
    assert problem.endswith("got 'forged'")


def test_a_deleted_row_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "DELETE FROM records WHERE seq IN (1, 5, 6)")
    found = problems(ten, key)
    assert found == (
        "record 1: deleted",
        "records 5..6: deleted",
        "records after 0: only their own hashes could be checked, not the roots",
    )


def test_a_row_edited_after_a_deleted_one_is_still_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(
        ten,
        "DELETE FROM records WHERE seq = 2",
        "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB) WHERE seq = 8",
    )
    assert {"record 2: deleted", "record 8: edited"} < set(problems(ten, key))


def test_rows_that_changed_places_are_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(
        ten,
        "UPDATE records SET seq = 99 WHERE seq = 3",
        "UPDATE records SET seq = 3 WHERE seq = 6",
        "UPDATE records SET seq = 6 WHERE seq = 99",
    )
    found = problems(ten, key)
    assert {"record 3: reordered: it was 6", "record 6: reordered: it was 3"} < set(found)


def test_bodies_that_changed_places_are_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    three, six = body_of(ten, 3), body_of(ten, 6)
    tamper(
        ten,
        ("UPDATE records SET body = ? WHERE seq = 3", (six,)),
        ("UPDATE records SET body = ? WHERE seq = 6", (three,)),
    )
    assert problems(ten, key) == ("record 3: reordered: it was 6", "record 6: reordered: it was 3")


def test_a_row_inserted_at_the_end_is_named(
    ten: Path, key: Ed25519PrivateKey, tamper: Tamper, make_record: MakeRecord
) -> None:
    body = body_of(ten, 10).replace(b"d-10", b"d-11").replace(b"r-10", b"r-11")
    forged = ("INSERT INTO records VALUES (11, 'd-11', 'loan-denial', 'r-11', ?, ?)", (leaf_of(11, body), body))
    tamper(ten, forged)
    assert problems(ten, key) == ("record 11: inserted: no signed checkpoint covers it",)


def test_a_row_inserted_in_the_middle_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    body = body_of(ten, 4).replace(b"d-4", b"d-x").replace(b"r-4", b"r-x")
    tamper(
        ten,
        "UPDATE records SET seq = seq + 100 WHERE seq >= 5",
        "UPDATE records SET seq = seq - 99 WHERE seq >= 100",
        ("INSERT INTO records VALUES (5, 'd-x', 'loan-denial', 'r-x', ?, ?)", (leaf_of(5, body), body)),
    )
    found = problems(ten, key)
    assert found[0] == "record 5: edited, inserted or reordered: not what the root signed at 5 says"
    assert "record 11: inserted: no signed checkpoint covers it" in found


def test_a_row_before_the_first_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "INSERT INTO records VALUES (0, 'd-0', 'loan-denial', 'r-0', x'00', x'00')")
    assert problems(ten, key) == ("record 0: inserted before the first",)


def test_a_tail_that_was_cut_off_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "DELETE FROM records WHERE seq > 7")
    assert problems(ten, key) == ("records 8..10: cut off: a signed checkpoint counts 10 records",)


def test_a_tail_cut_off_with_its_checkpoints_is_named_by_a_checkpoint_kept_elsewhere(
    ten: Path, key: Ed25519PrivateKey, tamper: Tamper
) -> None:
    kept = verify_ledger(ten, public_key=key.public_key()).last
    assert kept is not None
    with closing(sqlite3.connect(ten)) as connection:
        nodes = [connection.execute("SELECT nodes FROM frontier").fetchone()[0]]
    tamper(ten, "DELETE FROM records WHERE seq > 9", "DELETE FROM checkpoints WHERE size > 9")
    # The tree of ten is 8 + 2; that of nine is 8 and the ninth leaf.
    with closing(sqlite3.connect(ten)) as connection, connection:
        leaf = connection.execute("SELECT leaf FROM records WHERE seq = 9").fetchone()[0]
        connection.execute("UPDATE frontier SET size = 9, nodes = ?", (nodes[0][:32] + leaf,))
    assert problems(ten, key) == ()
    report = verify_ledger(ten, public_key=key.public_key(), known=[kept])
    assert report.problems == ("record 10: cut off: a signed checkpoint counts 10 records",)


def test_a_known_checkpoint_with_another_root_is_named(
    ten: Path, key: Ed25519PrivateKey, tmp_path: Path, make_record: MakeRecord
) -> None:
    kept = verify_ledger(ten, public_key=key.public_key()).last
    assert kept is not None
    forged = replace(kept, root="sha256:00", signature="")
    report = verify_ledger(ten, public_key=key.public_key(), known=[forged, replace(kept, signature="zz")])
    assert report.problems == ("known checkpoint 10: not signed by the ledger's key",) * 2
    foreign = replace(kept, ledger="another")
    foreign = replace(foreign, signature=key.sign(foreign.statement()).hex())
    report = verify_ledger(ten, public_key=key.public_key(), known=[foreign])
    assert report.problems == ("known checkpoint 10: of another ledger, another",)
    other = replace(kept, root="sha256:00")
    other = replace(other, signature=key.sign(other.statement()).hex())
    report = verify_ledger(ten, public_key=key.public_key(), known=[kept, other])
    assert report.problems == ("record 10: edited, inserted or reordered: not what the root signed at 10 says",)


def test_a_forged_checkpoint_is_named_and_proves_nothing(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "DELETE FROM records WHERE seq > 9", "UPDATE checkpoints SET size = 9 WHERE size = 10 AND 0")
    tamper(ten, "DELETE FROM checkpoints WHERE size = 10", "UPDATE checkpoints SET root = zeroblob(32) WHERE size = 9")
    assert problems(ten, key) == (
        "checkpoint 9: not signed by the ledger's key",
        "record 9: inserted: no signed checkpoint covers it",
    )


def test_another_key_proves_nothing(ten: Path) -> None:
    found = verify_ledger(ten, public_key=Ed25519PrivateKey.generate().public_key()).problems
    assert found[0].startswith("key: expected sha256:")
    assert found[-1] == "records 1..10: inserted: no signed checkpoint covers it"


def test_a_changed_frontier_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "UPDATE frontier SET nodes = zeroblob(64)")
    assert problems(ten, key) == ("frontier: not that of the records",)


def test_dropped_and_changed_guards_are_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(
        ten,
        "CREATE TRIGGER records_no_update BEFORE UPDATE ON records BEGIN SELECT 1; END",
        "CREATE TABLE notes (x)",
        put_back=False,
    )
    found = problems(ten, key)
    assert "trigger records_no_delete: missing" in found
    assert "trigger records_no_update: changed" in found
    assert "notes: not part of a ledger" in found


def test_a_missing_table_ends_the_proof(ten: Path, key: Ed25519PrivateKey) -> None:
    with closing(sqlite3.connect(ten)) as connection:
        connection.execute("DROP TABLE frontier")
    assert problems(ten, key) == ("table frontier: missing",)


def test_a_lost_identity_is_named(ten: Path, key: Ed25519PrivateKey, tamper: Tamper) -> None:
    tamper(ten, "DELETE FROM ledger")
    assert "expected one row in table 'ledger', got 0" in problems(ten, key)[0]


def test_a_rewritten_ledger_does_not_flood_the_report(
    path: Path, key: Ed25519PrivateKey, tamper: Tamper, make_record: MakeRecord
) -> None:
    with Ledger.open(path, key=key, now=lambda: NOON) as ledger:
        for future in [ledger.submit(make_record(number)) for number in range(600)]:
            future.result(10)
    tamper(path, "UPDATE records SET body = CAST(replace(body, 'refer', 'decline') AS BLOB)")
    found = problems(path, key)
    assert len(found) == 101
    assert found[-1] == "and 500 more"


def test_damage_below_the_tables_is_an_error_that_says_so(ten: Path, key: Ed25519PrivateKey) -> None:
    with closing(sqlite3.connect(ten)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page, start = (
            connection.execute("PRAGMA page_size").fetchone()[0],
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()[0],
        )
    content = bytearray(ten.read_bytes())
    content[(start - 1) * page : start * page] = b"\xff" * page
    ten.write_bytes(content)
    with pytest.raises(AuditError, match="cannot be read"):
        verify_ledger(ten, public_key=key.public_key())


def test_the_golden_ledger_of_format_1_still_reads_and_proves(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    copy = tmp_path / "ledger.db"
    copy.write_bytes(GOLDEN.read_bytes())
    report = verify_ledger(copy, public_key=key.public_key())
    assert (report.records, report.problems) == (2, ())
    assert [record.id for record in read_records(copy)] == ["d-2", "d-1"]
    assert read_records(copy)[1].inputs == {"amount": 101.5, "purpose": "home", "age": None}
    with Ledger.open(copy, key=key, now=lambda: NOON) as ledger:
        assert ledger.checkpoint is not None
        assert ledger.checkpoint.size == 2
