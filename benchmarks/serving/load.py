"""The load of ``make bench-serve``: what to send is laid out here, sent by ``load.c``, and summed up here.

Closed loop: each connection sends its next request when it has its answer. Open loop: requests leave by a timetable
whatever the server does, and a latency counts from the moment the timetable names, so that a server that stalls cannot
hide it (coordinated omission). ``python benchmarks/serving/load.py PLAN.json`` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("load.c")

# Debian's wrk, where it is installed: a client for the closed loop that is not ours.
WRK = shutil.which("wrk")
_ROWS = Path(__file__).with_name("rows.lua")

# An answer that takes longer than this is counted as lost.
PATIENCE_SECONDS = 20.0

# What load.c writes for each request; a status of 0: its connection ended, -1: no answer came.
_ROW = np.dtype([("due", "f8"), ("took", "f8"), ("status", "i4"), ("kind", "i4")])


def build(folder: Path) -> Path:
    """Compile the client; raises RuntimeError where that cannot be done."""
    client = folder / "load"
    command = [*shlex.split(os.environ.get("CC") or "cc"), "-O2", "-o", str(client), str(SOURCE)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", "") or str(error)
        raise RuntimeError(
            f"the load of the benchmark needs a C compiler (apt-get install gcc, or name one by CC): {told}"
        ) from error
    return client


def _requests(plan: dict[str, Any]) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in plan.get("headers", {}).items())
    kind = plan.get("content_type", "application/json")
    made = []
    for line in Path(plan["bodies"]).read_bytes().splitlines():
        request = (
            f"POST {plan['path']} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\n{head}"
            f"content-length: {len(line)}\r\n\r\n".encode()
            + line
        )
        made.append(struct.pack("=I", len(request)) + request)
    return b"".join(made)


def measure(client: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Send what the plan says; its ``phases`` are seconds and requests a second, without them it is a closed loop."""
    phases = plan.get("phases") or [[plan["seconds"], 0]]
    file = client.with_name("requests")
    file.write_bytes(_requests(plan))
    command = [
        str(client), str(plan["port"]), str(plan["connections"]), str(PATIENCE_SECONDS), str(file),
        ",".join(f"{seconds}x{rate}" for seconds, rate in phases), *plan.get("marks", []),
    ]  # fmt: skip
    before = os.times()
    done = subprocess.run(command, capture_output=True, check=False)
    after = os.times()
    if done.returncode:
        raise RuntimeError(f"the client of the benchmark failed: {done.stderr.decode().strip()}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    rows = np.frombuffer(done.stdout, _ROW)
    in_time = (rows["status"] > 0) & (rows["took"] <= PATIENCE_SECONDS)
    answers = rows[in_time]
    took = sum(seconds for seconds, _ in phases)
    if "phases" in plan and len(answers):
        took = max(took, float((answers["due"] + answers["took"]).max()))
    broken = int((rows["status"] == 0).sum())
    result = {
        "asked": len(rows),
        "answers": len(answers),
        # What was turned away or refused is no work done.
        "per_second": round(int((answers["status"] == 200).sum()) / took, 1),
        "statuses": _counted(answers["status"]),
        "kinds": _counted(answers["kind"]),
        "broken": broken,
        "lost": len(rows) - len(answers) - broken,
        "client_cpu_share": round(used / took, 2),
        **summary(answers["took"]),
    }
    if plan.get("timeline"):
        result["timeline"] = [list(row) for row in answers[["due", "took", "kind"]].tolist()]
    return result


def measure_by_wrk(plan: dict[str, Any]) -> dict[str, Any]:
    """Send what the plan of a closed loop says by wrk."""
    given = {"BENCH_BODIES": str(plan["bodies"])}
    given |= {"BENCH_AUTHORIZATION": plan["headers"]["authorization"]} if plan.get("headers") else {}
    # Whole seconds, and a timeout as patient as our own.
    command = [
        str(WRK), "-t1", f"-c{plan['connections']}", f"-d{max(round(plan['seconds']), 1)}s",
        "--timeout", f"{PATIENCE_SECONDS:.0f}s", "-s", str(_ROWS), f"http://127.0.0.1:{plan['port']}{plan['path']}",
    ]  # fmt: skip
    before = os.times()
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    after = os.times()
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    good = told["answers"] - told["refused"]
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        **told,
        "per_second": round(good / told["seconds"], 1),
        "statuses": {"2xx": good, "others": told["refused"]},
        "client_cpu_share": round(used / told["seconds"], 2),
    }


def _counted(values: np.ndarray) -> dict[str, int]:
    return {str(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}


def summary(latencies: np.ndarray) -> dict[str, float]:
    ordered = np.sort(1000 * latencies)
    last = len(ordered) - 1
    return {
        name: round(float(ordered[min(int(len(ordered) * share), last)]), 3) if len(ordered) else float("nan")
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0))
    }


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(build(Path(folder)), plan)))


if __name__ == "__main__":
    main()
