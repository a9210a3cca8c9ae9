from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.errors import ContractViolationError
from nbkit.package._rows import PlanColumn, PlanInput, RowMaker
from nbkit.package._steps import Arithmetic, Fill, IsMissing, Lookup
from nbkit.package._tables import categories, numbers

INPUTS = [
    PlanInput(name="age", type="integer"),
    PlanInput(name="debt", type="number"),
    PlanInput(name="town", type="category"),
    PlanInput(name="idle", type="category"),
]
TOWNS = frozenset({"bonn", "rome"})


def marks(town: str) -> Lookup:
    return Lookup(values={town: 1.0}, other=0.0, domain=TOWNS, missing=0.0, unknown=0.0)


SCALE = (Arithmetic(kind="subtract", value=40.0), Arithmetic(kind="divide", value=7.0))
COLUMNS = [
    PlanColumn(source="age", steps=(Fill(value=33.0), *SCALE)),
    PlanColumn(source="town", level="rome", steps=(marks("rome"),)),
    PlanColumn(source="age", missing=True, steps=(IsMissing(), *SCALE)),
    PlanColumn(source="debt"),
    PlanColumn(source="town", level="bonn", steps=(Fill(value="bonn"), marks("bonn"))),
]
MAKER = RowMaker(inputs=INPUTS, columns=COLUMNS)
number = st.none() | st.floats(-1e6, 1e6)
town = st.sampled_from([None, "bonn", "rome", "oslo"])
row = st.fixed_dictionaries({"age": number, "debt": number, "town": town, "idle": town})


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(row, min_size=1, max_size=6))
def test_a_row_alone_and_in_a_table_gives_the_same_bits(rows: list[dict[str, Any]]) -> None:
    together = MAKER.matrix({name: [row[name] for row in rows] for name in rows[0]})
    alone = np.array([MAKER.cells(row) for row in rows])
    np.testing.assert_array_equal(alone, together)


def test_missing_values_are_filled_marked_or_kept() -> None:
    cells = MAKER.cells({"age": None, "debt": None, "town": None, "idle": None})
    np.testing.assert_array_equal(cells, [-1.0, 0.0, (1.0 - 40.0) / 7.0, math.nan, 1.0])


def test_nan_is_missing_also_for_a_category() -> None:
    with_none = MAKER.cells({"age": 1.0, "debt": 1.0, "town": None, "idle": None})
    assert MAKER.cells({"age": math.nan, "debt": 1.0, "town": math.nan, "idle": None})[1:] != with_none[1:]
    assert MAKER.cells({"age": 1.0, "debt": 1.0, "town": math.nan, "idle": None}) == with_none


def test_a_value_that_encoding_made_missing_is_imputed_afterwards() -> None:
    encode = Lookup(values={1.0: 5.0}, other=0.0, domain=frozenset({1.0}), missing=9.0, unknown=math.nan)
    columns = [PlanColumn(source="age", steps=(encode, Fill(value=7.0))), PlanColumn(source="debt")]
    maker = RowMaker(inputs=INPUTS[:2], columns=columns)
    assert [maker.cells({"age": age, "debt": 0.0})[0] for age in (1.0, 2.0, None)] == [5.0, 7.0, 9.0]
    assert maker.matrix({"age": [1.0, 2.0, None], "debt": [0.0, 0.0, 0.0]})[:, 0].tolist() == [5.0, 7.0, 9.0]


def test_an_absent_input_is_named() -> None:
    for absent in ("age", "debt", "town"):
        given = {"age": 1.0, "debt": 1.0, "town": "bonn", "idle": None}
        del given[absent]
        with pytest.raises(ContractViolationError, match=rf"^\$\.{absent}: missing$"):
            MAKER.cells(given)
    with pytest.raises(ContractViolationError, match=r"the table: 2 problems: \$\.debt: missing; \$\.idle: missing"):
        MAKER.matrix({"age": [1.0], "town": ["bonn"]})


@pytest.mark.parametrize("name", ["age", "town"])
def test_a_refused_value_is_refused_without_being_shown(name: str) -> None:
    known: frozenset[str | float] = frozenset({"bonn"} if name == "town" else {1.0})
    strict = Lookup(values={}, other=0.0, domain=known, missing=None, unknown=None)
    columns = [PlanColumn(source=name, steps=(strict,)), PlanColumn(source="debt")]
    maker = RowMaker(inputs=INPUTS, columns=columns)
    for value in ("secret" if name == "town" else 31337.0, None):
        given: dict[str, Any] = {"age": 1.0, "debt": 1.0, "town": "bonn", "idle": None, name: value}
        with pytest.raises(ContractViolationError, match=rf"^\$\.{name}: the model was fitted to refuse") as caught:
            maker.cells(given)
        assert "secret" not in str(caught.value)
        assert "31337" not in str(caught.value)
        with pytest.raises(ContractViolationError, match=rf"^\$\.{name}: the model was fitted to refuse"):
            maker.matrix({key: [item] for key, item in given.items()})


@pytest.mark.parametrize(
    "values",
    [
        [1.0, None],
        np.array([1.0, np.nan]),
        pd.Series([1.0, None]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1.0, None], dtype=object),
    ],
)
def test_numbers_come_from_lists_arrays_and_pandas(values: Any) -> None:
    np.testing.assert_array_equal(numbers(values, name="age"), [1.0, np.nan])


@pytest.mark.parametrize(
    "values",
    [
        ["a", None],
        ["a", math.nan],
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype=object),
        pd.Series(["a", None], dtype="category"),
        pd.Series(["a", pd.NA], dtype="string"),
    ],
)
def test_categories_come_from_lists_and_pandas(values: Any) -> None:
    assert categories(values, name="town") == ["a", None]


def test_a_column_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ContractViolationError, match=r"^\$\.age: expected numbers$"):
        numbers(["young"], name="age")
    with pytest.raises(ContractViolationError, match=r"^\$\.town: expected text, got int$"):
        categories(["a", 5], name="town")
