"""What a verifier remembers over restarts: the highest epoch of each stage, and the latest time that it saw."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from nbkit.errors import EvidenceError
from nbkit.files import write_atomically
from nbkit.registry._strict_json import read_strict

MEMORY_FORMAT = 1
MEMORY_FILE = "seen.json"

# What two reads of a clock that is being adjusted may differ by.
_CLOCK_SKEW = timedelta(minutes=5)
# The time is written down no oftener than this: a follower looks every few seconds.
_WRITE_EVERY = timedelta(minutes=1)


class _Seen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    seen_at: AwareDatetime
    epochs: dict[str, dict[str, Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)


class Memory:
    """A file beside a verifier's trust or store; only the verifier writes it.

    Parameters
    ----------
    path : Path
        May not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check_clock(self, now: datetime) -> None:
        """Note the time, and refuse one that lies before what was seen already.

        Expired evidence and revoked keys would come back to life under a clock that was set back.

        Raises
        ------
        EvidenceError
            The clock went back by more than five minutes, or the file cannot be read.
        """
        with self._locked() as seen:
            if seen is not None and now < seen.seen_at - _CLOCK_SKEW:
                raise EvidenceError(
                    f"the clock went back: {now.isoformat()}, but {seen.seen_at.isoformat()} was seen before",
                    next_step=f"correct the clock; if the later time was the wrong one, remove {self._path}",
                )
            if seen is None:
                self._write(_Seen(seen_at=now))
            elif now > seen.seen_at + _WRITE_EVERY:
                self._write(seen.model_copy(update={"seen_at": now}))

    def latest(self) -> datetime | None:
        """Return the latest time that was noted; None where nothing was.

        Raises
        ------
        EvidenceError
            The file cannot be read.
        """
        seen = self._read()
        return seen.seen_at if seen is not None else None

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
        with self._locked() as seen:
            epochs = {name: dict(stages) for name, stages in seen.epochs.items()} if seen is not None else {}
            if epochs.get(model, {}).get(stage, 0) >= epoch:
                return
            epochs.setdefault(model, {})[stage] = epoch
            self._write(_Seen(seen_at=max(now, seen.seen_at) if seen is not None else now, epochs=epochs))

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
