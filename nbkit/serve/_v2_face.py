"""The Open Inference Protocol (KServe v2) over HTTP: JSON tensors, and raw ones as Triton's clients send them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

import nbkit
from nbkit.contract import Contract
from nbkit.errors import NbkitError
from nbkit.records import AuditRecord
from nbkit.serve._answer import RETRY_AFTER_SECONDS
from nbkit.serve._app import Endpoint
from nbkit.serve._http import JSON, Call, RefusedError, Reply, json_reply
from nbkit.serve._request import BadRequestError
from nbkit.serve._rows import BATCH_LIMIT, MOST_ROWS, batch_id, decide_rows, problem_of, read_rows
from nbkit.serve._service import Service

__all__ = ["InferenceFace"]

_BINARY = b"application/octet-stream"
# Triton's clients name no content type.
_KINDS = frozenset({b"", JSON, _BINARY})
_JSON_LENGTH = b"inference-header-content-length"

_NUMBERS: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip

# What is answered for each row.
OUTPUTS: Mapping[str, str] = {
    "decision": "BYTES",
    "score": "FP64",
    "decision_id": "BYTES",
    "reasons": "BYTES",
    "fallback": "BYTES",
}


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, object] = {}
    data: list[object] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, object] = {}


class _Inference(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, object] = {}
    outputs: list[_Output] | None = None


_DECODER = msgspec.json.Decoder(_Inference)


class InferenceFace:
    """The paths below ``/v2``.

    Parameters
    ----------
    services : mapping of str to Service
        By model.
    """

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = dict(services)
        seen = ("GET", "HEAD")
        self._fixed = {
            "/v2": Endpoint(self._server, methods=seen),
            "/v2/health/live": Endpoint(self._live, methods=seen),
            "/v2/health/ready": Endpoint(self._ready, methods=seen),
        }
        self._about = Endpoint(self._model, methods=seen)
        self._model_ready = Endpoint(self._ready, methods=seen)
        self._infer = Endpoint(self._decide, methods=("POST",), scope="decide", kinds=_KINDS, limit=BATCH_LIMIT)

    def find(self, path: str) -> Endpoint | None:
        """Return what answers at a path.

        Parameters
        ----------
        path : str
            Of the request.

        Returns
        -------
        Endpoint or None
            None where the path is not of this face.

        Raises
        ------
        RefusedError
            The path names a model that this worker does not serve.
        """
        if not path.startswith("/v2"):
            return None
        if path in self._fixed:
            return self._fixed[path]
        steps = path.split("/")[3:]
        if not path.startswith("/v2/models/") or not steps:
            return None
        if steps[0] not in self._services:
            raise RefusedError(404, "unknown_model", f"this worker serves {', '.join(self._services)} only")
        if len(steps) >= 3 and steps[1] == "versions":
            self._check_version(steps[0], steps[2])
            steps = [steps[0], *steps[3:]]
        ends: dict[tuple[str, ...], Endpoint] = {
            (): self._about, ("ready",): self._model_ready, ("infer",): self._infer,
        }  # fmt: skip
        return ends.get(tuple(steps[1:]))

    def _check_version(self, model: str, version: str) -> None:
        active = self._services[model].active
        if active is None or version != str(active.version):
            raise RefusedError(404, "unknown_version", f"{model}: version {active.version if active else 0} is served")

    def _service(self, call: Call) -> Service:
        return self._services[call.path.split("/")[3]]

    async def _server(self, _: Call) -> Reply:
        told = {"name": "nbkit", "version": nbkit.__version__, "extensions": ["binary_tensor_data"]}
        return json_reply(told)

    async def _live(self, _: Call) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, call: Call) -> Reply:
        asked = [self._service(call)] if "/models/" in call.path else list(self._services.values())
        problems = [problem for service in asked if (problem := service.not_ready())]
        if problems:
            told = {"ready": False, "error": "; ".join(problems)}
            return json_reply(told, status=503, retry_after=RETRY_AFTER_SECONDS)
        return json_reply({"ready": True})

    async def _model(self, call: Call) -> Reply:
        service = self._service(call)
        active = service.active
        if active is None:
            return json_reply({"error": service.not_ready()}, status=503, retry_after=RETRY_AFTER_SECONDS)
        inputs = [
            {"name": column.name, "datatype": "BYTES" if column.type == "category" else "FP64", "shape": [-1]}
            for column in active.package.contract.inputs
        ]
        outputs = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in OUTPUTS.items()]
        told: dict[str, object] = {
            "name": service.name,
            "versions": [str(active.version)],
            "platform": "nbkit",
            "inputs": inputs,
        }
        return json_reply(told | {"outputs": outputs})

    async def _decide(self, call: Call) -> Reply:
        service = self._service(call)
        try:
            service.admit(started=call.arrived)
            asked, raw = _read(call)
            rows = _rows_of(asked, raw, contract=service.champion().package.contract)
            base = asked.id or batch_id(call.headers)
            wanted = _wanted(asked)
            records = await decide_rows(read_rows(rows, service=service, base=base), service=service, call=call)
        except NbkitError as error:
            status, _, message, retry = problem_of(error, service=service)
            return json_reply({"error": message}, status=status, retry_after=retry)
        service.metrics.count("answers", label="status", value="200")
        return _reply(records, asked=asked, wanted=wanted)


def _read(call: Call) -> tuple[_Inference, bytes]:
    length = call.headers.get(_JSON_LENGTH)
    if length is not None and (not length.isdigit() or int(length) > len(call.body)):
        raise BadRequestError(f"{_JSON_LENGTH.decode()}: expected at most the length of the body")
    split = int(length) if length is not None else len(call.body)
    try:
        return _DECODER.decode(call.body[:split]), call.body[split:]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"expected an inference request: {error}") from None


def _wanted(asked: _Inference) -> dict[str, bool]:
    """Return the outputs that are wanted, and whether each goes back raw."""
    every = asked.parameters.get("binary_data_output") is True
    if asked.outputs is None:
        return dict.fromkeys(OUTPUTS, every)
    unknown = sorted({output.name for output in asked.outputs} - OUTPUTS.keys())
    if unknown:
        raise BadRequestError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {unknown[0]!r}")
    return {output.name: output.parameters.get("binary_data", every) is True for output in asked.outputs}


def _rows_of(asked: _Inference, raw: bytes, *, contract: Contract) -> list[dict[str, object]]:
    names = [tensor.name for tensor in asked.inputs]
    if not names or len(set(names)) != len(names):
        raise BadRequestError("inputs: expected a tensor for each input of the contract, none twice")
    columns: dict[str, list[object]] = {}
    place = 0
    for tensor in asked.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            columns[tensor.name] = _from_json(tensor)
        elif isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= len(raw) - place:
            columns[tensor.name] = _from_raw(tensor, raw[place : place + size])
            place += size
        else:
            raise BadRequestError(f"{tensor.name}: binary_data_size: expected at most what the body still holds")
    if place != len(raw):
        raise BadRequestError(f"expected {place} bytes of raw tensors, got {len(raw)}")
    if len({len(values) for values in columns.values()}) != 1:
        raise BadRequestError("inputs: expected tensors of the same number of rows")
    whole = {column.name for column in contract.inputs if column.type == "category" and "" not in column.categories}
    for name in whole & columns.keys():
        columns[name] = [None if value == "" else value for value in columns[name]]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _rows_in(tensor: _Tensor) -> int:
    shape = tensor.shape
    if not shape or len(shape) > 2 or not 0 < shape[0] <= MOST_ROWS or shape[1:] not in ([], [1]):
        raise BadRequestError(f"{tensor.name}: shape: expected [rows] or [rows, 1], with 1..{MOST_ROWS} rows")
    if tensor.datatype != "BYTES" and tensor.datatype not in _NUMBERS:
        raise BadRequestError(f"{tensor.name}: datatype: expected BYTES or one of {', '.join(_NUMBERS)}")
    return shape[0]


def _from_json(tensor: _Tensor) -> list[object]:
    rows = _rows_in(tensor)
    data = tensor.data
    if data is None:
        raise BadRequestError(f"{tensor.name}: expected data, or binary_data_size")
    flat = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]
    if len(flat) != rows:
        raise BadRequestError(f"{tensor.name}: data: expected {rows} values, got {len(flat)}")
    return flat


def _from_raw(tensor: _Tensor, raw: bytes) -> list[object]:
    rows = _rows_in(tensor)
    if tensor.data is not None:
        raise BadRequestError(f"{tensor.name}: expected data or raw bytes, not both")
    if tensor.datatype == "BYTES":
        return _texts(tensor.name, raw, rows=rows)
    kind = np.dtype(_NUMBERS[tensor.datatype])
    if len(raw) != rows * kind.itemsize:
        raise BadRequestError(f"{tensor.name}: expected {rows * kind.itemsize} raw bytes, got {len(raw)}")
    values: list[object] = np.frombuffer(raw, dtype=kind).tolist()
    # NaN is how a tensor of numbers says that a value is missing.
    return [None if value != value else value for value in values]


def _texts(name: str, raw: bytes, *, rows: int) -> list[object]:
    found: list[object] = []
    place = 0
    while place + 4 <= len(raw) and len(found) < rows:
        (size,) = struct.unpack_from("<I", raw, place)
        text = raw[place + 4 : place + 4 + size]
        place += 4 + size
        try:
            found.append(text.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequestError(f"{name}: expected UTF-8 text") from None
    if len(found) != rows or place != len(raw):
        raise BadRequestError(f"{name}: expected {rows} texts, each after its length in four bytes")
    return found


def _values(record: AuditRecord) -> Iterator[tuple[str, object]]:
    yield "decision", record.decision
    yield "score", record.score
    yield "decision_id", record.id
    yield "reasons", ",".join(record.reasons)
    yield "fallback", record.fallback


def _reply(records: Sequence[AuditRecord], *, asked: _Inference, wanted: Mapping[str, bool]) -> Reply:
    columns: dict[str, list[object]] = {name: [] for name in OUTPUTS}
    for record in records:
        for name, value in _values(record):
            columns[name].append(value)
    outputs: list[dict[str, object]] = []
    raw = b""
    for name, binary in wanted.items():
        output: dict[str, object] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(records)]}
        if binary:
            content = _raw(columns[name], kind=OUTPUTS[name])
            raw += content
            outputs.append(output | {"parameters": {"binary_data_size": len(content)}})
        else:
            outputs.append(output | {"data": columns[name]})
    told: dict[str, object] = {"model_name": records[0].model, "model_version": str(records[0].version)}
    reply = json_reply(told | ({"id": asked.id} if asked.id else {}) | {"outputs": outputs})
    if raw:
        reply.headers.append((b"inference-header-content-length", b"%d" % len(reply.body)))
        reply.body += raw
        reply.kind = _BINARY
    return reply


def _raw(values: Sequence[object], *, kind: str) -> bytes:
    if kind == "FP64":
        return np.array([np.nan if value is None else value for value in values], dtype="<f8").tobytes()
    texts = [str(value).encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
