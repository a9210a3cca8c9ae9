"""The HTTP face of a worker: raw ASGI, because a framework costs more than the decision."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from nbkit.serve._http import (
    ARRIVED,
    BODY_LIMIT,
    REPLY,
    Call,
    GoneError,
    Handler,
    Receive,
    RefusedError,
    Reply,
    Scope,
    Send,
    json_reply,
    read_body,
    refusal_reply,
    respond,
)
from nbkit.serve._metrics import Metrics
from nbkit.serve._turn import ANYONE, Caller

__all__ = ["App", "Endpoint", "Face", "Guard", "check_head", "traced"]

_LOG = logging.getLogger("nbkit.serve")


class Endpoint:
    """One path of a face.

    Parameters
    ----------
    handler : callable
        Answers a call.
    methods : tuple of str
        That it knows.
    scope : str
        What a caller needs to be allowed; empty for anybody, also without a key.
    kinds : frozenset of bytes
        Content types that its body may have; empty where it takes no body.
    limit : int
        Bytes of a body.
    """

    __slots__ = ("handler", "kinds", "limit", "methods", "scope")

    def __init__(
        self,
        handler: Handler,
        *,
        methods: tuple[str, ...],
        scope: str = "",
        kinds: frozenset[bytes] = frozenset(),
        limit: int = BODY_LIMIT,
    ) -> None:
        self.handler = handler
        self.methods = methods
        self.scope = scope
        self.kinds = kinds
        self.limit = limit


class Face(Protocol):
    """A protocol that a worker speaks: it knows its paths, and turns calls into requests for the service."""

    def find(self, path: str) -> Endpoint | None:
        """Return what answers at a path; None where the path is not of this face."""


# Lets a caller in, or raises RefusedError (401, 403, 429).
Guard = Callable[[Mapping[bytes, bytes], Endpoint], Caller]


def everybody(_headers: Mapping[bytes, bytes], _endpoint: Endpoint) -> Caller:
    """Let anybody in."""
    return ANYONE


class App:
    """Hands calls to the faces.

    Parameters
    ----------
    faces : sequence of Face
        Asked in order.
    start, stop : callable
        Awaited when the server begins and after the last answer.
    metrics : Metrics
        Counts what the faces never see.
    guard : callable
        Who may call.
    """

    def __init__(
        self,
        faces: Sequence[Face],
        *,
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
        metrics: Metrics,
        guard: Guard = everybody,
    ) -> None:
        self._faces = tuple(faces)
        self._start = start
        self._stop = stop
        self._metrics = metrics
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the server (ASGI 3).

        Parameters
        ----------
        scope, receive, send : mapping and callables
            As ASGI defines them.
        """
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            reply = await self._answer(scope, receive)
        except RefusedError as error:
            reply = refusal_reply(error)
        except GoneError:
            return
        except Exception as error:  # noqa: BLE001 - a request ends here; its inputs must not reach a log or the caller
            reply = self.broken(scope["path"], error)
        whole = scope.get(REPLY)
        if whole is None or not whole(reply):
            await respond(send, reply)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        endpoint = self.find(path)
        if method not in endpoint.methods:
            expected = " or ".join(endpoint.methods)
            allow = (b"allow", ", ".join(endpoint.methods).encode())
            told = f"method: expected {expected}, got {method}"
            raise RefusedError(405, "method_not_allowed", told, headers=(allow,))
        headers = dict(scope["headers"])
        call = Call(method=method, path=path, query=scope["query_string"], headers=headers)
        if endpoint.scope:
            call.caller = self._guard(headers, endpoint)
        if endpoint.kinds and method == "POST":
            check_head(headers, endpoint)
            call.body = await read_body(receive, limit=endpoint.limit, whole=ARRIVED in scope)
        call.arrived = scope.get(ARRIVED) or time.perf_counter()
        reply = await endpoint.handler(call)
        return traced(reply, call.caller) if call.caller.trace else reply

    def find(self, path: str) -> Endpoint:
        """Return what answers at a path.

        Parameters
        ----------
        path : str
            Of a request.

        Returns
        -------
        Endpoint
            Of the first face that knows it.

        Raises
        ------
        RefusedError
            404: none does.
        """
        for face in self._faces:
            endpoint = face.find(path)
            if endpoint is not None:
                return endpoint
        raise RefusedError(404, "not_found", "no such path; see /openapi.json or docs/reference/service.md")

    def broken(self, path: str, error: Exception) -> Reply:
        """Make the reply of a request that nbkit itself failed on, and log it.

        Parameters
        ----------
        path : str
            Of the request.
        error : Exception
            Whose text may quote an input, so only its kind is told.

        Returns
        -------
        Reply
            500.
        """
        kind = type(error).__name__
        _LOG.error("request failed", extra={"fields": {"path": path, "error": kind}})
        self._metrics.count("answers", label="status", value="500")
        told = {"code": "internal", "message": f"unexpected {kind}; see the worker's log", "problems": []}
        return json_reply({"error": told, "request_id": ""}, status=500)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def traced(reply: Reply, caller: Caller) -> Reply:
    """Return a reply that is part of the caller's trace.

    Parameters
    ----------
    reply : Reply
        Changed in place.
    caller : Caller
        With a trace.

    Returns
    -------
    Reply
        The same trace, and this call as the parent of whatever follows.
    """
    span = secrets.token_hex(8)
    reply.headers.append((b"traceparent", f"00-{caller.trace}-{span}-01".encode()))
    return reply


def check_head(headers: Mapping[bytes, bytes], endpoint: Endpoint) -> None:
    """Refuse by the head alone what need not be read.

    Parameters
    ----------
    headers : mapping of bytes to bytes
        Names in lower case.
    endpoint : Endpoint
        That is asked.

    Raises
    ------
    RefusedError
        413 or 415.
    """
    kind = headers.get(b"content-type", b"")
    if kind not in endpoint.kinds and kind.split(b";")[0].strip().lower() not in endpoint.kinds:
        expected = " or ".join(sorted(kind.decode() for kind in endpoint.kinds))
        raise RefusedError(415, "unsupported_media_type", f"content-type: expected {expected}")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RefusedError(415, "unsupported_media_type", "content-encoding: expected none")
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > endpoint.limit:
        raise RefusedError(413, "too_large", f"body: expected at most {endpoint.limit} bytes")
