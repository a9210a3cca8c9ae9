"""The process beside a worker in which versions on trial decide: it may hang, leak or crash, and nobody waits for it.

It reads `Batch` after `Batch` and answers each with a `Judged`. It has no key and opens no ledger: its records go to
the ledger's writer, which takes no others than those of shadows from it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from nbkit.audit import CANARY_DECISION, CANARY_VERSION, CHAMPION_DECISION, SHADOW_END, SHADOW_ID, Entry, entry_of
from nbkit.contract import RowCheck
from nbkit.frames import CHUNK, Frames, framed
from nbkit.package import Package
from nbkit.records import AuditRecord, Decision
from nbkit.serve._decide import Judge
from nbkit.serve._ids import Ids, utc_now
from nbkit.serve._judge import place_of
from nbkit.serve._shadow import shadow_decisions
from nbkit.serve._spending import route_of
from nbkit.serve._store import PackageStore

__all__ = ["Batch", "Judged", "Shadowed", "Trial", "TrialJudge", "answer_batches", "decide_trials"]

_LOG = logging.getLogger("nbkit.serve")

# Tag of an audit record.
SHADOW_OF = "shadow_of"

# Versions that are kept loaded: a shadow, the champion beside a canary, and one that is about to take over.
_MOST_LOADED = 3

# Where the system cannot run a process only when nobody else wants the processor.
_NICENESS = 19

# A batch that takes longer hangs: the kernel then ends the process, whatever the model is doing. Loading a version
# takes most of a second of a processor, which may be a long time to get on a busy machine.
_LONGEST_SECONDS = 60
_LONGEST_LOADING_SECONDS = 600

# Records of a kilobyte or two: a datagram must fit into what a socket holds.
_MOST_IN_A_DATAGRAM = 32

_ENCODER = msgspec.msgpack.Encoder()
# Before a version that could not be loaded is loaded again: the store may be back by then.
_LOAD_AGAIN_SECONDS = 60.0

# For the kernel, where memory runs out: this process first.
_OUT_OF_MEMORY = "1000"

_Row = dict[str, float | str | None]


class Trial(msgspec.Struct, frozen=True, array_like=True):
    """A version that is asked what it would have decided.

    Parameters
    ----------
    name : str
        The registered model.
    version : int
        Of it.
    stage : str
        Of its evidence.
    package_digest, contract_digest, evidence_digest : str
        What the worker has verified.
    price_usd : str
        What asking it once costs, as decimal text.
    """

    name: str
    version: int
    stage: str
    package_digest: str
    contract_digest: str
    evidence_digest: str
    price_usd: str


class Shadowed(msgspec.Struct, array_like=True, gc=False):
    """A decision that was answered and recorded: what its record says, and the row."""

    id: str
    version: int
    stage: str
    decision: str
    received_at: datetime
    subject: str
    values: list[float | str | None]


class Batch(msgspec.Struct, array_like=True):
    """Decisions that one version is asked about together.

    Parameters
    ----------
    trial : Trial
        Who is asked.
    fits : bool
        Whether rows that the answering version's contract let through are rows of this one's.
    names : list of str
        Of the values of each row.
    decisions : list of Shadowed
        At least one.
    """

    trial: Trial
    fits: bool
    names: list[str]
    decisions: list[Shadowed]


class Judged(msgspec.Struct, array_like=True):
    """The answer to a `Batch`.

    Parameters
    ----------
    routes : list of (str, bool, int)
        Who decided, whether the model gave a score, and how often that was so.
    """

    routes: list[tuple[str, bool, int]]


class TrialJudge:
    """Makes records of batches.

    Parameters
    ----------
    load_package : callable
        Takes a digest, returns the package, every file compared with it.
    now : callable
        The clock: aware, UTC.
    new_id : callable
        Makes ids that never repeat.
    """

    def __init__(
        self, load_package: Callable[[str], Package], *, now: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self._load_package = load_package
        self._now = now
        self._new_id = new_id
        # The last one asked is the last one here; for one that could not be loaded, when it is tried again.
        self._loaded: dict[str, tuple[Package, Judge, RowCheck] | float] = {}

    def judge(self, batch: Batch) -> tuple[list[Entry], Judged]:
        """Return what is to be recorded.

        Parameters
        ----------
        batch : Batch
            From the worker.

        Returns
        -------
        entries : list of Entry
            One record for each decision, also where the version failed; none where it cannot be loaded.
        judged : Judged
            For the worker.
        """
        loaded = self._version(batch.trial)
        if loaded is None:
            return [], Judged([])
        package, judge, rows = loaded
        started = time.perf_counter()
        checked: list[_Row | Exception] = [
            _checked(dict(zip(batch.names, decision.values, strict=True)), None if batch.fits else rows)
            for decision in batch.decisions
        ]
        asked = [row for row in checked if not isinstance(row, Exception)]
        decided = iter(shadow_decisions(package, asked, judge=judge) if asked else ())
        told = [row if isinstance(row, Exception) else next(decided) for row in checked]
        # A row has waited for its whole batch.
        latency_us, decided_at = int((time.perf_counter() - started) * 1e6), self._now()
        entries, routes = [], Counter[tuple[str, bool]]()
        for decision, each in zip(batch.decisions, told, strict=True):
            cause = ""
            if isinstance(each, Exception):
                cause = f"error: {type(each).__name__}"
                row = dict(zip(batch.names, decision.values, strict=True))
                each = _without_model(row, package=package, judge=judge)
            record = self._record(
                batch.trial, decision, told=each, cause=cause, latency_us=latency_us, decided_at=decided_at
            )
            routes[route_of(record), record.score is not None] += 1
            entries.append(entry_of(record))
        return entries, Judged([(route, asked, times) for (route, asked), times in routes.items()])

    def knows(self, trial: Trial) -> bool:
        """Return whether a version need not be loaded before it is asked.

        Parameters
        ----------
        trial : Trial
            Who is asked.

        Returns
        -------
        bool
            False also where loading failed and may be tried again.
        """
        return isinstance(self._loaded.get(trial.package_digest), tuple)

    def _version(self, trial: Trial) -> tuple[Package, Judge, RowCheck] | None:
        found = self._loaded.pop(trial.package_digest, 0.0)
        if isinstance(found, float) and time.monotonic() >= found:
            found = self._load(trial)
        self._loaded[trial.package_digest] = found
        while len(self._loaded) > _MOST_LOADED:
            del self._loaded[next(iter(self._loaded))]
        return None if isinstance(found, float) else found

    def _load(self, trial: Trial) -> tuple[Package, Judge, RowCheck] | float:
        try:
            package = self._load_package(trial.package_digest)
            package.lay_out()
            return package, Judge.of(package), RowCheck(package.contract)
        except Exception as error:  # noqa: BLE001 - a version on trial ends here, and the others go on
            fields = {"version": trial.version, "error": type(error).__name__, "at": place_of(error)}
            _LOG.error("shadow not loaded", extra={"fields": {"model": trial.name, **fields}})
            return time.monotonic() + _LOAD_AGAIN_SECONDS

    def _record(
        self, trial: Trial, of: Shadowed, *, told: Decision, cause: str, latency_us: int, decided_at: datetime
    ) -> AuditRecord:
        tags = {SHADOW_OF: of.id}
        if of.stage == "canary":
            tags |= {CANARY_DECISION: of.decision, CANARY_VERSION: str(of.version)}
        else:
            tags[CHAMPION_DECISION] = of.decision
        return AuditRecord(
            id=self._new_id() + SHADOW_END,
            request_id=f"{SHADOW_ID}{trial.version}:{of.id}",
            model=trial.name,
            version=trial.version,
            package_digest=trial.package_digest,
            contract_digest=trial.contract_digest,
            evidence_digest=trial.evidence_digest,
            received_at=of.received_at,
            decided_at=decided_at,
            subject=of.subject,
            # They stand in the record that it shadows: personal data is kept once.
            inputs={},
            score=told.score,
            decision=told.decision,
            reasons=told.reasons,
            route=told.route,
            fallback=told.fallback,
            fallback_cause=cause,
            latency_us=latency_us,
            cost_usd="0" if told.score is None else trial.price_usd,
            tags=tags,
            kind="shadow",
            stage=trial.stage,
        )


def _checked(row: _Row, rows: RowCheck | None) -> _Row | Exception:
    """Check a row by the shadow's own contract where that may ask for something else, and must be told so."""
    try:
        return row if rows is None else rows.check(row)
    except Exception as error:  # noqa: BLE001 - a shadow that fails is what a trial is for: it is recorded so
        return error


def _without_model(row: Mapping[str, float | str | None], *, package: Package, judge: Judge) -> Decision:
    judgement = judge.fallback(row)
    default = Decision(decision=package.contract.serve.default.value, score=None, fallback="retry")
    return judgement.decision if judgement else default


def _give_way() -> None:
    """Run only when nobody else wants the processor: a shadow may cost nobody anything."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # another system than Linux, or one that does not allow it
        os.nice(_NICENESS)


def answer_batches(channel: socket.socket, says: socket.socket, *, judge: TrialJudge) -> None:
    """Answer until nobody asks any more.

    Parameters
    ----------
    channel : socket
        From and to the worker; blocking.
    says : socket
        To the ledger's writer: datagrams.
    judge : TrialJudge
        Makes the records.
    """
    _give_way()
    frames, decoder = Frames(), msgspec.msgpack.Decoder(Batch)
    while data := channel.recv(CHUNK):
        for frame in frames.feed(data):
            batch = decoder.decode(frame)
            signal.alarm(_LONGEST_SECONDS if judge.knows(batch.trial) else _LONGEST_LOADING_SECONDS)
            entries, judged = list[Entry](), Judged([])
            try:
                entries, judged = judge.judge(batch)
            except Exception as error:  # noqa: BLE001 - a shadow ends here: whatever it raises is nobody's answer
                fields = {"version": batch.trial.version, "error": type(error).__name__, "at": place_of(error)}
                _LOG.error("shadow failed", extra={"fields": fields | {"rows": len(batch.decisions)}})
            signal.alarm(0)
            for at in range(0, len(entries), _MOST_IN_A_DATAGRAM):
                says.send(_ENCODER.encode(entries[at : at + _MOST_IN_A_DATAGRAM]))
            channel.sendall(framed(judged))


def decide_trials(channel: socket.socket, says: socket.socket, *, store: Path) -> None:
    """Run the process.

    Parameters
    ----------
    channel, says : socket
        As `answer_batches` takes them.
    store : Path
        The package store.
    """
    with suppress(OSError):  # where there is no /proc all are alike
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY, encoding="ascii")
    answer_batches(channel, says, judge=TrialJudge(PackageStore(store).package, now=utc_now, new_id=Ids()))
