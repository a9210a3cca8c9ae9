"""Messages between a ledger and the process that writes it: arrays that name themselves."""

from __future__ import annotations

import msgspec

from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry

__all__ = [
    "ANSWERS",
    "ASIDE",
    "REQUESTS",
    "Close",
    "Closed",
    "Find",
    "Found",
    "Outcome",
    "Posted",
    "Read",
    "Ready",
    "Refused",
    "Told",
]


class Refused(msgspec.Struct, array_like=True):
    problem: str
    repeated: bool


class Outcome(msgspec.Struct, array_like=True):
    """What became of records that were handed over together: the place of the first if the others follow it."""

    number: int
    places: int | list[int | Refused]


class Posted(msgspec.Struct, array_like=True, tag="post"):
    number: int
    entries: list[Entry]
    may_wait: list[bool]


class Find(msgspec.Struct, array_like=True, tag="find"):
    number: int
    model: str
    request_id: str


class Read(msgspec.Struct, array_like=True, tag="read"):
    number: int
    id: str


class Close(msgspec.Struct, array_like=True, tag="close"):
    """Write what came, then end."""


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    checkpoint: Checkpoint | None
    journaled: int


class Told(msgspec.Struct, array_like=True, tag="told"):
    outcomes: list[Outcome]
    checkpoint: Checkpoint | None
    journaled: int


class Found(msgspec.Struct, array_like=True, tag="found"):
    number: int
    body: bytes | None
    problem: str = ""


class Closed(msgspec.Struct, array_like=True, tag="closed"):
    checkpoint: Checkpoint | None


REQUESTS = msgspec.msgpack.Decoder(Posted | Find | Read | Close)
# Of a process that nobody waits for, a datagram each.
ASIDE = msgspec.msgpack.Decoder(list[Entry])
ANSWERS = msgspec.msgpack.Decoder(Ready | Told | Found | Closed)
