"""What statements and certificates share: an in-toto envelope of canonical JSON that has one spelling only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from nbkit.errors import EvidenceError
from nbkit.registry._strict_json import canonical, read_strict

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# Numbers beyond this are not exact in JSON readers of other languages, and RFC 8785 refuses them.
LARGEST_INTEGER = 2**53 - 1

_Signed = TypeVar("_Signed", bound=BaseModel)


def write_signed(
    predicate: Mapping[str, object], *, predicate_type: str, number: int, subject: str, digest: str, what: str
) -> bytes:
    """Return the canonical bytes (RFC 8785) of an in-toto Statement v1 about one package."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": predicate_type,
        "predicate": {"format": number, **predicate},
    }
    return canonical(statement, what=what)


def predicate_type_of(payload: bytes) -> str:
    """Return what kind of predicate a payload claims to hold; empty when it claims none."""
    content = read_strict(payload, what="statement")
    found = content.get("predicateType") if isinstance(content, dict) else None
    return found if isinstance(found, str) else ""


def read_signed(cls: type[_Signed], payload: bytes, *, predicate_type: str, number: int, what: str) -> _Signed:
    """Read a predicate of that type and format; the caller compares what it writes with what was read."""
    content = read_strict(payload, what=what)
    if canonical(content, what=what) != payload:
        raise EvidenceError(f"{what}: expected canonical JSON (RFC 8785)")
    if not isinstance(content, dict) or not isinstance(content.get("predicate"), dict):
        raise EvidenceError(f"{what}: expected an in-toto statement with a predicate")
    expected = {"_type": STATEMENT_TYPE, "predicateType": predicate_type}
    wrong = [f"{key}: expected {want!r}, got {content.get(key)!r}" for key, want in expected.items()]
    wrong = [problem for problem, key in zip(wrong, expected, strict=True) if content.get(key) != expected[key]]
    predicate = content["predicate"]
    found = predicate.pop("format", None)
    if found != number or isinstance(found, bool):
        wrong.append(f"format: expected {number}, got {found!r}")
    if wrong:
        raise EvidenceError(what, problems=wrong)
    try:
        return cls.model_validate_json(canonical(predicate, what=what))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or '$'}: {e['msg']}" for e in error.errors()]
        raise EvidenceError(what, problems=problems) from error
