"""A process that was forked before there was a key, a thread or an open file, and forks others when asked to.

Such a process shares all that was imported with the worker, begins in a millisecond, and may die without taking
anything with it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

__all__ = ["ForkServer", "end_with"]

_LOG = logging.getLogger("nbkit.serve")


class ForkServer:
    """Starts the process that forks.

    Parameters
    ----------
    run : callable
        What each forked process does with its end of a channel, and with a socket for datagrams that all of them share;
        it ends when this returns.

    Attributes
    ----------
    said : socket
        Where those datagrams arrive.
    """

    def __init__(self, run: Callable[[socket.socket, socket.socket], None]) -> None:
        self._asks, asked = socket.socketpair()
        self.said, says = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.process = os.fork()
        if self.process == 0:
            self._asks.close()
            # Whoever sends to nobody must hear so.
            self.said.close()
            end_with(partial(_fork_for, asked, lambda channel: run(channel, says)), name="nbkit-forks")
        asked.close()
        says.close()

    def start(self) -> socket.socket:
        """Fork one more.

        Returns
        -------
        socket
            This end of its channel; when it is closed, the process ends.

        Raises
        ------
        OSError
            The fork server has ended.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._asks, [b"\0"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End it, and with it all that it has forked."""
        self._asks.close()
        self.said.close()
        with suppress(ChildProcessError):
            os.waitpid(self.process, 0)


def _fork_for(asked: socket.socket, run: Callable[[socket.socket], None]) -> None:
    forked = set[int]()
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: _reap(forked))
    while True:
        data, (*given,), _, _ = socket.recv_fds(asked, 1, 1)
        if not data:
            break
        for number in given:
            process = os.fork()
            if process == 0:
                # A group of its own: what it forks in turn holds its channel as well, and has to end with it.
                os.setpgid(0, 0)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked.close()
                with socket.socket(fileno=number) as channel:
                    end_with(partial(run, channel), name="nbkit-shadow")
            forked.add(process)
            signal.raise_signal(signal.SIGCHLD)  # it may have ended before it was noted
            os.close(number)
    for process in forked.copy():  # one that hangs does not hear that its channel was closed
        _kill_group(process)


def _reap(forked: set[int]) -> None:
    """Take leave of those that have ended; another signal may come meanwhile, and do so first."""
    for process in forked.copy():
        with suppress(ChildProcessError):
            # Until it is waited for, its number is given to no other.
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(process)
            forked.discard(process)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if code:
                said = {"signal": signal.Signals(-code).name} if code < 0 else {"code": code}
                _LOG.error("a shadow's process ended", extra={"fields": {"process": process, **said}})


def _kill_group(process: int) -> None:
    with suppress(OSError):
        os.killpg(process, signal.SIGKILL)


def end_with(act: Callable[[], int | None], *, name: str) -> NoReturn:
    """Do what a forked process is there for, and nothing of what its parent has registered for its own end.

    Parameters
    ----------
    act : callable
        Returns the exit code; None is 0.
    name : str
        Of the process, for ``ps`` and ``top``: at most 15 characters.
    """
    code = 1
    try:
        with suppress(OSError):  # where there is no /proc it keeps its parent's
            Path("/proc/self/comm").write_text(name, encoding="ascii")
        # They are meant for the worker.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        code = act() or 0
    except Exception:  # noqa: BLE001 - it ends here, and its log says why
        _LOG.exception("a forked process failed", extra={"fields": {"name": name}})
    finally:
        logging.shutdown()
        os._exit(code)
