"""The chapters on using the model: limits, fallback, monitoring, change, reproduction, words."""

from __future__ import annotations

from nbkit.rationale._blocks import Block, Bullets, Pairs, Paragraph, Section, Table
from nbkit.rationale._facts import figure, find, mapping, number, plain, text
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import interval, open_questions

_FALLBACKS = {
    "rules": "the rules of the package decide, if one of them applies",
    "default": "the contract's default is answered",
    "retry": "the caller is asked to try again",
}

# The few words that a reader from another field needs; the full list is docs/glossary.md.
_WORDS = {
    "AUC": "chance that a positive case scores higher than a negative one: 0.5 is guessing, 1 is perfect",
    "Calibration error": "how far the score, read as a probability, is from what happens",
    "Case set": "rows set aside and frozen by digest; the same ones judge every version",
    "Champion": "the version that is in production",
    "Contribution": "what one input adds to the score of one row, compared with not knowing it (a Shapley value)",
    "Drift (PSI)": "how far the distribution of an input has moved from training",
    "Golden case": "a row whose decision must never change silently",
    "Impact ratio": "a group's approval rate divided by the reference group's",
    "Log-odds": "the logarithm of probability over counter-probability; contributions add up on this scale",
    "Slice": "a part of the cases, by an input or a protected attribute",
}


def limits(source: Source) -> Section:
    """Say where the model ends, and what happens when it cannot answer."""
    serve = source.contract.serve
    ranges = [column.name for column in source.contract.inputs if column.minimum is None and column.maximum is None]
    unbounded = [name for name in ranges if source.contract.input(name).type in ("number", "integer")]
    words = [
        "A row that breaks the contract (a value out of range, an unknown category, a missing input that may not be"
        " missing) is refused with every problem named, and never scored.",
        f"A row that is not answered in {plain(serve.deadline_ms)} ms is answered without the model: "
        + "; then ".join(
            f"{_FALLBACKS[step]}{f' ({serve.default.value})' if step == 'default' else ''}" for step in serve.fallback
        )
        + ".",
        "A declined row whose reasons cannot be computed goes to a person instead.",
    ]
    if unbounded:
        words.append(f"No range is declared for {', '.join(unbounded)}: the model answers there whatever the value.")
    if open_questions(source):
        words.append("The open questions at the beginning of this document are limits too.")
    blocks: tuple[Block, ...] = (*source.write("limit"), Bullets(items=tuple(words)))
    return Section(name="limits", title="Limits and fallback", blocks=blocks)


def monitoring(source: Source) -> Section:
    """Say what is watched, when the model is made again, and by whom."""
    contract = source.contract
    delay = contract.target.label_delay_days
    pairs = {
        "Inputs and scores": f"against the training profile; alarm above PSI {plain(contract.monitor.psi_ceiling)}",
        "Performance": f"measured on labels older than {delay} days" if delay else "measured as labels arrive",
        "Alerts go to": contract.owner.primary if contract.monitor.alert == "owner" else contract.monitor.alert,
        "Made again": f"{contract.retrain.cadence}, by {contract.retrain.notebook}; deputy {contract.owner.deputy}",
        "Way to production": " → ".join(stage.value for stage in contract.rollout.path),
        "Evidence expires": f"{contract.rollout.evidence_valid_days} days after it is signed",
        "Decisions are kept": f"{plain(contract.audit.retention_years)} years",
    }
    return Section(name="monitoring", title="Monitoring and ownership", blocks=(Pairs(items=pairs),))


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


def reproduction(source: Source) -> Section:
    """Say what to compare when the model is made again."""
    manifest = source.package.manifest
    pins = source.package.read("requirements.txt").decode().split()
    pairs = {
        "Package": source.package.digest,
        "Contract": source.contract.digest,
        "Case set": text(source.facts, "case_set.digest"),
        "Training rows": text(manifest, "data.digest"),
        "Plan": text(manifest, "model_digest.plan") or "none",
        "Training scores": text(manifest, "model_digest.scores"),
        "Explainer background": source.explanation.background_digest,
        "Commit": text(manifest, "git_commit") or "not recorded",
        "Seeds": ", ".join(f"{name} {value}" for name, value in mapping(manifest, "seeds").items()) or "none",
        "Python": f"{text(source.environment, 'python')} on {text(source.environment, 'system')}",
        "Libraries": ", ".join(pin.replace("==", " ") for pin in pins),
    }
    words = (
        "The same rows, commit, seeds and libraries give the same plan and the same training scores, digest for digest."
        " The full list of libraries is in the package (environment.json)."
    )
    blocks = (Pairs(items={name: value for name, value in pairs.items() if value}), Paragraph(text=words))
    return Section(name="reproduction", title="Reproduction", blocks=blocks)


def words(source: Source) -> Section:
    """Explain the few words that a reader from another field needs."""
    told = dict(_WORDS)
    if not number(source.facts, "golden.total"):
        del told["Golden case"]
    return Section(name="words", title="Words", blocks=(Pairs(items=told),))
