"""Answer one request inside its deadline: read, decide or fall back, record, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec

from nbkit.audit import Ledger
from nbkit.errors import AlreadyRecordedError, AuditError, ContractViolationError, NbkitError
from nbkit.records import AuditRecord
from nbkit.serve._active import Active
from nbkit.serve._batch import OverloadedError
from nbkit.serve._decide import Judgement
from nbkit.serve._metrics import Metrics
from nbkit.serve._request import BadRequestError, DecisionRequest, read_request

__all__ = ["Answer", "Service"]

_T = TypeVar("_T")

_LOG = logging.getLogger("nbkit.serve")
_ENCODER = msgspec.json.Encoder(order="sorted")

# Whatever failed here fails for seconds, not for milliseconds: a full disk, a hanging model, no version yet.
RETRY_AFTER_SECONDS = 1

# The rest of the deadline belongs to the fallback and to the disk.
_MODEL_SHARE = 0.8

# Tags of an audit record.
INPUTS_SEAL = "inputs_seal"
REASONS_MISSING = "reasons_missing"
REASON_TEXT = "reason."
SPECIAL = "special."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the caller.

    Parameters
    ----------
    status : int
        Of HTTP.
    body : mapping
        JSON.
    retry_after : int
        Seconds; 0 when there is nothing to wait for.
    """

    status: int
    body: Mapping[str, object]
    retry_after: int = 0


class _TryAgainError(NbkitError):
    """No decision can be given now."""


class _ConflictError(NbkitError):
    """The request id stands for another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One request on its way."""

    request: DecisionRequest
    id: str
    decision_id: str
    active: Active
    started: float

    def left(self, *, share: float = 1.0) -> float:
        """Return the seconds until this share of the deadline has passed."""
        return self.active.deadline_seconds * share - (time.perf_counter() - self.started)


@dataclass(slots=True, kw_only=True)
class Service:
    """Decides for one model; lives on one event loop.

    Parameters
    ----------
    name : str
        The registered model.
    ledger : Ledger
        Where every answer is recorded before it is given.
    now : callable
        The clock: aware, UTC.
    new_id : callable
        Makes ids that never repeat.
    active : Active or None
        The version that decides; replaced as a whole when another is installed.
    """

    name: str
    ledger: Ledger
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    active: Active | None = None
    metrics: Metrics = field(default_factory=Metrics)
    _running: dict[str, asyncio.Future[AuditRecord]] = field(default_factory=dict)

    async def decide(self, body: bytes) -> Answer:
        """Answer one request.

        Parameters
        ----------
        body : bytes
            As `read_request` takes it.

        Returns
        -------
        Answer
            200 with a recorded decision; 400, 409, 422 for a wrong request; 503 when there is no decision to give.
        """
        started = time.perf_counter()
        request_id = ""
        try:
            active = self.active
            if active is None:
                raise _TryAgainError(f"{self.name}: no version that verifies is installed")
            request = read_request(body, rows=active.rows)
            decision_id = self.new_id()
            # A caller without an id gets the decision's own, so that it can be asked for again.
            request_id = request.request_id or decision_id
            turn = _Turn(request=request, id=request_id, decision_id=decision_id, active=active, started=started)
            answer = Answer(status=200, body=answer_of(await self._once(turn)))
        except ContractViolationError as error:
            answer = _refusal(422, "contract_violation", error, request_id)
        except BadRequestError as error:
            answer = _refusal(400, "bad_request", error, request_id)
        except _ConflictError as error:
            answer = _refusal(409, "conflict", error, request_id)
        except (_TryAgainError, AuditError) as error:
            answer = _refusal(503, "try_again", error, request_id, retry_after=RETRY_AFTER_SECONDS)
            _LOG.warning("no decision", extra={"fields": {"request_id": request_id, "cause": str(error)}})
        self.metrics.took(time.perf_counter() - started)
        self.metrics.count("answers", label="status", value=str(answer.status))
        return answer

    async def _once(self, turn: _Turn) -> AuditRecord:
        """Decide a request, or return what was decided when it came before."""
        seal = self.ledger.seal(_ENCODER.encode((turn.request.subject, turn.request.row)))
        if turn.request.request_id:
            running = self._running.get(turn.id)
            if running is not None:
                await asyncio.wait({running}, timeout=turn.left())
                if not running.done() or running.cancelled():
                    raise _TryAgainError(f"request {turn.id!r}: the same request is being decided")
                return _same(running.result(), seal=seal)
            known = self.ledger.find(self.name, turn.id)
            if known is not None:
                return _same(known, seal=seal)
        mine: asyncio.Future[AuditRecord] = asyncio.get_running_loop().create_future()
        self._running[turn.id] = mine
        try:
            record = await self._decide(turn, seal=seal)
            mine.set_result(record)
        except AlreadyRecordedError:
            # An earlier try came too late for its caller, and reached the disk in the meantime.
            known = self.ledger.find(self.name, turn.id)
            if known is None:
                raise
            return _same(known, seal=seal)
        finally:
            del self._running[turn.id]
            mine.cancel()
        return record

    async def _decide(self, turn: _Turn, *, seal: str) -> AuditRecord:
        received = self.now()
        judgement, cause = await self._judge(turn)
        record = self._record(turn, judgement, cause=cause, received=received, seal=seal)
        late = f"request {turn.id!r}: its record missed the deadline; ask again with the same id"
        await _in_time(self.ledger.submit(record), seconds=turn.left(), late=late)
        self.metrics.count("decisions", label="decision", value=record.decision)
        if record.fallback:
            self.metrics.count("fallbacks", label="cause", value=cause.split(":")[0])
        fields = {"request_id": turn.id, "decision_id": record.id, "decision": record.decision}
        _LOG.info("decided", extra={"fields": {**fields, "fallback": record.fallback, "us": record.latency_us}})
        return record

    def _record(self, turn: _Turn, judgement: Judgement, *, cause: str, received: datetime, seal: str) -> AuditRecord:
        active, request, decision = turn.active, turn.request, judgement.decision
        tags = {INPUTS_SEAL: seal, **{f"{REASON_TEXT}{code}": text for code, text in judgement.texts.items()}}
        if active.keeps_inputs:
            # A sentinel is a missing value in the inputs; which one it was decides what is told.
            tags |= {f"{SPECIAL}{name}": value for name, value in request.special.items()}
        if judgement.reasons_missing:
            tags[REASONS_MISSING] = judgement.reasons_missing
        return AuditRecord(
            id=turn.decision_id,
            request_id=turn.id,
            model=self.name,
            version=active.version,
            package_digest=active.package.digest,
            contract_digest=active.contract_digest,
            evidence_digest=active.evidence_digest,
            received_at=received,
            decided_at=self.now(),
            subject=self.ledger.seal(request.subject.encode()) if request.subject else "",
            inputs=request.row if active.keeps_inputs else {},
            score=decision.score,
            decision=decision.decision,
            reasons=decision.reasons,
            route=decision.route,
            fallback=decision.fallback,
            fallback_cause=cause,
            latency_us=int((time.perf_counter() - turn.started) * 1e6),
            tags=tags,
        )

    async def _judge(self, turn: _Turn) -> tuple[Judgement, str]:
        """Return a decision, and why the model did not give it (empty when it did)."""
        judge, row, batcher = turn.active.judge, turn.request.row, turn.active.batcher
        try:
            early = judge.before(row)
            if early is not None:
                return early, ""
            if batcher is None:
                score = turn.active.package.score(row)
            else:
                score = await _in_time(batcher.submit(row), seconds=turn.left(share=_MODEL_SHARE), late="deadline")
            return judge.after(row, score, special=turn.request.special), ""
        except _TryAgainError:
            cause = "deadline"
        except OverloadedError:
            cause = "overloaded"
        except Exception as error:  # noqa: BLE001 - a request ends here: the fallback answers, and its cause is recorded
            cause = f"error: {type(error).__name__}"
            # The message may quote an input; the place of the failure never does.
            fields = {"request_id": turn.id, "cause": cause, "at": _place(error)}
            _LOG.error("the model failed", extra={"fields": fields})
        judgement = judge.fallback(row)
        if judgement is None:
            raise _TryAgainError(f"request {turn.id!r}: the model did not answer ({cause})")
        return judgement, cause


def answer_of(record: AuditRecord) -> dict[str, object]:
    """Return the answer that a record stands for; the same today and after a restart."""
    texts = record.tags
    return {
        "decision_id": record.id,
        "request_id": record.request_id,
        "model": record.model,
        "model_version": record.version,
        "decision": record.decision,
        "score": record.score,
        "reasons": [{"code": code, "text": texts.get(REASON_TEXT + code, "")} for code in record.reasons],
        "reasons_missing": texts.get(REASONS_MISSING, ""),
        "route": record.route,
        "fallback": record.fallback,
        "fallback_cause": record.fallback_cause,
    }


def _same(record: AuditRecord, *, seal: str) -> AuditRecord:
    if record.tags.get(INPUTS_SEAL) != seal:
        raise _ConflictError(f"request id {record.request_id!r}: already stands for another request")
    return record


async def _in_time(future: Future[_T], *, seconds: float, late: str) -> _T:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise _TryAgainError(late) from None


def _refusal(status: int, code: str, error: NbkitError, request_id: str, *, retry_after: int = 0) -> Answer:
    told = {"code": code, "message": str(error), "problems": list(error.problems)}
    return Answer(status=status, body={"error": told, "request_id": request_id}, retry_after=retry_after)


def _place(error: BaseException) -> str:
    """File and line where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
