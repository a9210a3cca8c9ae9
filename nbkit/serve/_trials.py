"""Versions on trial beside the champion: a canary answers its share, a shadow only says what it would have decided.

About a canary's rows the champion is asked afterwards, as a shadow is, so that the two can be compared.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nbkit.audit import CANARY_DECISION, CANARY_VERSION, CHAMPION_DECISION, AnyLedger
from nbkit.records import AuditRecord, Decision
from nbkit.route import Split, split_key
from nbkit.serve._active import Active
from nbkit.serve._metrics import Metrics
from nbkit.serve._request import DecisionRequest
from nbkit.serve._shadow import shadow_decisions
from nbkit.serve._turn import Caller, Choice, Turn

__all__ = ["OVERRIDE_SCOPE", "ROUTED_BY", "TRACE", "Trials"]

_LOG = logging.getLogger("nbkit.serve")

# Scope of a caller who may name the stage that answers.
OVERRIDE_SCOPE = "override"

# Tags of an audit record.
ROUTED_BY = "routed_by"
SHADOW_OF = "shadow_of"
TRACE = "trace"

# A caller's request id begins with a letter or digit, so no caller can take the place of a shadow's record.
_SHADOW_ID = "~shadow"

# A tenth of a second of work: what comes when so much waits is dropped, because a shadow may cost nobody anything.
_MOST_SHADOWS = 512

# Of a deadline: when answering took longer, nobody has time for shadows.
_LATE_SHARE = 0.25

# Shadows let others gather first: a call for many costs little more than a call for one.
_GATHER_SECONDS = 0.02

# A call of a model without a plan takes the interpreter for as long for one row as for 256: then more gather.
_MOST_WITHOUT_PLAN = 256
_GATHER_WITHOUT_PLAN_SECONDS = 0.25

# Rows that a compiled model is asked about before the loop turns to requests again: half a millisecond.
_MOST_IN_A_TURN = 32

_Waiting = tuple[Turn, AuditRecord, Active]


@dataclass(slots=True)
class _Trial:
    active: Active
    split: Split
    # Whether the row that was checked by the champion's contract is a row of this one.
    fits: bool = True


class Trials:
    """Routes requests between champion and canary, and lets a shadow follow; used from the event loop.

    Parameters
    ----------
    name : str
        The registered model.
    ledger : Ledger or RemoteLedger
        Where shadows are recorded.
    secret : bytes
        Shared by all workers of the model; draws the canary's subjects.
    now : callable
        The clock: aware, UTC.
    new_id : callable
        Makes ids that never repeat.
    metrics : Metrics
        Counts shadows.
    busy : callable
        Whether requests wait: then shadows are shed first.
    """

    def __init__(
        self,
        name: str,
        *,
        ledger: AnyLedger,
        secret: bytes,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        metrics: Metrics,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._secret = secret
        self._now = now
        self._new_id = new_id
        self._metrics = metrics
        self._busy = busy
        self._canary: _Trial | None = None
        self._shadow: Active | None = None
        # Who would have answered instead of the canary.
        self._champion: Active | None = None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._gathered: list[_Waiting] = []

    @property
    def canary(self) -> Active | None:
        """The version that answers a share."""
        return self._canary.active if self._canary else None

    @property
    def shadow(self) -> Active | None:
        """The version that answers nobody."""
        return self._shadow

    def serve_canary(self, active: Active | None) -> None:
        """Let a version answer its share from now on.

        Parameters
        ----------
        active : Active or None
            Verified for the stage ``canary``; None ends the trial.
        """
        if active is None:
            self._canary = self._champion = None
            return
        self._begin()
        key = split_key(self._secret, model=self._name, version=active.version)
        self._canary = _Trial(active, Split(share=active.share, key=key))

    def serve_shadow(self, active: Active | None) -> None:
        """Let a version follow what is answered from now on.

        Parameters
        ----------
        active : Active or None
            Verified for the stage ``shadow``; None ends the trial.
        """
        self._shadow = active
        if active is not None:
            self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbkit-shadow", daemon=True)
            self._thread.start()

    def route(self, request: DecisionRequest, /, *, champion: Active, caller: Caller) -> Choice:
        """Choose the version that answers (a `Router`).

        Parameters
        ----------
        request : DecisionRequest
            The subject decides; a request without one, and without an id, is the champion's.
        champion : Active
            In production.
        caller : Caller
            One with the scope ``override`` may name the stage.

        Returns
        -------
        Choice
            The same for the same subject, however the share grows.
        """
        tags = {TRACE: caller.trace} if caller.trace else {}
        trial = self._canary
        self._champion = champion if trial else None
        if trial is None:
            return Choice(active=champion, tags=tags)
        if caller.wants and OVERRIDE_SCOPE in caller.scopes:
            wanted = trial.active if caller.wants == trial.active.stage else champion
            return Choice(active=wanted, tags={**tags, ROUTED_BY: f"override:{caller.name}"})
        entity = request.subject or request.request_id
        if not entity or not trial.split.takes(entity):
            return Choice(active=champion, tags=tags)
        if trial.active.package.contract.inputs != champion.package.contract.inputs:
            # Its callers send the champion's inputs: a version that takes others cannot be tried this way.
            self._metrics.count("canary_skipped", label="cause", value="inputs")
            return Choice(active=champion, tags=tags)
        return Choice(active=trial.active, tags={**tags, ROUTED_BY: f"share:{trial.split.share!r}"})

    def follow(self, turn: Turn, record: AuditRecord) -> None:
        """Hand a decision to the shadow, a canary's to the champion (a `Follower`); never waits.

        Parameters
        ----------
        turn : Turn
            That was answered.
        record : AuditRecord
            Durable.
        """
        shadow = self._champion if record.stage == "canary" else self._shadow
        if shadow is None or record.stage not in ("production", "canary"):
            return
        # A request that took so long says that others wait: whatever is left belongs to them.
        late = time.perf_counter() - turn.started > turn.active.deadline_seconds * _LATE_SHARE
        if late or self._busy() or self._queue.qsize() + len(self._gathered) >= _MOST_SHADOWS:
            self._metrics.count("shed", label="queue", value="shadows")
            return
        if shadow.batcher is not None:
            self._queue.put((turn, record, shadow))
            return
        # A compiled model is asked here: a thread would take the interpreter away for longer than the work lasts.
        if not self._gathered:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._work_off)
        self._gathered.append((turn, record, shadow))

    def _work_off(self) -> None:
        """Do a little of what is gathered, and let requests come in between."""
        batch, self._gathered = self._gathered[:_MOST_IN_A_TURN], self._gathered[_MOST_IN_A_TURN:]
        self._follow_all(batch)
        if self._gathered:
            asyncio.get_running_loop().call_soon(self._work_off)

    def close(self) -> None:
        """Stop; what waits is dropped."""
        self._shadow = self._champion = None
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._let_gather()
            batch = [waiting]
            while len(batch) < _MOST_WITHOUT_PLAN and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    return
                batch.append(following)
            self._follow_all(batch)

    def _follow_all(self, batch: Sequence[_Waiting]) -> None:
        for shadow in {id(active): active for _, _, active in batch}.values():
            if shadow in (self._shadow, self._champion):  # or else its trial has ended
                self._follow([(turn, record) for turn, record, active in batch if active is shadow], shadow)

    def _let_gather(self) -> None:
        """Wait while rows come."""
        ends = time.monotonic() + _GATHER_WITHOUT_PLAN_SECONDS
        while time.monotonic() < ends and self._queue.qsize() < _MOST_WITHOUT_PLAN - 1:
            time.sleep(_GATHER_SECONDS)

    def _follow(self, batch: Sequence[tuple[Turn, AuditRecord]], shadow: Active) -> None:
        try:
            records = self._judged(batch, shadow)
            self._ledger.post_all([(record, None, False) for record in records], tell=_heard, hurry=False)
            self._metrics.spending.add(records)
        except Exception as error:  # noqa: BLE001 - a shadow ends here: whatever it raises is nobody's answer
            fields = {"request_id": batch[0][0].id, "version": shadow.version, "error": type(error).__name__}
            _LOG.error("shadow failed", extra={"fields": fields | {"rows": len(batch)}})

    def _judged(self, batch: Sequence[tuple[Turn, AuditRecord]], shadow: Active) -> list[AuditRecord]:
        started = time.perf_counter()
        checked: list[dict[str, float | str | None] | Exception] = []
        answered, fits = None, False
        for turn, _ in batch:
            if turn.active is not answered:
                answered, fits = turn.active, shadow.rows.same_as(turn.active.rows)
            if fits:
                checked.append(turn.request.row)
                continue
            try:
                # Checked by the champion's contract: the shadow's own may ask for something else, and must be told so.
                checked.append(shadow.rows.check(turn.request.row))
            except Exception as error:  # noqa: BLE001 - a shadow that fails is what a trial is for: it is recorded so
                checked.append(error)
        rows = [row for row in checked if not isinstance(row, Exception)]
        decided = iter(shadow_decisions(shadow.package, rows, judge=shadow.judge) if rows else ())
        told = [row if isinstance(row, Exception) else next(decided) for row in checked]
        # A row has waited for its whole batch.
        latency_us = int((time.perf_counter() - started) * 1e6)
        return [
            self._record(turn, record, shadow, told=each, latency_us=latency_us)
            for (turn, record), each in zip(batch, told, strict=True)
        ]

    def _record(
        self, turn: Turn, record: AuditRecord, shadow: Active, *, told: Decision | Exception, latency_us: int
    ) -> AuditRecord:
        cause = ""
        if isinstance(told, Exception):
            cause = f"error: {type(told).__name__}"
            judgement = shadow.judge.fallback(turn.request.row)
            default = Decision(decision=shadow.package.contract.serve.default.value, score=None, fallback="retry")
            decision = judgement.decision if judgement else default
        else:
            decision = told
        tags = {SHADOW_OF: record.id}
        if record.stage == "canary":
            tags |= {CANARY_DECISION: record.decision, CANARY_VERSION: str(record.version)}
        else:
            tags[CHAMPION_DECISION] = record.decision
        return AuditRecord(
            id=self._new_id(),
            request_id=f"{_SHADOW_ID}:{shadow.version}:{record.id}",
            model=self._name,
            version=shadow.version,
            package_digest=shadow.package_digest,
            contract_digest=shadow.contract_digest,
            evidence_digest=shadow.evidence_digest,
            received_at=record.received_at,
            decided_at=self._now(),
            subject=record.subject,
            # They stand in the record that it shadows: personal data is kept once.
            inputs={},
            score=decision.score,
            decision=decision.decision,
            reasons=decision.reasons,
            route=decision.route,
            fallback=decision.fallback,
            fallback_cause=cause,
            latency_us=latency_us,
            cost_usd="0" if decision.score is None else shadow.price_usd,
            tags=tags,
            kind="shadow",
            stage=shadow.stage,
        )


def _heard(_outcomes: Sequence[tuple[object, object]]) -> None:
    """Let a shadow's record be lost when the ledger cannot take it: nobody was answered."""
