"""The chapters on using the model: limits, fallback, monitoring, change, approvals, words."""

from __future__ import annotations

from nbkit.contract import GateSpec
from nbkit.rationale._blocks import Block, Bullets, Pairs, Paragraph, Section, Table
from nbkit.rationale._facts import entries, figure, find, mapping, number, plain, text
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import interval, open_questions

_FALLBACKS = {
    "rules": "the rules of the package decide, if one of them applies",
    "default": "the contract's default is answered",
    "retry": "the caller is asked to try again",
}
_MOST_FAILURES = 8

# The few words that a reader from another field needs; the full list is docs/glossary.md.
_WORDS = {
    "AUC": "chance that a positive case scores higher than a negative one: 0.5 is guessing, 1 is perfect",
    "Background": "what the inputs of a row are compared with when their contributions are computed",
    "Calibration error": "how far the score, read as a probability, is from what happens",
    "Case set": "rows set aside and frozen by digest; the same ones judge every version",
    "Champion": "the version that is in production",
    "Contribution": "what one input adds to the score of one row, compared with not knowing it (a Shapley value)",
    "Drift (PSI)": "how far the distribution of an input has moved from training",
    "Golden case": "a row whose decision must never change silently",
    "Impact ratio": "a group's approval rate divided by the reference group's",
    "Interval": "where a figure lies with the stated confidence; a wide one says that the cases are few",
    "Log-odds": "the logarithm of probability over counter-probability; contributions add up on this scale",
    "Selective labels": "labels that exist only for rows that an earlier decision let through",
    "Slice": "a part of the cases, by an input or a protected attribute",
}


def limits(source: Source) -> Section:
    """Say where the model ends, and where it is known to fail."""
    ranges = [column.name for column in source.contract.inputs if column.minimum is None and column.maximum is None]
    unbounded = [name for name in ranges if source.contract.input(name).type in ("number", "integer")]
    words = [
        "A row that breaks the contract (a value out of range, an unknown category, a missing input that may not be"
        " missing) is refused with every problem named, and never scored.",
        "A declined row whose reasons cannot be computed goes to a person instead.",
    ]
    if unbounded:
        words.append(f"No range is declared for {', '.join(unbounded)}: the model answers there whatever the value.")
    if open_questions(source):
        words.append("The open questions at the beginning of this document are limits too.")
    failures = _failures(source)
    known = (
        (Paragraph(text="Known failures, as measured on the frozen cases:"), Bullets(items=failures))
        if failures
        else (Paragraph(text="No known failure: on the frozen cases no golden case fails and no slice ranks worse."),)
    )
    blocks: tuple[Block, ...] = (*source.write("limit"), Bullets(items=tuple(words)), *known)
    return Section(name="limits", title="Limits and known failures", blocks=blocks)


def _failures(source: Source) -> tuple[str, ...]:
    found = [
        f"Golden case {text(case, 'id')} fails: {text(case, 'problem')}."
        for case in entries(source.facts, "golden.failed")
    ]
    found += [
        f"{text(part, 'column')} '{text(part, 'level')}' ({figure(find(part, 'n'))} cases):"
        f" {text(part, 'note')}, AUC {interval(mapping(part, 'auc'))}."
        for part in entries(source.result, "slices")
        if text(part, "note").startswith("ranks worse")
    ]
    found += [
        f"{_conditions(part)} ({figure(find(part, 'n'))} cases): {text(part, 'figure').replace('_', ' ')}"
        f" {interval(part)}, {figure(find(part, 'rest'))} elsewhere; found by search, sure after correction."
        for part in entries(source.result, "search.found")
        if find(part, "sure") is True
    ]
    wrong = number(source.facts, "champion.newly_wrong")
    if wrong:
        found.append(
            f"{figure(int(wrong))} cases are decided wrongly that version {text(source.facts, 'champion.version')}"
            " decides right; the evaluation report lists them."
        )
    more = len(found) - _MOST_FAILURES
    return (*found[:_MOST_FAILURES], *((f"{more} more are in the evaluation report.",) if more > 0 else ()))


def _conditions(part: object) -> str:
    found = find(part, "conditions")
    return " and ".join(map(str, found)) if isinstance(found, list | tuple) else str(found)


def fallback(source: Source) -> Section:
    """Say what happens when the model cannot answer."""
    serve = source.contract.serve
    steps = tuple(
        f"{_FALLBACKS[step]}{f' ({serve.default.value})' if step == 'default' else ''}" for step in serve.fallback
    )
    words = (
        f"A row that is not answered in {plain(serve.deadline_ms)} ms, or whose scoring fails, is answered without the"
        f" model: {'; then '.join(steps)}. The answer and its record say so."
    )
    return Section(name="fallback", title="Fallback", blocks=(Paragraph(text=words),))


def monitoring(source: Source) -> Section:
    """Say what is watched, when the model is made again, and by whom."""
    contract = source.contract
    delay = contract.target.label_delay_days
    pairs = {
        "Inputs and scores": f"against the training profile; alarm above PSI {plain(contract.monitor.psi_ceiling)}",
        "Performance": f"measured on labels older than {delay} days" if delay else "measured as labels arrive",
        "Alerts go to": contract.owner.primary if contract.monitor.alert == "owner" else contract.monitor.alert,
        "Made again": f"{contract.retrain.cadence}, by {contract.retrain.notebook}; deputy {contract.owner.deputy}",
        "Evidence expires": f"{contract.rollout.evidence_valid_days} days after it is signed",
        "Decisions are kept": f"{plain(contract.audit.retention_years)} years",
    }
    return Section(name="monitoring", title="Monitoring plan", blocks=(Pairs(items=pairs),))


def change(source: Source) -> Section:
    """Compare with the champion on the same cases."""
    champion = mapping(source.facts, "champion")
    if not champion:
        words = "No version is in production yet, so there is nothing to compare with."
        return Section(name="change", title="Change against the champion", blocks=(Paragraph(text=words),))
    reason = text(champion, "reason")
    words = f"Against version {text(champion, 'version')}, on the same cases: {text(champion, 'verdict')}"
    rows = (
        ("AUC, this version less the champion", interval(mapping(champion, "auc_difference"))),
        (f"Cost per case ({source.currency})", interval(mapping(champion, "cost_difference"))),
        ("Cases newly wrong", figure(find(champion, "newly_wrong"))),
        ("Cases newly right", figure(find(champion, "newly_right"))),
    )
    blocks: tuple[Block, ...] = (
        Paragraph(text=f"{words}; {reason}." if reason else f"{words}."),
        Table(
            columns=("Difference", "Value"),
            rows=rows,
            caption=f"With {source.confidence} intervals; below 0 is cheaper",
            figures=frozenset({1}),
        ),
    )
    return Section(name="change", title="Change against the champion", blocks=blocks)


def approvals(source: Source) -> Section:
    """Say who has to approve, and where to see who did."""
    contract = source.contract
    people = "One person" if contract.approvals_needed == 1 else f"{contract.approvals_needed} people"
    words = (
        f"This document is part of what approvers sign, so it cannot hold their names. {people} other than the"
        " submitter must approve each move; a signature counts only for the exact package, contract, case set and"
        " documents that it names by digest."
    )
    pairs = {
        "Who approved": f"nbkit gate {contract.name}@VERSION --to STAGE shows what stands in the way of a move",
        "Signed evidence": "on the version's page in MLflow: the tags nbkit.evidence.STAGE, and evidence/ of its run",
        "Proof": "whoever loads a version verifies the signatures again; the registry is not trusted",
    }
    gates = tuple(
        (stage.value, ", ".join(_gate(gate) for gate in contract.gates.get(stage, ())))
        for stage in contract.rollout.path
    )
    table = Table(columns=("Before", "Gates that must pass"), rows=gates)
    return Section(name="approvals", title="Approvals", blocks=(Paragraph(text=words), table, Pairs(items=pairs)))


def _gate(gate: GateSpec) -> str:
    limit = "" if gate.value is None else f" {plain(gate.value)}"
    return f"{gate.gate.replace('_', ' ')}{f' {gate.metric}' if gate.metric else ''}{limit}"


def words(source: Source) -> Section:
    """Explain the few words that a reader from another field needs."""
    told = dict(_WORDS)
    if not number(source.facts, "golden.total"):
        del told["Golden case"]
    return Section(name="words", title="Glossary", blocks=(Pairs(items=told),))
