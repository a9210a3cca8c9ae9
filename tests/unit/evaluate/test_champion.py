"""The verdict on two versions: a loss that would matter is never called no difference, and noise blocks nobody."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.evaluate import Difference
from nbkit.evaluate._holm import holm
from nbkit.evaluate._verdict import Margins, adjust, judge_slice, rule, with_need

WITHIN = "surely within 0.02 of AUC and 5.00 of cost per case"
MARGINS = Margins(auc=0.02, cost=5.0, level=0.05)


def about(name, low, high, *, adjusted=1.0, n=400):
    middle = None if low is None else (low + high) / 2
    return Difference(
        name=name, value=middle or 0.0, low=low, high=high, method="m", n=n, p_worse=adjusted, adjusted=adjusted
    )


def area(low, high, **more):
    return about("auc", low, high, **more)


def money(low, high, **more):
    return about("expected_cost", low, high, **more)


@pytest.mark.parametrize(
    ("area", "money", "verdict", "reason"),
    [
        (area(0.01, 0.03), money(-9, -1), "better", "ranks better and costs less"),
        (area(-0.05, 0.01), money(-9, -1), "better", "costs less"),
        (area(0.01, 0.03), money(-9, 4), "better", "ranks better"),
        (area(0.01, 0.03), money(-9, 6), "cannot tell", "ranks better, but may cost up to 6.00 more per case"),
        (area(-0.03, -0.01, adjusted=0.01), money(1, 9, adjusted=0.02), "worse", "ranks worse and costs more"),
        (area(-0.03, -0.01, adjusted=0.01), money(-1, 1), "worse", "ranks worse"),
        (area(0.01, 0.03), money(1, 2, adjusted=0.01), "cannot tell", "ranks better, but costs more"),
        (area(-0.03, -0.01, adjusted=0.01), money(-9, -1), "cannot tell", "costs less, but ranks worse"),
        (area(-0.01, 0.01), money(-4, 4), "no difference", WITHIN),
        # The interval alone lies below 0, but among so many questions that is still chance, and too small to matter.
        (area(-0.015, -0.001, adjusted=0.06), money(-4, 4), "no difference", WITHIN),
        (area(-0.03, 0.01), money(-4, 4), "cannot tell", "a loss of 0.02 of AUC cannot be ruled out"),
        (area(-0.01, 0.01), money(-4, 6), "cannot tell", "a cost higher by 5.00 per case cannot be ruled out"),
        (area(None, None), money(-4, 4), "cannot tell", "a label occurs too rarely for an interval"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_intervals(area, money, verdict, reason):
    ruling = rule([area, money], [], margins=MARGINS)
    assert (ruling.verdict, ruling.reason) == (verdict, reason)


class TestSlices:
    def test_a_better_version_with_a_worse_slice_is_worse(self):
        bad = judge_slice(area(-0.2, -0.1, adjusted=0.004), money(-9, 9), margins=MARGINS)
        assert (bad.verdict, bad.reason) == ("worse", "ranks worse (adjusted p 0.004)")
        ruling = rule([area(0.01, 0.03), money(-9, -1)], [("kind = fixed", bad)], margins=MARGINS)
        assert (ruling.verdict, ruling.reason) == ("worse", "kind = fixed: ranks worse (adjusted p 0.004)")

    def test_a_slice_that_cannot_tell_blocks_nobody(self):
        unsure = judge_slice(area(-0.2, 0.2), money(-90, 90), margins=MARGINS)
        assert unsure.verdict == "cannot tell"
        assert rule([area(-0.01, 0.01), money(-4, 4)], [("x", unsure)], margins=MARGINS).verdict == "no difference"

    @pytest.mark.parametrize(
        ("auc", "cost", "verdict"),
        [
            (area(0.1, 0.2), money(-9, 4), "better"),
            (area(0.1, 0.2), money(-9, 40), "cannot tell"),
            (area(-0.01, 0.2), money(-9, 4), "no difference"),
            (None, money(-9, 4), "no difference"),
            (None, money(1, 4, adjusted=0.0001), "worse"),
            (area(None, None), money(-9, 4), "cannot tell"),
        ],
    )
    def test_the_verdict_on_a_slice(self, auc, cost, verdict):
        assert judge_slice(auc, cost, margins=MARGINS).verdict == verdict


class TestHowManyCasesWouldTell:
    @pytest.mark.parametrize(("value", "width"), [(0.0, 0.05), (0.01, 0.06), (-0.015, 0.03), (-0.03, 0.05)])
    def test_that_many_cases_do_tell(self, value, width):
        one = with_need(area(value - width, value + width), margins=MARGINS)
        narrower = width * np.sqrt(one.n / one.n_that_would_tell)
        assert one.n_that_would_tell > one.n
        assert value - narrower >= -0.02 - 1e-12 or value + narrower <= 1e-12

    def test_it_is_carried_to_the_verdict(self):
        both = [with_need(one, margins=MARGINS) for one in (area(-0.04, 0.04), money(-20, 20))]
        assert [one.n_that_would_tell for one in both] == [1600, 6400]
        assert rule(both, [], margins=MARGINS).n_that_would_tell == 6400
        assert judge_slice(*both, margins=MARGINS).n_that_would_tell == 6400

    def test_none_is_named_where_these_tell_or_none_would(self):
        assert with_need(area(-0.01, 0.04), margins=MARGINS).n_that_would_tell is None
        assert with_need(area(None, None), margins=MARGINS).n_that_would_tell is None
        assert with_need(money(-50_000, 50_000), margins=MARGINS).n_that_would_tell is None
        hopeless = [area(-0.01, 0.01), with_need(money(-50_000, 50_000), margins=MARGINS)]
        assert rule(hopeless, [], margins=MARGINS).n_that_would_tell is None


class TestHolm:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    @settings(deadline=None, derandomize=True)
    def test_equal_shares_are_holm_step_by_step(self, p_values):
        count, highest, expected = len(p_values), 0.0, {}
        for step, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
            highest = max(highest, min(1.0, (count - step) * p_values[i]))
            expected[i] = highest
        assert holm(p_values) == pytest.approx([expected[i] for i in range(count)])

    def test_a_larger_share_makes_a_question_cheaper(self):
        assert holm([0.01, 0.5, 0.5], shares=[0.5, 0.25, 0.25])[0] == pytest.approx(0.02)
        assert holm([0.01, 0.5, 0.5])[0] == pytest.approx(0.03)

    def test_all_cases_keep_half_of_the_level_however_many_slices_there_are(self):
        overall = [area(-0.03, -0.01, adjusted=0.01), money(-9, 9, adjusted=0.9)]
        slices = [money(-9, 9, adjusted=0.9)] * 100
        first, rest = adjust(overall, slices)
        assert first[0].adjusted == pytest.approx(0.04)
        assert len(rest) == 100
        assert rest[0].adjusted == 1.0

    def test_what_has_no_p_value_is_left_alone(self):
        first, rest = adjust([replace(area(None, None), p_worse=None, adjusted=None), money(1, 2, adjusted=0.01)], [])
        assert (first[0].adjusted, first[1].adjusted, rest) == (None, pytest.approx(0.01), [])
