from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from nbkit.contract import Contract
from nbkit.errors import ContractViolationError, PackageError
from nbkit.package._fitted import (
    TRUSTED_TYPES,
    FrameShape,
    dump_model,
    frame_shape,
    load_model,
    model_frame,
    score_model,
)

INPUTS = ["income", "ratio", "years", "married", "purpose", "region"]


def test_a_model_survives_skops(table: pd.DataFrame, prepared: Callable[..., Pipeline]) -> None:
    model = prepared(HistGradientBoostingClassifier(max_iter=3)).fit(table[INPUTS], table["denied"])
    back = load_model(dump_model(model))
    expected = score_model(model, table, positive=1)
    np.testing.assert_array_equal(score_model(back, table, positive=1), expected)


def test_a_file_that_would_call_getenv_is_not_loaded() -> None:
    hostile = skops.io.dumps(FunctionTransformer(os.getenv))
    with pytest.raises(PackageError, match=r"model\.skops holds types that nbkit does not trust: .*getenv") as caught:
        load_model(hostile)
    assert caught.value.next_step == "build the model from scikit-learn, LightGBM or XGBoost classes only"
    with pytest.raises(PackageError, match="getenv"):
        dump_model(FunctionTransformer(os.getenv))


def test_the_trusted_types_name_no_module_that_could_act() -> None:
    modules = {name.split(".")[0] for name in TRUSTED_TYPES}
    assert modules == {"collections", "functools", "lightgbm", "numpy", "sklearn", "xgboost"}
    assert list(TRUSTED_TYPES) == sorted(TRUSTED_TYPES)


@pytest.mark.parametrize("kind", ["None", "NaN"])
def test_a_frame_is_made_as_the_model_knows_it(kind: str, contract: Contract) -> None:
    columns: dict[str, list[Any]] = {
        "income": [1, None],
        "ratio": [0.5, np.nan],
        "years": [3, 4],
        "married": [True, False],
        "purpose": ["car", None],
        "region": ["east", "mars"],
    }
    shape = FrameShape(none_is_missing=kind == "None", levels={"region": ("west", "east")})
    frame = model_frame(columns, inputs=contract.inputs, shape=shape)
    assert frame.dtypes[INPUTS[:4]].tolist() == [np.dtype("float64")] * 4
    assert frame["purpose"].dtype == np.dtype(object)
    assert (frame["purpose"].iloc[1] is None) == (kind == "None")
    assert frame["region"].isna().tolist() == [False, True]
    assert list(frame["region"].cat.categories) == ["west", "east"]
    assert list(frame) == INPUTS


def test_a_frame_is_what_its_columns_say_however_many_rows(contract: Contract) -> None:
    columns: dict[str, list[Any]] = {
        "income": [1.0, np.nan, 3.0], "ratio": [0.5] * 3, "years": [3, 4, 5], "married": [True, False, True],
        "purpose": ["car", None, "home"], "region": ["north", "south", None],
    }  # fmt: skip
    shape = FrameShape(none_is_missing=True, levels={"region": ("north", "south")})
    for rows in (3, 1, 0):
        given = {name: values[:rows] for name, values in columns.items()}
        frame = model_frame(given, inputs=contract.inputs, shape=shape)
        expected = pd.DataFrame(
            {
                item.name: pd.Series(given[item.name], dtype=object if item.type == "category" else np.float64)
                for item in contract.inputs
            }
        ).astype({"region": pd.CategoricalDtype(["north", "south"])})
        pd.testing.assert_frame_equal(frame, expected)
        assert [type(value) for value in frame["purpose"]] == [type(value) for value in given["purpose"]]


def test_columns_of_different_lengths_are_no_frame(contract: Contract) -> None:
    columns: dict[str, list[Any]] = {"income": [1.0, 2.0], "ratio": [0.5], "years": [3.0, 4.0], "married": [0.0, 1.0]}
    columns |= {"purpose": ["car", "car"], "region": ["north", "north"]}
    with pytest.raises(ContractViolationError, match=r"expected columns of one length, got \[1, 2\]"):
        model_frame(columns, inputs=contract.inputs, shape=FrameShape())


def test_a_model_that_knows_its_columns_finds_them_in_any_order(
    table: pd.DataFrame, prepared: Callable[..., Pipeline]
) -> None:
    model = prepared(HistGradientBoostingClassifier(max_iter=3)).fit(table[INPUTS], table["denied"])
    expected = score_model(model, table[INPUTS], positive=1)
    np.testing.assert_array_equal(score_model(model, table[INPUTS[::-1]], positive=1), expected)


def test_the_shape_of_a_frame_is_that_of_its_categories(table: pd.DataFrame, contract: Contract) -> None:
    typed = table.astype({"region": "category"})
    shape = frame_shape(typed, none_is_missing=False, inputs=contract.inputs)
    assert shape == FrameShape(none_is_missing=False, levels={"region": ("east", "north", "south", "west")})


def test_a_model_fitted_on_arrays_is_given_arrays(table: pd.DataFrame) -> None:
    rows = table[["married", "denied"]].to_numpy()
    model = LogisticRegression().fit(rows[:, :1], rows[:, 1])
    expected = model.predict_proba(rows[:, :1])[:, 0]
    np.testing.assert_array_equal(score_model(model, table[["married"]], positive=0), expected)
