"""What a person wrote about a choice, where the choice was made; its figures are filled in from the evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from nbkit.errors import RationaleError
from nbkit.rationale._facts import Facts, figure, find, number

__all__ = ["REASON_KINDS", "Reason", "contradictions", "render_reason"]

REASON_KINDS = {
    "architecture": "Why this kind of model",
    "data": "Why these data and this period",
    "feature": "Why these features",
    "threshold": "Why these thresholds",
    "exclusion": "What was left out, and why",
    "limit": "Where the model must not be used",
}

_CITED = re.compile(r"\{\{\s*([A-Za-z_][\w.\-]*)\s*\}\}")
_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:\s?%)?")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One written reason.

    Parameters
    ----------
    kind : str
        One of `REASON_KINDS`.
    text : str
        Paragraphs; ``{{ metrics.auc }}`` is filled in from the evaluation's facts.
    written_at : datetime
        Aware.

    Raises
    ------
    RationaleError
        Unknown kind, empty text, or a time without a zone.
    """

    kind: str
    text: str
    written_at: datetime

    def __post_init__(self) -> None:
        if self.kind not in REASON_KINDS:
            near = get_close_matches(self.kind, REASON_KINDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RationaleError(
                f"reason of kind {self.kind!r}: expected {', '.join(REASON_KINDS)}{hint}",
                next_step="%%nbkit rationale --kind architecture",
            )
        if not self.text.strip():
            raise RationaleError(f"reason of kind {self.kind!r}: expected text, got none")
        if self.written_at.tzinfo is None:
            raise RationaleError(f"reason of kind {self.kind!r}: written_at has no time zone")


def render_reason(text: str, facts: Facts) -> str:
    """Fill in the figures that a text cites.

    Parameters
    ----------
    text : str
        With ``{{ dotted.path }}`` where a figure belongs.
    facts : mapping
        The evaluation's facts.

    Returns
    -------
    str
        The text with the figures of this evaluation.

    Raises
    ------
    RationaleError
        It cites something that the facts do not hold; all are named.

    Examples
    --------
    >>> render_reason("AUC is {{ metrics.auc }}.", {"metrics": {"auc": {"value": 0.7815, "low": 0.75, "high": 0.81}}})
    'AUC is 0.781.'
    """
    unknown: list[str] = []

    def fill(match: re.Match[str]) -> str:
        path = match.group(1)
        found = find(facts, path)
        value = found.get("value") if isinstance(found, Mapping) else found
        if value is None or isinstance(value, Mapping | list | tuple):
            unknown.append(f"{{{{ {path} }}}}: no such fact{_nearest(path, facts)}")
            return match.group(0)
        return figure(value)

    rendered = _CITED.sub(fill, text)
    if unknown:
        raise RationaleError(
            "reason", problems=unknown, next_step="cite a figure of the evaluation, such as metrics.auc"
        )
    return rendered


def contradictions(text: str, facts: Facts, *, alternatives: Mapping[str, object] | None = None) -> tuple[str, ...]:
    """Find figures written by hand that no measurement of the metric they name bears out.

    Parameters
    ----------
    text : str
        A reason as it was written; what it cites by ``{{ }}`` is right by construction.
    facts : mapping
        The evaluation's facts: each metric's value and interval, and the champion's differences.
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
    for metric in _metrics(facts):
        allowed = [number(facts, f"metrics.{metric}.{part}") for part in ("value", "low", "high")]
        for model in (alternatives or {}).values():
            allowed += [number(model, metric), number(model, f"{metric}.value")]
        known = [value for value in allowed if value is not None]
        wrong = [w for w in _claims(plain, metric=metric) if not any(_agrees(w, value) for value in known)]
        found += [f"says {metric} {written}, measured {figure(known[0])}" for written in wrong if known]
    return tuple(found)


def _metrics(facts: Facts) -> Iterator[str]:
    metrics = find(facts, "metrics")
    if isinstance(metrics, Mapping):
        yield from map(str, metrics)


def _claims(text: str, *, metric: str) -> Iterator[str]:
    """Yield the figures that follow a metric's name within a sentence."""
    names = "|".join(re.escape(name) for name in {metric, metric.replace("_", " "), *_SPOKEN.get(metric, ())})
    for match in re.finditer(rf"(?<![\w-])(?:{names})(?![\w-])", text, re.IGNORECASE):
        # A sentence ends at a full stop that no digit follows.
        reach = re.split(r"[.;:!?\n](?!\d)", text[match.end() : match.end() + _REACH])[0]
        claim = _NUMBER.search(reach)
        # Another name in between owns the figure: "AUC and Brier score 0.11".
        if claim and not re.search(r"\b(?:and|or|·)\b|·|,", reach[: claim.start()]):
            yield claim.group(0)


def _agrees(written: str, value: float) -> bool:
    """Whether a measured value, rounded as the figure is written, is that figure."""
    share = written.endswith("%")
    digits = written.rstrip("% ").replace(",", "")
    decimals = len(digits.partition(".")[2])
    # Half a unit of the last written digit, and a little for the binary fraction.
    return abs(float(digits) - value * (100 if share else 1)) <= 0.5 * 10.0**-decimals + 1e-9


def _nearest(path: str, facts: Facts) -> str:
    near = get_close_matches(path, list(_paths(facts, "")), n=1)
    return f" (nearest: {near[0]})" if near else ""


def _paths(facts: object, prefix: str) -> Iterator[str]:
    if not isinstance(facts, Mapping):
        if not isinstance(facts, list | tuple):
            yield prefix
        return
    if "value" in facts:
        yield prefix
    for key, value in facts.items():
        yield from _paths(value, f"{prefix}.{key}" if prefix else str(key))
