import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

from nbkit.errors import RationaleError
from nbkit.package import Contributions
from nbkit.rationale import _explainers, _permutation, explain_package
from nbkit.rationale._explain import _rank_correlation
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._permutation import Background, exactly, permuted

from .conftest import one_hot, package_of


def with_imputer(classifier):
    pipeline = one_hot(classifier)
    return Pipeline([pipeline.steps[0], ("impute", SimpleImputer()), pipeline.steps[1]])


@pytest.fixture
def packaged(frame, inputs, contract, tmp_path):
    def make(model):
        model.fit(frame[inputs], frame["denied"])
        return package_of(model, frame, tmp_path / "package", contract=contract)

    return make


def test_trees_are_explained_by_shap_and_checked_row_by_row(explanation):
    assert explanation.method.startswith("shap TreeExplainer")
    assert (explanation.rows, explanation.failed_rows, explanation.scale) == (120, 0, "log-odds")
    assert explanation.max_error < 1e-12
    assert explanation.cross_check is not None
    assert explanation.cross_check < 1e-12


def test_importance_is_that_of_the_exact_contributions(explanation, package, frame, inputs):
    chosen = np.sort(np.random.default_rng(1).choice(len(frame), size=120, replace=False))
    exact = Contributions.from_plan(package.plan, background=None).explain_columns(frame[inputs].iloc[chosen])
    expected = {name: np.mean([abs(one.by_input[name]) for one in exact]) for name in inputs}
    assert explanation.importance == pytest.approx(expected, abs=1e-12)
    assert list(explanation.importance.values()) == sorted(explanation.importance.values(), reverse=True)


def test_trends_have_the_declared_direction(explanation):
    assert explanation.trend["loan_to_price"] > 0.5
    assert explanation.trend["guidelines"] < 0
    assert "history" not in explanation.trend


def test_personal_data_are_never_plotted(explanation):
    shown = [dependence.input for dependence in explanation.dependence]
    assert "assets" not in shown
    assert set(shown) == {"obligations", "loan_to_price", "guidelines", "history"}
    (guidelines,) = [one for one in explanation.dependence if one.input == "guidelines"]
    assert set(guidelines.values) <= {"yes", "no", None}
    assert len(guidelines.values) == len(guidelines.contributions) == 120


def test_the_same_seed_gives_the_same_explanation(package, frame, explanation):
    assert explain_package(package, frame, sample=120, seed=1) == explanation
    assert explanation.stability is not None


def test_the_json_form_leaves_out_the_points_of_the_plots(explanation):
    found = explanation.to_dict()
    assert "dependence" not in found
    assert found["package_digest"] == explanation.package_digest


def test_native_categories_that_shap_gets_wrong_are_explained_exactly(packaged, frame):
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(categories=[["none", "good", "late", "very late"]])
    columns = ColumnTransformer([("history", encode, ["history"])], remainder="passthrough")
    boosting = HistGradientBoostingClassifier(
        max_iter=20, early_stopping=False, categorical_features=[0], min_samples_leaf=5, random_state=0
    )
    package = packaged(Pipeline([("columns", columns), ("classifier", boosting)]))
    found = explain_package(package, frame, sample=150, seed=0, stability=False)
    assert package.compiled
    assert (found.method, found.failed_rows) == ("nbkit's own path-dependent computation, exact", 0)
    assert found.max_error < 1e-9
    by_method = {trial.method: trial for trial in found.trials}
    for method in ("shap TreeExplainer, path-dependent", "shap TreeExplainer, against a background"):
        assert by_method[method].failed > 20
        assert by_method[method].max_error > 0.5
        assert not by_method[method].chosen
    assert by_method["nbkit's own computation against a background, exact"].failed == 0


def test_every_way_against_a_background_is_measured(explanation):
    own, shap = [trial for trial in explanation.trials if "background" in trial.method][::-1]
    assert (own.rows, own.failed) == (40, 0)
    assert own.max_error < 1e-12
    assert shap.max_error > own.max_error
    assert [trial.chosen for trial in explanation.trials] == [True, False, False, False]
    assert explanation.background == "the training rows, as the trees count them"


@pytest.fixture
def shap_slips(monkeypatch):
    """Let shap's first computation be wrong in rows that the trial does not see: every other one of the explained."""
    honest = _explainers._by_shap

    def slipping(plan, *, model, sources, background):
        explain = honest(plan, model=model, sources=sources, background=background)

        def slip(columns):
            values, base = explain(columns)
            if len(base) > 40 and background is None:
                values[::2, 0] += 0.01
            return values, base

        return slip

    monkeypatch.setattr(_explainers, "_by_shap", slipping)


def test_a_row_that_fails_is_explained_another_way_and_counted(package, frame, explanation, shap_slips):
    found = explain_package(package, frame, sample=120, seed=1, stability=False)
    assert found.method == "shap TreeExplainer, path-dependent"
    assert found.failed_rows == 60
    assert found.max_error < 1e-12
    assert found.importance == pytest.approx(explanation.importance, abs=1e-12)


def test_a_way_that_does_not_take_the_model_is_a_finding(package, frame, explanation, monkeypatch):
    def refuse(plan, **_):
        def explain(columns):
            raise NotImplementedError("no such trees")

        return explain

    monkeypatch.setattr(_explainers, "_by_shap", refuse)
    found = explain_package(package, frame, sample=120, seed=1, stability=False)
    assert found.trials[0].problem == "NotImplementedError: no such trees"
    assert (found.trials[0].failed, found.trials[0].max_error) == (40, None)
    assert found.method == "nbkit's own path-dependent computation, exact"
    assert found.importance == pytest.approx(explanation.importance, abs=1e-12)


def test_a_forest_is_explained_in_probabilities(packaged, frame):
    package = packaged(with_imputer(RandomForestClassifier(10, max_depth=4, random_state=0, n_jobs=1)))
    found = explain_package(package, frame, sample=40, seed=0, stability=False)
    assert (found.scale, found.failed_rows) == ("probability", 0)
    assert found.max_error < 1e-9


def test_xgboost_is_held_to_the_float64_sum_of_its_own_leaves(packaged, frame):
    package = packaged(one_hot(XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1)))
    found = explain_package(package, frame, sample=40, seed=0, stability=False)
    assert (found.tolerance, found.failed_rows) == (1e-6, 0)
    assert found.max_error < 1e-6


def test_lightgbm_is_explained_by_shap(packaged, frame):
    package = packaged(one_hot(LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1, n_jobs=1)))
    found = explain_package(package, frame, sample=40, seed=0, stability=False)
    assert (found.scale, found.failed_rows) == ("log-odds", 0)
    assert found.max_error < 1e-9


def test_a_linear_model_is_explained_against_its_background(packaged, frame):
    package = packaged(with_imputer(LogisticRegression(max_iter=2000)))
    found = explain_package(package, frame, sample=40, seed=0, stability=False)
    assert found.method == "exact: coefficient times distance from the background's mean"
    assert (found.failed_rows, found.cross_check) == (0, None)
    assert found.background_digest == package.manifest["files"]["background.json"]["sha256"]


@pytest.mark.parametrize("most_exact", [8, 4])
def test_what_has_no_plan_is_explained_by_coalitions_or_by_permutation(packaged, frame, monkeypatch, most_exact):
    monkeypatch.setattr(_permutation, "_MOST_EXACT_INPUTS", most_exact)
    package = packaged(with_imputer(GaussianNB()))
    assert not package.compiled
    found = explain_package(package, frame, sample=4, seed=0, stability=False)
    exact = found.method == "every coalition of inputs against 20 rows, exact"
    assert exact or found.method.startswith("permutation against 20 rows")
    assert exact == (most_exact == 8)
    assert (found.scale, found.failed_rows) == ("probability", 0)
    assert found.max_error < 1e-9
    assert found.background_digest.startswith("sha256:")
    assert [one.strength for one in found.interactions] == sorted(
        (one.strength for one in found.interactions), reverse=True
    )
    assert explain_package(package, frame, sample=4, seed=0, stability=False) == found


def test_permutation_comes_close_to_all_coalitions(packaged, frame, inputs):
    package = packaged(with_imputer(GaussianNB()))
    model = FittedModel.of(package)
    rows = frame[inputs].head(5)
    background = Background.draw(frame, inputs=package.contract.inputs, seed=0)
    exact, base = exactly(model.answers, rows, background=background, inputs=package.contract.inputs)
    sampled, same = permuted(model.answers, rows, background=background, inputs=package.contract.inputs, seed=1)
    assert base == pytest.approx(same)
    assert base + exact.sum(axis=1) == pytest.approx(model.answers(rows))
    assert np.abs(exact - sampled).max() < 0.05


def test_no_rows_are_refused(package, frame):
    with pytest.raises(RationaleError) as caught:
        explain_package(package, frame[:0])
    assert str(caught.value) == "explain: expected rows, got none. Next: nbkit freeze"


def test_an_explanation_of_another_model_is_refused(package, frame, monkeypatch):
    from nbkit.rationale._fitted import FittedModel

    honest = FittedModel.answers
    monkeypatch.setattr(FittedModel, "answers", lambda self, rows: honest(self, rows) + 0.5)
    with pytest.raises(RationaleError) as caught:
        explain_package(package, frame, sample=7, stability=False)
    assert str(caught.value) == (
        "explain: 7 of 7 explanations do not add up to the model's answer; the largest distance is 0.5, allowed is"
        " 1e-06. Next: package the model again and compare its parity"
    )


def test_progress_is_told(package, frame):
    told = []
    explain_package(package, frame, sample=5, progress=lambda share, message: told.append((share, message)))
    assert told[0] == (0.02, "trying ways to explain")
    assert told[1] == (0.1, "explaining 5 rows, each checked against the model")
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1] == (1.0, "explained")


@pytest.mark.parametrize(
    ("values", "contributions", "expected"),
    [
        ([1.0, 2.0, 3.0, None], [0.1, 0.2, 0.9, -5.0], 1.0),
        ([1.0, 2.0, 2.0], [3.0, 2.0, 1.0], -0.866),
        ([1.0, 1.0], [3.0, 2.0], 0.0),
        ([1.0, 2.0], [3.0, 3.0], 0.0),
    ],
)
def test_trend_is_a_rank_correlation_of_what_is_known(values, contributions, expected):
    assert _rank_correlation(values, np.array(contributions)) == pytest.approx(expected, abs=1e-3)
