"""The reference page has every gate."""

from pathlib import Path

import pytest

from nbkit.gates import GATES
from nbkit.records import Verdict

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "gates.md"


@pytest.mark.parametrize("name", [*GATES, "submission", "path", "champion"])
def test_every_gate_is_on_the_page(name):
    assert f"\n| `{name}` | " in PAGE.read_text()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_on_the_page(verdict):
    assert f"\n| `{verdict.value}` | " in PAGE.read_text()
