"""Whatever is sent, the worker says what is wrong with it, and lives. ``make sweep-fuzz`` sends 10,000."""

from __future__ import annotations

import http.client
import itertools
import os
from pathlib import Path
from typing import Any

from nbkit.package import Package
from nbkit.serve import PackageStore

_BODIES = int(os.environ.get("NBKIT_FUZZ_BODIES", "400"))


def test_malformed_bodies_are_refused_and_cost_no_memory(
    lender: Any, fuzz: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    calls = fuzz.calls(lender.GOOD, name=lender.NAME, seed=20261125)
    statuses: dict[int, int] = {}
    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)

        def send(many: int) -> None:
            for path, kind, body in itertools.islice(calls, many):
                connection.request("POST", path, body=body, headers={"content-type": kind})
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

        send(_BODIES // 2)
        # What leaks grows each time; a model that is laid out meanwhile, or a module that is read at last, only once.
        grown = []
        for _ in range(3):
            before = fuzz.memory_kib(worker.process.pid)
            send(_BODIES // 2)
            grown.append(fuzz.memory_kib(worker.process.pid) - before)
        connection.close()
        assert worker.decide(lender.GOOD).status == 200
        assert worker.stop() == 0
    # Some of what is made is well-formed, or well-formed again.
    assert set(statuses) <= {200, 400, 409, 413, 415, 422}, statuses
    assert statuses[400] + statuses[422] > _BODIES // 2
    assert min(grown) < 1024, grown
