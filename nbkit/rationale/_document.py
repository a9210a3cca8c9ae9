"""The rationale of a version, as a document to read, to print and to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import jinja2

from nbkit.errors import RationaleError
from nbkit.package import Package
from nbkit.rationale import (
    _data_sections,
    _duty_section,
    _explanation_sections,
    _model_sections,
    _result_sections,
    _use_sections,
)
from nbkit.rationale._blocks import Block, Paragraph, Section
from nbkit.rationale._explanation import Explanation
from nbkit.rationale._facts import find, mapping, number, percent
from nbkit.rationale._markdown import write_markdown
from nbkit.rationale._reason import Reason
from nbkit.rationale._source import Source
from nbkit.rationale._verdict import objections, open_questions, verdict

__all__ = ["RATIONALE_FORMAT", "Rationale", "read_rationale", "write_rationale"]

# Format 2 added, within "explanation": the ways that were tried, groups, interactions, slices and stability. To raise
# it, add the number to _READABLE, keep a golden file of it (tests/unit/rationale/formats/N/rationale.json; `make demo`
# makes one), and let `read_rationale` fill in what older files lack.
RATIONALE_FORMAT = 2
_READABLE = (1, RATIONALE_FORMAT)

_TEMPLATE = "document.html.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rationale:
    """A rationale document in the forms that it is read in.

    Parameters
    ----------
    verdict : str
        One line without markup.
    html : str
        One self-contained file: no script, no network, pictures inline.
    markdown : str
        The same in short; the verdict is its first line.
    missing : tuple of str
        Kinds of reasons that the contract requires and nobody wrote.
    stale : tuple of str
        What written reasons say that the figures do not bear out.
    facts : dict
        What `to_json` writes.
    """

    verdict: str
    html: str
    markdown: str
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    facts: Mapping[str, object]

    def to_json(self) -> str:
        """Return the content as JSON, format 2.

        Returns
        -------
        str
            With the package's digest, the verdict, the reasons and the figures of the explanation.
        """
        return json.dumps(self.facts, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def _repr_html_(self) -> str:
        return self.html


def write_rationale(
    package: Package,
    *,
    evaluation: Mapping[str, object],
    explanation: Explanation,
    reasons: Sequence[Reason],
    alternatives: Mapping[str, object],
    links: Mapping[str, str],
    now: datetime,
) -> Rationale:
    """Write the rationale of a package.

    Parameters
    ----------
    package : Package
        The version.
    evaluation : mapping
        The evaluation's JSON, or its facts alone.
    explanation : Explanation
        From `explain_package` of the same package.
    reasons : sequence of Reason
        What people wrote; the last one of a kind counts.
    alternatives : mapping
        Figures of the models that were tried, by name; those of the package where this is empty.
    links : mapping of str to str
        Labels and addresses of where to read on.
    now : datetime
        Aware.

    Returns
    -------
    Rationale
        Complete or not: what is missing is in it, and in its verdict.

    Raises
    ------
    RationaleError
        The evaluation or the explanation is of another package.
    """
    if now.tzinfo is None:
        raise RationaleError("write_rationale: now has no time zone")
    source = Source.read(
        package,
        evaluation=evaluation,
        explanation=explanation,
        reasons=reasons,
        alternatives=alternatives,
        links=links,
        now=now,
    )
    line = verdict(source)
    chapters = sections(source)
    return Rationale(
        verdict=line,
        html=_html(source, chapters=chapters, line=line),
        markdown=write_markdown(source, chapters=chapters, line=line),
        missing=source.missing,
        stale=source.stale,
        facts=_facts(source, line=line),
    )


def read_rationale(raw: bytes | str) -> dict[str, object]:
    """Read a ``rationale.json`` of any format that nbkit has written.

    Parameters
    ----------
    raw : bytes or str
        What `Rationale.to_json` wrote.

    Returns
    -------
    dict
        In today's format; what an older one did not measure is empty or None.

    Raises
    ------
    RationaleError
        No such JSON, or of a format that this nbkit does not know.
    """
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise RationaleError(f"rationale.json: {error}", next_step="nbkit explain NAME") from error
    found = document.get("format") if isinstance(document, dict) else None
    if isinstance(found, bool) or found not in _READABLE:
        expected = " or ".join(map(str, _READABLE))
        raise RationaleError(
            f"rationale.json: format: expected {expected}, got {found!r}", next_step="nbkit explain NAME"
        )
    later: dict[str, object] = {
        "trials": [],
        "groups": {},
        "interactions": [],
        "slices": [],
        "stability": None,
        "background": "",
    }
    return {**document, "format": RATIONALE_FORMAT, "explanation": {**later, **document["explanation"]}}


def sections(source: Source) -> tuple[Section, ...]:
    """Return the chapters in the order in which a reviewer asks for them."""
    return (
        _model_sections.purpose(source),
        _model_sections.ownership(source),
        _data_sections.data(source),
        _model_sections.features(source),
        _model_sections.architecture(source),
        _data_sections.training(source),
        _result_sections.performance(source),
        _result_sections.threshold(source),
        _explanation_sections.explanation(source),
        _explanation_sections.trust(source),
        _result_sections.reason_codes(source),
        _result_sections.fairness(source),
        _duty_section.duties(source),
        _use_sections.limits(source),
        _use_sections.monitoring(source),
        _use_sections.fallback(source),
        _use_sections.change(source),
        _use_sections.approvals(source),
        _data_sections.reproduction(source),
        _use_sections.words(source),
    )


def summary(source: Source) -> str:
    """Say in a few sentences what the model is, does and needs."""
    contract = source.contract
    top = ", ".join(name.replace("_", " ") for name in list(source.explanation.importance)[:3])
    rates = [number(source.facts, f"metrics.{name}.value") for name in ("approval_rate", "refer_rate", "decline_rate")]
    shares = [percent(rate, digits=0) for rate in rates if rate is not None]
    told = len(shares) == len(rates)
    decided = " Of the frozen cases it approves {}, refers {} and declines {}.".format(*shares) if told else ""
    owner = contract.owner
    return (
        f"The model scores the probability that {contract.target.meaning}, from {len(contract.inputs)} inputs; what"
        f" moves it most is {top}.{decided} {owner.primary} ({owner.team}) owns it,"
        f" {owner.deputy} is the deputy, and it is made again {contract.retrain.cadence}."
    )


def _html(source: Source, *, chapters: tuple[Section, ...], line: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["kind"] = _kind
    owner = source.contract.owner
    return environment.get_template(_TEMPLATE).render(
        name=source.contract.name,
        title=source.contract.title,
        owner=f"{owner.primary}, {owner.team}",
        written_at=source.now.strftime("%Y-%m-%d %H:%M %Z"),
        digest=source.package.digest,
        verdict=line,
        objections=objections(source),
        open_questions=open_questions(source),
        summary=[Paragraph(text=summary(source))],
        links={
            label: address for label, address in source.links.items() if address.startswith(("http://", "https://"))
        },
        sections=chapters,
    )


def _kind(block: Block) -> str:
    return type(block).__name__


def _facts(source: Source, *, line: str) -> dict[str, object]:
    return {
        "format": RATIONALE_FORMAT,
        "model": source.contract.name,
        "package_digest": source.package.digest,
        "contract_digest": source.contract.digest,
        "case_set": find(source.facts, "case_set.digest"),
        "written_at": source.now.isoformat(),
        "verdict": line,
        "objections": list(objections(source)),
        "open_questions": list(open_questions(source)),
        "missing": list(source.missing),
        "stale": list(source.stale),
        "reasons": {kind: asdict(written) for kind, written in source.written.items()},
        "alternatives": dict(source.alternatives),
        "metrics": dict(mapping(source.facts, "metrics")),
        "explanation": source.explanation.to_dict(),
        "links": dict(source.links),
    }
