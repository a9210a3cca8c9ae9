"""Parts of a result as the plain JSON values that gates read."""

from __future__ import annotations

from collections.abc import Mapping

from nbkit.evaluate._champion import ChampionComparison
from nbkit.evaluate._comparison import Difference
from nbkit.evaluate._delong import Estimate
from nbkit.evaluate._fair_measures import GroupMeasure
from nbkit.evaluate._fairness import GroupResult


def _estimate_facts(estimate: Estimate | None) -> Mapping[str, float | None] | None:
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def champion_facts(champion: ChampionComparison) -> dict[str, object]:
    """Return what the gate ``regression`` reads."""
    return {
        "version": champion.version,
        "package_digest": champion.package_digest,
        "case_set": champion.case_set,
        "auc_difference": _estimate_facts(champion.auc_difference),
        "cost_difference": _estimate_facts(champion.cost_difference),
        "verdict": champion.verdict,
        "reason": champion.reason,
        "newly_wrong": len(champion.newly_wrong),
        "newly_right": len(champion.newly_right),
        "cost_total": _estimate_facts(champion.cost_total),
        "differences": {one.name: _difference_facts(one) for one in champion.differences},
        "mcnemar_p": champion.mcnemar.p_value if champion.mcnemar else None,
        "worst_slice": champion.worst_slice,
        "golden_newly_failed": list(champion.golden_newly_failed),
        "false_block_level": champion.false_block_level,
        "judged": champion.judged,
        "n_that_would_tell": champion.n_that_would_tell,
    }


def _difference_facts(one: Difference) -> dict[str, object]:
    return {"value": one.value, "low": one.low, "high": one.high, "p_worse": one.p_worse, "adjusted": one.adjusted}


def group_facts(group: GroupResult) -> dict[str, object]:
    """Return what the gate ``fairness`` reads of one group."""
    ratio = group.impact_ratio or Estimate(value=0.0)
    measured = group.impact_ratio is not None
    return {
        "attribute": group.attribute,
        "group": group.group,
        "reference": group.reference,
        "n": group.n,
        "approval_rate": group.approval_rate.value if group.n else None,
        "impact_ratio": ratio.value if measured else None,
        "low": ratio.low,
        "high": ratio.high,
        "opportunity_difference": _estimate_facts(group.opportunity),
        "verdict": group.verdict,
        "reason": group.reason,
        "n_that_would_tell": group.n_that_would_tell,
    }


def measure_facts(measure: GroupMeasure) -> dict[str, object]:
    """Return what the gate ``fairness`` reads of one figure that has a limit."""
    return {
        "measure": measure.measure,
        "attribute": measure.attribute,
        "group": measure.group,
        "n": measure.n,
        "value": _estimate_facts(measure.value),
        "limit": measure.limit,
        "verdict": measure.verdict,
        "reason": measure.reason,
        "n_that_would_tell": measure.n_that_would_tell,
    }
