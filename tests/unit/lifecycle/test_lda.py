"""``nbkit lda``: rows apart from the frozen cases, the ledger in the build, the run that it is logged to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from nbkit import lifecycle
from nbkit.cli import cli
from nbkit.errors import UsageError
from nbkit.evaluate import LdaLedger
from nbkit.lifecycle import UseCase, open_use_case
from nbkit.settings import Settings


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"risk": frame["risk"], "fixed": frame["kind"] == "fixed", "phone": frame["phone"].fillna(0)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"NBKIT_HOME": str(tmp_path / "home")}, directory=tmp_path)


@pytest.fixture
def many() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    risk = rng.normal(-1, 1.5, 600).clip(-9, 9)
    return pd.DataFrame(
        {
            "loan_id": np.arange(600),
            "risk": risk,
            "kind": rng.choice(["fixed", "adjustable"], 600),
            "phone": rng.integers(1, 9, 600).astype(float),
            "group": np.where(rng.random(600) < 0.3, "b", "a"),
            "bad": (rng.random(600) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )


@pytest.fixture
def frozen(use_case: UseCase, many: pd.DataFrame) -> UseCase:
    lifecycle.freeze(use_case, many, share=0.3, seed=0)
    return open_use_case("", base=use_case.directory)


def free(use_case: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    from nbkit.evaluate import load_cases

    return rows[~rows["loan_id"].isin(load_cases(use_case.directory, contract=use_case.contract).ids)]


def test_the_ledger_lies_in_the_build_and_on_the_run(frozen: UseCase, many: pd.DataFrame, settings: Settings) -> None:
    rows = free(frozen, many)
    run = lifecycle.open_run(frozen, settings=settings, parameters={})
    model = make_pipeline(FunctionTransformer(numbers), LogisticRegression())
    found = lifecycle.seek_alternatives(
        frozen, model, training=rows[:300], validation=rows[300:], settings=settings, run_id=run
    )
    lifecycle.close_run(run, settings=settings, succeeded=True)
    assert found.rows == len(rows)
    ledger = LdaLedger.from_json(found.path.read_bytes())
    assert ledger == found.ledger
    assert len(ledger.entries) - 1 == found.tried
    assert found.report.read_text().startswith("<!doctype html>")
    assert "candidates tried for group b" in str(found)
    assert "ratio b" in str(found)
    assert found.succeeded


def test_frozen_cases_are_refused(frozen: UseCase, many: pd.DataFrame, settings: Settings) -> None:
    frozen.build("r1")
    with pytest.raises(UsageError, match=r"180 are frozen cases \(first: \d+\)"):
        lifecycle.seek_alternatives(frozen, LogisticRegression(), training=many, settings=settings)
    with pytest.raises(UsageError, match="expected the column 'loan_id'"):
        lifecycle.seek_alternatives(
            frozen, LogisticRegression(), training=many.drop(columns="loan_id"), settings=settings
        )


def test_without_frozen_cases_nothing_is_searched(use_case: UseCase, many: pd.DataFrame, settings: Settings) -> None:
    use_case.build("r1")
    with pytest.raises(UsageError, match="no cases are frozen yet"):
        lifecycle.seek_alternatives(use_case, LogisticRegression(), training=many, settings=settings)


def test_the_command_line_takes_files_and_the_packaged_model(
    frozen: UseCase, many: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen.build("r1")
    path = frozen.directory / "rows.parquet"
    free(frozen, many).to_parquet(path)
    monkeypatch.chdir(frozen.directory)
    result = CliRunner().invoke(cli, ["lda", "--training", "rows.parquet", "--validation", "rows.parquet"])
    assert isinstance(result.exception, UsageError)
    assert "run r1 has no package yet" in str(result.exception)
