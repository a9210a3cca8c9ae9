"""What is installed: pins for whoever serves the model, found without starting anything."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ENVIRONMENT_FORMAT = 1

# What the fitted model, the plan and their scores depend on; nbkit brings what else it needs itself.
_ALWAYS = ("nbkit", "numpy", "pandas", "scikit-learn", "scipy", "skops", "treelite")
# XGBoost comes as one of two distributions that hold the same modules.
_BY_LIBRARY = {"lightgbm": ("lightgbm",), "xgboost": ("xgboost-cpu", "xgboost")}


def requirements(*, libraries: set[str]) -> str:
    """Return the text of requirements.txt: exact pins of the installed versions.

    Parameters
    ----------
    libraries : set of str
        Top-level modules whose classes the model is made of.

    Returns
    -------
    str
        One pin a line, sorted.
    """
    boosters = [name for library in libraries for name in _BY_LIBRARY.get(library, ()) if _installed(name)]
    names = [*_ALWAYS, *boosters]
    return "".join(f"{name}=={version(name)}\n" for name in sorted(names))


def environment() -> dict[str, object]:
    """Return the interpreter, the platform and every installed distribution, format 1.

    Returns
    -------
    dict
        No path, no host name, no variable: nothing about the person or the machine.
    """
    # Directory names say it all; parsing the metadata of 200 distributions takes a quarter of a second.
    folders = [folder.name for entry in sys.path for folder in Path(entry or ".").glob("*.dist-info")]
    found = dict(folder.removesuffix(".dist-info").split("-", 1) for folder in folders)
    return {
        "format": ENVIRONMENT_FORMAT,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "distributions": dict(sorted(found.items())),
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
