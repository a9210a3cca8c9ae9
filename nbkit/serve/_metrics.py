"""Counts that ``/metrics`` shows, in the text format of Prometheus; every one costs a dictionary look-up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from nbkit.serve._spending import Spending

__all__ = ["FAMILIES", "Histogram", "Metrics"]

# Upper limits in seconds: around the deadlines that contracts name.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

# Every family that a worker shows: its type, and what it says. docs/reference/service.md lists the same.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "nbkit_answers_total": ("counter", "Answers of the native protocol by HTTP status."),
    "nbkit_decisions_total": ("counter", "Recorded decisions by outcome."),
    "nbkit_fallbacks_total": ("counter", "Decisions that a fallback gave, by why the model did not."),
    "nbkit_cost_usd_total": ("counter", "What recorded decisions cost, by model, version, stage, kind and route."),
    "nbkit_shed_total": ("counter", "Requests and shadows turned away, by the queue that was too old or too long."),
    "nbkit_shadow_process_ended_total": ("counter", "Processes of versions on trial that ended by themselves."),
    "nbkit_canary_skipped_total": ("counter", "Requests drawn for the canary that the champion answered, by cause."),
    "nbkit_refused_total": ("counter", "Calls refused before anything was read, by code."),
    "nbkit_decision_seconds": ("histogram", "Answers of the native protocol, from the last byte of the request."),
    "nbkit_route_seconds": ("histogram", "Recorded decisions of every protocol, by stage, route and outcome."),
    "nbkit_audit_commit_seconds": ("histogram", "From the first record that waits to the commit that holds it."),
    "nbkit_audit_queue_age_seconds": ("gauge", "How long records have waited for the disk; 0 when none does."),
    "nbkit_breaker_open": ("gauge", "1 while the model is left alone, 0.5 while it is probed, by stage."),
    "nbkit_served_version": ("gauge", "The version in production; 0 when none is. Further models by name."),
    "nbkit_trial_version": ("gauge", "The version on trial, by stage; 0 when none is."),
    "nbkit_supervisor_lost": ("gauge", "1 when the process that brings new versions has ended."),
    "nbkit_canary_share": ("gauge", "Share of the subjects that the canary answers."),
}

_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Histogram:
    """How long something took, counted by bucket; added up only when somebody looks.

    Parameters
    ----------
    slower : list of int
        By bucket.
    seconds : float
        All together.
    """

    slower: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Note one more.

        Parameters
        ----------
        seconds : float
            At least 0.
        """
        self.seconds += seconds
        self.slower[bisect_left(_BUCKETS, seconds)] += 1


class Metrics:
    """Counters of one worker; used from its event loop only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._histograms: dict[tuple[str, _Labels], Histogram] = {}
        self._gauges: list[tuple[str, _Labels, Callable[[], float]]] = []
        self.spending = Spending()
        self.took = self.histogram("decision_seconds").add

    def count(self, name: str, *, label: str, value: str, times: int = 1) -> None:
        """Add one, or more.

        Parameters
        ----------
        name : str
            Of the counter, without prefix.
        label, value : str
            The one label it has; few distinct values.
        times : int
            How many.
        """
        self._counts[name, label, value] += times

    def counter(self, name: str, *, label: str, value: str) -> Callable[[], None]:
        """Return what adds one, to be kept by whoever does so for every request.

        Parameters
        ----------
        name, label, value : str
            As `count` takes them.

        Returns
        -------
        callable
            The same as `count`.
        """
        counts, key = self._counts, (name, label, value)

        def more() -> None:
            counts[key] += 1

        return more

    def histogram(self, name: str, *, labels: _Labels = ()) -> Histogram:
        """Return what times something, to be kept by whoever does so for every request.

        Parameters
        ----------
        name : str
            Of the histogram, without prefix.
        labels : tuple of (str, str)
            Names and values, always in the same order; few distinct values.

        Returns
        -------
        Histogram
            The same for the same name and labels.
        """
        return self._histograms.setdefault((name, labels), Histogram())

    def observe(self, name: str, seconds: float, *, labels: _Labels = ()) -> None:
        """Note how long something took.

        Parameters
        ----------
        name : str
            Of the histogram, without prefix.
        seconds : float
            At least 0.
        labels : tuple of (str, str)
            Names and values, always in the same order; few distinct values.
        """
        self.histogram(name, labels=labels).add(seconds)

    def watch(self, name: str, read: Callable[[], float], *, labels: _Labels = ()) -> None:
        """Show a figure that is read when somebody looks.

        Parameters
        ----------
        name : str
            Of the gauge, without prefix.
        read : callable
            Returns it at once.
        labels : tuple of (str, str)
            Names and values.
        """
        self._gauges.append((name, labels, read))

    def render(self, *, version: int) -> str:
        """Return all counts.

        Parameters
        ----------
        version : int
            In production now; 0 when none is.

        Returns
        -------
        str
            Text format 0.0.4.
        """
        shown: dict[str, list[str]] = {"nbkit_served_version": [f"nbkit_served_version {version}"]}
        for (name, label, value), count in sorted(self._counts.items()):
            shown.setdefault(f"nbkit_{name}_total", []).append(
                f"nbkit_{name}_total{_braces(((label, value),))} {count}"
            )
        for labels, amount in self.spending.amounts():
            shown.setdefault("nbkit_cost_usd_total", []).append(f"nbkit_cost_usd_total{_braces(labels)} {amount:f}")
        for (name, labels), histogram in sorted(self._histograms.items()):
            shown.setdefault(f"nbkit_{name}", []).extend(_lines(f"nbkit_{name}", labels, histogram))
        for name, labels, read in self._gauges:
            shown.setdefault(f"nbkit_{name}", []).append(f"nbkit_{name}{_braces(labels)} {read():g}")
        text = []
        for name, lines in shown.items():
            kind, said = FAMILIES.get(name, ("untyped", ""))
            text += [f"# HELP {name} {said}", f"# TYPE {name} {kind}", *lines]
        return "\n".join(text) + "\n"


def _lines(name: str, labels: _Labels, histogram: Histogram) -> list[str]:
    counts = list(accumulate(histogram.slower))
    lines = [
        f"{name}_bucket{_braces((*labels, ('le', str(limit))))} {count}"
        for limit, count in zip((*_BUCKETS, "+Inf"), counts, strict=True)
    ]
    return [
        *lines,
        f"{name}_sum{_braces(labels)} {histogram.seconds:.6f}",
        f"{name}_count{_braces(labels)} {counts[-1]}",
    ]


def _braces(labels: _Labels) -> str:
    if not labels:
        return ""
    escaped = ((name, _escaped(value)) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
