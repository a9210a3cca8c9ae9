"""``/openapi.json``: what a worker takes and gives, from the contract of the version in production."""

from __future__ import annotations

from collections.abc import Mapping

import nbkit
from nbkit.contract import Contract, Input
from nbkit.serve._app import Endpoint
from nbkit.serve._http import Call, Reply, json_reply
from nbkit.serve._rows import MOST_ROWS
from nbkit.serve._service import Service

__all__ = ["OpenApiFace", "document_of"]

_Schema = dict[str, object]

_TEXT: _Schema = {"type": "string"}
_ID: _Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}
_OUTCOME: _Schema = {"type": "string", "enum": ["approve", "refer", "decline"]}


class OpenApiFace:
    """Describes what the worker answers.

    Parameters
    ----------
    service : Service
        Of the model that is described.
    secured : bool
        Whether callers must say who they are.
    """

    def __init__(self, service: Service, *, secured: bool) -> None:
        self._service = service
        self._secured = secured
        self._endpoint = Endpoint(self._show, methods=("GET", "HEAD"))
        self._made: tuple[str, _Schema] | None = None

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
        return self._endpoint if path == "/openapi.json" else None

    async def _show(self, _: Call) -> Reply:
        active = self._service.active
        if active is None:
            return json_reply({"status": self._service.not_ready()}, status=503, retry_after=1)
        if self._made is None or self._made[0] != active.contract_digest:
            document = document_of(active.package.contract, version=active.version, secured=self._secured)
            self._made = (active.contract_digest, document)
        return json_reply(self._made[1])


def document_of(contract: Contract, *, version: int, secured: bool) -> _Schema:
    """Return an OpenAPI 3.1 document.

    Parameters
    ----------
    contract : Contract
        Of the version in production.
    version : int
        That version.
    secured : bool
        Whether callers must say who they are.

    Returns
    -------
    dict
        JSON.
    """
    inputs = {column.name: _input(column) for column in contract.inputs}
    row: _Schema = {
        "type": "object", "properties": inputs, "required": list(inputs), "additionalProperties": False,
    }  # fmt: skip
    about = {"title": contract.title, "version": f"{nbkit.__version__} (model version {version})"}
    document: _Schema = {
        "openapi": "3.1.0",
        "info": about | {"description": contract.purpose},
        "paths": _paths(contract.name, secured=secured),
        "components": {"schemas": {"Row": row, "Request": _REQUEST, "Answer": _ANSWER, "Refusal": _REFUSAL}},
    }
    if secured:
        components = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        document["components"] = {**document["components"], "securitySchemes": components}  # type: ignore[dict-item]
    return document


def _input(column: Input) -> _Schema:
    schema: _Schema
    if column.type == "category":
        schema = {"enum": [*column.categories, *(column.sentinels if column.nullable else ())]}
        if column.nullable:
            schema["enum"] = [*schema["enum"], None]  # type: ignore[misc]
    else:
        limits: _Schema = {"minimum": 0, "maximum": 1} if column.type == "boolean" else {}
        kind = "integer" if column.type in ("integer", "boolean") else "number"
        limits |= {} if column.minimum is None else {"minimum": column.minimum}
        limits |= {} if column.maximum is None else {"maximum": column.maximum}
        choices: list[_Schema] = [{"type": kind, **limits}]
        choices += [{"type": "boolean"}] if column.type == "boolean" else []
        choices += [{"type": "null"}] if column.nullable else []
        choices += [{"const": value} for value in column.sentinels if column.nullable]
        schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
    said = " ".join(part for part in (column.meaning, f"({column.unit})" if column.unit else "") if part)
    return schema | ({"description": said} if said else {})


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_REQUEST: _Schema = {
    "type": "object",
    "properties": {
        "inputs": _ref("Row"),
        "request_id": _ID,
        "subject": {"type": "string", "minLength": 1, "maxLength": 256},
    },
    "required": ["inputs"],
    "additionalProperties": False,
}

_ANSWER: _Schema = {
    "type": "object",
    "properties": {
        "decision_id": _TEXT,
        "request_id": _TEXT,
        "model": _TEXT,
        "model_version": {"type": "integer"},
        "decision": _OUTCOME,
        "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "reasons": {
            "type": "array",
            "items": {"type": "object", "properties": {"code": _TEXT, "text": _TEXT}, "required": ["code", "text"]},
        },
        "reasons_missing": _TEXT,
        "route": _TEXT,
        "fallback": _TEXT,
        "fallback_cause": _TEXT,
        "ticket": _TEXT,
    },
    "required": ["decision_id", "request_id", "model", "model_version", "decision", "score", "reasons", "ticket"],
}

_REFUSAL: _Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": _TEXT, "message": _TEXT, "problems": {"type": "array", "items": _TEXT}},
            "required": ["code", "message"],
        },
        "request_id": _TEXT,
    },
    "required": ["error"],
}

_REFUSED = {
    "400": "not JSON, unknown fields, or an id that cannot be used",
    "404": "no such model, decision or path",
    "408": "the body did not arrive in time",
    "409": "the request id stands for another request",
    "413": "too large",
    "415": "another content type",
    "422": "the inputs break the contract",
    "503": "no decision now; ask again with the same id",
}


def _paths(name: str, *, secured: bool) -> _Schema:
    ask = _operation("Decide one row", name="decide", secured=secured, body=_ref("Request"), answer=_ref("Answer"))
    look_up = _operation("What was decided for a request", name="lookUp", secured=secured, answer=_ref("Answer"))
    look_up["parameters"] = [{"name": "request_id", "in": "query", "required": True, "schema": _ID}]
    explain = _operation("Why a decision was taken", name="explain", secured=secured, answer={"type": "object"})
    explain["parameters"] = [{"name": "decision_id", "in": "path", "required": True, "schema": _TEXT}]
    records: _Schema = {"type": "array", "items": _ref("Row"), "minItems": 1, "maxItems": MOST_ROWS}
    rows: _Schema = {
        "type": "object",
        "properties": {"dataframe_records": records},
        "required": ["dataframe_records"],
        "additionalProperties": False,
    }
    predictions: _Schema = {"type": "object", "properties": {"predictions": {"type": "array", "items": _ref("Answer")}}}
    invoke = _operation("Decide many rows (MLflow)", name="invoke", secured=secured, body=rows, answer=predictions)
    paths: _Schema = {
        f"/v1/models/{name}/decisions": {"post": ask, "get": look_up},
        "/v1/decisions/{decision_id}/explanation": {"get": explain},
        "/invocations": {"post": invoke},
    }
    for path, said in _PLAIN.items():
        operation = _operation(said, name=path.strip("/").replace("/", "_"), secured=False, answer=None)
        paths[path] = {"get": operation}
    return paths


_PLAIN: Mapping[str, str] = {
    "/healthz": "The process lives",
    "/readyz": "Decisions can be asked for",
    "/ping": "The same, as MLflow asks",
    "/version": "Of nbkit",
    "/v2/health/live": "The process lives, as KServe asks",
    "/v2/health/ready": "Decisions can be asked for, as KServe asks",
}


def _operation(said: str, *, name: str, secured: bool, answer: _Schema | None, body: _Schema | None = None) -> _Schema:
    content = {"application/json": {"schema": answer}} if answer else {}
    told: _Schema = {"200": {"description": "as asked", **({"content": content} if content else {})}}
    if answer:
        refused = {"content": {"application/json": {"schema": {"type": "object"}}}}
        told |= {status: {"description": why, **refused} for status, why in _REFUSED.items()}
    else:
        told["503"] = {"description": "not ready"}
    operation: _Schema = {"summary": said, "operationId": name, "responses": told}
    if secured and answer:
        told |= {"401": {"description": "no key that counts"}, "403": {"description": "the key does not allow it"}}
        operation["security"] = [{"key": []}, {"bearer": []}]
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
