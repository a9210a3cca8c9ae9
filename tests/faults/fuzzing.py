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


def calls(good: dict[str, Any], *, name: str, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield path, content type and body for ever: in half of them the native protocol, else another one."""
    chance, bodies = random.Random(seed), malformed(good, seed=seed)
    native, infer = f"/v1/models/{name}/decisions", f"/v2/models/{name}/infer"
    while True:
        body = next(bodies)
        kind = chance.randrange(8)
        if kind < 4:
            yield native, "application/json", body
        elif kind == 4:
            yield chance.choice(["/invocations", infer]), chance.choice(["application/json", "text/csv"]), body
        else:
            row = {**good, chance.choice([*good, "other", "id", ""]): chance.choice(_ODD)}
            shape = chance.choice([[1], [1, 1], [0], [-1], [2**70], [], "x"])
            tensor = chance.choice(["FP64", "BYTES", "BOOL", "X", 7])
            path, told = chance.choice(
                [
                    ("/invocations", {"dataframe_records": [row]}),
                    ("/invocations", {"instances": [row, row]}),
                    ("/invocations", {"inputs": {key: [value] for key, value in row.items()}}),
                    ("/invocations", {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}),
                    (
                        infer,
                        {
                            "id": chance.choice(["a", 7, "", None, "x y"]),
                            "inputs": [
                                {"name": key, "shape": shape, "datatype": tensor, "data": [value]}
                                for key, value in row.items()
                            ],
                        },
                    ),
                ]
            )
            yield path, "application/json", json.dumps(told).encode("utf-8", "surrogatepass")


def memory_kib(pid: int) -> int:
    """Return what a process holds."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
