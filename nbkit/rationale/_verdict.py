"""What speaks against a version, what nobody can tell yet, and the one line that says so."""

from __future__ import annotations

from nbkit.contract import GateSpec
from nbkit.gates import run_gates
from nbkit.rationale._facts import Facts, entries, figure, find, mapping, number, text
from nbkit.rationale._source import Source
from nbkit.records import GateResult

# Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4 (D): the usual first look at adverse impact.
FOUR_FIFTHS = 0.8


def objections(source: Source) -> tuple[str, ...]:
    """Return what speaks against the version, as sentences."""
    found = [f"The reason '{kind}' is required and nobody has written it." for kind in source.missing]
    found += [f"A written reason no longer agrees with the figures: {problem}." for problem in source.stale]
    found += [f"A limit is missed: {result.reason}." for result in _limits(source) if not result.passed]
    failed = entries(source.facts, "golden.failed")
    found += [f"Golden case {text(case, 'id')} failed: {text(case, 'problem')}." for case in failed]
    if text(source.facts, "champion.verdict") == "worse":
        found.append(f"Worse than version {text(source.facts, 'champion.version')}: {_champion_reason(source)}.")
    found += [f"{_group(group)}." for group in groups(source) if text(group, "verdict") == "fail"]
    return tuple(found)


def open_questions(source: Source) -> tuple[str, ...]:
    """Return what the evidence cannot tell, as sentences."""
    found = [f"{_group(group)}." for group in groups(source) if text(group, "verdict") == "cannot tell"]
    found += [f"{_below_usual(group)}." for group in groups(source) if _passes_below_four_fifths(group)]
    if text(source.facts, "champion.verdict") == "cannot tell":
        found.append(f"Against version {text(source.facts, 'champion.version')}: {_champion_reason(source)}.")
    if not number(source.facts, "golden.total"):
        found.append("No golden case exists: nothing says which decisions must never change.")
    if source.book is None:
        found.append("No reasons.yaml is packaged: declined rows get no reasons and go to a person.")
    if not source.package.compiled:
        why = text(source.package.manifest, "not_compiled_because")
        found.append(f"The fitted model itself is served, in batches: {why}.")
    if source.explanation.failed_rows:
        found.append(
            f"shap's explanation did not add up to the model's answer in {source.explanation.failed_rows} of"
            f" {source.explanation.rows} rows; nbkit's exact one took its place there."
        )
    return tuple(found)


def verdict(source: Source) -> str:
    """Return the verdict and the main figures in one line without markup."""
    against, unknown = len(objections(source)), len(open_questions(source))
    head = f"Not ready: {against} objection{'s' * (against != 1)}" if against else "No objection"
    if unknown:
        head += f", {unknown} open question{'s' * (unknown != 1)}"
    return f"{head}. {figures(source)}"


def figures(source: Source) -> str:
    """Return the main figures as one sentence."""
    facts = source.facts
    cases = number(facts, "case_set.cases")
    judged = "the cases" if cases is None else f"{figure(int(cases))} frozen cases"
    parts = [f"AUC {interval(mapping(facts, 'metrics.auc'))}"]
    if mapping(facts, "metrics.expected_cost"):
        parts.append(f"cost per case {interval(mapping(facts, 'metrics.expected_cost'))} {source.currency}")
    version = text(facts, "champion.version")
    against = f"{text(facts, 'champion.verdict')} against version {version}" if version else "no champion yet"
    return f"{', '.join(parts)} on {judged}; {against}."


def interval(estimate: Facts) -> str:
    """Return a value with its interval, as far as there is one."""
    low, high = number(estimate, "low"), number(estimate, "high")
    value = figure(find(estimate, "value"))
    return value if low is None or high is None else f"{value} ({figure(low)} to {figure(high)})"


def groups(source: Source) -> tuple[Facts, ...]:
    """Return the protected groups that are compared with a reference."""
    return entries(source.facts, "fairness.groups")


def _limits(source: Source) -> tuple[GateResult, ...]:
    """Run the gates that set a limit to a metric, whichever stage they belong to, each once."""
    listed = [
        gate for gates in source.contract.gates.values() for gate in gates if gate.gate in ("at_least", "at_most")
    ]
    distinct: list[GateSpec] = list(dict.fromkeys(listed))
    return run_gates(distinct, facts=source.facts) if distinct else ()


def _champion_reason(source: Source) -> str:
    return text(source.facts, "champion.reason") or "the figures are in the chapter on change"


def _group(group: Facts) -> str:
    name = f"Approval of {text(group, 'attribute')} '{text(group, 'group')}' against '{text(group, 'reference')}'"
    needed = number(group, "n_that_would_tell")
    told = f"; about {figure(int(needed))} cases would tell" if needed else ""
    ratio = number(group, "impact_ratio")
    why = text(group, "reason") or (f"impact ratio {figure(ratio)}" if ratio is not None else "not measured")
    return f"{name}: {why}{told}"


def _passes_below_four_fifths(group: Facts) -> bool:
    ratio = number(group, "impact_ratio")
    return text(group, "verdict") == "pass" and ratio is not None and ratio < FOUR_FIFTHS


def _below_usual(group: Facts) -> str:
    return (
        f"Approval of {text(group, 'attribute')} '{text(group, 'group')}' is {figure(number(group, 'impact_ratio'))} of"
        f" '{text(group, 'reference')}': above this contract's floor, below the usual four fifths"
    )
