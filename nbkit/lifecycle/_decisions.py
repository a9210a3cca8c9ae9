"""Decide frozen cases as the service would: rules before and after the model, and no decline without a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nbkit.contract import Outcome
from nbkit.package import Package
from nbkit.serve import Judge, Rules

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DECLINE = 2
_NUMBERS: Mapping[str, int] = {Outcome.APPROVE: 0, Outcome.REFER: 1, Outcome.DECLINE: _DECLINE}

DecideAll = Callable[[Mapping[str, Sequence[object]], "NDArray[np.float64]"], "NDArray[np.int64]"]


def service_decisions(package: Package, *, rules: Rules) -> DecideAll:
    """Return what decides many scored rows as the service decides each of them.

    Parameters
    ----------
    package : Package
        Verified.
    rules : Rules
        Those of the package.

    Returns
    -------
    callable
        Given the inputs by column and the scores: 0 (approve), 1 (refer) or 2 (decline) for every row.
    """
    judge = Judge(package, rules=rules)

    def decide_all(columns: Mapping[str, Sequence[object]], scores: NDArray[np.float64]) -> NDArray[np.int64]:
        names = [column.name for column in package.contract.inputs]
        cells = [list(columns[name]) for name in names]
        limits = package.thresholds
        found = (scores >= limits.refer).astype("int64") + (scores >= limits.decline)
        # Where no rule could answer, only a decline depends on the row: on whether it has a reason.
        asked = range(len(found)) if rules.speak("before") or rules.speak("after") else (found == _DECLINE).nonzero()[0]
        for number in asked:
            row = {name: _value(column[number]) for name, column in zip(names, cells, strict=True)}
            found[number] = _NUMBERS[_decision(judge, row, float(scores[number]))]
        return found

    return decide_all


def _decision(judge: Judge, row: Mapping[str, float | str | None], score: float) -> str:
    early = judge.before(row)
    if early is not None:
        return early.decision.decision
    weighed = judge.weigh(row, score)
    ruling = weighed.ruling
    declined = (ruling.decision if ruling else weighed.outcome) == Outcome.DECLINE
    if not declined or not weighed.adverse or (ruling is not None and ruling.reason):
        # Only a decline depends on whether there is a reason, and a rule's own is one.
        return judge.conclude(weighed, reasons=((), "not asked")).decision.decision
    return judge.conclude(weighed, reasons=judge.reasons(row, {})).decision.decision


def _value(found: object) -> float | str | None:
    """Return a cell as a checked row has it: text, a number, or nothing."""
    if found is None or isinstance(found, str):
        return found
    number = float(str(found)) if not isinstance(found, int | float) else float(found)
    return None if number != number else number
