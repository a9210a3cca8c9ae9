"""Trees as tables of bits give the margins of treelite, bit for bit, or leave the rows to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler
from treelite.model_builder import Metadata, ModelBuilder, PostProcessorFunc, TreeAnnotation

from nbkit.contract import Contract
from nbkit.errors import ContractViolationError
from nbkit.package import Plan, compile_plan
from nbkit.package import _quick as quick_module
from nbkit.package._engines import TreeEngine
from nbkit.package._quick import QuickTrees
from nbkit.package._quick_nodes import _before_rounding
from nbkit.package._rows import PlanColumn, PlanInput
from nbkit.package._tree_nodes import array_of

NUMBERS = ["income", "ratio", "years", "married"]
CATEGORIES = ["purpose", "region"]
INPUTS = [*NUMBERS, *CATEGORIES]
# A group of callers is scored together.
GROUPS = (1, 2, 3, 4, 5, 40)
Row = dict[str, Any]


def columns(numbers: Any, texts: Any, **options: Any) -> ColumnTransformer:
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, CATEGORIES)], **options)


def codes(**options: Any) -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", **({"unknown_value": np.nan} | options))


def one_hot(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(sparse_output=False, **({"handle_unknown": "ignore"} | options))


PREPARED: dict[str, Callable[[], Any]] = {
    "native": lambda: columns("passthrough", codes()),
    "one-hot": lambda: columns(
        make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
        make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot()),
    ),
    "infrequent": lambda: columns(
        make_pipeline(SimpleImputer(), MinMaxScaler(clip=True, feature_range=(-1, 2))),
        one_hot(min_frequency=0.2, handle_unknown="infrequent_if_exist"),
    ),
    "codes": lambda: columns(
        make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), RobustScaler()),
        make_pipeline(SimpleImputer(strategy="most_frequent"), codes(unknown_value=-2)),
    ),
    "imputed codes": lambda: make_pipeline(columns("passthrough", codes()), SimpleImputer(add_indicator=True)),
    "numbers one-hot": lambda: ColumnTransformer(
        [("few", one_hot(), ["years", "married"]), ("texts", one_hot(), CATEGORIES)], remainder=SimpleImputer()
    ),
}
PREDICTORS: dict[str, Callable[[], Any]] = {
    "hist": lambda: HistGradientBoostingClassifier(max_iter=15, early_stopping=False),
    "hist, own categories": lambda: HistGradientBoostingClassifier(
        max_iter=15, early_stopping=False, categorical_features=[4, 5]
    ),
    "hist, wide": lambda: HistGradientBoostingClassifier(
        max_iter=5, max_leaf_nodes=50, min_samples_leaf=2, early_stopping=False
    ),
    "forest": lambda: RandomForestClassifier(12, max_depth=5, random_state=0),
    "forest, wide": lambda: RandomForestClassifier(8, max_leaf_nodes=64, random_state=0),
    "extra": lambda: ExtraTreesClassifier(12, max_depth=5, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=12, random_state=0),
    "boosting from zero": lambda: GradientBoostingClassifier(n_estimators=3, init="zero", random_state=0),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1, min_child_samples=5),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=15, n_jobs=1),
}
PLANS = [
    "native/hist", "native/hist, own categories", "native/hist, wide", "native/extra", "native/lightgbm",
    "native/xgboost", "one-hot/hist", "one-hot/forest", "one-hot/forest, wide", "one-hot/extra", "one-hot/boosting",
    "one-hot/boosting from zero", "one-hot/lightgbm", "one-hot/xgboost", "infrequent/hist", "infrequent/forest",
    "codes/boosting", "codes/xgboost", "imputed codes/forest", "imputed codes/lightgbm", "numbers one-hot/hist",
]  # fmt: skip


@pytest.fixture(scope="module")
def frame(table: pd.DataFrame) -> pd.DataFrame:
    """The table with many zeros, at which LightGBM splits in a way of its own."""
    return table.assign(ratio=table["ratio"].where(table.index % 3 > 0, 0.0), years=table["years"] % 4)


@pytest.fixture(scope="module")
def make_plan(contract: Contract, frame: pd.DataFrame) -> Callable[[str], Plan]:
    made: dict[str, Plan] = {}

    def make(name: str) -> Plan:
        if name not in made:
            prepared, predictor = name.split("/")
            model = make_pipeline(PREPARED[prepared](), PREDICTORS[predictor]())
            made[name] = compile_plan(model.fit(frame[INPUTS], frame["denied"]), inputs=contract.inputs)
            made[name].lay_out()
        return made[name]

    return make


def quick_of(plan: Plan) -> QuickTrees | None:
    assert isinstance(plan.engine, TreeEngine)
    return QuickTrees.of(plan.engine, plan._rows)


def walked(plan: Plan) -> Plan:
    """The same plan, answered by the engine."""
    return Plan.from_files(plan.to_files())


def assert_same(plan: Plan, rows: Sequence[Row]) -> None:
    """Compare tables with the engine, in groups of every size, by their bytes."""
    plan.lay_out()
    quick = quick_of(plan)
    assert quick is not None, "no tables"
    margins = np.array([plan._walked_margin(row) for row in rows])
    engine = walked(plan)
    scores = np.array([engine.score(row) for row in rows])
    assert np.array([plan.score(row) for row in rows]).tobytes() == scores.tobytes()
    begin = 0
    while begin < len(rows):
        for size in (*GROUPS, len(rows) // 4):
            some = slice(begin, begin + size)
            given = quick.margins(rows[some])
            assert given is not None, "left to the engine"
            assert given.tobytes() == margins[some].tobytes()
            assert np.array(plan.score_rows(rows[some])).tobytes() == scores[some].tobytes()
            begin += size


def crossing(function: Callable[[float], float], threshold: float) -> float:
    """The largest number that a growing function keeps at or below a threshold, within a wide range."""
    low, high = -1e6, 1e6
    while (middle := low / 2 + high / 2) not in (low, high):
        low, high = (middle, high) if function(middle) <= threshold else (low, middle)
    return low


def around(value: float) -> Iterator[float]:
    """A number, its neighbours, and the numbers at which rounding to float32 changes its mind."""
    single = np.float32(value)
    singles = [float(np.nextafter(single, np.float32(towards))) for towards in (-math.inf, math.inf)]
    middles = [float(single) / 2 + each / 2 for each in singles]
    for each in (value, float(single), *singles, *middles):
        yield from (each, math.nextafter(each, -math.inf), math.nextafter(each, math.inf))


def read(thresholds: bytes) -> list[float]:
    return np.frombuffer(thresholds).tolist()


def edges(plan: Plan, row: Row, *, most: int = 40) -> list[Row]:
    """Rows whose numbers lie at the thresholds of the trees, and just beside them."""
    quick = quick_of(plan)
    assert quick is not None
    values = {name: read(thresholds) for name, thresholds, _, _ in quick.numbers}
    for name, _, _, cells in quick.chains:
        values[name] = [crossing(function, threshold) for function, kept, _, _ in cells for threshold in read(kept)]
    assert any(values.values())
    return [
        row | {name: each}
        for name, found in values.items()
        for value in found[:: max(1, len(found) // most)]
        for each in around(value)
    ]


@pytest.mark.parametrize("name", PLANS)
def test_rows_of_a_table_give_the_margins_of_the_engine(
    name: str, make_plan: Callable[[str], Plan], unseen_table: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    rows = rows_of(unseen_table)
    assert any(row["purpose"] == "yacht" for row in rows)
    assert any(row["income"] is None and row["region"] is None for row in rows)
    assert_same(make_plan(name), rows)


@pytest.mark.parametrize("name", PLANS)
def test_numbers_at_a_threshold_go_the_way_they_go_in_the_engine(
    name: str, make_plan: Callable[[str], Plan], frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    plan = make_plan(name)
    rows = rows_of(frame)
    for row in (rows[0], {**rows[1], **dict.fromkeys(NUMBERS), "purpose": "yacht", "region": None}):
        assert_same(plan, edges(plan, row, most=8))


@pytest.mark.parametrize("name", PLANS)
def test_numbers_beyond_all_measure_are_read_as_the_engine_reads_them(
    name: str, make_plan: Callable[[str], Plan], frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    """The arithmetic of a scaler makes infinities of them, and so does float32."""
    reach = float(np.float32(1e-35))
    beyond = [0.0, -0.0, 5e-324, 1e-36, reach, 1.7e308, 3.5e38, float(np.finfo(np.float32).max), math.inf]
    beyond += [math.nextafter(reach, 0.0), math.nextafter(reach, 1.0), 2.0**128 - 2.0**103, 1e-46, 1e-45]
    row = rows_of(frame)[0]
    assert_same(make_plan(name), [row | {number: each} for number in NUMBERS for one in beyond for each in (one, -one)])


def test_lightgbm_reads_numbers_near_zero_as_zero(make_plan: Callable[[str], Plan], frame: pd.DataFrame) -> None:
    """Not a comparison of nothing: the tables do hold a threshold at the edge of what counts as zero."""
    plan = make_plan("native/lightgbm")
    assert isinstance(plan.engine, TreeEngine)
    reach = plan.engine.zero_within
    assert reach > 0
    quick = quick_of(plan)
    assert quick is not None
    found = [limit for _, thresholds, _, _ in quick.numbers for limit in read(thresholds)]
    assert any(0 < abs(limit) <= math.nextafter(reach, 1.0) for limit in found)
    assert not any(-reach <= limit < reach for limit in found)


def test_words_are_as_wide_as_the_trees(make_plan: Callable[[str], Plan]) -> None:
    for name, word in (
        ("native/hist", np.uint32),
        ("native/hist, wide", np.uint64),
        ("one-hot/forest, wide", np.uint64),
    ):
        quick = quick_of(make_plan(name))
        assert quick is not None
        assert quick.words.dtype == word


@pytest.mark.parametrize("predictor", ["hist", "forest", "lightgbm", "xgboost"])
def test_the_positive_class_may_be_the_models_first(
    predictor: str, contract: Contract, frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    labels = frame["denied"].to_numpy()
    model = make_pipeline(PREPARED["one-hot"](), PREDICTORS[predictor]()).fit(frame[INPUTS], 1 - labels)
    assert_same(compile_plan(model, inputs=contract.inputs, positive=0), rows_of(frame)[:60])


@pytest.mark.parametrize(
    "name",
    ["forest of full depth", "hist of 100 leaves", "a number that is a category", "logistic"],
)
def test_what_has_no_tables_is_answered_by_the_engine(
    name: str, contract: Contract, frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    model = {
        "forest of full depth": lambda: make_pipeline(PREPARED["one-hot"](), RandomForestClassifier(4, random_state=0)),
        "hist of 100 leaves": lambda: make_pipeline(
            PREPARED["native"](),
            HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=100, min_samples_leaf=1, early_stopping=False),
        ),
        "a number that is a category": lambda: make_pipeline(
            PREPARED["native"](),
            HistGradientBoostingClassifier(max_iter=8, early_stopping=False, categorical_features=[2, 4]),
        ),
        "logistic": lambda: make_pipeline(PREPARED["one-hot"](), LogisticRegression(solver="newton-cholesky")),
    }[name]()
    plan = compile_plan(model.fit(frame[INPUTS], frame["denied"]), inputs=contract.inputs)
    plan.lay_out()
    if name != "logistic":
        assert quick_of(plan) is None
    rows = rows_of(frame)
    expected = [plan.score(row) for row in rows]
    for size in GROUPS:
        assert plan.score_rows(rows[:size]) == expected[:size]
    assert plan._quick is None


def test_tables_that_would_be_too_large_are_not_made(
    make_plan: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("native/hist")
    full = quick_of(plan)
    assert full is not None
    with monkeypatch.context() as patch:
        patch.setattr(quick_module, "_MOST_BYTES", full.words.nbytes)
        assert quick_of(plan) is not None
        patch.setattr(quick_module, "_MOST_BYTES", full.words.nbytes - 1)
        assert quick_of(plan) is None


def test_no_rows_have_no_scores(make_plan: Callable[[str], Plan]) -> None:
    """All rows of a batch may have been decided by rules before the model is asked."""
    for name in ("native/hist", "one-hot/forest, wide"):
        assert make_plan(name).score_rows([]) == []


def refused(plan: Plan, rows: Sequence[Row]) -> str:
    """What `score` and `score_rows` say about the one row that the model does not take, which must be the same."""
    plan.lay_out()
    quick = quick_of(plan)
    assert quick is not None
    assert quick.margins(rows) is None
    said = set()
    for each in (plan, walked(plan)):
        for row in rows:
            try:
                each.score(row)
            except ContractViolationError as error:
                said.add(str(error))
    assert len(said) == 1
    with pytest.raises(ContractViolationError) as together:
        plan.score_rows(rows)
    assert {str(together.value)} == said
    return said.pop()


def test_a_value_that_the_model_refuses_is_refused_in_the_same_words(
    contract: Contract, frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    whole = frame.dropna()
    strict = columns("passthrough", one_hot(handle_unknown="error"))
    model = make_pipeline(strict, PREDICTORS["boosting"]()).fit(whole[INPUTS], whole["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    good = rows_of(whole)[:6]
    assert_same(plan, good)
    assert "takes no missing values" in refused(plan, [*good, good[0] | {"ratio": None}])
    assert "takes no missing values" in refused(plan, [good[0] | {"income": math.nan}])
    assert "purpose" in refused(plan, [good[0] | {"purpose": "yacht"}, *good])
    assert "region" in refused(plan, [good[0] | {"region": None}])
    absent = {name: value for name, value in good[0].items() if name != "years"}
    assert "years" in refused(plan, [absent])


def test_a_number_that_the_model_refuses_is_refused_in_the_same_words(
    contract: Contract, frame: pd.DataFrame, rows_of: Callable[..., Any]
) -> None:
    whole = frame.dropna()
    strict = ColumnTransformer(
        [("few", one_hot(handle_unknown="error"), ["years"]), ("scaled", MinMaxScaler(), ["ratio", "income"])]
    )
    model = make_pipeline(strict, PREDICTORS["boosting"]()).fit(whole[INPUTS], whole["denied"])
    plan = compile_plan(model, inputs=contract.inputs)
    good = rows_of(whole)[:6]
    assert_same(plan, good)
    assert "years" in refused(plan, [*good, good[0] | {"years": 17.0}])
    assert "years" in refused(plan, [good[0] | {"years": None}])
    assert "takes no missing values" in refused(plan, [good[0] | {"ratio": None}])


def grown(
    trees: Sequence[Sequence[tuple[float, str, bool] | float]], *, row_type: str = "float64", bias: float = 0.0
) -> Plan:
    """A plan of trees over one number, each a chain: split left to a leaf or right to the next; the last is a leaf."""
    builder = ModelBuilder(
        threshold_type=row_type,
        leaf_output_type=row_type,
        metadata=Metadata(
            num_feature=1, task_type="kBinaryClf", average_tree_output=False, num_target=1, num_class=[1],
            leaf_vector_shape=(1, 1),
        ),
        tree_annotation=TreeAnnotation(num_tree=len(trees), target_id=[0] * len(trees), class_id=[0] * len(trees)),
        postprocessor=PostProcessorFunc(name="identity"),
        base_scores=[bias],
    )  # fmt: skip
    for tree in trees:
        builder.start_tree()
        for place, node in enumerate(tree):
            builder.start_node(2 * place)
            if isinstance(node, tuple):
                threshold, opname, left = node
                builder.numerical_test(
                    feature_id=0, threshold=threshold, default_left=left, opname=opname,
                    left_child_key=2 * place + 1, right_child_key=2 * place + 2,
                )  # fmt: skip
                builder.end_node()
                builder.start_node(2 * place + 1)
                builder.leaf(float(place) + 0.1)
            else:
                builder.leaf(node)
            builder.end_node()
        builder.end_tree()
    engine = TreeEngine(
        trees=builder.commit(), row_type=row_type, takes_missing=True, link="logit",  # type: ignore[arg-type]
    )  # fmt: skip
    plan = Plan(
        family="Grown",
        tolerance=0.0,
        inputs=[PlanInput(name="x", type="number")],
        columns=[PlanColumn(source="x")],
        engine=engine,
    )
    plan.lay_out()
    return plan


def test_a_model_without_trees_is_left_to_the_engine() -> None:
    plan = grown([], bias=0.5)
    assert quick_of(plan) is None
    assert plan.score_rows([{"x": 1.0}, {"x": None}]) == [plan.score({"x": 1.0})] * 2


def test_a_tree_of_one_leaf_and_both_comparisons_are_tables() -> None:
    plan = grown([[0.7], [(1.0, "<", True), (2.0, "<=", False), 0.3], [(1.0, "<=", False), -0.5]], bias=0.1)
    values = [each for limit in (1.0, 2.0) for each in around(limit)]
    assert_same(plan, [{"x": value} for value in (*values, None, math.nan, math.inf, -math.inf, 0.0)])


@pytest.mark.parametrize("opname", [">", ">=", "=="])
def test_another_comparison_is_left_to_the_engine(opname: str) -> None:
    plan = grown([[(1.0, opname, True), 0.3]])
    assert quick_of(plan) is None
    rows = [{"x": value} for value in (0.0, 1.0, 2.0, None)]
    assert plan.score_rows(rows) == [plan.score(row) for row in rows]


@pytest.mark.parametrize(("leaves", "tables"), [(32, "uint32"), (33, "uint64"), (64, "uint64"), (65, "")])
def test_a_word_has_a_bit_for_every_leaf(leaves: int, tables: str) -> None:
    tree = [(float(number), "<", number % 2 == 0) for number in range(leaves - 1)]
    plan = grown([[*tree, 99.5]])
    quick = quick_of(plan)
    assert (quick.words.dtype.name if quick else "") == tables
    rows = [{"x": number / 2} for number in range(-2, 2 * leaves + 2)]
    if quick:
        assert_same(plan, [*rows, {"x": None}])
    engine = walked(plan)
    expected = [engine.score(row) for row in rows]
    assert plan.score_rows(rows) == [plan.score(row) for row in rows] == expected


_NUMBERS = st.one_of(
    st.floats(allow_nan=False, width=32), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, math.inf, -math.inf])
)
_SPLITS = st.tuples(_NUMBERS, st.sampled_from(["<", "<="]), st.booleans())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.lists(_SPLITS, max_size=6), min_size=1, max_size=4),
    st.lists(_NUMBERS, max_size=8),
    st.sampled_from(["float64", "float32"]),
)
def test_any_trees_over_any_numbers_agree(
    trees: list[list[tuple[float, str, bool]]], values: list[float], row_type: str
) -> None:
    plan = grown([[*tree, 0.3] for tree in trees], row_type=row_type, bias=0.25)
    near = [each for tree in trees for limit, _, _ in tree for each in (limit, *_neighbours(limit))]
    rows: list[Row] = [{"x": value} for value in (*values, *near, None)]
    quick = quick_of(plan)
    as_kept = _single if row_type == "float32" else float
    if any(opname == "<" and as_kept(limit) == -math.inf for tree in trees for limit, opname, _ in tree):
        assert quick is None
        return
    assert quick is not None
    given = quick.margins(rows)
    assert given is not None
    assert given.tobytes() == np.array([plan._walked_margin(row) for row in rows]).tobytes()


def _neighbours(value: float) -> tuple[float, float]:
    return math.nextafter(value, -math.inf), math.nextafter(value, math.inf)


def _single(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float64(value).astype(np.float32))


@st.composite
def _limits(draw: st.DrawFn) -> float:
    """Any number, but often one that lies in the middle of two that float32 holds, or beside it."""
    value: float = draw(_NUMBERS)
    if draw(st.booleans()):
        single = np.float32(_single(value))
        with np.errstate(over="ignore"):
            following = np.nextafter(single, np.float32(draw(st.sampled_from([-math.inf, math.inf]))))
        if np.isfinite(single) and np.isfinite(following):
            value = float(single) / 2 + float(following) / 2
    return draw(st.sampled_from([value, *_neighbours(value)]))


_LARGEST = float(np.finfo(np.float32).max)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(_limits())
@example(0.1)
@example(0.0)
@example(-0.0)
@example(5e-324)
@example(-5e-324)
@example(2.0**-149)
@example(2.0**-150)
@example(-(2.0**-150))
@example(_LARGEST)
@example(-_LARGEST)
@example(2.0**128 - 2.0**103)
@example(-(2.0**128) + 2.0**103)
@example(1e300)
@example(-1e300)
@example(math.inf)
@example(-math.inf)
def test_the_last_number_that_float32_keeps_at_most_a_limit_is_the_last(limit: float) -> None:
    last = float(_before_rounding(np.array([limit]))[0])
    assert _single(last) <= limit
    if last < math.inf:
        assert _single(math.nextafter(last, math.inf)) > limit
    else:
        assert limit == math.inf


def test_thresholds_are_read_as_the_engine_holds_them(make_plan: Callable[[str], Plan]) -> None:
    """XGBoost keeps its thresholds in float32 and looks for what is below; a forest in float64 for what is at most."""
    for name, operator in (("native/xgboost", 2), ("one-hot/forest", 3)):
        engine = make_plan(name).engine
        assert isinstance(engine, TreeEngine)
        assert engine.row_type == "float32"
        fields = engine.trees.get_tree_accessor(0)
        kinds = array_of(fields, "node_type")
        assert set(array_of(fields, "cmp")[kinds == 1].tolist()) == {operator}
