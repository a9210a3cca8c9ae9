"""Cases that two versions decide differently: one by one, counted, and tested."""

from __future__ import annotations

import math

import numpy as np

from nbkit.evaluate._comparison import DecisionChange, Flip, McNemar
from nbkit.evaluate._decide import DECISIONS, wrong_of
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._metrics import Judged

# Beyond so many discordant cases the chi-squared approximation agrees with the binomial to three digits.
_MOST_EXACT = 1000
# So many cases can still be read one by one; the counts speak for the others.
_MOST_FLIPS = 2000


def mcnemar(newly_wrong: int, newly_right: int) -> McNemar:
    """Test whether more decisions became wrong than became right.

    Parameters
    ----------
    newly_wrong, newly_right : int
        Cases that only the one, and only the other version decides wrongly.

    Returns
    -------
    McNemar
        The exact binomial test up to 1,000 such cases, beyond that chi-squared without continuity correction.

    Notes
    -----
    McNemar, Psychometrika 12 (1947); on the choice of test Fagerland, Lydersen and Laake, BMC Medical Research
    Methodology 13:91 (2013), whose first example this is.

    Examples
    --------
    >>> round(mcnemar(1, 7).p_value, 4)
    0.0703
    """
    discordant, fewer = newly_wrong + newly_right, min(newly_wrong, newly_right)
    if discordant <= _MOST_EXACT:
        method = "exact binomial"
        p_value = min(1.0, 2 * sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant)
    else:
        method = "chi-squared"
        p_value = math.erfc(math.sqrt((newly_wrong - newly_right) ** 2 / discordant / 2))
    return McNemar(newly_wrong=newly_wrong, newly_right=newly_right, p_value=p_value, method=method)


def total_of(per_case: Estimate, *, cases: int) -> Estimate:
    """Return what a difference per case comes to over all cases."""
    low, high = (None if end is None else end * cases for end in (per_case.low, per_case.high))
    return Estimate(value=per_case.value * cases, low=low, high=high)


def flips_of(challenger: Judged, champion: Judged, *, ids: tuple[int | str, ...]) -> tuple[Flip, ...]:
    """List the cases that both decide differently, those that become dearest first; of very many only the first."""
    changed = np.flatnonzero(challenger.decisions != champion.decisions)
    dearer = challenger.costs[changed] - champion.costs[changed]
    shown = changed[np.argsort(-dearer, kind="stable")]
    if len(shown) > _MOST_FLIPS:
        shown = np.concatenate([shown[: _MOST_FLIPS // 2], shown[-_MOST_FLIPS // 2 :]])
    ours, theirs = wrong_of(challenger.decisions, challenger.labels), wrong_of(champion.decisions, champion.labels)
    return tuple(
        Flip(
            id=str(ids[row]),
            positive=bool(challenger.labels[row]),
            champion=DECISIONS[champion.decisions[row]],
            challenger=DECISIONS[challenger.decisions[row]],
            champion_score=float(champion.scores[row]),
            challenger_score=float(challenger.scores[row]),
            cost_difference=float(challenger.costs[row] - champion.costs[row]),
            kind="newly wrong" if ours[row] > theirs[row] else "newly right" if theirs[row] > ours[row] else "other",
        )
        for row in shown
    )


def changes_of(challenger: Judged, champion: Judged) -> tuple[DecisionChange, ...]:
    """Count decisions of the champion by decisions of the challenger."""
    count = len(DECISIONS)
    pairs = champion.decisions * count + challenger.decisions
    positives = np.bincount(pairs[challenger.labels], minlength=count * count)
    negatives = np.bincount(pairs[~challenger.labels], minlength=count * count)
    return tuple(
        DecisionChange(
            champion=DECISIONS[pair // count],
            challenger=DECISIONS[pair % count],
            positive=int(positives[pair]),
            negative=int(negatives[pair]),
        )
        for pair in range(count * count)
        if positives[pair] or negatives[pair]
    )
