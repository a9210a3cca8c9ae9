"""HTTP as the handlers of a worker see it: a call, a reply, a refusal. Raw ASGI stays in this module and `_app`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

from nbkit.serve._turn import ANYONE, Caller

__all__ = [
    "ARRIVED",
    "BODY_LIMIT",
    "JSON",
    "REPLY",
    "Call",
    "GoneError",
    "Handler",
    "RefusedError",
    "Reply",
    "json_reply",
    "read_body",
    "refusal_reply",
    "respond",
    "too_large",
]

# A row of a hundred inputs takes 4 KiB.
BODY_LIMIT = 64 * 1024

# The deadline begins with the last byte of the request; a caller who never sends it must not stay for ever.
_BODY_SECONDS = 5.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"

# Key of a scope: when the server had read the last byte, on the clock of ``time.perf_counter``.
ARRIVED = "nbkit.arrived"

# Key of a scope: takes a `Reply` whole, or returns False where only ``send`` can.
REPLY = "nbkit.reply"

_ENCODER = msgspec.json.Encoder(order="sorted")


class RefusedError(Exception):
    """A call that ends with a status before anything is decided.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        For programs.
    message : str
        For people.
    retry_after : int
        Seconds; 0 when there is nothing to wait for.
    headers : tuple of (bytes, bytes)
        Further headers of the reply, such as ``www-authenticate``.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int = 0,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.headers = headers


class GoneError(Exception):
    """The caller went away."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One HTTP request, whole.

    Parameters
    ----------
    method, path : str
        As the request line has them, without the query.
    query : bytes
        What followed the question mark.
    headers : mapping of bytes to bytes
        Names in lower case.
    body : bytes
        All of it.
    caller : Caller
        Whom the guard let in.
    arrived : float
        On the clock of ``time.perf_counter``: when the last byte was there.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    caller: Caller = ANYONE
    arrived: float = 0.0


class Reply(msgspec.Struct, kw_only=True, gc=False):
    """What goes back.

    Parameters
    ----------
    status : int
        Of HTTP.
    body : bytes
        All of it.
    kind : bytes
        Content type.
    headers : list of (bytes, bytes)
        Further headers.
    """

    status: int = 200
    body: bytes = b""
    kind: bytes = JSON
    headers: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)


Handler = Callable[[Call], Awaitable[Reply]]


def json_reply(content: object, *, status: int = 200, retry_after: int = 0) -> Reply:
    """Make a reply of JSON.

    Parameters
    ----------
    content : object
        What msgspec encodes.
    status : int
        Of HTTP.
    retry_after : int
        Seconds; 0 sends no such header.

    Returns
    -------
    Reply
        With sorted keys.
    """
    headers = [(b"retry-after", b"%d" % retry_after)] if retry_after else []
    return Reply(status=status, body=_ENCODER.encode(content), headers=headers)


def refusal_reply(error: RefusedError) -> Reply:
    """Turn a refusal into the body that every refusal has.

    Parameters
    ----------
    error : RefusedError
        Why.

    Returns
    -------
    Reply
        ``{"error": {"code", "message", "problems"}, "request_id"}``.
    """
    told = {"code": error.code, "message": str(error), "problems": []}
    reply = json_reply({"error": told, "request_id": ""}, status=error.status, retry_after=error.retry_after)
    reply.headers += error.headers
    if error.status in (408, 413):
        reply.headers.append((b"connection", b"close"))  # the rest of the body is not read
    return reply


async def read_body(receive: Receive, *, limit: int = BODY_LIMIT, whole: bool = False) -> bytes:
    """Read a request's body, at most so much and not for ever.

    Parameters
    ----------
    receive : callable
        As ASGI defines it.
    limit : int
        Bytes.
    whole : bool
        Whether all of it is there already.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    RefusedError
        It is larger, or does not arrive in time.
    GoneError
        The caller went away first.
    """
    # A body that came with its head is there at once: only one that did not pays for a timer.
    if whole:
        return await _read_all(receive, limit=limit)
    task = asyncio.current_task()
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(_BODY_SECONDS, cut)
    try:
        return await _read_all(receive, limit=limit)
    except asyncio.CancelledError:
        if not late:
            raise
        if task is not None:
            task.uncancel()
        raise RefusedError(408, "timeout", f"body: expected within {_BODY_SECONDS:g} seconds") from None
    finally:
        timer.cancel()


async def _read_all(receive: Receive, *, limit: int) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        got = bytes(message.get("body", b""))
        body = body + got if body else got
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return body


def too_large(limit: int) -> RefusedError:
    """Return the refusal of a body.

    Parameters
    ----------
    limit : int
        Bytes that it may have.

    Returns
    -------
    RefusedError
        413.
    """
    return RefusedError(413, "too_large", f"body: expected at most {limit} bytes")


async def respond(send: Send, reply: Reply) -> None:
    """Send a reply.

    Parameters
    ----------
    send : callable
        As ASGI defines it.
    reply : Reply
        What is sent.
    """
    body = reply.body
    headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
