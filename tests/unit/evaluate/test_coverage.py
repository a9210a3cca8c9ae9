"""Intervals hold the truth as often as they say, and the gate blocks equals no oftener: small runs of the sweep."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbkit.contract import Evaluate
from nbkit.evaluate import auc_difference, auc_estimate
from nbkit.evaluate._bootstrap import mean_difference, mean_estimate
from nbkit.evaluate._champion import area_and_cost
from nbkit.evaluate._metrics import Judged, Terms
from nbkit.evaluate._verdict import Margins, judge_all

MONEY = np.array([[0.0, 12_000.0], [150.0, 150.0], [3000.0, 0.0]])
TERMS = Terms(confidence=0.95, resamples=300, review_capacity=0.1, false_positive_rate=0.05)
# Of this law, from 8 million cases (benchmarks/coverage.py).
TRUE_AUC, TRUE_COST = 0.7912, 764.3


def draw(cases, rng, *, noise=0.5):
    logit = rng.normal(-2.0, 1.5, cases)
    labels = rng.random(cases) < 1 / (1 + np.exp(-logit))
    seen = logit + rng.normal(0, 0.5, cases)
    found = []
    for own in (noise, 0.5):
        scores = 1 / (1 + np.exp(-seen - rng.normal(0, 1, cases) * own))
        decisions = (scores >= 0.1).astype(int) + (scores >= 0.3)
        costs = MONEY[decisions, labels.astype(int)]
        found.append(Judged(scores=scores, labels=labels, decisions=decisions, costs=costs))
    return found


def verdicts(cases, runs, *, noise=0.5, seed=0):
    rng, limits, found = np.random.default_rng(seed), Evaluate(), []
    for _ in range(runs):
        one, other = draw(cases, rng, noise=noise)
        part = np.arange(cases) % 3
        margins = Margins(auc=limits.auc_margin, cost=0.05 * other.costs.mean(), level=limits.false_block_level)
        slices = [(str(n), area_and_cost(one, other, inside=part == n, terms=TERMS)) for n in range(3)]
        overall = area_and_cost(one, other, inside=None, terms=TERMS)
        found.append(judge_all(overall, slices, margins=margins).ruling.verdict)
    return found


def test_intervals_at_200_cases_cover_about_95_of_100():
    rng, runs = np.random.default_rng(3), 400
    hits = np.zeros(4)
    for _ in range(runs):
        one, other = draw(200, rng)
        intervals = (
            (auc_estimate(one.scores, one.labels, confidence=0.95), TRUE_AUC),
            (auc_difference(one.scores, other.scores, one.labels, confidence=0.95), 0.0),
            (mean_estimate(one.costs, confidence=0.95, resamples=300, rng=rng)[0], TRUE_COST),
            (mean_difference(one.costs - other.costs, confidence=0.95)[0], 0.0),
        )
        hits += [found.low <= true <= found.high for found, true in intervals]
    # Three standard errors of 400 runs; the sweep with 4,000 is in docs/reference/evaluation.md.
    assert (np.abs(hits / runs - 0.95) < 0.033).all()


def test_equal_versions_are_called_worse_no_oftener_than_stated():
    found = verdicts(400, 200)
    # 5 % of 200 is 10; more than 18 would happen once in 100 such tests.
    assert found.count("worse") <= 18
    assert found.count("cannot tell") > 150


def test_a_clearly_worse_version_is_blocked_and_a_clearly_better_one_is_not():
    assert verdicts(2000, 20, noise=2.0).count("worse") >= 19
    assert verdicts(2000, 20, noise=0.0).count("worse") == 0


@pytest.mark.parametrize(
    ("file", "target", "linear", "trees"),
    [("german_statlog", "bad", 0.786, 0.789), ("taiwan_default", "default", 0.723, 0.783)],
)
def test_public_credit_data_give_the_published_areas(file, target, linear, trees, pytestconfig):
    path = pytestconfig.rootpath.parent / "shared" / "data" / f"{file}.parquet"
    if not path.exists():
        pytest.skip(f"{file}.parquet is not on this machine")
    rows = pd.read_parquet(path)
    inputs, labels = rows.drop(columns=[target, "ID"], errors="ignore"), rows[target].to_numpy(dtype=bool)
    texts = [name for name in inputs if not pd.api.types.is_numeric_dtype(inputs[name])]
    numbers = [name for name in inputs if name not in texts]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    for model, published in ((LogisticRegression(max_iter=2000), linear), (HistGradientBoostingClassifier(), trees)):
        pipeline = make_pipeline(make_column_transformer((one_hot, texts), (StandardScaler(), numbers)), model)
        areas = []
        for training, held in StratifiedKFold(5, shuffle=True, random_state=0).split(inputs, labels):
            pipeline.fit(inputs.iloc[training], labels[training])
            scores = pipeline.predict_proba(inputs.iloc[held])[:, 1]
            areas.append(auc_estimate(scores, labels[held], confidence=0.95).value)
        assert np.mean(areas) == pytest.approx(published, abs=0.02)
