"""Which cases each resample draws: a stream of numbers that NumPy and compiled code make alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) counted up: the k-th number depends on the seed and k alone, so that
# chunks of any size, and compiled code, draw the same cases.
GAMMA = 0x9E3779B97F4A7C15
MIX_ONE = 0xBF58476D1CE4E5B9
MIX_TWO = 0x94D049BB133111EB
# Weights of one chunk of resamples: 16 MB of float64.
_CHUNK_WEIGHTS = 2_000_000

Floats = NDArray[np.float64]


def new_seed(rng: np.random.Generator) -> int:
    """Draw the seed of one stream."""
    return int(rng.integers(0, 2**63))


def words_of(cases: int) -> int:
    """Return how many 64-bit numbers a resample uses: one gives two cases."""
    return (cases + 1) // 2


def weights(cases: int, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks of bootstrap weights, shape (some resamples, cases): how often each case was drawn."""
    size = max(1, _CHUNK_WEIGHTS // cases)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = _drawn(cases, first=start, count=count, seed=seed) + np.arange(count)[:, None] * cases
        yield np.bincount(drawn.ravel(), minlength=count * cases).reshape(count, cases).astype(np.float64)


def _drawn(cases: int, *, first: int, count: int, seed: int) -> NDArray[np.int64]:
    words = words_of(cases)
    place = np.arange(first * words + 1, (first + count) * words + 1, dtype=np.uint64)
    z = np.uint64(seed) + place * np.uint64(GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_ONE)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_TWO)
    z ^= z >> np.uint64(31)
    halves = np.stack([z & np.uint64(0xFFFFFFFF), z >> np.uint64(32)], axis=1).reshape(count, 2 * words)[:, :cases]
    return ((halves * np.uint64(cases)) >> np.uint64(32)).astype(np.int64)
