"""One timer for the deadlines of all that wait, instead of one each."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

__all__ = ["Alarm", "Bell"]


class Bell:
    """One timer that stands for the earliest of many moments; used from one event loop at a time.

    Parameters
    ----------
    ring : callable
        Called when the moment has come; the bell is then put away, and may be set again.
    """

    __slots__ = ("_ring", "_timer", "at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        # Whoever is due before this sets it; never, while it is put away.
        self.at = math.inf

    def set(self, at: float, *, now: float) -> None:
        """Ring at that moment, and no more at the one before.

        Parameters
        ----------
        at, now : float
            On the same clock, in seconds.
        """
        if self._timer is not None:
            self._timer.cancel()
        self.at = at
        self._timer = asyncio.get_running_loop().call_later(max(at - now, 0.0), self._rings)

    def put_away(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.at = None, math.inf

    def _rings(self) -> None:
        self._timer, self.at = None, math.inf
        self._ring()


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
        self._bell = Bell(self._ring)

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
        now = time.monotonic()
        due = now + max(seconds, 0.0)
        self._due[future] = due
        if due < self._bell.at:
            self._bell.set(due, now=now)
        try:
            return await future
        finally:
            del self._due[future]
            if not self._due:
                self._bell.put_away()

    def _ring(self) -> None:
        now = time.monotonic()
        waiting = [(future, due) for future, due in self._due.items() if not future.done()]
        for future, due in waiting:
            if due <= now:
                future.set_exception(self._late())
        later = [due for _, due in waiting if due > now]
        if later:
            self._bell.set(min(later), now=now)
