"""The chapters on what was measured: performance, thresholds, reasons, fairness."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from nbkit.contract import Costs
from nbkit.rationale._blocks import Block, Figure, Paragraph, Section, Table
from nbkit.rationale._facts import Facts, entries, figure, find, mapping, number, percent, plain, text
from nbkit.rationale._fair_sections import fairness_blocks
from nbkit.rationale._figures import cost_figure
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import groups, interval

METRICS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "gini": "Gini",
    "ks": "KS",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "ece": "Calibration error (ECE)",
    "ece_debiased": "Calibration error less chance",
    "recall_at_fpr": "Recall at a fixed false positive rate",
    "precision_at_capacity": "Precision at review capacity",
    "expected_cost": "Expected cost per case",
    "approval_rate": "Approved",
    "refer_rate": "Referred to a person",
    "decline_rate": "Declined",
}
_SHARES = ("approval_rate", "refer_rate", "decline_rate")
_MOST_SLICES = 30
_MOST_FOUND = 8


def performance(source: Source) -> Section:
    """Show every metric with its interval, the decisions by label, and the slices."""
    metrics = mapping(source.facts, "metrics")
    order = [*(name for name in METRICS if name in metrics), *(name for name in metrics if name not in METRICS)]
    rows = tuple(
        (METRICS.get(name, name.replace("_", " ")), *_estimate(mapping(metrics, name), share=name in _SHARES))
        for name in order
    )
    blocks: list[Block] = [
        Table(
            columns=("Metric", "Value", "Low", "High"),
            rows=rows,
            caption=f"On the frozen cases, with {source.confidence} intervals",
            figures=frozenset({1, 2, 3}),
        )
    ]
    confusion = entries(source.result, "confusion")
    if confusion:
        blocks.append(
            Table(
                columns=("Decision", "Turned out positive", "Turned out negative"),
                rows=tuple(
                    (text(row, "decision"), figure(find(row, "positive")), figure(find(row, "negative")))
                    for row in confusion
                ),
                caption=f"Decisions by what turned out true (positive: {source.contract.target.meaning})",
                figures=frozenset({1, 2}),
            )
        )
    slices = entries(source.result, "slices")
    if slices:
        blocks.append(_slices(slices))
    blocks += _searched(source)
    return Section(name="performance", title="Performance", blocks=tuple(blocks))


def _amount(base: Decimal, per: Mapping[str, Decimal]) -> str:
    return " + ".join([figure(float(base)), *(f"{factor.normalize():f} × {name}" for name, factor in per.items())])


def _added(costs: Costs) -> str:
    return f", and what the function {costs.function} adds" if costs.function else ""


def _firmness(source: Source, chosen: Mapping[str, object]) -> list[Block]:
    """Say what an amount that is 20 % off would cost, and what the fairness floor costs."""
    moved, sentences = mapping(chosen, "plus_minus_20"), []
    currency = source.contract.decision.costs.currency
    regrets = [(float(str(find(then, "regret"))), name) for name, then in moved.items() if isinstance(then, Mapping)]
    if regrets:
        worst, name = max(regrets)
        sentences.append(
            f"If one amount were 20 % off, these thresholds would cost at most {worst:,.2f} {currency} per case more"
            f" than the best ones then ({name.replace('.', ', if ')})."
        )
    limited = find(chosen, "limited_by")
    if isinstance(limited, list) and limited:
        cost = float(str(find(chosen, "cost_of_limits")))
        sentences.append(
            f"The floor of the impact ratio of {', '.join(map(str, limited))} excludes a cheaper choice; it costs"
            f" {cost:,.2f} {currency} per case."
        )
    return [Paragraph(text=" ".join(sentences))] if sentences else []


def threshold(source: Source) -> Section:
    """Say where the thresholds lie, how they were chosen, and what errors cost."""
    thresholds, costs = source.package.thresholds, source.contract.decision.costs
    chosen = mapping(source.package.manifest, "threshold_facts")
    method = text(chosen, "method") or "not recorded"
    capacity = percent(source.contract.decision.review_capacity, digits=0)
    words = (
        f"Decline from {figure(thresholds.decline)}, refer from {figure(thresholds.refer)}: {method}. At most"
        f" {capacity} of decisions can be reviewed by people."
    )
    rows = tuple(
        (name, _amount(row.positive, row.positive_per), _amount(row.negative, row.negative_per))
        for name, row in (("approve", costs.approve), ("refer", costs.refer), ("decline", costs.decline))
    )
    table = Table(
        columns=("Decision", "if positive", "if negative"),
        rows=rows,
        caption=f"The cost matrix: {costs.currency} lost by one decision, by what turned out true{_added(costs)}",
        figures=frozenset({1, 2}),
    )
    blocks: list[Block] = [*source.write("threshold"), Paragraph(text=words), table, *_firmness(source, chosen)]
    curve = find(chosen, "curve")
    points = [(float(x), float(y)) for x, y in curve] if isinstance(curve, list) else []
    if len(points) > 2:
        picture = cost_figure(points, marks={"decline": thresholds.decline}, currency=costs.currency)
        caption = "The lowest cost per validation row that each decline threshold allows, with the chosen one marked"
        blocks.append(Figure(pictures=(picture,), caption=caption))
    blocks += _sensitivity(source, mapping(chosen, "plus_minus_20"))
    return Section(name="threshold", title="Thresholds and costs", blocks=tuple(blocks))


def reason_codes(source: Source) -> Section:
    """List what a person who is declined may be told."""
    if source.book is None:
        gap = Paragraph(text="No reasons.yaml is packaged. Rows that the model would decline go to a person.")
        return Section(name="reasons", title="Reasons given for a decision", blocks=(gap,))
    words = (
        "A declined applicant is told up to four reasons: the codes whose inputs together pushed the score up most, and"
        " never one that pushed it down, speaks of a category that the applicant does not have, or is not true of the"
        " value: where the contract declares a direction, a value on the safe side of the middle is no reason. Where"
        " fewer are true, fewer are told, and a person looks where none is. The reason of a rule comes first."
    )
    rows = tuple(
        (
            entry.code,
            f"{entry.text}{f' (if missing: {entry.missing_text})' if entry.missing_text else ''}"
            + "".join(f" (if {value}: {words.find(*source.book.first)})" for value, words in entry.special.items()),
            ", ".join(entry.inputs) or "rules only",
            entry.direction,
        )
        for entry in (*source.book.entries, *source.book.policies)
    )
    caption = "Value: whether the text is only said of a high, or only of a low value"
    table = Table(columns=("Code", "Text", "Inputs", "Value"), rows=rows, caption=caption)
    return Section(name="reasons", title="Reasons given for a decision", blocks=(Paragraph(text=words), table))


def fairness(source: Source) -> Section:
    """Compare approvals by protected group, with what the cases cannot tell."""
    found = groups(source)
    if not found:
        words = "The contract names no protected attribute, so no group was compared."
        return Section(name="fairness", title="Fairness by group", blocks=(Paragraph(text=words),))
    floor = plain(number(source.facts, "fairness.floor") or source.contract.fairness.impact_ratio_floor)
    words = (
        "Impact ratio: a group's approval rate over the reference group's. A group passes when its whole"
        f" {source.confidence} interval reaches the contract's floor of {floor}; the usual rule of thumb is 0.8 (four"
        " fifths). 'Cannot tell' is a verdict: the cases are too few, and the note says how many would do."
    )
    rows = tuple(
        (
            f"{text(group, 'attribute')}: {text(group, 'group')}",
            text(group, "reference"),
            figure(find(group, "n")),
            interval({"value": find(group, "impact_ratio"), "low": find(group, "low"), "high": find(group, "high")}),
            interval(mapping(group, "opportunity_difference")),
            text(group, "verdict"),
        )
        for group in found
    )
    table = Table(
        columns=("Group", "Against", "Cases", "Impact ratio", "Equal opportunity", "Verdict"),
        rows=rows,
        caption="Equal opportunity: difference of approval rates among cases that turned out negative",
        figures=frozenset({2, 3, 4}),
    )
    blocks = (Paragraph(text=words), table, *fairness_blocks(source))
    return Section(name="fairness", title="Fairness by group", blocks=blocks)


def _slices(slices: tuple[Facts, ...]) -> Table:
    rows = tuple(
        (
            f"{text(part, 'column')}: {text(part, 'level')}",
            figure(find(part, "n")),
            figure(find(part, "positives")),
            interval(mapping(part, "auc")) if mapping(part, "auc") else "not measured",
            interval(mapping(part, "cost")),
        )
        for part in slices[:_MOST_SLICES]
    )
    more = f"; {len(slices) - _MOST_SLICES} more are in the evaluation report" if len(slices) > _MOST_SLICES else ""
    return Table(
        columns=("Slice", "Cases", "Positive", "AUC", "Cost per case"),
        rows=rows,
        caption=f"Parts of the cases{more}",
        figures=frozenset({1, 2, 3, 4}),
    )


def _searched(source: Source) -> list[Block]:
    """Show the worst slices that were looked for beside the declared ones."""
    search, found = mapping(source.result, "search"), entries(source.result, "search.found")
    if not search:
        return []
    looked = (
        f"Beside the declared slices, {figure(find(search, 'candidates'))} others of at least"
        f" {figure(find(search, 'minimum'))} cases were searched."
    )
    if not found:
        return [Paragraph(text=f"{looked} None is worse than the rest.")]
    rows = tuple(
        (
            " and ".join(map(str, conditions))
            if isinstance(conditions := find(part, "conditions"), list | tuple)
            else "",
            text(part, "figure").replace("_", " "),
            figure(find(part, "n")),
            interval(part),
            figure(find(part, "rest")),
            "sure" if find(part, "sure") is True else "may be chance",
        )
        for part in found[:_MOST_FOUND]
    )
    table = Table(
        columns=("Found slice", "Figure", "Cases", "There", "Elsewhere", "After correction"),
        rows=rows,
        caption="The worst slices found; with so many tried, only those that hold after correction are findings",
        figures=frozenset({2, 3, 4}),
    )
    return [Paragraph(text=looked), table]


def _sensitivity(source: Source, shifted: Facts) -> list[Block]:
    """Show which thresholds other costs would have chosen, where they would have."""
    thresholds = source.package.thresholds
    rows = tuple(
        (name, text(other, "refer"), text(other, "decline"), text(other, "regret"))
        for name, other in shifted.items()
        if isinstance(other, Mapping)
    )
    if not rows:
        return []
    moved = tuple(row for row in rows if row[1:3] != (repr(thresholds.refer), repr(thresholds.decline)))
    if not moved:
        words = "No entry of the cost matrix that is 20 % lower or higher would have chosen other thresholds."
        return [Paragraph(text=words)]
    return [
        Table(
            columns=("If this cost were", "Refer from", "Decline from", f"Cost of staying ({source.currency} a row)"),
            rows=moved,
            caption="Thresholds that other costs would have chosen, and what the present ones would cost more then",
            figures=frozenset({1, 2, 3}),
        )
    ]


def _estimate(estimate: Facts, *, share: bool) -> tuple[str, ...]:
    values = [number(estimate, part) for part in ("value", "low", "high")]
    if share:
        return tuple("" if value is None else percent(value) for value in values)
    return tuple("" if value is None else figure(value) for value in values)
