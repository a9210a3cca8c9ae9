"""What an evaluation decides about many rows is what the service decides about each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbkit.contract import RowCheck
from nbkit.lifecycle._decisions import service_decisions
from nbkit.package import Package
from nbkit.serve import Rules, decide

NUMBERS = {"approve": 0, "refer": 1, "decline": 2}


@pytest.fixture(scope="module")
def rows(lender: Any, package: Package) -> pd.DataFrame:
    """Return rows of the package's table, with some that rules before and after the model speak of."""
    names = [column.name for column in package.contract.inputs]
    table = lender.make_table(120)[names]
    special = pd.DataFrame([lender.GOOD, lender.BAD, lender.BAD | {"ratio": 1.0}, lender.BAD | {"income": 0.1}])[names]
    return pd.concat([table, special], ignore_index=True)


def test_every_row_is_decided_as_the_service_decides_it(package: Package, rows: pd.DataFrame) -> None:
    rules = Rules.from_package(package)
    check = RowCheck(package.contract)
    checked = [
        check.check({name: None if pd.isna(value) else value for name, value in row.items()})
        for row in rows.to_dict("records")
    ]
    columns = {name: [row[name] for row in checked] for name in rows}
    scores = package.score_frame(columns)
    expected = [NUMBERS[decide(package, row, rules=rules).decision] for row in checked]
    found = service_decisions(package, rules=rules)(columns, scores)
    assert found.tolist() == expected
    assert set(expected) == {0, 1, 2}
    # A frozen frame holds NaN where a checked row holds nothing.
    frame = pd.DataFrame(columns).astype({n: "float64" for n in columns if not isinstance(columns[n][0], str)})
    assert service_decisions(package, rules=rules)(frame, scores).tolist() == expected


def test_rules_move_decisions_away_from_the_thresholds(package: Package, rows: pd.DataFrame) -> None:
    columns = {name: rows[name].tolist() for name in rows}
    scores = package.score_frame(columns)
    plain = (scores >= package.thresholds.refer).astype(int) + (scores >= package.thresholds.decline)
    found = service_decisions(package, rules=Rules.from_package(package))(columns, scores)
    assert np.flatnonzero(found != plain).size > 0


def test_a_model_without_reasons_declines_nobody(lender: Any, tmp_path: Path) -> None:
    package = lender.make_package(tmp_path / "plain", reasons=None)
    columns = {column.name: [lender.BAD[column.name]] for column in package.contract.inputs}
    scores = np.array([0.99])
    assert service_decisions(package, rules=Rules())(columns, scores).tolist() == [1]


def test_without_rules_only_declines_are_looked_at_one_by_one(lender: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    package = lender.make_package(tmp_path / "unruled", rules=None)
    rules = Rules.from_package(package)
    assert not any(rules.speak(phase) for phase in ("before", "after", "fallback"))
    columns = {name: rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows}
    scores = package.score_frame(columns)
    expected = [NUMBERS[decide(package, row, rules=rules).decision] for row in _records(columns)]
    assert service_decisions(package, rules=rules)(columns, scores).tolist() == expected
    assert set(expected) == {0, 1, 2}


def _records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
