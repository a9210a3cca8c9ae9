"""One given value, as an annotation allows it: strict, so that a slip of the hand never becomes another value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from nbkit.errors import ParameterError
from nbkit.retrain._annotation import Allowed

Value = int | float | str | bool | None

# Forty digits are longer than any seed; Python refuses to read thousands of digits with an error of its own.
_INT = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NONE = frozenset({"none", "null"})
_BOOL = {"true": True, "false": False}


def from_text(text: str, allowed: Allowed) -> Value:
    """Read what was typed on a command line, by the declared type alone."""
    if allowed.optional and text.lower() in _NONE and text not in allowed.choices:
        return None
    value = _READERS[allowed.kind](text)
    return _checked(value, allowed, given=text)


def from_python(value: object, allowed: Allowed) -> Value:
    """Accept a Python value of the declared type; an ``int`` may stand for a ``float``."""
    if value is None and allowed.optional:
        return None
    # Compared by exact type, because to Python a bool is an int.
    if allowed.kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return _checked(_finite(value), allowed, given=value)
    if isinstance(value, int | str | bool) and type(value).__name__ == allowed.kind:
        return _checked(value, allowed, given=value)
    return _checked(None, allowed, given=value)


def _checked(value: Value, allowed: Allowed, *, given: object) -> Value:
    if value is None or (allowed.choices and value not in allowed.choices) or not _within(value, allowed):
        raise ParameterError(f"expected {allowed}, got {given!r}")
    return value


def _within(value: Value, allowed: Allowed) -> bool:
    if value is None or isinstance(value, str | bool):
        return True
    above = allowed.minimum is None or value >= allowed.minimum
    return above and (allowed.maximum is None or value <= allowed.maximum)


def _int(text: str) -> int | None:
    return int(text) if _INT.fullmatch(text) else None


def _float(text: str) -> float | None:
    return _finite(float(text)) if _FLOAT.fullmatch(text) else None


def _finite(number: float) -> float | None:
    try:
        value = float(number)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _bool(text: str) -> bool | None:
    return _BOOL.get(text.lower())


_READERS: Mapping[str, Callable[[str], Value]] = {"int": _int, "float": _float, "bool": _bool, "str": str}
