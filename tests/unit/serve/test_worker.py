from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbkit.audit import read_record, verify_ledger
from nbkit.package import Package
from nbkit.serve import PackageStore, Rules, decide


@pytest.fixture(scope="module")
def worker(lender: Any, people: Any, package: Package, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("worker")
    people.install(package, store=PackageStore(folder / "store"))
    place = {"store": folder / "store", "people": people, "ledger": folder / "ledger.db"}
    with lender.Worker(**place, arguments=("--log-level", "debug")) as running:
        yield running


def test_a_decision_is_answered_recorded_and_replayed(worker: Any, lender: Any, package: Package) -> None:
    reply = worker.decide(lender.BAD, request_id="replay-me")
    assert (reply.status, reply.body["decision"]) == (200, "decline")
    record = read_record(worker.ledger, reply.body["decision_id"])
    again = decide(package, record.inputs, rules=Rules.from_package(package))  # type: ignore[arg-type]
    assert (again.score, again.decision, again.reasons) == (record.score, record.decision, record.reasons)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b'{"inputs": 3}', 422, "contract_violation"),
        (b'{"inputs": {"income": NaN, "ratio": 2, "purpose": "yacht"}}', 422, "contract_violation"),
        (b'{"inputs": {}}', 422, "contract_violation"),
        (b"x" * (64 * 1024 + 1), 413, "too_large"),
    ],
)
def test_a_wrong_body_is_answered_with_what_is_wrong(worker: Any, body: bytes, status: int, code: str) -> None:
    reply = worker.send(body)
    assert (reply.status, reply.body["error"]["code"]) == (status, code)


def test_a_violation_names_every_problem(worker: Any) -> None:
    reply = worker.send(b'{"inputs": {"income": Infinity, "purpose": "yacht"}}')
    assert reply.body["error"]["problems"] == [
        "$.income: expected 0..1000, got a value that is withheld as personal data",
        "$.ratio: missing",
        "$.purpose: expected one of 'car', 'home', 'study', got 'yacht'",
    ]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/models/others/decisions", {}, 404),
        ("POST", "/nothing", {}, 404),
        ("PUT", "/v1/models/loans/decisions", {}, 405),
        ("GET", "/v1/models/loans/decisions", {}, 400),
        ("GET", "/v1/models/loans/decisions?request_id=never", {}, 404),
        ("GET", "/v1/models/loans/decisions?request_id=~shadow:2:d1", {}, 400),
        ("GET", "/v1/decisions/never/explanation", {}, 404),
        ("GET", "/v1/decisions/a%20b/explanation", {}, 400),
        ("POST", "/healthz", {}, 405),
        ("POST", "/v1/models/loans/decisions", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/models/loans/decisions", {}, 415),
        (
            "POST",
            "/v1/models/loans/decisions",
            {"content-type": "application/json", "content-encoding": "gzip"},
            415,
        ),
    ],
)
def test_a_request_to_the_wrong_place_is_refused(
    worker: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = worker.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert reply.status == status
    assert reply.body["error"]["message"]
    assert ("allow" in reply.headers) == (status == 405)


def test_a_body_that_hides_its_size_is_cut_off(worker: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=10)
    chunks = iter([b"x" * 40_000, b"x" * 40_000])
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/models/loans/decisions", body=chunks, headers=headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_caller_who_goes_away_disturbs_nobody(worker: Any, lender: Any) -> None:
    with socket.create_connection(("127.0.0.1", worker.port)) as caller:
        head = "POST /v1/models/loans/decisions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        caller.sendall(f"{head}content-length: 100\r\n\r\n{{".encode())
    assert worker.decide(lender.GOOD).status == 200


def test_health_readiness_and_counts_are_told(worker: Any, lender: Any, package: Package) -> None:
    worker.decide(lender.GOOD)
    assert worker.get("/healthz").body == {"status": "ok"}
    ready = worker.get("/readyz")
    told = {"status": "ready", "model": "loans", "model_version": 1, "package_digest": package.digest}
    assert (ready.status, ready.body) == (200, told)
    counts = worker.get("/metrics").body
    assert 'nbkit_decisions_total{decision="approve"}' in counts
    assert "nbkit_served_version 1" in counts


def test_logs_are_json_with_ids_and_without_inputs(worker: Any, lender: Any) -> None:
    worker.decide(lender.GOOD | {"income": 77.125}, request_id="log-me")
    line = worker.wait_for("decided")
    while line["request_id"] != "log-me":
        line = worker.wait_for("decided")
    assert line["decision"] == "approve"
    assert "77.125" not in json.dumps(worker.lines)


def test_a_worker_loads_none_of_what_training_needs(lender: Any, package: Package) -> None:
    program = f"""
import sys
from pathlib import Path
import nbkit.serve, nbkit.serve._worker
from nbkit.package import load_package
package = load_package(Path({str(package.directory)!r}))
decision = nbkit.serve.decide(package, {lender.BAD!r}, rules=nbkit.serve.Rules.from_package(package))
assert decision.decision == "decline" and decision.reasons, decision
print(sorted({{"mlflow", "pandas", "shap", "sklearn", "skops", "scipy", "jwt"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_looks_for_garbage_again_once_it_has_imported_what_it_needs() -> None:
    program = """
import gc, os, sys
from nbkit.serve.__main__ import _import_quickly
assert "pydantic" not in sys.modules
_import_quickly()
print(gc.isenabled(), gc.get_freeze_count() > 10_000, os.environ["PYDANTIC_DISABLE_PLUGINS"])
"""
    given = {name: value for name, value in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=given)
    assert done.stdout.split() == ["True", "True", "__all__"]


class _Caller(threading.Thread):
    """Asks one request after another until it is told that the next version answers, then once more."""

    def __init__(self, worker: Any, *, row: dict[str, object]) -> None:
        super().__init__()
        self.statuses: list[int] = []
        self.versions: list[int] = []
        self._worker, self._row = worker, row
        self._swapped = threading.Event()

    def run(self) -> None:
        while not self._swapped.is_set():
            self._ask()
        self._ask()

    def finish(self) -> None:
        self._swapped.set()
        self.join()

    def _ask(self) -> None:
        reply = self._worker.decide(self._row)
        self.statuses.append(reply.status)
        self.versions.append(reply.body["model_version"])


def test_versions_are_swapped_without_a_restart_or_a_lost_answer(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    store = PackageStore(tmp_path / "store")
    with lender.Worker(store=store.root, people=people, ledger=tmp_path / "ledger.db") as worker:
        assert worker.get("/readyz").status == 503
        assert worker.decide(lender.GOOD).headers["retry-after"] == "1"
        people.install(package, store=store)
        worker.wait_for("serving")
        callers = [_Caller(worker, row=lender.GOOD) for _ in range(2)]
        for caller in callers:
            caller.start()
        # Each caller has an answer of the first version before the second is there.
        while not all(caller.versions for caller in callers):
            time.sleep(0.005)
        people.install(lender.make_package(tmp_path / "two", iterations=12), store=store, version=2, epoch=2)
        worker.wait_for("serving")
        for caller in callers:
            caller.finish()
            assert set(caller.statuses) == {200}
            assert caller.versions == sorted(caller.versions)
            assert set(caller.versions) == {1, 2}
        # Whoever edits the store's files by hand changes nothing that is served.
        pointer = store.pointer("loans")
        pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"version": 3}))
        assert "version" in worker.wait_for("version refused")["reason"]
        assert worker.get("/readyz").body["model_version"] == 2
        assert worker.stop() == 0
    report = verify_ledger(worker.ledger, public_key=people.keys["ledger"].secret.public_key())
    answered = sum(len(caller.statuses) for caller in callers)
    assert (report.records, report.problems) == (answered, ())


def test_stored_answers_survive_a_restart(lender: Any, people: Any, package: Package, tmp_path: Path) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    place = {"store": tmp_path / "store", "people": people, "ledger": tmp_path / "ledger.db"}
    with lender.Worker(**place) as worker:
        first = worker.decide(lender.BAD, request_id="r1")
        assert worker.stop() == 0
        closed = worker.wait_for("ledger closed")
        assert closed["size"] == 1
    with lender.Worker(**place) as worker:
        assert worker.decide(lender.BAD, request_id="r1").body == first.body
        assert worker.decide(lender.GOOD, request_id="r1").status == 409
        assert worker.stop() == 0


def test_a_worker_that_is_told_to_stop_before_its_first_request_stops(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    """Also while the server has not yet begun to listen for signals: "listening" is said before."""
    people.install(package, store=PackageStore(tmp_path / "store"))
    for _ in range(2):
        with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:
            assert worker.stop() == 0


def test_what_has_begun_is_answered_before_the_worker_stops(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    answered: list[str] = []
    with lender.Worker(store=tmp_path / "store", people=people, ledger=tmp_path / "ledger.db") as worker:

        def load() -> None:
            while True:
                try:
                    reply = worker.decide(lender.GOOD)
                except (OSError, http.client.HTTPException):
                    return
                if reply.status != 200:
                    return
                answered.append(reply.body["decision_id"])

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(answered) < 20:
            time.sleep(0.005)
        assert worker.stop() == 0
        for thread in threads:
            thread.join()
    assert all(read_record(worker.ledger, record_id) for record_id in answered)


def test_workers_share_a_ledger_and_decide_a_request_once(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    place = {"store": tmp_path / "store", "people": people, "ledger": tmp_path / "ledger.db"}
    with lender.Worker(**place) as one, lender.Worker(**place) as other:
        first = one.decide(lender.BAD, request_id="r1")
        assert other.decide(lender.BAD, request_id="r1").body == first.body
        assert other.decide(lender.GOOD, request_id="r1").status == 409
        assert other.get(f"/v1/models/{lender.NAME}/decisions?request_id=r1").body == first.body
        told = one.get(f"/v1/decisions/{first.body['decision_id']}/explanation").body
        assert (told["state"], told["reasons"]) == ("recorded", first.body["reasons"])
        assert one.stop() == 0
        assert other.stop() == 0
    report = verify_ledger(tmp_path / "ledger.db", public_key=people.keys["ledger"].secret.public_key())
    assert (report.records, report.problems) == (1, ())


def test_a_worker_that_cannot_record_does_not_start(lender: Any, people: Any, package: Package, tmp_path: Path) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    place = {"store": tmp_path / "store", "people": people, "ledger": tmp_path / "ledger.db"}
    (tmp_path / "ledger.db").write_text("not a ledger, and long enough to be taken for one by nobody" * 100)
    with pytest.raises(AssertionError, match="file is not a database"):
        lender.Worker(**place).start()


def test_a_key_that_others_can_read_is_refused(lender: Any, people: Any, tmp_path: Path) -> None:
    other = lender.People.settle(tmp_path / "home")
    other.ledger_key.chmod(0o644)
    with pytest.raises(AssertionError, match="expected mode 0600, got 0644"):
        lender.Worker(store=tmp_path / "store", people=other, ledger=tmp_path / "ledger.db").start()
