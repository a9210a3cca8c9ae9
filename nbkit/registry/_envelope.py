"""The DSSE envelope around a statement or a certificate: payload, its type, and the signatures of people."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nbkit.errors import EvidenceError
from nbkit.registry._certificate import CERTIFICATE_TYPE, Certificate
from nbkit.registry._keys import SigningKey
from nbkit.registry._signed import predicate_type_of
from nbkit.registry._statement import Statement
from nbkit.registry._strict_json import canonical, read_strict

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_KEY_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
_SIGNATURE_BYTES = 64
# More people than this never sign one move; more signatures only cost the verifier time.
_MOST_SIGNATURES = 32


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE signs: type and payload, each with its length.

    References
    ----------
    https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

    Examples
    --------
    >>> pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature; ``keyid`` only says which key to try."""

    keyid: str
    sig: bytes

    def fits(self, raw_key: bytes, *, payload: bytes) -> bool:
        """Say whether this is the key's signature of that payload."""
        message = pre_authentication_encoding(PAYLOAD_TYPE, payload)
        try:
            Ed25519PublicKey.from_public_bytes(raw_key).verify(self.sig, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A statement and who signed it; immutable: `sign` returns a new envelope.

    Parameters
    ----------
    payload : bytes
        The statement's canonical bytes.
    signatures : tuple of Signature
        Submitter's and approvers'.
    """

    payload: bytes
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def of(cls, statement: Statement | Certificate) -> Envelope:
        """Return an envelope around a statement or certificate that nobody has signed yet."""
        return cls(payload=statement.payload())

    @property
    def payload_type(self) -> str:
        """Always in-toto; an envelope of another type cannot be made or read."""
        return PAYLOAD_TYPE

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the envelope's JSON."""
        return "sha256:" + hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()

    def unverified_statement(self) -> Statement:
        """Return what the payload claims, to show it to a person; only `verify_evidence` makes it true."""
        return Statement.from_payload(self.payload)

    def unverified_certificate(self) -> Certificate:
        """Return what the payload claims to certify; only `verify_certificate` makes it true."""
        return Certificate.from_payload(self.payload)

    def sign(self, key: SigningKey) -> Envelope:
        """Return the envelope with the signature of ``key`` added.

        Raises
        ------
        EvidenceError
            The key has signed already, or the payload is neither a statement nor a certificate.
        """
        if predicate_type_of(self.payload) == CERTIFICATE_TYPE:
            Certificate.from_payload(self.payload)
        else:
            Statement.from_payload(self.payload)
        if any(signature.keyid == key.key_id for signature in self.signatures):
            raise EvidenceError(f"key {key.name!r}: has signed this already")
        sig = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, self.payload))
        return replace(self, signatures=(*self.signatures, Signature(keyid=key.key_id, sig=sig)))

    def joined(self, other: Envelope) -> Envelope:
        """Return the envelope with the signatures of both, one a key.

        Raises
        ------
        EvidenceError
            The payloads differ.
        """
        if other.payload != self.payload:
            raise EvidenceError("envelope: signatures under different payloads cannot be joined")
        signed = {signature.keyid: signature for signature in (*other.signatures, *self.signatures)}
        return replace(self, signatures=tuple(signed[keyid] for keyid in sorted(signed)))

    def as_mapping(self) -> dict[str, object]:
        """Return the envelope as it stands in JSON."""
        signatures = [{"keyid": s.keyid, "sig": _encode(s.sig)} for s in self.signatures]
        return {"payload": _encode(self.payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}

    def to_json(self) -> str:
        """Return the envelope as canonical JSON."""
        return canonical(self.as_mapping(), what="envelope").decode("utf-8")

    @classmethod
    def from_json(cls, text: str | bytes) -> Envelope:
        """Read an envelope; its signatures are not checked yet.

        Parameters
        ----------
        text : str or bytes
            JSON as `to_json` writes it; white space and the order of keys are free.

        Returns
        -------
        Envelope
            Unverified.

        Raises
        ------
        EvidenceError
            Not JSON, too large, another payload type, unknown or duplicate keys, wrong base64, a key twice.
        """
        data = text.encode("utf-8", errors="replace") if isinstance(text, str) else text
        return cls.from_mapping(read_strict(data, what="envelope"))

    @classmethod
    def from_mapping(cls, content: object) -> Envelope:
        """Read an envelope from parsed JSON; see `from_json`."""
        if not isinstance(content, Mapping) or set(content) != {"payload", "payloadType", "signatures"}:
            raise EvidenceError("envelope: expected exactly payload, payloadType and signatures")
        if content["payloadType"] != PAYLOAD_TYPE:
            raise EvidenceError(f"envelope: payloadType: expected {PAYLOAD_TYPE!r}, got {content['payloadType']!r}")
        entries = content["signatures"]
        if not isinstance(entries, list | tuple) or len(entries) > _MOST_SIGNATURES:
            raise EvidenceError(f"envelope: signatures: expected a list of at most {_MOST_SIGNATURES}")
        signatures = tuple(_signature(entry, place=f"signatures[{index}]") for index, entry in enumerate(entries))
        if len({signature.keyid for signature in signatures}) != len(signatures):
            raise EvidenceError("envelope: signatures: one key has signed twice")
        return cls(payload=_decode(content["payload"], place="payload"), signatures=signatures)


def _signature(entry: object, *, place: str) -> Signature:
    if not isinstance(entry, Mapping) or set(entry) != {"keyid", "sig"}:
        raise EvidenceError(f"envelope: {place}: expected exactly keyid and sig")
    keyid = entry["keyid"]
    if not isinstance(keyid, str) or not _KEY_ID.match(keyid):
        raise EvidenceError(f"envelope: {place}.keyid: expected 'sha256:<64 hex digits>'")
    sig = _decode(entry["sig"], place=f"{place}.sig")
    if len(sig) != _SIGNATURE_BYTES:
        raise EvidenceError(f"envelope: {place}.sig: expected {_SIGNATURE_BYTES} bytes, got {len(sig)}")
    return Signature(keyid=keyid, sig=sig)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: object, *, place: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    # One spelling only: base64 leaves unused bits that would let two texts stand for one payload.
    if data is None or _encode(data) != text:
        raise EvidenceError(f"envelope: {place}: expected standard base64 with padding")
    return data
