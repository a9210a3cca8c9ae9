from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbkit.audit import Ledger, read_records
from nbkit.errors import AuditError
from nbkit.package import Package
from nbkit.serve import PackageStore
from nbkit.serve._active import Active, load_active
from nbkit.serve._answer import Answer
from nbkit.serve._batch import Batcher
from nbkit.serve._service import Service

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MakeActive = Callable[..., Active]


@pytest.fixture
def make_active(tmp_path: Path, people: Any) -> MakeActive:
    def make(package: Package) -> Active:
        store = PackageStore(tmp_path / "store")
        people.install(package, store=store)
        installed = store.current("loans")
        assert installed is not None
        now = datetime.now(UTC)
        return load_active("loans", installed=installed, store=store, trust=people.trust, now=now, minimum_epoch=0)

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, people: Any) -> Iterator[Ledger]:
    with Ledger.open(path, key=people.keys["ledger"].secret, now=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def service(ledger: Ledger, make_active: MakeActive, package: Package) -> Service:
    numbers = iter(range(1000))
    made = Service(name="loans", ledger=ledger, now=lambda: NOW, new_id=lambda: f"id{next(numbers)}")
    made.active = make_active(package)
    return made


def body(inputs: object, **others: object) -> bytes:
    return json.dumps({"inputs": inputs, **others}).encode()


def ask(service: Service, inputs: object, **others: object) -> Answer:
    return asyncio.run(service.decide(body(inputs, **others)))


def test_an_answer_is_in_the_ledger_with_all_that_it_rests_on(
    service: Service, lender: Any, path: Path, package: Package
) -> None:
    answer = ask(service, lender.BAD, request_id="r1", subject="Jo Doe")
    assert answer.status == 200
    (record,) = read_records(path)
    assert answer.body == {
        "decision_id": record.id,
        "request_id": "r1",
        "model": "loans",
        "model_version": 1,
        "decision": "decline",
        "score": record.score,
        "reasons": [
            {"code": "R02", "text": "Excessive obligations in relation to income"},
            {"code": "R01", "text": "Income insufficient for the amount"},
        ],
        "reasons_missing": "",
        "route": "model",
        "fallback": "",
        "fallback_cause": "",
        "ticket": "",
    }
    assert service.active is not None
    assert record.inputs == lender.BAD
    assert record.score == package.score(lender.BAD)
    assert record.reasons == ("R02", "R01")
    assert (record.received_at, record.decided_at) == (NOW, NOW)
    assert (record.package_digest, record.contract_digest) == (package.digest, package.contract.digest)
    assert record.evidence_digest == service.active.envelope.digest
    assert record.subject.startswith("blake2b:")
    assert record.latency_us > 0


def test_a_record_may_be_kept_without_the_inputs(
    service: Service, lender: Any, path: Path, make_active: MakeActive, tmp_path: Path
) -> None:
    contract = lender.make_contract(audit={"payload": "none"})
    service.active = make_active(lender.make_package(tmp_path / "private", contract=contract))
    first = ask(service, lender.BAD, request_id="r1")
    assert read_records(path)[0].inputs == {}
    assert ask(service, lender.BAD, request_id="r1").body == first.body
    assert ask(service, lender.GOOD, request_id="r1").status == 409


@pytest.mark.parametrize("payload", ["full", "none"])
def test_a_decision_without_an_id_of_the_callers_can_be_repeated_under_its_own(
    service: Service, lender: Any, path: Path, make_active: MakeActive, tmp_path: Path, payload: str
) -> None:
    contract = lender.make_contract(audit={"payload": payload})
    service.active = make_active(lender.make_package(tmp_path / "kept", contract=contract))
    first = ask(service, lender.BAD, subject="ana")
    own = first.body["request_id"]
    # A seal stands where the record alone would not tell two requests apart.
    assert ("inputs_seal" in read_records(path)[0].tags) == (payload == "none")
    assert ask(service, lender.BAD, subject="ana", request_id=own).body == first.body
    for inputs, others in ((lender.GOOD, {"subject": "ana"}), (lender.BAD, {"subject": "ben"}), (lender.BAD, {})):
        assert ask(service, inputs, request_id=own, **others).status == 409
    assert len(read_records(path)) == 1


def test_the_same_request_gets_the_same_answer_and_one_record(service: Service, lender: Any, path: Path) -> None:
    first, again = (ask(service, lender.BAD, request_id="r1") for _ in range(2))
    assert again == first
    assert len(read_records(path)) == 1


def test_the_same_id_for_another_request_is_a_conflict(service: Service, lender: Any) -> None:
    ask(service, lender.BAD, request_id="r1")
    for inputs, others in ((lender.GOOD, {}), (lender.BAD, {"subject": "someone"})):
        answer = ask(service, inputs, request_id="r1", **others)
        assert answer.status == 409
        assert answer.body["request_id"] == "r1"
        assert "request id 'r1': already stands for another request" in str(answer.body)


def test_requests_with_one_id_at_the_same_time_are_decided_once(service: Service, lender: Any, path: Path) -> None:
    async def several() -> list[Answer]:
        sent = [lender.BAD] * 5 + [lender.GOOD]
        return list(await asyncio.gather(*(service.decide(body(inputs, request_id="r1")) for inputs in sent)))

    *same, other = asyncio.run(several())
    assert {answer.status for answer in same} == {200}
    assert len({answer.body["decision_id"] for answer in same}) == 1
    assert other.status == 409
    assert len(read_records(path)) == 1


def test_one_that_is_refused_under_a_known_id_refuses_nobody_who_waits_behind_it(
    service: Service, lender: Any, path: Path
) -> None:
    async def several() -> list[Answer]:
        sent = [lender.BAD, lender.GOOD, lender.BAD, lender.GOOD]
        return list(await asyncio.gather(*(service.decide(body(inputs, request_id="r1")) for inputs in sent)))

    first = ask(service, lender.GOOD, request_id="r1")
    wrong, same, wrong_too, same_too = asyncio.run(several())
    assert (wrong.status, wrong_too.status) == (409, 409)
    assert same == same_too == first
    assert len(read_records(path)) == 1
    assert service.once._running == {}


def test_requests_without_an_id_get_one_each(service: Service, lender: Any, path: Path) -> None:
    first, second = (ask(service, lender.GOOD) for _ in range(2))
    assert first.body["request_id"] != second.body["request_id"]
    assert len(read_records(path)) == 2


def test_before_a_version_is_installed_the_caller_is_asked_to_come_again(service: Service, lender: Any) -> None:
    service.active = None
    answer = ask(service, lender.GOOD)
    assert (answer.status, answer.retry_after) == (503, 1)
    assert "no version that verifies is installed" in str(answer.body)


def hang(service: Service, *, deadline_ms: float) -> threading.Event:
    """Put a model behind the service that answers when the event is set."""
    go = threading.Event()

    def score(columns: Any) -> list[float]:
        go.wait(10)
        return [0.0] * len(columns["income"])

    assert service.active is not None
    service.active = replace(service.active, batcher=Batcher(score), deadline_seconds=deadline_ms / 1000)
    return go


def test_a_model_that_hangs_is_replaced_by_the_fallback_within_the_deadline(
    service: Service, lender: Any, path: Path
) -> None:
    go = hang(service, deadline_ms=500)
    begun = datetime.now(UTC)
    rules, default = (ask(service, inputs) for inputs in (lender.GOOD, lender.BAD))
    took = (datetime.now(UTC) - begun).total_seconds() / 2
    go.set()
    assert (rules.body["decision"], rules.body["fallback"]) == ("approve", "rules")
    assert (default.body["decision"], default.body["fallback"]) == ("refer", "default")
    assert default.body["fallback_cause"] == "deadline"
    assert default.body["score"] is None
    assert took < 0.5
    record = read_records(path)[0]
    assert (record.fallback, record.fallback_cause, record.route) == ("default", "deadline", "default")


def test_a_model_that_raises_is_replaced_by_the_fallback_and_no_input_is_logged(
    service: Service, lender: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def score(columns: Any) -> list[float]:
        raise ValueError(f"cannot score {columns}")

    assert service.active is not None
    service.active = replace(service.active, batcher=Batcher(score))
    answer = ask(service, lender.BAD | {"income": 123.456}, request_id="r1")
    assert answer.status == 200
    assert (answer.body["fallback"], answer.body["fallback_cause"]) == ("default", "error: ValueError")
    (record,) = (record for record in caplog.records if record.message == "the model failed")
    assert record.fields["request_id"] == "r1"  # type: ignore[attr-defined]
    assert "123.456" not in str([vars(entry) for entry in caplog.records])


def test_a_score_that_is_no_probability_is_replaced_by_the_fallback(service: Service, lender: Any) -> None:
    assert service.active is not None
    service.active = replace(service.active, batcher=Batcher(lambda columns: [float("nan")]))
    assert ask(service, lender.BAD).body["fallback_cause"] == "error: PackageError"


def test_an_overloaded_model_is_replaced_by_the_fallback(
    service: Service, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.serve._batch._MOST_WAITING", 0)
    hang(service, deadline_ms=5000).set()
    assert ask(service, lender.BAD).body["fallback_cause"] == "overloaded"


def test_a_chain_that_ends_in_retry_asks_the_caller_to_come_again(
    service: Service, lender: Any, path: Path, make_active: MakeActive, tmp_path: Path
) -> None:
    contract = lender.make_contract(serve={"deadline_ms": 100, "fallback": ["retry"]})
    service.active = make_active(lender.make_package(tmp_path / "retry", contract=contract))
    go = hang(service, deadline_ms=100)
    answer = ask(service, lender.BAD, request_id="r1")
    go.set()
    assert (answer.status, answer.retry_after) == (503, 1)
    assert "the model did not answer (deadline)" in str(answer.body)
    assert read_records(path) == ()


def test_an_uncompiled_model_is_scored_in_batches(
    service: Service, lender: Any, make_active: MakeActive, tmp_path: Path
) -> None:
    package = lender.make_package(tmp_path / "naive", compiled=False)
    service.active = make_active(package)
    assert service.active.batcher is not None
    answer = ask(service, lender.GOOD | {"income": None})
    assert answer.body["score"] == package.score(lender.GOOD | {"income": None})


def test_a_ledger_that_is_late_gives_no_answer_now_and_the_same_answer_later(
    service: Service, lender: Any, path: Path
) -> None:
    assert service.active is not None
    patient = service.active
    service.active = replace(patient, deadline_seconds=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = ask(service, lender.BAD, request_id="r1")
        assert (answer.status, answer.retry_after) == (503, 1)
        assert "its record missed the deadline; ask again with the same id" in str(answer.body)
        assert "decision_id" not in answer.body
        other.execute("ROLLBACK")
    service.active = patient
    later = ask(service, lender.BAD, request_id="r1")
    assert later.status == 200
    assert [record.id for record in read_records(path)] == [later.body["decision_id"]]


def test_a_ledger_that_fails_gives_no_answer(
    service: Service, lender: Any, ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.audit._schema.BUSY_SECONDS", 0.05)
    ledger._committer._book._disconnect()  # the next connection waits for a twentieth of a second only
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = ask(service, lender.BAD)
        other.execute("ROLLBACK")
    assert (answer.status, answer.retry_after) == (503, 1)
    assert "database is locked" in str(answer.body)
    assert read_records(path) == ()


def test_a_model_that_fails_again_and_again_is_left_alone(service: Service, lender: Any) -> None:
    asked = []

    def score(columns: Any) -> list[float]:
        asked.append(columns)
        raise ValueError

    assert service.active is not None
    service.active = replace(service.active, batcher=Batcher(score))
    causes = [ask(service, lender.BAD).body["fallback_cause"] for _ in range(7)]
    assert causes == ["error: ValueError"] * 5 + ["breaker open"] * 2
    assert len(asked) == 5


def test_whoever_waited_too_long_is_told_so_before_anything_is_done(service: Service, lender: Any, path: Path) -> None:
    begun = time.perf_counter() - 3
    answer = asyncio.run(service.decide(body(lender.GOOD), arrived=begun))
    assert (answer.status, answer.retry_after) == (503, 1)
    assert answer.body["error"]["code"] == "overloaded"  # type: ignore[index]
    assert read_records(path) == ()
    assert 'nbkit_shed_total{queue="requests"} 1' in service.metrics.render(version=1)


def test_a_ledger_that_takes_nothing_turns_callers_away_and_makes_the_worker_not_ready(
    service: Service, lender: Any, path: Path
) -> None:
    assert service.active is not None
    service.active = replace(service.active, deadline_seconds=0.2)

    async def waits_for(seconds: float) -> None:
        """Ask until a record has waited that long: one whose deadline passed on a busy machine is not in the queue."""
        while not service._recorder.queue_age > seconds:
            if not service._recorder.queue_age:
                await service.decide(body(lender.GOOD))
            await asyncio.sleep(0.01)

    async def stalled() -> tuple[Answer, str]:
        await waits_for(0.11)
        second = await service.decide(body(lender.GOOD))
        await waits_for(1.0)
        return second, service.not_ready()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        turned_away, problem = asyncio.run(stalled())
        other.execute("ROLLBACK")
    assert turned_away.body["error"]["code"] == "overloaded"  # type: ignore[index]
    assert problem == "the ledger does not answer"


def test_many_adverse_rows_at_once_leave_the_loop_to_others_between_their_reasons(
    service: Service, lender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.active is not None
    judge, turns, taken = service.active.judge, [0], []
    usual = judge.reasons

    def reasons(*given: Any) -> Any:
        taken.append(turns[0])
        return usual(*given)

    async def run() -> list[Answer]:
        async def count() -> None:
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        answers = await asyncio.gather(*(service.decide(body(lender.BAD)) for _ in range(30)))
        counting.cancel()
        return list(answers)

    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", math.inf)
    monkeypatch.setattr(judge, "reasons", reasons)
    for _ in range(2):
        taken.clear()
        assert all(answer.body["reasons"] for answer in asyncio.run(run()))
        assert len(taken) == len(set(taken)) == 30


def test_reasons_that_are_late_follow_and_are_the_same_as_in_time(
    service: Service, lender: Any, path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = ask(service, lender.BAD)
    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", 0.0)
    monkeypatch.setattr("nbkit.serve._explain._MOST_WAITING", 0)
    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", -1.0)
    late = ask(service, lender.BAD)
    assert (late.body["decision"], late.body["reasons"]) == ("decline", [])
    assert late.body["reasons_missing"] == "to follow"
    told = service.explanation(str(late.body["decision_id"]))
    assert told is not None
    assert told["state"] == "missing"  # nobody said where packages are
    loaded: list[str] = []
    service.load_package = lambda digest: loaded.append(digest) or package  # type: ignore[func-returns-value]
    # The version that is served now is laid out already; one of the past is loaded.
    for active, loads in ((service.active, []), (None, [package.digest])):
        service.active = active
        told = service.explanation(str(late.body["decision_id"]))
        assert told is not None
        assert (told["state"], told["reasons"]) == ("computed", in_time.body["reasons"])
        assert loaded == loads
    recorded = service.explanation(str(in_time.body["decision_id"]))
    assert recorded is not None
    assert (recorded["state"], recorded["reasons"]) == ("recorded", in_time.body["reasons"])
    assert service.explanation("never") is None


def test_reasons_whose_package_is_gone_are_missing(
    service: Service, lender: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nbkit.serve._explain._MOST_WAITING", 0)
    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", -1.0)
    answer = ask(service, lender.BAD)
    service.load_package = PackageStore(tmp_path / "empty").package
    service.active = None
    told = service.explanation(str(answer.body["decision_id"]))
    assert told is not None
    assert told["state"] == "missing"
    assert "PackageError" in str(told["reasons_missing"])


def test_without_the_inputs_late_reasons_are_missing_and_the_row_is_referred(
    service: Service, lender: Any, make_active: MakeActive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = lender.make_contract(audit={"payload": "none"})
    service.active = make_active(lender.make_package(tmp_path / "private", contract=contract))
    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", 0.0)
    monkeypatch.setattr("nbkit.serve._explain._MOST_WAITING", 0)
    monkeypatch.setattr("nbkit.serve._decide._AT_ONCE_SECONDS", -1.0)
    answer = ask(service, lender.BAD)
    assert answer.body["decision"] == "refer"
    assert answer.body["reasons_missing"] == "not ready in time; referred instead of declined"


def test_while_the_ledger_is_gone_the_contract_may_let_records_wait(
    lender: Any, people: Any, path: Path, make_active: MakeActive, tmp_path: Path
) -> None:
    contract = lender.make_contract(audit={"when_unavailable": "journal"})
    key = people.keys["ledger"].secret
    with Ledger.open(path, key=key, now=lambda: NOW, journal=tmp_path / "j") as ledger:
        service = Service(name="loans", ledger=ledger, now=lambda: NOW, new_id=lambda: "id1")
        service.active = make_active(lender.make_package(tmp_path / "patient", contract=contract))
        works = ledger._committer._book.append

        def broken(_: object) -> Any:
            raise AuditError("gone")

        ledger._committer._book.append = broken  # type: ignore[method-assign]
        answer = ask(service, lender.BAD, request_id="r1")
        assert answer.status == 200
        assert ask(service, lender.BAD, request_id="r1").body == answer.body
        ledger._committer._book.append = works  # type: ignore[method-assign]
    assert [record.id for record in read_records(path)] == [answer.body["decision_id"]]


def test_those_who_plug_in_see_each_decision_and_add_to_its_record(service: Service, lender: Any, path: Path) -> None:
    heard: list[str] = []
    service.markers = (lambda turn, judgement: {"ticket": f"t-{turn.decision_id}-{judgement.decision.decision}"},)
    service.followers = (lambda turn, record: heard.append(f"{turn.id} {record.decision}"),)
    answer = ask(service, lender.GOOD, request_id="r1")
    (record,) = read_records(path)
    assert record.tags["ticket"] == f"t-{answer.body['decision_id']}-approve"
    assert heard == ["r1 approve"]
