"""Judge a package on a case set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nbkit.errors import EvaluationError
from nbkit.evaluate._behaviour_check import behaviour_results
from nbkit.evaluate._behaviours import Behaviour
from nbkit.evaluate._bench import Bench
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._contenders import Contender
from nbkit.evaluate._decide import Decide, DecideAll, Scored
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._golden_check import golden_results
from nbkit.evaluate._judge_cases import check_cases
from nbkit.evaluate._result import EvaluationResult

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
    tell = progress or _silent
    check_cases(cases, contract=package.contract)
    tell(0.0, "scoring the cases")
    bench = Bench.of(package, cases=cases, decide_all=decide_all, rng=np.random.default_rng(seed))
    metrics = bench.metrics(step=lambda share: tell(0.1 + 0.5 * share, "resampling"))
    tell(0.6, "golden cases")
    answers = golden_results(package, golden, decide=decide)
    tell(0.65, "behaviours")
    held = behaviour_results(package, behaviours, cases=cases)
    tell(0.7, "champion")
    against = bench.alone()
    if champion is not None and champion_version is not None:
        against = bench.against(
            champion,
            version=champion_version,
            golden=golden,
            golden_failed=tuple(case.id for case in answers if case.problem),
            decide=decide_champion,
            decide_all=decide_all_champion,
        )
    tell(0.8, "slices")
    result = bench.result(metrics=metrics, golden=answers, against=against, contenders=contenders, seed=seed)
    tell(1.0, "done")
    return replace(
        result,
        decided_by="rules and thresholds" if decide_all else "thresholds",
        alternatives={name: {k: float(v) for k, v in row.items()} for name, row in (alternatives or {}).items()},
        behaviours=held,
        unfrozen=tuple(unfrozen),
        record=record,
    )


def _silent(_: float, __: str) -> None:
    """Tell nobody."""
