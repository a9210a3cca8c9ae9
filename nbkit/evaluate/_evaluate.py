"""Judge a package on a case set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nbkit.contract import Contract
from nbkit.errors import EvaluationError
from nbkit.evaluate._against import Against, against_champion
from nbkit.evaluate._behaviour_check import behaviour_results
from nbkit.evaluate._behaviours import Behaviour
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._contenders import Contender, contend
from nbkit.evaluate._curves import confusion_of, curves_of
from nbkit.evaluate._decide import Decide, DecideAll, Scored, decisions_of
from nbkit.evaluate._fair_measures import disparities_of
from nbkit.evaluate._fairness import fairness_of
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._golden_check import golden_results
from nbkit.evaluate._judge_cases import case_money, check_cases, judge, pinned
from nbkit.evaluate._metrics import Judged, Metric, Terms, measure
from nbkit.evaluate._plugged import plugged_metrics
from nbkit.evaluate._result import CaseSetFacts, EvaluationResult
from nbkit.evaluate._search import SliceSearch, search_slices
from nbkit.evaluate._slices import parts_of, slice_results

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
    check_cases(cases, contract=contract)
    terms = Terms.of(contract)
    tell(0.0, "scoring the cases")
    money = case_money(cases, contract=contract)
    judged = judge(package, cases, money=money, decide_all=decide_all)
    metrics = _figures(judged, contract=contract, rng=rng, step=lambda share: tell(0.1 + 0.5 * share, "resampling"))
    tell(0.6, "golden cases")
    answers = golden_results(package, golden, decide=decide)
    tell(0.65, "behaviours")
    held = behaviour_results(package, behaviours, cases=cases)
    tell(0.7, "champion")
    parts = parts_of(cases.frame, columns=contract.evaluate.slices)
    against = Against(on_slices=(None,) * len(parts))
    if champion is not None and champion_version is not None:
        against = against_champion(
            judged,
            champion,
            version=champion_version,
            cases=cases,
            contract=contract,
            parts=parts,
            golden=golden,
            golden_failed=tuple(case.id for case in answers if case.problem),
            money=money,
            terms=terms,
            rng=rng,
            decide=decide_champion,
            decide_all=decide_all_champion,
        )
    tell(0.8, "slices")
    area = next(metric.value for metric in metrics if metric.name == "auc")
    slices = slice_results(judged, parts, comparisons=against.on_slices, overall=area, terms=terms, rng=rng)
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
    search = _search(judged, cases, contract=contract, champion=against.theirs)
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
        case_set=_facts_of(cases, contract=contract),
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
        champion=against.comparison,
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


def _silent(_: float, __: str) -> None:
    """Tell nobody."""


def _figures(
    judged: Judged, *, contract: Contract, rng: np.random.Generator, step: Callable[[float], None]
) -> tuple[Metric, ...]:
    """Measure nbkit's figures, and those of plug-ins that the contract names."""
    terms = Terms.of(contract)
    metrics = measure(judged, terms=terms, rng=rng, step=step)
    return metrics + plugged_metrics(
        judged,
        names=contract.evaluate.metrics,
        taken=[metric.name for metric in metrics],
        confidence=terms.confidence,
        resamples=terms.resamples,
        rng=rng,
    )


def _search(judged: Judged, cases: CaseSet, *, contract: Contract, champion: Judged | None) -> SliceSearch | None:
    return search_slices(
        judged,
        cases.frame,
        columns=[*(column.name for column in contract.inputs), *(column.name for column in contract.protected)],
        champion=champion,
        depth=contract.evaluate.search_depth,
        minimum=contract.evaluate.minimum_slice,
        confidence=contract.evaluate.confidence,
    )


def _facts_of(cases: CaseSet, *, contract: Contract) -> CaseSetFacts:
    return CaseSetFacts(
        reference=cases.reference,
        digest=cases.digest,
        pinned=pinned(contract),
        cases=len(cases),
        positives=int(cases.labels.sum()),
    )
