"""Bodies that nobody should send: made from good ones by a seed, so that a finding can be repeated."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    1e999,
    -0.0,
    "",
    "\x00",
    "\ud800",
    "NaN",
    [],
    {},
    [[]],
    {"a": {}},
    "x" * 5000,
    10**400,
)
_BYTES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"inputs":',
    b"{}" * 500,
    b"[" * 20_000,
    b'{"inputs":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"inputs":{"income":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_002,
    b'{"inputs":{"income":NaN}}',
)


def malformed(good: dict[str, Any], *, seed: int) -> Iterator[bytes]:
    """Yield bodies for ever."""
    chance = random.Random(seed)
    while True:
        kind = chance.randrange(5)
        if kind == 0:
            yield chance.choice(_BYTES)
        elif kind == 1:  # bytes of a good one exchanged
            body = bytearray(json.dumps({"inputs": good, "request_id": "r"}).encode())
            for _ in range(chance.randrange(1, 6)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            yield bytes(body)
        elif kind == 2:  # cut off or repeated
            body = json.dumps({"inputs": good}).encode()
            cut = chance.randrange(len(body))
            yield body[:cut] if chance.random() < 0.5 else body + body[cut:]
        else:  # a value or a name that does not belong
            inputs = dict(good)
            inputs[chance.choice([*good, "other", "__class__", ""])] = chance.choice(_ODD)
            told: dict[str, Any] = {"inputs": inputs}
            if kind == 4:
                told[chance.choice(["request_id", "subject", "inputs", "nothing"])] = chance.choice(_ODD)
            yield json.dumps(told).encode("utf-8", "surrogatepass")


def memory_kib(pid: int) -> int:
    """Return what a process holds."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
