"""Digests, canonical JSON and atomic writes."""

from __future__ import annotations

import hashlib
import json

import rfc8785


def sha256(content: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical_json(document: object) -> bytes:
    """Return RFC 8785 bytes."""
    return bytes(rfc8785.dumps(document))


def strict_json(content: bytes) -> object:
    """Parse JSON that names no key twice and holds no NaN.

    Raises
    ------
    ValueError
        It is not such JSON.
    """
    return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
