from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

import pytest

from nbkit.serve._alarm import Alarm


class TooLateError(Exception):
    """Raised by the alarms of these tests."""


def run(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(steps, timeout=30))


def test_who_is_answered_in_time_gets_the_answer_and_the_timer_is_put_away() -> None:
    async def steps() -> None:
        alarm, future = Alarm(TooLateError), asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(alarm.wait(future, seconds=20))
        await asyncio.sleep(0)
        assert alarm._bell.at < math.inf
        future.set_result(0.5)
        assert await waiting == 0.5
        assert alarm._bell.at == math.inf

    run(steps())


@pytest.mark.parametrize("order", [(0.0, 0.02, 20.0), (20.0, 0.02, 0.0), (0.02, 20.0, -1.0)])
def test_each_is_let_go_when_its_own_time_is_over(order: tuple[float, ...]) -> None:
    async def steps() -> None:
        alarm, loop = Alarm(TooLateError), asyncio.get_running_loop()
        futures = {seconds: loop.create_future() for seconds in order}
        waiting = {s: asyncio.create_task(alarm.wait(future, seconds=s)) for s, future in futures.items()}
        for seconds in sorted(order)[:2]:
            with pytest.raises(TooLateError):
                await waiting[seconds]
        assert not waiting[20.0].done()
        futures[20.0].set_result(1.0)
        assert await waiting[20.0] == 1.0

    run(steps())


def test_who_was_answered_just_before_the_alarm_keeps_the_answer() -> None:
    async def steps() -> None:
        alarm, future = Alarm(TooLateError), asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(alarm.wait(future, seconds=20))
        await asyncio.sleep(0)
        alarm._due[future] = 0.0
        future.set_result(0.25)
        alarm._ring()
        assert await waiting == 0.25

    run(steps())


def test_who_stops_waiting_is_forgotten() -> None:
    async def steps() -> None:
        alarm, future = Alarm(TooLateError), asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(alarm.wait(future, seconds=20))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert future.cancelled()
        assert alarm._due == {}

    run(steps())
