"""Try every behaviour on the rows of the case set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nbkit.contract import RowCheck
from nbkit.errors import CaseSetError, ContractViolationError
from nbkit.evaluate._behaviours import Behaviour, Plain
from nbkit.evaluate._cases import CaseSet
from nbkit.evaluate._decide import DECISIONS, Scored, decisions_of

_SHOWN = 10
Row = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourExample:
    """One row that behaved otherwise.

    Parameters
    ----------
    case : str
        Its id.
    changed : str
        What was changed, with the value before and after.
    before, after : float
        The scores.
    decision_before, decision_after : str
        What follows from them.
    """

    case: str
    changed: str
    before: float
    after: float
    decision_before: str
    decision_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourResult:
    """How one behaviour held on the rows of the case set.

    Parameters
    ----------
    id, why, kind : str
        The behaviour's.
    expected : str
        What must hold, in words.
    tried, skipped, broken : int
        Changed rows that were scored; rows that could not be changed so within the contract, or were so already; tried
        rows that behaved otherwise.
    worst : float
        Largest move of the score the wrong way.
    examples : tuple of BehaviourExample
        The worst of the rows that behaved otherwise.
    problem : str
        How it does not hold; empty when it does, or when nothing could be tried.
    """

    id: str
    why: str
    kind: str
    expected: str
    tried: int
    skipped: int
    broken: int
    worst: float
    examples: tuple[BehaviourExample, ...]
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """Changed rows of one behaviour, beside what they were."""

    ids: list[str]
    changed: list[str]
    before: list[Row]
    after: list[Row]
    skipped: int


def behaviour_results(
    package: Scored, behaviours: Sequence[Behaviour], *, cases: CaseSet
) -> tuple[BehaviourResult, ...]:
    """Try every behaviour.

    Raises
    ------
    CaseSetError
        One names a column that is not an input of the contract; all such problems at once.
    """
    problems = [problem for one in behaviours for problem in one.problems_with(package.contract)]
    if problems:
        raise CaseSetError("behaviours", problems=problems, next_step="correct these files in cases/behaviours")
    check = RowCheck(package.contract)
    return tuple(_result(package, one, tried=_try(one, cases=cases, check=check)) for one in behaviours)


def _try(behaviour: Behaviour, *, cases: CaseSet, check: RowCheck) -> _Tried:
    rows = cases.frame[list(cases.inputs)]
    columns = {name: rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows.columns}
    fitting = [row for row in range(len(cases)) if _is_where(behaviour, columns, row)]
    step = max(1, math.ceil(len(fitting) / behaviour.most_rows))
    ids: list[str] = []
    changed: list[str] = []
    pairs: list[tuple[Row, Row]] = []
    skipped = 0
    for row in fitting[::step]:
        before = {name: values[row] for name, values in columns.items()}
        for variant in behaviour.variants:
            try:
                old = check.check(before)
                new = check.check(before | {name: _changed(before[name], *op) for name, op in variant.items()})
            except ContractViolationError:
                skipped += 1
                continue
            if new == old:
                skipped += 1
                continue
            ids.append(str(cases.ids[row]))
            changed.append(", ".join(f"{name}: {old[name]} to {new[name]}" for name in variant))
            pairs.append((old, new))
    return _Tried(ids=ids, changed=changed, before=[b for b, _ in pairs], after=[a for _, a in pairs], skipped=skipped)


def _is_where(behaviour: Behaviour, columns: Mapping[str, list[object]], row: int) -> bool:
    for name, wanted in behaviour.where.items():
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if columns[name][row] not in allowed:
            return False
    return True


def _changed(value: object, verb: str, by: Plain) -> object:
    if verb == "set":
        return by
    # A missing value stays missing: there is nothing to add to.
    if not isinstance(value, int | float) or not isinstance(by, int | float):
        return value
    return value + by if verb == "add" else value * by


def _result(package: Scored, behaviour: Behaviour, *, tried: _Tried) -> BehaviourResult:
    count = len(tried.ids)
    before, after = (_scores(package, rows) for rows in (tried.before, tried.after))
    decided = [decisions_of(scores, thresholds=package.thresholds) for scores in (before, after)]
    moved = after - before
    wrong_way = {"same_score": np.abs(moved), "same_decision": np.abs(moved), "not_lower": -moved, "not_higher": moved}
    wrong = wrong_way[behaviour.expect]
    broken = decided[0] != decided[1] if behaviour.expect == "same_decision" else wrong > behaviour.tolerance
    worst = np.flatnonzero(broken)[np.argsort(-wrong[broken], kind="stable")]
    return BehaviourResult(
        id=behaviour.id,
        why=behaviour.why,
        kind=behaviour.kind,
        expected=behaviour.sentence,
        tried=count,
        skipped=tried.skipped,
        broken=int(broken.sum()),
        worst=float(wrong[broken].max()) if broken.any() else 0.0,
        examples=tuple(
            BehaviourExample(
                case=tried.ids[row],
                changed=tried.changed[row],
                before=float(before[row]),
                after=float(after[row]),
                decision_before=DECISIONS[int(decided[0][row])],
                decision_after=DECISIONS[int(decided[1][row])],
            )
            for row in worst[:_SHOWN].tolist()
        ),
        problem=_problem(behaviour, broken=int(broken.sum()), tried=count, worst=float(wrong.max(initial=0.0))),
    )


def _scores(package: Scored, rows: Sequence[Row]) -> NDArray[np.float64]:
    if not rows:
        return np.zeros(0)
    names = [column.name for column in package.contract.inputs]
    columns = {name: [row[name] for row in rows] for name in names}
    return np.asarray(package.score_frame(cast("Mapping[str, Sequence[object]]", columns)), dtype=np.float64)


def _problem(behaviour: Behaviour, *, broken: int, tried: int, worst: float) -> str:
    if tried == 0 or broken <= behaviour.allowed_share * tried:
        return ""
    allowed = f" (allowed: {behaviour.allowed_share:.1%})" if behaviour.allowed_share else ""
    return f"{broken:,} of {tried:,} changed rows behave otherwise{allowed}, the score by up to {worst:.4f}"
