"""The resampling loop that Numba compiles; imported only where there are cases enough to be worth it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._draws import GAMMA, MIX_ONE, MIX_TWO

_GAMMA, _ONE, _TWO = np.uint64(GAMMA), np.uint64(MIX_ONE), np.uint64(MIX_TWO)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function once for this machine: the result is kept beside the module, or in the home folder."""
    try:
        kept: Callable[P, R] = numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:
        # Neither folder can be written to: this process compiles for itself.
        kept = numba.njit(error_model="numpy")(function)
    return kept


@compiled
def draw(weight: NDArray[np.int32], seed: int, resample: int) -> None:
    """Count how often each case is drawn."""
    cases = len(weight)
    words = (cases + 1) // 2
    weight[:] = 0
    wide = np.uint64(cases)
    base = np.uint64(seed)
    first = resample * words
    for word in range(words):
        z = base + np.uint64(first + word + 1) * _GAMMA
        z = (z ^ (z >> _S30)) * _ONE
        z = (z ^ (z >> _S27)) * _TWO
        z = z ^ (z >> _S31)
        weight[np.int64(((z & _LOW) * wide) >> _S32)] += 1
        if 2 * word + 1 < cases:
            weight[np.int64(((z >> _S32) * wide) >> _S32)] += 1


@compiled
def rank(
    weight: NDArray[np.int32],
    order: NDArray[np.int32],
    marks: NDArray[np.int8],
    share: float,
    rate: float,
    out: NDArray[np.float64],
) -> None:
    """Compute the figures of one resample; a mark is 1 for a positive case, and 2 more for the last of equal scores."""
    cases = len(order)
    positives = np.int64(0)
    for i in range(cases):
        positives += weight[order[i]] * (marks[i] & 1)
    negatives = cases - positives
    if positives == 0 or negatives == 0:
        out[:] = np.nan
        return
    one = np.int64(1)
    k = max(one, np.int64(share * cases + 1e-9))
    allowed = np.int64(np.floor(rate * negatives + 1e-9))
    seen = found = seen_before = found_before = missed_before = reached = np.int64(0)
    area = average = widest = top = 0.0
    for i in range(cases):
        times = np.int64(weight[order[i]])
        seen += times
        found += times * (marks[i] & 1)
        if marks[i] >= 2:
            missed = seen - found
            area += (missed - missed_before) * (found + found_before) * 0.5
            # Nothing is found where nothing was seen: 0 / 1 instead of 0 / 0.
            average += (found - found_before) * (found / max(seen, one))
            distance = abs(float(found) * negatives - float(missed) * positives)
            if distance > widest:
                widest = distance
            if missed <= allowed:
                reached = found
            if seen_before < k <= seen:
                top = found_before + (found - found_before) * (k - seen_before) / (seen - seen_before)
            seen_before, found_before, missed_before = seen, found, missed
    both = float(positives) * negatives
    out[0], out[1], out[2] = area / both, average / positives, widest / both
    out[3], out[4] = reached / positives, top / k


@compiled
def resample(
    seed: int,
    first: int,
    orders: NDArray[np.int32],
    marks: NDArray[np.int8],
    values: NDArray[np.float64],
    share: float,
    rate: float,
    out: NDArray[np.float64],
    means: NDArray[np.float64],
) -> None:
    """Fill ``out``, shape (resamples, versions, figures), and ``means``, shape (resamples, columns of ``values``)."""
    versions, cases = orders.shape
    weight = np.zeros(cases, dtype=np.int32)
    for number in range(len(out)):
        draw(weight, seed, first + number)
        for version in range(versions):
            rank(weight, orders[version], marks[version], share, rate, out[number, version])
        for column in range(len(values)):
            total = 0.0
            for i in range(cases):
                total += weight[i] * values[column, i]
            means[number, column] = total / cases


@compiled
def add_cells(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    width: int,
    values: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add up every column of ``values`` in cell ``first * width + second``."""
    for i in range(len(first)):
        cell = first[i] * width + second[i]
        for column in range(values.shape[1]):
            sums[cell, column] += values[i, column]
