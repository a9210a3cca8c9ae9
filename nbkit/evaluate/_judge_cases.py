"""Score and decide every case of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from nbkit.contract import Contract
from nbkit.errors import CaseSetError, EvaluationError
from nbkit.evaluate._case_record import CaseRecord, scores_of
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._costs import money_of
from nbkit.evaluate._decide import DecideAll, Scored, costs_of, decisions_of
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._metrics import Judged

_SHOWN_IDS = 5


def judge_cases(package: Scored, *, cases: CaseSet, decide_all: DecideAll | None = None) -> CaseRecord:
    """Score and decide every case, as an evaluation does.

    Parameters
    ----------
    package : Package
        What is judged.
    cases : CaseSet
        The frozen cases.
    decide_all : callable or None
        Decides every scored case as production would; without it the thresholds alone decide.

    Returns
    -------
    CaseRecord
        Score, decision and cost of every case.

    Raises
    ------
    EvaluationError
        Scores are missing, outside 0..1 or not one a case.
    CaseSetError
        The cases are not those that the contract pins, or lack a column that it needs.
    """
    check_cases(cases, contract=package.contract)
    return CaseRecord(
        case_set=cases.digest,
        package_digest=package.digest,
        ids=tuple(str(found) for found in cases.ids),
        judged=judge(package, cases, money=case_money(cases, contract=package.contract), decide_all=decide_all),
    )


def case_money(cases: CaseSet, *, contract: Contract) -> Floats:
    """Return what each decision on each case loses, by the cost matrix of the contract.

    Parameters
    ----------
    cases : CaseSet
        The frozen cases.
    contract : Contract
        Its ``decision.costs``.

    Returns
    -------
    numpy.ndarray
        Shape (cases, 3): approve, refer, decline.

    Raises
    ------
    EvaluationError
        An amount is missing, not finite or below 0.
    """
    return money_of(contract.decision.costs, labels=cases.labels, columns=_inputs_of(cases, contract=contract))


def pinned(contract: Contract) -> str:
    """Return the digest of the cases that a contract pins; empty when it pins none."""
    return (contract.evaluate.case_set or "@").split("@")[1]


def check_cases(cases: CaseSet, *, contract: Contract) -> None:
    """Refuse cases that a contract does not mean: other ones than it pins, or without a column that it needs."""
    wanted_digest = pinned(contract)
    if wanted_digest and wanted_digest != cases.digest:
        raise CaseSetError(
            f"the package's contract pins {wanted_digest}, the cases are {cases.digest}",
            next_step="package again under the present contract: %nbkit package",
        )
    wanted = [column.name for column in contract.inputs] + [column.name for column in contract.protected]
    missing = [name for name in (*wanted, *contract.evaluate.slices) if name not in cases.frame.columns]
    if missing:
        raise CaseSetError(
            "the cases lack columns of the contract",
            problems=[f"{name}: missing" for name in dict.fromkeys(missing)],
            next_step="freeze the cases again: nbkit freeze NAME",
        )


def judge(package: Scored, cases: CaseSet, *, money: Floats, decide_all: DecideAll | None = None) -> Judged:
    """Score and decide the cases; money is what each decision on each of them loses."""
    scores = scores_of(package, cases)
    _check_scores(scores, cases=cases)
    decisions = decisions_of(scores, thresholds=package.thresholds)
    if decide_all is not None:
        decisions = decide_all(_inputs_of(cases, contract=package.contract), scores)
    costs = costs_of(decisions, money)
    return Judged(scores=scores, labels=cases.labels, decisions=decisions, costs=costs)


def _inputs_of(cases: CaseSet, *, contract: Contract) -> Mapping[str, Sequence[object]]:
    return cast("Mapping[str, Sequence[object]]", cases.frame[[column.name for column in contract.inputs]])


def _check_scores(scores: Floats, *, cases: CaseSet) -> None:
    if scores.shape != (len(cases),):
        raise EvaluationError(f"scores: expected one for each of {len(cases)} cases, got shape {scores.shape}")
    problems = []
    for kind, wrong in (("NaN", np.isnan(scores)), ("outside 0..1", (scores < 0) | (scores > 1))):
        ids = [str(cases.ids[row]) for row in np.flatnonzero(wrong)[:_SHOWN_IDS]]
        if ids:
            problems.append(f"{int(wrong.sum())} of {len(cases)} are {kind} (first ids: {', '.join(ids)})")
    if problems:
        raise EvaluationError("scores: expected 0..1 for every case", problems=problems)
