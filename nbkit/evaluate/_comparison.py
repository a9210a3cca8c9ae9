"""What two versions did with the same cases: figure by figure, decision by decision, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of the challenger less the champion's, on the same cases.

    Parameters
    ----------
    name : str
        ``auc``, ``average_precision``, ``brier``, ``log_loss`` or ``expected_cost``.
    value : float
        Challenger less champion.
    low, high : float or None
        Ends of the interval; None where none can be computed.
    method : str
        How the interval was computed.
    n : int
        Number of cases.
    p_worse : float or None
        One-sided p value of "the challenger is not worse"; None where none can be computed.
    adjusted : float or None
        The same after Holm's correction over everything that the regression gate judges; None for figures that it does
        not judge.
    n_that_would_tell : int or None
        How many cases would tell whether a loss that matters is there; None when these do, or none would.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    p_worse: float | None = None
    adjusted: float | None = None
    n_that_would_tell: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Whether more decisions became wrong than became right.

    Parameters
    ----------
    newly_wrong, newly_right : int
        Cases that only the challenger, and only the champion, decides wrongly.
    p_value : float
        Two-sided, of "as many become wrong as become right".
    method : str
        ``exact binomial`` or ``chi-squared``.
    """

    newly_wrong: int
    newly_right: int
    p_value: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One case that the two versions decide differently.

    Parameters
    ----------
    id : str
        The case's.
    positive : bool
        Whether it turned out positive.
    champion, challenger : str
        What each decides.
    champion_score, challenger_score : float
        What each scores.
    cost_difference : float
        What the challenger's decision loses more than the champion's, in the contract's currency.
    kind : str
        ``newly wrong``, ``newly right`` or ``other``: one of both decisions was a referral.
    """

    id: str
    positive: bool
    champion: str
    challenger: str
    champion_score: float
    challenger_score: float
    cost_difference: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionChange:
    """How many cases of each label went from one decision to another.

    Parameters
    ----------
    champion, challenger : str
        ``approve``, ``refer`` or ``decline``.
    positive, negative : int
        Cases of each label.
    """

    champion: str
    challenger: str
    positive: int
    negative: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceComparison:
    """The challenger against the champion on one slice.

    Parameters
    ----------
    auc : Difference or None
        None where a label is absent.
    cost : Difference
        Expected cost per case.
    verdict : str
        ``worse`` when a loss survives Holm's correction over all that the gate judges, ``better`` when a gain is sure
        on this slice alone and no loss is, ``no difference`` when a loss that matters is ruled out, else
        ``cannot tell``.
    reason : str
        Why.
    n_that_would_tell : int or None
        How many cases of the slice would tell; None when these do, or none would.
    """

    auc: Difference | None
    cost: Difference
    verdict: str
    reason: str
    n_that_would_tell: int | None = None
