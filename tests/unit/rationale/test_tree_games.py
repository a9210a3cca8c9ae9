"""Contributions against rows and interactions are exact: they equal brute force, and shap where shap is right."""

import warnings
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from xgboost import XGBClassifier

from nbkit.package import compile_plan
from nbkit.rationale._tree_games import TreeGames

from .conftest import one_hot


def native():
    encode = OrdinalEncoder(categories=[["none", "good", "late", "very late"]])
    columns = ColumnTransformer([("history", encode, ["history"])], remainder="passthrough")
    boosting = HistGradientBoostingClassifier(
        max_iter=15, early_stopping=False, categorical_features=[0], min_samples_leaf=5, random_state=0
    )
    return Pipeline([("columns", columns), ("classifier", boosting)])


def forest():
    steps = one_hot(RandomForestClassifier(8, max_depth=4, random_state=0, n_jobs=1)).steps
    return Pipeline([steps[0], ("impute", SimpleImputer()), steps[1]])


MODELS = {
    "one-hot": lambda: one_hot(HistGradientBoostingClassifier(max_iter=15, early_stopping=False, random_state=0)),
    "native categories": native,
    "forest": forest,
    "lightgbm": lambda: one_hot(LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1, n_jobs=1)),
    "xgboost": lambda: one_hot(XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1)),
}


@pytest.fixture(params=list(MODELS))
def plan(request, frame, inputs, contract):
    model = MODELS[request.param]().fit(frame[inputs], frame["denied"])
    return compile_plan(model, inputs=contract.inputs, positive=1)


def brute_force(answer, row, background):
    """Shapley values from the definition: every coalition of columns, the others from each background row."""
    size = len(row)

    @cache
    def worth(known):
        mixed = background.copy()
        mixed[:, list(known)] = row[list(known)]
        return answer(mixed).mean()

    values = np.zeros(size)
    for column in range(size):
        rest = [other for other in range(size) if other != column]
        for count in range(size):
            for known in map(frozenset, combinations(rest, count)):
                weight = 1 / (size * comb(size - 1, count))
                values[column] += weight * (worth(known | {column}) - worth(known))
    return values


def test_against_rows_is_the_definition(plan, frame, inputs):
    matrix = plan.transform_columns(frame[inputs].iloc[[700]])
    background = plan.transform_columns(frame[inputs].iloc[100:104])
    games = TreeGames.of(plan.engine)
    values, base = games.against(matrix, background)
    assert base == pytest.approx(plan.engine.many(background).mean(), abs=1e-6)
    expected = [brute_force(games.answers, row, background) for row in matrix]
    assert values == pytest.approx(np.array(expected), abs=1e-12)


def test_answers_are_the_plan_s_own(plan, frame, inputs):
    matrix = plan.transform_columns(frame[inputs].iloc[:100])
    assert TreeGames.of(plan.engine).answers(matrix) == pytest.approx(plan.engine.many(matrix), abs=1e-6)


def test_interactions_are_those_of_shap(frame, inputs, contract):
    model = MODELS["one-hot"]().fit(frame[inputs], frame["denied"])
    plan = compile_plan(model, inputs=contract.inputs, positive=1)
    matrix = plan.transform_columns(frame[inputs].iloc[:40])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
        import shap

    explainer = shap.TreeExplainer(model.steps[-1][1], feature_perturbation="tree_path_dependent")
    # shap gives each of the two columns half of what they do together.
    expected = 2 * explainer.shap_interaction_values(matrix)
    expected[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] = 0.0
    assert TreeGames.of(plan.engine).interactions(matrix) == pytest.approx(expected, abs=1e-12)
