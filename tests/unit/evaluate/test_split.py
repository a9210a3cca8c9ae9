"""Splits that do not lie, and leaks that no single column shows."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from nbkit.errors import EvaluationError, LeakError
from nbkit.evaluate import find_leaks, find_split_leaks, refuse_leaks, refuse_split_leaks, split
from tests.unit.evaluate.conftest import CONTRACT

TARGET = CONTRACT["target"] | {"decided_at": "applied_at"}


@pytest.fixture
def timed(rows):
    """The rows, one a day, by customers who come back."""
    days = pd.date_range("2024-01-01", periods=len(rows), freq="D", tz="UTC")
    return rows.assign(applied_at=days, customer=[f"c{n % 130}" for n in range(len(rows))])


@pytest.fixture
def dated(make_contract):
    return make_contract(target=TARGET)


class TestByTime:
    def test_later_parts_are_later_and_the_embargo_is_the_label_delay(self, timed, dated):
        found = split(timed.sample(frac=1, random_state=1), contract=dated, by="time")
        frame = timed.sample(frac=1, random_state=1)
        training, validation = found.take(frame, "training"), found.take(frame, "validation")
        assert validation.applied_at.min() == pd.Timestamp("2024-10-07", tz="UTC")
        # A label takes 90 days, so the last one that was known on that day is of 90 days before.
        assert training.applied_at.max() == validation.applied_at.min() - pd.Timedelta(days=90)
        assert (len(validation), len(found.dropped), len(training)) == (120, 89, 191)
        assert found.text == (
            "by applied_at: validation from 2024-10-07; 89 rows within 90 days before the next part left out"
        )

    def test_three_parts_keep_their_distance_from_each_other(self, timed, dated):
        shares = {"training": 0.5, "validation": 0.25, "test": 0.25}
        found = split(timed, contract=dated, by="time", shares=shares, embargo_days=10)
        ends = [found.take(timed, name).applied_at for name in shares]
        for before, after in pairwise(ends):
            assert after.min() - before.max() >= pd.Timedelta(days=10)

    def test_rows_of_one_moment_are_never_torn_apart(self, timed, dated):
        monthly = timed.assign(applied_at=timed.applied_at.dt.strftime("%Y-%m-01"))
        found = split(monthly, contract=dated, by="time", embargo_days=0)
        moments = [set(found.take(monthly, name).applied_at) for name in found.parts]
        assert moments[0] & moments[1] == set()

    @pytest.mark.parametrize(
        ("change", "given", "problem"),
        [
            ({"applied_at": 3}, {}, "applied_at: expected times, got numbers"),
            ({"applied_at": "soon"}, {}, "applied_at: expected times"),
            ({"applied_at": None}, {}, "applied_at is missing in 400 of 400 rows"),
            ({}, {"column": "when"}, "when: missing"),
            ({}, {"embargo_days": -1}, "embargo_days: expected 0 or more"),
            ({}, {"embargo_days": 4000}, "training is empty"),
            ({}, {"shares": {"a": 0.5, "b": 0.4}}, "expected two or more above 0 that add up to 1"),
            ({"bad": 0}, {}, "training has 0 positives among 191 rows: expected some of both labels"),
            ({}, {"by": "luck"}, "by: expected time, group or stratified, got 'luck'"),
        ],
    )
    def test_what_cannot_be_split_is_said(self, timed, dated, change, given, problem):
        with pytest.raises(EvaluationError, match=problem):
            split(timed.assign(**change), **({"contract": dated, "by": "time"} | given))

    def test_without_a_column_of_times_it_asks_for_one(self, timed, contract):
        with pytest.raises(EvaluationError, match=r"by time needs a column\. Next: name it: column="):
            split(timed, contract=contract, by="time")


def test_a_customer_is_in_one_part_only(timed, contract):
    found = split(timed, contract=contract, by="group", column="customer", seed=3)
    sides = [set(found.take(timed, name).customer) for name in found.parts]
    assert sides[0] & sides[1] == set()
    assert len(found.parts["validation"]) == pytest.approx(120, abs=4)
    assert refuse_split_leaks({name: found.take(timed, name) for name in found.parts}, contract=contract) is None


def test_stratified_parts_have_the_share_of_positives_and_do_not_depend_on_order(rows, contract):
    found = split(rows, contract=contract, by="stratified")
    rates = [found.take(rows, name).bad.mean() for name in found.parts]
    assert rates[0] == pytest.approx(rates[1], abs=0.01)
    shuffled = rows.sample(frac=1, random_state=5)
    again = split(shuffled, contract=contract, by="stratified").take(shuffled, "validation")
    assert set(again.loan_id) == set(found.take(rows, "validation").loan_id)
    with pytest.raises(EvaluationError, match="expected one of training, validation, got 'test'"):
        found.take(rows, "test")
    with pytest.raises(EvaluationError, match="400 rows were split, got a table of 10"):
        found.take(rows.head(10), "training")


class TestLeaksBetween:
    def test_an_entity_or_a_customer_on_both_sides_is_refused(self, timed, contract):
        parts = {"training": timed.iloc[:300], "validation": timed.iloc[299:]}
        with pytest.raises(LeakError, match=r"loan_id: 1 values are in training and validation \(first: 1299\)"):
            refuse_split_leaks(parts, contract=contract)
        found = find_split_leaks(
            {"training": timed.iloc[:300], "validation": timed.iloc[300:]}, contract=contract, group="customer"
        )
        assert [(leak.kind, leak.column) for leak in found] == [("split", "customer")]
        assert found[0].text.startswith("customer: 100 values are in training and validation")

    def test_copies_under_new_ids_are_refused_and_chance_is_only_listed(self, timed, contract, make_contract):
        copies = timed.iloc[:20].assign(loan_id=range(5000, 5020))
        parts = {"training": timed.iloc[:300], "validation": pd.concat([timed.iloc[300:], copies])}
        with pytest.raises(LeakError, match=r"20 of 120 rows of validation \(16\.7%\) are the same as a row"):
            refuse_split_leaks(parts, contract=contract)
        coarse = make_contract(inputs=[c for c in CONTRACT["inputs"] if c["name"] in ("kind", "owner")], evaluate={})
        (listed,) = find_split_leaks({"training": timed.iloc[:300], "validation": timed.iloc[300:]}, contract=coarse)
        assert not listed.refused

    def test_missing_columns_are_named_with_their_part(self, rows, contract):
        with pytest.raises(
            EvaluationError, match=r"leak check: validation: 2 problems: risk: missing; customer: missing"
        ):
            find_split_leaks(
                {"training": rows.assign(customer=1), "validation": rows.drop(columns="risk")},
                contract=contract,
                group="customer",
            )


class TestFuture:
    @pytest.fixture
    def stamped(self, make_contract):
        inputs = [c | ({"known_at": "pulled_at"} if c["name"] == "income" else {}) for c in CONTRACT["inputs"]]
        return make_contract(target=TARGET, inputs=inputs)

    def test_an_input_known_after_the_decision_stops_with_rows_and_span(self, timed, stamped):
        pulled = timed.applied_at - pd.Timedelta(hours=1)
        assert find_leaks(timed.assign(pulled_at=pulled), contract=stamped) == ()
        late = pulled.where(timed.index != 7, timed.applied_at + pd.Timedelta(days=3))
        with pytest.raises(LeakError, match=r"income: known after the decision in 1 rows, by up to 3\.0 days of 400"):
            refuse_leaks(timed.assign(pulled_at=late), contract=stamped)
        gone = pulled.where(timed.index != 7)
        with pytest.raises(LeakError, match=r"income: present without a moment in pulled_at in 1 rows"):
            refuse_leaks(timed.assign(pulled_at=gone), contract=stamped)

    def test_a_declared_column_that_is_missing_is_an_error(self, timed, stamped):
        with pytest.raises(EvaluationError, match=r"leak check: 1 problem: pulled_at: missing"):
            find_leaks(timed, contract=stamped)

    def test_known_at_needs_the_moment_of_the_decision(self, make_contract):
        inputs = [CONTRACT["inputs"][0] | {"known_at": "pulled_at"}]
        with pytest.raises(ValueError, match=r"'risk': known_at needs target\.decided_at"):
            make_contract(inputs=inputs, evaluate={})


def test_inputs_that_give_the_target_away_only_together_are_refused_with_what_carries_it(rows, contract):
    rng = np.random.default_rng(1)
    # Neither says anything alone: the target is whether both have the same sign.
    left, right = rng.normal(size=(2, len(rows) * 3))
    frame = pd.concat([rows] * 3).assign(
        loan_id=range(len(rows) * 3), risk=left, income=right, bad=((left > 0) == (right > 0)).astype(int)
    )
    (leak,) = (one for one in find_leaks(frame, contract=contract) if one.refused)
    assert leak.kind == "together"
    assert leak.auc > 0.99
    assert set(leak.column.split(", ")[:2]) == {"risk", "income"}
    assert "on rows that a quick model had not seen" in leak.text
