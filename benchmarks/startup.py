"""How long ``import nbkit`` and ``nbkit --help`` take, beside the tools that do the same job.

Every measurement is a fresh process; the contestants take turns, so that a busy moment meets all of them. An import is
timed inside the process, net of Python's own start; a command (the installed script) is timed from outside, as a person
waits for it. The limits (50 ms for the import, 300 ms for the help, on a quiet machine) are shown and not asserted.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "startup.json"
REPEATS = 9
LIMITS_MS = {"import nbkit": 50, "nbkit --help": 300}
# What a worker imports; `nbkit.serve` itself resolves its names when they are used.
WORKER = "nbkit.serve._worker"
IMPORTS = ("nbkit", WORKER, "mlflow", "papermill")
SCRIPTS = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    **{f"{tool} --help": [str(SCRIPTS / tool), "--help"] for tool in ("nbkit", "mlflow", "papermill")},
}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}


def import_ms(module: str) -> float:
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return 1000 * float(output_of([sys.executable, "-c", code]).split()[-1])


def command_ms(command: list[str]) -> float:
    start = time.perf_counter()
    output_of(command)
    return 1000 * (time.perf_counter() - start)


def output_of(command: list[str]) -> str:
    return subprocess.run(command, env={**os.environ, **QUIET}, check=True, capture_output=True, text=True).stdout


def measure() -> dict[str, float]:
    """Return the median of each contestant in milliseconds; the first turn fills the file cache and is dropped."""
    taken: dict[str, list[float]] = {}
    for turn in range(REPEATS + 1):
        found = {f"import {module}": import_ms(module) for module in IMPORTS}
        found |= {name: command_ms(command) for name, command in COMMANDS.items()}
        for name, milliseconds in found.items() if turn else ():
            taken.setdefault(name, []).append(milliseconds)
        print(f"turn {turn} of {REPEATS}", file=sys.stderr)
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}


def main() -> None:
    # As pip does with what it installs: the peers come from there.
    compileall.compile_dir(Path(__file__).parents[1] / "nbkit", quiet=1)
    medians = measure()
    for name, milliseconds in medians.items():
        limit = f"  (limit {LIMITS_MS[name]} ms)" if name in LIMITS_MS else ""
        print(f"{name:20} {milliseconds:9.1f} ms{limit}")
    ratios = {
        "import mlflow / import nbkit": medians["import mlflow"] / medians["import nbkit"],
        f"import mlflow / import {WORKER}": medians["import mlflow"] / medians[f"import {WORKER}"],
        "mlflow --help / nbkit --help": medians["mlflow --help"] / medians["nbkit --help"],
        "papermill --help / nbkit --help": medians["papermill --help"] / medians["nbkit --help"],
    }
    result = {
        "name": "startup",
        "ratios": {name: round(ratio, 1) for name, ratio in ratios.items()},
        "milliseconds": medians,
        "limits_ms": LIMITS_MS,
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("nbkit", "mlflow", "papermill", "click")},
        },
        "n": REPEATS,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
