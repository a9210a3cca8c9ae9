"""What a worker does while something that it needs is gone, and that it goes on by itself when it is back."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nbkit.audit import Ledger, read_records, verify_ledger
from nbkit.package import Package
from nbkit.serve import PackageStore
from nbkit.serve._active import load_active
from nbkit.serve._service import Service


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def recorded(ledger: Any) -> set[str]:
    return {record.id for record in read_records(ledger, limit=100_000)}


@pytest.fixture
def patient(lender: Any, tmp_path: Path) -> Package:
    """A package whose contract lets records wait in a journal."""
    contract = lender.make_contract(audit={"when_unavailable": "journal"})
    made: Package = lender.make_package(tmp_path / "patient", contract=contract)
    return made


def test_a_database_that_stops_gives_503_and_is_used_again_when_it_is_back(
    lender: Any, killing: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    with killing.Postgresql() as server:
        with lender.Worker(store=tmp_path / "store", people=people, ledger=server.url) as worker:
            first = worker.decide(lender.GOOD, request_id="r1")
            assert first.status == 200
            server.stop()
            gone = worker.decide(lender.GOOD, request_id="r2")
            assert (gone.status, gone.headers["retry-after"]) == (503, "1")
            assert worker.get("/healthz").status == 200
            server.start()
            until(lambda: worker.decide(lender.GOOD, request_id="r2").status == 200)
            assert worker.decide(lender.GOOD, request_id="r1").body == first.body
            assert worker.stop() == 0
        report = verify_ledger(server.url, public_key=people.keys["ledger"].secret.public_key())
        assert (report.records, report.problems) == (2, ())


def test_a_database_that_stops_lets_records_wait_where_the_contract_says_so(
    lender: Any, killing: Any, people: Any, patient: Package, tmp_path: Path
) -> None:
    people.install(patient, store=PackageStore(tmp_path / "store"))
    with killing.Postgresql() as server:
        place = {"store": tmp_path / "store", "people": people, "ledger": server.url}
        with lender.Worker(**place) as worker:
            answers = [worker.decide(lender.GOOD).body["decision_id"]]
            server.stop()
            for _ in range(5):
                reply = worker.decide(lender.GOOD)
                assert reply.status == 200, reply
                answers.append(reply.body["decision_id"])
            worker.kill()  # what waits in its journal is taken up by the next
        server.start()
        with lender.Worker(**place) as worker:
            until(lambda: set(answers) <= recorded(server.url))
            assert worker.stop() == 0
        assert verify_ledger(server.url, public_key=people.keys["ledger"].secret.public_key()).problems == ()


@pytest.mark.parametrize("kind", ["fail_closed", "journal"])
def test_a_database_that_stands_still_holds_nobody_up_beyond_the_deadline(
    lender: Any, killing: Any, people: Any, tmp_path: Path, kind: str
) -> None:
    contract = lender.make_contract(serve={"deadline_ms": 1000}, audit={"when_unavailable": kind})
    people.install(lender.make_package(tmp_path / "package", contract=contract), store=PackageStore(tmp_path / "store"))
    with killing.Postgresql() as server:
        with lender.Worker(store=tmp_path / "store", people=people, ledger=server.url) as worker:
            until(lambda: worker.decide(lender.GOOD, request_id="r1").status == 200)
            first = worker.decide(lender.GOOD, request_id="r1")  # found in the ledger, by a connection of its own
            with server.held_up():
                # Whoever asks, also for what was decided before, hears something; the sockets' own limit is 20 s.
                late = worker.decide(lender.GOOD, request_id="r2")
                assert (late.status, late.headers["retry-after"]) == (503, "1")
                asked = worker.get("/v1/models/loans/decisions?request_id=r1")
                assert (asked.status, asked.body["error"]["code"]) == (503, "try_again")
                assert worker.get("/v1/decisions/d1/explanation").status == 503
                assert worker.get("/healthz").status == 200
                if kind == "journal":
                    until(lambda: worker.decide(lender.GOOD, request_id="r3").status == 200)
                    # Looking for the database again and again holds up nobody who is recorded in the journal.
                    answers = [worker.decide(lender.GOOD, request_id=f"j{number}") for number in range(60)]
                    assert {answer.status for answer in answers} == {200}
                    time.sleep(3)
                    assert worker.decide(lender.GOOD, request_id="r4").status == 200
                    assert worker.decide(lender.GOOD, request_id="r3").status == 200
                else:
                    assert worker.decide(lender.GOOD).status == 503
            until(lambda: worker.decide(lender.GOOD, request_id="r2").status == 200)
            until(lambda: worker.decide(lender.GOOD, request_id="r1").body == first.body)
            assert worker.stop() == 0
        found = {record.request_id for record in read_records(server.url, limit=1000)}
        assert {"r1", "r2", *(["r3", "r4", "j0", "j59"] if kind == "journal" else [])} <= found
        assert verify_ledger(server.url, public_key=people.keys["ledger"].secret.public_key()).problems == ()


def test_what_was_decided_is_asked_for_in_vain_while_the_database_is_gone(
    lender: Any, killing: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    with (
        killing.Postgresql() as server,
        lender.Worker(store=tmp_path / "store", people=people, ledger=server.url) as worker,
    ):
        answer = worker.decide(lender.GOOD, request_id="r1").body
        asked = ("/v1/models/loans/decisions?request_id=r1", f"/v1/decisions/{answer['decision_id']}/explanation")
        assert [worker.get(path).status for path in asked] == [200, 200]
        server.stop()
        for path in asked:
            reply = worker.get(path)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        server.start()
        until(lambda: all(worker.get(path).status == 200 for path in asked))
        assert worker.get("/v1/models/loans/decisions?request_id=%00").status == 400
        assert worker.get("/v1/decisions/%00/explanation").status == 400
        assert worker.stop() == 0


def writer_of(worker: int) -> int:
    """The process that writes a worker's ledger."""
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text(encoding="ascii").split()
    (child,) = (one for one in children if Path(f"/proc/{one}/comm").read_text(encoding="ascii") == "nbkit-ledger\n")
    return int(child)


@pytest.mark.parametrize("kind", ["fail_closed", "journal"])
def test_a_full_disk_gives_503_or_a_journal_and_ends_by_itself(
    lender: Any, people: Any, package: Package, patient: Package, tmp_path: Path, kind: str
) -> None:
    people.install(patient if kind == "journal" else package, store=PackageStore(tmp_path / "store"))
    ledger = tmp_path / "ledger.db"
    with lender.Worker(store=tmp_path / "store", people=people, ledger=ledger) as worker:
        answers = [worker.decide(lender.GOOD).body["decision_id"] for _ in range(20)]
        writer = writer_of(worker.process.pid)
        _, hard = resource.prlimit(writer, resource.RLIMIT_FSIZE)
        # No file of its writer may grow beyond this: the ledger's is larger already, a new journal is not.
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (64 * 1024, hard))
        replies = [worker.decide(lender.GOOD) for _ in range(30)]
        answers += [reply.body["decision_id"] for reply in replies if reply.status == 200]
        assert {reply.status for reply in replies[-3:]} == ({200} if kind == "journal" else {503})
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (hard, hard))
        until(lambda: worker.decide(lender.GOOD).status == 200)
        until(lambda: set(answers) <= recorded(ledger))
        assert worker.stop() == 0
    assert verify_ledger(ledger, public_key=people.keys["ledger"].secret.public_key()).problems == ()


def test_files_of_the_store_that_rot_change_nothing_until_a_restart_and_are_refused_then(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    store = PackageStore(tmp_path / "store")
    people.install(package, store=store)
    place = {"store": store.root, "people": people, "ledger": tmp_path / "ledger.db"}
    with lender.Worker(**place) as worker:
        plan = next((store.root / "packages").rglob("plan.json"))
        plan.write_bytes(plan.read_bytes().replace(b"0", b"1", 1))
        assert worker.decide(lender.GOOD).status == 200
        assert worker.stop() == 0
    with lender.Worker(**place) as worker:
        refused = [line["reason"] for line in worker.lines if line["event"] == "version refused"]
        assert "plan.json: edited" in refused[0]
        assert worker.get("/readyz").status == 503
        assert worker.decide(lender.GOOD).status == 503
        # The sync process puts verified files in their place, and the worker takes them up.
        people.install(package, store=store)
        until(lambda: worker.get("/readyz").status == 200)
        assert worker.decide(lender.GOOD).status == 200
        assert worker.stop() == 0


def test_a_clock_that_jumps_back_shortens_no_deadline_and_leaves_the_tree_whole(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    store = PackageStore(tmp_path / "store")
    people.install(package, store=store)
    installed = store.current("loans")
    assert installed is not None
    times = [datetime.now(UTC)]
    numbers = iter(range(100))
    key = people.keys["ledger"].secret
    with Ledger.open(tmp_path / "ledger.db", key=key, now=lambda: times[0]) as ledger:
        service = Service(name="loans", ledger=ledger, now=lambda: times[0], new_id=lambda: f"d{next(numbers)}")
        service.active = load_active(
            "loans", installed=installed, store=store, trust=people.trust, now=times[0], minimum_epoch=0
        )
        for jump in (timedelta(0), timedelta(hours=-3), timedelta(days=400), timedelta(days=-900)):
            times[0] += jump
            body = b'{"inputs": {"income": 90.0, "ratio": 0.05, "purpose": "home"}}'
            assert asyncio.run(service.decide(body)).status == 200
    report = verify_ledger(tmp_path / "ledger.db", public_key=key.public_key())
    assert (report.records, report.problems) == (4, ())
