"""A circuit breaker: a model that fails again and again is left alone, so that it costs nobody the deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

__all__ = ["Breaker"]

# One bad row is the row's fault, five in a row are the model's.
_FAILURES = 5

# First pause, doubled after each probe that fails, up to the longest.
_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed lets everything through; open nothing; half-open one probe, whose outcome decides.

    Parameters
    ----------
    clock : callable
        Seconds that never go back.

    Examples
    --------
    >>> now = [0.0]
    >>> breaker = Breaker(clock=lambda: now[0])
    >>> for _ in range(5):
    ...     breaker.failed()
    >>> breaker.state, breaker.lets_through()
    ('open', False)
    >>> now[0] = 1.0
    >>> breaker.lets_through(), breaker.state, breaker.lets_through()
    (True, 'half-open', False)
    >>> breaker.succeeded()
    >>> breaker.state
    'closed'
    """

    __slots__ = ("_clock", "_failures", "_pause", "_until", "state")

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = _PAUSE_SECONDS
        self._until = 0.0
        self.state: Literal["closed", "open", "half-open"] = "closed"

    def lets_through(self) -> bool:
        """Return whether the model may be asked now; True in the open state begins the one probe.

        Returns
        -------
        bool
            Whoever is let through reports ``succeeded`` or ``failed``.
        """
        if self.state == "closed":
            return True
        # A probe that never reported is given up after another pause.
        if self._clock() < self._until:
            return False
        self.state = "half-open"
        self._until = self._clock() + self._pause
        return True

    def succeeded(self) -> None:
        """Report an answer of the model."""
        if self._failures:
            self._failures, self._pause, self.state = 0, _PAUSE_SECONDS, "closed"

    def failed(self) -> None:
        """Report that the model raised, gave no probability, or was late."""
        self._failures += 1
        if self.state == "half-open":
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        if self.state == "half-open" or (self.state == "closed" and self._failures >= _FAILURES):
            self.state = "open"
            self._until = self._clock() + self._pause
