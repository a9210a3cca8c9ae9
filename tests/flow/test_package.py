"""Rows that break the contract never become a package."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from nbkit import lifecycle
from nbkit.errors import ContractViolationError, UsageError
from nbkit.evaluate import load_golden

if TYPE_CHECKING:
    from tests.flow.conftest import Project


@pytest.fixture
def rows(empty_project: Project) -> pd.DataFrame:
    cases = load_golden(empty_project.use_case.directory / "cases" / "golden")
    return pd.DataFrame([dict(case.inputs) for case in cases]).assign(denied=[1, 0, 0])


def _package(project: Project, rows: pd.DataFrame, model: object = None) -> object:
    return lifecycle.package(
        project.use_case, model, training=rows, run_id="run1", settings=project.settings, now=datetime.now(UTC)
    )


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("mortgage_history", "on Mars", "on Mars"),
        ("loan_amount", float("inf"), "inf"),
        ("loan_amount", float("nan"), "loan_amount"),
        ("loan_amount", -5.0, "-5"),
    ],
)
def test_training_rows_that_break_the_contract_are_refused(
    empty_project: Project, rows: pd.DataFrame, column: str, value: object, problem: str
) -> None:
    rows[column] = rows[column].astype(object)
    rows.loc[0, column] = value
    with pytest.raises(ContractViolationError, match="training rows") as refused:
        _package(empty_project, rows)
    assert column in str(refused.value)
    assert problem in str(refused.value)
    assert not (empty_project.use_case.directory / ".nbkit").exists()


def test_missing_columns_are_named_all_at_once(empty_project: Project, rows: pd.DataFrame) -> None:
    with pytest.raises(ContractViolationError) as refused:
        _package(empty_project, rows.drop(columns=["loan_amount", "bankruptcy", "denied"]))
    assert "3 problems: $.loan_amount: missing; $.bankruptcy: missing; $.denied: missing" in str(refused.value)


def test_thresholds_are_not_chosen_on_nothing(empty_project: Project, rows: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="no validation rows to choose them on"):
        _package(empty_project, rows)


def test_verbs_say_what_comes_first(empty_project: Project) -> None:
    with pytest.raises(UsageError, match=r"nothing has been packaged yet. Next: nbkit run mortgage"):
        lifecycle.evaluate(empty_project.use_case, settings=empty_project.settings, now=datetime.now(UTC))
