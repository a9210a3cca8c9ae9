"""JSON from outside, read so that two readers can never understand it differently."""

from __future__ import annotations

import json

import rfc8785

from nbkit.errors import EvidenceError

# An envelope with its basis is about 20 kB; a reader that accepts anything larger can be made to run out of memory.
SIZE_LIMIT = 1_000_000
# A rollback's basis lies in the ninth; what can be nested further makes recursive readers fail, each at its own depth.
_DEEPEST = 64


def read_strict(data: bytes, *, what: str) -> object:
    """Parse JSON; duplicate keys, NaN, broken UTF-8, more than `SIZE_LIMIT` bytes and endless nesting are errors."""
    if len(data) > SIZE_LIMIT:
        raise EvidenceError(f"{what}: expected at most {SIZE_LIMIT} bytes, got {len(data)}")
    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise EvidenceError(f"{what}: nested too deeply") from error
    except ValueError as error:
        raise EvidenceError(f"{what}: expected JSON, got {error}") from error
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return value
    raise EvidenceError(f"{what}: nested too deeply")


def canonical(value: object, *, what: str) -> bytes:
    """Return the canonical JSON (RFC 8785) of a value."""
    try:
        written: bytes = rfc8785.dumps(value)
    except RecursionError as error:
        raise EvidenceError(f"{what}: nested too deeply") from error
    except ValueError as error:
        raise EvidenceError(f"{what}: cannot be written as canonical JSON: {error}") from error
    return written


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"duplicate key {', '.join(map(repr, twice))}")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(f"the number {name}")
