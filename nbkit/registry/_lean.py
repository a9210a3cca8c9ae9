"""Load MLflow without pandas, which it uses only where it is installed."""

from __future__ import annotations

import importlib
import sys

_UNUSED = "pandas"


def load_lean(unused: str = _UNUSED) -> bool:
    """Load MLflow as it is where pandas is not installed: a fifth of the time goes into pandas.

    For a process that ends after one verb that reads no table. Afterwards pandas can be imported as ever, but MLflow
    takes no data frames in this process.

    Parameters
    ----------
    unused : str
        The library that MLflow is not to find.

    Returns
    -------
    bool
        Whether MLflow was loaded without it: not where either is loaded already, nor where MLflow cannot do without.
    """
    if unused in sys.modules or "mlflow" in sys.modules:
        return False
    sys.modules[unused] = None  # type: ignore[assignment]
    try:
        importlib.import_module("mlflow")
    except ImportError:
        # Half of it is loaded, and nothing of nbkit holds on to that yet: whoever needs MLflow begins again.
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
        return False
    finally:
        del sys.modules[unused]
    return True
