"""Compare a challenger with the champion on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import Evaluate
from nbkit.evaluate._bootstrap import from_resamples, mean_difference
from nbkit.evaluate._comparison import DecisionChange, Difference, Flip, McNemar, SliceComparison
from nbkit.evaluate._decide import wrong_of
from nbkit.evaluate._delong import Estimate, auc_loss
from nbkit.evaluate._flips import changes_of, flips_of, mcnemar, total_of
from nbkit.evaluate._metrics import Judged, Terms, log_losses, squared_errors
from nbkit.evaluate._resample import Ordered, figures_of, resample, resample_count
from nbkit.evaluate._verdict import Margins, judge_all

_PAIRED_DELONG = "paired DeLong, Student's t"
_PAIRED_T = "paired bootstrap standard error, exact for a mean; Student's t"

Mask = tuple[str, NDArray[np.bool_]]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponent:
    """The champion: which version it is, and what it did with the very same cases."""

    version: int
    package_digest: str
    judged: Judged
    golden_passed: frozenset[str] = frozenset()


def compare(
    challenger: Judged,
    champion: Opponent,
    *,
    ids: tuple[int | str, ...],
    case_set: str,
    slices: Sequence[Mask],
    golden_failed: tuple[str, ...],
    limits: Evaluate,
    terms: Terms,
    rng: np.random.Generator,
) -> tuple[ChampionComparison, tuple[SliceComparison, ...]]:
    """Compare two versions whose entries are the same cases in the same order, on all cases and on every slice."""
    theirs = champion.judged
    margins = Margins(
        auc=limits.auc_margin,
        cost=limits.cost_margin * float(theirs.costs.mean()),
        level=limits.false_block_level,
    )
    on_slices = [(name, area_and_cost(challenger, theirs, inside=inside, terms=terms)) for name, inside in slices]
    judgement = judge_all(area_and_cost(challenger, theirs, inside=None, terms=terms), on_slices, margins=margins)
    overall, judged, ruling = judgement.overall, judgement.slices, judgement.ruling
    names = [name for name, _ in slices]
    ours_wrong, theirs_wrong = (wrong_of(one.decisions, one.labels) for one in (challenger, theirs))
    newly_wrong, newly_right = ours_wrong & ~theirs_wrong, theirs_wrong & ~ours_wrong
    area, money = (_estimate(one) for one in overall)
    return ChampionComparison(
        version=champion.version,
        package_digest=champion.package_digest,
        case_set=case_set,
        auc_difference=area,
        cost_difference=money,
        verdict=ruling.verdict,
        reason=ruling.reason,
        newly_wrong=_ids(ids, newly_wrong),
        newly_right=_ids(ids, newly_right),
        differences=(*overall, *other_differences(challenger, theirs, terms=terms, rng=rng)),
        cost_total=total_of(money, cases=len(ids)),
        mcnemar=mcnemar(int(newly_wrong.sum()), int(newly_right.sum())),
        flips=flips_of(challenger, theirs, ids=ids),
        flipped=int((challenger.decisions != theirs.decisions).sum()),
        changes=changes_of(challenger, theirs),
        worst_slice=_worst_slice(names, judged),
        golden_newly_failed=tuple(case for case in golden_failed if case in champion.golden_passed),
        false_block_level=limits.false_block_level,
        judged=judgement.questions,
        n_that_would_tell=ruling.n_that_would_tell,
    ), judged


def other_differences(
    challenger: Judged, champion: Judged, *, terms: Terms, rng: np.random.Generator
) -> tuple[Difference, ...]:
    """Compare what the gate does not judge: average precision, Brier score, log loss, and what the queue would find."""
    pair = [Ordered.of(one.scores, one.labels) for one in (challenger, champion)]
    cases, share, rate = len(challenger.scores), terms.review_capacity, terms.false_positive_rate
    count = resample_count(terms.resamples, cases=2 * cases)
    drawn = resample(pair, share=share, rate=rate, resamples=count, rng=rng)
    ours, theirs = (figures_of(one, share=share, rate=rate) for one in pair)
    found = []
    for name in ("average_precision", "recall_at_fpr", "precision_at_capacity"):
        differences = drawn.of(name, version=0) - drawn.of(name, version=1)
        estimate, method = from_resamples(ours[name] - theirs[name], differences, confidence=terms.confidence)
        found.append(_difference(name, estimate, method=f"paired {method}", n=cases))
    for name, amounts in (("brier", squared_errors), ("log_loss", log_losses)):
        estimate, p_worse = mean_difference(amounts(challenger) - amounts(champion), confidence=terms.confidence)
        found.append(_difference(name, estimate, method=_PAIRED_T, n=cases, p_worse=p_worse))
    return tuple(found)


def area_and_cost(
    challenger: Judged, champion: Judged, *, inside: NDArray[np.bool_] | None, terms: Terms
) -> tuple[Difference | None, Difference]:
    """Compare ranking and cost on all cases, or on those inside a slice; no ranking where a label is absent."""
    part = slice(None) if inside is None else inside
    labels, area = challenger.labels[part], None
    if 0 < labels.sum() < len(labels):
        estimate, p_worse = auc_loss(
            challenger.scores[part], champion.scores[part], labels, confidence=terms.confidence
        )
        area = _difference("auc", estimate, method=_PAIRED_DELONG, n=len(labels), p_worse=p_worse)
    money, p_dearer = mean_difference(challenger.costs[part] - champion.costs[part], confidence=terms.confidence)
    return area, _difference("expected_cost", money, method=_PAIRED_T, n=len(labels), p_worse=p_dearer)


def _difference(name: str, estimate: Estimate, *, method: str, n: int, p_worse: float | None = None) -> Difference:
    return Difference(
        name=name, value=estimate.value, low=estimate.low, high=estimate.high, method=method, n=n, p_worse=p_worse
    )


def _estimate(difference: Difference) -> Estimate:
    return Estimate(value=difference.value, low=difference.low, high=difference.high)


def _worst_slice(names: Sequence[str], judged: Sequence[SliceComparison]) -> str:
    """Return the slice with the surest loss."""

    def surety(found: SliceComparison) -> float:
        return min((one.p_worse for one in (found.auc, found.cost) if one and one.p_worse is not None), default=1.0)

    return min(zip(names, judged, strict=True), key=lambda pair: surety(pair[1]), default=("", None))[0]


def _ids(ids: tuple[int | str, ...], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(str(ids[row]) for row in np.flatnonzero(chosen))
