"""nbkit's own protocol: decisions, what became of them, health and counts."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from nbkit.errors import NbkitError
from nbkit.serve._answer import RETRY_AFTER_SECONDS, refusal_of
from nbkit.serve._app import Endpoint
from nbkit.serve._http import JSON, Call, RefusedError, Reply, json_reply
from nbkit.serve._look import Lookups
from nbkit.serve._record import answer_of
from nbkit.serve._request import check_ids
from nbkit.serve._service import Service

__all__ = ["NativeFace", "decisions_endpoint", "decisions_path"]

_JSON_BODY = frozenset({JSON})

# How long a question about the past may take: nobody waits for a decision.
_ASKED_SECONDS = 2.0


def decisions_path(name: str) -> str:
    """Return where a model is asked for decisions.

    Parameters
    ----------
    name : str
        The registered model.

    Returns
    -------
    str
        Path.
    """
    return f"/v1/models/{name}/decisions"


def decisions_endpoint(service: Service) -> Endpoint:
    """Return what answers where a model is asked for decisions.

    Parameters
    ----------
    service : Service
        Of that model.

    Returns
    -------
    Endpoint
        Decides what is posted; asked with ``?request_id=ID``, says what became of a request.
    """

    async def decide(call: Call) -> Reply:
        if call.method == "GET":
            return await _look_up(call, service=service)
        answer = await service.decide(call.body, caller=call.caller, arrived=call.arrived)
        return json_reply(answer.body, status=answer.status, retry_after=answer.retry_after)

    return Endpoint(decide, methods=("POST", "GET"), scope="decide", kinds=_JSON_BODY)


async def _look_up(call: Call, *, service: Service) -> Reply:
    """Say what became of a request whose answer never arrived: the decision that stands; 503 while no ledger tells."""
    asked = parse_qs(call.query.decode("ascii", "replace")).get("request_id", [""])[0]
    if not asked:
        raise RefusedError(400, "bad_request", "query: expected ?request_id=ID")
    try:
        check_ids(asked, None)
        record = await service.once.lookups.ask(lambda: service.find(asked), seconds=_ASKED_SECONDS)
    except NbkitError as error:
        return _refused(error, request_id=asked)
    if record is None:
        raise RefusedError(404, "not_recorded", "no decision under this request id that this worker can see")
    return json_reply(answer_of(record))


def _refused(error: NbkitError, *, request_id: str) -> Reply:
    answer = refusal_of(error, request_id=request_id)
    return json_reply(answer.body, status=answer.status, retry_after=answer.retry_after)


class NativeFace:
    """The paths that docs/reference/service.md lists first.

    Parameters
    ----------
    service : Service
        Of the one model that this worker serves.
    warning : callable
        What `/readyz` says beside being ready; empty when all is well.
    """

    def __init__(self, service: Service, *, warning: Callable[[], str] = str) -> None:
        self._service = service
        self._warning = warning
        self._explaining = Lookups("nbkit-explanations")
        seen = ("GET", "HEAD")
        self._endpoints = {
            decisions_path(service.name): decisions_endpoint(service),
            "/healthz": Endpoint(self._live, methods=seen),
            "/readyz": Endpoint(self._ready, methods=seen),
            "/metrics": Endpoint(self._counts, methods=seen, scope="metrics"),
        }
        self._explanation = Endpoint(self._explain, methods=("GET",), scope="explain")

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
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            return endpoint
        if path.startswith("/v1/models/") and path.endswith("/decisions"):
            raise RefusedError(404, "unknown_model", f"this worker serves {self._service.name!r} only")
        if path.startswith("/v1/decisions/") and path.endswith("/explanation"):
            return self._explanation
        return None

    async def _explain(self, call: Call) -> Reply:
        decision_id = call.path.removeprefix("/v1/decisions/").removesuffix("/explanation")
        try:
            check_ids(decision_id, None)
            explain = self._service.explanation
            told = await self._explaining.ask(lambda: explain(decision_id), seconds=_ASKED_SECONDS)
        except NbkitError as error:
            return _refused(error, request_id="")
        if told is None:
            raise RefusedError(404, "not_recorded", "no decision of this id")
        return json_reply(told)

    async def _live(self, _: Call) -> Reply:
        return Reply(body=b'{"status":"ok"}')

    async def _ready(self, _: Call) -> Reply:
        problem = self._service.not_ready()
        if problem:
            return json_reply({"status": problem}, status=503, retry_after=RETRY_AFTER_SECONDS)
        active = self._service.champion()
        told = {"status": "ready", "model": self._service.name, "model_version": active.version}
        told |= {"package_digest": active.package.digest}
        warning = self._warning()
        return json_reply(told | {"warning": warning} if warning else told)

    async def _counts(self, _: Call) -> Reply:
        active = self._service.active
        text = self._service.metrics.render(version=active.version if active else 0)
        return Reply(body=text.encode(), kind=b"text/plain; version=0.0.4")
