"""A worker that is killed loses nothing that it answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbkit.package import Package
from nbkit.serve import PackageStore


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_answer_of_a_killed_worker_is_in_the_ledger(
    kind: str, lender: Any, killing: Any, people: Any, package: Package, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    people.install(package, store=PackageStore(tmp_path / "store"))
    ledger = tmp_path / "ledger.db" if kind == "sqlite" else request.getfixturevalue("database")
    tally = killing.kill_under_load(
        lender, people, store=tmp_path / "store", ledger=ledger, kills=3 if kind == "sqlite" else 2, seed=20261123
    )
    assert (tally.lost, tally.problems) == ((), ())
    assert len(tally.answered) > tally.kills * 15
