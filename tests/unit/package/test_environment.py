from __future__ import annotations

import re
from importlib.metadata import version

from nbkit.package._environment import _installed, environment, requirements


def test_requirements_are_exact_pins_of_what_is_installed() -> None:
    lines = requirements(libraries={"sklearn"}).splitlines()
    assert lines == sorted(lines)
    assert {line.split("==")[0] for line in lines} >= {"nbkit", "numpy", "scikit-learn", "skops", "treelite"}
    assert all(re.fullmatch(r"[a-z-]+==[0-9][\w.]*", line) for line in lines)
    assert f"numpy=={version('numpy')}" in lines


def test_a_booster_is_pinned_where_the_model_needs_it() -> None:
    assert "lightgbm" not in requirements(libraries={"sklearn"})
    assert f"lightgbm=={version('lightgbm')}\n" in requirements(libraries={"sklearn", "lightgbm"})
    assert re.search(r"^xgboost(-cpu)?==", requirements(libraries={"xgboost"}), re.MULTILINE)


def test_what_is_not_installed_is_not_pinned() -> None:
    assert not _installed("no-such-distribution")
    assert _installed("numpy")


def test_the_environment_names_every_distribution_and_no_machine() -> None:
    found = environment()
    assert found["format"] == 1
    distributions = found["distributions"]
    assert isinstance(distributions, dict)
    assert distributions["numpy"] == version("numpy")
    assert len(distributions) > 50
    assert set(found) == {"format", "python", "implementation", "system", "machine", "distributions"}
