"""Figures agree with scikit-learn, intervals with their definitions."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score, roc_curve

from nbkit.contract import Thresholds
from nbkit.evaluate import Estimate, auc_difference, auc_estimate, money_of, wilson
from nbkit.evaluate._bootstrap import centred, from_resamples, mean_difference, mean_estimate
from nbkit.evaluate._calibration import calibration_error
from nbkit.evaluate._curves import curves_of
from nbkit.evaluate._decide import decisions_of
from nbkit.evaluate._delong import auc_error
from nbkit.evaluate._metrics import Judged, Terms, measure
from nbkit.evaluate._resample import resample_count


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    scores = rng.beta(1, 4, 700).round(2)
    return scores, rng.random(700) < scores


def measured(scores, labels, *, resamples=200, confidence=0.95, seed=0):
    decisions = decisions_of(scores, thresholds=Thresholds(refer=0.3, decline=0.6))
    judged = Judged(scores=scores, labels=labels, decisions=decisions, costs=decisions * 7.0)
    told = []
    terms = Terms(confidence=confidence, resamples=resamples, review_capacity=0.1, false_positive_rate=0.05)
    found = measure(judged, terms=terms, rng=np.random.default_rng(seed), step=told.append)
    assert told[-1] == 1.0
    return {metric.name: metric for metric in found}


def with_ties(draw_scores, draw_labels):
    scores, labels = np.array(draw_scores) / 10, np.array(draw_labels[: len(draw_scores)], dtype=bool)
    labels[:4] = [False, True, False, True]
    return scores, labels


tied = st.builds(
    with_ties, st.lists(st.integers(0, 10), min_size=4, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40)
)


class TestAgainstScikitLearn:
    def test_ranking_and_probability_metrics(self, sample):
        scores, labels = sample
        found = measured(scores, labels)
        assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert found["gini"].value == pytest.approx(2 * roc_auc_score(labels, scores) - 1, abs=1e-12)
        assert found["average_precision"].value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert found["brier"].value == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
        assert found["log_loss"].value == pytest.approx(log_loss(labels, scores), abs=1e-12)
        false_rate, true_rate, _ = roc_curve(labels, scores)
        assert found["ks"].value == pytest.approx((true_rate - false_rate).max(), abs=1e-12)

    @given(pair=tied)
    @settings(deadline=None, derandomize=True, max_examples=60)
    def test_ties_are_handled_alike(self, pair):
        scores, labels = pair
        found = measured(scores, labels, resamples=100)
        assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert found["average_precision"].value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert found["log_loss"].value == pytest.approx(log_loss(labels, scores, labels=[0, 1]), rel=1e-9)

    def test_calibration_bins(self, sample, contract):
        scores, labels = sample
        scores = np.random.default_rng(0).permutation(len(scores)) / len(scores)
        observed, predicted = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
        curves = curves_of(
            scores,
            labels,
            thresholds=Thresholds(refer=0.3, decline=0.6),
            money=money_of(contract.decision.costs, labels=labels),
            review_capacity=1.0,
            confidence=0.95,
        )
        assert [one.mean_score for one in curves.reliability] == pytest.approx(predicted.tolist())
        assert [one.rate.value for one in curves.reliability] == pytest.approx(observed.tolist())
        gap = sum(one.n * abs(one.mean_score - one.rate.value) for one in curves.reliability) / len(scores)
        assert measured(scores, labels)["ece"].value == pytest.approx(gap, abs=1e-12)

    def test_the_roc_curve(self, sample, contract):
        scores, labels = sample
        curves = curves_of(
            scores,
            labels,
            thresholds=Thresholds(refer=0.3, decline=0.6),
            money=money_of(contract.decision.costs, labels=labels),
            review_capacity=1.0,
            confidence=0.95,
        )
        x, y = np.array(curves.roc).T
        assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


class TestDeLong:
    def direct(self, scores, labels):
        """Return DeLong's two structural components straight from their definition."""
        positive, negative = scores[labels], scores[~labels]
        above = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
        return above.mean(axis=1), above.mean(axis=0)

    @given(pair=tied)
    @settings(deadline=None, derandomize=True)
    def test_interval_agrees_with_the_definition(self, pair):
        scores, labels = pair
        v10, v01 = self.direct(scores, labels)
        value, found = v10.mean(), auc_estimate(scores, labels, confidence=0.9)
        assert found.value == pytest.approx(value)
        if 0 < value < 1:
            shares = v10.var(ddof=1) / len(v10), v01.var(ddof=1) / len(v01)
            error = math.sqrt(sum(shares))
            below = shares[0] ** 2 / (len(v10) - 1) + shares[1] ** 2 / (len(v01) - 1)
            quantile = stats.t.ppf(0.95, error**4 / below) if below else NormalDist().inv_cdf(0.95)
            shift = quantile * error / (value * (1 - value))
            logit = math.log(value / (1 - value))
            assert found.low == pytest.approx(1 / (1 + math.exp(shift - logit)), abs=1e-9)
            assert found.high == pytest.approx(1 / (1 + math.exp(-shift - logit)), abs=1e-9)

    def test_the_paired_difference_agrees_with_the_covariance_of_the_definition(self, sample):
        one, labels = sample
        other = np.clip(one + np.random.default_rng(1).normal(0, 0.1, len(one)), 0, 1)
        (a10, a01), (b10, b01) = self.direct(one, labels), self.direct(other, labels)
        covariance = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
        error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        found = auc_difference(one, other, labels, confidence=0.95)
        assert found.value == pytest.approx(a10.mean() - b10.mean())
        shares = [(a - b).var(ddof=1) / len(a) for a, b in ((a10, b10), (a01, b01))]
        freedom = error**4 / sum(share**2 / (len(a) - 1) for share, a in zip(shares, (a10, a01), strict=True))
        width = stats.t.ppf(0.975, freedom) * error
        assert found.high - found.value == pytest.approx(width, rel=1e-6)
        assert found.value - found.low == pytest.approx(width, rel=1e-6)

    def test_the_published_standard_error(self):
        # Hanley and McNeil, Radiology 143 (1982): 109 CT images rated 1 to 5, 58 normal and 51 abnormal. Stata's manual
        # ([R] roctab) gives DeLong's standard error of these data as 0.0307 and the interval 0.83295 to 0.95339.
        ratings = np.tile(np.arange(1.0, 6.0), 2)
        counts = [33, 6, 6, 11, 2, 3, 2, 2, 11, 33]
        scores, labels = np.repeat(ratings, counts), np.repeat(np.arange(10) >= 5, counts)
        area, error = roc_auc_score(labels, scores), auc_error(scores, labels)
        assert auc_estimate(scores, labels, confidence=0.95).value == pytest.approx(0.8932, abs=5e-5)
        assert error == pytest.approx(0.0307, abs=5e-5)
        assert (area - 1.959964 * error, area + 1.959964 * error) == pytest.approx((0.83295, 0.95339), abs=5e-6)

    def test_the_interval_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(5)
        # Two normal samples one standard deviation apart have an area of Phi(1 / sqrt 2).
        truth, hits = NormalDist().cdf(1 / math.sqrt(2)), 0
        labels = np.arange(120) < 40
        for _ in range(400):
            found = auc_estimate(rng.normal(size=120) + labels, labels, confidence=0.95)
            hits += found.low <= truth <= found.high
        assert 0.92 <= hits / 400 <= 0.98

    def test_a_model_against_itself_makes_no_difference(self, sample):
        found = auc_difference(sample[0], sample[0], sample[1], confidence=0.95)
        assert (found.value, found.low, found.high) == (0, 0, 0)

    def test_a_perfect_ranking_is_not_certain(self):
        labels = np.arange(40) < 10
        found = auc_estimate(labels.astype(float), labels, confidence=0.95)
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low == pytest.approx(0.025**0.1)
        upside_down = auc_estimate(1 - labels.astype(float), labels, confidence=0.95)
        assert (upside_down.value, upside_down.low) == (0.0, 0.0)
        assert upside_down.high == pytest.approx(1 - 0.025**0.1)

    def test_one_positive_gives_no_interval(self):
        labels = np.arange(5) == 2
        found = auc_estimate(np.arange(5.0), labels, confidence=0.95)
        assert (found.value, found.low, found.high) == (0.5, None, None)
        paired = auc_difference(np.arange(5.0), np.arange(5.0), labels, confidence=0.95)
        assert (paired.low, paired.high) == (None, None)
        metrics = measured(np.arange(5) / 10, labels)
        assert (metrics["gini"].low, metrics["gini"].high) == (None, None)
        # A third of the resamples hold no positive case: their percentiles would describe another question.
        assert metrics["average_precision"].low is None
        assert metrics["ks"].low is None
        assert metrics["brier"].low is not None
        assert metrics["ece_debiased"].method == "none: gaps shrunk until chance explains the rest"


class TestBootstrap:
    def test_intervals_agree_with_resampling_by_hand(self, sample):
        scores, labels = sample
        rng = np.random.default_rng(9)
        rows = rng.integers(0, len(scores), size=(600, len(scores)))
        precision = [average_precision_score(labels[row], scores[row]) for row in rows]
        found = measured(scores, labels, resamples=2000)["average_precision"]
        low, high = np.quantile(precision, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)

    def test_a_mean_of_many_cases_agrees_with_the_normal_interval(self):
        amounts = np.repeat([0.0, 5.0, 20.0], [500, 300, 200])
        found, method = mean_estimate(amounts, confidence=0.95, resamples=4000, rng=np.random.default_rng(0))
        assert method == "studentised bootstrap, 4,000 resamples"
        assert found.value == pytest.approx(amounts.mean())
        width = 1.96 * amounts.std() / math.sqrt(len(amounts))
        assert (found.low, found.high) == pytest.approx((found.value - width, found.value + width), abs=0.1)

    def test_the_same_seed_gives_the_same_intervals(self, sample):
        assert measured(*sample, seed=4) == measured(*sample, seed=4)
        assert measured(*sample, seed=4) != measured(*sample, seed=5)

    def test_a_calibration_error_lies_inside_its_interval(self, sample):
        found = measured(*sample, resamples=1000)
        for name in ("ece", "ks"):
            assert 0 <= found[name].low <= found[name].value <= found[name].high
            assert found[name].high > found[name].low

    def test_percentiles_of_mostly_nothing_are_no_interval(self):
        drawn = np.array([0.5] * 90 + [np.nan] * 10)
        for interval in (from_resamples, centred):
            estimate, method = interval(0.5, drawn, confidence=0.9)
            assert (estimate.low, estimate.high) == (None, None)
            assert method == "none: a label is absent from too many resamples"

    def test_very_large_sets_are_resampled_less_often(self):
        assert resample_count(2000, cases=600) == 2000
        assert resample_count(2000, cases=20_000) == 1000
        assert resample_count(2000, cases=100_000) == 200
        assert resample_count(2000, cases=10_000_000) == 200

    def test_the_method_is_said(self, sample):
        few, many = measured(*sample), measured(*sample, resamples=1000)
        assert few["auc"].method == "DeLong, logit scale, Student's t"
        assert few["average_precision"].method == "bootstrap standard error, 200 resamples"
        assert many["average_precision"].method == "percentile bootstrap, 1,000 resamples"
        assert many["ks"].method == "centred percentile bootstrap, 1,000 resamples"
        assert few["brier"].method == "studentised bootstrap, 200 resamples"
        assert few["ece"].method == "centred percentile bootstrap of the bins, 200 resamples"
        assert few["decline_rate"].method == "Wilson"

    def test_what_a_figure_depends_on_is_said(self, sample):
        found = measured(*sample)
        assert found["recall_at_fpr"].note == "at a false positive rate of at most 0.05"
        assert found["precision_at_capacity"].note == "among the 70 highest scores, 0.1 of all"
        assert "a perfectly calibrated score would show 0.0" in found["ece"].note


class TestMeans:
    def test_equal_amounts_need_no_interval(self):
        found, method = mean_estimate(np.full(9, 4.0), confidence=0.95, resamples=100, rng=np.random.default_rng(0))
        assert (found.low, found.value, found.high, method) == (4, 4, 4, "none needed: all cases are alike")

    def test_many_different_amounts_of_many_cases_need_no_resamples(self):
        amounts = np.random.default_rng(0).normal(50, 5, 3000)
        found, method = mean_estimate(amounts, confidence=0.95, resamples=100, rng=np.random.default_rng(0))
        low, high = stats.t.interval(0.95, 2999, amounts.mean(), stats.sem(amounts))
        assert method == "Student's t corrected for skewness (Hall 1992)"
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)

    def test_a_single_loss_has_a_long_upper_end(self):
        amounts = np.zeros(200)
        amounts[3] = 1000.0
        found, method = mean_estimate(amounts, confidence=0.95, resamples=500, rng=np.random.default_rng(0))
        assert method.startswith("Student's t corrected for skewness")
        # One event: the exact Poisson bounds are 0.025 and 5.57 events.
        assert found.high == pytest.approx(5.57 * 5, rel=0.4)
        assert found.low == 0 < found.value

    def test_a_paired_difference_is_the_paired_t_test(self):
        differences = np.random.default_rng(1).normal(0.2, 1, 40)
        found, p_above = mean_difference(differences, confidence=0.9)
        test = stats.ttest_1samp(differences, 0, alternative="greater")
        assert p_above == pytest.approx(test.pvalue)
        assert (found.low, found.high) == pytest.approx(
            stats.t.interval(0.9, 39, differences.mean(), stats.sem(differences))
        )

    def test_differences_that_are_all_equal_are_certain(self):
        assert mean_difference(np.full(5, -2.0), confidence=0.9)[1] == 1.0
        assert mean_difference(np.full(5, 2.0), confidence=0.9)[1] == 0.0
        assert mean_difference(np.array([2.0]), confidence=0.9) == (Estimate(value=2.0), None)


class TestCalibration:
    @pytest.mark.parametrize(("shift", "cases"), [(0.0, 2000), (1.0, 2000)])
    def test_the_debiased_figure_is_nearer_to_the_truth(self, shift, cases):
        rng = np.random.default_rng(2)
        raw, debiased, noise, truth = [], [], [], []
        for _ in range(40):
            logit = rng.normal(-2, 1.5, cases)
            chance, scores = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit - shift))
            found = calibration_error(scores, rng.random(cases) < chance, confidence=0.95, resamples=100, rng=rng)
            raw.append(found.raw.value)
            debiased.append(found.debiased)
            noise.append(found.noise)
            truth.append(abs((scores - chance).mean()))
        if shift:
            assert np.mean(debiased) == pytest.approx(np.mean(truth), abs=0.005)
        else:
            # Perfectly calibrated: all that is seen is chance, and its size is foretold.
            assert np.mean(raw) == pytest.approx(np.mean(noise), rel=0.1)
            assert np.mean(debiased) < 0.4 * np.mean(raw)

    def test_equal_scores_are_one_bin(self):
        labels = np.arange(50) < 10
        found = calibration_error(np.full(50, 0.2), labels, confidence=0.95, resamples=50, rng=np.random.default_rng(0))
        assert (found.bins, found.raw.value, found.debiased) == (1, pytest.approx(0, abs=1e-12), 0.0)


class TestRates:
    def test_rates_add_up(self, sample):
        found = measured(*sample)
        assert sum(found[name].value for name in ("approval_rate", "refer_rate", "decline_rate")) == pytest.approx(1)
        assert found["expected_cost"].value == pytest.approx(
            7 * found["refer_rate"].value + 14 * found["decline_rate"].value
        )

    @given(of=st.integers(1, 500), data=st.data())
    @settings(deadline=None, derandomize=True)
    def test_wilson_holds_the_share_and_stays_inside(self, of, data):
        hits = data.draw(st.integers(0, of))
        found = wilson(hits, of=of, confidence=0.95)
        assert 0 <= found.low <= hits / of <= found.high <= 1
        assert found.low < found.high


def test_cost_curves_agree_with_deciding_every_case(sample, contract):
    scores, labels = sample
    thresholds, costs = Thresholds(refer=0.2, decline=0.55), contract.decision.costs
    curves = curves_of(
        scores,
        labels,
        thresholds=thresholds,
        money=money_of(costs, labels=labels),
        review_capacity=0.3,
        confidence=0.95,
    )

    def by_hand(refer, decline):
        total = 0.0
        for score, label in zip(scores, labels, strict=True):
            row = costs.decline if score >= decline else costs.refer if score >= refer else costs.approve
            total += float(row.positive if label else row.negative)
        return total / len(scores)

    for threshold, cost in curves.decline_costs[::20]:
        assert cost == pytest.approx(by_hand(min(0.2, threshold), threshold))
    for threshold, cost in curves.refer_costs[::20]:
        assert cost == pytest.approx(by_hand(threshold, 0.55))
    assert 0.55 in [t for t, _ in curves.decline_costs]
    assert 0.2 in [t for t, _ in curves.refer_costs]
    assert max(t for t, _ in curves.refer_costs) == 0.55
    referred = ((scores >= curves.lowest_refer) & (scores < 0.55)).mean()
    assert referred <= 0.3 < ((scores >= curves.lowest_refer - 0.01) & (scores < 0.55)).mean()
