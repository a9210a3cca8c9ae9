"""Follow the store: swap versions without a restart, and stop answering with one that is no longer trusted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.errors import EvidenceError, NbkitError, PackageError
from nbkit.registry import MEMORY_FILE, Memory, SeenTime, Tick, TrustStore, read_tick
from nbkit.serve._active import Active, load_active
from nbkit.serve._store import PRODUCTION, PackageStore

__all__ = ["Watcher"]

_LOG = logging.getLogger("nbkit.serve")

_POLL_SECONDS = 0.5

# Keys and evidence also end by the clock, without any file changing; what was refused may hold when it is right again.
_VERIFY_AGAIN = timedelta(seconds=10)

_Stamp = tuple[int, int, int] | None


@dataclass(slots=True, kw_only=True)
class Watcher:
    """Keeps the active version what store, trust file and clock say.

    Parameters
    ----------
    name : str
        The registered model.
    store : PackageStore
        Where versions arrive.
    trust_file : Path
        Whose keys count; read again whenever it changes.
    now : callable
        The clock: aware, UTC.
    serve : callable
        Told the version to answer with, or None.
    stage : str
        Whose version it keeps; nothing being on trial is no fault, nothing being in production is.
    tick : callable
        The clock that nobody sets.
    """

    name: str
    store: PackageStore
    trust_file: Path
    now: Callable[[], datetime]
    serve: Callable[[Active | None], None]
    stage: str = PRODUCTION
    tick: Callable[[], Tick] = read_tick
    active: Active | None = None
    _trust: TrustStore = field(default_factory=TrustStore)
    _seen: tuple[_Stamp, _Stamp] | None = None
    _verified_at: datetime | None = None
    _refused: bool = False
    _told: tuple[int, str] | None = None
    _clock: SeenTime | None = None
    _accepted: int = 0
    _clock_told: bool = False

    async def follow(self) -> None:
        """Look every half second until cancelled; files are read and verified on another thread."""
        prepared: Active | None = None
        while True:
            if self.active is not None and self.active is not prepared:
                # Not before the server is up: it would take longer, and every version that is loaded too.
                prepared = self.active
                prepared.prepare()
            await asyncio.sleep(_POLL_SECONDS)
            self._serve(await asyncio.to_thread(self.check))

    def begin(self) -> None:
        """Load what is installed now, before the first request."""
        self._serve(self.check())

    def check(self) -> Active | None:
        """Return the version to answer with, after verifying whatever changed since the last time.

        Returns
        -------
        Active or None
            The last good one where an update is refused; None where none is trusted any more.
        """
        now = self._time()
        seen = (_stamp(self.store.pointer(self.name, stage=self.stage)), _stamp(self.trust_file))
        active, changed = self.active, seen != self._seen
        if not changed and self._verified_at is not None and abs(now - self._verified_at) < _VERIFY_AGAIN:
            return active
        if self._seen is None or seen[1] != self._seen[1]:
            self._read_trust()
        self._seen, self._verified_at = seen, now
        if seen[0] is None and self.stage != PRODUCTION:
            return None
        if changed or active is None or self._refused:
            loaded = self._load(active, now=now)
            self._refused = loaded is None
            if loaded is not None:
                return loaded
        return active if active is not None and self._still_holds(active, now=now) else None

    def _time(self) -> datetime:
        """Return the time, never less than it must be: whatever has ended stays ended.

        A jump ahead that is taken back within an hour is forgotten, and so is one of which somebody has said since that
        the earlier time is right.
        """
        now, tick = self.now(), self.tick()
        if self._clock is None:
            self._clock = self._remembered() or SeenTime(at=now, tick=tick)
        if self._clock.went_back(now, tick=tick):
            accepted = self._accepted
            remembered = self._remembered()
            if remembered is not None and self._accepted > accepted:
                self._clock = remembered
        least = self._clock.least(tick)
        if not self._clock.went_back(now, tick=tick):
            self._clock, self._clock_told = self._clock.note(now, tick=tick), False
        elif not self._clock_told:
            self._clock_told = True
            self._alert(
                self.active.version if self.active else 0,
                f"the clock went back: {now.isoformat()}, but it is {least.isoformat()} at least; evidence and keys "
                "are judged by the later time. Correct the clock; if the later time was the wrong one: "
                "nbkit clock accept --reason WHY",
            )
        return max(now, least)

    def _remembered(self) -> SeenTime | None:
        """Return the latest time that whoever fills the store has seen."""
        try:
            found = Memory(self.store.root / MEMORY_FILE).remembered()
        except EvidenceError as error:
            self._alert(0, str(error))
            return None
        if found is None:
            return None
        self._accepted = found.accepted
        return found.time

    def _serve(self, active: Active | None) -> None:
        if active is self.active:
            return
        before, self.active = self.active, active
        self._told = None
        self.serve(active)
        if before is not None and before.batcher is not None:
            before.batcher.close()
        fields = {"model": self.name, "version": active.version if active else None, "stage": self.stage}
        _LOG.info("serving", extra={"fields": fields})

    def _read_trust(self) -> None:
        try:
            self._trust = TrustStore.load(self.trust_file)
        except EvidenceError as error:
            # What the last trust file that could be read says goes on; the first must be readable.
            self._alert(0, str(error))

    def _load(self, active: Active | None, *, now: datetime) -> Active | None:
        """Load what the store points at; None where it is refused."""
        version = 0
        try:
            installed = self.store.current(self.name, stage=self.stage)
            if installed is None:
                raise PackageError(f"{self.name}: nothing is installed", next_step=f"nbkit serve {self.name}")
            version = installed.version
            return load_active(
                self.name,
                installed=installed,
                store=self.store,
                trust=self._trust,
                now=now,
                minimum_epoch=active.epoch if active else 0,
            )
        except NbkitError as error:
            self._alert(version, f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - an update ends here: whatever a model raises, the last good one goes on
            _LOG.exception("update failed", extra={"fields": {"model": self.name, "version": version}})
            self._alert(version, f"{type(error).__name__}: {error}")
        return None

    def _still_holds(self, active: Active, *, now: datetime) -> bool:
        try:
            active.still_holds(name=self.name, trust=self._trust, now=now)
        except EvidenceError as error:
            self._alert(active.version, f"not served any more: {error}")
            return False
        return True

    def _alert(self, version: int, reason: str) -> None:
        if self._told == (version, reason):
            return  # looked at again, and still so
        self._told = version, reason
        _LOG.warning("version refused", extra={"fields": {"model": self.name, "version": version, "reason": reason}})
        try:
            self.store.alert(self.name, version=version, reason=reason, now=self.now())
        except OSError as error:
            _LOG.warning("alert not written", extra={"fields": {"model": self.name, "reason": str(error)}})


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
