import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.rationale import Dependence
from nbkit.rationale._facts import entries, figure, mapping, number, text
from nbkit.rationale._figures import _ticks, cost_figure, dependence_figure, importance_figure

finite = st.floats(-1e6, 1e6)


def test_importance_names_every_input_and_its_size():
    svg = importance_figure({"income <k>": 0.5, "age": 0.0}, scale="log-odds")
    assert "income &lt;k&gt;" in svg
    assert 'aria-label="Importance of the inputs: income &lt;k&gt; 0.500, age 0"' in svg
    assert [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)] == [440.0, 0.0]


def test_importance_of_nothing_is_an_empty_picture():
    assert "<rect" not in importance_figure({}, scale="log-odds")


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.one_of(st.none(), finite), finite), min_size=1, max_size=60))
def test_points_stay_inside_the_picture(pairs):
    values, contributions = zip(*pairs, strict=True)
    svg = dependence_figure(Dependence(input="x", values=values, contributions=contributions), scale="log-odds")
    for x, y in re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', svg):
        assert 0 <= float(x) <= 352
        assert 0 <= float(y) <= 220
    assert "nan" not in svg


def test_categories_are_drawn_as_means_with_their_counts():
    drawn = Dependence(
        input="x", values=("a", "a", None, "a much longer level than fits"), contributions=(1.0, 3.0, -1.0, 0.5)
    )
    svg = dependence_figure(drawn, scale="log-odds")
    assert "<circle" not in svg
    assert [">n 2<" in svg, ">missing<" in svg, ">a much longer level t…<" in svg] == [True] * 3


def test_missing_values_stand_beside_the_axis():
    drawn = Dependence(input="x", values=(1.0, 2.0, 3.0, None), contributions=(1.0, 2.0, 3.0, 4.0))
    assert 'cx="58.0"' in dependence_figure(drawn, scale="log-odds")


def test_the_cost_curve_marks_the_threshold():
    svg = cost_figure([(0.9, 500.0), (0.1, 900.0), (float("inf"), 1.0)], marks={"decline": 0.5}, currency="USD")
    assert "decline from 0.500" in svg
    assert len(re.findall(r'points="([^"]*)"', svg)[0].split()) == 2


@settings(deadline=None, derandomize=True)
@given(finite, st.floats(1e-6, 1e6))
def test_ticks_are_few_and_lie_between_the_ends(low, width):
    ticks = _ticks(low, low + width)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 * abs(low) - 1e-9 <= tick <= low + width + 1e-6 * abs(low) + 1e-9 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"), (0.0, "0"), (7, "7"), (12_345.0, "12,345"), (1234.5, "1,234"), (45.678, "45.7"), (1.0, "1.000"),
        (-0.0817, "-0.0817"), (0.00021, "0.00021"), (float("nan"), "not measured"), (None, "not measured"), ("x", "x"),
        (True, "True"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_readers(value, written):
    assert figure(value) == written


def test_facts_that_are_not_there_are_nothing():
    facts = {"a": {"b": 1.5, "c": "x", "d": [{"e": 1}, 2], "f": float("inf"), "g": True}}
    assert (number(facts, "a.b"), number(facts, "a.c"), number(facts, "a.f"), number(facts, "a.g")) == (
        1.5,
        None,
        None,
        None,
    )
    assert (text(facts, "a.c"), text(facts, "a.z"), text(facts, "a.c.y")) == ("x", "", "")
    assert (mapping(facts, "a.b"), entries(facts, "a.d"), entries(facts, "a.c"), entries(facts, "z")) == (
        {},
        ({"e": 1},),
        (),
        (),
    )
