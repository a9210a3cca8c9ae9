"""What a type annotation in the parameters cell allows, read from its syntax and never evaluated."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, replace

from nbkit.errors import ParameterError

KINDS = ("int", "float", "str", "bool")
SUPPORTED = 'int, float, str, bool, X | None, Literal["a", "b"] or Annotated[int, "1..10"]'

_LISTS = frozenset({"list", "dict", "tuple", "set", "List", "Dict", "Tuple", "Set", "Sequence", "Mapping"})
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})?\s*\.\.\s*({_NUMBER})?\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The values that an annotation allows; as text it reads ``int in 10..2000 or none``.

    Parameters
    ----------
    kind : str
        ``int``, ``float``, ``str`` or ``bool``.
    optional : bool
        Whether ``None`` is a value.
    choices : tuple of str or int
        The values of a ``Literal``; empty when any value of the kind will do.
    minimum, maximum : float or None
        The ends of the range, both allowed.

    Examples
    --------
    >>> print(Allowed(kind="float", minimum=0.0))
    float in 0.0..
    """

    kind: str
    optional: bool = False
    choices: tuple[str | int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def __str__(self) -> str:
        text = " or ".join(repr(choice) for choice in self.choices) or self.kind
        if self.minimum is not None or self.maximum is not None:
            text += f" in {_bound(self.minimum)}..{_bound(self.maximum)}"
        return f"{text} or none" if self.optional else text


def _bound(value: float | None) -> str:
    return "" if value is None else repr(value)


def read_annotation(node: ast.expr) -> Allowed:
    """Return what the annotation allows, or raise ``ParameterError``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _quoted(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(node)
    if isinstance(node, ast.Subscript):
        return _subscript(node)
    name = _name(node)
    if name in KINDS:
        return Allowed(kind=name)
    if name in _LISTS:
        raise ParameterError(_no_list(name))
    raise ParameterError(f"expected {SUPPORTED}, got {ast.unparse(node)}")


def _name(node: ast.expr) -> str:
    # typing.Optional and t.Optional are Optional: only the last part of a dotted name matters.
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _no_list(name: str) -> str:
    return f"{name} is not a parameter's type: a parameter is one value on a command line; expected {SUPPORTED}"


def _quoted(text: str) -> Allowed:
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ParameterError(f"expected {SUPPORTED}, got {text!r}") from None
    if isinstance(node, ast.Constant):
        raise ParameterError(f"expected {SUPPORTED}, got {text!r}")
    return read_annotation(node)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _union(node: ast.BinOp) -> Allowed:
    for one, other in ((node.left, node.right), (node.right, node.left)):
        if _is_none(one) and not _is_none(other):
            return replace(read_annotation(other), optional=True)
    raise ParameterError(f"a union is one type | None, got {ast.unparse(node)}")


def _subscript(node: ast.Subscript) -> Allowed:
    name = _name(node.value)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Optional" and len(parts) == 1:
        return replace(read_annotation(parts[0]), optional=True)
    if name == "Literal":
        return _literal(parts)
    if name == "Annotated" and len(parts) == 2:
        return _annotated(parts[0], parts[1])
    if name in _LISTS:
        raise ParameterError(_no_list(name))
    raise ParameterError(f"expected {SUPPORTED}, got {ast.unparse(node)}")


def _literal(parts: list[ast.expr]) -> Allowed:
    values = [part.value for part in parts if isinstance(part, ast.Constant)]
    choices = [value for value in values if value is not None]
    for kind in (str, int):
        chosen = tuple(value for value in choices if type(value) is kind)
        if chosen and len(chosen) == len(choices) and len(values) == len(parts):
            return Allowed(kind=kind.__name__, optional=None in values, choices=chosen)
    raise ParameterError("the choices of a Literal are all text or all whole numbers")


def _annotated(base: ast.expr, limits: ast.expr) -> Allowed:
    allowed = read_annotation(base)
    text = limits.value if isinstance(limits, ast.Constant) else None
    match = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise ParameterError(f'expected a range such as "1..10", "0.0.." or "..1.0", got {ast.unparse(limits)}')
    if allowed.kind not in ("int", "float") or allowed.choices:
        raise ParameterError(f"a range limits int or float, got {ast.unparse(base)}")
    low, high = (_limit(part, kind=allowed.kind) for part in match.groups())
    if low is not None and high is not None and low > high:
        raise ParameterError(f"the range {text!r} is empty")
    return replace(allowed, minimum=low, maximum=high)


def _limit(text: str | None, *, kind: str) -> float | None:
    if text is None:
        return None
    if kind == "int":
        if not text.lstrip("+-").isdecimal():
            raise ParameterError(f"the limits of an int are whole numbers, got {text}")
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ParameterError(f"a limit is a finite number, got {text}")
    return value
