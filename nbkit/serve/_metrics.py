"""Counts that ``/metrics`` shows, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

__all__ = ["Metrics"]

# Upper limits in seconds: around the deadlines that contracts name.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """Counters of one worker; used from its event loop only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        # By bucket; added up only when somebody looks.
        self._slower = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self._answers = 0

    def count(self, name: str, *, label: str, value: str) -> None:
        """Add one.

        Parameters
        ----------
        name : str
            Of the counter, without prefix.
        label, value : str
            The one label it has; few distinct values.
        """
        self._counts[name, label, value] += 1

    def took(self, seconds: float) -> None:
        """Note how long an answer took.

        Parameters
        ----------
        seconds : float
            From the last byte of the request to the first of the answer.
        """
        self._answers += 1
        self._seconds += seconds
        self._slower[bisect_left(_BUCKETS, seconds)] += 1

    def render(self, *, version: int) -> str:
        """Return all counts.

        Parameters
        ----------
        version : int
            That is served now; 0 when none is.

        Returns
        -------
        str
            Text format 0.0.4.
        """
        lines = [
            f'nbkit_{name}_total{{{label}="{value}"}} {count}'
            for (name, label, value), count in sorted(self._counts.items())
        ]
        lines += [
            f'nbkit_decision_seconds_bucket{{le="{limit}"}} {count}'
            for limit, count in zip((*_BUCKETS, "+Inf"), accumulate(self._slower), strict=True)
        ]
        lines += [f"nbkit_decision_seconds_sum {self._seconds:.6f}", f"nbkit_decision_seconds_count {self._answers}"]
        lines += [f"nbkit_served_version {version}"]
        return "\n".join(lines) + "\n"
