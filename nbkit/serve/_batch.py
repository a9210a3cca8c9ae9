"""Score rows of a model that has no plan: rows that wait together are scored together, off the event loop."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from nbkit.errors import NbkitError, PackageError
from nbkit.serve._alarm import Alarm

__all__ = ["Batcher", "LateError", "OverloadedError"]

Row = Mapping[str, float | str | None]
_Score = Callable[[Mapping[str, Sequence[object]]], Iterable[float]]
_Waiting = tuple[Row, "asyncio.Future[float]"]
_Told = tuple["asyncio.Future[float]", float | Exception]

# 256 rows take a scikit-learn pipeline hardly longer than one; beyond it the first would wait for the last.
_MOST_IN_A_BATCH = 256

# Memory has an end too; long before it, rows are turned away by the age of the oldest.
_MOST_WAITING = 16 * _MOST_IN_A_BATCH

# A model that takes so long over one batch hangs. Its thread cannot be stopped, only left behind, and not for ever.
_HANGS_SECONDS = 10.0
_MOST_LEFT_BEHIND = 4

# Others are waited for as long as they come one after the other: until this part of a call passes without one, and for
# two calls at most.
_QUIET_SHARE = 0.25
_MOST_CALLS = 2.0

# Part of a row's time that it may wait for others.
_PATIENCE_SHARE = 0.1


class OverloadedError(NbkitError):
    """More rows wait than can be scored in time."""


class LateError(NbkitError):
    """The model did not answer in its share of the deadline."""


class Batcher:
    """One thread that scores whatever waits, as much at once as there is.

    A call of such a model takes about as long for one row as for a hundred, and while it lasts the event loop gets the
    interpreter only now and then. So a batch waits for those who were in the one before and may come back, and the loop
    is woken once for all of them.

    Parameters
    ----------
    score : callable
        Columns of many rows to their scores.
    """

    def __init__(self, score: _Score) -> None:
        self._score = score
        self._waiting: deque[_Waiting] = deque()
        self._came: deque[float] = deque()
        self._alarm = Alarm(lambda: LateError("the model did not answer in time"))
        self._wake = threading.Event()
        # So many rows must wait before the thread is woken; never while it scores.
        self._wanted = math.inf
        self._patience = math.inf
        self._closing = False
        self._busy_since = 0.0
        self._threads = 0
        self._begin()

    @property
    def queue_age(self) -> float:
        """Seconds that the oldest row has waited for its turn; 0 when none waits."""
        try:
            return time.monotonic() - self._came[0]
        except IndexError:
            return 0.0

    async def score(self, row: Row, *, seconds: float, most_age: float = math.inf) -> float:
        """Return the score of a row; whoever stops waiting before its turn spares the work.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.
        seconds : float
            How long to wait.
        most_age : float
            Seconds that the oldest waiting row may have waited: whoever comes behind it waits longer still.

        Returns
        -------
        float
            Of this row; what the model raises about it is raised here.

        Raises
        ------
        OverloadedError
            Too many wait already.
        LateError
            It was not scored in time.
        """
        if self.queue_age > most_age or len(self._waiting) >= _MOST_WAITING:
            raise OverloadedError(f"{len(self._waiting)} rows wait for the model, the first {self.queue_age:.3f} s")
        if self._busy_since and time.monotonic() - self._busy_since > _HANGS_SECONDS:
            self._leave_behind()
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._patience = seconds * _PATIENCE_SHARE
        self._came.append(time.monotonic())
        self._waiting.append((row, future))
        if len(self._waiting) >= self._wanted:
            self._wake.set()
        return await self._alarm.wait(future, seconds=seconds)

    def close(self) -> None:
        """Stop after what waits now; the thread is not waited for, because a model may hang."""
        self._closing = True
        self._wake.set()

    def _begin(self) -> None:
        self._threads += 1
        thread = threading.Thread(target=self._run, args=(self._threads,), name="nbkit-batcher", daemon=True)
        thread.start()

    def _leave_behind(self) -> None:
        """Let another thread go on with what waits; the one that hangs ends as soon as its model lets it."""
        if self._threads <= _MOST_LEFT_BEHIND:
            self._busy_since = 0.0
            self._begin()

    def _run(self, number: int) -> None:
        """Score batch after batch; ends when another thread has taken over, or when nothing waits any more."""
        expected, took = 1, 0.0
        while number == self._threads and (batch := self._gather(expected, took=took)):
            self._busy_since = began = time.monotonic()
            rows = [(row, future) for row, future in batch if not future.done()]
            _tell(self._judged(rows) if rows else [])
            took = time.monotonic() - began
            if number == self._threads:
                self._busy_since = 0.0
                # Whoever was answered may come back, and join those who have come since.
                expected = len(batch) + len(self._waiting)

    def _gather(self, expected: int, *, took: float) -> list[_Waiting]:
        """Wait for a row, and for those who come right behind it; nothing when the batcher is closed."""
        self._wanted = 1
        while not self._waiting and not self._closing:
            self._wake.wait()
            self._wake.clear()
        self._wanted = expected = min(expected, _MOST_IN_A_BATCH)
        gives_up = time.monotonic() + min(_MOST_CALLS * took, self._patience)
        seen = 0
        while seen < len(self._waiting) < expected and not self._closing and time.monotonic() < gives_up:
            seen = len(self._waiting)
            self._wake.wait(_QUIET_SHARE * took)
            self._wake.clear()
        self._wanted = math.inf
        return [self._take() for _ in range(min(len(self._waiting), _MOST_IN_A_BATCH))]

    def _take(self) -> _Waiting:
        self._came.popleft()
        return self._waiting.popleft()

    def _judged(self, batch: Sequence[_Waiting]) -> list[_Told]:
        try:
            scores = self._score_rows([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 - a request ends here: whatever the model raises belongs to its caller
            if len(batch) == 1:
                return [(batch[0][1], error)]
            # One row must not take the others down with it; halves find it in few calls.
            middle = len(batch) // 2
            return self._judged(batch[:middle]) + self._judged(batch[middle:])
        return [(future, score) for (_, future), score in zip(batch, scores, strict=True)]

    def _score_rows(self, rows: Sequence[Row]) -> list[float]:
        scores = [float(score) for score in self._score({name: [row[name] for row in rows] for name in rows[0]})]
        if len(scores) != len(rows):
            raise PackageError(f"the model gave {len(scores)} scores for {len(rows)} rows")
        return scores


def _tell(told: Sequence[_Told]) -> None:
    """Wake the loop once for a whole batch."""
    for loop in {future.get_loop() for future, _ in told}:
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_settle, [each for each in told if each[0].get_loop() is loop])


def _settle(told: Sequence[_Told]) -> None:
    for future, outcome in told:
        if future.done():
            continue  # late, or whoever asked has gone
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
