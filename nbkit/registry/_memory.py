"""What a verifier remembers over restarts: the highest epoch of each stage, and the latest time that it saw."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from nbkit.errors import EvidenceError
from nbkit.files import write_atomically
from nbkit.registry._clock import SeenTime, Tick, read_tick
from nbkit.registry._strict_json import read_strict

# Format 1 knew nothing of the clock that nobody sets. To raise it: read the older ones too, and keep a file of each in
# tests/unit/registry/formats.
MEMORY_FORMAT = 2
MEMORY_FILE = "seen.json"

# The time is written down no oftener than this: a follower looks every few seconds.
_WRITE_EVERY = timedelta(minutes=1)


class _Tick(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    boot: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, tick: Tick) -> _Tick:
        return cls(boot=tick.boot, seconds=tick.seconds)

    def read(self) -> Tick:
        return Tick(self.boot, self.seconds)


class _Jump(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    to: AwareDatetime
    tick: _Tick


class _Seen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1, 2] = 2
    seen_at: AwareDatetime
    # Of no start of the machine: nothing is known to have passed since.
    tick: _Tick = _Tick()
    jumped: _Jump | None = None
    accepted: Annotated[int, Field(ge=0)] = 0
    epochs: dict[str, dict[str, Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)

    @property
    def time(self) -> SeenTime:
        jumped = None if self.jumped is None else (self.jumped.to, self.jumped.tick.read())
        return SeenTime(at=self.seen_at, tick=self.tick.read(), jumped=jumped)

    def at(self, time: SeenTime, **changes: object) -> _Seen:
        jumped = None if time.jumped is None else _Jump(to=time.jumped[0], tick=_Tick.of(time.jumped[1]))
        clock = {"format": MEMORY_FORMAT, "seen_at": time.at, "tick": _Tick.of(time.tick), "jumped": jumped}
        return self.model_copy(update=clock | changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What stands in a memory about the time.

    Parameters
    ----------
    time : SeenTime
        The latest that was seen.
    accepted : int
        How often somebody has said that an earlier time is the right one.
    """

    time: SeenTime
    accepted: int


class Memory:
    """A file beside a verifier's trust or store; only the verifier writes it.

    Parameters
    ----------
    path : Path
        May not exist yet.
    tick : callable
        Reads the clock that nobody sets.
    """

    def __init__(self, path: Path, *, tick: Callable[[], Tick] = read_tick) -> None:
        self._path = path
        self._tick = tick

    def check_clock(self, now: datetime) -> None:
        """Note the time, and refuse one that lies before what was seen already.

        Expired evidence and revoked keys would come back to life under a clock that was set back. A jump ahead that is
        taken back within an hour is no such thing, and is forgotten.

        Raises
        ------
        EvidenceError
            The clock went back by more than five minutes, or the file cannot be read.
        """
        tick = self._tick()
        with self._locked() as seen:
            if seen is None:
                self._write(_Seen(seen_at=now, tick=_Tick.of(tick)))
                return
            if seen.time.went_back(now, tick=tick):
                # In whole minutes, so that it is the same at every look: who follows it tells it once.
                minutes = round((seen.time.least(tick) - now) / timedelta(minutes=1))
                raise EvidenceError(
                    f"the clock went back: it is {minutes} minutes behind what was seen",
                    next_step="correct the clock; if the later time was the wrong one: nbkit clock accept --reason WHY",
                )
            time = seen.time.note(now, tick=tick)
            if time.jumped != seen.time.jumped or time.at > seen.seen_at + _WRITE_EVERY:
                self._write(seen.at(time))

    def accept_clock(self, now: datetime) -> datetime:
        """Let the time of now be the right one, and return the one that it stands back behind.

        Parameters
        ----------
        now : datetime
            Aware.

        Returns
        -------
        datetime
            What it had to be at least.

        Raises
        ------
        EvidenceError
            The clock did not go back, nothing is remembered, or the file cannot be read.
        """
        tick = self._tick()
        with self._locked() as seen:
            if seen is None or not seen.time.went_back(now, tick=tick):
                raise EvidenceError(f"{self._path}: the clock did not go back: there is nothing to accept")
            self._write(seen.at(SeenTime(at=now, tick=tick), accepted=seen.accepted + 1))
            return seen.time.least(tick)

    def remembered(self) -> Remembered | None:
        """Return what is known about the time; None where nothing was noted.

        Raises
        ------
        EvidenceError
            The file cannot be read.
        """
        seen = self._read()
        return Remembered(time=seen.time, accepted=seen.accepted) if seen is not None else None

    def highest_epoch(self, model: str, *, stage: str) -> int:
        """Return the highest epoch that was accepted for a stage of a model; 0 for none.

        Raises
        ------
        EvidenceError
            The file cannot be read.
        """
        seen = self._read()
        return seen.epochs.get(model, {}).get(stage, 0) if seen is not None else 0

    def accepted(self, model: str, *, stage: str, epoch: int, now: datetime) -> None:
        """Remember an epoch that was accepted; a lower one than before changes nothing."""
        tick = self._tick()
        with self._locked() as seen:
            seen = seen or _Seen(seen_at=now, tick=_Tick.of(tick))
            epochs = {name: dict(stages) for name, stages in seen.epochs.items()}
            if epochs.get(model, {}).get(stage, 0) >= epoch:
                return
            epochs.setdefault(model, {})[stage] = epoch
            self._write(seen.at(seen.time.note(now, tick=tick), epochs=epochs))

    @contextmanager
    def _locked(self) -> Iterator[_Seen | None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()

    def _read(self) -> _Seen | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EvidenceError(f"{self._path}: cannot be read: {error.strerror}") from error
        try:
            return _Seen.model_validate_json(json.dumps(read_strict(data, what=str(self._path))))
        except ValidationError as error:
            raise EvidenceError(f"{self._path}: not what nbkit remembers: {error.errors()[0]['msg']}") from error

    def _write(self, seen: _Seen) -> None:
        write_atomically(self._path, content=seen.model_dump_json().encode(), mode=0o600)
