"""A worker that is killed loses nothing that it answered."""

from __future__ import annotations

import http.client
import random
import threading
import time
from pathlib import Path
from typing import Any

from nbkit.audit import read_records, verify_ledger
from nbkit.package import Package
from nbkit.serve import PackageStore

_KILLS = 5
_CALLERS = 8


def test_every_answer_of_a_killed_worker_is_in_the_ledger(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    chance = random.Random(20261123)
    answered: dict[str, str] = {}
    ledger = tmp_path / "ledger.db"
    key = people.keys["ledger"].secret.public_key()
    for turn in range(_KILLS):
        before = len(answered)
        with lender.Worker(store=tmp_path / "store", people=people, ledger=ledger) as worker:
            threads = [
                threading.Thread(target=_load, args=(worker, lender.GOOD, f"{turn}-{caller}", answered))
                for caller in range(_CALLERS)
            ]
            for thread in threads:
                thread.start()
            while len(answered) < before + 20:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.3))  # somewhere between two commits, or in one
            worker.kill()
            for thread in threads:
                thread.join()
        report = verify_ledger(ledger, public_key=key)
        assert report.problems == ()
    recorded = {record.id: record.request_id for record in read_records(ledger, limit=1_000_000)}
    assert answered.items() <= recorded.items()
    assert len(answered) > _KILLS * 20
    # What was recorded and never answered is answered the same when it is asked for again.
    unanswered = sorted(set(recorded.values()) - set(answered.values()))
    with lender.Worker(store=tmp_path / "store", people=people, ledger=ledger) as worker:
        for request_id in [*unanswered, *list(answered.values())[-3:]]:
            reply = worker.decide(lender.GOOD, request_id=request_id)
            assert recorded[reply.body["decision_id"]] == request_id
        assert worker.stop() == 0
    assert verify_ledger(ledger, public_key=key).records == len(recorded)


def _load(worker: Any, inputs: Any, caller: str, answered: dict[str, str]) -> None:
    number = 0
    while True:
        request_id = f"{caller}-{number}"
        number += 1
        try:
            reply = worker.decide(inputs, request_id=request_id)
        except (OSError, http.client.HTTPException):
            return
        assert reply.status == 200, reply
        answered[reply.body["decision_id"]] = request_id
