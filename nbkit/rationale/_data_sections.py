"""The chapters on what the model was made from, and how: data, training, reproduction."""

from __future__ import annotations

from nbkit.rationale._blocks import Block, Bullets, Pairs, Paragraph, Section, Table
from nbkit.rationale._facts import figure, find, mapping, number, percent, text
from nbkit.rationale._source import Source

_NOT_DECLARED = "not declared (contract.yaml, data.{})"


def data(source: Source) -> Section:
    """Say which rows made the model and which judge it, and what is known of their faults."""
    facts, declared, target = source.facts, source.contract.data, source.contract.target
    cases, positives = number(facts, "case_set.cases"), number(facts, "case_set.positives")
    share = f" ({percent(positives / cases)} positive)" if cases and positives is not None else ""
    delay = target.label_delay_days
    pairs = {
        "Source": declared.source or _NOT_DECLARED.format("source"),
        "Window": declared.window or _NOT_DECLARED.format("window"),
        "Label": f"{target.meaning}; it counts {f'after {delay} days' if delay else 'at once'}",
        "Selective labels": declared.selective_labels or _NOT_DECLARED.format("selective_labels"),
        "Training rows": figure(find(facts, "data.rows")),
        "Training digest": text(facts, "data.digest"),
        "Judged on": f"{figure(find(facts, 'case_set.cases'))} frozen cases{share}",
        "Case set": text(facts, "case_set.reference") or text(facts, "case_set.digest"),
    }
    blocks: list[Block] = [*source.write("data"), Pairs(items=pairs)]
    for title, key, sentences in (
        ("Left out", "exclusions", declared.exclusions),
        ("Known bias", "known_bias", declared.known_bias),
    ):
        if sentences:
            blocks.append(Bullets(items=tuple(f"{title}: {sentence}" for sentence in sentences)))
        else:
            blocks.append(Paragraph(text=f"{title}: {_NOT_DECLARED.format(key)}."))
    note = (
        "The digests are over the content of every row: one changed value changes them. Rows themselves are kept"
        " neither here nor in the package."
    )
    return Section(name="data", title="Data", blocks=(*blocks, Paragraph(text=note)))


def training(source: Source) -> Section:
    """Say with which parameters, seeds and libraries the model was trained."""
    manifest = source.package.manifest
    settings = {
        **{name: _setting(value) for name, value in source.parameters.items()},
        **{f"seed: {name}": _setting(value) for name, value in mapping(manifest, "seeds").items()},
    }
    blocks: list[Block] = []
    if settings:
        caption, rows = (
            "Parameters of the training and of the fitted model, where they are not its defaults; seeds",
            tuple(settings.items()),
        )
        blocks.append(Table(columns=("Parameter", "Value"), rows=rows, caption=caption, figures=frozenset({1})))
    else:
        blocks.append(Paragraph(text="Neither parameters nor seeds were recorded when the model was packaged."))
    pins = source.package.read("requirements.txt").decode().split()
    pairs = {
        "Notebook": source.contract.retrain.notebook,
        "Commit": text(manifest, "git_commit") or "not recorded",
        "Packaged": text(manifest, "created_at")[:10],
        "Python": f"{text(source.environment, 'python')} on {text(source.environment, 'system')}",
        "Libraries": ", ".join(pin.replace("==", " ") for pin in pins),
    }
    blocks.append(Pairs(items=pairs))
    return Section(name="training", title="Training", blocks=tuple(blocks))


def reproduction(source: Source) -> Section:
    """Say what to compare when the model is made again, and that nobody has done so yet."""
    manifest, name = source.package.manifest, source.contract.name
    pairs = {
        "Package": source.package.digest,
        "Contract": source.contract.digest,
        "Case set": text(source.facts, "case_set.digest"),
        "Training rows": text(manifest, "data.digest"),
        "Plan": text(manifest, "model_digest.plan") or "none",
        "Training scores": text(manifest, "model_digest.scores"),
        "Seeds": ", ".join(f"{name} {value}" for name, value in mapping(manifest, "seeds").items()) or "none",
    }
    words = (
        "The same rows, commit, seeds and libraries give the same plan and the same training scores, digest for digest."
        " The full list of libraries is in the package (environment.json)."
    )
    certificate = (
        "No reproduction certificate: this document is written before anyone can have made the model again. To get one,"
        f" run nbkit reproduce {name}@VERSION; the gate 'reproduction' shows whether it holds."
    )
    blocks = (
        Paragraph(text=certificate),
        Pairs(items={name: value for name, value in pairs.items() if value}),
        Paragraph(text=words),
    )
    return Section(name="reproduction", title="Reproduction", blocks=blocks)


def _setting(value: object) -> str:
    return "none" if value is None else str(value)
