"""One worker, asked in every protocol; the clients are MLflow's and Triton's own."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import schemathesis
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families

import nbkit
from nbkit.audit import read_records
from nbkit.package import Package
from nbkit.serve import PackageStore
from nbkit.serve._metrics import FAMILIES

DOCS = Path(nbkit.__file__).resolve().parent.parent / "docs" / "reference" / "service.md"
JSON = {"content-type": "application/json"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, lender: Any, people: Any, package: Package) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("protocols")
    store = PackageStore(home / "store")
    people.install(package, store=store)
    with lender.Worker(store=store.root, people=people, ledger=home / "ledger.db") as started:
        yield started


@pytest.fixture(scope="module")
def rows(lender: Any) -> list[dict[str, Any]]:
    return [lender.GOOD, lender.BAD, lender.GOOD | {"income": None}]


@pytest.fixture(scope="module")
def native(worker: Any, rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """What the native protocol decides about the same rows."""
    answers = [worker.decide(row).body for row in rows]
    return [(answer["decision"], answer["score"]) for answer in answers]


def invoke(worker: Any, body: object, **headers: str) -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return worker.ask("POST", "/invocations", sent, JSON | {k.replace("_", "-"): v for k, v in headers.items()})


def decided(reply: Any) -> list[tuple[str, float]]:
    assert reply.status == 200, reply.body
    return [(each["decision"], each["score"]) for each in reply.body["predictions"]]


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_every_form_of_invocations_decides_what_the_native_protocol_decides(
    worker: Any, rows: list[dict[str, Any]], native: list[tuple[str, float]]
) -> None:
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    assert decided(invoke(worker, {"dataframe_split": split})) == native
    assert decided(invoke(worker, {"dataframe_records": rows})) == native
    assert decided(invoke(worker, {"instances": rows})) == native
    assert decided(invoke(worker, {"inputs": columns_of(rows)})) == native
    assert decided(invoke(worker, {"inputs": rows})) == native
    csv = pd.DataFrame(rows).to_csv(index=False).encode()
    assert decided(invoke(worker, csv, content_type="text/csv; charset=utf-8")) == native


def test_every_row_of_a_call_is_recorded_under_an_id_of_its_own(worker: Any, rows: list[dict[str, Any]]) -> None:
    first = invoke(worker, {"dataframe_records": rows}, x_request_id="batch-1").body["predictions"]
    again = invoke(worker, {"dataframe_records": rows}, x_request_id="batch-1").body["predictions"]
    assert first == again
    assert [each["request_id"] for each in first] == ["batch-1:0", "batch-1:1", "batch-1:2"]
    kept = {record.id for record in read_records(worker.ledger, limit=1000)}
    assert {each["decision_id"] for each in first} <= kept


def test_a_column_of_the_entity_names_the_subject(worker: Any, rows: list[dict[str, Any]]) -> None:
    (one,) = invoke(worker, {"dataframe_records": [rows[0] | {"id": "customer 1"}]}).body["predictions"]
    record = next(r for r in read_records(worker.ledger, limit=1000) if r.id == one["decision_id"])
    assert record.subject
    assert "id" not in record.inputs


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "expected a JSON object with one of"),
        (b"[]", 400, "expected a JSON object with one of"),
        (b'{"dataframe_records": [], "instances": []}', 400, "and nothing else"),
        (b'{"dataframe_records": []}', 400, "rows: expected 1..256, got 0"),
        (json.dumps({"instances": [{}] * 257}).encode(), 400, "rows: expected 1..256, got 257"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', 400, "row 0: expected a list of 1 values"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": []}}', 400, "a name appears twice"),
        (b'{"dataframe_split": 3}', 400, "expected columns"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', 400, "lists of the same length"),
        (b'{"inputs": {"a": NaN, "b": -Infinity}}', 400, "expected a JSON object with one of"),
        (b"[NaN]", 400, "expected a JSON object with one of"),
        (b'{"inputs": 3}', 400, "inputs: expected an object"),
        (b'{"instances": [1]}', 400, "a row each"),
        (b'{"dataframe_records": [{"income": 1, "ratio": 7}]}', 422, "row 0: $.ratio: expected 0..1, got 7"),
    ],
)
def test_a_wrong_invocation_is_refused_with_all_its_problems(worker: Any, body: bytes, status: int, said: str) -> None:
    reply = invoke(worker, body)
    assert (reply.status, said in reply.body["message"]) == (status, True), reply.body


@pytest.mark.parametrize("body", [b"", b"a,a\n1,2\n", b"a,b\n1\n", b'a\n"x', b"a\n\xff\n"])
def test_wrong_csv_is_refused(worker: Any, body: bytes) -> None:
    assert invoke(worker, body, content_type="text/csv").status == 400


def test_a_forgotten_line_of_names_is_somebodys_data_and_not_repeated(worker: Any) -> None:
    reply = invoke(worker, b"4711.25,0.2,Jo Doe\n88.5,0.3,car\n", content_type="text/csv")
    assert reply.status == 400
    assert "3 of 3 are no inputs; missing: income, purpose, ratio" in reply.body["message"]
    assert "4711" not in json.dumps(reply.body)
    assert "Jo" not in json.dumps(reply.body)


def test_personal_data_is_not_repeated(worker: Any, lender: Any) -> None:
    reply = invoke(worker, {"instances": [lender.GOOD | {"income": 123456789}]})
    assert reply.status == 422
    assert "123456789" not in json.dumps(reply.body)
    assert "withheld as personal data" in reply.body["message"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mlflows_own_client_is_answered(
    worker: Any, rows: list[dict[str, Any]], native: list[tuple[str, float]]
) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", worker.port)
    client.ping()
    assert client.get_version() == nbkit.__version__
    predictions = client.invoke(pd.DataFrame(rows)).get_predictions()
    assert list(zip(predictions["decision"], predictions["score"], strict=True)) == native


def tensors(rows: list[dict[str, Any]], *, binary: bool) -> list[Any]:
    made = []
    for name, values in columns_of(rows).items():
        kind = "BYTES" if name == "purpose" else "FP64"
        tensor = triton.InferInput(name, [len(values)], kind)
        array = np.array(values, dtype=object if kind == "BYTES" else np.float64)
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tritons_own_client_is_answered(
    worker: Any, rows: list[dict[str, Any]], native: list[tuple[str, float]]
) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{worker.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("loans")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        told = client.get_model_metadata("loans")
        assert [each["name"] for each in told["inputs"]] == list(rows[0])
        raw = client.infer("loans", tensors(rows, binary=True), request_id="t1")
        again = client.infer("loans", tensors(rows, binary=True), request_id="t1", model_version="1")
        outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in ("decision", "score")]
        plain = client.infer("loans", tensors(rows[:2], binary=False), outputs=outputs)
        with pytest.raises(triton.InferenceServerException, match="row 0:"):
            client.infer("loans", tensors([rows[0] | {"ratio": 7.0}], binary=True))
    decisions = [text.decode() for text in raw.as_numpy("decision")]
    assert list(zip(decisions, raw.as_numpy("score").tolist(), strict=True)) == native
    assert raw.as_numpy("decision_id").tolist() == again.as_numpy("decision_id").tolist()
    assert [str(each) for each in plain.as_numpy("decision")] == [decision for decision, _ in native[:2]]
    assert plain.as_numpy("score").tolist() == [score for _, score in native[:2]]


def infer(worker: Any, body: object, **headers: str) -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): text for name, text in headers.items()}
    return worker.ask("POST", "/v2/models/loans/infer", sent, told)


def tensor(name: str = "income", **changes: object) -> dict[str, object]:
    return {"name": name, "shape": [1], "datatype": "FP64", "data": [1.0]} | changes


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "a tensor for each input"),
        ([tensor(), tensor()], "none twice"),
        ([tensor(shape=[2, 2])], "shape: expected [rows] or [rows, 1]"),
        ([tensor(shape=[10**9])], "with 1..256 rows"),
        ([tensor(datatype="FP8")], "datatype: expected BYTES or one of"),
        ([tensor(data=None)], "expected data, or binary_data_size"),
        ([tensor(data=[1.0, 2.0])], "expected 1 values, got 2"),
        ([tensor(parameters={"binary_data_size": 8})], "at most what the body still holds"),
        ([tensor(), tensor("ratio", shape=[2], data=[0.1, 0.2])], "the same number of rows"),
    ],
)
def test_a_wrong_inference_is_refused(worker: Any, inputs: list[object], said: str) -> None:
    reply = infer(worker, {"inputs": inputs})
    assert reply.status == 400
    assert said in reply.body["error"]


def test_wrong_raw_tensors_are_refused(worker: Any) -> None:
    for kind, raw, said in (
        ("FP64", b"1234567", "expected 8 raw bytes, got 7"),
        ("BYTES", struct.pack("<I", 9) + b"x", "expected 1 texts"),
        ("BYTES", struct.pack("<I", 1) + b"\xff", "expected UTF-8 text"),
    ):
        one = tensor(datatype=kind, parameters={"binary_data_size": len(raw)})
        del one["data"]
        head = json.dumps({"inputs": [one]}).encode()
        reply = infer(worker, head + raw, Inference_Header_Content_Length=str(len(head)))
        assert (reply.status, said in reply.body["error"]) == (400, True), reply.body
        assert infer(worker, head + raw, Inference_Header_Content_Length="99999").status == 400
    assert infer(worker, b"{").status == 400
    assert infer(worker, {"inputs": [tensor()], "outputs": [{"name": "x"}]}).status == 400


def test_missing_values_of_tensors_are_missing(worker: Any) -> None:
    """NaN and an empty text: income may be missing, the purpose may not."""
    raw = struct.pack("<d", float("nan"))
    income = tensor(parameters={"binary_data_size": 8})
    del income["data"]
    others = [tensor("ratio", data=[0.1]), tensor("purpose", datatype="BYTES", data=["home"])]
    head = json.dumps({"inputs": [income, *others]}).encode()
    assert infer(worker, head + raw, Inference_Header_Content_Length=str(len(head))).status == 200
    others[1]["data"] = [""]
    head = json.dumps({"inputs": [income, *others]}).encode()
    assert infer(worker, head + raw, Inference_Header_Content_Length=str(len(head))).status == 422


def test_other_models_and_versions_are_said_not_to_be_here(worker: Any) -> None:
    for path in ("/v2/models/cars/infer", "/v2/models/loans/versions/9/infer", "/v2/models/loans/x", "/v2x"):
        assert worker.ask("POST", path, b"{}", JSON).status == 404
    assert worker.get("/v2/models/loans/versions/1").body["versions"] == ["1"]


@pytest.mark.parametrize("path", ["/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready"])
def test_small_paths_answer(worker: Any, path: str) -> None:
    assert worker.get(path).status == 200


def test_the_openapi_document_describes_the_contract(worker: Any) -> None:
    document = worker.get("/openapi.json").body
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == ["income", "ratio", "purpose"]
    assert row["properties"]["ratio"] == {"type": "number", "minimum": 0.0, "maximum": 1.0}
    assert row["properties"]["income"]["anyOf"][1] == {"type": "null"}
    assert row["properties"]["purpose"]["enum"] == ["car", "home", "study"]


@pytest.mark.filterwarnings("ignore")
def test_no_generated_request_is_a_fault_of_the_server(worker: Any) -> None:
    schema = schemathesis.openapi.from_dict(worker.get("/openapi.json").body)
    seen: set[int] = set()
    for found in schema.get_all_operations():

        @settings(
            max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=found.ok().as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(base_url=f"http://127.0.0.1:{worker.port}", timeout=20)
            seen.add(answer.status_code)
            assert answer.status_code < 500

        ask()
    assert 200 in seen
    assert worker.get("/healthz").status == 200


def test_the_metrics_can_be_read_and_are_documented(worker: Any, lender: Any) -> None:
    worker.decide(lender.GOOD)
    families = {family.name: family for family in text_string_to_metric_families(worker.get("/metrics").body)}
    page = DOCS.read_text(encoding="utf-8")
    for name in families:
        full = next((each for each in (name, f"{name}_total") if each in FAMILIES), None)
        assert full is not None, f"{name} is not declared"
    assert [name for name in FAMILIES if f"`{name}`" not in page] == []
    timed = families["nbkit_route_seconds"].samples
    assert {sample.labels["stage"] for sample in timed} == {"production"}
    assert any(s.name.endswith("_count") and s.labels["outcome"] == "approve" and s.value > 0 for s in timed)
    assert families["nbkit_served_version"].samples[0].value == 1
    spent = {
        tuple(sorted(s.labels)): s.value for s in families["nbkit_cost_usd"].samples if s.labels["route"] == "model"
    }
    assert spent == {("kind", "model", "route", "stage", "version"): 0.0}
    assert families["nbkit_audit_commit_seconds"].samples


def test_a_trace_goes_in_and_out_and_into_the_record(worker: Any, lender: Any) -> None:
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    reply = worker.send(json.dumps({"inputs": lender.GOOD}).encode(), traceparent=parent)
    version, trace, span, _ = reply.headers["traceparent"].split("-")
    assert (version, trace) == ("00", TRACE)
    assert span != "b7ad6b7169203331"
    record = next(r for r in read_records(worker.ledger, limit=5000) if r.id == reply.body["decision_id"])
    assert record.tags["trace"] == TRACE
    body = json.dumps({"inputs": lender.GOOD}).encode()
    # A later version may say more; this one may not.
    none = f"00-{'0' * 32}-b7ad6b7169203331-01"
    for wrong in ("00-0-0-0", f"ff-{TRACE}-b7ad6b7169203331-01", none, f"{parent}-more", f"{parent}x"):
        assert "traceparent" not in worker.send(body, traceparent=wrong).headers
    assert TRACE in worker.send(body, traceparent=f"01{parent[2:]}-more").headers["traceparent"]
