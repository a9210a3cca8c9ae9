"""One connection of the server, with the limits that uvicorn's own lacks: heads arrive whole, soon, and small."""

from __future__ import annotations

import asyncio
from typing import Any

from nbkit.serve._server import StampingProtocol

__all__ = ["PatientProtocol"]

# From the opening of the connection to its first head, and from the first byte of any head to its last.
HEAD_SECONDS = 5.0

# Enough for a token of an issuer and a trace; the parser itself would take any amount.
HEAD_LIMIT = 32 * 1024

# For a caller to read what lies ready for him: a reply of many rows over a slow line, and no longer.
READ_SECONDS = 30.0


class PatientProtocol(StampingProtocol):
    """Closes a connection whose head is late or large, that sends what is no head, or that does not read.

    Bodies have limits of their own in the application. A head that arrives in one piece, as nearly all do, costs no
    timer.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head.

        Parameters
        ----------
        transport : Transport
            Of the connection.
        """
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Parse; what leaves a head unfinished, or belongs to no request that is being answered, is timed.

        Parameters
        ----------
        data : bytes
            As it arrived.
        """
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            self._wait()
            if self._head_bytes > HEAD_LIMIT:
                self._end()
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            # Blank lines, or the body of a request that was answered without it: the server itself has just put its
            # own timer away, and would listen to them for ever.
            self._wait()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop waiting: from here the application's own limits hold."""
        self._in_head = False
        self._head_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_known_head(self) -> None:
        """Stop waiting, as for any head that is there."""
        self._stop_waiting()

    def pause_writing(self) -> None:
        """Begin to wait for a caller who does not read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = asyncio.get_running_loop().call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """He has read."""
        self._stop_waiting_for_reading()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers.

        Parameters
        ----------
        exc : Exception or None
            Why it ended.
        """
        self._stop_waiting()
        self._stop_waiting_for_reading()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._end)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_waiting_for_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _close_idle(self) -> None:
        """Close; where he has not even read the last reply, without waiting for that."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super()._close_idle()

    def _end(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
