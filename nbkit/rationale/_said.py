"""Shares, impact ratios and money in what people wrote, against what was measured and declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from nbkit.rationale._facts import Facts, entries, figure, mapping, number, text

__all__ = ["agrees", "wrong_amounts", "wrong_shares"]

_VERBS = {"approve": "approv", "refer": "refer", "decline": "declin"}
_RATES = {"approve": "approval_rate", "refer": "refer_rate", "decline": "decline_rate"}
_PERCENT = r"(\d+(?:\.\d+)?\s?%)"
# Money has its currency before or behind it: "3 people a case" is none.
_FIGURE = r"\d+(?:,\d{3})*(?:\.\d+)?"
_MONEY = rf"(?:(?:\b[A-Z]{{3}}\s?|[$€£]\s?)({_FIGURE})(?![\w,.]*\d)|(?<![\w.,])({_FIGURE})\s?(?:[A-Z]{{3}}\b|[$€£]))"
# Of whom a share may be told without being another one: all that were judged.
_ALL = r"(?:(?:all|the|these)\s+)*(?:frozen\s+)?(?:cases|applications|applicants|customers|decisions)\b"
# What stands before a limit, not before a measurement.
_LIMIT = r"(?<!at most )(?<!at least )(?<!up to )(?<!more than )(?<!less than )(?<!fewer than )(?<!below )(?<!above )"
# A rule of thumb that texts may quote, whatever was measured.
_FOUR_FIFTHS = 0.8


def wrong_shares(said: str, facts: Facts) -> Iterator[str]:
    r"""Find shares of decisions that are neither measured on all cases nor on a group, and wrong impact ratios.

    Examples
    --------
    >>> list(wrong_shares("It approves 90 % of cases.", {"metrics": {"approval_rate": {"value": 0.82}}}))
    ['says approve 90 %, measured 82.0\xa0%']
    """
    groups = entries(facts, "fairness.groups")
    for decision, metric in _RATES.items():
        known = _numbers(mapping(facts, f"metrics.{metric}"), ("value", "low", "high"))
        if not known:
            continue
        told = [number(group, "approval_rate") for group in groups] if decision == "approve" else []
        allowed = [*known, *(value for value in told if value is not None)]
        verb = _VERBS[decision]
        patterns = (
            rf"\b{verb}(?:s|es|e|ed|ing|red|ring)?\s+{_PERCENT}(?!\s+of\s+(?!{_ALL}))",
            rf"{_LIMIT}(?<![\d.]){_PERCENT}\s+(?:of\s+{_ALL}\s+)?(?:(?:are|is|were|get)\s+)?{verb}(?:ed|red)\b",
        )
        for written in (one for pattern in patterns for one in re.findall(pattern, said, re.IGNORECASE)):
            if not any(agrees(written, value) for value in allowed):
                yield f"says {decision} {written}, measured {100 * known[0]:.1f}\u00a0%"
    yield from _wrong_ratios(said, groups, floor=number(facts, "fairness.floor"))


def _wrong_ratios(said: str, groups: tuple[Facts, ...], *, floor: float | None) -> Iterator[str]:
    known = [value for group in groups for value in _numbers(group, ("impact_ratio", "low", "high"))]
    if not known:
        return
    allowed = [*known, _FOUR_FIFTHS, *([floor] if floor is not None else [])]
    pattern = r"\bimpact ratios?\s+(?:(?:of|is|was|at)\s+)?(\d*\.\d+)(?!\s?%|\.?\d)"
    for written in re.findall(pattern, said, re.IGNORECASE):
        if not any(agrees(written, value) for value in allowed):
            shown = ", ".join(
                f"{text(group, 'group')} {figure(number(group, 'impact_ratio'))}"
                for group in groups
                if number(group, "impact_ratio") is not None
            )
            yield f"says impact ratio {written}, measured {shown}"


def wrong_amounts(said: str, facts: Facts, *, others: Mapping[str, object]) -> Iterator[str]:
    """Find amounts of money that are neither a measured cost per case nor in the cost matrix.

    Examples
    --------
    >>> costs = {"costs": {"approve": {"positive": 12000.0, "negative": 0.0}}}
    >>> list(wrong_amounts("Approving a bad one costs 10,000 USD.", costs, others={}))
    ['says approve costs 10,000, the cost matrix has 12,000 and 0']
    """
    matrix = {name: _numbers(mapping(facts, f"costs.{name}"), ("positive", "negative")) for name in _VERBS}
    measured = _numbers(mapping(facts, "metrics.expected_cost"), ("value", "low", "high"))
    rivals = [number(model, path) for model in others.values() for path in ("expected_cost", "expected_cost.value")]
    allowed = [
        *measured,
        *(value for value in rivals if value is not None),
        *(one for row in matrix.values() for one in row),
    ]
    per_case = _money(rf"{_MONEY}\s+(?:per|a)\s+case\b", said) if measured else []
    for written in per_case:
        if not any(agrees(written, value) for value in allowed):
            yield f"says {written} per case, measured {figure(measured[0])}"
    stems = "|".join(_VERBS.values())
    for decision, row in matrix.items():
        between = rf"\w*(?:(?!{stems})[^.;:!?\n]){{0,60}}?"
        pattern = rf"(?i:\b{_VERBS[decision]}{between}\bcosts?)\s+{_MONEY}(?!\s+(?:per|a)\s+case\b)"
        for written in _money(pattern, said) if row else ():
            if not any(agrees(written, value) for value in row):
                yield f"says {decision} costs {written}, the cost matrix has {' and '.join(map(figure, row))}"


def _money(pattern: str, said: str) -> list[str]:
    return [before or behind for before, behind in re.findall(pattern, said)]


def _numbers(facts: Facts, names: Iterable[str]) -> list[float]:
    return [value for value in (number(facts, name) for name in names) if value is not None]


def agrees(written: str, value: float) -> bool:
    """Whether a measured value, rounded as the figure is written, is that figure.

    Examples
    --------
    >>> agrees("0.78", 0.7815), agrees("82 %", 0.8229), agrees("0.79", 0.7815)
    (True, True, False)
    """
    share = written.endswith("%")
    digits = written.rstrip("% ").replace(",", "")
    decimals = len(digits.partition(".")[2])
    # Half a unit of the last written digit, and a little for the binary fraction.
    return abs(float(digits) - value * (100 if share else 1)) <= 0.5 * 10.0**-decimals + 1e-9
