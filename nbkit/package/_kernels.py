"""The part that is written in C (`_kernel.c`), where nbkit was installed with a compiler at hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from numpy.typing import NDArray

__all__ = ["KERNEL", "Kernel", "has_kernel"]

_Array = NDArray[Any]

# Of what its functions take; one that was compiled before they changed does not count.
_FORMAT = 4


class Kernel(Protocol):
    """What it offers; arrays are contiguous, and those that come last are written to."""

    def margins(
        self,
        rows: list[Mapping[str, object]],
        numbers: Sequence[tuple[str, bytes, int, int]],
        chains: Sequence[tuple[str, int, tuple[int, ...], Sequence[tuple[Callable[[float], float], bytes, int, int]]]],
        categories: Sequence[tuple[str, dict[str | None, int], int]],
        words: _Array,
        trees: int,
        leaves: _Array,
        divisor: float,
        bias: float,
        margins: _Array,
        /,
    ) -> bool:
        """Score rows (see `QuickTrees`); False where the engine must read one of them."""

    def shapley(
        self,
        row: _Array,
        splits: tuple[_Array, ...],
        turned: list[tuple[int, bool]],
        leaves: tuple[_Array, ...],
        out: _Array,
        /,
    ) -> None:
        """Take a row's margin apart (see `TreePaths`)."""


def _load() -> Kernel | None:
    try:
        kernel = importlib.import_module("nbkit.package._kernel")
    except ImportError:
        return None
    return cast("Kernel", kernel) if getattr(kernel, "FORMAT", 0) == _FORMAT else None


KERNEL = _load()


def has_kernel() -> bool:
    """Say whether the compiled part is there; without it trees are walked by treelite and reasons computed in numpy.

    Returns
    -------
    bool
        False where nbkit was installed without a C compiler.
    """
    return KERNEL is not None
