"""Judge a package on a case set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from nbkit.contract import Contract
from nbkit.errors import CaseSetError, ContractViolationError, EvaluationError, PackageError
from nbkit.evaluate._behaviour_check import behaviour_results
from nbkit.evaluate._behaviours import Behaviour
from nbkit.evaluate._case_record import CaseRecord, scores_of
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._champion import ChampionComparison, Opponent, compare, not_comparable
from nbkit.evaluate._comparison import SliceComparison
from nbkit.evaluate._contenders import Contender, contend
from nbkit.evaluate._costs import money_of
from nbkit.evaluate._curves import confusion_of, curves_of
from nbkit.evaluate._decide import Decide, DecideAll, Scored, costs_of, decisions_of
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._fair_measures import disparities_of
from nbkit.evaluate._fairness import fairness_of
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._golden_check import golden_results
from nbkit.evaluate._metrics import Judged, Terms, measure
from nbkit.evaluate._plugged import plugged_metrics
from nbkit.evaluate._result import CaseSetFacts, EvaluationResult
from nbkit.evaluate._search import search_slices
from nbkit.evaluate._slices import parts_of, slice_results

_SHOWN_IDS = 5
Progress = Callable[[float, str], None]


def evaluate_package(
    package: Scored,
    *,
    cases: CaseSet,
    golden: Sequence[GoldenCase],
    champion: Scored | None,
    champion_version: int | None,
    alternatives: Mapping[str, Mapping[str, float]] | None = None,
    decide: Decide | None = None,
    behaviours: Sequence[Behaviour] = (),
    unfrozen: Sequence[str] = (),
    contenders: Sequence[Contender] = (),
    record: str = "",
    decide_all: DecideAll | None = None,
    decide_champion: Decide | None = None,
    decide_all_champion: DecideAll | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Judge a package on frozen cases, and against the champion on the same cases.

    Parameters
    ----------
    package : Package
        What is judged; its contract brings costs, slices, protected attributes and confidence.
    cases : CaseSet
        The frozen cases; a contract that pins other ones is refused.
    golden : sequence of GoldenCase
        Rows whose decision must hold.
    champion : Package or None
        The version in production, scored here on the same cases with its own thresholds.
    champion_version : int or None
        Its number in the registry.
    alternatives : mapping
        Figures of other models that were tried, by name; shown in the report.
    decide : callable or None
        Answers one checked row as production would, with rules and reason codes. Without it golden cases are decided by
        score and thresholds alone, and one that expects reason codes cannot pass.
    behaviours : sequence of Behaviour
        What must hold for any row when something about it is changed.
    unfrozen : sequence of str
        Which golden cases and behaviours were written after the cases were frozen; shown in the report.
    contenders : sequence of Contender
        What else could decide, such as rules alone and the fallback; each is a line of the report's first table.
    record : str
        Digest of what `judge_cases` returned, when it is kept beside the result.
    decide_all : callable or None
        Decides every scored case as production would, with rules. Without it the thresholds alone decide.
    decide_champion, decide_all_champion : callable or None
        The same two for the champion, by its own rules.
    seed : int
        Of every resample: the same inputs give the same result.
    progress : callable or None
        Told ``(share done, what comes next)``.

    Returns
    -------
    EvaluationResult
        Bad figures are a result, not an error.

    Raises
    ------
    EvaluationError
        The package's scores are missing, outside 0..1 or not one a case; a champion is given without its version.
    CaseSetError
        The cases are not those that the contract pins, or lack a column that it needs.
    """
    if champion is not None and champion_version is None:
        raise EvaluationError("champion_version: expected the champion's version, got None")
    contract, tell, rng = package.contract, progress or _silent, np.random.default_rng(seed)
    _check_cases(cases, contract=contract)
    terms = Terms.of(contract)
    tell(0.0, "scoring the cases")
    money = case_money(cases, contract=contract)
    judged = _judge(package, cases, money=money, decide_all=decide_all)
    metrics = measure(judged, terms=terms, rng=rng, step=lambda share: tell(0.1 + 0.5 * share, "resampling"))
    metrics += plugged_metrics(
        judged,
        names=contract.evaluate.metrics,
        taken=[metric.name for metric in metrics],
        confidence=terms.confidence,
        resamples=terms.resamples,
        rng=rng,
    )
    tell(0.6, "golden cases")
    answers = golden_results(package, golden, decide=decide)
    tell(0.65, "behaviours")
    held = behaviour_results(package, behaviours, cases=cases)
    tell(0.7, "champion")
    parts = parts_of(cases.frame, columns=contract.evaluate.slices)
    against, theirs, on_slices = None, None, tuple[SliceComparison | None, ...]([None] * len(parts))
    if champion is not None and champion_version is not None:
        failed = tuple(case.id for case in answers if case.problem)
        opponent = _opponent(
            champion,
            cases=cases,
            contract=contract,
            version=champion_version,
            golden=golden,
            money=money,
            decide=decide_champion,
            decide_all=decide_all_champion,
        )
        if isinstance(opponent, ChampionComparison):
            against = opponent
        else:
            theirs = opponent.judged
            against, on_slices = compare(
                judged,
                opponent,
                ids=cases.ids,
                case_set=cases.digest,
                slices=[(part.name, part.inside) for part in parts],
                golden_failed=failed,
                limits=contract.evaluate,
                terms=terms,
                rng=rng,
            )
    tell(0.8, "slices")
    area = next(metric.value for metric in metrics if metric.name == "auc")
    slices = slice_results(judged, parts, comparisons=on_slices, overall=area, terms=terms, rng=rng)
    table = contend(
        judged,
        contenders,
        name="this version",
        digest=package.digest,
        money=money,
        confidence=terms.confidence,
        resamples=terms.resamples,
        rng=rng,
    )
    search = search_slices(
        judged,
        cases.frame,
        columns=[*(column.name for column in contract.inputs), *(column.name for column in contract.protected)],
        champion=theirs,
        depth=contract.evaluate.search_depth,
        minimum=contract.evaluate.minimum_slice,
        confidence=terms.confidence,
    )
    fairness = fairness_of(
        judged, cases.frame, attributes=contract.protected, limits=contract.fairness, confidence=terms.confidence
    )
    tell(1.0, "done")
    return EvaluationResult(
        model=contract.name,
        title=contract.title,
        target=contract.target.meaning,
        package_digest=package.digest,
        contract_digest=contract.digest,
        currency=contract.decision.costs.currency,
        refer=package.thresholds.refer,
        decline=package.thresholds.decline,
        review_capacity=contract.decision.review_capacity,
        confidence=terms.confidence,
        seed=seed,
        case_set=CaseSetFacts(
            reference=cases.reference,
            digest=cases.digest,
            pinned=_pinned(contract),
            cases=len(cases),
            positives=int(cases.labels.sum()),
        ),
        metrics=metrics,
        confusion=confusion_of(judged.decisions, judged.labels),
        curves=curves_of(
            judged.scores,
            judged.labels,
            thresholds=package.thresholds,
            money=money,
            review_capacity=contract.decision.review_capacity,
            confidence=terms.confidence,
        ),
        slices=slices,
        golden=answers,
        champion=against,
        impact_ratio_floor=contract.fairness.impact_ratio_floor,
        fairness=fairness,
        disparities=disparities_of(judged, cases.frame, contract=contract),
        search=search,
        decided_by="rules and thresholds" if decide_all else "thresholds",
        ruled=int((judged.decisions != decisions_of(judged.scores, thresholds=package.thresholds)).sum()),
        alternatives={name: {k: float(v) for k, v in row.items()} for name, row in (alternatives or {}).items()},
        behaviours=held,
        unfrozen=tuple(unfrozen),
        contenders=table if contenders else (),
        record=record,
    )


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
    _check_cases(cases, contract=package.contract)
    return CaseRecord(
        case_set=cases.digest,
        package_digest=package.digest,
        ids=tuple(str(found) for found in cases.ids),
        judged=_judge(package, cases, money=case_money(cases, contract=package.contract), decide_all=decide_all),
    )


def _silent(_: float, __: str) -> None:
    """Tell nobody."""


def _pinned(contract: Contract) -> str:
    return (contract.evaluate.case_set or "@").split("@")[1]


def _check_cases(cases: CaseSet, *, contract: Contract) -> None:
    pinned = _pinned(contract)
    if pinned and pinned != cases.digest:
        raise CaseSetError(
            f"the package's contract pins {pinned}, the cases are {cases.digest}",
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


def _inputs_of(cases: CaseSet, *, contract: Contract) -> Mapping[str, Sequence[object]]:
    return cast("Mapping[str, Sequence[object]]", cases.frame[[column.name for column in contract.inputs]])


def _judge(package: Scored, cases: CaseSet, *, money: Floats, decide_all: DecideAll | None = None) -> Judged:
    scores = scores_of(package, cases)
    _check_scores(scores, cases=cases)
    decisions = decisions_of(scores, thresholds=package.thresholds)
    if decide_all is not None:
        decisions = decide_all(_inputs_of(cases, contract=package.contract), scores)
    costs = costs_of(decisions, money)
    return Judged(scores=scores, labels=cases.labels, decisions=decisions, costs=costs)


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


def _opponent(
    champion: Scored,
    *,
    cases: CaseSet,
    contract: Contract,
    version: int,
    golden: Sequence[GoldenCase],
    money: Floats,
    decide: Decide | None,
    decide_all: DecideAll | None,
) -> Opponent | ChampionComparison:
    """Score the champion on the same cases, or say why that cannot be."""
    reason = _not_comparable_because(champion.contract, contract=contract, cases=cases)
    if not reason:
        try:
            judged = _judge(champion, cases, money=money, decide_all=decide_all)
            passed = [case.id for case in golden_results(champion, golden, decide=decide) if not case.problem]
        except (EvaluationError, PackageError, ContractViolationError) as error:
            reason = f"it cannot score these cases: {error}"
        else:
            return Opponent(
                version=version, package_digest=champion.digest, judged=judged, golden_passed=frozenset(passed)
            )
    return not_comparable(version=version, package_digest=champion.digest, case_set=cases.digest, reason=reason)


def _not_comparable_because(theirs: Contract, *, contract: Contract, cases: CaseSet) -> str:
    ours, other = contract.target, theirs.target
    if (ours.column, ours.positive) != (other.column, other.positive):
        return f"it predicts {other.column} == {other.positive!r}, this one {ours.column} == {ours.positive!r}"
    lacking = [column.name for column in theirs.inputs if column.name not in cases.frame.columns]
    return f"the cases lack its inputs {', '.join(lacking)}" if lacking else ""
