"""Whatever else could decide: rules alone, the fallback, a vendor's score, another model. All on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nbkit.contract import RowCheck, Thresholds
from nbkit.errors import EvaluationError
from nbkit.evaluate._bootstrap import mean_difference, mean_estimate, wilson
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._decide import APPROVE, DECISIONS, DECLINE, REFER, costs_of, decisions_of, wrong_of
from nbkit.evaluate._delong import Estimate, auc_difference, auc_estimate
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._metrics import Judged

Answer = Callable[[Mapping[str, float | str | None]], str | None]
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """What somebody or something else would have decided about every case.

    Parameters
    ----------
    name, kind : str
        What people call it; ``version``, ``rules``, ``fallback``, ``vendor``, ``model`` or ``callable``.
    decisions : numpy.ndarray
        0 (approve), 1 (refer) or 2 (decline) for every case, shape (n,); -1 where it does not answer.
    scores : numpy.ndarray or None
        Any number that rises with risk, shape (n,); None for what only decides.
    digest : str
        Which version of it; empty when unknown.
    note : str
        What has to be known to read its figures.
    """

    name: str
    kind: str
    decisions: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None
    digest: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderResult:
    """One line of the table in which everything that could decide stands together.

    Parameters
    ----------
    name, kind, digest : str
        As of the contender; the version that is judged is the first line.
    auc : Estimate or None
        DeLong; of what only decides, with its three decisions as the ranking. None when it answers all cases alike.
    cost : Estimate
        Expected cost per case; a case without an answer costs what a referral costs.
    approved, referred, declined : Estimate
        Shares of the cases, Wilson.
    unanswered, wrong : int
        Cases without an answer; approved although positive or declined although not.
    auc_difference, cost_difference : Estimate or None
        Contender less the version that is judged, on the same cases: paired DeLong; mean of the paired differences with
        an interval that follows its skewness. None in the first line.
    note : str
        As of the contender.
    """

    name: str
    kind: str
    digest: str
    auc: Estimate | None
    cost: Estimate
    approved: Estimate
    referred: Estimate
    declined: Estimate
    unanswered: int
    wrong: int
    auc_difference: Estimate | None
    cost_difference: Estimate | None
    note: str


def by_scores(name: str, scores: ArrayLike, *, kind: str, thresholds: Thresholds, digest: str = "") -> Contender:
    """Let scores decide at their own thresholds.

    Parameters
    ----------
    name : str
        As of `Contender`.
    scores : array-like
        0..1, one a case.
    kind : str
        As of `Contender`.
    thresholds : Thresholds
        Where decisions change.
    digest : str
        Which version of it.

    Returns
    -------
    Contender
        Ready to be compared.

    Raises
    ------
    EvaluationError
        A score is missing or outside 0..1.
    """
    found = _numbers(name, scores)
    outside = np.flatnonzero((found < 0) | (found > 1))
    if len(outside):
        raise EvaluationError(
            f"{name}: {len(outside)} of {len(found)} scores are outside 0..1 (first: {found[outside[0]]!r})",
            next_step="compare it at equal rates, which needs a ranking only",
        )
    return Contender(
        name=name, kind=kind, decisions=decisions_of(found, thresholds=thresholds), scores=found, digest=digest
    )


def at_equal_rates(
    name: str, scores: ArrayLike, *, like: NDArray[np.int64], kind: str = "vendor", falling: bool = False
) -> Contender:
    """Let any ranking decide as often as a version does: as many declines, and as many referrals below them.

    What a vendor calls 640 is no probability, and thresholds chosen for it on the very cases that judge it would
    flatter it. With equal rates only the order matters, and people have the same work.

    Parameters
    ----------
    name : str
        As of `Contender`.
    scores : array-like
        Any numbers, one a case.
    like : numpy.ndarray
        Decisions of the version, shape (n,).
    kind : str
        As of `Contender`.
    falling : bool
        Whether a lower number is the higher risk, as of most credit scores.

    Returns
    -------
    Contender
        Ready to be compared. Cases of equal score are decided alike, the milder way.

    Raises
    ------
    EvaluationError
        A score is missing.
    """
    found = _numbers(name, scores)
    risk = -found if falling else found
    declined = int((like == DECLINE).sum())
    held = declined + int((like == REFER).sum())
    order = np.sort(risk)[::-1]
    decisions = np.full(len(risk), APPROVE)
    for count, decision in ((held, REFER), (declined, DECLINE)):
        if count:
            # Strictly above the first score that is left out: a group of equal scores is not torn apart.
            cut = order[count] if count < len(order) else -np.inf
            decisions[risk > cut] = decision
    note = "decides at the version's own rates of decline and referral; only the order of its scores matters"
    return Contender(name=name, kind=kind, decisions=decisions, scores=risk, note=note)


def by_answers(name: str, answer: Answer, *, cases: CaseSet, check: RowCheck, kind: str, note: str = "") -> Contender:
    """Ask something that only decides, row by row.

    Parameters
    ----------
    name : str
        As of `Contender`.
    answer : callable
        Given a checked row, returns ``approve``, ``refer``, ``decline``, or None when it does not answer.
    cases : CaseSet
        The frozen cases.
    check : RowCheck
        Of the contract whose inputs the answer reads.
    kind, note : str
        As of `Contender`.

    Returns
    -------
    Contender
        Ready to be compared.

    Raises
    ------
    EvaluationError
        An answer is none of these.
    """
    rows = cases.rows
    columns = {
        column: rows[column].astype(object).where(rows[column].notna(), None).tolist() for column in cases.inputs
    }
    numbers: dict[str | None, int] = {decision: number for number, decision in enumerate(DECISIONS)}
    numbers[None] = -1
    decisions = np.empty(len(cases), dtype=np.int64)
    for row in range(len(cases)):
        told = answer(check.check({column: values[row] for column, values in columns.items()}))
        if told not in numbers:
            raise EvaluationError(f"{name}: expected {', '.join(DECISIONS)} or nothing, got {told!r}")
        decisions[row] = numbers[told]
    return Contender(name=name, kind=kind, decisions=decisions, note=note)


def contend(
    judged: Judged,
    contenders: Sequence[Contender],
    *,
    name: str,
    digest: str,
    money: Floats,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[ContenderResult, ...]:
    """Put a version and everything else that could decide into one table; ``money`` has a column for each decision."""
    own = Contender(name=name, kind="version", decisions=judged.decisions, scores=judged.scores, digest=digest)
    found = []
    for one in (own, *contenders):
        if one.decisions.shape != judged.decisions.shape:
            raise EvaluationError(
                f"{one.name}: expected one decision for each of {len(judged.labels)} cases, got {one.decisions.shape}"
            )
        # Somebody has to look at what is not answered.
        answered = np.where(one.decisions < 0, REFER, one.decisions)
        lost = judged.costs if one is own else costs_of(answered, money)
        cost = mean_estimate(lost, confidence=confidence, resamples=resamples, rng=rng)[0]
        beside = None if one is own else judged
        found.append(_result(one, answered, labels=judged.labels, lost=lost, cost=cost, beside=beside,
                             confidence=confidence))  # fmt: skip
    return tuple(found)


def _result(
    one: Contender,
    answered: NDArray[np.int64],
    *,
    labels: NDArray[np.bool_],
    lost: Floats,
    cost: Estimate,
    beside: Judged | None,
    confidence: float,
) -> ContenderResult:
    """Judge what one decides, and how much better or worse it is than the version beside it."""
    ranking = one.scores if one.scores is not None else answered.astype(np.float64)
    ranks = len(np.unique(ranking)) > 1
    approved, referred, declined = (
        wilson(int((one.decisions == number).sum()), of=len(answered), confidence=confidence)
        for number in (APPROVE, REFER, DECLINE)
    )
    area_less, cost_less = None, None
    if beside is not None:
        area_less = auc_difference(ranking, beside.scores, labels, confidence=confidence) if ranks else None
        cost_less = mean_difference(lost - beside.costs, confidence=confidence)[0]
    return ContenderResult(
        name=one.name,
        kind=one.kind,
        digest=one.digest,
        auc=auc_estimate(ranking, labels, confidence=confidence) if ranks else None,
        cost=cost,
        approved=approved,
        referred=referred,
        declined=declined,
        unanswered=int((one.decisions < 0).sum()),
        wrong=int(wrong_of(answered, labels).sum()),
        auc_difference=area_less,
        cost_difference=cost_less,
        note=one.note,
    )


def _numbers(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    try:
        found = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{name}: expected a number for every case: {error}") from None
    if found.ndim != 1:
        raise EvaluationError(f"{name}: expected one score a case, got shape {found.shape}")
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        rows = ", ".join(str(row) for row in wrong[:_SHOWN].tolist())
        raise EvaluationError(
            f"{name}: {len(wrong)} of {len(found)} scores are missing or infinite (first rows: {rows})"
        )
    return found
