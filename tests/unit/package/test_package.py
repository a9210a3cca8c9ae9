"""What `nbkit.package` as a whole promises to whoever imports it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import nbkit.package


def test_every_exported_name_resolves() -> None:
    assert nbkit.package.__all__ == sorted(nbkit.package.__all__)
    for name in nbkit.package.__all__:
        assert getattr(nbkit.package, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'nbkit\.package' has no attribute 'nothing'"):
        _ = nbkit.package.nothing


def test_what_decides_loads_neither_pandas_nor_scikit_learn() -> None:
    program = """
        import sys
        import nbkit.package
        from nbkit.package import Contributions, Package, Plan, load_package, load_reasons, principal_reasons
        import nbkit.package._pyfunc
        print(sorted({"mlflow", "pandas", "shap", "sklearn", "skops"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
