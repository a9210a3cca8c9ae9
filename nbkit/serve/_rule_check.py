"""Whether each row of a decision table can ever fit: types, values, and rows that earlier ones leave nothing.

The engine reads a cell that compares a number with text, and a row that an earlier one always precedes, as 'no rule
fits', and says nothing. Cells are therefore tried, by the engine itself, on every value at which one of them can change
its mind: the limits that they name, the places between, the ends of the input's range, each category, and missing.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import zen

from nbkit.contract import Contract, Input

__all__ = ["cell_problems", "expression_problems", "fields_of", "unreachable_rows", "value_kinds"]

Value = float | str | None
Phases = tuple[str, ...]

PHASES: Phases = ("before", "after", "fallback")

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# What a cell may hold besides literals for its truth to change at those literals only; anything else is not judged.
_PLAIN = re.compile(r"(?:[\s,()\[\]<>=!.]|not|and|or|in|null|true|false|\$)*\Z")
_WORD = re.compile(r"(?<![\w.#$])[A-Za-z_]\w*(?!\w*\s*\()")
_KEYWORDS = frozenset({"and", "or", "not", "in", "true", "false", "null"})

# Combinations of values that are tried for a table; beyond it a row is only compared with one earlier row at a time.
_MOST_COMBINATIONS = 20_000


@dataclass(frozen=True, slots=True)
class _Domain:
    """Values that a column can hold at all."""

    kind: str
    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    categories: tuple[str, ...] = ()
    nullable: bool = False

    def points(self, limits: set[float]) -> list[Value]:
        values: list[Value] = list(self.categories)
        if self.kind != "category":
            within = sorted({self.low, self.high, *(limit for limit in limits if self.low <= limit <= self.high)})
            between = [(a + b) / 2 if math.isfinite(a + b) else 0.0 for a, b in itertools.pairwise(within)]
            if self.kind == "number":
                values += sorted({*within, *between})
            else:
                whole = {step for at in within for step in (math.floor(at), math.ceil(at), at - 1, at + 1)}
                values += [float(at) for at in sorted(whole) if float(at).is_integer() and self.low <= at <= self.high]
        return [*values, None] if self.nullable else values


def value_kinds(contract: Contract) -> dict[str, str]:
    """Return what a rule sees: ``number`` (booleans are 1 and 0), or ``category``.

    Parameters
    ----------
    contract : Contract
        Whose inputs the rules read.

    Returns
    -------
    dict of str to str
        By name; ``phase`` and ``score`` are there too.
    """
    kinds = {column.name: "category" if column.type == "category" else "number" for column in contract.inputs}
    return {**kinds, "phase": "category", "score": "number"}


def fields_of(expression: str) -> set[str]:
    """Return the names that an expression reads.

    Parameters
    ----------
    expression : str
        Of the engine's language.

    Returns
    -------
    set of str
        Without functions, keywords and what stands in quotes.
    """
    return set(_WORD.findall(_QUOTED.sub("''", expression))) - _KEYWORDS


def cell_problems(field: str, text: str, *, contract: Contract) -> list[str]:
    """Say why a cell can never fit a value of its column.

    Parameters
    ----------
    field : str
        An input, ``phase`` or ``score``.
    text : str
        A unary expression that parses.
    contract : Contract
        Whose inputs the rules read.

    Returns
    -------
    list of str
        Empty when the cell may fit, or cannot be judged.
    """
    kinds = value_kinds(contract)
    if field not in kinds or not text:
        return []
    domain = _domain(field, contract)
    unknown = sorted(fields_of(text) - kinds.keys())
    if unknown:
        return [f"{name!r} is not an input of the contract, nor phase or score" for name in unknown]
    quoted = [a or b for a, b in _QUOTED.findall(text)]
    if fields_of(text):
        return expression_problems(text, contract=contract, field=field)
    if kinds[field] == "number" and quoted:
        return [f"compares a number with text {quoted[0]!r}"]
    if kinds[field] == "number" and re.search(r"\b(true|false)\b", text):
        return ["compares a number with true or false; a boolean input reaches the rules as 1 or 0"]
    if kinds[field] == "category" and _NUMBER.search(_QUOTED.sub("", text)):
        return [f"compares text with a number: {text}"]
    strange = sorted({word for word in quoted if word not in domain.categories})
    if kinds[field] == "category" and strange and _is_plain(text):
        known = ", ".join(repr(name) for name in domain.categories[:10])
        return [f"{word!r} is no value of {field}; expected one of {known}" for word in strange]
    if _is_plain(text) and not any(_truth(field, text, value) for value in domain.points(_limits([text]))):
        return [f"{text!r} fits no value that the contract allows"]
    return []


def expression_problems(
    text: str, *, contract: Contract, field: str = "", computed: Set[str] = frozenset()
) -> list[str]:
    """Say why an expression over several columns can never be evaluated.

    Parameters
    ----------
    text : str
        An expression that parses; unary when ``field`` is given.
    contract : Contract
        Whose inputs the rules read.
    field : str
        The column that a unary expression stands in.
    computed : set of str
        Names that earlier nodes of the graph add.

    Returns
    -------
    list of str
        Empty when it may be evaluated, or cannot be judged.
    """
    kinds = value_kinds(contract)
    used = fields_of(text)
    unknown = sorted(used - kinds.keys() - computed)
    if unknown:
        return [f"{name!r} is not an input of the contract, nor phase or score" for name in unknown]
    if used & computed:
        return []
    told = ""
    for step in range(3):
        row = {name: _sample(name, contract, step=step) for name in used | ({field} if field else set())}
        try:
            if field:
                zen.evaluate_unary_expression(text, {"$": row[field], **row})
            else:
                zen.evaluate_expression(text, row)
        except RuntimeError as error:
            told = _source(error)
        else:
            return []
    return [f"{text!r} does not fit the types of {', '.join(sorted(used | ({field} if field else set())))}: {told}"]


def _sample(name: str, contract: Contract, *, step: int) -> Value:
    values = [value for value in _domain(name, contract).points(set()) if value is not None]
    return values[step % len(values)]


def _source(error: RuntimeError) -> str:
    found = re.search(r'"source":"([^"]*)"', str(error))
    return found.group(1) if found else str(error).split("\n", 1)[0]


def unreachable_rows(rows: Sequence[Mapping[str, str]], *, contract: Contract) -> list[str]:
    """Name the rows of a first-hit table that never answer, because earlier rows always do.

    Parameters
    ----------
    rows : sequence of mapping
        Cell texts by field; an empty cell fits everything.
    contract : Contract
        Whose inputs the rules read.

    Returns
    -------
    list of str
        One problem a row.
    """
    problems = []
    for number in range(1, len(rows)):
        row = rows[number]
        phases = [phase for phase in PHASES if _truth("phase", row.get("phase", ""), phase)]
        left = [phase for phase in phases if not _covered(row, rows[:number], phase=phase, contract=contract)]
        if phases and not left:
            problems.append(f"rule {number + 1}: never reached: earlier rules answer every row that it fits")
    return problems


def _covered(row: Mapping[str, str], earlier: Sequence[Mapping[str, str]], *, phase: str, contract: Contract) -> bool:
    """Whether the earlier rows of a phase fit everything that the row fits."""
    others = [other for other in earlier if _truth("phase", other.get("phase", ""), phase)]
    # An opaque cell of an earlier row could be false anywhere, unless the row itself demands the very same.
    others = [other for other in others if all(_is_plain(t) or row.get(f) == t for f, t in _cells(other).items())]
    if not others:
        return False
    # A field counts only where an earlier row asks for it.
    asked = sorted({field for other in others for field, text in _cells(other).items() if _is_plain(text)})
    choices = []
    for field in asked:
        texts = [text for one in (row, *others) if _is_plain(text := one.get(field, "")) and text]
        domain = _domain(field, contract, phase=phase)
        own = row.get(field, "")
        fits_own = _always if not _is_plain(own) else _fits(field, own)
        values = [value for value in domain.points(_limits(texts)) if fits_own(value)]
        # Values that no earlier row tells apart are one value.
        choices.append({tuple(_truth(field, other.get(field, ""), value) for other in others) for value in values})
    if math.prod(map(len, choices)) > _MOST_COMBINATIONS:
        return any(all(truth[number] for choice in choices for truth in choice) for number in range(len(others)))
    numbers = range(len(others))
    return all(
        any(all(truth[number] for truth in combination) for number in numbers)
        for combination in itertools.product(*choices)
    )


def _always(_value: Value) -> bool:
    return True


def _fits(field: str, text: str) -> Callable[[Value], bool]:
    return lambda value: _truth(field, text, value)


def _cells(row: Mapping[str, str]) -> dict[str, str]:
    return {field: text for field, text in row.items() if text and field != "phase"}


def _is_plain(text: str) -> bool:
    bare = _NUMBER.sub("#", _QUOTED.sub("", text))
    # Two numbers side by side are a subtraction: its result is no limit that the cell names.
    return not re.search(r"#\s*#", bare) and bool(_PLAIN.match(bare.replace("#", "")))


def _limits(texts: Sequence[str]) -> set[float]:
    return {float(found) for text in texts for found in _NUMBER.findall(_QUOTED.sub("", text))}


def _truth(field: str, text: str, value: Value) -> bool:
    if not text or not _is_plain(text):
        return True  # where it stands in an earlier row it has been shown to be the row's own
    try:
        return bool(zen.evaluate_unary_expression(text, {"$": value, field: value}) is True)
    except RuntimeError:
        return False


def _domain(field: str, contract: Contract, *, phase: str = "") -> _Domain:
    if field == "phase":
        return _Domain("category", categories=(phase,) if phase else PHASES)
    if field == "score":
        if phase in ("before", "fallback"):
            return _Domain("category", nullable=True)
        return _Domain("number", 0.0, 1.0, nullable=not phase)
    return _of_input(contract.input(field))


def _of_input(column: Input) -> _Domain:
    if column.type == "category":
        return _Domain("category", categories=column.categories, nullable=column.nullable)
    if column.type == "boolean":
        return _Domain("integer", 0.0, 1.0, nullable=column.nullable)
    low = -sys.float_info.max if column.minimum is None else column.minimum
    high = sys.float_info.max if column.maximum is None else column.maximum
    return _Domain(column.type, low, high, nullable=column.nullable)
