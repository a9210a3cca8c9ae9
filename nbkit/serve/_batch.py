"""Score rows of a model that has no plan: rows that wait together are scored together, off the event loop."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future

from nbkit.errors import NbkitError, PackageError

__all__ = ["Batcher", "OverloadedError"]

Row = Mapping[str, float | str | None]
_Score = Callable[[Mapping[str, Sequence[object]]], Iterable[float]]
_Waiting = tuple[Row, "Future[float]"]

# 256 rows take a scikit-learn pipeline 10.7 ms where one takes 6.9; beyond it the first would wait for the last.
_MOST_IN_A_BATCH = 256

# Memory has an end too; long before it, rows are turned away by the age of the oldest.
_MOST_WAITING = 16 * _MOST_IN_A_BATCH

# A model that takes so long over one batch hangs. Its thread cannot be stopped, only left behind, and not for ever.
_HANGS_SECONDS = 10.0
_MOST_LEFT_BEHIND = 4


class OverloadedError(NbkitError):
    """More rows wait than can be scored in time."""


class Batcher:
    """One thread that scores whatever waits.

    Parameters
    ----------
    score : callable
        Columns of many rows to their scores.
    """

    def __init__(self, score: _Score) -> None:
        self._score = score
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._came: deque[float] = deque()
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

    def submit(self, row: Row, *, most_age: float = math.inf) -> Future[float]:
        """Hand over a row.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.
        most_age : float
            Seconds that the oldest waiting row may have waited: whoever comes behind it waits longer still.

        Returns
        -------
        Future of float
            Its score; cancelling it before its turn spares the work.

        Raises
        ------
        OverloadedError
            Too many wait already.
        """
        if self.queue_age > most_age or self._queue.qsize() >= _MOST_WAITING:
            raise OverloadedError(f"{self._queue.qsize()} rows wait for the model, the first {self.queue_age:.3f} s")
        if self._busy_since and time.monotonic() - self._busy_since > _HANGS_SECONDS:
            self._leave_behind()
        future: Future[float] = Future()
        self._came.append(time.monotonic())
        self._queue.put((row, future))
        return future

    def close(self) -> None:
        """Stop after what waits now; the thread is not waited for, because a model may hang."""
        self._queue.put(None)

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
        while number == self._threads and (waiting := self._take()) is not None:
            batch, ends = [waiting], False
            while len(batch) < _MOST_IN_A_BATCH and not ends:
                try:
                    following = self._take(wait=False)
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    batch.append(following)
            self._busy_since = time.monotonic()
            self._answer([(row, future) for row, future in batch if future.set_running_or_notify_cancel()])
            if number == self._threads:
                self._busy_since = 0.0
            if ends:
                return

    def _take(self, *, wait: bool = True) -> _Waiting | None:
        taken = self._queue.get(wait)
        if taken is not None:
            self._came.popleft()
        return taken

    def _answer(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            scores = self._score_rows([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 - a request ends here: whatever the model raises belongs to its caller
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            # One row must not take the others down with it.
            for waiting in batch:
                self._answer([waiting])
        else:
            for (_, future), score in zip(batch, scores, strict=True):
                future.set_result(score)

    def _score_rows(self, rows: Sequence[Row]) -> list[float]:
        scores = [float(score) for score in self._score({name: [row[name] for row in rows] for name in rows[0]})]
        if len(scores) != len(rows):
            raise PackageError(f"the model gave {len(scores)} scores for {len(rows)} rows")
        return scores
