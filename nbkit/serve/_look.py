"""Questions to the ledger that may take long, on a thread of their own: whoever asks waits only so long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nbkit.serve._turn import TryAgainError

__all__ = ["Lookups"]

_Found = TypeVar("_Found")

# A ledger that does not answer holds up the thread; who comes behind so many would only wait in vain.
_MOST_WAITING = 64


class Lookups:
    """One thread that asks; what is not begun in time is never asked.

    Versions, keys and evidence are followed on threads of the event loop: a ledger that hangs must not take those.

    Parameters
    ----------
    name : str
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def ask(self, question: Callable[[], _Found], *, seconds: float) -> _Found:
        """Return the answer to a question.

        Parameters
        ----------
        question : callable
            Blocks.
        seconds : float
            How long to wait.

        Returns
        -------
        object
            What it returns; what it raises is raised here.

        Raises
        ------
        TryAgainError
            There is no answer in time.
        """
        if seconds <= 0 or self._waiting >= _MOST_WAITING:
            raise TryAgainError("the ledger does not answer in time")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, question)
        future.add_done_callback(self._answered)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            late = future.cancel()
        if late:
            raise TryAgainError("the ledger does not answer in time")
        return future.result()

    def _answered(self, _: object) -> None:
        self._waiting -= 1
