"""What this machine's verifiers remember about the time, and a person who says that the present one is right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbkit.errors import UsageError
from nbkit.lifecycle._view import Result, Table, View
from nbkit.registry import MEMORY_FILE, Memory, read_tick
from nbkit.serve import PackageStore
from nbkit.settings import Settings

_SAID = "clock accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMemory:
    """One verifier's memory of the time."""

    path: Path
    least: datetime
    went_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState(Result):
    """The time, and what it must be at least."""

    at: datetime
    memories: tuple[ClockMemory, ...]
    accepted_by: str = ""

    def view(self) -> View:
        """Return what a person is shown."""
        behind = [memory for memory in self.memories if memory.went_back]
        rows = tuple(
            (str(m.path), m.least.isoformat(timespec="seconds"), "went back" if m.went_back else "fits")
            for m in self.memories
        )
        told = "went back: nothing is verified by it" if behind else "fits what was seen"
        headline = f"the clock {told}"
        if self.accepted_by:
            headline = f"the clock of now is right, says {self.accepted_by}; workers take it up within a second"
        return View(
            headline=headline,
            facts=[("now", self.at.isoformat(timespec="seconds"))],
            tables=[Table(columns=("memory", "at least", "the clock"), rows=rows)] if rows else [],
            next_step="correct the clock, or: nbkit clock accept --reason WHY" if behind else "",
        )


def show_clock(*, settings: Settings, now: datetime) -> ClockState:
    """Show whether the clock fits what this machine's verifiers have seen.

    Raises
    ------
    EvidenceError
        A memory cannot be read.
    """
    tick, found = read_tick(), []
    for path in _paths(settings):
        remembered = Memory(path).remembered()
        if remembered is not None:
            time = remembered.time
            found.append(ClockMemory(path=path, least=time.least(tick), went_back=time.went_back(now, tick=tick)))
    return ClockState(at=now, memories=tuple(found))


def accept_clock(*, who: str, reason: str, settings: Settings, now: datetime) -> ClockState:
    """Let the clock of now be the right one where a later time was seen by mistake; noted in ``alerts.jsonl``.

    Raises
    ------
    UsageError
        The clock did not go back anywhere, or nobody says who and why.
    EvidenceError
        A memory cannot be read.
    """
    if not who.strip() or not reason.strip():
        raise UsageError("clock accept: expected who says so, and why", next_step="export NBKIT_IDENTITY=YOU")
    behind = [memory for memory in show_clock(settings=settings, now=now).memories if memory.went_back]
    if not behind:
        raise UsageError("the clock did not go back: there is nothing to accept", next_step="nbkit clock show")
    store = PackageStore(settings.store)
    for memory in behind:
        # Noted before it counts: what is forgotten without a trace could bring expired evidence back.
        told = f"{_SAID} by {who}: {now.isoformat()} instead of {memory.least.isoformat()} at least: {reason}"
        store.alert("*", version=0, reason=f"{memory.path}: {told}", now=now)
        Memory(memory.path).accept_clock(now)
    state = show_clock(settings=settings, now=now)
    return ClockState(at=now, memories=state.memories, accepted_by=who)


def _paths(settings: Settings) -> tuple[Path, ...]:
    return settings.store / MEMORY_FILE, settings.home / MEMORY_FILE
