"""A real worker whose model hangs, raises or gives no number, and whose clock jumps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbkit.audit import read_records, verify_ledger
from nbkit.package import Package
from nbkit.serve import PackageStore

# A worker that breaks as a file tells it: before it is read the file is empty, and all is well.
_BROKEN = """
import sys, time
from datetime import timedelta
from pathlib import Path
from nbkit.package import Package
from nbkit.serve import _worker
from nbkit.serve.__main__ import main

told, score, now = Path(sys.argv[1]), Package.score_frame, _worker.utc_now

def broken(self, frame):
    fault = told.read_text()
    if fault == "raise":
        raise ValueError("income 90.0")
    while told.read_text() == "hang":
        time.sleep(0.02)
    scores = score(self, frame)
    return [float("nan") for _ in scores] if fault == "nan" else scores

def jumped():
    fault = told.read_text()
    return now() + timedelta(days=float(fault) if fault.lstrip("-").isdigit() else 0)

Package.score_frame, _worker.utc_now = broken, jumped
main(sys.argv[5:])
"""


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def test_a_model_that_hangs_raises_or_gives_no_number_costs_nobody_an_answer(
    lender: Any, people: Any, tmp_path: Path
) -> None:
    contract = lender.make_contract(serve={"deadline_ms": 4000})
    people.install(
        lender.make_package(tmp_path / "slow", compiled=False, contract=contract),
        store=PackageStore(tmp_path / "store"),
    )
    fault, ledger = tmp_path / "fault", tmp_path / "ledger.db"
    fault.write_text("")
    worker = lender.Worker(store=tmp_path / "store", people=people, ledger=ledger)
    worker.prefix = (sys.executable, "-c", _BROKEN, str(fault))
    causes = {"hang": "deadline", "raise": "error: ValueError", "nan": "error: PackageError"}
    answers: dict[str, str] = {}

    def well() -> bool:
        reply = worker.decide(lender.GOOD)
        answers[reply.body.get("decision_id", "none")] = ""
        return bool(reply.status == 200 and not reply.body["fallback"])

    with worker.start():
        for kind, cause in causes.items():
            until(well)
            fault.write_text(kind)
            reply = worker.decide(lender.GOOD)
            answers[reply.body["decision_id"]] = cause
            # The contract's own rule approves such a row when the model cannot.
            assert (reply.status, reply.body["fallback"], reply.body["fallback_cause"]) == (200, "rules", cause)
            assert worker.get("/healthz").status == 200
            fault.write_text("")
        until(well)
        assert worker.stop() == 0
        assert not any("90.0" in str(line) for line in worker.lines)
    answers.pop("none", None)
    recorded = {record.id: record.fallback_cause for record in read_records(ledger, limit=10_000)}
    assert answers.keys() <= recorded.keys()
    assert {name: cause for name, cause in answers.items() if cause}.items() <= recorded.items()
    assert verify_ledger(ledger, public_key=people.keys["ledger"].secret.public_key()).problems == ()


def test_a_clock_that_jumps_beyond_the_evidence_stops_the_worker_until_it_is_right(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    fault, ledger = tmp_path / "fault", tmp_path / "ledger.db"
    fault.write_text("0")
    worker = lender.Worker(store=tmp_path / "store", people=people, ledger=ledger)
    worker.prefix = (sys.executable, "-c", _BROKEN, str(fault))
    with worker.start():
        assert worker.decide(lender.GOOD, request_id="r1").status == 200
        fault.write_text("400")
        until(lambda: worker.get("/readyz").status == 503)
        assert worker.decide(lender.GOOD, request_id="r2").status == 503
        fault.write_text("0")
        until(lambda: worker.get("/readyz").status == 200)
        assert worker.decide(lender.GOOD, request_id="r2").status == 200
        # Before what was seen at the start it is no correction.
        fault.write_text("-3")
        until(lambda: any("the clock went back" in str(line.get("reason")) for line in worker.lines))
        fault.write_text("0")
        until(lambda: worker.get("/readyz").status == 200)
        assert worker.stop() == 0
    report = verify_ledger(ledger, public_key=people.keys["ledger"].secret.public_key())
    assert (report.records, report.problems) == (2, ())
