"""One timer for the deadlines of all that wait, instead of one each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Lets go of those who have waited too long; used from one event loop at a time.

    Parameters
    ----------
    late : callable
        Makes what is raised where a future is awaited.
    """

    def __init__(self, late: Callable[[], Exception]) -> None:
        self._late = late
        self._due: dict[asyncio.Future[float], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    async def wait(self, future: asyncio.Future[float], *, seconds: float) -> float:
        """Wait for a future, but no longer than that.

        Parameters
        ----------
        future : Future
            Of the running loop. Whoever answers it looks first whether it is done.
        seconds : float
            How long.

        Returns
        -------
        float
            Its result; late, what ``late`` made is raised.
        """
        due = time.monotonic() + max(seconds, 0.0)
        self._due[future] = due
        if self._timer is None or due < self._rings_at:
            self._set(due)
        try:
            return await future
        finally:
            del self._due[future]
            if not self._due and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = asyncio.get_running_loop().call_later(max(due - time.monotonic(), 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic()
        waiting = [(future, due) for future, due in self._due.items() if not future.done()]
        for future, due in waiting:
            if due <= now:
                future.set_exception(self._late())
        later = [due for _, due in waiting if due > now]
        if later:
            self._set(min(later))
