from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nbkit.serve._tick import Row, TickScorer


def test_rows_of_one_turn_of_the_loop_are_scored_in_one_call() -> None:
    calls: list[int] = []

    def score(rows: Sequence[Row]) -> list[float]:
        calls.append(len(rows))
        return [float(row["x"] or 0) for row in rows]

    async def ask() -> list[float]:
        scorer = TickScorer(score)
        first = await asyncio.gather(*(scorer.score({"x": float(n)}) for n in range(5)))
        return [*first, await scorer.score({"x": 7.0})]

    assert asyncio.run(ask()) == [0.0, 1.0, 2.0, 3.0, 4.0, 7.0]
    assert calls == [5, 1]


def test_a_row_that_fails_does_not_take_others_down() -> None:
    def score(rows: Sequence[Row]) -> list[float]:
        return [1 / float(row["x"] or 0) for row in rows]

    async def ask() -> list[float | BaseException]:
        scorer = TickScorer(score)
        return await asyncio.gather(*(scorer.score({"x": x}) for x in (1.0, 0.0, 2.0)), return_exceptions=True)

    one, failed, two = asyncio.run(ask())
    assert (one, two) == (1.0, 0.5)
    assert isinstance(failed, ZeroDivisionError)


def test_a_row_that_nobody_waits_for_is_not_scored() -> None:
    seen: list[float] = []

    def score(rows: Sequence[Row]) -> list[float]:
        seen.extend(float(row["x"] or 0) for row in rows)
        return [0.5] * len(rows)

    async def ask() -> float:
        scorer = TickScorer(score)
        gone = asyncio.ensure_future(scorer.score({"x": 1.0}))
        stays = asyncio.ensure_future(scorer.score({"x": 2.0}))
        asyncio.get_running_loop().call_soon(gone.cancel)
        found = await stays
        with pytest.raises(asyncio.CancelledError):
            await gone
        return found

    assert asyncio.run(ask()) == 0.5
    assert seen == [2.0]
