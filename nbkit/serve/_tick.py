"""Score rows of a compiled model: what is asked in one turn of the event loop is one call of the trees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

__all__ = ["TickScorer"]

Row = Mapping[str, float | str | None]


class TickScorer:
    """Gathers the rows of one turn of the loop; never waits for more.

    A call of the trees costs more than most rows do, and between two calls other work pushes the trees out of the
    processor's cache.

    Parameters
    ----------
    score_rows : callable
        Rows to their scores, for each what it would be alone.
    """

    def __init__(self, score_rows: Callable[[Sequence[Row]], Sequence[float]]) -> None:
        self._score_rows = score_rows
        self._waiting: list[tuple[Row, asyncio.Future[float]]] = []

    async def score(self, row: Row) -> float:
        """Return the score of a row.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.

        Returns
        -------
        float
            Of this row; what the model raises about it is raised here.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[float] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((row, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._answer([(row, future) for row, future in waiting if not future.done()])

    def _answer(self, waiting: list[tuple[Row, asyncio.Future[float]]]) -> None:
        try:
            scores = self._score_rows([row for row, _ in waiting])
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to its caller
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
            # One row must not take the others down with it.
            for one in waiting:
                self._answer([one])
        else:
            for (_, future), score in zip(waiting, scores, strict=True):
                future.set_result(score)
