"""Compare a challenger with the champion on the same cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.evaluate._bootstrap import mean_by_table
from nbkit.evaluate._comparison import DecisionChange, Difference, Flip, McNemar
from nbkit.evaluate._decide import wrong_of
from nbkit.evaluate._delong import Estimate, auc_difference
from nbkit.evaluate._flips import changes_of, flips_of, mcnemar, total_of
from nbkit.evaluate._metrics import Judged

# A ranking that is surely less than 0.02 of AUC worse, and a cost that is surely less than 5 % higher, do not matter to
# anyone who decides about a promotion.
AUC_MARGIN = 0.02
COST_MARGIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionComparison:
    """The challenger against the champion, both scored on the same cases with their own thresholds.

    Parameters
    ----------
    version : int
        The champion's.
    package_digest : str
        The champion's.
    case_set : str
        Digest of the cases that both were scored on.
    auc_difference : Estimate or None
        Challenger less champion, paired DeLong; None when the champion could not be scored.
    cost_difference : Estimate or None
        Expected cost per case, challenger less champion, paired bootstrap; below 0 is cheaper.
    verdict : str
        ``better``, ``worse``, ``no difference`` or ``cannot tell``.
    reason : str
        Why.
    newly_wrong, newly_right : tuple of str
        Ids of cases that the challenger decides wrongly and the champion did not, and the other way round.
    differences : tuple of Difference
        Every figure that both have, with its interval and what the gate makes of it.
    cost_total : Estimate or None
        The cost difference over all cases of the set, in the contract's currency.
    mcnemar : McNemar or None
        Whether more decisions became wrong than became right.
    flips : tuple of Flip
        Cases that both decide differently, the dearest first; of very many only the first.
    flipped : int
        How many cases both decide differently.
    changes : tuple of DecisionChange
        Decisions of the champion by decisions of the challenger; pairs without a case are left out.
    worst_slice : str
        The declared slice where the challenger loses most, such as ``kind = fixed``; empty without slices.
    golden_newly_failed : tuple of str
        Golden cases that the champion passes and the challenger does not.
    false_block_level : float or None
        Highest chance that the verdict is ``worse`` for a version that is no worse in anything that is judged.
    judged : int
        How many differences the verdict rests on: two figures of all cases and of every declared slice.
    n_that_would_tell : int or None
        How many cases would tell; None when these do, or none would.
    """

    version: int
    package_digest: str
    case_set: str
    auc_difference: Estimate | None
    cost_difference: Estimate | None
    verdict: str
    reason: str
    newly_wrong: tuple[str, ...]
    newly_right: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    cost_total: Estimate | None = None
    mcnemar: McNemar | None = None
    flips: tuple[Flip, ...] = ()
    flipped: int = 0
    changes: tuple[DecisionChange, ...] = ()
    worst_slice: str = ""
    golden_newly_failed: tuple[str, ...] = ()
    false_block_level: float | None = None
    judged: int = 0
    n_that_would_tell: int | None = None


def not_comparable(*, version: int, package_digest: str, case_set: str, reason: str) -> ChampionComparison:
    """Say that the champion could not be scored on these cases."""
    return ChampionComparison(
        version=version,
        package_digest=package_digest,
        case_set=case_set,
        auc_difference=None,
        cost_difference=None,
        verdict="cannot tell",
        reason=reason,
        newly_wrong=(),
        newly_right=(),
    )


def compare(
    challenger: Judged,
    champion: Judged,
    *,
    ids: tuple[int | str, ...],
    version: int,
    package_digest: str,
    case_set: str,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> ChampionComparison:
    """Compare two versions whose entries are the same cases in the same order."""
    area = auc_difference(challenger.scores, champion.scores, challenger.labels, confidence=confidence)
    money = mean_by_table(challenger.costs - champion.costs, confidence=confidence, resamples=resamples, rng=rng)
    verdict, reason = _verdict(area, money, cost_margin=COST_MARGIN * float(champion.costs.mean()))
    ours, theirs = wrong_of(challenger.decisions, challenger.labels), wrong_of(champion.decisions, champion.labels)
    return ChampionComparison(
        version=version,
        package_digest=package_digest,
        case_set=case_set,
        auc_difference=area,
        cost_difference=money,
        verdict=verdict,
        reason=reason,
        newly_wrong=_ids(ids, ours & ~theirs),
        newly_right=_ids(ids, theirs & ~ours),
        cost_total=total_of(money, cases=len(ids)),
        mcnemar=mcnemar(int((ours & ~theirs).sum()), int((theirs & ~ours).sum())),
        flips=flips_of(challenger, champion, ids=ids),
        flipped=int((challenger.decisions != champion.decisions).sum()),
        changes=changes_of(challenger, champion),
    )


def _ids(ids: tuple[int | str, ...], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(str(ids[row]) for row in np.flatnonzero(chosen))


def _verdict(area: Estimate, money: Estimate, *, cost_margin: float) -> tuple[str, str]:
    if area.low is None or area.high is None or money.low is None or money.high is None:
        return "cannot tell", "a label occurs too rarely for an interval"
    gains = [name for name, surely in (("ranks better", area.low > 0), ("costs less", money.high < 0)) if surely]
    losses = [name for name, surely in (("ranks worse", area.high < 0), ("costs more", money.low > 0)) if surely]
    if gains and losses:
        return "cannot tell", f"{gains[0]}, but {losses[0]}"
    if losses:
        return "worse", " and ".join(losses)
    # Money decides: a surely better ranking is no gain while it may cost noticeably more.
    if gains and money.high <= cost_margin:
        return "better", " and ".join(gains)
    if gains:
        return "cannot tell", f"{gains[0]}, but may cost up to {money.high:.2f} more per case"
    if area.low >= -AUC_MARGIN and money.high <= cost_margin:
        return "no difference", f"surely within {AUC_MARGIN} of AUC and {COST_MARGIN:.0%} of cost"
    return "cannot tell", "the intervals hold both a gain and a loss that would matter"
