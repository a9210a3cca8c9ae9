"""Everything that a rationale is written from, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from nbkit.contract import Contract
from nbkit.errors import RationaleError
from nbkit.package import Package, ReasonBook
from nbkit.rationale._blocks import Written
from nbkit.rationale._claims import contradictions
from nbkit.rationale._explanation import Explanation
from nbkit.rationale._facts import Facts, find, mapping, percent, text
from nbkit.rationale._fitted import FittedModel
from nbkit.rationale._reason import REASON_KINDS, Reason, changed_figures, render_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the sections are written from.

    Parameters
    ----------
    package : Package
        The version.
    facts : mapping
        The evaluation's facts, and those of the package: ``data``, ``parity``, ``parameters``, ``seeds``.
    result : mapping
        The evaluation's details; empty where only its facts are known.
    summary : str
        The evaluation's own summary line.
    explanation : Explanation
        What moves the scores.
    written : mapping of str to Written
        A person's reasons by kind, with their figures filled in; the required ones that nobody wrote are marked.
    missing, stale : tuple of str
        Required kinds that nobody wrote; figures in reasons that no longer hold.
    alternatives : mapping
        Figures of the models that were tried.
    book : ReasonBook or None
        The reason codes, when the package has them.
    profile, environment : mapping
        The package's files.
    parameters : mapping
        What the training was given, and what the fitted predictor is set to where that is not its default.
    links : mapping of str to str
        Where to read on.
    now : datetime
        Time of writing.
    """

    package: Package
    facts: Facts
    result: Facts
    summary: str
    explanation: Explanation
    written: Mapping[str, Written]
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    alternatives: Mapping[str, Facts]
    book: ReasonBook | None
    profile: Facts
    environment: Facts
    parameters: Facts
    links: Mapping[str, str]
    now: datetime

    @classmethod
    def read(
        cls,
        package: Package,
        *,
        evaluation: Facts,
        explanation: Explanation,
        reasons: Sequence[Reason],
        alternatives: Mapping[str, object],
        links: Mapping[str, str],
        now: datetime,
    ) -> Self:
        """Read the package's files, and fill in what people wrote.

        Raises
        ------
        RationaleError
            The evaluation or the explanation is of another package.
        """
        _same_package(package, evaluation=evaluation, explanation=explanation)
        tried = dict(alternatives) or dict(mapping(package.manifest, "alternatives"))
        facts = known_facts(package, evaluation=evaluation, alternatives=alternatives)
        written, stale = _fill(reasons, facts=facts, known=_known(package.contract, tried=tried))
        required = package.contract.required_reasons
        missing = tuple(kind for kind in required if kind not in written)
        gaps = {kind: _gap(kind) for kind in missing}
        files = mapping(package.manifest, "files")
        return cls(
            package=package,
            facts=facts,
            result=mapping(evaluation, "result"),
            summary=text(evaluation, "summary"),
            explanation=explanation,
            written=gaps | written,
            missing=missing,
            stale=stale,
            alternatives={name: value for name, value in tried.items() if isinstance(value, Mapping)},
            book=ReasonBook.from_package(package) if "reasons.yaml" in files else None,
            profile=json.loads(package.read("profile.json")),
            environment=json.loads(package.read("environment.json")),
            parameters={**FittedModel.of(package).parameters, **mapping(package.manifest, "parameters")},
            links=links,
            now=now,
        )

    @property
    def contract(self) -> Contract:
        """The contract of the version."""
        return self.package.contract

    @property
    def currency(self) -> str:
        """Of all costs."""
        return self.contract.decision.costs.currency

    @property
    def confidence(self) -> str:
        """Of all intervals, in words."""
        return percent(self.contract.evaluate.confidence, digits=0)

    def write(self, kind: str) -> tuple[Written, ...]:
        """Return what a person wrote on a kind; nothing where nobody did and nobody had to."""
        return (self.written[kind],) if kind in self.written else ()


def known_facts(package: Package, *, evaluation: Facts, alternatives: Mapping[str, object]) -> dict[str, object]:
    """Return everything that a reason may cite: facts of the package, and of its evaluation as far as there is one.

    Parameters
    ----------
    package : Package
        Gives ``costs``, ``data``, ``parity``, ``parameters``, ``seeds`` and ``thresholds``.
    evaluation : mapping
        The evaluation's JSON, or its facts alone; may be empty.
    alternatives : mapping
        Figures of the models that were tried; those of the package where this is empty.

    Returns
    -------
    dict
        Facts by topic.
    """
    own = {name: package.manifest.get(name) for name in ("data", "parity", "parameters", "seeds", "thresholds")}
    tried = dict(alternatives) or dict(mapping(package.manifest, "alternatives"))
    return {
        **own,
        "costs": _cost_matrix(package.contract),
        "alternatives": tried,
        **(mapping(evaluation, "facts") or evaluation),
    }


def _cost_matrix(contract: Contract) -> dict[str, object]:
    """Return what each decision loses; nothing where that depends on the row."""
    costs = contract.decision.costs
    rows = {"approve": costs.approve, "refer": costs.refer, "decline": costs.decline}
    if not costs.constant:
        return {}
    return {name: {"positive": float(row.positive), "negative": float(row.negative)} for name, row in rows.items()}


def _same_package(package: Package, *, evaluation: Facts, explanation: Explanation) -> None:
    for verb, digest in (
        ("evaluate", find(evaluation, "package_digest")),
        ("explain", explanation.package_digest),
    ):
        if digest is not None and digest != package.digest:
            raise RationaleError(
                f"{verb}: expected package {package.digest}, got {digest}",
                next_step=f"nbkit {verb} {package.contract.name}",
            )


def _known(contract: Contract, *, tried: Mapping[str, object]) -> dict[str, object]:
    """Return everything that a text may quote besides this version's own figures: others' figures, and the limits."""
    limits = [gate for gates in contract.gates.values() for gate in gates if gate.metric is not None]
    return {
        **tried,
        **{f"gate {place}": {str(gate.metric): gate.value} for place, gate in enumerate(limits)},
    }


def _fill(
    reasons: Sequence[Reason], *, facts: Facts, known: Mapping[str, object]
) -> tuple[dict[str, Written], tuple[str, ...]]:
    written: dict[str, Written] = {}
    stale: list[str] = []
    for reason in sorted(reasons, key=lambda reason: reason.written_at):
        try:
            filled = render_reason(reason.text, facts)
        except RationaleError as error:
            filled = reason.text
            stale += [f"{reason.kind}: {problem}" for problem in error.problems]
        stale += [f"{reason.kind}: {problem}" for problem in changed_figures(reason, facts)]
        stale += [f"{reason.kind}: {problem}" for problem in contradictions(reason.text, facts, alternatives=known)]
        written[reason.kind] = Written(
            title=REASON_KINDS[reason.kind],
            paragraphs=tuple(" ".join(part.split()) for part in filled.split("\n\n") if part.strip()),
            written_at=reason.written_at.date().isoformat(),
        )
    return written, tuple(stale)


def _gap(kind: str) -> Written:
    return Written(
        title=REASON_KINDS[kind],
        paragraphs=("The contract asks for this reason, and nobody has written it.",),
        written_at="",
        missing=True,
    )
