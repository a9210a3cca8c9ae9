"""Reasons off the event loop: a thread of their own, inside the deadline or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nbkit.errors import NbkitError
from nbkit.package import Package
from nbkit.records import AuditRecord
from nbkit.serve._decide import REASONS_FOLLOW, Judge, Reasons, Row
from nbkit.serve._record import REASON_TEXT, REASONS_MISSING, SPECIAL
from nbkit.serve._request import DecisionRequest

if TYPE_CHECKING:
    from nbkit.serve._active import Active

__all__ = ["Explainer", "explanation_of", "row_of", "special_of"]


# More than these would wait longer than they are worth: decisions come first, and reasons can follow.
_MOST_WAITING = 8


class Explainer:
    """Explains rows: quick reasons on the event loop, one in a turn of it; others on a thread, unless they are late."""

    def __init__(self) -> None:
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # in whose turn somebody is explained
        self._line: deque[asyncio.Future[None]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nbkit-reasons")

    async def at_once(self, judge: Judge, request: DecisionRequest, *, left: Callable[[], float]) -> Reasons | None:
        """Return a row's reasons, computed here: hundreds of rows that come together must not stop everybody else.

        Parameters
        ----------
        judge : Judge
            Of the version that decided.
        request : DecisionRequest
            Whose row was scored.
        left : callable
            Seconds that are left when its turn has come.

        Returns
        -------
        Reasons or None
            None when they are late.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            turn: asyncio.Future[None] = loop.create_future()
            self._line.append(turn)
            await turn
        else:
            # What a loop that ended has left waits for nobody.
            self._loop, self._line = loop, deque()
            loop.call_soon(self._next)
        return judge.reasons(request.row, request.special) if left() > 0 else None

    def _next(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # or else its caller has gone
                turn.set_result(None)
                turn.get_loop().call_soon(self._next)
                return
        self._loop = None

    async def reasons(self, judge: Judge, request: DecisionRequest, *, seconds: float) -> Reasons | None:
        """Return a row's reasons.

        Parameters
        ----------
        judge : Judge
            Of the version that decided.
        request : DecisionRequest
            Whose row was scored.
        seconds : float
            How long to wait.

        Returns
        -------
        Reasons or None
            None when they are late.
        """
        if self._waiting >= _MOST_WAITING:
            return None
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, judge.reasons, request.row, request.special)
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1


def explanation_of(
    record: AuditRecord, *, load_package: Callable[[str], Package] | None, active: Active | None = None
) -> dict[str, object]:
    """Return the reasons of a recorded decision: as recorded, or computed from the record when they were to follow.

    Parameters
    ----------
    record : AuditRecord
        Durable. Package and inputs stand in it, so whoever asks gets the same reasons, whenever he asks.
    load_package : callable or None
        A package by its digest.
    active : Active, optional
        In production: laid out already, where it is the one that decided.

    Returns
    -------
    dict
        ``state`` is ``recorded``, ``computed`` or ``missing``.
    """
    given = [{"code": code, "text": record.tags.get(REASON_TEXT + code, "")} for code in record.reasons]
    missing = record.tags.get(REASONS_MISSING, "")
    told: dict[str, object] = {"decision_id": record.id, "decision": record.decision, "model_version": record.version}
    if missing == REASONS_FOLLOW and load_package is not None:
        try:
            if active is not None and active.package_digest == record.package_digest:
                judge = active.judge
            else:
                judge = Judge.of(load_package(record.package_digest))
        except NbkitError as error:
            return told | {"state": "missing", "reasons": given, "reasons_missing": f"{type(error).__name__}: {error}"}
        reasons, missing = judge.reasons(row_of(record), special_of(record))
        known = {entry["code"] for entry in given}
        given += [{"code": one.code, "text": one.text} for one in reasons if one.code not in known]
        state = "computed"
    else:
        state = "recorded"
    return told | {"state": state if given or not missing else "missing", "reasons": given, "reasons_missing": missing}


def special_of(record: AuditRecord) -> dict[str, str]:
    """Return which inputs held a sentinel."""
    return {name.removeprefix(SPECIAL): value for name, value in record.tags.items() if name.startswith(SPECIAL)}


def row_of(record: AuditRecord) -> Row:
    """Return the inputs as they were scored: checked already, so they are not checked again."""
    return {name: value for name, value in record.inputs.items() if isinstance(value, float | str | None)}
