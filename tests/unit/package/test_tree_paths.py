import itertools
import math
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.errors import PackageError
from nbkit.package import _tree_paths as paths_module
from nbkit.package._tree_paths import TreePaths

LEAF, NUMERICAL, CATEGORICAL = 0, 1, 2
LESS, LESS_OR_EQUAL, GREATER = 2, 3, 4


@dataclass
class Node:
    """A tree as nested nodes; a leaf has no children."""

    value: float = 0.0
    cover: float = 1.0
    column: int = 0
    threshold: float = 0.0
    missing_left: bool = False
    operator: int = LESS_OR_EQUAL
    listed: tuple[int, ...] | None = None
    listed_right: bool = False
    children: "tuple[Node, Node] | None" = None

    def goes_left(self, row):
        value = row[self.column]
        if math.isnan(value):
            return self.missing_left
        if self.listed is not None:
            return (value >= 0 and value < 2**32 and int(value) in self.listed) != self.listed_right
        return value < self.threshold if self.operator == LESS else value <= self.threshold

    def expectation(self, row, known):
        """What the tree answers on average when only some columns are known, as TreeSHAP defines it."""
        if self.children is None:
            return self.value
        left, right = self.children
        if self.column in known:
            return (left if self.goes_left(row) else right).expectation(row, known)
        return sum(c.cover / self.cover * c.expectation(row, known) for c in self.children)


class Fields:
    def __init__(self, fields):
        self.fields = fields

    def get_field(self, name):
        return np.array(self.fields[name])


class Model:
    """The fields of treelite's accessors, for trees that no library would grow on purpose."""

    def __init__(self, *trees, columns=3, base=0.0, operator=None, covers="data_count"):
        self.trees, self.columns, self.base, self.covers = trees, columns, base, covers
        self.num_tree = len(trees)

    def get_header_accessor(self):
        return Fields(
            {"base_scores": [self.base], "num_target": [1], "average_tree_output": [0], "num_feature": [self.columns]}
        )

    def get_tree_accessor(self, index):
        nodes, places = [], {}
        waiting = [self.trees[index]]
        while waiting:
            node = waiting.pop()
            places[id(node)] = len(nodes)
            nodes.append(node)
            waiting += node.children or ()
        child = lambda node, side: places[id(node.children[side])] if node.children else -1  # noqa: E731
        listed = [node.listed or () for node in nodes]
        ends = np.cumsum([len(codes) for codes in listed]).astype(int)
        kinds = [LEAF if not n.children else CATEGORICAL if n.listed is not None else NUMERICAL for n in nodes]
        covers = [node.cover for node in nodes]
        return Fields(
            {
                "node_type": kinds,
                "cleft": [child(node, 0) for node in nodes],
                "cright": [child(node, 1) for node in nodes],
                "split_index": [node.column for node in nodes],
                "threshold": [node.threshold for node in nodes],
                "default_left": [node.missing_left for node in nodes],
                "leaf_value": [node.value for node in nodes],
                "cmp": [node.operator for node in nodes],
                "category_list": list(itertools.chain(*listed)),
                "category_list_begin": [end - len(codes) for end, codes in zip(ends, listed, strict=True)],
                "category_list_end": ends,
                "category_list_right_child": [node.listed_right for node in nodes],
                "sum_hess": covers if self.covers == "sum_hess" else [],
                "data_count": covers if self.covers == "data_count" else [],
            }
        )


def shapley(tree, row, columns):
    """The definition: the average over all orders in which the columns become known."""
    values = np.zeros(columns)
    for column in range(columns):
        others = [other for other in range(columns) if other != column]
        for size in range(columns):
            weight = math.factorial(size) * math.factorial(columns - size - 1) / math.factorial(columns)
            for known in itertools.combinations(others, size):
                gain = tree.expectation(row, {*known, column}) - tree.expectation(row, set(known))
                values[column] += weight * gain
    return values


numbers = st.sampled_from([-1.5, -1.0, 0.0, 0.5, 1.0, 2.0])


@st.composite
def trees(draw, depth=4, columns=4):
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return Node(value=draw(st.floats(-2, 2)), cover=draw(st.integers(1, 50)))
    children = draw(trees(depth=depth - 1, columns=columns)), draw(trees(depth=depth - 1, columns=columns))
    column = draw(st.integers(0, columns - 1))
    categorical = column == columns - 1
    return Node(
        cover=children[0].cover + children[1].cover,
        column=column,
        threshold=draw(numbers),
        missing_left=draw(st.booleans()),
        operator=draw(st.sampled_from([LESS, LESS_OR_EQUAL])),
        listed=tuple(sorted(draw(st.sets(st.integers(0, 3))))) if categorical else None,
        listed_right=draw(st.booleans()),
        children=children,
    )


rows = st.tuples(*[numbers | st.just(math.nan)] * 3, st.sampled_from([0.0, 1.0, 2.0, 3.0, 7.0, -1.0, 1e12, math.nan]))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(tree=trees(), row=rows)
def test_values_are_those_of_the_definition(tree, row):
    paths = TreePaths.from_treelite(Model(tree, columns=4))
    values = paths.explain(np.array(row))
    np.testing.assert_allclose(values, shapley(tree, row, 4), atol=1e-12)
    with patch.object(paths_module, "KERNEL", None):
        assert paths.explain(np.array(row)).tobytes() == values.tobytes()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(forest=st.lists(trees(), min_size=1, max_size=5), row=rows, base=st.floats(-3, 3))
def test_values_add_up_to_the_answer(forest, row, base):
    paths = TreePaths.from_treelite(Model(*forest, columns=4, base=base, covers="sum_hess"))
    answer = base + sum(tree.expectation(row, {0, 1, 2, 3}) for tree in forest)
    assert paths.base + paths.explain(np.array(row)).sum() == pytest.approx(answer, abs=1e-12)


def test_a_branch_that_no_row_took_changes_nothing_but_the_rows_that_take_it():
    tree = Node(
        cover=10,
        column=0,
        threshold=0.0,
        children=(
            Node(value=1.0, cover=10),
            Node(cover=0, column=1, threshold=0.0, children=(Node(value=5.0, cover=0), Node(value=9.0, cover=0))),
        ),
    )
    # The share of an empty branch of an empty branch is 0 / 0: there is nothing to average over.
    with pytest.raises(PackageError, match="no training row reached a split"):
        TreePaths.from_treelite(Model(tree, columns=2))
    tree.children = (tree.children[0], Node(value=5.0, cover=0))
    paths = TreePaths.from_treelite(Model(tree, columns=2))
    assert paths.base == 1.0
    assert paths.explain(np.array([-1.0, 0.0])).tolist() == [0.0, 0.0]
    assert paths.explain(np.array([1.0, 0.0])).tolist() == [4.0, 0.0]


@pytest.mark.parametrize("covers", ["data_count", "none"])
def test_a_tree_that_never_split_only_moves_the_base(covers):
    paths = TreePaths.from_treelite(Model(Node(value=0.25), columns=2, base=1.0, covers=covers))
    assert (paths.base, paths.explain(np.array([1.0, math.nan])).tolist()) == (1.25, [0.0, 0.0])
    with patch.object(paths_module, "KERNEL", None):
        assert paths.explain(np.array([1.0, math.nan])).tolist() == [0.0, 0.0]


@settings(deadline=None, derandomize=True, max_examples=20)
@given(order=st.permutations(range(12)), row=st.lists(st.sampled_from([-1.0, 1.0, math.nan]), min_size=12, max_size=12))
def test_paths_of_more_columns_than_are_unrolled_have_the_same_bits(order, row):
    tree = Node(value=1.0, cover=3)
    for number, column in enumerate(order):
        aside = Node(value=0.1 * number, cover=number + 1)
        cover = tree.cover + aside.cover
        tree = Node(cover=cover, column=column, missing_left=number % 3 == 0, children=(tree, aside))
    paths = TreePaths.from_treelite(Model(tree, columns=12, covers="sum_hess"))
    values = paths.explain(np.array(row))
    assert paths.base + values.sum() == pytest.approx(tree.expectation(row, set(range(12))), abs=1e-12)
    with patch.object(paths_module, "KERNEL", None):
        assert paths.explain(np.array(row)).tobytes() == values.tobytes()


def split_again(*steps):
    """A path that asks about column 0 again and again: thresholds, if to the left, and if missing ones are."""
    tree = Node(value=1.0, cover=1)
    for threshold, to_left, missing_left in reversed(steps):
        pair = (tree, Node(cover=1)) if to_left else (Node(cover=1), tree)
        tree = Node(cover=tree.cover + 1, threshold=threshold, missing_left=missing_left, children=pair)
    return tree


@pytest.mark.parametrize(
    ("steps", "further"),
    [
        # Who goes left at 1 goes left at 2, before it and after it.
        (((2.0, True, False), (1.0, True, False)), 0),
        (((1.0, True, False), (2.0, True, False)), 0),
        (((1.0, False, True), (2.0, False, True)), 0),
        (((1.0, True, False), (1.0, True, False)), 0),
        # An interval needs both ends, and no more than those.
        (((2.0, True, False), (0.5, False, True)), 1),
        (((2.0, True, False), (0.5, False, True), (1.0, True, False), (0.75, False, True)), 1),
        # A missing value goes left at 1, but not at 2; the other way round 1 is all that matters.
        (((2.0, True, False), (1.0, True, True)), 1),
        (((2.0, True, True), (1.0, True, False)), 0),
        (((1.0, False, True), (2.0, False, False)), 1),
    ],
)
def test_steps_that_another_step_implies_are_not_asked_again(steps, further):
    tree = split_again(*steps)
    paths = TreePaths.from_treelite(Model(tree, columns=1))
    here = [leaf for leaf, value in enumerate(paths._leaves.value) if value == 1.0]
    assert [int((paths._leaves.more_cell == leaf).sum()) for leaf in here] == [further]
    for value in (0.25, 0.5, 0.6, 0.75, 0.9, 1.0, 1.5, 2.0, 3.0, math.nan):
        values = paths.explain(np.array([value]))
        assert paths.base + values[0] == pytest.approx(tree.expectation([value], {0}), abs=1e-12)
        with patch.object(paths_module, "KERNEL", None):
            assert paths.explain(np.array([value])).tobytes() == values.tobytes()


def test_a_split_of_a_column_that_is_not_there_is_refused():
    tree = Node(cover=2, column=2, threshold=0.0, children=(Node(value=1.0, cover=1), Node(value=2.0, cover=1)))
    TreePaths.from_treelite(Model(tree, columns=3))
    with pytest.raises(PackageError, match="a column beyond their 2"):
        TreePaths.from_treelite(Model(tree, columns=2))


def test_trees_without_row_counts_are_refused():
    tree = Node(cover=2, children=(Node(), Node()))
    with pytest.raises(PackageError) as caught:
        TreePaths.from_treelite(Model(tree, covers="none"))
    assert str(caught.value) == "reasons need the number of training rows in every tree node; this model kept none"


def test_an_unknown_comparison_is_refused():
    tree = Node(cover=2, operator=GREATER, children=(Node(), Node()))
    with pytest.raises(PackageError, match="reasons need splits by < or <=, got treelite's operator 4"):
        TreePaths.from_treelite(Model(tree))


def test_a_threshold_that_is_no_number_is_refused():
    tree = Node(cover=2, threshold=math.nan, children=(Node(), Node()))
    with pytest.raises(PackageError, match="got a threshold that is none"):
        TreePaths.from_treelite(Model(tree))


def test_a_model_of_three_classes_is_refused():
    model = Model(Node())
    model.base = [0.0, 0.0, 0.0]
    model.get_header_accessor = lambda: Fields({"base_scores": [0.0] * 3, "num_target": [1]})
    with pytest.raises(PackageError, match="reasons need a model of two classes, got one with 3 outputs a row"):
        TreePaths.from_treelite(model)
