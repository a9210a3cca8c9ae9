"""Cases that two versions decide differently, and McNemar's test of them."""

import math

import numpy as np
import pytest
from scipy import stats

from nbkit.evaluate import Estimate, mcnemar
from nbkit.evaluate._flips import _MOST_FLIPS, changes_of, flips_of, total_of
from nbkit.evaluate._metrics import Judged


def judged(decisions, labels, costs=None):
    decisions = np.asarray(decisions)
    return Judged(
        scores=decisions / 2,
        labels=np.asarray(labels, dtype=bool),
        decisions=decisions,
        costs=np.asarray(costs if costs is not None else decisions * 10.0),
    )


class TestMcNemar:
    def test_the_published_examples(self):
        # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013): 21 children before and after
        # stem cell transplantation (1 and 7 discordant pairs), exact conditional test 0.070; of 161 patients
        # before and after consolidation therapy (6 and 16), 0.052.
        assert mcnemar(1, 7).p_value == pytest.approx(0.070, abs=0.0005)
        assert mcnemar(16, 6).p_value == pytest.approx(0.052, abs=0.0005)
        assert mcnemar(1, 7).method == "exact binomial"

    @pytest.mark.parametrize(("wrong", "right"), [(0, 0), (0, 1), (3, 3), (5, 12), (480, 520)])
    def test_it_agrees_with_scipy(self, wrong, right):
        expected = stats.binomtest(wrong, wrong + right).pvalue if wrong + right else 1.0
        assert mcnemar(wrong, right).p_value == pytest.approx(expected, rel=1e-9)

    def test_very_many_cases_are_tested_by_chi_squared(self):
        found = mcnemar(700, 800)
        assert found.method == "chi-squared"
        assert found.p_value == pytest.approx(stats.chi2.sf(100**2 / 1500, 1))
        assert found.p_value == pytest.approx(stats.binomtest(700, 1500).pvalue, abs=1e-3)


class TestFlips:
    def test_the_dearest_comes_first_and_each_says_what_happened(self):
        labels = [1, 1, 0, 0, 0]
        champion = judged([2, 1, 0, 2, 0], labels, costs=[0, 5, 0, 20, 0])
        challenger = judged([0, 2, 2, 0, 0], labels, costs=[100, 0, 20, 0, 0])
        found = flips_of(challenger, champion, ids=("a", "b", "c", "d", "e"))
        assert [(one.id, one.kind, one.cost_difference) for one in found] == [
            ("a", "newly wrong", 100.0),
            ("c", "newly wrong", 20.0),
            ("b", "other", -5.0),
            ("d", "newly right", -20.0),
        ]
        first = found[0]
        assert (first.champion, first.challenger, first.positive) == ("decline", "approve", True)
        assert (first.champion_score, first.challenger_score) == (1.0, 0.0)

    def test_of_very_many_both_ends_are_kept(self):
        count = _MOST_FLIPS + 500
        labels, order = np.zeros(count), np.arange(count, dtype=float)
        found = flips_of(
            judged(np.full(count, 2), labels, costs=order),
            judged(np.zeros(count, int), labels, costs=order * 0),
            ids=order,
        )
        assert len(found) == _MOST_FLIPS
        assert (found[0].cost_difference, found[-1].cost_difference) == (count - 1, 0)

    def test_changes_count_every_case_once(self):
        labels = [1, 1, 0, 0, 0]
        found = changes_of(judged([0, 2, 2, 0, 0], labels), judged([2, 1, 0, 2, 0], labels))
        assert sum(one.positive + one.negative for one in found) == 5
        kept = next(one for one in found if (one.champion, one.challenger) == ("approve", "approve"))
        assert (kept.positive, kept.negative) == (0, 1)

    def test_a_total_is_the_difference_times_the_cases(self):
        assert total_of(Estimate(value=2.0, low=-1.0, high=None), cases=50) == Estimate(
            value=100.0, low=-50.0, high=None
        )


def test_the_method_is_exact_up_to_a_thousand():
    assert mcnemar(500, 500).method == "exact binomial"
    assert math.isclose(mcnemar(500, 500).p_value, 1.0)
