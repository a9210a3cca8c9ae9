"""uvicorn, told when a request was whole and that it is stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nbkit.serve._http import ARRIVED

__all__ = ["Server", "StampingProtocol"]


class StampingProtocol(HttpToolsProtocol):
    """Notes when the last byte of a request was read: from then on its deadline runs."""

    def on_message_complete(self) -> None:
        """Stamp the request, then go on as uvicorn does."""
        cycle = self.cycle
        if cycle is not None:
            cast("dict[str, object]", cycle.scope)[ARRIVED] = time.perf_counter()
        super().on_message_complete()


class Server(uvicorn.Server):
    """Says that it is stopping before it stops.

    Parameters
    ----------
    config : uvicorn.Config
        Of the server.
    stopping : callable
        Called on the first SIGTERM or SIGINT.
    """

    def __init__(self, config: uvicorn.Config, *, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop.

        Parameters
        ----------
        sig, frame : int and frame
            As a signal handler gets them.
        """
        self._stopping()
        super().handle_exit(sig, frame)
