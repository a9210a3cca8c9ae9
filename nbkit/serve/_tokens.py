"""Bearer tokens of an OpenID Connect issuer: algorithms pinned; issuer, audience and times checked; keys in memory."""

from __future__ import annotations

import http.client
import logging
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbkit.errors import AccessError
from nbkit.serve._access import SCOPES
from nbkit.serve._turn import Caller

__all__ = ["Issuer", "TokenVerifier"]

_LOG = logging.getLogger("nbkit.serve")

# Only signatures by a private key: with a shared secret whoever can check a token can make one.
_Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

_SCOPE_PREFIX = "nbkit:"
_FETCH_SECONDS = 5
_LARGEST_JWKS = 1 << 20
# An issuer may answer anything: what is no set of keys, and what is not even HTTP.
_UNREADABLE = (
    OSError, http.client.HTTPException, jwt.PyJWTError, ValueError, LookupError, TypeError, AttributeError,
)  # fmt: skip
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Issuer(BaseModel):
    """Whose tokens count: the file ``oidc.json``, format 1.

    Parameters
    ----------
    format : int
        1.
    issuer, audience : str
        What ``iss`` and ``aud`` must say.
    jwks : str
        A file beside this one, or an address: https, or http on loopback.
    algorithms : tuple of str
        That count; never ``none`` and never one with a shared secret.
    leeway_seconds : int
        How far clocks may be apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    jwks: Annotated[str, Field(min_length=1)]
    algorithms: Annotated[tuple[_Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Parameters
        ----------
        path : Path
            ``oidc.json``.

        Returns
        -------
        Issuer
            With ``jwks`` made absolute.

        Raises
        ------
        AccessError
            It cannot be read or is wrong: all problems at once.
        """
        try:
            issuer = cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise AccessError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            problems = [f"$.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise AccessError(str(path), problems=problems) from error
        address = urlsplit(issuer.jwks)
        if address.scheme == "https" or (address.scheme == "http" and address.hostname in _LOOPBACK):
            return issuer
        if address.scheme:
            raise AccessError(f"{path}: jwks: expected a file, an https address, or http on loopback")
        return issuer.model_copy(update={"jwks": str(path.parent / issuer.jwks)})


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody."""

    def redirect_request(self, *_: object) -> None:
        return None


class TokenVerifier:
    """Turns bearer tokens into callers; a token that was verified once costs a look-up until it ends.

    Parameters
    ----------
    issuer : Issuer
        Whose tokens count.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._keys: dict[str, jwt.PyJWK] = {}

    def fetch(self) -> None:
        """Read the issuer's keys; blocks, so not for the event loop. When it fails the last keys go on.

        Raises
        ------
        AccessError
            They cannot be read, and none were read before.
        """
        try:
            found = jwt.PyJWKSet.from_json(self._read().decode())
        except _UNREADABLE as error:
            told = f"{type(error).__name__}: {error}"
            if not self._keys:
                raise AccessError(f"{self._issuer.jwks}: the issuer's keys cannot be read: {told}") from error
            _LOG.warning("issuer keys not read", extra={"fields": {"reason": told}})
            return
        self._keys = {str(key.key_id): key for key in found.keys if key.key_id}

    def _read(self) -> bytes:
        if "://" not in self._issuer.jwks:
            return Path(self._issuer.jwks).read_bytes()
        # The scheme was checked when the file was read; whoever answers may not send us elsewhere.
        opener = urllib.request.build_opener(_Stay)
        with opener.open(self._issuer.jwks, timeout=_FETCH_SECONDS) as answer:
            content: bytes = answer.read(_LARGEST_JWKS)
            return content

    def verify(self, token: bytes, *, now: datetime) -> tuple[Caller, float] | str:
        """Return who a token stands for and until when, or why it does not count.

        Parameters
        ----------
        token : bytes
            A signed JWT.
        now : datetime
            Aware.

        Returns
        -------
        tuple or str
            Caller and the token's end in seconds since 1970; or a word for counts, never the token's content.
        """
        try:
            text = token.decode("ascii")
            key = self._keys.get(str(jwt.get_unverified_header(text).get("kid")))
            if key is None:
                return "unknown_key"
            claims = jwt.decode(
                text,
                key=key.key,
                algorithms=list(self._issuer.algorithms),
                audience=self._issuer.audience,
                issuer=self._issuer.issuer,
                leeway=self._issuer.leeway_seconds,
                # Compared below with the worker's own clock.
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            ends, begins = float(claims["exp"]), float(claims.get("nbf", 0))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            return type(error).__name__
        leeway, moment = self._issuer.leeway_seconds, now.timestamp()
        if moment >= ends + leeway:
            return "expired"
        if moment < begins - leeway:
            return "not_yet"
        said = claims.get("scope", "")
        words = said.split() if isinstance(said, str) else []
        scopes = frozenset(w.removeprefix(_SCOPE_PREFIX) for w in words if w.startswith(_SCOPE_PREFIX)) & set(SCOPES)
        return Caller(name=str(claims["sub"])[:64], scopes=scopes), ends + leeway
