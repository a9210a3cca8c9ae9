"""Many rows in one call: each is validated, limited, decided and recorded like a request of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from nbkit.errors import ContractViolationError, NbkitError
from nbkit.records import AuditRecord
from nbkit.serve._answer import refusal_of
from nbkit.serve._http import Call
from nbkit.serve._request import BadRequestError, DecisionRequest, check_ids
from nbkit.serve._service import Service

__all__ = ["BATCH_LIMIT", "MOST_ROWS", "batch_id", "decide_rows", "read_rows"]

# Rows of one call: more would hold up everybody else's, and the last would wait for all of them.
MOST_ROWS = 256

# Bytes of such a call.
BATCH_LIMIT = 1024 * 1024

_MOST_PROBLEMS = 50


def batch_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the id that a caller gave a whole call in the header ``x-request-id``.

    Parameters
    ----------
    headers : mapping
        Of the call.

    Returns
    -------
    str
        Empty when there is none; its rows are ``ID:0``, ``ID:1`` and so on.
    """
    return headers.get(b"x-request-id", b"").decode("ascii", "replace")


def read_rows(rows: Sequence[Mapping[str, object]], *, service: Service, base: str) -> list[DecisionRequest]:
    """Validate every row.

    Parameters
    ----------
    rows : sequence of mapping
        The contract's inputs by name; a column of the contract's ``entity`` says whom a row is about.
    service : Service
        Of the model.
    base : str
        Id of the call; empty when it has none.

    Returns
    -------
    list of DecisionRequest
        One a row.

    Raises
    ------
    BadRequestError
        No rows, too many, or an id or subject that cannot be used.
    ContractViolationError
        Rows break the contract: all problems at once, each with its row.
    TryAgainError
        No version is installed.
    """
    champion = service.champion()
    if not 0 < len(rows) <= MOST_ROWS:
        raise BadRequestError(f"rows: expected 1..{MOST_ROWS}, got {len(rows)}")
    entity = champion.package.contract.entity
    requests: list[DecisionRequest] = []
    problems: list[str] = []
    for number, given in enumerate(rows):
        inputs = {name: value for name, value in given.items() if name != entity}
        named = given.get(entity)
        subject = "" if named is None else str(named)
        request_id = f"{base}:{number}" if base else ""
        check_ids(request_id or None, subject or None)
        try:
            row = champion.rows.check(inputs)
        except ContractViolationError as error:
            problems += [f"row {number}: {problem}" for problem in error.problems]
            continue
        special = champion.rows.special(inputs)
        requests.append(DecisionRequest(request_id=request_id, subject=subject, row=row, special=special))
    if problems:
        more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise ContractViolationError("rows break the contract", problems=[*problems[:_MOST_PROBLEMS], *more])
    return requests


async def decide_rows(requests: Sequence[DecisionRequest], *, service: Service, call: Call) -> list[AuditRecord]:
    """Decide and record every row.

    Parameters
    ----------
    requests : sequence of DecisionRequest
        As `read_rows` returns them.
    service : Service
        Of the model.
    call : Call
        Whose caller and time of arrival count for each row.

    Returns
    -------
    list of AuditRecord
        Durable, in the order of the requests.

    Raises
    ------
    NbkitError
        A row could not be decided now. Others may have been: with an id, the same call again gives the same decisions.
    """
    turns = [service.begin(request, started=call.arrived, caller=call.caller) for request in requests]
    records = await asyncio.gather(*(service.run(turn) for turn in turns), return_exceptions=True)
    failed = next((each for each in records if isinstance(each, BaseException)), None)
    service.metrics.took(time.perf_counter() - call.arrived)
    if failed is not None:
        raise failed
    return [each for each in records if isinstance(each, AuditRecord)]


def problem_of(error: NbkitError, *, service: Service, request_id: str = "") -> tuple[int, str, str, int]:
    """Return what an error of the service is in HTTP.

    Parameters
    ----------
    error : NbkitError
        From `read_rows` or `decide_rows`.
    service : Service
        Counts it.
    request_id : str
        Of the call.

    Returns
    -------
    tuple
        Status, code, message with all problems, and seconds after which to ask again (0 for never).
    """
    answer = refusal_of(error, request_id=request_id)
    service.metrics.count("answers", label="status", value=str(answer.status))
    told = answer.body["error"]
    code = str(told["code"]) if isinstance(told, Mapping) else ""
    return answer.status, code, str(error), answer.retry_after
