"""A worker whose `nbkit serve` was killed goes on, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from nbkit.package import Package
from nbkit.serve import PackageStore

# Starts a worker as `nbkit serve` does, tells where it is, and then waits to be killed.
_STARTS = """
import os, subprocess, sys
worker = subprocess.Popen([*sys.argv[1:], "--supervisor", str(os.getpid())], stderr=sys.stderr)
worker.wait()
"""


def test_a_worker_that_lost_its_supervisor_answers_and_tells(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    worker = lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db")
    worker.prefix = (sys.executable, "-c", _STARTS)
    with worker.start():
        assert "warning" not in worker.get("/readyz").body
        assert "nbkit_supervisor_lost 0" in worker.get("/metrics").body
        worker.kill()  # the supervisor: its worker is not told
        own = int(worker.wait_for("supervisor lost")["worker"])
        try:
            assert worker.decide(lender.GOOD).status == 200
            ready = worker.get("/readyz")
            assert (ready.status, ready.body["status"]) == (200, "ready")
            assert ready.body["warning"].startswith("nbkit serve has ended")
            assert "nbkit_supervisor_lost 1" in worker.get("/metrics").body
        finally:
            subprocess.run(["kill", "-TERM", str(own)], check=True)
        worker.wait_for("ledger closed")
    told = [json.loads(line) for line in (tmp_path / "store" / "alerts.jsonl").read_text().splitlines()]
    assert [alert["reason"] for alert in told] == [ready.body["warning"]]
