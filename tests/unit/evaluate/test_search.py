"""Slices that nobody declared: the worst are found, and chance is not called a finding."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nbkit.evaluate import _cells
from nbkit.evaluate._cells import cell_sums
from nbkit.evaluate._metrics import Judged
from nbkit.evaluate._search import search_slices

ASKED = {"champion": None, "depth": 2, "minimum": 50, "confidence": 0.95}


def world(cases=4000, *, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "amount": rng.lognormal(5, 1, cases),
            "channel": rng.choice(["web", "shop", "phone"], cases),
            "region": rng.choice([f"r{i}" for i in range(30)], cases),
            "age": rng.integers(18, 80, cases).astype(float),
        }
    )
    scores = rng.beta(2, 8, cases)
    return frame, scores, rng


def judged(scores, labels, costs=None):
    decisions = (scores >= 0.3).astype(np.int64) * 2
    return Judged(
        scores=scores,
        labels=labels,
        decisions=decisions,
        costs=np.where(labels, 100.0, 1.0) if costs is None else costs,
    )


class TestFinding:
    def test_a_slice_of_two_features_where_the_score_is_wrong_is_found_first(self):
        frame, scores, rng = world()
        high = frame.amount > frame.amount.quantile(0.75)
        wrong = (high & (frame.channel == "web")).to_numpy()
        labels = rng.random(len(scores)) < np.where(wrong, scores + 0.25, scores)
        found = search_slices(judged(scores, labels), frame, columns=tuple(frame), **ASKED)
        first = found.found[0]
        assert (first.figure, first.sure) == ("calibration", True)
        assert first.conditions[0].startswith("amount above ")
        assert first.conditions[1] == "channel = web"
        inside = wrong
        assert (first.n, first.positives) == (inside.sum(), labels[inside].sum())
        assert first.value == pytest.approx(labels[inside].mean() - scores[inside].mean())
        assert first.rest == pytest.approx(labels[~inside].mean() - scores[~inside].mean())
        assert first.low < first.value < first.high

    def test_a_slice_that_costs_more_is_tested_by_welch(self):
        frame, scores, rng = world()
        labels = rng.random(len(scores)) < scores
        costs = rng.exponential(10, len(scores)) + np.where(frame.channel == "shop", 5.0, 0.0)
        found = search_slices(judged(scores, labels, costs), frame, columns=["channel"], **ASKED)
        first = next(one for one in found.found if one.figure == "expected_cost")
        inside = (frame.channel == "shop").to_numpy()
        test = stats.ttest_ind(costs[inside], costs[~inside], equal_var=False)
        assert first.conditions == ("channel = shop",)
        # Fewer degrees of freedom than Welch would take: those of the slice alone.
        assert first.p_value == pytest.approx(stats.t.sf(test.statistic, inside.sum() - 1))
        assert first.adjusted == pytest.approx(min(1.0, first.p_value * found.tests))

    def test_a_slice_where_the_challenger_costs_more_than_the_champion_is_found(self):
        frame, scores, rng = world()
        labels = rng.random(len(scores)) < scores
        base = rng.exponential(10, len(scores))
        worse = np.where(frame.channel == "phone", 4.0, -1.0) + rng.normal(0, 5, len(scores))
        found = search_slices(
            judged(scores, labels, base + worse),
            frame,
            columns=["channel", "age"],
            **ASKED | {"champion": judged(scores, labels, base)},
        )
        first = next(one for one in found.found if one.figure == "cost_difference")
        assert (first.conditions, first.sure) == (("channel = phone",), True)
        assert first.value == pytest.approx(worse[frame.channel == "phone"].mean())

    def test_listed_slices_share_no_condition(self):
        frame, scores, rng = world()
        labels = rng.random(len(scores)) < np.where(frame.channel == "web", scores + 0.3, scores)
        found = search_slices(judged(scores, labels), frame, columns=tuple(frame), **ASKED)
        for figure in ("calibration", "expected_cost"):
            conditions = [text for one in found.found if one.figure == figure for text in one.conditions]
            assert len(conditions) == len(set(conditions)) > 0


class TestChance:
    def test_a_calibrated_score_gives_a_sure_finding_no_more_often_than_stated(self):
        alarms = 0
        for seed in range(40):
            frame, scores, rng = world(1000, seed=seed)
            labels = rng.random(len(scores)) < scores
            found = search_slices(judged(scores, labels), frame, columns=tuple(frame), **ASKED)
            assert found.tests >= 60
            alarms += any(one.sure and one.figure == "calibration" for one in found.found)
        # 5 % of 40 is 2; more than 5 would happen once in 70 such tests.
        assert alarms <= 5

    def test_small_slices_are_not_looked_at(self):
        frame, scores, rng = world(1000)
        labels = rng.random(len(scores)) < scores
        found = search_slices(judged(scores, labels), frame, columns=tuple(frame), **ASKED | {"minimum": 100})
        assert min(one.n for one in found.found) >= 100
        assert found.minimum == 100


class TestExtent:
    def test_depth_none_and_too_few_cases_search_nothing(self):
        frame, scores, rng = world(80)
        data = judged(scores, rng.random(80) < scores)
        assert search_slices(data, frame, columns=tuple(frame), **ASKED) is None
        assert search_slices(data, frame, columns=tuple(frame), **ASKED | {"depth": 0, "minimum": 10}) is None
        assert search_slices(data, frame, columns=(), **ASKED | {"minimum": 10}) is None

    def test_depth_one_looks_at_single_features_only(self):
        frame, scores, rng = world()
        data = judged(scores, rng.random(len(scores)) < scores)
        found = search_slices(data, frame, columns=["channel", "amount"], **ASKED | {"depth": 1})
        assert (found.candidates, found.tests) == (3 + 4, 2 * (3 + 4))
        assert {len(one.conditions) for one in found.found} == {1}

    def test_a_figure_that_never_varies_is_no_question(self):
        frame, scores, rng = world()
        data = judged(scores, rng.random(len(scores)) < scores, np.full(len(scores), 3.0))
        found = search_slices(data, frame, columns=["channel"], **ASKED)
        assert {one.figure for one in found.found} == {"calibration"}

    def test_no_slice_of_the_minimum_size_finds_nothing(self):
        frame, scores, rng = world(200)
        data = judged(scores, rng.random(200) < scores)
        found = search_slices(data, frame, columns=["region"], **ASKED)
        assert (found.candidates, found.tests, found.found) == (0, 0, ())


@pytest.mark.parametrize("fewest", [0, 10**9])
def test_both_ways_of_adding_up_agree(fewest, monkeypatch):
    monkeypatch.setattr(_cells, "_FEWEST_COMPILED", fewest)
    rng = np.random.default_rng(0)
    first, second, values = rng.integers(0, 3, 500), rng.integers(0, 4, 500), rng.normal(size=(500, 2))
    found = cell_sums(first, second, width=4, cells=12, values=values)
    table = pd.DataFrame(values).groupby(first * 4 + second).sum()
    assert found[table.index] == pytest.approx(table.to_numpy())
