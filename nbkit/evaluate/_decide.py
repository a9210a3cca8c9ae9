"""Decisions from scores, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Contract, Thresholds
from nbkit.records import Decision

APPROVE, REFER, DECLINE = 0, 1, 2
DECISIONS = ("approve", "refer", "decline")

Decide = Callable[[Mapping[str, float | str | None]], Decision]
DecideAll = Callable[[Mapping[str, Sequence[object]], NDArray[np.float64]], NDArray[np.int64]]
"""Given the inputs by column and the scores: 0 (approve), 1 (refer) or 2 (decline) for every row, rules included."""


class Scored(Protocol):
    """What an evaluation needs of a package."""

    @property
    def contract(self) -> Contract:
        """What goes in and out."""
        ...

    @property
    def thresholds(self) -> Thresholds:
        """Where decisions change."""
        ...

    @property
    def digest(self) -> str:
        """Which package it is."""
        ...

    def score_frame(self, frame: Mapping[str, Sequence[object]], /) -> NDArray[np.float64]:
        """Return the score of every row."""
        ...


def decisions_of(scores: NDArray[np.float64], *, thresholds: Thresholds) -> NDArray[np.int64]:
    """Return 0 (approve), 1 (refer) or 2 (decline) for every score."""
    return (scores >= thresholds.refer).astype(np.int64) + (scores >= thresholds.decline)


def costs_of(decisions: NDArray[np.int64], money: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the money that each decision loses; ``money`` has a column for each decision."""
    found: NDArray[np.float64] = money[np.arange(len(decisions)), decisions]
    return found


def wrong_of(decisions: NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which cases were approved although positive or declined although not; a referral is never wrong."""
    wrong: NDArray[np.bool_] = ((decisions == APPROVE) & labels) | ((decisions == DECLINE) & ~labels)
    return wrong
