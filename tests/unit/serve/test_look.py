"""A ledger that does not answer holds up one thread, and nobody for longer than he asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nbkit.serve import _look as look_module
from nbkit.serve._look import Lookups
from nbkit.serve._turn import TryAgainError


@pytest.fixture
def hangs() -> Iterator[threading.Event]:
    goes_on = threading.Event()
    yield goes_on
    goes_on.set()


def test_what_a_question_gives_or_raises_comes_back() -> None:
    async def run() -> None:
        lookups = Lookups("test")
        assert await lookups.ask(lambda: 7, seconds=20) == 7
        with pytest.raises(ZeroDivisionError):
            await lookups.ask(lambda: 1 // 0, seconds=20)
        assert lookups._waiting == 0

    asyncio.run(run())


def test_who_has_no_time_left_does_not_ask() -> None:
    asked: list[int] = []
    with pytest.raises(TryAgainError, match="the ledger does not answer in time"):
        asyncio.run(Lookups("test").ask(lambda: asked.append(1), seconds=-0.1))
    assert asked == []


def test_a_question_that_hangs_is_left_and_those_behind_it_are_never_asked(hangs: threading.Event) -> None:
    asked: list[int] = []

    async def run() -> None:
        lookups = Lookups("test")
        late = [lookups.ask(hangs.wait, seconds=0.05), lookups.ask(lambda: asked.append(1), seconds=0.02)]
        told = await asyncio.gather(*late, return_exceptions=True)
        assert [type(each) for each in told] == [TryAgainError, TryAgainError]
        # Others of the loop have threads of their own.
        assert await asyncio.to_thread(lambda: 7) == 7
        hangs.set()
        assert await lookups.ask(lambda: 8, seconds=20) == 8

    asyncio.run(run())
    assert asked == []


def test_more_than_can_be_answered_are_told_at_once(hangs: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_module, "_MOST_WAITING", 1)

    async def run() -> None:
        lookups = Lookups("test")
        first = asyncio.create_task(lookups.ask(hangs.wait, seconds=20))
        await asyncio.sleep(0)
        with pytest.raises(TryAgainError):
            await lookups.ask(lambda: 7, seconds=20)
        hangs.set()
        assert await first

    asyncio.run(run())
