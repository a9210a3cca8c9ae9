"""The search for less discriminatory alternatives: what is tried, what is written down, and why."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.contract import Contract, Thresholds
from nbkit.errors import EvaluationError
from nbkit.evaluate import LdaLedger, find_alternatives
from nbkit.evaluate._lda_candidates import LdaCandidate, candidates_of, prepared, silenced
from tests.unit.evaluate.conftest import CONTRACT

FORMATS = Path(__file__).parent / "formats_lda"
INPUTS = ("skill", "postcode", "noise")


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.model_validate(
        CONTRACT
        | {
            "inputs": [{"name": name, "type": "number"} for name in INPUTS],
            "fairness": {"alternative_cost_share": 0.25},
            "evaluate": {"resamples": 100},
        }
    )


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Rows whose label follows skill; postcode is the group with some noise, and the labels of group b are tainted."""
    rng = np.random.default_rng(1)
    count = 1500
    b = rng.random(count) < 0.3
    skill = rng.normal(size=count)
    bad = rng.random(count) < 1 / (1 + np.exp(1.2 + 2.2 * skill - 0.7 * b))
    return pd.DataFrame(
        {
            "loan_id": np.arange(count),
            "skill": skill,
            "postcode": b + rng.normal(scale=0.1, size=count),
            "noise": rng.normal(size=count),
            "group": np.where(b, "b", "a"),
            "bad": bad.astype(int),
        }
    )


@pytest.fixture(scope="module")
def ledger(frame, contract) -> LdaLedger:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0))
    told = []
    found = find_alternatives(model, frame, contract=contract, progress=lambda share, name: told.append((share, name)))
    assert told[0] == (0.0, "present")
    assert told[-1] == (1.0, "done")
    return found


def entry(ledger, name, thresholds="cheapest"):
    return next(one for one in ledger.entries if (one.name, one.thresholds) == (name, thresholds))


def test_the_model_without_its_proxy_is_found(ledger):
    assert (ledger.attribute, ledger.group) == ("group", "b")
    found = entry(ledger, "without postcode")
    assert found.verdict in ("alternative", "perhaps")
    assert found.group("group", "b").change.value > 0
    assert "without postcode" in [one.name for one in (*ledger.alternatives, *ledger.possible)]
    assert ledger.summary.startswith(f"{len(ledger.entries) - 1} candidates tried for group b")


def test_every_candidate_is_written_down_with_a_reason(ledger):
    names = {one.name for one in ledger.entries}
    alone = {"present", "without skill", "without postcode", "without noise", "C 0.01", "C 0.1", "C 10"}
    (together,) = names - alone
    assert alone < names
    assert together.startswith("without postcode and ")
    assert all(one.reason for one in ledger.entries)
    assert ledger.entries[0].verdict == "present"
    assert len(ledger.entries) == 4 * len(names)


def test_what_is_fairer_but_too_dear_is_rejected_for_that(ledger):
    dear = entry(ledger, "without skill")
    assert dear.verdict == "rejected"
    assert dear.reason.startswith(("too dear", "not fairer"))
    generous = entry(ledger, "present", "approving 10 % more")
    assert generous.group("group", "b").change.value > 0
    assert generous.cost_change.value != 0


def test_what_changes_nothing_is_not_fairer(ledger):
    # Noise carries no weight, so leaving it out moves nobody, or hardly anybody.
    quiet = entry(ledger, "without noise")
    assert abs(quiet.group("group", "b").change.value) < 0.05


def test_the_ledger_is_the_same_again(ledger, frame, contract):
    again = find_alternatives(make_pipeline(StandardScaler(), LogisticRegression(C=1.0)), frame, contract=contract)
    assert again == ledger


def test_it_reads_back_and_every_format_still_loads(ledger):
    assert LdaLedger.from_json(ledger.to_json()) == ledger
    golden = LdaLedger.from_json((FORMATS / "1.json").read_bytes())
    assert (golden.group, golden.entries[0].verdict) == ("b", "present")
    with pytest.raises(EvaluationError, match="format: expected 1, got 2"):
        LdaLedger.from_json('{"format": 2}')
    with pytest.raises(EvaluationError, match="lda: "):
        LdaLedger.from_json("{")


def test_the_report_is_one_file_with_every_candidate(ledger):
    html = ledger.to_html()
    assert html.count("<tr>") == len(ledger.entries) + 1
    assert "http" not in html
    assert "None of these rows is among the frozen cases" in html


class Dice(ClassifierMixin, BaseEstimator):
    """Draws its scores from the clock, so to speak."""

    draws = np.random.default_rng(0)

    def __init__(self, *, max_depth=2, fails=False):
        self.max_depth = max_depth
        self.fails = fails

    def fit(self, rows, labels):
        if self.fails or self.max_depth == 3:
            raise ValueError("three\nis too many")
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, rows):
        score = self.draws.random(len(rows)) if self.max_depth != 2 else np.linspace(0, 1, len(rows))
        return np.column_stack([1 - score, score])


def test_a_candidate_that_draws_is_rejected_as_not_deterministic(frame, contract):
    ledger = find_alternatives(Dice(), frame, contract=contract)
    assert entry(ledger, "max_depth 4").reason.startswith("not deterministic")
    assert entry(ledger, "max_depth 3").reason == "could not be fitted: three"
    assert entry(ledger, "max_depth 3").auc is None
    assert "could not be fitted" in ledger.to_html()


def test_a_present_model_that_cannot_be_fitted_is_an_error(frame, contract):
    with pytest.raises(EvaluationError, match="the present model could not be fitted: three"):
        find_alternatives(Dice(fails=True), frame, contract=contract)


def test_fixed_thresholds_stay_and_are_moved(frame, contract):
    thresholds = Thresholds(refer=0.3, decline=0.6)
    fixed = contract.model_copy(update={"decision": contract.decision.model_copy(update={"thresholds": thresholds})})
    ledger = find_alternatives(Dice(), frame, contract=fixed)
    ratios = [one.cost.value for one in ledger.entries if one.name == "present"]
    assert len(set(ratios)) == 4


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: f.drop(columns="noise"), "noise: missing"),
        (lambda f: f.assign(bad=0), "expected at least 5 rows of each label, got 0 positive"),
    ],
)
def test_rows_that_cannot_be_searched_are_refused(frame, contract, change, why):
    with pytest.raises(EvaluationError, match=why):
        find_alternatives(Dice(), change(frame), contract=contract)


def test_without_protected_attributes_there_is_nothing_to_search(frame, contract):
    with pytest.raises(EvaluationError, match="the contract names no attribute"):
        find_alternatives(Dice(), frame, contract=contract.model_copy(update={"protected": ()}))


def test_groups_with_too_few_rows_are_not_compared(frame, contract):
    small = contract.model_copy(update={"fairness": contract.fairness.model_copy(update={"minimum_group": 5000})})
    ledger = find_alternatives(Dice(), frame, contract=small)
    assert ledger.group == ""
    assert ledger.summary.endswith("no group has enough rows to compare")
    assert {one.reason for one in ledger.entries[1:4]} == {"no group can be compared"}


def test_trees_are_tried_with_other_sizes_and_one_thread():
    model = HistGradientBoostingClassifier(max_leaf_nodes=7, max_iter=5)
    names = [one.name for one in candidates_of(model, inputs=("a",), proxies=())]
    assert names[0] == "present"
    assert {"max_leaf_nodes 3", "max_leaf_nodes 15", "max_depth 2", "l2_regularization 1"} <= set(names)
    assert "max_leaf_nodes 7" not in names
    made = prepared(model, LdaCandidate(name="x", parameters={"max_leaf_nodes": 3}), seed=5)
    assert (made.max_leaf_nodes, made.random_state) == (3, 5)
    from sklearn.ensemble import RandomForestClassifier

    assert prepared(RandomForestClassifier(n_jobs=2), LdaCandidate(name="x"), seed=5).n_jobs == 1


def test_a_silenced_input_never_varies():
    frame = pd.DataFrame({"a": [1.0, 3.0, np.nan], "b": ["x", "x", "y"], "c": [np.nan] * 3, "d": [1, 2, 3]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = silenced(frame, dropped=("a", "b", "c"))
    assert quiet["a"].tolist() == [2.0, 2.0, 2.0]
    assert quiet["b"].tolist() == ["x", "x", "x"]
    assert quiet["c"].isna().all()
    assert quiet["d"].tolist() == [1, 2, 3]
    assert silenced(frame, dropped=()) is frame
