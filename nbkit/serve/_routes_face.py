"""Several models behind one address: ``/v1/routes/NAME/decisions`` sends each row to the model of its segment."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from nbkit.errors import NbkitError, RouteError
from nbkit.route import RouteTable
from nbkit.serve._answer import refusal_of
from nbkit.serve._app import Endpoint
from nbkit.serve._http import JSON, Call, Reply, json_reply
from nbkit.serve._native import decisions_endpoint, decisions_path
from nbkit.serve._record import answer_of
from nbkit.serve._service import Service
from nbkit.serve._trials import ROUTED_BY

__all__ = ["ModelFace", "RoutesFace"]

_BODY = frozenset({JSON})


class _Peek(msgspec.Struct):
    inputs: dict[str, object] = {}


_DECODER = msgspec.json.Decoder(_Peek)


class ModelFace:
    """The decisions of a further model of this worker.

    Parameters
    ----------
    service : Service
        Of that model.
    """

    def __init__(self, service: Service) -> None:
        self._path = decisions_path(service.name)
        self._endpoint = decisions_endpoint(service)

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
        return self._endpoint if path == self._path else None


class RoutesFace:
    """Sends rows to models by a table of routes.

    Parameters
    ----------
    table : RouteTable
        Which model answers which row.
    services : mapping of str to Service
        Every model that the table names.

    Raises
    ------
    RouteError
        One of them is missing.
    """

    def __init__(self, table: RouteTable, services: Mapping[str, Service]) -> None:
        missing = [model for model in table.models if model not in services]
        if missing:
            raise RouteError(f"routes {table.name!r}", problems=[f"model {model!r} is not served" for model in missing])
        self._table = table
        self._services = dict(services)
        self._path = f"/v1/routes/{table.name}/decisions"
        self._endpoint = Endpoint(self._decide, methods=("POST",), scope="decide", kinds=_BODY)

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
        return self._endpoint if path == self._path else None

    async def _decide(self, call: Call) -> Reply:
        try:
            inputs = _DECODER.decode(call.body).inputs
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            inputs = {}  # whichever model it is sent to says what is wrong with it
        route = self._table.choose(inputs)
        service = self._services[route.model]
        request_id = ""
        try:
            service.admit(started=call.arrived)
            turn = service.begin(service.read(call.body), started=call.arrived, caller=call.caller)
            request_id = turn.id
            turn.tags.setdefault(ROUTED_BY, f"routes:{self._table.name}:{route.when or 'else'}"[:256])
            status, body, retry = 200, answer_of(await service.run(turn)), 0
        except NbkitError as error:
            answer = refusal_of(error, request_id=request_id)
            status, body, retry = answer.status, dict(answer.body), answer.retry_after
        service.metrics.took(time.perf_counter() - call.arrived)
        service.metrics.count("answers", label="status", value=str(status))
        return json_reply(body, status=status, retry_after=retry)
