"""What somebody gives for a run: strict, and never another value than was typed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.errors import ParameterError
from nbkit.retrain import Allowed, Parameter, check_parameters

DECLARED = (
    Parameter(name="max_iter", allowed=Allowed(kind="int", minimum=10, maximum=2000), default=300),
    Parameter(name="rate", allowed=Allowed(kind="float", minimum=0.0), default=0.1),
    Parameter(name="branch", allowed=Allowed(kind="str"), default="001"),
    Parameter(name="note", allowed=Allowed(kind="str", optional=True), default=None),
    Parameter(name="seed", allowed=Allowed(kind="int", optional=True), default=None),
    Parameter(name="verbose", allowed=Allowed(kind="bool"), default=False),
    Parameter(name="penalty", allowed=Allowed(kind="str", optional=True, choices=("none", "l2")), default="l2"),
    Parameter(name="depth", allowed=Allowed(kind="int", choices=(3, 5)), default=3),
)


def check(**values: object) -> dict[str, object]:
    return check_parameters(values, declared=DECLARED)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("branch", "007", "007"),
        ("branch", "none", "none"),
        ("branch", "", ""),
        ("note", "none", None),
        ("note", "Null", None),
        ("max_iter", "10", 10),
        ("max_iter", "+0500", 500),
        ("seed", "none", None),
        ("seed", "-3", -3),
        ("rate", "1e-3", 0.001),
        ("rate", "3", 3.0),
        ("rate", ".5", 0.5),
        ("verbose", "true", True),
        ("verbose", "False", False),
        ("penalty", "none", "none"),
        ("penalty", "null", None),
        ("depth", "5", 5),
    ],
)
def test_text_is_read_by_the_declared_type(name, text, value):
    read = check(**{name: text})[name]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("max_iter", "notanint", "max_iter: expected int in 10..2000, got 'notanint'"),
        ("max_iter", "1e3", "max_iter: expected int in 10..2000, got '1e3'"),
        ("max_iter", "1_000", "max_iter: expected int in 10..2000, got '1_000'"),
        ("max_iter", "100.0", "max_iter: expected int in 10..2000, got '100.0'"),
        ("max_iter", "9", "max_iter: expected int in 10..2000, got '9'"),
        ("max_iter", "2001", "max_iter: expected int in 10..2000, got '2001'"),
        ("max_iter", " 10", "max_iter: expected int in 10..2000, got ' 10'"),
        ("max_iter", "\u0661\u0660", "max_iter: expected int in 10..2000, got '\u0661\u0660'"),
        ("max_iter", "none", "max_iter: expected int in 10..2000, got 'none'"),
        ("max_iter", None, "max_iter: expected int in 10..2000, got None"),
        ("max_iter", 100.0, "max_iter: expected int in 10..2000, got 100.0"),
        ("max_iter", True, "max_iter: expected int in 10..2000, got True"),
        ("rate", "nan", "rate: expected float in 0.0.., got 'nan'"),
        ("rate", "inf", "rate: expected float in 0.0.., got 'inf'"),
        ("rate", "1e999", "rate: expected float in 0.0.., got '1e999'"),
        ("rate", math.nan, "rate: expected float in 0.0.., got nan"),
        ("rate", True, "rate: expected float in 0.0.., got True"),
        ("rate", "-0.1", "rate: expected float in 0.0.., got '-0.1'"),
        ("verbose", "yes", "verbose: expected bool, got 'yes'"),
        ("verbose", 1, "verbose: expected bool, got 1"),
        ("branch", 7, "branch: expected str, got 7"),
        ("penalty", "l1", "penalty: expected 'none' or 'l2' or none, got 'l1'"),
        ("depth", "4", "depth: expected 3 or 5, got '4'"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_converted(name, given, text):
    with pytest.raises(ParameterError) as caught:
        check(**{name: given})
    assert str(caught.value) == f"parameters: 1 problem: {text}"


def test_python_values_keep_their_type_and_an_int_may_stand_for_a_float():
    values = check(max_iter=20, rate=2, seed=None, verbose=True, branch="x")
    assert values == {"max_iter": 20, "rate": 2.0, "seed": None, "verbose": True, "branch": "x"}
    assert isinstance(values["rate"], float)


def test_all_problems_come_at_once_with_the_nearest_known_name():
    declared = (*DECLARED[:2], Parameter(name="month", allowed=Allowed(kind="str"), required=True))
    with pytest.raises(ParameterError) as caught:
        check_parameters({"max_itr": "5", "colour": "red", "rate": "fast"}, declared=declared)
    assert str(caught.value) == (
        "parameters: 4 problems: max_itr: unknown; did you mean 'max_iter'?; "
        "colour: unknown; the parameters are max_iter, rate, month; "
        "rate: expected float in 0.0.., got 'fast'; "
        "month: missing; expected str"
    )


def test_a_notebook_without_parameters_takes_none():
    assert check_parameters({}, declared=()) == {}
    with pytest.raises(ParameterError, match="n: unknown; the notebook has no cell tagged 'parameters'"):
        check_parameters({"n": "1"}, declared=())


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_any_text_stays_itself_where_text_is_declared(text):
    assert check(branch=text) == {"branch": text}


@settings(deadline=None, derandomize=True)
@given(st.integers(min_value=-(10**30), max_value=10**30), st.floats(min_value=0, allow_infinity=False))
def test_numbers_survive_the_way_through_text(whole, real):
    assert check(seed=str(whole), rate=repr(real)) == {"seed": whole, "rate": real}
