"""Fairness says pass, fail or cannot tell, and how many cases would tell."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import Fairness, Protected
from nbkit.evaluate import impact_ratio
from nbkit.evaluate._bootstrap import wilson
from nbkit.evaluate._fairness import difference, fairness_of
from nbkit.evaluate._metrics import Judged


def judge(groups, *, floor=0.8, minimum=30):
    """Judge groups given as name → (approved, declined)."""
    names, decisions = [], []
    for name, (approved, declined) in groups.items():
        names += [name] * (approved + declined)
        decisions += [0] * approved + [2] * declined
    labels = np.arange(len(names)) % 5 == 0
    judged = Judged(
        scores=np.full(len(names), 0.5), labels=labels, decisions=np.array(decisions), costs=np.zeros(len(names))
    )
    (found,) = fairness_of(
        judged,
        pd.DataFrame({"group": pd.Series(names, dtype="object")}),
        attributes=(Protected(name="group", reference="a"),),
        limits=Fairness(impact_ratio_floor=floor, minimum_group=minimum),
        confidence=0.95,
    )
    return found


def test_a_group_whose_whole_interval_reaches_the_floor_passes():
    (group,) = judge({"a": (800, 200), "b": (380, 100)}).groups
    assert (group.verdict, group.n_that_would_tell) == ("pass", None)
    assert group.reason.startswith("at least 0.9")


def test_a_group_whose_whole_interval_is_below_the_floor_fails():
    (group,) = judge({"a": (800, 200), "b": (200, 280)}).groups
    assert group.verdict == "fail"
    assert group.reason.startswith("at most 0.5")


def test_an_interval_across_the_floor_cannot_tell_and_says_what_would():
    (group,) = judge({"a": (400, 100), "b": (40, 20)}).groups
    assert group.verdict == "cannot tell"
    assert group.reason == "between 0.69 and 1.00, the floor is 0.80"
    needed = group.n_that_would_tell
    factor = needed / 60
    grown = {"a": (round(400 * factor), round(100 * factor)), "b": (round(40 * factor), round(20 * factor))}
    assert judge(grown).groups[0].verdict == "pass"
    fewer = {"a": (round(320 * factor), round(80 * factor)), "b": (round(32 * factor), round(16 * factor))}
    assert judge(fewer).groups[0].verdict == "cannot tell"


def test_a_small_group_cannot_tell_however_clear_it_looks():
    (group,) = judge({"a": (500, 20), "b": (2, 20)}).groups
    assert (group.verdict, group.reason) == ("cannot tell", "the group has fewer than 30 cases")
    assert group.n_that_would_tell >= 30
    (group,) = judge({"a": (20, 1), "b": (500, 20)}).groups
    assert (group.verdict, group.reason) == ("cannot tell", "the reference group has fewer than 30 cases")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [({}, "the reference group 'a' has no case"), ({"a": (0, 50)}, "the reference group 'a' was never approved")],
)
def test_without_a_reference_nothing_can_be_told(reference, reason):
    found = judge(reference | {"b": (40, 10)})
    (group,) = found.groups
    assert (group.verdict, group.reason, group.impact_ratio) == ("cannot tell", reason, None)
    assert group.n_that_would_tell is None
    assert (found.reference_rate is None) == (not reference)


def test_a_ratio_at_the_floor_can_never_be_told():
    (group,) = judge({"a": (100, 0), "b": (80, 20)}, floor=0.8).groups
    assert group.verdict == "cannot tell"
    (exact,) = judge({"a": (50, 50), "b": (40, 60)}, floor=0.8).groups
    assert (exact.verdict, exact.n_that_would_tell) == ("cannot tell", None)


def test_a_floor_of_zero_is_always_reached():
    (group,) = judge({"a": (500, 100), "b": (10, 50)}, floor=0.0).groups
    assert group.verdict == "pass"
    (small,) = judge({"a": (500, 100), "b": (1, 5)}, floor=0.0).groups
    assert (small.verdict, small.n_that_would_tell) == ("cannot tell", None)


def test_a_group_that_is_never_approved_has_a_ratio_of_zero_with_an_interval():
    (group,) = judge({"a": (400, 100), "b": (0, 60)}).groups
    assert (group.verdict, group.impact_ratio.value) == ("fail", 0.0)
    assert 0 <= group.impact_ratio.low <= group.impact_ratio.high < 0.8


def test_cases_without_a_group_are_counted_and_in_none():
    found = judge({"a": (100, 20), None: (10, 5), "b": (90, 20)})
    assert (found.unknown, found.reference_n, [group.group for group in found.groups]) == (15, 120, ["b"])


def test_an_attribute_with_the_reference_only_has_no_group():
    assert judge({"a": (100, 20)}).groups == ()


def test_equal_opportunity_looks_at_cases_that_did_not_turn_out_positive():
    (group,) = judge({"a": (100, 100), "b": (50, 150)}).groups
    assert group.opportunity.value == pytest.approx(-0.25)
    assert group.opportunity.low < -0.25 < group.opportunity.high < 0


def test_a_group_of_positives_only_has_no_equal_opportunity():
    judged = Judged(
        scores=np.zeros(6),
        labels=np.array([0, 0, 0, 1, 1, 1], dtype=bool),
        decisions=np.zeros(6, int),
        costs=np.zeros(6),
    )
    frame = pd.DataFrame({"group": list("aaabbb")})
    (found,) = fairness_of(
        judged, frame, attributes=(Protected(name="group", reference="a"),), limits=Fairness(), confidence=0.95
    )
    assert found.groups[0].opportunity is None


def test_katz_interval_agrees_with_its_formula():
    found = impact_ratio(60, 100, 150, 200, confidence=0.95)
    error = math.sqrt(1 / 60 - 1 / 100 + 1 / 150 - 1 / 200)
    assert found.low == pytest.approx(0.8 * math.exp(-1.959964 * error))
    assert found.high == pytest.approx(0.8 * math.exp(1.959964 * error))


@given(n=st.integers(1, 300), reference_n=st.integers(1, 300), data=st.data())
@settings(deadline=None, derandomize=True)
def test_the_ratio_lies_inside_its_interval(n, reference_n, data):
    approved, reference = data.draw(st.integers(0, n)), data.draw(st.integers(1, reference_n))
    found = impact_ratio(approved, n, reference, reference_n, confidence=0.95)
    assert 0 <= found.low <= found.value <= found.high
    assert math.isfinite(found.high)


def test_newcombe_interval_agrees_with_his_published_example():
    # Newcombe, Statistics in Medicine 17 (1998), table II, method 10: 56/70 less 48/80.
    found = difference(wilson(56, of=70, confidence=0.95), wilson(48, of=80, confidence=0.95))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
