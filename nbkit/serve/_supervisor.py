"""The process that started a worker and brings it new versions: without it the last good version is served for ever."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from nbkit.serve._store import PackageStore

__all__ = ["Supervisor"]

_LOG = logging.getLogger("nbkit.serve")

_LOOK_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Notices that the process above this one has ended; answering goes on.

    Parameters
    ----------
    process : int
        Its id. Whoever loses it has another parent from then on, on every POSIX system.
    name : str
        The model that it serves.
    store : PackageStore
        Where the alert goes.
    now : callable
        The clock: aware, UTC.
    lost : bool
        Whether it has ended.
    """

    process: int
    name: str
    store: PackageStore
    now: Callable[[], datetime]
    lost: bool = False

    @property
    def warning(self) -> str:
        """What `/readyz` says beside being ready; empty while all is well."""
        return "nbkit serve has ended: no new version, rollback or revocation arrives" if self.lost else ""

    async def follow(self) -> None:
        """Look every half second until it has ended."""
        while os.getppid() == self.process:
            await asyncio.sleep(_LOOK_SECONDS)
        self.lost = True
        fields = {"model": self.name, "supervisor": self.process, "worker": os.getpid()}
        _LOG.error("supervisor lost", extra={"fields": fields})
        try:
            await asyncio.to_thread(self.store.alert, self.name, version=0, reason=self.warning, now=self.now())
        except OSError as error:
            _LOG.warning("alert not written", extra={"fields": {"model": self.name, "reason": str(error)}})
