"""A plug-in for nbkit: what lenders ask for beside AUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.evaluate import Leak
from nbkit.gates import Gate
from nbkit.records import GateResult, Verdict

__all__ = ["bad_rate_approved", "constant_inputs", "enough_positives"]

_APPROVE = 0


def bad_rate_approved(
    scores: NDArray[np.float64],  # noqa: ARG001  part of what nbkit calls
    labels: NDArray[np.bool_],
    decisions: NDArray[np.int64],
    /,
) -> float:
    """Return the share of approved cases that turned out positive: what a portfolio will lose."""
    approved = decisions == _APPROVE
    return float(labels[approved].mean()) if approved.any() else float("nan")


def constant_inputs(frame: pd.DataFrame, *, contract: Contract) -> Sequence[Leak]:
    """Refuse inputs that have one value in all training rows: the extract went wrong, or nobody needs them."""
    return [
        Leak(
            kind="constant",
            column=column.name,
            auc=None,
            rows=(),
            text=f"{column.name}: has one value in all {len(frame):,} rows",
            refused=True,
        )
        for column in contract.inputs
        if column.name in frame.columns and frame[column.name].nunique(dropna=False) == 1
    ]


def enough_positives(*, metric: str | None, value: float | None) -> Gate:
    """Require so many positive cases that a default rate means something; ``value`` in the contract."""
    name, step = "enough_positives", "freeze more cases: nbkit cases add NAME"

    def judge(facts: Mapping[str, object], /) -> GateResult:
        if metric is not None or value is None:
            reason = f"{name} needs a value and takes no metric"
            return GateResult(gate=name, verdict=Verdict.CANNOT_TELL, reason=reason, next_step="correct contract.yaml")
        cases = facts.get("case_set")
        found = cases.get("positives") if isinstance(cases, Mapping) else None
        if isinstance(found, bool) or not isinstance(found, int):
            reason = "case_set.positives is not among the facts"
            return GateResult(gate=name, verdict=Verdict.CANNOT_TELL, reason=reason, next_step="nbkit evaluate NAME")
        if found < value:
            reason = f"{found:,} positive cases, below the floor {value:g}"
            return GateResult(gate=name, verdict=Verdict.FAIL, reason=reason, next_step=step)
        return GateResult(gate=name, verdict=Verdict.PASS, reason=f"{found:,} positive cases, reaching {value:g}")

    return judge
