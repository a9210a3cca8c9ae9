"""The HTTP face of a worker: raw ASGI, because a framework costs more than the decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from nbkit.serve._service import RETRY_AFTER_SECONDS, Service

__all__ = ["App"]

_LOG = logging.getLogger("nbkit.serve")
_ENCODER = msgspec.json.Encoder(order="sorted")

# A row of a hundred inputs takes 4 KiB.
BODY_LIMIT = 64 * 1024

# The deadline begins with the last byte of the request; a caller who never sends it must not stay for ever.
_BODY_SECONDS = 5.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = b"application/json"


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _GoneError(Exception):
    """The caller went away."""


class App:
    """Routes requests to a service.

    Parameters
    ----------
    service : Service
        Of the one model that this worker serves.
    start, stop : callable
        Awaited when the server begins and after the last answer.
    """

    def __init__(
        self, service: Service, *, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._service = service
        self._start = start
        self._stop = stop
        self._decisions = f"/v1/models/{service.name}/decisions"
        self._draining = False

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
            await self._route(scope, receive, send)
        except _RefusedError as error:
            told = {"code": error.code, "message": str(error), "problems": []}
            headers = [(b"connection", b"close")] if error.status in (408, 413) else []
            await _respond(send, error.status, _ENCODER.encode({"error": told, "request_id": ""}), headers=headers)
        except _GoneError:
            return
        except Exception as error:  # noqa: BLE001 - a request ends here; its inputs must not reach a log or the caller
            kind = type(error).__name__
            _LOG.error("request failed", extra={"fields": {"path": scope["path"], "error": kind}})
            self._service.metrics.count("answers", label="status", value="500")
            told = {"code": "internal", "message": f"unexpected {kind}; see the worker's log", "problems": []}
            await _respond(send, 500, _ENCODER.encode({"error": told, "request_id": ""}))

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

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == self._decisions:
            _expect_method(method, "POST")
            await self._decide(scope, receive, send)
        elif path in ("/healthz", "/readyz", "/metrics"):
            _expect_method(method, "GET", "HEAD")
            await self._tell(path, send)
        elif path.startswith("/v1/models/") and path.endswith("/decisions"):
            raise _RefusedError(404, "unknown_model", f"this worker serves {self._service.name!r} only")
        else:
            raise _RefusedError(404, "not_found", f"expected {self._decisions}, /healthz, /readyz or /metrics")

    async def _decide(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != _JSON:
            raise _RefusedError(415, "unsupported_media_type", "content-type: expected application/json")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise _RefusedError(415, "unsupported_media_type", "content-encoding: expected none")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > BODY_LIMIT:
            raise _RefusedError(413, "too_large", f"body: expected at most {BODY_LIMIT} bytes")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            raise _RefusedError(408, "timeout", f"body: expected within {_BODY_SECONDS:g} seconds") from None
        answer = await self._service.decide(body)
        retry = [(b"retry-after", b"%d" % answer.retry_after)] if answer.retry_after else []
        await _respond(send, answer.status, _ENCODER.encode(answer.body), headers=retry)

    async def _tell(self, path: str, send: Send) -> None:
        active = self._service.active
        if path == "/metrics":
            text = self._service.metrics.render(version=active.version if active else 0)
            await _respond(send, 200, text.encode(), kind=b"text/plain; version=0.0.4")
        elif path == "/healthz":
            await _respond(send, 200, b'{"status":"ok"}')
        elif active is None:
            retry = [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)]
            await _respond(send, 503, b'{"status":"no version that verifies is installed"}', headers=retry)
        else:
            told = {"status": "ready", "model": self._service.name, "model_version": active.version}
            await _respond(send, 200, _ENCODER.encode(told | {"package_digest": active.package.digest}))


def _expect_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise _RefusedError(405, "method_not_allowed", f"method: expected {' or '.join(allowed)}, got {method}")


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        body += bytes(message.get("body", b""))
        if len(body) > BODY_LIMIT:
            raise _RefusedError(413, "too_large", f"body: expected at most {BODY_LIMIT} bytes")
        if not message.get("more_body"):
            return body


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    *,
    kind: bytes = _JSON,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    given = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})
