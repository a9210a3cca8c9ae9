"""Messages between a ledger and the process that writes it: a length, and a msgpack array that names itself."""

from __future__ import annotations

import msgspec

from nbkit.audit._checkpoint import Checkpoint
from nbkit.audit._entry import Entry

__all__ = [
    "ANSWERS",
    "CHUNK",
    "REQUESTS",
    "Close",
    "Closed",
    "Find",
    "Found",
    "Frames",
    "Outcome",
    "Posted",
    "Read",
    "Ready",
    "Refused",
    "Told",
    "framed",
]

_ENCODER = msgspec.msgpack.Encoder()
_HEAD = 4

# Bytes that are read at once.
CHUNK = 256 * 1024


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
ANSWERS = msgspec.msgpack.Decoder(Ready | Told | Found | Closed)


class Frames:
    """Cuts what a socket gives into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        # All at once: whoever fails over one message, or stops after it, must not leave the others half read.
        data = self._rest + data if self._rest else data
        messages, at = list[bytes](), 0
        while len(data) - at >= _HEAD:
            end = at + _HEAD + int.from_bytes(data[at : at + _HEAD], "big")
            if end > len(data):
                break
            messages.append(data[at + _HEAD : end])
            at = end
        self._rest = data[at:]
        return messages


def framed(message: msgspec.Struct) -> bytes:
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_HEAD, "big") + body
