"""Correlated inputs are found whatever their types, and reported together."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import Input
from nbkit.rationale._groups import correlated, correlation, joined, rank_correlation

RNG = np.random.default_rng(0)
X = RNG.normal(size=400)
NOISE = RNG.normal(size=400)
FRAME = pd.DataFrame(
    {
        "income": X,
        "wage": np.exp(X + 0.2 * NOISE),
        "band": np.where(X > 0.5, "high", np.where(X > -0.5, "middle", "low")),
        "grade": np.where(X > 0.5, "A", np.where(X > -0.5, "B", "C")),
        "noise": NOISE,
        "colour": RNG.choice(["red", "green"], size=400),
        "constant": np.ones(400),
        "rare": np.where(np.arange(400) < 20, X, np.nan),
    }
)
CATEGORIES = {"band": ("high", "middle", "low"), "grade": ("A", "B", "C"), "colour": ("red", "green")}


def column(name):
    if name in CATEGORIES:
        return Input(name=name, type="category", categories=CATEGORIES[name])
    return Input(name=name, type="number")


def between(one, other):
    return correlation(FRAME, column(one), column(other))


def test_numbers_go_together_by_their_ranks():
    assert between("income", "wage") > 0.9
    assert between("income", "noise") < 0.1
    assert between("income", "constant") == 0.0


def test_categories_go_together_by_what_they_say():
    assert between("band", "grade") == pytest.approx(1.0)
    assert between("band", "colour") < 0.1


def test_a_category_goes_with_a_number_that_differs_by_level():
    assert between("band", "income") > 0.85
    assert between("income", "band") == between("band", "income")
    assert between("colour", "constant") == 0.0


def test_too_few_rows_say_nothing():
    assert between("income", "rare") == 0.0


def test_groups_follow_the_threshold():
    inputs = [column(name) for name in FRAME.columns]
    assert correlated(FRAME, inputs=inputs, threshold=0.8) == (("income", "wage", "band", "grade"),)
    assert correlated(FRAME, inputs=inputs, threshold=1.0) == (("band", "grade"),)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8))
@settings(deadline=None, derandomize=True)
def test_every_name_is_in_one_part_and_pairs_are_never_parted(pairs):
    parts = joined(list("abcdef"), pairs)
    assert sorted(name for part in parts for name in part) == list("abcdef")
    assert all(any(one in part and other in part for part in parts) for one, other in pairs)


def test_one_row_has_no_rank_correlation():
    assert rank_correlation(np.array([1.0]), np.array([2.0])) == 0.0
