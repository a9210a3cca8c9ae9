"""What is written in C gives the bits that numpy gives, and refuses arrays that do not fit."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from nbkit.contract import Input
from nbkit.package import Contributions, Plan, compile_plan, has_kernel
from nbkit.package import _quick as quick_module
from nbkit.package import _tree_paths as paths_module
from nbkit.package._engines import TreeEngine
from nbkit.package._kernels import KERNEL, _load
from nbkit.package._quick import QuickTrees
from nbkit.package._tree_paths import TreePaths

needs_kernel = pytest.mark.skipif(KERNEL is None, reason="nbkit was installed without a compiler")


def plan_of(model: Any, *, columns: int = 6, rows: int = 600) -> Plan:
    rng = np.random.default_rng(3)
    table = rng.gamma(2.0, 50.0, (rows, columns))
    table[rng.random(table.shape) < 0.1] = np.nan if isinstance(model, HistGradientBoostingClassifier) else 0.0
    names = [f"x{place}" for place in range(columns)]
    frame = pd.DataFrame(table, columns=names)
    labels = (np.nansum(np.sin(table / 40), axis=1) > 1).astype(int)
    inputs = [Input(name=name, type="number", nullable=True, minimum=0.0, maximum=1e6) for name in names]
    return compile_plan(model.fit(frame, labels), inputs=inputs)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_where_a_compiler_is_the_kernel_is_compiled() -> None:
    assert has_kernel()


def test_without_the_kernel_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbkit.package._kernel", None)
    assert _load() is None


@needs_kernel
def test_a_kernel_that_was_compiled_from_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _load() is not None
    monkeypatch.setattr("nbkit.package._kernel.FORMAT", 1)
    assert _load() is None


def test_without_the_kernel_the_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_module, "KERNEL", None)
    plan = plan_of(HistGradientBoostingClassifier(max_iter=5, early_stopping=False))
    plan.lay_out()
    row = dict.fromkeys(plan.inputs, 20.0)
    assert plan._quick is None
    assert plan.score_rows([row]) == [plan.score(row)]


@needs_kernel
@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=40, early_stopping=False),
        # Deep trees of many leaves ask about the same column again and again.
        ExtraTreesClassifier(20, random_state=0),
        # More leaves than one pass holds.
        HistGradientBoostingClassifier(max_iter=120, early_stopping=False, max_leaf_nodes=8),
    ],
)
def test_reasons_are_the_same_bits_with_and_without_the_kernel(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contributions = Contributions.from_plan(plan_of(model), background=None)
    paths = contributions._explain
    assert isinstance(paths, TreePaths)
    rng = np.random.default_rng(5)
    rows = rng.gamma(2.0, 50.0, (25, paths.columns))
    rows[:5, 1] = np.nan
    compiled = [paths.explain(row) for row in rows]
    monkeypatch.setattr(paths_module, "KERNEL", None)
    assert [values.tobytes() for values in compiled] == [paths.explain(row).tobytes() for row in rows]
    assert np.abs(compiled).max() > 0.01


def quick() -> QuickTrees:
    plan = plan_of(HistGradientBoostingClassifier(max_iter=5, early_stopping=False))
    assert isinstance(plan.engine, TreeEngine)
    found = QuickTrees.of(plan.engine, plan._rows)
    assert found is not None
    return found


def ask(trees: QuickTrees, rows: Any, /, **changes: Any) -> bool:
    assert KERNEL is not None
    given = {
        "numbers": trees.numbers, "chains": trees.chains, "categories": trees.categories,
        "words": trees.words, "trees": trees.words.shape[1], "leaves": trees.leaves,
        "divisor": 1.0, "bias": 0.0, "margins": np.empty(4),
    }  # fmt: skip
    return KERNEL.margins(rows, *(given | changes).values())  # type: ignore[arg-type]


@needs_kernel
def test_rows_that_tables_do_not_hold_are_left_to_the_engine() -> None:
    trees = quick()
    good = {name: 1.0 for name, *_ in trees.numbers}
    assert ask(trees, [good]) is True
    assert ask(trees, [good, {**good, "x0": 7}]) is True
    for row in ({}, {"x0": 1.0}, ((1, 2),), 5):
        assert ask(trees, [good, row]) is False
    # What is no text is no category, and not for the tables to take for one that was never seen.
    for value, here in (
        ("a", True),
        ("z", True),
        (None, True),
        (np.nan, True),
        (pd.NA, False),
        ([], False),
        (5, False),
    ):
        assert ask(trees, [{**good, "kind": value}], categories=(("kind", {"a": 0, None: 0}, 0),)) is here
    # A line that no table has, and a word in which no leaf is left, can only come from tables that are broken.
    beyond = tuple((name, thresholds, first + 10**6, missing) for name, thresholds, first, missing in trees.numbers)
    assert ask(trees, [good], numbers=beyond) is False
    assert ask(trees, [good], words=np.zeros_like(trees.words)) is False


@needs_kernel
def test_what_a_number_cannot_be_is_an_error() -> None:
    trees = quick()
    good = {name: 1.0 for name, *_ in trees.numbers}
    with pytest.raises(TypeError):
        ask(trees, [{**good, "x3": "many"}])
    with pytest.raises(TypeError):
        ask(trees, [{**good}], chains=(("x3", 0, (0, 0), ((float, b"", 0, 0), (lambda _: "many", b"", 0, 0))),))
    with pytest.raises(ZeroDivisionError):
        ask(trees, [{**good}], chains=(("x3", 0, (0, 0), ((lambda value: value / 0, b"", 0, 0),)),))
    with pytest.raises(TypeError):
        ask(trees, [{**good, "x3": "many"}], numbers=(), chains=(("x3", 0, (0, 0), ()),))


@needs_kernel
def test_arrays_that_are_too_short_are_refused() -> None:
    assert KERNEL is not None
    trees = quick()
    rows = [{name: 1.0 for name, *_ in trees.numbers}] * 5
    with pytest.raises(ValueError, match="too short"):
        ask(trees, rows)
    with pytest.raises(ValueError, match="too short"):
        ask(trees, rows[:1], leaves=trees.leaves[:-1])


@needs_kernel
def test_words_and_leaves_of_another_kind_are_refused() -> None:
    trees = quick()
    rows = [{name: 1.0 for name, *_ in trees.numbers}]
    for changes in (
        {"trees": 0},
        {"trees": -1},
        {"trees": 2**61},
        {"words": trees.words.view(np.uint8)},
        {"words": b""},
        {"leaves": trees.leaves.astype(np.complex128)},
        {"leaves": np.zeros(10**5, dtype=np.int16)},
    ):
        with pytest.raises(ValueError, match="too short"):
            ask(trees, rows, **changes)
    with pytest.raises(ValueError, match="contiguous"):
        ask(trees, rows, words=np.asfortranarray(np.vstack([trees.words] * 2)))


@needs_kernel
def test_a_value_that_leaves_its_row_meanwhile_is_still_there() -> None:
    trees = quick()
    row = {name: 1.0 for name, *_ in trees.numbers} | {"x3": 1e3 + len(trees.numbers)}
    seen = []

    def take(value: float) -> float:
        row.clear()
        seen.append(value)
        return value

    moving = tuple((take, b"", 0, 0) for _ in range(3))
    assert ask(trees, [row], numbers=(), chains=(("x3", 0, (0,), moving),)) is True
    assert (seen, row) == ([1e3 + len(trees.numbers)] * 3, {})


def paths_of_a_few_trees() -> tuple[TreePaths, np.ndarray[Any, Any]]:
    engine = plan_of(HistGradientBoostingClassifier(max_iter=5, early_stopping=False)).engine
    assert isinstance(engine, TreeEngine)
    paths = TreePaths.from_treelite(engine.trees)
    return paths, np.full(paths.columns, 20.0)


@needs_kernel
def test_arrays_of_paths_that_are_too_short_are_refused() -> None:
    assert KERNEL is not None
    paths, row = paths_of_a_few_trees()
    splits, leaves = paths._arrays
    out = np.empty(paths.columns)
    KERNEL.shapley(row, splits, [], leaves, out)
    assert out.tobytes() == paths.explain(row).tobytes()

    def changed(arrays: tuple[Any, ...], place: int, array: Any) -> tuple[Any, ...]:
        return (*arrays[:place], array, *arrays[place + 1 :])

    # The last of each is read, so one less is too few; of the leaves all but the shape and the further steps.
    wrong = [(row[:-1], splits, leaves)]
    wrong += [(row, changed(splits, place, splits[place][:-1]), leaves) for place in (0, 2)]
    wrong += [(row, splits, changed(leaves, place, leaves[place][:-1])) for place in (1, 2, 3, 4, 6, 7)]
    # A shape that nothing holds, or that no number of cells can be.
    for shape in ([[-1, 2]], [[1, 0]], [[1, -2]], [[2**31 - 1, 2**31 - 1]], [[10**6, 2]], [[0, 2**31 - 1]]):
        wrong.append((row, splits, changed(leaves, 0, np.array(shape, dtype=np.int32))))
    for given_row, given_splits, given_leaves in wrong:
        with pytest.raises(ValueError, match="too short"):
            KERNEL.shapley(given_row, given_splits, [], given_leaves, out)
    # Nothing is asked, and no column is there to be given what leaves of padding give.
    padding = changed(leaves, 2, np.zeros_like(leaves[2]))
    with pytest.raises(ValueError, match="too short"):
        KERNEL.shapley(row, tuple(array[:0] for array in splits), [], padding, out[:0])


@needs_kernel
def test_splits_and_cells_that_there_are_not_are_refused() -> None:
    assert KERNEL is not None
    paths, row = paths_of_a_few_trees()
    splits, leaves = paths._arrays
    out = np.empty(paths.columns)
    many, cells = len(splits[1]), len(leaves[2])
    assert len(leaves[5]) > 1

    def one_more(arrays: tuple[Any, ...], place: int, at: int, value: int) -> tuple[Any, ...]:
        array = arrays[place].copy()
        array[at] = value
        return (*arrays[:place], array, *arrays[place + 1 :])

    for given in (
        one_more(leaves, 2, 0, 2 * many + 2),
        one_more(leaves, 2, -1, 2**32 - 1),
        one_more(leaves, 5, 0, 2 * many + 2),
        one_more(leaves, 5, -1, 2**32 - 1),
        *(one_more(leaves, 4, at, cell) for at in (0, -1) for cell in (-1, cells, 2**31 - 1, -(2**31))),
    ):
        with pytest.raises(ValueError, match="a split or a cell that there is not"):
            KERNEL.shapley(row, splits, [], given, out)
    for at, end in ((0, -1), (0, many + 1), (-1, many + 1), (-1, many - 1), (1, 0)):
        with pytest.raises(ValueError, match="a split or a cell that there is not"):
            KERNEL.shapley(row, one_more(splits, 0, at, end), [], leaves, out)
    # The largest code is that of the padding.
    KERNEL.shapley(row, splits, [], one_more(leaves, 2, 0, 2 * many + 1), out)


@needs_kernel
def test_what_is_no_array_of_paths_is_refused() -> None:
    assert KERNEL is not None
    paths, row = paths_of_a_few_trees()
    splits, leaves = paths._arrays
    out = np.empty(paths.columns)
    for given in (
        (row, splits[:2], [], leaves),
        (row, splits, [], leaves[:3]),
        (row, splits, [], 5),
        (row, splits, [], list(leaves)),
        (row, splits, ["x"], leaves),
        (row, splits, [(1, True, 2)], leaves),
        (row, splits, [("x", True)], leaves),
        (row, splits, [(1, "x")], leaves),
    ):
        with pytest.raises(TypeError):
            KERNEL.shapley(*given, out)  # type: ignore[arg-type]
    # A split that there is not is nobody's.
    KERNEL.shapley(row, splits, [(-1, True), (10**6, True)], leaves, out)
    assert out.tobytes() == paths.explain(row).tobytes()


@needs_kernel
def test_arrays_that_begin_anywhere_are_read_all_the_same() -> None:
    assert KERNEL is not None
    paths, row = paths_of_a_few_trees()
    splits, leaves = paths._arrays
    assert all(leaves[place].ctypes.data % 64 == 0 for place in (1, 3))
    moved = []
    for array in leaves:
        room = np.zeros(len(array.ravel()) + 1, dtype=array.dtype)
        room[1:] = array.ravel()
        moved.append(room[1:])
    out = np.empty(paths.columns)
    KERNEL.shapley(row, splits, [], tuple(moved), out)
    assert out.tobytes() == paths.explain(row).tobytes()


@needs_kernel
def test_arrays_that_are_not_aligned_are_refused() -> None:
    assert KERNEL is not None
    paths, row = paths_of_a_few_trees()
    splits, leaves = paths._arrays

    def askew(array: Any) -> Any:
        room = np.zeros(array.nbytes + 1, dtype=np.uint8)
        room[1:] = np.frombuffer(array.tobytes(), dtype=np.uint8)
        return room[1:].view(array.dtype)

    out = np.empty(paths.columns)
    for given in (
        (askew(row), splits, [], leaves, out),
        (row, (askew(splits[0]), *splits[1:]), [], leaves, out),
        (row, splits, [], (*leaves[:3], askew(leaves[3]), *leaves[4:]), out),
        (row, splits, [], leaves, askew(out)),
    ):
        with pytest.raises(ValueError, match="not aligned to its items"):
            KERNEL.shapley(*given)


class Build:
    """What hatchling is to a hook."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warned.append(text)


def build(root: Path, *, compiler: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """Run the hook over a source tree that holds nothing but the kernel; return what the wheel is told to hold."""
    package = Path(quick_module.__file__).parent
    (root / "nbkit" / "package").mkdir(parents=True, exist_ok=True)
    shutil.copy(package / "_kernel.c", root / "nbkit" / "package")
    hook, app = runpy.run_path(str(package.parents[1] / "hatch_build.py"))["KernelHook"], Build()
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    monkeypatch.setenv("CC", compiler)
    hook(str(root), {}, None, None, "", "wheel", app).initialize("standard", data)
    return data, app.warned


def test_without_a_compiler_a_wheel_is_built_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tmp_path / "nbkit" / "package" / "_kernel.abi3.so"
    compiled.parent.mkdir(parents=True)
    for compiler in ("/bin/false", "/nowhere/cc -pthread"):
        # Compiled from another source, when there was a compiler.
        compiled.write_bytes(b"old")
        data, (warning,) = build(tmp_path, compiler=compiler, monkeypatch=monkeypatch)
        assert data == {"artifacts": [], "pure_python": True}
        assert "was not compiled" in warning
        assert not compiled.exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_compiler_that_the_environment_names_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, warned = build(tmp_path, compiler="cc -O0", monkeypatch=monkeypatch)
    assert warned == []
    assert (tmp_path / data["artifacts"][0]).is_file()
    assert data["pure_python"] is False
    assert data["tag"].startswith("cp311-abi3-")


def test_the_source_lies_beside_what_is_compiled_from_it() -> None:
    """A wheel holds both, so that an auditor can compile it again."""
    assert (Path(quick_module.__file__).parent / "_kernel.c").is_file()
