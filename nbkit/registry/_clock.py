"""The latest time that a verifier may believe in: what it has seen, and what has really passed since.

A clock that is set back brings expired evidence back to life, so a verifier remembers the time. A clock that jumps
ahead by mistake must not be remembered for ever. The two are told apart by a second clock that nobody sets, the one
that counts the seconds since the machine was started: what it does not explain is a jump, and is remembered only once
it has lasted.
"""

from __future__ import annotations

import functools
import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

__all__ = ["CLOCK_SKEW", "SeenTime", "Tick", "read_tick"]

# What two reads of a clock that is being adjusted may differ by.
CLOCK_SKEW = timedelta(minutes=5)

# A clock that was ahead by mistake and is corrected within this is taken at its word again.
_LASTS = timedelta(hours=1)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Tick:
    """A read of the clock that nobody sets.

    Parameters
    ----------
    boot : str
        Since which start of the machine it counts; two reads of different starts cannot be compared.
    seconds : float
        Since then, also while the machine slept.
    """

    boot: str
    seconds: float

    def since(self, other: Tick) -> timedelta | None:
        """Return what has passed since another read; None where nobody knows."""
        return timedelta(seconds=max(self.seconds - other.seconds, 0.0)) if self.boot == other.boot else None


@functools.cache
def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return uuid.uuid4().hex  # of this process, then: another one cannot compare its reads with these


def read_tick() -> Tick:
    """Read the clock that nobody sets.

    Returns
    -------
    Tick
        Now.
    """
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Tick(_boot(), time.clock_gettime(kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTime:
    """The latest time that was seen and could be explained.

    Parameters
    ----------
    at : datetime
        Aware.
    tick : Tick
        Read with it.
    jumped : (datetime, Tick) or None
        Where the clock jumped to, and when, while that has not lasted long enough.
    """

    at: datetime
    tick: Tick
    jumped: tuple[datetime, Tick] | None = None

    def least(self, tick: Tick) -> datetime:
        """Return the time that it is now at least.

        Parameters
        ----------
        tick : Tick
            Of now.

        Returns
        -------
        datetime
            What was seen, and what has passed since as far as it is known.
        """
        return self.at + (tick.since(self.tick) or timedelta(0))

    def went_back(self, now: datetime, *, tick: Tick) -> bool:
        """Return whether the clock says less than it must.

        Parameters
        ----------
        now : datetime
            Aware.
        tick : Tick
            Read with it.

        Returns
        -------
        bool
            A few minutes less are an adjustment.
        """
        return now < self.least(tick) - CLOCK_SKEW

    def note(self, now: datetime, *, tick: Tick) -> SeenTime:
        """Return what is remembered after another look.

        Parameters
        ----------
        now : datetime
            Aware.
        tick : Tick
            Read with it.

        Returns
        -------
        SeenTime
            Never one that allows less than before.
        """
        least = self.least(tick)
        if now < least:
            return replace(self, jumped=None)
        if now <= least + CLOCK_SKEW:
            return SeenTime(at=now, tick=tick)
        if self.jumped is not None:
            to, when = self.jumped
            passed = tick.since(when)
            if passed is not None and abs(now - to - passed) <= CLOCK_SKEW:
                return SeenTime(at=now, tick=tick) if passed >= _LASTS else self
        return replace(self, jumped=(now, tick))
