"""The chapters on what the model is: purpose, owner, features, architecture."""

from __future__ import annotations

from collections.abc import Mapping

from nbkit.contract import Input
from nbkit.rationale._blocks import Block, Pairs, Paragraph, Section, Table
from nbkit.rationale._facts import Facts, figure, mapping, number, percent, plain, size, text
from nbkit.rationale._source import Source

_DIRECTION = {"increasing": "rises", "decreasing": "falls", None: "free"}
# Below this rank correlation value and contribution do not go together in one way.
_NO_TREND = 0.1
# Below this share of the largest importance an input's trend says nothing worth a word.
_FAINT = 0.02


def purpose(source: Source) -> Section:
    """Say what the score is, what is decided with it, where, and who answers for it."""
    contract, thresholds = source.contract, source.package.thresholds
    decisions = (
        f"The score is the probability that {contract.target.meaning}. From {figure(thresholds.decline)} the answer is"
        f" decline, from {figure(thresholds.refer)} a person looks, below it is approve."
    )
    pairs = {"Jurisdictions": ", ".join(contract.jurisdictions), "One row is": f"one {contract.entity}"}
    blocks: tuple[Block, ...] = (Paragraph(text=contract.purpose), Paragraph(text=decisions), Pairs(items=pairs))
    return Section(name="purpose", title="Purpose and scope", blocks=blocks)


def ownership(source: Source) -> Section:
    """Say who answers for the model, and who does when that person is gone."""
    owner, contract = source.contract.owner, source.contract
    pairs = {
        "Owner": f"{owner.primary}, {owner.team}",
        "Deputy": f"{owner.deputy}, who answers when {owner.primary} is gone",
        "Impact": f"{contract.impact}: {_approvers(contract.approvals_needed)} every move, never the submitter",
        "Alerts go to": owner.primary if contract.monitor.alert == "owner" else contract.monitor.alert,
        "Way to production": " → ".join(stage.value for stage in contract.rollout.path),
    }
    return Section(name="ownership", title="Owner and deputy", blocks=(Pairs(items=pairs),))


def features(source: Source) -> Section:
    """List every input with its meaning, its gaps, its declared direction and its measured effect."""
    importance = source.explanation.importance
    inputs = sorted(source.contract.inputs, key=lambda column: -importance.get(column.name, 0.0))
    rows = tuple(
        (
            column.name,
            f"{column.meaning or 'not described'}{f' ({column.unit})' if column.unit else ''}",
            _missing(source, column),
            _DIRECTION[column.direction] if column.type != "category" else "by level",
            _effect(source, column),
        )
        for column in inputs
    )
    table = Table(
        columns=("Input", "Meaning", "Missing", "Declared", "Measured effect"),
        rows=rows,
        caption=(
            "Most important first. Missing: share of training rows. Declared: how the score must move when the input"
            " rises. Measured: how it does move, over the explained rows."
        ),
        figures=frozenset({2}),
    )
    outside = ", ".join(attribute.name for attribute in source.contract.protected)
    never = f"Never inputs, and used only to measure fairness: {outside}." if outside else "No attribute is protected."
    blocks: tuple[Block, ...] = (
        *source.write("feature"),
        table,
        Paragraph(text=_group_note(source)),
        Paragraph(text=never),
        *source.write("exclusion"),
    )
    return Section(name="features", title="Features", blocks=blocks)


def architecture(source: Source) -> Section:
    """Say what kind of model it is, and what else was tried."""
    blocks: list[Block] = [*source.write("architecture")]
    blocks.append(Paragraph(text=_served(source)))
    if source.alternatives:
        blocks.append(_alternatives(source.alternatives))
    else:
        blocks.append(Paragraph(text="No measured alternative is recorded."))
    return Section(name="architecture", title="Architecture and alternatives", blocks=tuple(blocks))


def _alternatives(tried: Mapping[str, Facts]) -> Table:
    metrics = list(dict.fromkeys(metric for values in tried.values() for metric in values))
    rows = tuple((name, *(figure(_measured(values, metric)) for metric in metrics)) for name, values in tried.items())
    return Table(
        columns=("Model", *(metric.replace("_", " ") for metric in metrics)),
        rows=rows,
        caption="What was tried, as measured by whoever built the model; not on the frozen cases",
        figures=frozenset(range(1, len(metrics) + 1)),
    )


def _measured(values: Facts, metric: str) -> object:
    value = values.get(metric)
    return value.get("value") if isinstance(value, Mapping) else value


def _served(source: Source) -> str:
    family, manifest = text(source.package.manifest, "family"), source.package.manifest
    if not source.package.compiled:
        return f"{family}, served as fitted, in batches, because {text(manifest, 'not_compiled_because')}."
    rows, gap = number(manifest, "parity.rows"), number(manifest, "parity.max_abs")
    return (
        f"{family}, compiled into an exact plan. Over {figure(int(rows or 0))} rows, among them rows at the thresholds"
        f" and at the edges of the contract, plan and fitted model differ by at most {size(gap or 0.0)}"
        f" (allowed {size(number(manifest, 'parity.tolerance') or 0.0)})."
    )


def _missing(source: Source, column: Input) -> str:
    rows, gaps = number(source.profile, "rows"), number(mapping(source.profile, "inputs").get(column.name), "missing")
    if not rows or gaps is None:
        return "unknown"
    return "none" if not gaps else percent(gaps / rows)


def _group_note(source: Source) -> str:
    groups = source.explanation.groups
    threshold = plain(source.contract.explain.group_correlation)
    if not groups:
        return f"No two inputs correlate at {threshold} or more, so each is reported on its own."
    told = "; ".join(f"{name.replace('+', ', ')} ({figure(size)} together)" for name, size in groups.items())
    return (
        f"Inputs that correlate at {threshold} or more are one group, because a model may use either in the other's"
        f" place: {told}. How much a member moves the score on its own says little; the group's figure does."
    )


def _effect(source: Source, column: Input) -> str:
    explanation = source.explanation
    size = explanation.importance.get(column.name, 0.0)
    if size == 0.0:
        return "none"
    if size < _FAINT * max(explanation.importance.values()):
        return "hardly any"
    trend = explanation.trend.get(column.name)
    if trend is None:
        return "by level"
    if column.type == "boolean":
        return "raises the score when true" if trend > 0 else "lowers the score when true"
    if abs(trend) < _NO_TREND:
        return "no single direction"
    strength = "" if abs(trend) > 0.8 else "mostly "
    return f"{strength}{'rises' if trend > 0 else 'falls'}"


def _approvers(count: int) -> str:
    return "one person approves" if count == 1 else f"{count} people approve"
