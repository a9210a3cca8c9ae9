from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from nbkit.package import Package
from nbkit.serve import PackageStore
from nbkit.serve._gate import BUSY, Gate
from nbkit.serve._metrics import Metrics


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


def make_gate(clock: Clock) -> Gate:
    return Gate(quick=0.05, metrics=Metrics(), clock=clock)


def crowd(gate: Gate, *, seconds: float) -> None:
    """Fill the gate and let everybody out again."""
    inside = 0
    while gate.lets_in():
        gate.enter()
        inside += 1
    for _ in range(inside):
        gate.leave(seconds)


def test_quick_answers_let_more_in_and_slow_ones_fewer() -> None:
    clock = Clock()
    gate = make_gate(clock)
    crowd(gate, seconds=0.01)
    grown = gate.limit
    assert 256 < grown < 257
    crowd(gate, seconds=0.2)
    assert gate.limit == grown * 0.8
    crowd(gate, seconds=0.2)  # at the same moment: those who were inside together count once
    assert gate.limit == grown * 0.8
    for _ in range(40):
        clock.now += 1
        crowd(gate, seconds=0.2)
    assert gate.limit == 8
    assert gate.inside == 0


def test_a_gate_that_is_never_busy_learns_nothing() -> None:
    gate = make_gate(Clock())
    gate.enter()
    gate.leave(0.01)
    gate.enter()
    gate.leave(None)
    assert (gate.limit, gate.inside) == (256, 0)


def test_three_quarters_of_those_who_may_come_in_are_a_crowd() -> None:
    gate = make_gate(Clock())
    for _ in range(191):
        gate.enter()
    assert not gate.is_crowded
    gate.enter()
    assert gate.is_crowded
    gate.leave(0.01)
    assert not gate.is_crowded


def test_who_does_not_get_in_is_counted() -> None:
    metrics = Metrics()
    gate = Gate(quick=0.05, metrics=metrics)
    while gate.lets_in():
        gate.enter()
    assert "nbkit_shed_total" not in metrics.render(version=1)
    gate.turn_away()
    assert 'nbkit_shed_total{queue="connections"} 1' in metrics.render(version=1)


def test_what_a_full_gate_says_is_http_and_json() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(BUSY)
        answer = http.client.HTTPResponse(ours)
        answer.begin()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert json.loads(answer.read())["error"]["code"] == "overloaded"


def test_a_crowd_is_turned_away_at_the_door_and_the_rest_answered(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    body = json.dumps({"inputs": lender.GOOD}).encode()
    head = "POST /v1/models/loans/decisions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
        callers = [socket.create_connection(("127.0.0.1", worker.port), timeout=30) for _ in range(400)]
        try:
            for caller in callers:
                caller.sendall(request)
            statuses = [int(caller.recv(4096)[9:12]) for caller in callers]
        finally:
            for caller in callers:
                caller.close()
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 50
        assert worker.decide(lender.GOOD).status == 200
        assert worker.stop() == 0
