"""What HTTP says about a decision, or about there being none."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from nbkit.errors import AuditError, ContractViolationError, NbkitError
from nbkit.serve._batch import OverloadedError
from nbkit.serve._request import BadRequestError
from nbkit.serve._turn import ConflictError, TryAgainError

__all__ = ["RETRY_AFTER_SECONDS", "Answer", "refusal_of"]

_LOG = logging.getLogger("nbkit.serve")

# Whatever failed here fails for seconds, not for milliseconds: a full disk, a hanging model, no version yet.
RETRY_AFTER_SECONDS = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


def refusal_of(error: NbkitError, *, request_id: str) -> Answer:
    """Turn an error of the service into the answer of HTTP; counts and logs nothing.

    Parameters
    ----------
    error : NbkitError
        From `Service.read`, `Service.begin` or `Service.run`.
    request_id : str
        Of the request, as far as it is known.

    Returns
    -------
    Answer
        400, 409, 422 or 503.

    Raises
    ------
    NbkitError
        The same, when it is none of theirs: a fault of nbkit.
    """
    match error:
        case ContractViolationError():
            status, code = 422, "contract_violation"
        case BadRequestError():
            status, code = 400, "bad_request"
        case ConflictError():
            status, code = 409, "conflict"
        case OverloadedError():
            status, code = 503, "overloaded"  # not logged one by one: that would cost what shedding saves
        case TryAgainError() | AuditError():
            status, code = 503, "try_again"
            _LOG.warning("no decision", extra={"fields": {"request_id": request_id, "cause": str(error)}})
        case _:
            raise error
    told = {"code": code, "message": str(error), "problems": list(error.problems)}
    retry = RETRY_AFTER_SECONDS if status == 503 else 0
    return Answer(status=status, body={"error": told, "request_id": request_id}, retry_after=retry)
