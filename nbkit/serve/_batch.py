"""Score rows of a model that has no plan: rows that wait together are scored together, off the event loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future

from nbkit.errors import NbkitError, PackageError

__all__ = ["Batcher", "OverloadedError"]

Row = Mapping[str, float | str | None]
_Score = Callable[[Mapping[str, Sequence[object]]], Iterable[float]]
_Waiting = tuple[Row, "Future[float]"]

# 256 rows take a scikit-learn pipeline 10.7 ms where one takes 6.9; beyond it the first would wait for the last.
_MOST_IN_A_BATCH = 256

# Four batches: whoever comes later would wait longer than any deadline allows.
_MOST_WAITING = 4 * _MOST_IN_A_BATCH


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
        self._thread = threading.Thread(target=self._run, name="nbkit-batcher", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> Future[float]:
        """Hand over a row.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.

        Returns
        -------
        Future of float
            Its score; cancelling it before its turn spares the work.

        Raises
        ------
        OverloadedError
            Too many wait already.
        """
        if self._queue.qsize() >= _MOST_WAITING:
            raise OverloadedError(f"{_MOST_WAITING} rows wait for the model")
        future: Future[float] = Future()
        self._queue.put((row, future))
        return future

    def close(self) -> None:
        """Stop after what waits now; the thread is not waited for, because a model may hang."""
        self._queue.put(None)

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            batch, ends = [waiting], False
            while len(batch) < _MOST_IN_A_BATCH and not ends:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    batch.append(following)
            self._answer([(row, future) for row, future in batch if future.set_running_or_notify_cancel()])
            if ends:
                return

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
