from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from nbkit.package._encoders import encode
from nbkit.package._steps import RefusedValueError

SEEN = pd.DataFrame(
    {
        "town": pd.Series(["bonn"] * 8 + ["rome"] * 4 + ["oslo", "lima", None]),
        "sex": pd.Series(["f", "m", "f"] * 5),
    }
)
ASKED = pd.DataFrame({"town": pd.Series(["bonn", "rome", "oslo", "lima", "paris", None]), "sex": pd.Series(["m"] * 6)})

ONE_HOT = [
    {"handle_unknown": unknown, "drop": drop, "min_frequency": frequency, "max_categories": most}
    for unknown, drop, (frequency, most) in itertools.product(
        ["ignore", "infrequent_if_exist", "error"],
        [None, "first", "if_binary", ["bonn", "m"]],
        [(None, None), (3, None), (None, 2)],
    )
    # scikit-learn cannot drop a rare level by name: it fails while fitting.
    if not (isinstance(drop, list) and (frequency or most))
]
ORDINAL = [
    {"unknown_value": unknown, "encoded_missing_value": missing, "min_frequency": low}
    for unknown, missing, low in itertools.product([-1, np.nan], [-2, np.nan], [None, 3])
]


def answers(encoder: Any, frame: pd.DataFrame) -> list[list[float] | None]:
    """What the encoder itself says, row by row; None where it refuses."""
    told: list[list[float] | None] = []
    for row in range(len(frame)):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Found unknown categories")
                told.append(np.asarray(encoder.transform(frame.iloc[[row]])[0], dtype=float).tolist())
        except ValueError:
            told.append(None)
    return told


def looked_up(encoder: Any, frame: pd.DataFrame) -> list[list[float] | None]:
    encoded = encode(encoder, texts=[True, True], none_is_missing=False)
    told: list[list[float] | None] = []
    for values in frame.itertuples(index=False):
        try:
            pairs = zip(values, encoded, strict=True)
            told.append([column.lookup.one(value) for value, ours in pairs for column in ours])
        except RefusedValueError:
            told.append(None)
    return told


@pytest.mark.parametrize("options", ONE_HOT, ids=str)
def test_a_one_hot_encoder_is_read_exactly(options: dict[str, Any]) -> None:
    encoder = OneHotEncoder(sparse_output=False, **options).fit(SEEN)
    np.testing.assert_equal(looked_up(encoder, ASKED), answers(encoder, ASKED))


@pytest.mark.parametrize("options", ORDINAL, ids=str)
def test_an_ordinal_encoder_is_read_exactly(options: dict[str, Any]) -> None:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", **options).fit(SEEN)
    np.testing.assert_equal(looked_up(encoder, ASKED), answers(encoder, ASKED))


def test_an_ordinal_encoder_that_refuses_is_read_as_such() -> None:
    encoder = OrdinalEncoder().fit(SEEN)
    assert None in answers(encoder, ASKED)
    np.testing.assert_equal(looked_up(encoder, ASKED), answers(encoder, ASKED))


def test_an_encoder_of_numbers_and_of_arrays_is_read_too() -> None:
    rows = np.array([[1.0, 12.0], [2.0, 24.0], [2.0, math.nan]])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(rows)
    encoded = encode(encoder, texts=[False, False], none_is_missing=False)
    told = [[column.lookup.one(value) for column in encoded[1]] for value in (12.0, 24.0, math.nan, 36.0)]
    assert told == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_a_one_hot_column_names_the_level_that_it_marks() -> None:
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", sparse_output=False, min_frequency=3).fit(SEEN)
    towns, sexes = encode(encoder, texts=[True, True], none_is_missing=False)
    assert [(column.level, column.missing) for column in sexes] == [("f", False), ("m", False)]
    assert [(column.level, column.missing) for column in towns] == [
        ("bonn", False),
        ("rome", False),
        ("infrequent", False),
    ]


def test_a_column_for_missing_values_names_no_level() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(SEEN)
    towns, _ = encode(encoder, texts=[True, True], none_is_missing=False)
    assert (towns[-1].level, towns[-1].missing) == (None, True)


def test_codes_name_no_level() -> None:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(SEEN)
    assert [column.level for ours in encode(encoder, texts=[True] * 2, none_is_missing=False) for column in ours] == [
        None,
        None,
    ]
