"""Plain rows: read and checked in one pass, by a type that is made from the contract."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union

import msgspec

from nbkit.contract._columns import Input

__all__ = ["LARGE", "PlainRow", "Value", "limits_of"]

Value = float | str | None

_MINUS = ord("-")

# Every integer below is a float exactly.
LARGE = 2**53


class PlainRow:
    """Reads and checks a row in one pass of msgspec, by a type that is made from the contract.

    The type may be part of a larger one; whoever reads that compares `colons`, because a key that is there twice is
    read once.
    """

    __slots__ = ("_booleans", "_decoder", "_names", "_wholes", "colons", "kind")

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._names = tuple(column.name for column in inputs)
        self._wholes = tuple(place for place, column in enumerate(inputs) if column.type == "integer")
        self._booleans = tuple(place for place, column in enumerate(inputs) if column.type == "boolean")
        fields = [(f"f{place}", _plain_type(column)) for place, column in enumerate(inputs)]
        names = {f"f{place}": column.name for place, column in enumerate(inputs)}
        self.kind: type[msgspec.Struct] = msgspec.defstruct(
            "PlainRow", fields, rename=names, forbid_unknown_fields=True, gc=False
        )
        self.colons = len(fields)
        self._decoder = msgspec.json.Decoder(self.kind)

    def read(self, body: bytes) -> dict[str, Value] | None:
        """Read a row; None where it is out of the ordinary, or wrong."""
        try:
            read = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        # One colon a key, or a key is there twice.
        return self.row(read, body) if body.count(b":") == self.colons else None

    def row(self, read: msgspec.Struct, body: bytes) -> dict[str, Value] | None:
        """Return what `kind` has read of a body as a row, or None as `read` does."""
        values = msgspec.structs.astuple(read)
        if _MINUS in body and any(value == 0.0 and math.copysign(1.0, value) < 0.0 for value in values):
            return None  # -0.0, or what is so small that it becomes it: `check` takes it for 0.0
        row = dict(zip(self._names, values, strict=True))
        for place in self._wholes:
            value = values[place]
            if value is not None and not value.is_integer():
                return None
        for place in self._booleans:
            value = values[place]
            row[self._names[place]] = None if value is None else float(value)
        return row


def _plain_type(column: Input) -> object:
    """Return a type that lets no value through which the contract does not; some that it does are left to `check`."""
    kind: Any
    if column.type == "category":
        kind = Literal[column.categories]
    elif column.type == "boolean":
        kind = bool
    else:
        low, high = limits_of(column)
        # Integers beyond are rounded as they become floats, which `check` does in its own way.
        kind = Annotated[float, msgspec.Meta(ge=max(low, 1.0 - LARGE), le=min(high, LARGE - 1.0))]
    return Union[kind, None] if column.nullable else kind  # noqa: UP007 - made at run time


def limits_of(column: Input) -> tuple[float, float]:
    if column.type == "boolean":
        return 0.0, 1.0
    low = -sys.float_info.max if column.minimum is None else column.minimum
    high = sys.float_info.max if column.maximum is None else column.maximum
    return low, high
