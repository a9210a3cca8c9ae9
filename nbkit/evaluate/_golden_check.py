"""Answer golden cases and compare with what people agreed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nbkit.contract import RowCheck
from nbkit.errors import ContractViolationError
from nbkit.evaluate._decide import DECISIONS, Decide, Scored, decisions_of
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._result import GoldenResult
from nbkit.records import Decision


def golden_results(package: Scored, golden: Sequence[GoldenCase], *, decide: Decide | None) -> tuple[GoldenResult, ...]:
    """Answer every golden case and compare."""
    check = RowCheck(package.contract)
    return tuple(_golden_result(package, case, check=check, decide=decide) for case in golden)


def _golden_result(package: Scored, case: GoldenCase, *, check: RowCheck, decide: Decide | None) -> GoldenResult:
    try:
        row = check.check(case.inputs)
    except ContractViolationError as error:
        answer, problems = None, [str(error)]
    else:
        answer = decide(row) if decide else _by_thresholds(package, row)
        problems = _golden_problems(case, answer, with_reasons=decide is not None)
    return GoldenResult(
        id=case.id,
        why=case.why,
        expected=_expected(case),
        decision=answer.decision if answer else "",
        score=answer.score if answer else None,
        problem="; ".join(problems),
        kind=case.kind,
    )


def _by_thresholds(package: Scored, row: Mapping[str, float | str | None]) -> Decision:
    columns = {column.name: [row[column.name]] for column in package.contract.inputs}
    score = float(package.score_frame(columns)[0])
    number = int(decisions_of(np.array([score]), thresholds=package.thresholds)[0])
    return Decision(decision=DECISIONS[number], score=score)


def _golden_problems(case: GoldenCase, answer: Decision, *, with_reasons: bool) -> list[str]:
    problems = []
    if case.decisions and answer.decision not in case.decisions:
        problems.append(f"expected {' or '.join(case.decisions)}, got {answer.decision}")
    low, high = case.score_range
    if {"score_min", "score_max"} & set(case.expect):
        if answer.score is None:
            problems.append(f"expected a score from {low:g} to {high:g}, a rule answered without one")
        elif not low <= answer.score <= high:
            problems.append(f"expected a score from {low:g} to {high:g}, got {answer.score:.4f}")
    if not with_reasons and (case.reasons_present or case.reasons_absent):
        return [*problems, "expects reason codes, which were not computed in this evaluation"]
    problems += [
        f"expected reason {code}, which was not given" for code in case.reasons_present if code not in answer.reasons
    ]
    problems += [
        f"reason {code} was given, which was not expected" for code in case.reasons_absent if code in answer.reasons
    ]
    return problems


def _expected(case: GoldenCase) -> str:
    parts = [" or ".join(case.decisions)] if case.decisions else []
    low, high = case.score_range
    if {"score_min", "score_max"} & set(case.expect):
        parts.append(f"score {low:g} to {high:g}")
    parts += [f"reason {code}" for code in case.reasons_present] + [f"no reason {code}" for code in case.reasons_absent]
    return ", ".join(parts)
