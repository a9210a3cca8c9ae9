"""One request id, one decision: while it is being decided, across workers and restarts."""

from __future__ import annotations

import asyncio

import msgspec

from nbkit.audit import AnyLedger
from nbkit.errors import AuditError
from nbkit.records import AuditRecord
from nbkit.serve._look import Lookups
from nbkit.serve._record import INPUTS_SEAL
from nbkit.serve._turn import ConflictError, TryAgainError, Turn

__all__ = ["Once"]

_ENCODER = msgspec.json.Encoder(order="sorted")


class Once:
    """Knows which requests are being decided; used from the event loop.

    Parameters
    ----------
    ledger : Ledger or RemoteLedger
        Whose unique key holds across workers.
    model : str
        The registered name.

    Attributes
    ----------
    lookups : Lookups
        Where the ledger is asked what was decided.
    """

    def __init__(self, ledger: AnyLedger, *, model: str) -> None:
        self._ledger = ledger
        self._model = model
        self._running: dict[str, asyncio.Future[AuditRecord]] = {}
        self.lookups = Lookups("nbkit-lookup")

    def seal(self, turn: Turn) -> str:
        """Return the keyed digest of a request's subject and row, for its record.

        Parameters
        ----------
        turn : Turn
            The request.

        Returns
        -------
        str
            The same for the same request. Empty where the record keeps both and the caller gave no id to repeat it
            under.
        """
        return self._seal(turn) if turn.request.request_id or not turn.active.keeps_inputs else ""

    def _seal(self, turn: Turn) -> str:
        return self._ledger.seal(_ENCODER.encode((turn.request.subject, turn.request.row)))

    def is_running(self, turn: Turn) -> bool:
        """Say whether the same request is being decided now.

        Parameters
        ----------
        turn : Turn
            From `begin`.

        Returns
        -------
        bool
            Then `wait` for it.
        """
        return bool(turn.request.request_id) and turn.id in self._running

    def hold(self, turn: Turn) -> None:
        """Let the same request, if it comes again meanwhile, wait for this one.

        Parameters
        ----------
        turn : Turn
            Whose caller may repeat it.
        """
        if turn.request.request_id:
            self._running[turn.id] = asyncio.get_running_loop().create_future()

    def release(self, turn: Turn, record: AuditRecord | None) -> None:
        """End what `hold` began.

        Parameters
        ----------
        turn : Turn
            That was held.
        record : AuditRecord or None
            What those who wait are given; None where there is no decision.
        """
        if not turn.request.request_id:
            return
        held = self._running.pop(turn.id)
        if held.done():
            return  # `known` found what stands under the id
        if record is None:
            held.cancel()
        else:
            held.set_result(record)

    async def wait(self, turn: Turn) -> AuditRecord:
        """Wait for the decision of the same request.

        Parameters
        ----------
        turn : Turn
            That `is_running`.

        Returns
        -------
        AuditRecord
            Durable.

        Raises
        ------
        TryAgainError
            It was not decided, or not in time.
        ConflictError
            The request id stands for another request.
        """
        running = self._running[turn.id]
        await asyncio.wait({running}, timeout=turn.left())
        if not running.done() or running.cancelled():
            raise TryAgainError(f"request {turn.id!r}: the same request is being decided")
        return self._same(running.result(), turn)

    async def known(self, turn: Turn, error: AuditError | TryAgainError) -> AuditRecord:
        """Return what was decided for this request before.

        Parameters
        ----------
        turn : Turn
            With an id of the caller's.
        error : AuditError or TryAgainError
            Already recorded by an earlier try, or no decision now: then perhaps by an earlier try as well.

        Returns
        -------
        AuditRecord
            Durable.

        Raises
        ------
        AuditError, TryAgainError
            The given one, when nothing is recorded, or the ledger does not say so before the deadline.
        ConflictError
            The request id stands for another request.
        """
        try:
            found = await self.lookups.ask(lambda: self._ledger.find(self._model, turn.id), seconds=turn.left())
        except (AuditError, TryAgainError):
            found = None
        if found is None:
            raise error
        held = self._running.get(turn.id)
        if held is not None and not held.done():
            # Those who wait compare it with their own request: the one that is refused may be the only wrong one.
            held.set_result(found)
        return self._same(found, turn)

    def _same(self, record: AuditRecord, turn: Turn) -> AuditRecord:
        """Return a record if it is of this very request."""
        request, seal = turn.request, record.tags.get(INPUTS_SEAL)
        if seal is not None:
            same = seal == self._seal(turn)
        else:
            # Its caller gave no id, and somebody repeats it under that of the decision.
            subject = self._ledger.seal(request.subject.encode()) if request.subject else ""
            same = record.inputs == request.row and record.subject == subject
        if not same:
            raise ConflictError(f"request id {record.request_id!r}: already stands for another request")
        return record
