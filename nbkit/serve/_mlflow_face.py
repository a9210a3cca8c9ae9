"""MLflow's scoring protocol: ``/invocations``, ``/ping`` and ``/version``, for clients of ``mlflow models serve``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import TypeGuard

import msgspec

import nbkit
from nbkit.contract import Contract
from nbkit.errors import NbkitError
from nbkit.serve._answer import RETRY_AFTER_SECONDS
from nbkit.serve._app import Endpoint
from nbkit.serve._http import JSON, Call, Reply, json_reply
from nbkit.serve._record import answer_of
from nbkit.serve._request import BadRequestError
from nbkit.serve._rows import BATCH_LIMIT, MOST_ROWS, batch_id, decide_rows, problem_of, read_rows
from nbkit.serve._service import Service

__all__ = ["MlflowFace"]

_CSV = b"text/csv"
_KINDS = frozenset({JSON, _CSV})
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_FORM_WORDS = f"expected a JSON object with one of {', '.join(_FORMS)}"

_Rows = list[dict[str, object]]


class MlflowFace:
    """What ``mlflow models serve`` answers, with decisions as predictions.

    Parameters
    ----------
    service : Service
        Of the one model that answers here.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        seen = ("GET", "HEAD")
        self._endpoints = {
            "/invocations": Endpoint(self._invoke, methods=("POST",), scope="decide", kinds=_KINDS, limit=BATCH_LIMIT),
            "/ping": Endpoint(self._ping, methods=seen),
            "/health": Endpoint(self._ping, methods=seen),
            "/version": Endpoint(self._version, methods=seen),
        }

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
        """
        return self._endpoints.get(path)

    async def _invoke(self, call: Call) -> Reply:
        service = self._service
        base = batch_id(call.headers)
        try:
            service.admit(started=call.arrived)
            contract = service.champion().package.contract
            rows = _rows_of(call, contract=contract)
            records = await decide_rows(read_rows(rows, service=service, base=base), service=service, call=call)
        except NbkitError as error:
            status, code, message, retry = problem_of(error, service=service, request_id=base)
            return json_reply({"error_code": code, "message": message}, status=status, retry_after=retry)
        service.metrics.count("answers", label="status", value="200")
        return json_reply({"predictions": [answer_of(record) for record in records]})

    async def _ping(self, _: Call) -> Reply:
        problem = self._service.not_ready()
        if problem:
            return json_reply({"status": problem}, status=503, retry_after=RETRY_AFTER_SECONDS)
        return Reply(body=b"\n", kind=b"text/plain; charset=utf-8")

    async def _version(self, _: Call) -> Reply:
        return Reply(body=nbkit.__version__.encode(), kind=b"text/plain; charset=utf-8")


def _rows_of(call: Call, *, contract: Contract) -> _Rows:
    if call.headers.get(b"content-type", b"").split(b";")[0].strip().lower() == _CSV:
        return _csv_rows(call.body, contract=contract)
    content = _content(call.body)
    forms = [form for form in _FORMS if form in content]
    unknown = sorted(content.keys() - {*_FORMS, "params"})
    if len(forms) != 1 or unknown or content.get("params"):
        raise BadRequestError(f"{_FORM_WORDS}, and nothing else")
    form = forms[0]
    if form == "dataframe_split":
        return _split_rows(content[form])
    if form == "inputs":
        return _column_rows(content[form])
    return _record_rows(content[form], form=form)


def _content(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = str(error)
    # MLflow's own client writes a missing value as NaN, which is no JSON.
    try:
        content = json.loads(body, parse_constant=_missing, parse_int=float) if b"NaN" in body else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BadRequestError(f"{_FORM_WORDS}: {problem}")
    return content


def _missing(constant: str) -> None:
    if constant != "NaN":
        raise ValueError(f"expected a finite number, got {constant}")


def _split_rows(given: object) -> _Rows:
    columns = given.get("columns") if isinstance(given, Mapping) else None
    data = given.get("data") if isinstance(given, Mapping) else None
    if not _is_list(columns) or not _is_list(data) or not all(isinstance(name, str) for name in columns):
        raise BadRequestError("dataframe_split: expected columns, a list of names, and data, a list of rows")
    names = [str(name) for name in columns]
    if len(set(names)) != len(names):
        raise BadRequestError("dataframe_split.columns: a name appears twice")
    rows: _Rows = []
    for number, row in enumerate(data):
        if not _is_list(row) or len(row) != len(names):
            raise BadRequestError(f"dataframe_split.data: row {number}: expected a list of {len(names)} values")
        rows.append(dict(zip(names, row, strict=True)))
    return rows


def _record_rows(given: object, *, form: str) -> _Rows:
    rows = [row for row in given if isinstance(row, dict)] if _is_list(given) else []
    if not _is_list(given) or len(rows) != len(given):
        raise BadRequestError(f"{form}: expected a list of objects, a row each")
    return rows


def _column_rows(given: object) -> _Rows:
    if _is_list(given):
        return _record_rows(given, form="inputs")
    if not isinstance(given, dict) or not given:
        raise BadRequestError("inputs: expected an object, a list of values for each name")
    lists = [value if isinstance(value, list) else [value] for value in given.values()]
    counts = {len(values) for values in lists}
    if len(counts) != 1:
        raise BadRequestError("inputs: expected lists of the same length")
    if counts.pop() > MOST_ROWS:
        raise BadRequestError(f"rows: expected 1..{MOST_ROWS}")
    return [dict(zip(given, values, strict=True)) for values in zip(*lists, strict=True)]


def _csv_rows(body: bytes, *, contract: Contract) -> _Rows:
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        table = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRequestError(f"expected CSV with a line of names: {error}") from None
    if not table or len(set(table[0])) != len(table[0]):
        raise BadRequestError("expected CSV with a line of names, none twice")
    names, lines = table[0], [line for line in table[1:] if line]
    inputs = {column.name for column in contract.inputs}
    others = len(set(names) - inputs - {contract.entity})
    if others:
        # Never told which: where the line of names was forgotten they are somebody's data.
        missing = ", ".join(sorted(inputs - set(names))) or "none"
        raise BadRequestError(
            f"expected CSV with a line of names: {others} of {len(names)} are no inputs; missing: {missing}"
        )
    wrong = [number for number, line in enumerate(lines) if len(line) != len(names)]
    if wrong:
        raise BadRequestError(f"row {wrong[0]}: expected {len(names)} values")
    kinds = {column.name: column.type for column in contract.inputs}
    return [
        {name: _csv_value(text, kind=kinds.get(name, "category")) for name, text in zip(names, line, strict=True)}
        for line in lines
    ]


def _csv_value(text: str, *, kind: str) -> object:
    if text == "":
        return None
    if kind == "category":
        return text
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text  # the contract says what is wrong with it


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
