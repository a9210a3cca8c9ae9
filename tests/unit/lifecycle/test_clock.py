"""A person says that the clock is right; it leaves a trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from nbkit import lifecycle
from nbkit.cli import cli
from nbkit.errors import UsageError
from nbkit.registry import MEMORY_FILE, Memory
from nbkit.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBKIT_HOME", str(tmp_path / "home"))
    return Settings.from_environment({"NBKIT_HOME": str(tmp_path / "home")}, directory=tmp_path)


def ahead(settings: Settings) -> datetime:
    """Let both verifiers of this machine have seen a time that is still to come."""
    later = datetime.now(UTC) + timedelta(days=400)
    for folder in (settings.store, settings.home):
        Memory(folder / MEMORY_FILE).check_clock(later)
    return later


def test_a_clock_that_fits_has_nothing_to_accept(settings: Settings) -> None:
    now = datetime.now(UTC)
    assert lifecycle.show_clock(settings=settings, now=now).memories == ()
    Memory(settings.store / MEMORY_FILE).check_clock(now)
    state = lifecycle.show_clock(settings=settings, now=now)
    assert [memory.went_back for memory in state.memories] == [False]
    assert "the clock fits what was seen" in str(state)
    with pytest.raises(UsageError, match="did not go back"):
        lifecycle.accept_clock(who="ana", reason="because", settings=settings, now=now)


def test_who_says_that_the_clock_is_right_is_noted(settings: Settings) -> None:
    later = ahead(settings)
    now = datetime.now(UTC)
    state = lifecycle.show_clock(settings=settings, now=now)
    assert [memory.went_back for memory in state.memories] == [True, True]
    assert "nbkit clock accept --reason WHY" in str(state)
    with pytest.raises(UsageError, match="expected who says so, and why"):
        lifecycle.accept_clock(who="", reason="NTP was wrong", settings=settings, now=now)
    told = lifecycle.accept_clock(who="ana", reason="NTP was wrong", settings=settings, now=now)
    assert [memory.went_back for memory in told.memories] == [False, False]
    lines = [json.loads(line)["reason"] for line in (settings.store / "alerts.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all("clock accepted by ana" in line and line.endswith("NTP was wrong") for line in lines)
    assert all(later.isoformat()[:16] in line for line in lines)


def test_the_command_says_so(settings: Settings) -> None:
    ahead(settings)
    shown = CliRunner().invoke(cli, ["clock", "show", "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.output)["memories"][0]["went_back"] is True
    accepted = CliRunner().invoke(cli, ["clock", "accept", "--as", "ana", "--reason", "NTP was wrong"])
    assert accepted.exit_code == 0
    assert "the clock of now is right, says ana" in accepted.output
