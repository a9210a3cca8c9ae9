"""A clock that is set back brings nothing back to life, and one that was ahead by mistake stops nothing for ever."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.errors import EvidenceError
from nbkit.registry import Memory, SeenTime, Tick, read_tick
from nbkit.registry import _clock as clock_module

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FORMATS = Path(__file__).parent / "formats"


class Machine:
    """Two clocks: one that anybody may set, and one that only goes on."""

    def __init__(self, path: Path) -> None:
        self.now = NOON
        self.ticked = 0.0
        self.boot = "first"
        self.memory = Memory(path, tick=lambda: Tick(self.boot, self.ticked))

    def live(self, passed: timedelta) -> None:
        self.now += passed
        self.ticked += passed.total_seconds()

    def set(self, by: timedelta) -> None:
        self.now += by

    def restart(self, *, off: timedelta) -> None:
        self.now += off
        self.boot, self.ticked = f"{self.boot} again", 7.0

    def look(self) -> bool:
        """Whether the clock is believed."""
        try:
            self.memory.check_clock(self.now)
        except EvidenceError as error:
            return "the clock went back" not in str(error) or "nbkit clock accept --reason WHY" not in str(error)
        return True


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "seen.json")


def test_a_jump_ahead_that_is_taken_back_is_forgotten(machine: Machine) -> None:
    assert machine.look()
    machine.set(400 * DAY)
    assert machine.look()
    machine.live(30 * MINUTE)
    assert machine.look()
    machine.set(-400 * DAY)
    assert machine.look()
    # What really passed is not forgotten with it.
    machine.set(-10 * MINUTE)
    assert not machine.look()


def test_a_jump_ahead_that_lasts_is_the_time(machine: Machine) -> None:
    assert machine.look()
    machine.set(DAY)
    for _ in range(13):
        assert machine.look()
        machine.live(5 * MINUTE)
    assert machine.look()
    machine.set(-DAY)
    assert not machine.look()


def test_a_clock_that_jumps_about_is_never_the_time(machine: Machine) -> None:
    assert machine.look()
    for _ in range(30):
        machine.set(DAY)
        machine.live(10 * MINUTE)
        assert machine.look()
    machine.set(-30 * DAY)
    assert machine.look()


def test_time_that_has_passed_cannot_be_taken_back_in_small_steps(machine: Machine) -> None:
    assert machine.look()
    machine.live(2 * HOUR)
    steps = 0
    while machine.look():
        machine.set(-4 * MINUTE)
        steps += 1
    assert steps == 2


def test_a_machine_that_was_off_need_not_explain_how_long(machine: Machine) -> None:
    machine.live(DAY)
    assert machine.look()
    machine.restart(off=30 * DAY)
    for _ in range(8):
        assert machine.look()
        machine.live(10 * MINUTE)
    machine.set(-HOUR)
    assert not machine.look()
    machine.restart(off=-DAY)
    assert not machine.look()


@given(
    steps=st.lists(st.tuples(st.integers(0, 7200), st.integers(-(10**7), 10**7)), max_size=30),
)
def test_whatever_the_clock_does_it_never_says_less_than_what_has_passed(steps: list[tuple[int, int]]) -> None:
    """The least that is allowed grows at least as the clock does that nobody sets."""
    seen, tick, now = SeenTime(at=NOON, tick=Tick("b", 0.0)), Tick("b", 0.0), NOON
    for passed, moved in steps:
        tick, now = Tick("b", tick.seconds + passed), now + timedelta(seconds=passed + moved)
        least = seen.least(tick)
        assert least >= NOON + timedelta(seconds=tick.seconds)
        seen = seen if seen.went_back(now, tick=tick) else seen.note(now, tick=tick)
        assert seen.least(tick) >= least


def test_somebody_may_say_that_the_time_of_now_is_right(machine: Machine) -> None:
    with pytest.raises(EvidenceError, match="did not go back"):
        machine.memory.accept_clock(machine.now)
    assert machine.look()
    machine.memory.accepted("loans", stage="production", epoch=3, now=machine.now)
    machine.set(-DAY)
    for _ in range(2):
        with pytest.raises(EvidenceError, match="it is 1440 minutes behind what was seen"):
            machine.memory.check_clock(machine.now)
        machine.live(7 * MINUTE)
    machine.set(-14 * MINUTE)
    machine.ticked -= 14 * 60
    assert machine.memory.accept_clock(machine.now) == NOON
    assert machine.look()
    remembered = machine.memory.remembered()
    assert remembered is not None
    assert (remembered.accepted, remembered.time.at) == (1, NOON - DAY)
    # Older evidence is refused as before.
    assert machine.memory.highest_epoch("loans", stage="production") == 3
    with pytest.raises(EvidenceError, match="did not go back"):
        machine.memory.accept_clock(machine.now)


def test_what_an_older_nbkit_remembered_is_read(tmp_path: Path) -> None:
    shutil.copy(FORMATS / "1" / "seen.json", tmp_path / "seen.json")
    machine = Machine(tmp_path / "seen.json")
    assert machine.memory.highest_epoch("loans", stage="production") == 4
    machine.now = datetime(2026, 11, 20, tzinfo=UTC)
    assert not machine.look()
    machine.now = NOON
    assert machine.look()


def test_what_is_written_today_is_read(tmp_path: Path) -> None:
    shutil.copy(FORMATS / "2" / "seen.json", tmp_path / "seen.json")
    remembered = Memory(tmp_path / "seen.json").remembered()
    assert remembered is not None
    assert remembered.accepted == 1
    assert remembered.time == SeenTime(at=NOON, tick=Tick("boot", 12.5), jumped=(NOON + DAY, Tick("boot", 13.0)))


def test_the_clock_that_nobody_sets_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = read_tick(), read_tick()
    passed = second.since(first)
    assert passed is not None
    assert passed >= timedelta(0)
    assert first.since(second) == timedelta(0)
    assert second.since(Tick("another", 0.0)) is None
    # Where a machine does not say which start it was, no two processes compare.
    monkeypatch.setattr(clock_module, "_BOOT_ID", tmp_path / "none")
    clock_module._boot.cache_clear()
    try:
        assert read_tick().boot not in ("", first.boot)
    finally:
        clock_module._boot.cache_clear()
