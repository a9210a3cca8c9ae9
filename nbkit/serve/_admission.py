"""Who is turned away because too much waits: by age, not by number.

A short queue that does not move is worse than a long one that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nbkit.serve._batch import OverloadedError
from nbkit.serve._metrics import Metrics

__all__ = ["Admission"]

# Of a deadline: who has waited longer would be late, and is told so while that is still cheap.
_MOST_AGE_SHARE = 0.5


class Admission:
    """Looks at how long a request has waited, and the records before it.

    Parameters
    ----------
    queue_age : callable
        Seconds since the disk last took a record, while some wait.
    metrics : Metrics
        Counts who is turned away.

    Examples
    --------
    >>> admission = Admission(queue_age=lambda: 0.3, metrics=Metrics())
    >>> admission.admit(since=time.perf_counter(), deadline_seconds=1.0)
    >>> admission.admit(since=time.perf_counter(), deadline_seconds=0.1)
    Traceback (most recent call last):
    nbkit.serve._batch.OverloadedError: overloaded: records wait 300 ms, where the deadline leaves 50
    """

    __slots__ = ("_metrics", "_queue_age")

    def __init__(self, *, queue_age: Callable[[], float], metrics: Metrics) -> None:
        self._queue_age = queue_age
        self._metrics = metrics

    def fresh_until(self, *, since: float, deadline_seconds: float) -> float:
        """Return until when `admit` surely lets in everybody who came at a moment or later.

        Parameters
        ----------
        since : float
            On the clock of ``time.perf_counter``.
        deadline_seconds : float
            Of the version in production.

        Returns
        -------
        float
            On the same clock; what has passed already where each has to be asked about.
        """
        limit = deadline_seconds * _MOST_AGE_SHARE
        return min(since, time.perf_counter() - self._queue_age()) + limit

    def admit(self, *, since: float, deadline_seconds: float) -> None:
        """Turn a request away, or do nothing.

        Parameters
        ----------
        since, deadline_seconds : float
            As for `fresh_until`.

        Raises
        ------
        OverloadedError
            It has waited too long already, or the ledger takes nothing.
        """
        limit = deadline_seconds * _MOST_AGE_SHARE
        age, queue_age = time.perf_counter() - since, self._queue_age()
        if age <= limit and queue_age <= limit:
            return
        name, age = ("requests", age) if age > limit else ("records", queue_age)
        self._metrics.count("shed", label="queue", value=name)
        told = f"{name} wait {1000 * age:.0f} ms, where the deadline leaves {1000 * limit:.0f}"
        raise OverloadedError(f"overloaded: {told}")
