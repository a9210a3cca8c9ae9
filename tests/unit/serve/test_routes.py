"""One worker, several models, versions on trial beside them: as processes."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbkit.audit import read_records
from nbkit.package import Package
from nbkit.route import RouteTable
from nbkit.serve import AccessFile, PackageStore
from nbkit.serve._routes_face import RoutesFace

ROUTES = {
    "format": 1,
    "name": "lending",
    "routes": [{"when": "purpose == 'home'", "model": "mortgages"}, {"model": "loans"}],
}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def worker(
    tmp_path_factory: pytest.TempPathFactory, lender: Any, people: Any, package: Package, trial: Package
) -> Iterator[Any]:
    from datetime import UTC, datetime

    home = tmp_path_factory.mktemp("routes")
    store = PackageStore(home / "store")
    people.install(package, store=store)
    people.install(trial, store=store, version=2, stage="canary", share=0.1)
    people.install(trial, store=store, version=2, stage="shadow")
    other = lender.make_package(home / "mortgages", contract=lender.make_contract(name="mortgages"))
    envelope = people.promotion(other, model="mortgages", version=7)
    store.install("mortgages", version=7, package_dir=other.directory, envelope_json=envelope.to_json(), epoch=1)
    (home / "routes.json").write_text(json.dumps(ROUTES))
    file, _, tester = AccessFile.begin().add("tester", scopes=["decide", "override"], now=datetime.now(UTC))
    file.save(home / "apikeys.json")
    arguments = ("--routes", str(home / "routes.json"), "--api-keys", str(home / "apikeys.json"))
    with lender.Worker(store=store.root, people=people, ledger=home / "ledger.db", arguments=arguments) as started:
        started.key = {"x-api-key": tester}
        yield started


def ask(worker: Any, path: str, inputs: object, *, headers: dict[str, str] | None = None, **others: object) -> Any:
    body = json.dumps({"inputs": inputs, **others}).encode()
    return worker.ask("POST", path, body, JSON | worker.key | (headers or {}))


def record_of(worker: Any, reply: Any) -> Any:
    assert reply.status == 200, reply.body
    return next(r for r in read_records(worker.ledger, limit=5000) if r.id == reply.body["decision_id"])


def test_each_row_goes_to_the_model_of_its_segment(worker: Any, lender: Any) -> None:
    path = "/v1/routes/lending/decisions"
    home = ask(worker, path, lender.GOOD)
    car = ask(worker, path, lender.GOOD | {"purpose": "car"}, request_id="r1")
    assert (home.body["model"], home.body["model_version"], car.body["model"]) == ("mortgages", 7, "loans")
    assert record_of(worker, home).tags["routed_by"] == "routes:lending:purpose == 'home'"
    again = ask(worker, path, lender.GOOD | {"purpose": "car"}, request_id="r1")
    assert again.body == car.body


def test_every_model_can_be_asked_what_it_decided(worker: Any, lender: Any) -> None:
    answer = ask(worker, "/v1/models/mortgages/decisions", lender.GOOD, request_id="asked")
    for name, status in (("mortgages", 200), ("loans", 404)):
        found = worker.ask("GET", f"/v1/models/{name}/decisions?request_id=asked", None, worker.key)
        assert found.status == status
        assert found.body == answer.body or status == 404
    assert worker.ask("GET", "/v1/models/mortgages/decisions?request_id=asked").status == 401


def test_a_further_model_without_a_version_is_a_warning_and_its_version_is_counted(
    lender: Any, people: Any, package: Package, tmp_path: Path
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    (tmp_path / "routes.json").write_text(json.dumps(ROUTES))
    arguments = ("--routes", str(tmp_path / "routes.json"))
    place = {"store": tmp_path / "store", "people": people, "ledger": tmp_path / "ledger.db", "arguments": arguments}
    with lender.Worker(**place) as alone:
        ready = alone.get("/readyz")
        assert ready.status == 200
        assert ready.body["warning"] == "mortgages: no version that verifies is installed"
        metrics = alone.get("/metrics").body
        assert "\nnbkit_served_version 1\n" in metrics
        assert '\nnbkit_served_version{model="mortgages"} 0\n' in metrics
        assert metrics.count("# TYPE nbkit_served_version") == 1
        assert alone.stop() == 0


def test_what_is_wrong_with_a_routed_row_is_said_by_its_model(worker: Any, lender: Any) -> None:
    path = "/v1/routes/lending/decisions"
    assert ask(worker, path, lender.GOOD | {"ratio": 7}).status == 422
    assert worker.ask("POST", path, b"{", JSON | worker.key).status == 400
    assert worker.ask("POST", path, b"{}", JSON).status == 401
    assert worker.ask("POST", "/v1/routes/other/decisions", b"{}", JSON | worker.key).status == 404


def test_every_model_has_an_address_of_its_own(worker: Any, lender: Any) -> None:
    assert ask(worker, "/v1/models/mortgages/decisions", lender.GOOD).body["model"] == "mortgages"
    assert worker.get("/v2/models/mortgages/ready").status == 200
    assert ask(worker, "/v1/models/cars/decisions", lender.GOOD).status == 404


def test_a_tester_asks_the_canary_and_its_shadow_stays_silent(worker: Any, lender: Any) -> None:
    path = "/v1/models/loans/decisions"
    for stage, version in (("canary", 2), ("production", 1)):
        record = record_of(worker, ask(worker, path, lender.GOOD, headers={"x-nbkit-stage": stage}))
        assert (record.version, record.stage, record.tags["routed_by"]) == (version, stage, "override:tester")
    assert ask(worker, path, lender.GOOD, headers={"x-nbkit-stage": "shadow"}).status == 400
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        shadows = [record for record in read_records(worker.ledger, limit=5000) if record.kind == "shadow"]
        told = {(record.version, record.stage, record.model) for record in shadows}
        if len(told) == 2:
            break
        time.sleep(0.02)
    # The version in the stage shadow about the champion's answer, and the champion about the canary's.
    assert told == {(2, "shadow", "loans"), (1, "production", "loans")}


def test_a_table_that_names_a_model_which_is_not_served_is_refused(lender: Any) -> None:
    from nbkit.errors import RouteError

    with pytest.raises(RouteError, match="model 'mortgages' is not served; model 'loans' is not served"):
        RoutesFace(RouteTable.parse(json.dumps(ROUTES).encode()), {})


SEEDS: tuple[tuple[str, bytes], ...] = (
    ("/invocations", b'{"dataframe_split": {"columns": ["income", "ratio"], "data": [[1, 0.5]]}}'),
    ("/invocations", b'{"inputs": {"income": [NaN], "ratio": [0.5], "purpose": ["home"]}}'),
    ("/v2/models/loans/infer", b'{"inputs": [{"name": "income", "shape": [1], "datatype": "FP64", "data": [1]}]}'),
    ("/v1/routes/lending/decisions", b'{"inputs": {"income": 1, "ratio": 0.5, "purpose": "home"}}'),
)


def mutated(body: bytes, rng: random.Random) -> bytes:
    """Cut, double, or replace a few bytes; now and then nest without end."""
    if rng.random() < 0.05:
        return body[: rng.randrange(len(body))] + b"[" * 20_000
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(body))
        part = rng.choice(
            [b"", body[at : at + 8] * 2, bytes([rng.randrange(256)]), b"1e999", b"-0", b"null", b"\\ud800"]
        )
        body = body[:at] + part + body[at + rng.randrange(1, 6) :] or b"{"
    return body


def test_no_malformed_body_is_a_fault_of_the_server(worker: Any) -> None:
    rng = random.Random(6)
    statuses = set()
    for number in range(400):
        path, seed = SEEDS[number % len(SEEDS)]
        headers = {"inference-header-content-length": str(rng.randrange(200))} if rng.random() < 0.1 else {}
        statuses.add(worker.ask("POST", path, mutated(seed, rng), JSON | worker.key | headers).status)
    assert statuses <= {200, 400, 413, 422}
    assert {400, 422} <= statuses
    assert worker.get("/readyz").status == 200


def test_the_ledger_of_several_models_is_whole(worker: Any, people: Any) -> None:
    from nbkit.audit import verify_ledger

    assert verify_ledger(Path(worker.ledger), public_key=people.keys["ledger"].secret.public_key()).problems == ()
