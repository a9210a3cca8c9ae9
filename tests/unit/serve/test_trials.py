from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbkit import lifecycle
from nbkit.audit import Ledger, read_records, sum_costs, trial_summary
from nbkit.audit._entry import record_of
from nbkit.contract import RowCheck
from nbkit.errors import RationaleError
from nbkit.frames import Frames, framed
from nbkit.package import Package
from nbkit.records import AuditRecord
from nbkit.serve import Judge, PackageStore, shadow_decision
from nbkit.serve._active import Active, load_active
from nbkit.serve._answer import Answer
from nbkit.serve._batch import Batcher
from nbkit.serve._notes import figures_of, note_ticket
from nbkit.serve._service import Service
from nbkit.serve._shadow import shadow_decisions
from nbkit.serve._shadow_process import Batch, TrialJudge
from nbkit.serve._shadows import Shadows
from nbkit.serve._trials import Trials
from nbkit.serve._turn import Caller
from nbkit.settings import Settings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SUBJECTS = [f"customer {number}" for number in range(60)]
TESTER = Caller(name="tester", scopes=frozenset({"decide", "override"}))
MakeActive = Callable[..., Active]


@pytest.fixture
def make_active(tmp_path: Path, people: Any) -> MakeActive:
    def make(package: Package, *, stage: str = "production", share: float = 0.0) -> Active:
        store = PackageStore(tmp_path / "store")
        people.install(package, store=store, version=1 if stage == "production" else 2, stage=stage, share=share)
        installed = store.current("loans", stage=stage)
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
def busy() -> list[bool]:
    return [False]


@pytest.fixture
def service(ledger: Ledger, make_active: MakeActive, package: Package) -> Service:
    numbers = iter(range(10_000))
    made = Service(name="loans", ledger=ledger, now=lambda: NOW, new_id=lambda: f"id{next(numbers)}")
    made.active = make_active(package)
    made.markers = (note_ticket,)
    return made


class Beside(asyncio.WriteTransport):
    """Judges at once what another process is sent."""

    def __init__(self, shadows: Shadows, judge: TrialJudge, ledger: Ledger) -> None:
        super().__init__()
        self._shadows = shadows
        self._judge = judge
        self._ledger = ledger
        self.batches: list[Batch] = []

    def write(self, data: Any) -> None:
        for frame in Frames().feed(data):
            batch = msgspec.msgpack.decode(frame, type=Batch)
            self.batches.append(batch)
            # As it comes from another process: later, when it was noted that it was asked.
            entries, judged = self._judge.judge(batch)
            for entry in entries:
                self._ledger.submit(record_of(entry.body, place="shadow"))
            asyncio.get_running_loop().call_soon(self._shadows.data_received, framed(judged))

    def abort(self) -> None:
        pass


@pytest.fixture
def shadows(service: Service, ledger: Ledger, tmp_path: Path) -> Shadows:
    """They are judged here; `test_shadows.py` has the process."""

    def start() -> socket.socket:
        raise AssertionError("a process was not expected")

    made = Shadows("loans", start=start, metrics=service.metrics)
    store = PackageStore(tmp_path / "store")
    judge = TrialJudge(store.package, now=lambda: NOW, new_id=service.new_id)
    made.connection_made(Beside(made, judge, ledger))
    return made


@pytest.fixture
def trials(service: Service, shadows: Shadows, busy: list[bool]) -> Iterator[Trials]:
    made = Trials(
        "loans", shadows=shadows, secret=b"secret", metrics=service.metrics, busy=lambda: busy[0]
    )  # fmt: skip
    service.router = made.route
    service.followers = (figures_of(service.metrics), made.follow)
    yield made
    made.close()


def ask(service: Service, inputs: object, *, caller: Caller = TESTER, **others: object) -> Answer:
    """Decide on a loop of its own, which ends when nothing waits for a shadow."""

    async def run() -> Answer:
        answer = await service.decide(json.dumps({"inputs": inputs, **others}).encode(), caller=caller)
        while any(isinstance(trials, Trials) and trials._shadows.waiting for trials in followed):
            await asyncio.sleep(0.002)
        return answer

    followed = [getattr(follow, "__self__", None) for follow in service.followers]
    return asyncio.run(run())


def versions(service: Service, lender: Any) -> dict[str, object]:
    anyone = Caller(scopes=frozenset({"decide"}))
    return {s: ask(service, lender.GOOD, subject=s, caller=anyone).body["model_version"] for s in SUBJECTS}


def records(path: Path) -> list[AuditRecord]:
    return list(reversed(read_records(path, limit=10_000)))


def test_a_subject_stays_with_its_version_when_the_share_grows(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path
) -> None:
    trials.serve_canary(make_active(trial, stage="canary", share=0.2))
    before = versions(service, lender)
    assert set(before.values()) == {1, 2}
    assert versions(service, lender) == before
    trials.serve_canary(make_active(trial, stage="canary", share=0.6))
    after = versions(service, lender)
    assert [s for s in SUBJECTS if before[s] == 2 and after[s] != 2] == []
    assert sum(v == 2 for v in after.values()) > sum(v == 2 for v in before.values())
    stages = {(record.version, record.stage) for record in records(path)}
    assert stages == {(1, "production"), (2, "canary")}
    reasons = {record.tags.get("routed_by", "") for record in records(path) if record.version == 2}
    assert reasons == {"share:0.2", "share:0.6"}


def test_without_a_subject_or_an_id_the_champion_answers(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any
) -> None:
    trials.serve_canary(make_active(trial, stage="canary", share=1.0))
    assert ask(service, lender.GOOD).body["model_version"] == 1
    assert ask(service, lender.GOOD, request_id="r1").body["model_version"] == 2
    trials.serve_canary(None)
    assert ask(service, lender.GOOD, request_id="r2").body["model_version"] == 1


def test_a_tester_names_the_stage_and_others_cannot(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path
) -> None:
    trials.serve_canary(make_active(trial, stage="canary", share=0.01))
    for scopes, wants, version in (
        ({"decide", "override"}, "canary", 2),
        ({"decide", "override"}, "production", 1),
        ({"decide"}, "canary", 1),
    ):
        caller = Caller(name="tester", scopes=frozenset(scopes), wants=wants)
        assert ask(service, lender.GOOD, caller=caller).body["model_version"] == version
    answered = [record for record in records(path) if record.kind == "decision"]
    assert [record.tags.get("routed_by") for record in answered] == ["override:tester"] * 2 + [None]


def test_a_canary_that_takes_other_inputs_is_not_tried(
    service: Service, trials: Trials, make_active: MakeActive, lender: Any, tmp_path: Path
) -> None:
    inputs = [
        {"name": "income", "type": "number", "minimum": 0, "maximum": 500, "nullable": True},
        {"name": "ratio", "type": "number", "minimum": 0, "maximum": 1},
        {"name": "purpose", "type": "category", "categories": lender.PURPOSES},
    ]
    other = lender.make_package(tmp_path / "other", contract=lender.trial_contract(inputs=inputs))
    trials.serve_canary(make_active(other, stage="canary", share=1.0))
    assert ask(service, lender.GOOD, request_id="r").body["model_version"] == 1
    # Nor for a tester: his row, too, is one of the champion's.
    caller = Caller(name="tester", scopes=TESTER.scopes, wants="canary")
    assert ask(service, lender.GOOD, caller=caller).body["model_version"] == 1
    assert 'nbkit_canary_skipped_total{cause="inputs"} 2' in service.metrics.render(version=1)


def shadows_of(path: Path, trials: Trials, *, count: int) -> list[AuditRecord]:
    """The shadow's records, once all are there."""
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [record for record in records(path) if record.kind == "shadow"]
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{count} shadows were expected")


def test_a_shadow_follows_and_never_answers(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path
) -> None:
    trials.serve_shadow(make_active(trial, stage="shadow"))
    answers = [ask(service, row, request_id=f"r{n}") for n, row in enumerate((lender.GOOD, lender.BAD))]
    assert [answer.body["model_version"] for answer in answers] == [1, 1]
    shadows = shadows_of(path, trials, count=2)
    for shadow, answer in zip(shadows, answers, strict=True):
        assert (shadow.version, shadow.stage, shadow.inputs) == (2, "shadow", {})
        assert shadow.tags["shadow_of"] == answer.body["decision_id"]
        assert shadow.tags["champion_decision"] == answer.body["decision"]
    facts = trial_summary([path], model="loans", version=2, stage="shadow", since=NOW)
    assert (facts["decisions"], facts["error_share"], facts["champion_decline_share"]) == (2, 0.0, 0.5)
    # The same request again is not shadowed again.
    ask(service, lender.GOOD, request_id="r0")
    assert len(records(path)) == 4


def test_a_shadow_that_is_not_compiled_follows_as_well(
    service: Service,
    trials: Trials,
    make_active: MakeActive,
    lender: Any,
    tmp_path: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nbkit.serve._shadows._GATHER_WITHOUT_PLAN_SECONDS", 0.01)
    slow = lender.make_package(tmp_path / "slow", compiled=False, contract=lender.trial_contract())
    shadow = make_active(slow, stage="shadow")
    assert shadow.batcher is not None
    trials.serve_shadow(shadow)
    answers = [ask(service, row, request_id=f"r{n}") for n, row in enumerate([lender.GOOD, lender.BAD] * 3)]
    shadows = shadows_of(path, trials, count=6)
    assert {one.tags["shadow_of"] for one in shadows} == {answer.body["decision_id"] for answer in answers}
    assert {(one.version, one.stage, one.fallback_cause) for one in shadows} == {(2, "shadow", "")}


def test_the_champion_is_asked_afterwards_about_what_a_canary_answered(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path
) -> None:
    trials.serve_canary(make_active(trial, stage="canary", share=1.0))
    answers = [ask(service, row, subject="ana", request_id=f"r{n}") for n, row in enumerate((lender.GOOD, lender.BAD))]
    assert [answer.body["model_version"] for answer in answers] == [2, 2]
    asked = shadows_of(path, trials, count=2)
    for one, answer in zip(asked, answers, strict=True):
        assert (one.version, one.stage, one.kind, one.inputs) == (1, "production", "shadow", {})
        assert one.tags["shadow_of"] == answer.body["decision_id"]
        assert (one.tags["canary_decision"], one.tags["canary_version"]) == (answer.body["decision"], "2")
    facts = trial_summary([path], model="loans", version=2, stage="canary", since=NOW)
    differ = sum(one.decision != one.tags["canary_decision"] for one in asked)
    assert (facts["decisions"], facts["disagreement_share"]) == (2, differ / 2)
    # The trial ends: nobody is asked any more.
    trials.serve_canary(None)
    assert ask(service, lender.GOOD, subject="ana", request_id="r9").body["model_version"] == 1
    assert len(records(path)) == 5


def test_a_shadow_that_fails_is_recorded_and_harms_nobody(
    service: Service,
    trials: Trials,
    trial: Package,
    make_active: MakeActive,
    lender: Any,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = make_active(trial, stage="shadow")

    score_rows = Package.score_rows

    def fail(self: Package, rows: Any) -> Any:
        if self.digest == shadow.package.digest:
            raise ValueError("income 90.0")
        return score_rows(self, rows)

    trials.serve_shadow(shadow)
    monkeypatch.setattr(Package, "score_rows", fail)
    assert ask(service, lender.BAD).status == 200
    (failed,) = shadows_of(path, trials, count=1)
    assert (failed.fallback_cause, failed.fallback, failed.decision) == ("error: ValueError", "default", "refer")
    facts = trial_summary([path], model="loans", version=2, stage="shadow", since=NOW)
    assert (facts["error_share"], facts["disagreement_share"]) == (1.0, 1.0)


def test_shadows_that_wait_together_are_decided_like_each_alone(trial: Package, lender: Any) -> None:
    judge = Judge.of(trial)
    rows = [
        RowCheck(trial.contract).check(row)
        for row in (lender.GOOD, lender.BAD, lender.BAD | {"ratio": 1.0}, lender.GOOD | {"income": 0.1})
    ]
    alone = [shadow_decision(trial, row, judge=judge) for row in rows]
    assert shadow_decisions(trial, rows, judge=judge) == alone
    # A row that the model cannot take fails alone.
    *others, failed = shadow_decisions(trial, [*rows, {}], judge=judge)
    assert others == alone
    assert isinstance(failed, Exception)


def test_shadows_are_shed_first(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path, busy: list[bool]
) -> None:
    trials.serve_shadow(make_active(trial, stage="shadow"))
    busy[0] = True
    assert ask(service, lender.GOOD).status == 200
    assert 'nbkit_shed_total{queue="shadows"} 1' in service.metrics.render(version=1)
    busy[0] = False
    trials.serve_shadow(None)
    assert ask(service, lender.GOOD).status == 200
    assert {record.kind for record in records(path)} == {"decision"}


def test_shadows_are_shed_when_answers_are_slow(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path
) -> None:
    trials.serve_shadow(make_active(trial, stage="shadow"))
    body = json.dumps({"inputs": lender.GOOD}).encode()
    assert service.active is not None
    arrived = time.perf_counter() - 0.3 * service.active.deadline_seconds
    assert asyncio.run(service.decide(body, arrived=arrived)).status == 200
    assert 'nbkit_shed_total{queue="shadows"} 1' in service.metrics.render(version=1)
    assert [record.kind for record in records(path)] == ["decision"]


def test_what_the_model_was_asked_costs_what_the_contract_says(
    service: Service, trials: Trials, make_active: MakeActive, lender: Any, tmp_path: Path, path: Path
) -> None:
    contract = lender.make_contract(budget={"per_decision_usd": "0.02", "price_usd": "0.015"})
    service.active = make_active(lender.make_package(tmp_path / "priced", contract=contract))
    ask(service, lender.GOOD)
    ask(service, lender.BAD | {"ratio": 1.0})  # a rule declines before the model is asked
    assert [(record.route, record.cost_usd) for record in records(path)] == [
        ("model", "0.015"),
        ("rules:overcommitted", "0"),
    ]


def fails(_columns: object) -> list[float]:
    raise ValueError("no score")


def test_metrics_say_exactly_what_was_spent(
    service: Service, trials: Trials, make_active: MakeActive, lender: Any, tmp_path: Path, path: Path
) -> None:
    price = "0.10000000000000000001"
    contract = lender.make_contract(budget={"per_decision_usd": "1", "price_usd": price})
    service.active = make_active(lender.make_package(tmp_path / "priced", contract=contract))
    dearer = lender.trial_contract(budget={"per_decision_usd": "1", "price_usd": "0.25"})
    trials.serve_shadow(make_active(lender.make_package(tmp_path / "dearer", contract=dearer), stage="shadow"))
    for _ in range(3):
        ask(service, lender.GOOD)
    ask(service, lender.BAD)  # another outcome, the same price
    ask(service, lender.BAD | {"ratio": 1.0})  # a rule declines before the model is asked
    shadows_of(path, trials, count=5)
    trials.serve_shadow(None)
    service.active = replace(service.active, batcher=Batcher(fails))
    assert ask(service, lender.BAD).body["fallback"] == "default"
    lines = [line for line in service.metrics.render(version=1).splitlines() if line.startswith("nbkit_cost_usd_total")]
    head = 'nbkit_cost_usd_total{model="loans",version='
    assert lines == [
        f'{head}"1",stage="production",kind="decision",route="fallback"}} 0',
        f'{head}"1",stage="production",kind="decision",route="model"}} 0.40000000000000000004',
        f'{head}"1",stage="production",kind="decision",route="rules"}} 0',
        f'{head}"2",stage="shadow",kind="shadow",route="model"}} 1.00',
        f'{head}"2",stage="shadow",kind="shadow",route="rules"}} 0',
    ]
    spent = sum((amount for _, amount in service.metrics.spending.amounts()), start=Decimal(0))
    assert sum_costs([path]).cost_usd == spent == Decimal("1.40000000000000000004")


def test_a_referral_names_its_ticket(service: Service, lender: Any, path: Path) -> None:
    answer = ask(service, lender.GOOD | {"income": 0.1})
    assert (answer.body["decision"], answer.body["ticket"]) == ("refer", f"t-{answer.body['decision_id']}")
    assert ask(service, lender.GOOD).body["ticket"] == ""
    (record, _) = records(path)
    assert record.tags["ticket_due"] == "2026-11-24T12:00:00+00:00"
    assert record.tags["ticket_otherwise"] == "decline"


def test_every_decision_is_timed_by_stage_route_and_outcome(service: Service, trials: Trials, lender: Any) -> None:
    ask(service, lender.GOOD)
    text = service.metrics.render(version=1)
    assert 'nbkit_route_seconds_count{stage="production",route="model",outcome="approve"} 1' in text
    assert "nbkit_audit_commit_seconds_count 1" in text


def test_a_shadow_is_replayed_bit_for_bit_and_gets_no_notice(
    service: Service, trials: Trials, trial: Package, make_active: MakeActive, lender: Any, path: Path, tmp_path: Path
) -> None:
    trials.serve_shadow(make_active(trial, stage="shadow"))
    ask(service, lender.BAD)
    (shadow,) = shadows_of(path, trials, count=1)
    copy = tmp_path / "store" / "ledger" / "loans.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    settings = Settings(tracking_uri="", artifact_root=tmp_path, home=tmp_path, store=tmp_path / "store")
    replayed = lifecycle.audit_replay(shadow.id, settings=settings)
    assert replayed.succeeded, str(replayed)
    assert (replayed.version, replayed.recorded_score) == (2, shadow.score)
    with pytest.raises(RationaleError, match="a shadow's record, which answered nobody"):
        lifecycle.notice(shadow.id, base=tmp_path, settings=settings)
