from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from nbkit.errors import ContractViolationError, TamperedPackageError
from nbkit.package import Package, load_package
from nbkit.package._pyfunc import ScoringModel

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


@pytest.fixture
def written(write: Callable[..., Package], prepared: Callable[..., Pipeline], table: pd.DataFrame) -> Package:
    return write(prepared(LogisticRegression()).fit(table[INPUTS], table["denied"]))


def test_mlflow_gets_the_scores_of_the_package(written: Package, table: pd.DataFrame) -> None:
    model = ScoringModel(load_package(written.directory))
    np.testing.assert_array_equal(model.predict(table), written.score_frame(table))
    assert model.package.digest == written.digest


def test_mlflow_gets_no_model_whose_files_were_changed(written: Package) -> None:
    (written.directory / "plan.json").write_bytes(b"{}")
    with pytest.raises(TamperedPackageError, match=r"plan\.json: edited"):
        ScoringModel(load_package(written.directory))


def test_a_missing_column_is_named(written: Package, table: pd.DataFrame) -> None:
    with pytest.raises(ContractViolationError, match=r"the table: 1 problem: \$\.ratio: missing"):
        ScoringModel(load_package(written.directory)).predict(table.drop(columns="ratio"))
