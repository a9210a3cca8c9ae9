"""The certificate counts how often the top reason changes although nothing of substance did."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from nbkit.contract import Input, parse_contract
from nbkit.gates import require_stability
from nbkit.rationale import Share, explain_package
from nbkit.rationale._slices import explain_slices
from nbkit.rationale._stability import _noisy, _twin, share_of

from .conftest import CONTRACT, one_hot, package_of

SHARES = ("background_share", "twin_share", "noise_share", "worst_share", "twin_apart_share")


def with_imputer(classifier):
    steps = one_hot(classifier).steps
    return Pipeline([steps[0], ("impute", SimpleImputer()), steps[1]])


def certified(model, frame, inputs, directory, *, extra=""):
    directory.mkdir(exist_ok=True)
    contract = parse_contract(CONTRACT + extra, source="contract.yaml")
    model.fit(frame[inputs], frame["denied"])
    package = package_of(model, frame, directory / "package", contract=contract)
    return explain_package(package, frame, sample=60, seed=0)


def boosting():
    return one_hot(HistGradientBoostingClassifier(max_iter=40, early_stopping=False, random_state=0))


def test_the_certificate_of_trees_has_every_share_with_its_interval(explanation):
    found = explanation.stability
    assert (found.rows, found.declined > 0) == (200, True)
    for name in SHARES:
        share = getattr(found, name)
        assert 0 <= share.low <= share.value <= share.high <= 1
    assert found.worst_share.value == max(getattr(found, name).value for name in SHARES[:3])
    assert found.background == "50 cases instead of the training rows, as the trees count them"
    assert 0.75 < found.twin_correlation < 0.95


def test_the_gate_reads_what_the_certificate_says(explanation):
    facts = {"stability": explanation.to_dict()["stability"]}
    assert require_stability(0.9)(facts).passed
    assert "of 200 rows under" in require_stability(0.9)(facts).reason


def test_a_twin_that_is_not_grouped_takes_more_reasons_away(frame, inputs, tmp_path):
    grouped = certified(boosting(), frame, inputs, tmp_path / "a").stability
    alone = certified(boosting(), frame, inputs, tmp_path / "b", extra="explain: {group_correlation: 1}\n").stability
    assert alone.twin_share == alone.twin_apart_share
    assert grouped.twin_share.value < alone.twin_share.value


def test_correlated_inputs_are_one_group_and_one_reason(frame, inputs, tmp_path):
    everything = "explain: {group_correlation: 0.000001}\n"
    found = certified(boosting(), frame, inputs, tmp_path, extra=everything)
    assert list(found.groups) == ["+".join(inputs)]
    # With one reason only, nothing can take its place.
    assert found.stability.worst_share.value < 0.05


def test_a_linear_model_is_certified_against_another_mean(frame, inputs, tmp_path):
    found = certified(with_imputer(LogisticRegression(max_iter=2000)), frame, inputs, tmp_path)
    assert found.interactions == ()
    assert found.stability.background.startswith("50 cases instead of the mean of a sample")
    assert found.stability.noise_share.value < 0.1


def test_what_has_no_plan_is_certified_on_fewer_rows(frame, inputs, tmp_path):
    found = certified(with_imputer(GaussianNB()), frame.head(300), inputs, tmp_path).stability
    assert (found.rows, found.background) == (30, "20 other cases")


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0), (5, 50, 0.0435, 0.2136)],
)
def test_the_interval_is_wilson_s(hits, n, low, high):
    # Newcombe (1998), Statistics in Medicine 17, method 3.
    share = share_of(np.arange(n) < hits, confidence=0.95)
    assert dataclasses.astuple(share) == pytest.approx((hits / n, low, high), abs=6e-4)
    assert isinstance(share, Share)


def test_a_twin_has_nearly_the_same_rank_and_the_same_gaps():
    rng = np.random.default_rng(0)
    values = pd.Series([*np.arange(500.0), None])
    twin = _twin(values, values, column=Input(name="x", type="number"), rng=rng)
    assert np.isnan(twin[-1])
    assert 0.8 < np.corrcoef(values[:500], twin[:500])[0, 1] < 0.95
    assert set(twin[:500]) <= set(values[:500])


def test_a_twin_of_a_category_is_now_and_then_another_level():
    values = pd.Series(["a", "b"] * 300 + [None], dtype=object)
    column = Input(name="x", type="category", categories=("a", "b"))
    twin = _twin(values, values, column=column, rng=np.random.default_rng(0))
    changed = np.mean([old != new for old, new in zip(values[:600], twin[:600], strict=True)])
    assert 0.02 < changed < 0.09
    assert twin[-1] is None or twin[-1] != twin[-1]


def test_a_column_without_a_value_has_neither_twin_nor_noise():
    empty = pd.DataFrame({"x": [np.nan, np.nan]})
    column = Input(name="x", type="number")
    assert np.isnan(_twin(empty["x"], empty["x"], column=column, rng=np.random.default_rng(0))).all()
    assert _noisy(empty, empty, inputs=[column], rng=np.random.default_rng(0)).isna().all().all()


def test_noise_is_small_stays_in_range_and_leaves_categories_alone():
    frame = pd.DataFrame({"x": np.linspace(0.0, 10.0, 50), "n": np.arange(50.0), "c": ["a"] * 50})
    inputs = [
        Input(name="x", type="number", minimum=0, maximum=10),
        Input(name="n", type="integer"),
        Input(name="c", type="category", categories=("a",)),
    ]
    noisy = _noisy(frame, frame, inputs=inputs, rng=np.random.default_rng(0))
    assert noisy["x"].between(0, 10).all()
    assert 0 < np.abs(noisy["x"] - frame["x"]).mean() < 0.4
    assert (noisy["n"] == noisy["n"].round()).all()
    assert (noisy["c"] == "a").all()


def test_a_slice_s_differences_add_up_to_its_own():
    rows = pd.DataFrame({"region": ["north"] * 30 + ["south"] * 50 + [None] * 25 + ["rare"] * 3})
    by_input = np.random.default_rng(0).normal(size=(108, 2)) + (rows["region"] == "north").to_numpy()[:, None]
    found = explain_slices(rows, by_input, names=["a", "b"], columns=["region", "not there"])
    assert [(one.level, one.rows) for one in found] == [("north", 30), ("rare", 3), ("south", 50), ("missing", 25)]
    for one in found:
        if one.level == "rare":
            assert (one.difference, one.because) == (None, {})
        else:
            assert one.difference == pytest.approx(sum(one.because.values()))
    assert found[0].difference > 1


def test_a_number_is_cut_at_its_quartiles():
    rows = pd.DataFrame({"age": np.arange(100.0), "yes": [0.0, 1.0] * 50})
    found = explain_slices(rows, np.arange(100.0)[:, None], names=["age"], columns=["age", "yes"])
    assert [one.level for one in found] == [
        "up to 24.75", "above 24.75 up to 49.5", "above 49.5 up to 74.25", "above 74.25", "0", "1",
    ]  # fmt: skip
    assert {one.rows for one in found[:4]} == {25}
