from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import treelite
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from treelite.gtil import predict

from nbkit.package._treelite import TreeliteModel, _Later, _put_off, raw_outputs


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose own code imports a sibling that fails where a file says so."""
    folder = tmp_path / "put_off_later"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import costly\nfrom .core import number\n__version__ = '1'\n")
    (folder / "core.py").write_text("number = 1\n")
    (folder / "costly.py").write_text(
        "import pathlib\nassert not pathlib.Path(__file__).with_name('broken').exists()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("put_off_later")]:
        del sys.modules[name]


def test_what_a_worker_needs_of_treelite_loads_no_scipy_and_the_rest_is_there_when_asked_for() -> None:
    command = """
import sys
import nbkit.package._plan, nbkit.package._treelite as ours
assert not [name for name in sys.modules if name.startswith("scipy")]
import treelite
assert treelite.Model is ours.TreeliteModel and treelite.TreeliteError is ours.TreeliteError
assert treelite.core._LIB is ours.LIB and callable(treelite.gtil.predict) and callable(treelite.sklearn.import_model)
assert type(treelite) is type(sys) and treelite.__version__
"""
    subprocess.run([sys.executable, "-c", command], check=True)


@pytest.mark.usefixtures("late")
def test_a_package_that_is_put_off_runs_its_own_code_once_something_else_of_it_is_asked_for() -> None:
    _put_off("put_off_later")
    from put_off_later.core import number

    assert number == 1
    assert "put_off_later.costly" not in sys.modules
    package = sys.modules["put_off_later"]
    assert isinstance(package, _Later)
    assert not hasattr(package, "__wrapped__")
    assert "put_off_later.costly" not in sys.modules
    assert package.__version__ == "1"
    assert "put_off_later.costly" in sys.modules
    assert not isinstance(package, _Later)
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_a_package_that_could_not_be_completed_can_be_asked_again(late: Path) -> None:
    (late / "broken").touch()
    _put_off("put_off_later")
    package = sys.modules["put_off_later"]
    with pytest.raises(AssertionError):
        _ = package.costly
    (late / "broken").unlink()
    assert package.number == 1


def test_what_is_loaded_already_is_left_alone_and_what_is_not_installed_too() -> None:
    before = sys.modules["json"]
    _put_off("json")
    assert sys.modules["json"] is before
    _put_off("not_installed_anywhere")
    assert "not_installed_anywhere" not in sys.modules


def trees(kind: str) -> tuple[TreeliteModel, np.ndarray]:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(300, 4))
    model = (
        RandomForestClassifier(5, random_state=0) if kind == "forest" else HistGradientBoostingClassifier(max_iter=8)
    )
    return treelite.sklearn.import_model(model.fit(rows, rows[:, 0] + rows[:, 1] > 0)), rows


@pytest.mark.parametrize("kind", ["boosted", "forest"])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_raw_outputs_are_those_of_treelite(kind: str, count: int) -> None:
    model, rows = trees(kind)
    given = np.asfortranarray(rows[:count].astype(model.input_type))
    theirs = predict(model, given, nthread=1, pred_margin=True)
    ours = raw_outputs(model, given)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs.reshape(count, -1))


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    model, _ = trees("boosted")
    with pytest.raises(ValueError, match=r"expected rows of 4 columns, got the shape \("):
        raw_outputs(model, np.zeros(shape))
