"""Answer one request inside its deadline: read, route, decide or fall back, record, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from nbkit.audit import AnyLedger
from nbkit.errors import AuditError, NbkitError
from nbkit.package import Package
from nbkit.records import AuditRecord
from nbkit.serve._active import Active
from nbkit.serve._admission import Admission
from nbkit.serve._answer import Answer, refusal_of
from nbkit.serve._decide import Judgement, Weighed
from nbkit.serve._explain import Explainer, explanation_of
from nbkit.serve._judge import judge_turn
from nbkit.serve._metrics import Metrics
from nbkit.serve._once import Once
from nbkit.serve._record import answer_of, record_of_turn
from nbkit.serve._recorder import Heard, Recorder, resolving
from nbkit.serve._request import DecisionRequest, read_request
from nbkit.serve._turn import ANYONE, Caller, Choice, Follower, Marker, Router, TryAgainError, Turn

__all__ = ["Service"]

_LOG = logging.getLogger("nbkit.serve")


def champion_only(_: DecisionRequest, *, champion: Active, caller: Caller) -> Choice:  # noqa: ARG001 - a Router
    """Route every request to the version in production."""
    return Choice(active=champion)


@dataclass(slots=True, kw_only=True)
class Service:
    """Decides for one model; lives on one event loop.

    Parameters
    ----------
    name : str
        The registered model.
    ledger : Ledger or RemoteLedger
        Where every answer is recorded before it is given.
    now : callable
        The clock: aware, UTC.
    new_id : callable
        Makes ids that never repeat.
    active : Active or None
        The version in production; replaced as a whole when another is installed.
    metrics : Metrics
        Counts.
    router : Router
        Chooses the version that answers.
    markers : tuple of Marker
        Add tags to a decision before it is recorded.
    followers : tuple of Follower
        Hear of each decision once its record is durable.
    load_package : callable or None
        Finds the package of a past decision by its digest, to explain it.
    draining : bool
        The process is stopping: not ready, but what comes is still answered.
    explainer : Explainer
        Gives reasons off the event loop.
    once : Once
        Lets one request id stand for one decision.
    admission : Admission
        Turns away by age.
    """

    name: str
    ledger: AnyLedger
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    active: Active | None = None
    metrics: Metrics = field(default_factory=Metrics)
    router: Router = champion_only
    markers: tuple[Marker, ...] = ()
    followers: tuple[Follower, ...] = ()
    load_package: Callable[[str], Package] | None = None
    draining: bool = False
    explainer: Explainer = field(default_factory=Explainer)
    once: Once = field(init=False)
    admission: Admission = field(init=False)
    _recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.once = Once(self.ledger, model=self.name)
        self._recorder = Recorder(self.ledger, metrics=self.metrics)
        self.admission = Admission(queue_age=lambda: self.queue_age, metrics=self.metrics)

    async def decide(self, body: bytes, *, caller: Caller = ANYONE, arrived: float | None = None) -> Answer:
        """Answer one request of the native protocol.

        Parameters
        ----------
        body : bytes
            As `read_request` takes it.
        caller : Caller
            Who asks.
        arrived : float, optional
            When the last byte was there, on the clock of ``time.perf_counter``; now by default.

        Returns
        -------
        Answer
            200 with a recorded decision; 400, 409, 422 for a wrong request; 503 when there is no decision to give.
        """
        started = time.perf_counter() if arrived is None else arrived
        request_id = ""
        try:
            self.admit(started=started)
            turn = self.begin(self.read(body), started=started, caller=caller)
            request_id = turn.id
            answer = Answer(status=200, body=answer_of(await self.run(turn)))
        except NbkitError as error:
            answer = refusal_of(error, request_id=request_id)
        self.metrics.took(time.perf_counter() - started)
        self.metrics.count("answers", label="status", value=str(answer.status))
        return answer

    def read(self, body: bytes) -> DecisionRequest:
        """Decode and validate a request of the native protocol.

        Parameters
        ----------
        body : bytes
            As `read_request` takes it.

        Returns
        -------
        DecisionRequest
            Fits the contract of the version in production.

        Raises
        ------
        NbkitError
            It is wrong, or no version is installed that it could be compared with.
        """
        return read_request(body, rows=self.champion().rows)

    def champion(self) -> Active:
        """Return the version in production.

        Returns
        -------
        Active
            Verified.

        Raises
        ------
        TryAgainError
            None is installed.
        """
        if self.active is None:
            raise TryAgainError(f"{self.name}: no version that verifies is installed")
        return self.active

    def begin(self, request: DecisionRequest, *, started: float, caller: Caller = ANYONE) -> Turn:
        """Route a request; every protocol comes through here.

        Parameters
        ----------
        request : DecisionRequest
            Validated.
        started : float
            When its last byte was there.
        caller : Caller
            Who asks.

        Returns
        -------
        Turn
            For `run`.

        Raises
        ------
        TryAgainError
            None is installed.
        """
        champion = self.champion()
        choice = self.router(request, champion=champion, caller=caller)
        decision_id = self.new_id()
        return Turn(
            request=request,
            # A caller without an id gets the decision's own, so that it can be asked for again.
            id=request.request_id or decision_id,
            decision_id=decision_id,
            active=choice.active,
            started=started,
            received=self.now(),
            caller=caller,
            tags=dict(choice.tags),
        )

    async def run(self, turn: Turn, *, weighed: Weighed | None = None) -> AuditRecord:
        """Decide and record, or return what was decided when the same request came before.

        Parameters
        ----------
        turn : Turn
            From `begin`.
        weighed : Weighed, optional
            Where it has been scored already.

        Returns
        -------
        AuditRecord
            Durable.

        Raises
        ------
        TryAgainError
            No decision now.
        ConflictError
            The request id stands for another request.
        AuditError
            The record cannot be written.
        """
        if not turn.request.request_id:
            return await self._decide(turn, weighed=weighed)
        if self.once.is_running(turn):
            return await self.once.wait(turn)
        self.once.hold(turn)
        record: AuditRecord | None = None
        try:
            record = await self._decide_once(turn, weighed=weighed)
        finally:
            self.once.release(turn, record)
        return record

    async def _decide_once(self, turn: Turn, *, weighed: Weighed | None) -> AuditRecord:
        """Decide, and let the ledger's unique key find what was decided before: a look-up would cost everybody."""
        try:
            return await self._decide(turn, weighed=weighed)
        except (TryAgainError, AuditError) as error:
            return await self.once.known(turn, error)

    async def _decide(self, turn: Turn, *, weighed: Weighed | None) -> AuditRecord:
        judgement, cause = await judge_turn(turn, explainer=self.explainer, weighed=weighed)
        record = self.record_of(turn, judgement, cause=cause)
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.post(turn, record, heard=resolving(heard))
        await heard
        self.recorded(turn, record)
        return record

    def record_of(self, turn: Turn, judgement: Judgement, *, cause: str = "") -> AuditRecord:
        """Put together what is kept of a decision.

        Parameters
        ----------
        turn : Turn
            From `begin`.
        judgement : Judgement
            What was decided.
        cause : str
            Why the model did not decide; empty when it did.

        Returns
        -------
        AuditRecord
            For `post`.
        """
        for mark in self.markers:
            turn.tags.update(mark(turn, judgement))
        return record_of_turn(
            turn, judgement, cause=cause, seal=self.once.seal(turn), ledger=self.ledger, decided=self.now()
        )

    def post(self, turn: Turn, record: AuditRecord, *, heard: Heard) -> None:
        """Hand over a record; what was decided in the same turn of the loop goes with it.

        Parameters
        ----------
        turn : Turn
            From `begin`.
        record : AuditRecord
            Of it.
        heard : callable
            Called on the loop when the record is durable, or with why it is not, or not in time.
        """
        self._recorder.post(record, heard=heard, seconds=turn.left(), may_wait=turn.active.may_wait)

    def recorded(self, turn: Turn, record: AuditRecord) -> None:
        """Count a decision whose record is durable, and let the followers hear of it.

        Parameters
        ----------
        turn : Turn
            From `begin`.
        record : AuditRecord
            Of it.
        """
        self.metrics.count("decisions", label="decision", value=record.decision)
        if record.fallback:
            self.metrics.count("fallbacks", label="cause", value=record.fallback_cause.split(":")[0])
        for follow in self.followers:
            follow(turn, record)
        if _LOG.isEnabledFor(logging.DEBUG):
            fields = {"request_id": turn.id, "decision_id": record.id, "decision": record.decision}
            fields |= {"trace": turn.caller.trace} if turn.caller.trace else {}
            _LOG.debug("decided", extra={"fields": {**fields, "fallback": record.fallback, "us": record.latency_us}})

    def admit(self, *, started: float) -> None:
        """Turn away who has waited too long; every protocol asks before it reads a body, so it costs next to nothing.

        Parameters
        ----------
        started : float
            When the request's last byte was there.

        Raises
        ------
        OverloadedError
            It has waited too long already, or the ledger takes nothing.
        TryAgainError
            No version is installed.
        """
        self.admission.admit(since=started, deadline_seconds=self.champion().deadline_seconds)

    @property
    def queue_age(self) -> float:
        """Seconds since the disk last took a record, while some wait; 0 when none does."""
        return self._recorder.queue_age

    def not_ready(self) -> str:
        """Say why requests should go elsewhere; liveness is another question.

        Returns
        -------
        str
            Empty when they may come.
        """
        if self.draining:
            return "stopping"
        if self.active is None:
            return "no version that verifies is installed"
        if self._recorder.queue_age > max(self.active.deadline_seconds, 1.0):
            return "the ledger does not answer"
        return ""

    def stop(self) -> None:
        """Be not ready from now on; what comes is still answered."""
        self.draining = True

    def find(self, request_id: str) -> AuditRecord | None:
        """Return what was decided for a request; blocks, so not for the event loop.

        Parameters
        ----------
        request_id : str
            The caller's, or the decision's own where the caller gave none.

        Returns
        -------
        AuditRecord or None
            None when nothing is recorded.

        Raises
        ------
        AuditError
            The ledger cannot be read.
        """
        return self.ledger.find(self.name, request_id)

    def explanation(self, decision_id: str) -> dict[str, object] | None:
        """Return why a past decision was taken; blocks, so not for the event loop.

        Parameters
        ----------
        decision_id : str
            Of the record.

        Returns
        -------
        dict or None
            None when there is no such decision.

        Raises
        ------
        AuditError
            The ledger cannot be read.
        """
        record = self.ledger.read(decision_id)
        return None if record is None else explanation_of(record, load_package=self.load_package, active=self.active)
