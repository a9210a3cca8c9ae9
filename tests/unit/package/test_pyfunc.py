from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from nbkit.errors import ContractViolationError, TamperedPackageError
from nbkit.package import Package
from nbkit.package._pyfunc import _load_pyfunc

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


@pytest.fixture
def written(write: Callable[..., Package], prepared: Callable[..., Pipeline], table: pd.DataFrame) -> Package:
    return write(prepared(LogisticRegression()).fit(table[INPUTS], table["denied"]))


def test_mlflow_gets_the_scores_of_the_package(written: Package, table: pd.DataFrame) -> None:
    model = _load_pyfunc(str(written.directory))
    np.testing.assert_array_equal(model.predict(table), written.score_frame(table))
    assert model.package.digest == written.digest


def test_mlflow_gets_no_model_whose_files_were_changed(written: Package) -> None:
    (written.directory / "plan.json").write_bytes(b"{}")
    with pytest.raises(TamperedPackageError, match=r"plan\.json: edited"):
        _load_pyfunc(str(written.directory))


def test_a_missing_column_is_named(written: Package, table: pd.DataFrame) -> None:
    with pytest.raises(ContractViolationError, match=r"the table: 1 problem: \$\.ratio: missing"):
        _load_pyfunc(str(written.directory)).predict(table.drop(columns="ratio"))
