"""The load of ``make bench-serve``: one process, raw sockets, requests made before the clock starts.

``python benchmarks/serving/load.py PLAN.json`` reads where to send what, sends it, and prints one JSON object. Closed
loop: each connection sends its next request when it has its answer. Open loop: requests leave by a timetable whatever
the server does, and a latency counts from the moment the timetable names, so that a server that stalls cannot hide it
(coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

# An answer that takes longer than this is counted as lost.
PATIENCE_SECONDS = 20.0


@dataclass(slots=True)
class Tally:
    """What came back."""

    latencies: list[float] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: list[int] = field(default_factory=list)
    broken: int = 0


class Caller(asyncio.Protocol):
    """One connection; one request at a time on it."""

    def __init__(self, tally: Tally, *, free: Any, marks: list[bytes]) -> None:
        self._tally = tally
        self._free = free
        self._marks = marks
        self._buffer = b""
        self._due = 0.0
        self.transport: Any = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, *, due: float) -> None:
        self._due = due
        self.busy = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        # What the client takes of a machine, the server on it has not: no more is done here than an answer needs.
        self._buffer = data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        at = data.find(b"ontent-length: ", 0, end)
        if at < 0:
            at = data.find(b"ontent-Length: ", 0, end)
        if at >= 0:
            if len(data) - end - 4 < int(data[at + 15 : data.find(b"\r\n", at)]):
                return
        elif not data.endswith(b"0\r\n\r\n"):
            return
        self._buffer = b""
        tally, status, kind = self._tally, int(data[9:12]), 0
        tally.latencies.append(time.perf_counter() - self._due)
        tally.sent_at.append(self._due)
        tally.statuses[status] += 1
        if status == 200:
            for number, mark in enumerate(self._marks, start=1):
                if data.find(mark, end) >= 0:
                    kind = number
                    break
        tally.kinds.append(kind)
        self.busy = False
        self._free(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self.busy:
            self._tally.broken += 1
        self.busy = True
        self._free(None)


async def connect(plan: dict[str, Any], tally: Tally, *, free: Any) -> list[Caller]:
    marks = [text.encode() for text in plan.get("marks", [])]
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(plan["connections"]):
        _, caller = await loop.create_connection(
            lambda: Caller(tally, free=free, marks=marks), "127.0.0.1", plan["port"]
        )
        made.append(caller)
    return made


async def closed(plan: dict[str, Any], requests: list[bytes]) -> Tally:
    """Every connection asks again when it was answered."""
    tally, done, number = Tally(), asyncio.Event(), 0
    state = {"ends": 0.0, "open": plan["connections"]}

    def free(caller: Caller | None) -> None:
        nonlocal number
        now = time.perf_counter()
        if caller is None or now >= state["ends"]:
            state["open"] -= 1
            if not state["open"]:
                done.set()
            return
        number += 1
        caller.send(requests[number % len(requests)], due=now)

    callers = await connect(plan, tally, free=free)
    state["ends"] = time.perf_counter() + plan["seconds"]
    for caller in callers:
        free(caller)
    await asyncio.wait_for(done.wait(), plan["seconds"] + PATIENCE_SECONDS)
    return tally


async def opened(plan: dict[str, Any], requests: list[bytes]) -> Tally:
    """Requests leave by the timetable, on whatever connection is free; what finds none waits, and its wait counts."""
    tally, late, idle = Tally(), deque[float](), deque[Caller]()
    number = 0

    def free(caller: Caller | None) -> None:
        nonlocal number
        if caller is None:
            return
        if late:
            number += 1
            caller.send(requests[number % len(requests)], due=late.popleft())
        else:
            idle.append(caller)

    idle.extend(await connect(plan, tally, free=free))
    begins = time.perf_counter()
    total, due = 0, begins
    for seconds, rate in plan["phases"]:
        ends = due + seconds
        while due < ends:
            now = time.perf_counter()
            while due <= now and due < ends:
                total += 1
                if idle:
                    number += 1
                    idle.popleft().send(requests[number % len(requests)], due=due)
                else:
                    late.append(due)
                due += 1 / rate
            await asyncio.sleep(0.0005)
    give_up = time.perf_counter() + PATIENCE_SECONDS
    while len(tally.latencies) < total - tally.broken and time.perf_counter() < give_up:
        await asyncio.sleep(0.01)
    tally.sent_at = [at - begins for at in tally.sent_at]
    return tally


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


def summary(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in latencies)
    return {
        name: round(percentile(ordered, share), 3)
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0))
    }


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    lines = Path(plan["bodies"]).read_bytes().splitlines()
    head = "".join(f"{name}: {value}\r\n" for name, value in plan.get("headers", {}).items())
    kind = plan.get("content_type", "application/json")
    requests = [
        f"POST {plan['path']} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\n{head}"
        f"content-length: {len(line)}\r\n\r\n".encode()
        + line
        for line in lines
    ]
    run = opened if "phases" in plan else closed
    before = time.process_time()
    begun = time.perf_counter()
    tally = uvloop.run(run(plan, requests))
    took = plan["seconds"] if run is closed else time.perf_counter() - begun
    result = {
        "answers": len(tally.latencies),
        # What was turned away or refused is no work done.
        "per_second": round(tally.statuses[200] / took, 1),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "kinds": {str(kind): tally.kinds.count(kind) for kind in sorted(set(tally.kinds))},
        "broken": tally.broken,
        "client_cpu_share": round((time.process_time() - before) / took, 2),
        **summary(tally.latencies),
    }
    if plan.get("timeline"):
        result["timeline"] = sorted(zip(tally.sent_at, tally.latencies, tally.kinds, strict=True))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
