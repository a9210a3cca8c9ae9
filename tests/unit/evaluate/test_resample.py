"""Resamples: drawn alike by NumPy and by compiled code, and their figures are scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from nbkit.evaluate import _resample
from nbkit.evaluate._draws import _CHUNK_WEIGHTS, weights
from nbkit.evaluate._resample import FIGURES, Ordered, figures_of, resample


def sample(cases, *, decimals, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, cases)
    labels = rng.random(cases) < 1 / (1 + np.exp(-logit))
    first, second = (1 / (1 + np.exp(-logit - rng.normal(0, 0.7, cases))) for _ in range(2))
    return labels, first.round(decimals), second.round(decimals)


@pytest.fixture
def pair():
    labels, first, second = sample(400, decimals=2)
    return [Ordered.of(first, labels), Ordered.of(second, labels)]


class TestDraws:
    @pytest.mark.parametrize("cases", [1, 50, 51])
    def test_weights_are_counts_of_draws(self, cases):
        drawn = np.concatenate(list(weights(cases, resamples=30, seed=7)))
        assert drawn.shape == (30, cases)
        assert (drawn.sum(axis=1) == cases).all()

    def test_every_case_is_drawn_equally_often(self):
        drawn = np.concatenate(list(weights(200, resamples=5000, seed=1)))
        assert drawn.mean(axis=0) == pytest.approx(np.ones(200), abs=0.08)
        # Of a Poisson law with mean 1: 37 % of cases are not drawn at all.
        assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)

    def test_chunks_do_not_change_what_is_drawn(self):
        cases = _CHUNK_WEIGHTS // 3
        several = list(weights(cases, resamples=4, seed=9))
        assert [len(chunk) for chunk in several] == [3, 1]
        assert (several[1][0] != several[0][0]).any()

    def test_seeds_differ(self):
        first, second = (next(weights(50, resamples=1, seed=seed)) for seed in (1, 2))
        assert (first != second).any()


class TestFigures:
    @pytest.mark.parametrize("decimals", [1, 2, 12])
    def test_they_are_those_of_scikit_learn(self, decimals):
        labels, scores, _ = sample(300, decimals=decimals)
        found = figures_of(Ordered.of(scores, labels), share=0.1, rate=0.05)
        false_rate, true_rate, _ = roc_curve(labels, scores)
        assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert found["ks"] == pytest.approx((true_rate - false_rate).max(), abs=1e-12)
        assert found["recall_at_fpr"] == pytest.approx(true_rate[false_rate <= 0.05].max(), abs=1e-12)

    def test_precision_shares_ties_at_the_end_of_the_queue(self):
        labels = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
        scores = np.array([0.9, 0.8, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
        ordered = Ordered.of(scores, labels)
        # Three places: the two highest, and one of three equal scores of which two are positive.
        assert figures_of(ordered, share=0.3, rate=0.5)["precision_at_capacity"] == pytest.approx((1 + 2 / 3) / 3)
        # A capacity of no whole case still looks at one.
        assert figures_of(ordered, share=0.01, rate=0.5)["precision_at_capacity"] == 1.0


class TestBothPaths:
    def test_compiled_code_gives_the_same_numbers(self, pair, monkeypatch):
        values = np.stack([pair[0].scores, np.arange(400.0)])
        asked = {"values": values, "share": 0.1, "rate": 0.05, "resamples": 40}
        slow = resample(pair, **asked, rng=np.random.default_rng(3))
        monkeypatch.setattr(_resample, "_FEWEST_COMPILED", 0)
        told = []
        fast = resample(pair, **asked, rng=np.random.default_rng(3), step=told.append)
        assert fast.figures == pytest.approx(slow.figures, abs=1e-12)
        assert fast.means == pytest.approx(slow.means, rel=1e-12)
        assert told == [1.0]

    def test_without_a_compiler_numpy_does_it(self, pair, monkeypatch):
        monkeypatch.setattr(_resample, "_FEWEST_COMPILED", 0)
        monkeypatch.setattr(_resample, "_compiled", lambda: None)
        found = resample(pair, share=0.1, rate=0.05, resamples=3, rng=np.random.default_rng(3))
        assert found.figures.shape == (3, 2, len(FIGURES))

    @pytest.mark.parametrize("compiled", [True, False])
    def test_a_resample_without_a_label_has_no_figure(self, compiled, monkeypatch):
        monkeypatch.setattr(_resample, "_FEWEST_COMPILED", 0 if compiled else 10**9)
        labels = np.arange(30) == 4
        ordered = Ordered.of(np.arange(30) / 30, labels)
        found = resample([ordered], share=0.1, rate=0.05, resamples=200, rng=np.random.default_rng(0)).of("auc")
        assert 0.25 < np.isnan(found).mean() < 0.5

    def test_a_version_against_itself_never_differs(self, pair):
        found = resample([pair[0], pair[0]], share=0.1, rate=0.05, resamples=20, rng=np.random.default_rng(0))
        assert (found.figures[:, 0] == found.figures[:, 1]).all()
