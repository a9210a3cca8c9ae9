from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from nbkit.errors import PackageError
from nbkit.serve._batch import Batcher, LateError, OverloadedError

Columns = Mapping[str, Sequence[object]]


class Gate:
    """A model that holds its first batch until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, columns: Columns) -> list[float]:
        self.sizes.append(len(columns["x"]))
        self.begun.set()
        assert self.go.wait(20)
        if "bad" in columns["x"]:
            raise ValueError("bad row")
        return [float(value) / 100 for value in columns["x"]]  # type: ignore[arg-type]


async def ask(batcher: Batcher, *values: object, seconds: float = 20.0, **given: float) -> list[asyncio.Task[float]]:
    """Hand rows over; they wait when this returns."""
    tasks = [asyncio.create_task(batcher.score({"x": value}, seconds=seconds, **given)) for value in values]  # type: ignore[dict-item]
    await asyncio.sleep(0)
    return tasks


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


def run(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(steps, timeout=30))


def test_rows_that_wait_together_are_scored_together() -> None:
    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        first = await ask(batcher, 1.0)
        await until(model.begun.is_set)
        others = await ask(batcher, *(float(number) for number in range(2, 300)))
        model.go.set()
        assert await asyncio.gather(*first, *others) == [number / 100 for number in range(1, 300)]
        assert model.sizes == [1, 256, 42]
        batcher.close()

    run(steps())


def test_a_batch_waits_for_those_who_were_in_the_one_before() -> None:
    async def steps() -> None:
        sizes: list[int] = []

        def score(columns: Columns) -> list[float]:
            sizes.append(len(columns["x"]))
            # A call that takes so long is worth waiting for others a while.
            time.sleep(0.4)
            return [0.5] * len(columns["x"])

        batcher = Batcher(score)
        await asyncio.gather(*await ask(batcher, *range(8)))
        before = len(sizes)
        for _ in range(8):
            await asyncio.sleep(0.001)
            await ask(batcher, 1.0)
        await until(lambda: sum(sizes) == 16)
        # Without waiting the first of them would be alone.
        assert sizes[before] > 1
        batcher.close()

    run(steps())


def test_nobody_waits_long_for_others_who_do_not_come() -> None:
    async def steps() -> None:
        sizes: list[int] = []

        def score(columns: Columns) -> list[float]:
            sizes.append(len(columns["x"]))
            return [0.5] * len(columns["x"])

        batcher = Batcher(score)
        await asyncio.gather(*await ask(batcher, *range(8)))
        for _ in range(3):
            await asyncio.gather(*await ask(batcher, 1.0))
        assert sizes[-3:] == [1, 1, 1]
        batcher.close()

    run(steps())


@pytest.mark.parametrize("bad", [[1], [0, 3], [0, 1, 2, 3]])
def test_a_row_that_the_model_refuses_fails_alone(bad: list[int]) -> None:
    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        held = await ask(batcher, 1.0)
        await until(model.begun.is_set)
        rows = await ask(batcher, *("bad" if place in bad else float(place) for place in range(4)))
        model.go.set()
        assert await held[0] == 0.01
        told = await asyncio.gather(*rows, return_exceptions=True)
        assert [each if isinstance(each, float) else str(each) for each in told] == [
            "bad row" if place in bad else place / 100 for place in range(4)
        ]
        batcher.close()

    run(steps())


def test_a_row_whose_caller_gave_up_is_not_scored() -> None:
    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        await ask(batcher, 1.0)
        await until(model.begun.is_set)
        (gone,) = await ask(batcher, 2.0)
        gone.cancel()
        (late,) = await ask(batcher, 2.0, seconds=0.01)
        with pytest.raises(LateError):
            await late
        (last,) = await ask(batcher, 3.0)
        model.go.set()
        assert await last == 0.03
        assert model.sizes == [1, 1]
        batcher.close()

    run(steps())


def test_a_score_that_comes_too_late_is_nobodys() -> None:
    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        (late,) = await ask(batcher, 1.0, seconds=0.05)
        await until(model.begun.is_set)
        with pytest.raises(LateError, match="the model did not answer in time"):
            await late
        (following,) = await ask(batcher, 2.0)
        model.go.set()
        assert await following == 0.02
        batcher.close()

    run(steps())


def test_a_loop_that_has_ended_is_told_nothing() -> None:
    model = Gate()
    batcher = Batcher(model)

    async def leave() -> None:
        await ask(batcher, 1.0)
        await until(model.begun.is_set)

    async def come_later() -> None:
        model.go.set()
        assert await asyncio.gather(*await ask(batcher, 2.0)) == [0.02]
        batcher.close()

    run(leave())
    run(come_later())


def test_more_rows_than_memory_is_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbkit.serve._batch._MOST_WAITING", 1024)

    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        await ask(batcher, 1.0)
        await until(model.begun.is_set)
        waiting = await ask(batcher, *[1.0] * 1024)
        with pytest.raises(OverloadedError, match="1024 rows wait for the model"):
            await batcher.score({"x": 1.0}, seconds=20)
        model.go.set()
        batcher.close()
        assert await asyncio.gather(*waiting) == [0.01] * 1024

    run(steps())


def test_a_model_that_answers_too_few_scores_is_refused() -> None:
    async def steps() -> None:
        batcher = Batcher(lambda columns: [])
        with pytest.raises(PackageError, match="the model gave 0 scores for 1 rows"):
            await batcher.score({"x": 1.0}, seconds=20)
        batcher.close()

    run(steps())


def test_a_row_behind_one_that_waits_too_long_is_turned_away() -> None:
    async def steps() -> None:
        model = Gate()
        batcher = Batcher(model)
        first = await ask(batcher, 50.0)
        await until(model.begun.is_set)
        assert batcher.queue_age == 0.0
        second = await ask(batcher, 60.0, most_age=0.0)
        await until(lambda: batcher.queue_age > 0.001)
        with pytest.raises(OverloadedError, match="1 rows wait for the model"):
            await batcher.score({"x": 3.0}, seconds=20, most_age=0.001)
        model.go.set()
        assert await asyncio.gather(*first, *second) == [0.5, 0.6]
        batcher.close()

    run(steps())


def test_a_thread_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbkit.serve._batch._HANGS_SECONDS", 0.01)

    async def steps() -> None:
        begun, go = threading.Event(), threading.Event()

        def score(columns: Columns) -> list[float]:
            if columns["x"][0] == 0.0:
                begun.set()
                go.wait(20)
            return [0.5] * len(columns["x"])

        batcher = Batcher(score)
        stuck = await ask(batcher, 0.0)
        await until(begun.is_set)
        await asyncio.sleep(0.02)
        assert await batcher.score({"x": 1.0}, seconds=20) == 0.5
        go.set()
        assert await asyncio.gather(*stuck) == [0.5]
        assert await batcher.score({"x": 1.0}, seconds=20) == 0.5
        batcher.close()

    run(steps())
