"""The part of the fairness chapter that lies beyond impact ratios: other figures, intersections, proxies."""

from __future__ import annotations

from nbkit.rationale._blocks import Block, Paragraph, Table
from nbkit.rationale._facts import Facts, entries, figure, find, mapping, number, text
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import interval

# More inputs than this tell a reader nothing more; the evaluation report lists all.
_MOST_PROXIES = 5


def fairness_blocks(source: Source) -> tuple[Block, ...]:
    """Return what the evaluation measured besides impact ratios; nothing where it did not."""
    found = mapping(source.result, "disparities")
    measures, proxies = entries(found, "measures"), entries(found, "proxies")
    blocks: list[Block] = []
    if measures:
        blocks.append(_measures(measures))
    groups = [group for crossing in entries(found, "intersections") for group in entries(crossing, "groups")]
    if groups:
        blocks.append(_intersections(groups, judged=bool(find(found, "intersections_judged"))))
    if proxies:
        words = (
            "What the inputs give away: how well they tell a group from its reference group, on rows that the ranking"
            " was not learned from (AUC; 0.5 is guessing). An input that does is a proxy; people say whether it is"
            " needed."
        )
        blocks += [Paragraph(text=words), _proxies(proxies)]
    return (*blocks, *_search(mapping(source.result, "lda"), currency=source.currency))


def _search(document: Facts, *, currency: str) -> tuple[Block, ...]:
    """Tell what the search for less discriminatory alternatives found; that there was none is told too."""
    if not document:
        words = "No search for less discriminatory alternatives belongs to this version (nbkit lda)."
        return (Paragraph(text=words),)
    ledger = mapping(document, "ledger")
    tried = entries(ledger, "entries")
    shown = [one for one in tried if text(one, "verdict") in ("present", "alternative", "perhaps")][: _MOST_PROXIES + 1]
    rows = tuple(
        (
            text(one, "name"),
            text(one, "thresholds"),
            _ratio(one, ledger),
            interval(mapping(one, "cost_change")),
            f"{text(one, 'verdict')}: {text(one, 'reason')}",
        )
        for one in shown
    )
    words = (
        f"Search for less discriminatory alternatives: {text(document, 'summary')}. It saw"
        f" {figure(find(ledger, 'rows'))} rows, none of them a frozen case; the whole ledger is lda.html of the run."
    )
    table = Table(
        columns=("Candidate", "Thresholds", "Impact ratio", f"Cost change per row ({currency})", "Verdict"),
        rows=rows,
        caption="The present model, and what may discriminate less",
        figures=frozenset({2, 3}),
    )
    return (Paragraph(text=words), table) if rows else (Paragraph(text=words),)


def _ratio(entry: Facts, ledger: Facts) -> str:
    for group in entries(entry, "groups"):
        if (text(group, "attribute"), text(group, "group")) == (text(ledger, "attribute"), text(ledger, "group")):
            return interval(mapping(group, "impact_ratio"))
    return "not measured"


def _measures(measures: tuple[Facts, ...]) -> Table:
    rows = tuple(
        (
            f"{text(one, 'attribute')}: {text(one, 'group')}",
            text(one, "measure").replace("_", " "),
            figure(find(one, "n")),
            interval(mapping(one, "value")) if mapping(one, "value") else "not measured",
            figure(number(one, "limit")) if number(one, "limit") is not None else "none",
            text(one, "verdict"),
        )
        for one in measures
    )
    return Table(
        columns=("Group", "Figure", "Cases", "Value", "Limit", "Verdict"),
        rows=rows,
        caption=(
            "Score difference in standard deviations (positive: scored riskier); opportunity: approval among cases that"
            " turned out negative; odds: the larger difference of approval by label; calibration: share that turned out"
            " positive less mean score"
        ),
        figures=frozenset({2, 3, 4}),
    )


def _intersections(groups: list[Facts], *, judged: bool) -> Table:
    rows = tuple(
        (
            text(group, "group"),
            text(group, "reference"),
            figure(find(group, "n")),
            interval(mapping(group, "impact_ratio")) if mapping(group, "impact_ratio") else "not measured",
            text(group, "verdict"),
        )
        for group in groups
    )
    held = "held to the same floor" if judged else "the contract does not hold them to the floor"
    return Table(
        columns=("Intersection", "Against", "Cases", "Impact ratio", "Verdict"),
        rows=rows,
        caption=f"Groups of two attributes together; {held}",
        figures=frozenset({2, 3}),
    )


def _proxies(proxies: tuple[Facts, ...]) -> Table:
    rows = tuple(
        (
            f"{text(one, 'attribute')}: {text(one, 'group')}",
            figure(find(one, "n")),
            interval(mapping(one, "joint")) if mapping(one, "joint") else "too few cases",
            _strongest(one),
        )
        for one in proxies
    )
    return Table(
        columns=("Group", "Cases", "All inputs", "Inputs that alone surely do better than guessing"),
        rows=rows,
        caption="Proxies of protected groups among the inputs",
        figures=frozenset({1, 2}),
    )


def _strongest(proxy: Facts) -> str:
    pairs = find(proxy, "inputs")
    told = []
    for name, area in pairs if isinstance(pairs, list | tuple) else ():
        low = number(area, "low")
        if low is not None and low > 0.5:
            told.append(f"{name} {figure(number(area, 'value'))}")
    more = f" and {len(told) - _MOST_PROXIES} more" if len(told) > _MOST_PROXIES else ""
    return ", ".join(told[:_MOST_PROXIES]) + more or "none"
