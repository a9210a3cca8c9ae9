"""Judge a version against the champion, which is scored on the very same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbkit.contract import Contract
from nbkit.errors import ContractViolationError, EvaluationError, PackageError
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._champion import ChampionComparison, Opponent, compare, not_comparable
from nbkit.evaluate._comparison import SliceComparison
from nbkit.evaluate._decide import Decide, DecideAll, Scored
from nbkit.evaluate._draws import Floats
from nbkit.evaluate._golden import GoldenCase
from nbkit.evaluate._golden_check import golden_results
from nbkit.evaluate._judge_cases import judge
from nbkit.evaluate._metrics import Judged, Terms
from nbkit.evaluate._slices import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """How a version stands to the champion: on all cases and on each slice, and what the champion did with them."""

    on_slices: tuple[SliceComparison | None, ...]
    comparison: ChampionComparison | None = None
    theirs: Judged | None = None


def against_champion(
    ours: Judged,
    champion: Scored,
    *,
    version: int,
    cases: CaseSet,
    contract: Contract,
    parts: Sequence[Part],
    golden: Sequence[GoldenCase],
    golden_failed: tuple[str, ...],
    money: Floats,
    terms: Terms,
    rng: np.random.Generator,
    decide: Decide | None,
    decide_all: DecideAll | None,
) -> Against:
    """Score the champion on the same cases, and compare; or say why that cannot be."""
    opponent = _opponent(
        champion,
        cases=cases,
        contract=contract,
        version=version,
        golden=golden,
        money=money,
        decide=decide,
        decide_all=decide_all,
    )
    if isinstance(opponent, ChampionComparison):
        return Against(comparison=opponent, on_slices=(None,) * len(parts))
    comparison, on_slices = compare(
        ours,
        opponent,
        ids=cases.ids,
        case_set=cases.digest,
        slices=[(part.name, part.inside) for part in parts],
        golden_failed=golden_failed,
        limits=contract.evaluate,
        terms=terms,
        rng=rng,
    )
    return Against(comparison=comparison, theirs=opponent.judged, on_slices=on_slices)


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
            judged = judge(champion, cases, money=money, decide_all=decide_all)
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
