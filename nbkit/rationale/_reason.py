"""What a person wrote about a choice, where the choice was made; its figures are filled in from the evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Self

from nbkit.errors import RationaleError
from nbkit.rationale._facts import Facts, figure, find, number

__all__ = ["REASON_KINDS", "Cited", "Reason", "changed_figures", "cited_figures", "render_reason"]

REASON_KINDS = {
    "architecture": "Why this kind of model",
    "data": "Why these data and this period",
    "feature": "Why these features",
    "threshold": "Why these thresholds",
    "exclusion": "What was left out, and why",
    "limit": "Where the model must not be used",
}

_CITED = re.compile(r"\{\{\s*([A-Za-z_][\w.\- ]*?)\s*\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """One figure that a reason cites.

    Parameters
    ----------
    value : float or str
        As it was.
    low, high : float or None
        Its interval, if it has one.
    run : bool
        Whether it was seen in this very run; otherwise in an earlier one, where the same text was written.
    """

    value: float | str
    low: float | None = None
    high: float | None = None
    run: bool = True

    @classmethod
    def read(cls, values: Mapping[str, object], *, run: bool) -> Self:
        """Read what `dataclasses.asdict` gave, back from JSON.

        Parameters
        ----------
        values : mapping
            ``value``, and perhaps ``low`` and ``high``.
        run : bool
            Whether it was seen in this very run.

        Returns
        -------
        Cited
            As it was.
        """
        value = values.get("value")
        known = value if isinstance(value, int | float | str) else ""
        return cls(value=known, low=number(values, "low"), high=number(values, "high"), run=run)


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
    cited : mapping of str to Cited
        The figures that it cited when it was written; those that were not known then are absent.

    Raises
    ------
    RationaleError
        Unknown kind, empty text, or a time without a zone.
    """

    kind: str
    text: str
    written_at: datetime
    cited: Mapping[str, Cited] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in REASON_KINDS:
            near = get_close_matches(self.kind, REASON_KINDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RationaleError(
                f"reason of kind {self.kind!r}: expected {', '.join(REASON_KINDS)}{hint}",
                next_step="%%nbkit rationale architecture",
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


def cited_figures(text: str, facts: Facts) -> dict[str, Cited]:
    """Return the figures that a text cites, as far as the facts hold them.

    Parameters
    ----------
    text : str
        With ``{{ dotted.path }}``.
    facts : mapping
        The evaluation's facts, and those of the package.

    Returns
    -------
    dict of str to Cited
        By path.
    """
    found = {}
    for path in dict.fromkeys(_CITED.findall(text)):
        fact = find(facts, path)
        value = fact.get("value") if isinstance(fact, Mapping) else fact
        if isinstance(value, int | float | str):
            found[path] = Cited(value=value, low=number(fact, "low"), high=number(fact, "high"))
    return found


def changed_figures(reason: Reason, facts: Facts) -> tuple[str, ...]:
    """Find figures that a reason cites and that are no longer what they were when it was written.

    In the same run any change counts that a reader would see. In a later run, whose notebook wrote the same text again
    without anyone reading it, a figure has changed when it lies outside the interval that it had.

    Parameters
    ----------
    reason : Reason
        As it was written.
    facts : mapping
        As they are now.

    Returns
    -------
    tuple of str
        A sentence for each, empty when there is none.
    """
    now, found = cited_figures(reason.text, facts), []
    for path, then in reason.cited.items():
        if path not in now:
            continue  # render_reason names what is not there
        value = now[path].value
        if then.run:
            moved = _shown(then.value) != _shown(value)
        else:
            known = isinstance(value, int | float) and then.low is not None and then.high is not None
            moved = known and not float(then.low or 0.0) <= float(value) <= float(then.high or 0.0)
        if moved:
            day = reason.written_at.date().isoformat()
            found.append(
                f"cites {path}, which was {_shown(then.value)} when it was written ({day}) and is {_shown(value)} now"
            )
    return tuple(found)


def _shown(value: object) -> str:
    return figure(value) if isinstance(value, int | float) else str(value)


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
