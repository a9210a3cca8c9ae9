"""Messages between a ledger and the process that writes it: a length, and a msgpack array that names itself."""

from __future__ import annotations

import msgspec

from nbkit.audit._checkpoint import Checkpoint

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
    "Told",
    "framed",
]

_ENCODER = msgspec.msgpack.Encoder()
_HEAD = 4

# Bytes that are read at once.
CHUNK = 256 * 1024


class Outcome(msgspec.Struct, array_like=True):
    """What became of one record: a place, or words where it has none."""

    ticket: int
    place: int
    problem: str = ""
    repeated: bool = False


class Posted(msgspec.Struct, array_like=True, tag="post"):
    ticket: int
    id: str
    model: str
    request_id: str
    body: bytes
    may_wait: bool


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
