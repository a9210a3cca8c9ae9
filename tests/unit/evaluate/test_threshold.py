"""Thresholds are the cheapest pair there is, checked against trying every pair."""

from decimal import Decimal
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import CostRow, Costs
from nbkit.errors import EvaluationError
from nbkit.evaluate import GroupLimit, choose_thresholds, group_limits, money_of
from nbkit.evaluate._decide import costs_of, decisions_of
from nbkit.evaluate._threshold import shortest_between

money = st.decimals(0, 1000, places=2)
cost_rows = st.builds(CostRow, positive=money, negative=money)
matrices = st.builds(Costs, approve=cost_rows, refer=cost_rows, decline=cost_rows)
# Few different scores, so that ties are the rule, with both ends of the range among them.
score_lists = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 0.77, 0.9, 1.0]), min_size=2, max_size=14)


def cost_matrix(approve=(100, 0), refer=(5, 5), decline=(0, 20)):
    rows = {"approve": approve, "refer": refer, "decline": decline}
    return Costs(**{k: CostRow(positive=Decimal(str(p)), negative=Decimal(str(n))) for k, (p, n) in rows.items()})


def total(scores, labels, *, refer, decline, costs):
    """Add up the cost matrix row by row, in whole cents."""
    cents = 0
    for score, label in zip(scores, labels, strict=True):
        row = costs.decline if score >= decline else costs.refer if score >= refer else costs.approve
        cents += int((row.positive if label else row.negative) * 100)
    return cents


@given(scores=score_lists, data=st.data(), costs=matrices, capacity=st.sampled_from([0.0, 0.1, 0.29, 0.5, 1.0]))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_no_pair_of_thresholds_within_capacity_is_cheaper(scores, data, costs, capacity):
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores)))
    labels[0], labels[1] = 0, 1
    choice = choose_thresholds(scores, labels, costs=costs, review_capacity=capacity)
    refer, decline = choice.thresholds.refer, choice.thresholds.decline
    ours = total(scores, labels, refer=refer, decline=decline, costs=costs)
    referred = sum(refer <= score < decline for score in scores)
    assert referred <= capacity * len(scores) + 1e-9
    assert choice.expected_cost == (Decimal(ours) / 100 / len(scores)).quantize(Decimal("0.0001"))
    candidates = sorted({0.0, 1.0, *scores, *(s + 1e-6 for s in scores if s < 1)})
    for low, high in combinations_with_replacement(candidates, 2):
        if sum(low <= score < high for score in scores) <= capacity * len(scores) + 1e-9:
            assert ours <= total(scores, labels, refer=low, decline=high, costs=costs)


@given(scores=score_lists, data=st.data(), costs=matrices)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_no_point_of_the_curve_is_below_the_choice(scores, data, costs):
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores)))
    labels[0], labels[1] = 0, 1
    choice = choose_thresholds(scores, labels, costs=costs, review_capacity=0.3)
    assert min(cost for _, cost in choice.curve) == choice.expected_cost
    assert choice.thresholds.decline in [threshold for threshold, _ in choice.curve]
    assert [t for t, _ in choice.curve] == sorted((t for t, _ in choice.curve), reverse=True)


def test_every_entry_of_the_matrix_is_shifted_both_ways():
    rng = np.random.default_rng(0)
    scores = rng.random(5000)
    choice = choose_thresholds(scores, rng.random(5000) < scores, costs=cost_matrix(), review_capacity=1.0)
    assert list(choice.plus_minus_20) == [
        f"{name} {sign}20%"
        for name in ("approve.positive", "refer.positive", "refer.negative", "decline.negative")
        for sign in "-+"
    ]
    assert all(Decimal(row["regret"]) >= 0 for row in choice.plus_minus_20.values())
    assert any(Decimal(row["regret"]) > 0 for row in choice.plus_minus_20.values())


def test_the_textbook_threshold_is_found_on_calibrated_scores():
    # Declining costs 20 * (1 - p), approving 100 * p: they are equal at p = 1/6.
    rng = np.random.default_rng(1)
    scores = rng.random(40_000)
    labels = rng.random(40_000) < scores
    choice = choose_thresholds(scores, labels, costs=cost_matrix(), review_capacity=0.0)
    assert choice.thresholds.decline == pytest.approx(1 / 6, abs=0.02)
    assert choice.thresholds.refer == choice.thresholds.decline


def test_a_score_of_one_is_declined_even_where_that_costs_more():
    choice = choose_thresholds([0.0, 1.0, 1.0], [1, 0, 0], costs=cost_matrix(), review_capacity=0.0)
    assert choice.thresholds.decline <= 1.0
    declined = decisions_of(np.array([0.0, 1.0, 1.0]), thresholds=choice.thresholds)
    assert float(choice.expected_cost) == pytest.approx(
        costs_of(declined, money_of(cost_matrix(), labels=np.array([True, False, False]))).mean(), abs=1e-4
    )


def test_amounts_too_large_for_64_bits_are_added_exactly():
    large = "999999999999.123456789"
    costs = cost_matrix(approve=(large, 0), decline=(0, large), refer=("1e12", "1e12"))
    choice = choose_thresholds([0.2, 0.2, 0.8], [1, 0, 1], costs=costs, review_capacity=0.0)
    assert choice.expected_cost == Decimal("333333333333.0412")


def test_the_curve_of_many_rows_stays_short():
    rng = np.random.default_rng(2)
    scores = rng.random(100_000)
    choice = choose_thresholds(scores, rng.random(100_000) < scores, costs=cost_matrix(), review_capacity=0.1)
    assert len(choice.curve) <= 220


@pytest.mark.parametrize(
    ("scores", "labels", "text"),
    [
        ([0.1, float("nan")], [0, 1], r"1 of 2 scores are NaN \(first: row 1"),
        ([0.1, 1.2], [0, 1], r"1 of 2 scores are outside 0\.\.1 \(first: row 1"),
        ([0.1, 0.2], [1, 1], "labels: expected both, got 2 rows of one kind"),
        ([0.1, 0.2], [0, 2], "labels: expected 0 and 1 only"),
        ([0.1, 0.2], ["0", "1"], "labels: expected 0 and 1 only"),
        ([0.1, 0.2], [0], r"expected one score and one label a row, got \(2,\) and \(1,\)"),
        ([], [], "labels: expected both, got 0 rows of one kind"),
        ([-0.5, float("nan")], [1, 1], "3 problems"),
    ],
)
def test_rows_that_say_nothing_are_refused(scores, labels, text):
    with pytest.raises(EvaluationError, match=text):
        choose_thresholds(scores, labels, costs=cost_matrix(), review_capacity=0.1)


@pytest.mark.parametrize("capacity", [-0.1, 1.1, float("nan")])
def test_capacity_is_a_share(capacity):
    with pytest.raises(EvaluationError, match=r"review_capacity: expected 0\.\.1"):
        choose_thresholds([0.1, 0.9], [0, 1], costs=cost_matrix(), review_capacity=capacity)


@given(a=st.floats(0, 1), b=st.floats(0, 1))
@settings(deadline=None, derandomize=True)
def test_the_shortest_decimal_lies_between(a, b):
    below, above = min(a, b), max(a, b)
    if below < above:
        assert below < shortest_between(below, above) <= above


def followed(base):
    """Return the same matrix, whose largest loss follows the amount of the row."""
    lose = base.approve.model_copy(update={"positive": Decimal(0), "positive_per": {"amount": Decimal("0.5")}})
    return base.model_copy(update={"approve": lose})


class TestAmountsOfRows:
    def test_equal_amounts_give_what_the_constant_matrix_gives(self):
        rng = np.random.default_rng(0)
        scores, labels = rng.random(300).round(2), rng.random(300) < 0.3
        plain = choose_thresholds(scores, labels, costs=cost_matrix(), review_capacity=0.2)
        rows = choose_thresholds(
            scores, labels, costs=followed(cost_matrix()), review_capacity=0.2, columns={"amount": [200.0] * 300}
        )
        assert (rows.thresholds, rows.expected_cost, rows.curve) == (
            plain.thresholds,
            plain.expected_cost,
            plain.curve,
        )
        assert rows.plus_minus_20 == plain.plus_minus_20

    @pytest.mark.parametrize("seed", range(5))
    def test_no_pair_is_cheaper_on_rows_of_different_amounts(self, seed):
        rng = np.random.default_rng(seed)
        scores, labels, amounts = rng.random(25).round(1), rng.random(25) < 0.4, rng.integers(1, 900, 25).astype(float)
        costs = followed(cost_matrix())
        choice = choose_thresholds(scores, labels, costs=costs, review_capacity=0.3, columns={"amount": amounts})
        money = money_of(costs, labels=labels, columns={"amount": amounts})

        def cost(refer, decline):
            decisions = (scores >= refer).astype(int) + (scores >= decline)
            return costs_of(decisions, money).mean(), (decisions == 1).sum()

        ours, _ = cost(choice.thresholds.refer, choice.thresholds.decline)
        assert float(choice.expected_cost) == pytest.approx(ours, abs=1e-4)
        candidates = sorted({0.0, 1.0, *scores, *(s + 1e-6 for s in scores if s < 1)})
        for low, high in combinations_with_replacement(candidates, 2):
            other, referred = cost(low, high)
            assert referred > 0.3 * 25 or ours <= other + 1e-9

    def test_amounts_beyond_exact_sums_are_refused(self):
        with pytest.raises(EvaluationError, match="cannot be added up exactly"):
            choose_thresholds(
                [0.1, 0.9],
                [0, 1],
                costs=followed(cost_matrix()),
                review_capacity=0.2,
                columns={"amount": np.array([1e16, 1e16])},
            )


class TestLimits:
    def rows(self):
        rng = np.random.default_rng(4)
        group = rng.random(600) < 0.4
        scores = np.clip(rng.beta(2, 5, 600) + 0.15 * group, 0, 1)
        return scores, rng.random(600) < scores, group

    def limit(self, group, floor):
        return GroupLimit(name="race black", group=group, reference=~group, floor=floor)

    def ratio(self, choice, scores, group):
        approved = scores < choice.thresholds.refer
        return approved[group].mean() / approved[~group].mean()

    def test_a_floor_that_excludes_the_cheapest_pair_is_kept_and_priced(self):
        scores, labels, group = self.rows()
        asked = {"costs": cost_matrix(approve=(30, 0)), "review_capacity": 0.1}
        free = choose_thresholds(scores, labels, **asked)
        held = choose_thresholds(scores, labels, **asked, limits=[self.limit(group, 0.9)])
        assert self.ratio(free, scores, group) < 0.9 <= self.ratio(held, scores, group)
        assert held.limited_by == ("race black",)
        assert held.cost_of_limits == held.expected_cost - free.expected_cost > 0
        assert min(cost for _, cost in held.curve) == held.expected_cost

    def test_a_floor_that_is_kept_anyway_changes_nothing(self):
        scores, labels, group = self.rows()
        asked = {"costs": cost_matrix(approve=(30, 0)), "review_capacity": 0.1}
        held = choose_thresholds(scores, labels, **asked, limits=[self.limit(group, 0.01)])
        free = choose_thresholds(scores, labels, **asked)
        assert (held.thresholds, held.expected_cost) == (free.thresholds, free.expected_cost)
        assert (held.limited_by, held.cost_of_limits) == ((), 0)

    def test_a_floor_that_no_pair_keeps_is_an_error(self):
        # Everyone of the group scores 1 and is always declined.
        scores, group = np.array([1.0, 1.0, 0.1, 0.2]), np.array([True, True, False, False])
        with pytest.raises(EvaluationError, match="no pair keeps the approval rates"):
            choose_thresholds(
                scores, [1, 0, 0, 1], costs=cost_matrix(), review_capacity=0.0, limits=[self.limit(group, 0.8)]
            )

    def test_limits_are_those_of_the_contract_where_rows_are_enough(self, rows, make_contract):
        contract = make_contract(fairness={"impact_ratio_floor": 0.7, "minimum_group": 50})
        (limit,) = group_limits(rows, contract=contract)
        assert (limit.name, limit.floor) == ("group b", 0.7)
        assert limit.group.sum() == (rows.group == "b").sum()
        assert limit.reference.sum() == (rows.group == "a").sum()
        assert group_limits(rows.head(60), contract=contract) == ()
        assert group_limits(rows.drop(columns="group"), contract=contract) == ()

    @pytest.mark.parametrize("gap", [False, True])
    def test_groups_that_are_numbers_are_limited_like_groups_that_are_text(self, rows, make_contract, gap):
        contract = make_contract(
            protected=[{"name": "group", "reference": "1"}], fairness={"impact_ratio_floor": 0.7, "minimum_group": 50}
        )
        numbers = rows.assign(group=rows.group.map({"a": 1, "b": 2}))
        if gap:
            numbers.loc[numbers.index[0], "group"] = None  # pandas now writes 1.0 and 2.0
        (limit,) = group_limits(numbers, contract=contract)
        assert limit.name == "group 2"
        assert limit.reference.sum() == (numbers.group == 1).sum()
