"""treelite without scipy: its ``__init__`` imports scipy's sparse matrices, and a worker's rows are dense.

What a worker needs, the model and the C library, stands in modules of treelite that import no scipy. The rest of
treelite is imported when something of it is first asked for.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

__all__ = ["LIB", "RawConfig", "TreeliteError", "TreeliteModel", "raw_outputs"]

# What may be asked of a module that has not defined it, without meaning the module's content.
_CONTENT = ("__all__", "__version__")


class _Later(ModuleType):
    """A package whose submodules can be imported, and whose own code runs when something else of it is asked for."""

    _lock = threading.RLock()
    _begun = False

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name not in _CONTENT:
            raise AttributeError(name)
        with _Later._lock:
            if type(self) is _Later and not self._begun:
                self._complete()
        # A plain module by now; or its own code is running, and what it has not defined yet is not there yet.
        return ModuleType.__getattribute__(self, name)

    def _complete(self) -> None:
        self._begun = True
        try:
            cast("Loader", cast("ModuleSpec", self.__spec__).loader).exec_module(self)
            self.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            del self._begun


def _put_off(name: str) -> None:
    """Let a package's own code wait, where it has not run yet."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return  # there already, or not installed, which the next import says
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Later
    sys.modules[name] = module


_put_off("treelite")

from treelite.core import _LIB as LIB  # noqa: E402
from treelite.core import TreeliteError, _check_call  # noqa: E402
from treelite.model import Model as TreeliteModel  # noqa: E402


class RawConfig:
    """Asks for the sums over all trees, computed on one thread; treelite's own stands beside its sparse matrices."""

    __slots__ = ("handle",)

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        _check_call(LIB.TreeliteGTILParseConfig(b'{"predict_type": "raw", "nthread": 1}', ctypes.byref(self.handle)))

    def __del__(self) -> None:
        _check_call(LIB.TreeliteGTILDeleteConfig(self.handle))


def raw_outputs(model: TreeliteModel, rows: NDArray[np.float64 | np.float32]) -> NDArray[np.float64 | np.float32]:
    """Return the sums over all trees, as ``treelite.gtil.predict(model, rows, nthread=1, pred_margin=True)`` does.

    Parameters
    ----------
    model : treelite.Model
        The trees.
    rows : ndarray
        Shape (rows, columns of the model).

    Returns
    -------
    ndarray
        Shape (rows, outputs of the model).

    Raises
    ------
    treelite.TreeliteError
        treelite could not evaluate them.
    """
    given = np.ascontiguousarray(rows, dtype=model.input_type)
    if given.ndim != 2 or given.shape[1] != model.num_feature:
        raise ValueError(f"expected rows of {model.num_feature} columns, got the shape {given.shape}")
    config, count = RawConfig(), ctypes.c_uint64(len(given))
    shape, axes = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
    _check_call(
        LIB.TreeliteGTILGetOutputShape(model.handle, count, config.handle, ctypes.byref(shape), ctypes.byref(axes))
    )
    answer = np.zeros(tuple(shape[axis] for axis in range(axes.value)), dtype=model.output_type)
    _check_call(
        LIB.TreeliteGTILPredict(
            model.handle,
            given.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_char_p(model.input_type.encode()),
            count,
            answer.ctypes.data_as(ctypes.c_void_p),
            config.handle,
        )
    )
    return cast("NDArray[np.float64 | np.float32]", answer.reshape(len(given), -1))
