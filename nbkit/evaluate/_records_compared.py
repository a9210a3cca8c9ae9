"""Two versions' recorded scores on the same cases: paired differences and flips, without scoring anything again."""

from __future__ import annotations

from dataclasses import dataclass

from nbkit.errors import EvaluationError
from nbkit.evaluate._bootstrap import mean_difference
from nbkit.evaluate._case_record import CaseRecord
from nbkit.evaluate._comparison import DecisionChange, Flip, McNemar
from nbkit.evaluate._decide import wrong_of
from nbkit.evaluate._delong import Estimate, auc_difference
from nbkit.evaluate._flips import changes_of, flips_of, mcnemar, total_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsCompared:
    """What two versions did differently on the same cases; differences are right less left.

    Parameters
    ----------
    auc_difference : Estimate
        Paired DeLong.
    cost_difference, cost_total : Estimate
        Per case and over all cases, from the paired differences; below 0 the right one is cheaper.
    mcnemar : McNemar
        Whether more decisions became wrong than became right.
    flips : tuple of Flip
        Cases that are decided differently, the dearest first; ``champion`` is the left one.
    flipped : int
        How many there are.
    changes : tuple of DecisionChange
        From which decision to which.
    """

    auc_difference: Estimate
    cost_difference: Estimate
    cost_total: Estimate
    mcnemar: McNemar
    flips: tuple[Flip, ...]
    flipped: int
    changes: tuple[DecisionChange, ...]


def compare_records(left: CaseRecord, right: CaseRecord, *, confidence: float) -> RecordsCompared:
    """Compare two records of the same cases.

    Parameters
    ----------
    left, right : CaseRecord
        What two versions did with every case.
    confidence : float
        Of every interval.

    Returns
    -------
    RecordsCompared
        Right less left.

    Raises
    ------
    EvaluationError
        The records are of different cases.
    """
    if left.case_set != right.case_set or left.ids != right.ids:
        raise EvaluationError(
            f"the records are of different cases: {left.case_set} and {right.case_set}",
            next_step="judge both on the same cases: nbkit diff A B --re-evaluate",
        )
    old, new = left.judged, right.judged
    money, _ = mean_difference(new.costs - old.costs, confidence=confidence)
    before, after = wrong_of(old.decisions, old.labels), wrong_of(new.decisions, new.labels)
    return RecordsCompared(
        auc_difference=auc_difference(new.scores, old.scores, new.labels, confidence=confidence),
        cost_difference=money,
        cost_total=total_of(money, cases=len(left.ids)),
        mcnemar=mcnemar(int((after & ~before).sum()), int((before & ~after).sum())),
        flips=flips_of(new, old, ids=left.ids),
        flipped=int((new.decisions != old.decisions).sum()),
        changes=changes_of(new, old),
    )
