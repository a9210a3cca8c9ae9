"""Scores, opportunity, odds, calibration, intersections and proxies: figures, intervals, verdicts."""

import math

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, count, equalized_odds_difference, true_positive_rate_difference

from nbkit.contract import Fairness, Protected
from nbkit.evaluate._fair_measures import _verdict, disparities_of, equalized_odds, standardized
from nbkit.evaluate._fairness import Estimate, fairness_of, intersections_of
from nbkit.evaluate._group_table import GroupCounts, group_counts
from nbkit.evaluate._metrics import Judged
from nbkit.evaluate._proxy import proxies_of

ATTRIBUTES = (Protected(name="race", reference="white"), Protected(name="sex", reference="male"))


@pytest.fixture(scope="module")
def world():
    """Return 3,000 judged cases; postcode gives away race, income does so a little, and noise nothing."""
    rng = np.random.default_rng(3)
    count = 3000
    black, female = rng.random(count) < 0.2, rng.random(count) < 0.4
    score = np.clip(rng.beta(2, 6, count) + 0.08 * black + 0.02 * female, 0, 1)
    labels = rng.random(count) < score
    frame = pd.DataFrame(
        {
            "race": np.where(black, "black", "white"),
            "sex": np.where(female, "female", "male"),
            "postcode": np.where(rng.random(count) < 0.9, np.where(black, "north", "south"), "east"),
            "income": rng.normal(50 - 3 * black, 10, count),
            "noise": rng.normal(size=count),
            "nothing": np.full(count, np.nan),
        }
    )
    frame.loc[:40, "race"] = None
    frame.loc[frame.index[::11], "income"] = np.nan
    decisions = np.digitize(score, [0.3, 0.5])
    return Judged(scores=score, labels=labels, decisions=decisions, costs=np.zeros(count)), frame


@pytest.fixture
def contract(make_contract):
    def make(**limits):
        inputs = [
            {"name": "postcode", "type": "category", "categories": ["north", "south", "east"]},
            {"name": "income", "type": "number", "nullable": True},
            {"name": "noise", "type": "number"},
        ]
        protected = [attribute.model_dump() for attribute in ATTRIBUTES]
        return make_contract(inputs=inputs, protected=protected, fairness=limits, evaluate={"resamples": 100})

    return make


def pick(found, measure, group):
    return next(one for one in found.measures if (one.measure, one.group) == (measure, group))


def test_figures_agree_with_fairlearn_where_both_compute(world):
    judged, frame = world
    known = frame["race"].notna().to_numpy()
    good, approved, race = ~judged.labels[known], judged.decisions[known] == 0, frame["race"][known]
    counts = group_counts(judged, frame[["race"]])
    odds = equalized_odds(counts["black"], counts["white"], confidence=0.95)
    assert odds.value == pytest.approx(equalized_odds_difference(good, approved, sensitive_features=race))
    (result, _) = fairness_of(judged, frame, attributes=ATTRIBUTES, limits=Fairness(), confidence=0.95)
    (group,) = result.groups
    assert abs(group.opportunity.value) == pytest.approx(
        true_positive_rate_difference(good, approved, sensitive_features=race)
    )
    assert result.unknown == 41


@pytest.mark.parametrize("columns", [["race"], ["sex"], ["race", "sex"]])
def test_counts_of_every_group_and_intersection_are_those_of_a_metric_frame(world, columns):
    judged, frame = world
    known = frame[columns].notna().all(axis=1).to_numpy()
    score, good = judged.scores[known], ~judged.labels[known]
    gap = judged.labels[known] - score
    metrics = {
        "n": count,
        "approved": lambda _, approved: approved.sum(),
        "good": lambda good, _: good.sum(),
        "bad": lambda good, _: (~good).sum(),
        "good_approved": lambda good, approved: (good & approved).sum(),
        "bad_approved": lambda good, approved: (~good & approved).sum(),
        "score_mean": lambda *_, score, gap: score.mean(),
        "score_variance": lambda *_, score, gap: score.var(ddof=1),
        "gap_mean": lambda *_, score, gap: gap.mean(),
        "gap_variance": lambda *_, score, gap: gap.var(ddof=1),
    }
    sampled = {name: {"score": score, "gap": gap} if "_mean" in name or "_var" in name else {} for name in metrics}
    theirs = MetricFrame(
        metrics=metrics,
        y_true=good,
        y_pred=judged.decisions[known] == 0,
        sensitive_features=frame.loc[known, columns],
        sample_params=sampled,
    ).by_group
    ours = group_counts(judged, frame[columns])
    assert list(ours) == [" × ".join(key if isinstance(key, tuple) else (key,)) for key in theirs.index]
    assert len(ours) == 2 ** len(columns)
    for counts, (_, row) in zip(ours.values(), theirs.iterrows(), strict=True):
        assert {name: getattr(counts, name) for name in metrics} == pytest.approx(row.to_dict())


def test_groups_that_are_written_alike_are_one(world):
    judged, _ = world
    mixed = np.resize(np.array([1, "1", 2, None], dtype=object), len(judged.scores))
    found = group_counts(judged, pd.DataFrame({"one": mixed}))
    assert {name: counts.n for name, counts in found.items()} == {"1": 1500, "2": 750}


def test_the_standardized_difference_is_cohens_d(world):
    judged, frame = world
    counts = group_counts(judged, frame[["sex"]])
    women, men = (judged.scores[(frame["sex"] == name).to_numpy()] for name in ("female", "male"))
    pooled = math.sqrt(
        ((len(women) - 1) * women.var(ddof=1) + (len(men) - 1) * men.var(ddof=1)) / (len(women) + len(men) - 2)
    )
    found = standardized(counts["female"], counts["male"], confidence=0.95)
    assert found.value == pytest.approx((women.mean() - men.mean()) / pooled)
    assert found.low < found.value < found.high


def test_the_interval_of_the_standardized_difference_covers():
    """Of 1,000 samples from two normal groups half a deviation apart, about 95 % of intervals hold it."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        found = standardized(counted(rng.normal(0.5, 1, 60)), counted(rng.normal(0, 1, 140)), confidence=0.95)
        hits += found.low <= 0.5 <= found.high
    assert 0.93 <= hits / 1000 <= 0.97


def counted(scores):
    zeros = dict.fromkeys(("approved", "good", "good_approved", "bad_approved"), 0)
    return GroupCounts(
        n=len(scores), score_mean=scores.mean(), score_variance=scores.var(ddof=1), gap_mean=0, gap_variance=0, **zeros
    )


def test_without_a_limit_figures_are_shown_and_not_judged(world, contract):
    found = disparities_of(*world, contract=contract())
    assert {one.verdict for one in found.measures} == {"no limit"}
    assert {one.reason for one in found.measures} == {"the contract sets no limit"}
    assert [one.group for one in found.measures if one.measure == "calibration"] == ["white", "black", "male", "female"]


def test_with_a_limit_the_whole_interval_must_keep_to_it(world, contract):
    found = disparities_of(
        *world,
        contract=contract(
            score_difference_ceiling=0.2, opportunity_ceiling=0.3, odds_ceiling=0.02, calibration_ceiling=0.05
        ),
    )
    score = pick(found, "score_difference", "black")
    assert (score.verdict, score.n_that_would_tell) == ("fail", None)
    assert score.reason.startswith("at least 0.")
    assert pick(found, "opportunity", "black").verdict == "pass"
    odds = pick(found, "odds", "female")
    assert odds.verdict in ("cannot tell", "fail")
    assert {pick(found, "calibration", group).verdict for group in ("white", "male")} == {"pass"}


def test_cannot_tell_says_how_many_cases_would():
    value = Estimate(value=0.08, low=0.02, high=0.14)
    verdict, reason, needed = _verdict(value, n=100, limit=0.1, minimum=30)
    assert (verdict, reason) == ("cannot tell", "between 0.02 and 0.14 in size, the limit is 0.10")
    assert needed == pytest.approx(900, abs=1)
    assert _verdict(value, n=20, limit=0.2, minimum=30)[:2] == ("cannot tell", "it rests on 20 cases, fewer than 30")
    assert _verdict(value, n=100, limit=0.08, minimum=30)[2] is None
    assert _verdict(value, n=100, limit=0.0800001, minimum=30)[2] is None
    assert _verdict(None, n=0, limit=0.1, minimum=30) == ("cannot tell", "a label or a group does not occur", None)
    assert _verdict(None, n=0, limit=None, minimum=30)[0] == "no limit"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-0.05, 0.05, "pass"), (-0.3, -0.2, "fail"), (-0.3, 0.3, "cannot tell")]
)
def test_the_sign_of_a_difference_does_not_matter_to_its_limit(low, high, verdict):
    value = Estimate(value=(low + high) / 2, low=low, high=high)
    assert _verdict(value, n=100, limit=0.1, minimum=30)[0] == verdict


def test_a_group_without_a_reference_is_measured_against_its_own_scores_only(world, contract):
    judged, frame = world
    found = disparities_of(judged, frame.assign(race="black"), contract=contract())
    assert [one.measure for one in found.measures if one.attribute == "race"] == ["calibration"]


def test_no_protected_attribute_means_nothing_is_measured(world, make_contract):
    assert disparities_of(*world, contract=make_contract(protected=[])) is None


def test_equal_scores_have_no_standardized_difference(world):
    judged = Judged(scores=np.full(4, 0.5), labels=np.zeros(4, bool), decisions=np.zeros(4, int), costs=np.zeros(4))
    counts = group_counts(judged, pd.DataFrame({"g": list("aabb")}))
    assert standardized(counts["a"], counts["b"], confidence=0.95) is None
    assert equalized_odds(counts["a"], counts["b"], confidence=0.95) is None


def test_intersections_are_compared_with_the_intersection_of_references(world):
    judged, frame = world
    (found,) = intersections_of(judged, frame, attributes=ATTRIBUTES, limits=Fairness(), confidence=0.95)
    assert (found.attribute, found.reference) == ("race × sex", "white × male")
    assert [group.group for group in found.groups] == ["black × female", "black × male", "white × female"]
    both = (frame["race"] == "black") & (frame["sex"] == "female")
    (first, *_) = found.groups
    assert first.n == both.sum()
    assert first.approval_rate.value == pytest.approx((judged.decisions[both.to_numpy()] == 0).mean())


def test_a_combination_that_no_case_has_is_no_group():
    judged = Judged(scores=np.zeros(3), labels=np.zeros(3, bool), decisions=np.zeros(3, int), costs=np.zeros(3))
    frame = pd.DataFrame({"race": ["white", "white", "black"], "sex": ["male", "female", "male"]})
    (found,) = intersections_of(judged, frame, attributes=ATTRIBUTES, limits=Fairness(), confidence=0.95)
    assert [group.group for group in found.groups] == ["black × male", "white × female"]


def test_a_proxy_is_named_with_how_well_it_predicts(world):
    _, frame = world
    race, sex = proxies_of(
        frame, attributes=ATTRIBUTES, inputs=("noise", "income", "postcode", "nothing"), confidence=0.95
    )
    assert (race.group, race.reference, race.n) == ("black", "white", (frame["race"] == "black").sum())
    assert [name for name, _ in race.inputs[:2]] == ["postcode", "income"]
    assert race.inputs[0][1].value > 0.9
    assert race.joint.value >= race.inputs[0][1].value - 0.01
    assert race.proxies == ("postcode", "income")
    assert sex.proxies == ()
    assert sex.joint.low < 0.5


def test_the_proxy_check_gives_the_same_figures_again(world):
    _, frame = world
    first, again = (
        proxies_of(frame, attributes=ATTRIBUTES[:1], inputs=("postcode", "income"), confidence=0.95) for _ in range(2)
    )
    assert first == again


def test_a_handful_of_members_is_not_predicted():
    frame = pd.DataFrame({"race": ["black"] * 5 + ["white"] * 50, "x": range(55)})
    (found,) = proxies_of(frame, attributes=ATTRIBUTES[:1], inputs=("x",), confidence=0.95)
    assert (found.n, found.joint, found.inputs) == (5, None, ())
