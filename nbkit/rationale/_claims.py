"""Figures that people wrote by hand: which measurement each one speaks of, and whether it bears the figure out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nbkit.rationale._facts import Facts, figure, find, number
from nbkit.rationale._said import agrees, wrong_amounts, wrong_shares

__all__ = ["contradictions"]

_CITED = re.compile(r"\{\{[^}]*\}\}")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:\s?%)?")
# Not the beginning of a version such as 1.9.1, nor of 8GB.
_PARAMETER = r"(-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)(?!\w|\.\d)"

# How people write the metrics; the metric's own name, with or without underscores, is always understood.
_SPOKEN = {
    "auc": ("roc auc", "area under the curve"),
    "average_precision": ("pr auc",),
    "brier": ("brier score",),
    "ece": ("calibration error",),
    "ks": ("kolmogorov-smirnov",),
    "expected_cost": ("cost per case", "cost a case"),
}

# A figure belongs to the metric that was named at most this many characters before it, in the same sentence.
_REACH = 30

# Figures that are no metrics: what people say of them, with the number as group 1, and where the truth lies.
_OTHERS = (
    (
        "decline threshold",
        "thresholds.decline",
        r"declin(?:e|es|ed|ing)\b[^.;:!?\n]{0,24}?\b(?:at|from|above|over)\s+(0?\.\d+)",
    ),
    (
        "refer threshold",
        "thresholds.refer",
        r"refer(?:s|red|ring)?\b[^.;:!?\n]{0,24}?\b(?:at|from|above|over)\s+(0?\.\d+)",
    ),
    ("training rows", "data.rows", r"(\d+(?:,\d{3})*)\s+training rows\b"),
    ("frozen cases", "case_set.cases", r"(\d+(?:,\d{3})*)\s+frozen cases\b"),
)


def contradictions(text: str, facts: Facts, *, alternatives: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Find figures written by hand that no measurement of what they speak of bears out.

    Understood are metrics by name ("an AUC of 0.85", "0.85 AUC"), the thresholds ("declined from 0.6"), the numbers of
    training rows and of frozen cases, the training's parameters ("max_iter 200"), shares of decisions ("approves
    82 %"), impact ratios, and money: per case, and what a decision costs ("approving a bad one costs 12,000 USD").

    Parameters
    ----------
    text : str
        A reason as it was written; what it cites by ``{{ }}`` is right by construction.
    facts : mapping
        The evaluation's facts: each metric's value and interval, thresholds, rows, cases, parameters, groups and costs.
    alternatives : mapping, optional
        Other models that were tried, each with its figures; a text may quote these too.

    Returns
    -------
    tuple of str
        A sentence for each, empty when there is none.

    Examples
    --------
    >>> contradictions("It reached an AUC of 0.85.", {"metrics": {"auc": {"value": 0.78}}})
    ('says auc 0.85, measured 0.780',)
    """
    plain = _CITED.sub("·", text)
    found = []
    for metric in _names(facts, "metrics"):
        allowed = [number(facts, f"metrics.{metric}.{part}") for part in ("value", "low", "high")]
        for model in (alternatives or {}).values():
            allowed += [number(model, metric), number(model, f"{metric}.value")]
        known = [value for value in allowed if value is not None]
        wrong = [w for w in _claims(plain, metric=metric) if not any(agrees(w, value) for value in known)]
        found += [f"says {metric} {written}, measured {figure(known[0])}" for written in wrong if known]
    for name, path, pattern in _OTHERS:
        truth = number(facts, path)
        said = [match.group(1) for match in re.finditer(pattern, plain, re.IGNORECASE)] if truth is not None else []
        found += [
            f"says {name} {one}, measured {figure(find(facts, path))}" for one in said if not agrees(one, truth or 0.0)
        ]
    found += _wrong_parameters(plain, facts)
    found += [*wrong_shares(plain, facts), *wrong_amounts(plain, facts, others=alternatives or {})]
    return tuple(found)


def _wrong_parameters(text: str, facts: Facts) -> Iterator[str]:
    for name in _names(facts, "parameters"):
        value = number(facts, f"parameters.{name}")
        pattern = rf"(?<![\w-]){re.escape(name)}(?:\s*=\s*|\s+(?:of|is)\s+|\s+){_PARAMETER}"
        for written in re.findall(pattern, text) if value is not None else ():
            if float(written.replace(",", "")) != value:
                yield f"says {name} {written}, trained with {figure(find(facts, f'parameters.{name}'))}"


def _names(facts: Facts, path: str) -> Iterator[str]:
    named = find(facts, path)
    if isinstance(named, Mapping):
        yield from map(str, named)


def _claims(text: str, *, metric: str) -> Iterator[str]:
    """Yield the figures that follow a metric's name within a sentence, or stand right before it."""
    names = "|".join(re.escape(name) for name in {metric, metric.replace("_", " "), *_SPOKEN.get(metric, ())})
    for match in re.finditer(rf"(?<![\w-])(?:{names})(?![\w-])", text, re.IGNORECASE):
        # A sentence ends at a full stop that no digit follows.
        reach = re.split(r"[.;:!?\n](?!\d)", text[match.end() : match.end() + _REACH])[0]
        claim = _NUMBER.search(reach)
        # Another name in between owns the figure: "AUC and Brier score 0.11".
        if claim and not re.search(r"\b(?:and|or|·)\b|·|,", reach[: claim.start()]):
            yield claim.group(0)
        elif before := re.search(
            rf"(?:^|[^\w.])({_NUMBER.pattern})\s$", text[max(0, match.start() - 16) : match.start()]
        ):
            yield before.group(1)
