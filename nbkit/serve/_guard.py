"""Let callers in: one look-up of a keyed digest a call."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.errors import AccessError, UsageError
from nbkit.serve._access import AccessFile, ApiKey
from nbkit.serve._app import Endpoint
from nbkit.serve._http import RefusedError
from nbkit.serve._metrics import Metrics
from nbkit.serve._turn import ANYONE, Caller

if TYPE_CHECKING:
    from nbkit.serve._tokens import TokenVerifier

__all__ = ["STAGE_HEADER", "AccessGuard", "check_exposure", "open_guard"]

_LOG = logging.getLogger("nbkit.serve")

# A tester with the scope ``override`` names the stage that answers.
STAGE_HEADER = b"x-nbkit-stage"

# Only a later version than 00 may say more than this one knows.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?:00(?=.{53}\Z)|(?!00)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?\Z"
)

_POLL_SECONDS = 1.0
# Issuers roll their keys over days; a token with a key that is not known asks for them sooner.
_FETCH_EVERY_SECONDS = 300.0
_FETCH_AT_MOST_EVERY_SECONDS = 10.0

# Verified tokens that are remembered; the oldest is forgotten first.
_MOST_KNOWN = 4096

_Remembered = tuple[Caller, float]


def check_exposure(host: str, *, has_auth: bool, has_tls: bool) -> None:
    """Refuse to listen where others reach, without knowing who calls or in the clear.

    Parameters
    ----------
    host : str
        Address to listen on.
    has_auth : bool
        Whether callers must say who they are.
    has_tls : bool
        Whether the line is encrypted, here or by a proxy in front.

    Raises
    ------
    UsageError
        With everything that is missing.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return
    problems = [] if has_auth else ["no --api-keys and no --oidc: anybody could ask for decisions"]
    problems += [] if has_tls else ["no --tls-cert: inputs would cross the network in the clear"]
    if problems:
        step = "nbkit apikeys new CALLER --scope decide; or say --tls-elsewhere where a proxy encrypts"
        raise UsageError(f"{host}: not only this machine reaches it", problems=problems, next_step=step)


def open_guard(headers: Mapping[bytes, bytes], endpoint: Endpoint) -> Caller:  # noqa: ARG001 - a Guard
    """Let anybody in, on loopback without keys; only the trace of a call is read.

    Parameters
    ----------
    headers : mapping of bytes to bytes
        Of the call; names in lower case.
    endpoint : Endpoint
        Whatever it asks for.

    Returns
    -------
    Caller
        Nobody in particular.
    """
    trace = trace_of(headers)
    return Caller(trace=trace) if trace else ANYONE


class AccessGuard:
    """Knows callers by API key or bearer token (a `Guard`).

    Parameters
    ----------
    keys : Path or None
        The file of API keys.
    tokens : TokenVerifier or None
        Of an OpenID Connect issuer.
    now : callable
        The clock: aware, UTC.
    metrics : Metrics
        Counts refusals.
    """

    def __init__(
        self, *, keys: Path | None, tokens: TokenVerifier | None, now: Callable[[], datetime], metrics: Metrics
    ) -> None:
        self._path = keys
        self._tokens = tokens
        self._now = now
        self._metrics = metrics
        self._file = AccessFile.load(keys) if keys else AccessFile.begin()
        self._callers = _callers(self._file)
        self._stamp = _stamp(keys)
        self._known: dict[bytes, _Remembered] = {}
        self._known_key = secrets.token_bytes(32)
        self._fetch_wanted = False
        if tokens is not None:
            tokens.fetch()

    @property
    def standing(self) -> object:
        """Another object as soon as anything changed about the keys."""
        return self._callers

    def __call__(self, headers: Mapping[bytes, bytes], endpoint: Endpoint) -> Caller:
        """Return who calls (see `admit`)."""
        return self.admit(headers, endpoint)[0]

    def admit(self, headers: Mapping[bytes, bytes], endpoint: Endpoint) -> tuple[Caller, object]:
        """Return who calls.

        Parameters
        ----------
        headers : mapping of bytes to bytes
            Of the call; names in lower case.
        endpoint : Endpoint
            Names the scope that is needed.

        Returns
        -------
        caller : Caller
            With what it wants and the trace that it is part of.
        standing : object
            The same headers say the same for as long as this is `standing`; None where that has an end of its own.

        Raises
        ------
        RefusedError
            401: nobody that is known; 403: known, and not allowed.
        """
        caller, standing = self._caller(headers)
        if endpoint.scope not in caller.scopes and "admin" not in caller.scopes:
            raise self._refused(403, "forbidden", f"scope {endpoint.scope!r} is needed")
        wants, trace = headers.get(STAGE_HEADER, b""), trace_of(headers)
        if wants and not caller.scopes & {"override", "admin"}:
            raise self._refused(403, "forbidden", f"{STAGE_HEADER.decode()}: scope 'override' is needed")
        if not wants and not trace:
            return caller, standing
        if wants not in (b"", b"production", b"canary"):
            raise RefusedError(400, "bad_request", f"{STAGE_HEADER.decode()}: expected production or canary")
        scopes = caller.scopes | {"override"} if wants else caller.scopes
        return Caller(name=caller.name, scopes=scopes, wants=wants.decode(), trace=trace), standing

    def _caller(self, headers: Mapping[bytes, bytes]) -> tuple[Caller, object]:
        token = headers.get(b"x-api-key", b"")
        bearer = False
        if not token:
            kind, _, token = headers.get(b"authorization", b"").partition(b" ")
            token = token.strip()
            bearer = kind.lower() == b"bearer" and b"." in token
            if kind.lower() not in (b"bearer", b"apikey"):
                token = b""
        if not token:
            raise self._refused(401, "unauthorized", "an API key or a bearer token is needed")
        if bearer and self._tokens is not None:
            return self._bearer(token, self._tokens), None
        callers = self._callers
        entry = callers.get(self._file.digest(token))
        if entry is None or (entry[0].expires_at and not entry[0].holds(now=self._now())):
            raise self._refused(401, "unauthorized", "the API key is not known, is revoked, or has ended")
        return entry[1], None if entry[0].expires_at else callers

    def _bearer(self, token: bytes, tokens: TokenVerifier) -> Caller:
        digest = hashlib.blake2b(token, key=self._known_key, digest_size=32).digest()
        known = self._known.get(digest)
        now = self._now()
        if known is not None and now.timestamp() < known[1]:
            return known[0]
        verified = tokens.verify(token, now=now)
        if isinstance(verified, str):
            self._fetch_wanted |= verified == "unknown_key"
            raise self._refused(401, "unauthorized", f"the bearer token does not count: {verified}")
        if len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = verified
        return verified[0]

    async def follow(self) -> None:
        """Take up new and revoked keys within a second, until cancelled."""
        since = 0.0
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            since += _POLL_SECONDS
            if self._path is not None:
                await asyncio.to_thread(self.reread)
            wanted = self._fetch_wanted and since >= _FETCH_AT_MOST_EVERY_SECONDS
            if self._tokens is not None and (wanted or since >= _FETCH_EVERY_SECONDS):
                since, self._fetch_wanted = 0.0, False
                await asyncio.to_thread(self._tokens.fetch)
                # A key that the issuer withdrew must not live on in what was verified with it.
                self._known.clear()

    def reread(self) -> None:
        """Read the file of API keys again when it changed; what cannot be read changes nothing, and is logged."""
        stamp = _stamp(self._path)
        if self._path is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            file = AccessFile.load(self._path)
        except AccessError as error:
            _LOG.warning("api keys not read", extra={"fields": {"reason": str(error)}})
            return
        callers = _callers(file)
        self._file, self._callers = file, callers
        _LOG.info("api keys read", extra={"fields": {"keys": len(callers)}})

    def _refused(self, status: int, code: str, message: str) -> RefusedError:
        self._metrics.count("refused", label="code", value=code)
        headers = ((b"www-authenticate", b'Bearer realm="nbkit"'),) if status == 401 else ()
        return RefusedError(status, code, message, headers=headers)


def trace_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the id of the trace (W3C ``traceparent``) that a call is part of.

    Parameters
    ----------
    headers : mapping
        Of the call.

    Returns
    -------
    str
        32 hex digits; empty when there is none, or it is malformed: then it is as if there were none.
    """
    given = headers.get(b"traceparent")
    found = _TRACEPARENT.match(given) if given else None
    return found.group(1).decode() if found else ""


def _callers(file: AccessFile) -> dict[str, tuple[ApiKey, Caller]]:
    keys = [key for key in file.keys if not key.revoked_at]
    return {key.digest: (key, Caller(name=key.name, scopes=frozenset(key.scopes))) for key in keys}


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
