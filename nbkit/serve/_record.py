"""The record of a decision, and the answer that it stands for."""

from __future__ import annotations

import time
from datetime import datetime

from nbkit.audit import AnyLedger
from nbkit.records import AuditRecord
from nbkit.review import TICKET_DUE, ticket_id
from nbkit.serve._decide import Judgement
from nbkit.serve._turn import Turn

__all__ = ["INPUTS_SEAL", "REASONS_MISSING", "REASON_TEXT", "SPECIAL", "answer_of", "record_of_turn"]

# Tags of an audit record.
INPUTS_SEAL = "inputs_seal"
REASONS_MISSING = "reasons_missing"
REASON_TEXT = "reason."
SPECIAL = "special."


def record_of_turn(
    turn: Turn, judgement: Judgement, *, cause: str, seal: str, ledger: AnyLedger, decided: datetime
) -> AuditRecord:
    """Put together what is kept of a decision.

    Parameters
    ----------
    turn : Turn
        The request.
    judgement : Judgement
        What was decided.
    cause : str
        Why the model did not decide; empty when it did.
    seal : str
        Keyed digest of subject and row; empty where it says nothing that the record does not.
    ledger : Ledger or RemoteLedger
        Whose key makes a pseudonym of the subject.
    decided : datetime
        Aware, UTC.

    Returns
    -------
    AuditRecord
        Ready to be written.
    """
    active, request, decision = turn.active, turn.request, judgement.decision
    tags = {INPUTS_SEAL: seal, **turn.tags} if seal else dict(turn.tags)
    for code, text in judgement.texts.items():
        tags[REASON_TEXT + code] = text
    if active.keeps_inputs:
        # A sentinel is a missing value in the inputs; which one it was decides what is told.
        for name, value in request.special.items():
            tags[SPECIAL + name] = value
    if judgement.reasons_missing:
        tags[REASONS_MISSING] = judgement.reasons_missing
    return AuditRecord(
        id=turn.decision_id,
        request_id=turn.id,
        model=active.name,
        version=active.version,
        package_digest=active.package_digest,
        contract_digest=active.contract_digest,
        evidence_digest=active.evidence_digest,
        received_at=turn.received,
        decided_at=decided,
        subject=ledger.seal(request.subject.encode()) if request.subject else "",
        inputs=request.row if active.keeps_inputs else {},
        score=decision.score,
        decision=decision.decision,
        reasons=decision.reasons,
        route=decision.route,
        fallback=decision.fallback,
        fallback_cause=cause,
        latency_us=int((time.perf_counter() - turn.started) * 1e6),
        cost_usd="0" if decision.score is None else active.price_usd,
        tags=tags,
        stage=active.stage,
    )


def answer_of(record: AuditRecord) -> dict[str, object]:
    """Return the answer that a record stands for; the same today and after a restart.

    Parameters
    ----------
    record : AuditRecord
        Durable.

    Returns
    -------
    dict
        JSON, as docs/reference/service.md describes it.
    """
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
        "ticket": ticket_id(record.id) if TICKET_DUE in texts else "",
    }
