"""The process that writes a worker's ledger, forked before the worker has threads or anything of its own to keep."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbkit.audit import Committer, Place, write_for
from nbkit.errors import NbkitError
from nbkit.serve._fork_server import end_with

__all__ = ["Writer"]

_LOG = logging.getLogger("nbkit.serve")


class Writer:
    """Starts the process.

    It ends when the channel closes, so it never outlives its worker for longer than a commit; signals that are meant
    for the worker are not for it.

    Parameters
    ----------
    place : Path or str
        Of the ledger.
    key : Ed25519PrivateKey
        Signs its checkpoints.
    now : callable
        The clock: aware, UTC.
    journal : Path, optional
        Where records wait while the ledger cannot take them.
    aside : socket
        From processes that nobody waits for, as `write_for` takes it; it is the writer's alone from then on.
    """

    def __init__(
        self,
        place: Place,
        *,
        key: Ed25519PrivateKey,
        now: Callable[[], datetime],
        journal: Path | None,
        aside: socket.socket,
    ) -> None:
        self.channel, theirs = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            self.channel.close()
            act = partial(_write, theirs, place, key=key, now=now, journal=journal, aside=aside)
            end_with(act, name="nbkit-ledger")
        theirs.close()
        aside.close()

    def wait(self) -> None:
        """Wait until it has ended."""
        os.waitpid(self.process, 0)


def _write(
    channel: socket.socket,
    place: Place,
    *,
    key: Ed25519PrivateKey,
    now: Callable[[], datetime],
    journal: Path | None,
    aside: socket.socket,
) -> int:
    try:
        write_for(
            channel,
            open_committer=lambda: Committer.open(place, key=key, now=now, journal=journal),
            aside=aside,
        )
    except NbkitError as error:
        _LOG.error("cannot write", extra={"fields": {"reason": str(error)}})
        return 1
    return 0
