"""A decision table of ``rules.json``, compiled cell by cell: the engine's own expressions without its graph.

A graph takes 200 µs to evaluate, its cells one each; a test holds both to the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass

import zen

from nbkit.contract import Contract
from nbkit.errors import RuleError
from nbkit.serve._rule_check import cell_problems, unreachable_rows, value_kinds

_Row = Mapping[str, float | str | None]
_Cell = Callable[[_Row], bool]

_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# An output cell that is one literal: the same for every row that matches.
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d+(\.\d+)?|true|false|null")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    cells: tuple[_Cell, ...]
    output: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rules of one phase, in order; the first that fits answers."""

    rules: tuple[_Rule, ...]

    def first(self, row: _Row) -> Mapping[str, object] | None:
        """Return the outputs of the first rule whose cells all fit."""
        for rule in self.rules:
            if all(cell(row) for cell in rule.cells):
                return rule.output
        return None


def compile_table(content: Mapping[str, object], *, names: Collection[str], phase: str) -> Table | None:
    """Compile the rules that can fit in a phase; None where only the engine's graph gives the same answers."""
    columns, outputs, rules = (_list(content, key) for key in ("inputs", "outputs", "rules"))
    special = content.keys() - {"hitPolicy", "inputs", "outputs", "rules", "passThrough", "executionMode"}
    plain = content.get("hitPolicy") == "first" and not content.get("passThrough")
    if not plain or any(content.get(key) for key in special) or content.get("executionMode", "single") != "single":
        return None
    fields = [column.get("field") for column in columns]
    if not all(isinstance(field, str) and _NAME.match(field) for field in (*fields, *names)):
        return None
    compiled = []
    for rule in rules:
        texts = [str(rule.get(str(column.get("id"))) or "").strip() for column in columns]
        told = {str(column.get("field")): str(rule.get(str(column.get("id"))) or "").strip() for column in outputs}
        if any("$" in text for text in texts) or not all(
            not text or _LITERAL.fullmatch(text) for text in told.values()
        ):
            return None
        pairs = [(str(field), text) for field, text in zip(fields, texts, strict=True) if text]
        always = [_fits("phase", text, names=())({"phase": phase}) for field, text in pairs if field == "phase"]
        if all(always):
            cells = tuple(_fits(field, text, names=names) for field, text in pairs if field != "phase")
            output = {field: zen.evaluate_expression(text, {}) for field, text in told.items() if text}
            compiled.append(_Rule(cells=cells, output=output))
    return Table(rules=tuple(compiled))


def table_problems(
    content: Mapping[str, object], *, contract: Contract, computed: Set[str], alone: bool, thorough: bool
) -> list[str]:
    """Say what the engine itself would silently read as 'no rule fits'.

    That is a cell that does not parse and a column that no row has; when it is thorough, also a value of another type
    and, where the table stands alone, a row that is never reached. ``computed`` are fields that earlier nodes add.
    """
    problems = []
    columns, outputs, rules = (_list(content, key) for key in ("inputs", "outputs", "rules"))
    names = value_kinds(contract).keys() | computed
    for column in columns:
        field = column.get("field")
        if (alone or thorough) and isinstance(field, str) and field and field not in names:
            problems.append(f"column {field!r}: not an input of the contract, nor phase or score")
    for number, rule in enumerate(rules, start=1):
        for column, unary in (*((c, bool(c.get("field"))) for c in columns), *((c, False) for c in outputs)):
            text = str(rule.get(str(column.get("id"))) or "").strip()
            place = f"rule {number}, {column.get('field') or column.get('name')!r}"
            found = [problem] if (problem := _syntax_problem(text, unary=unary)) else []
            if thorough and not found and unary and not computed:
                found = cell_problems(str(column.get("field")), text, contract=contract)
            problems += [f"{place}: {problem}" for problem in found]
        problems += _output_problems(rule, outputs, number=number)
    if thorough and alone and not problems and content.get("hitPolicy") == "first":
        problems += unreachable_rows([_texts(rule, columns) for rule in rules], contract=contract)
    return problems


def _texts(rule: Mapping[str, object], columns: list[Mapping[str, object]]) -> dict[str, str]:
    return {
        str(column.get("field")): str(rule.get(str(column.get("id"))) or "").strip()
        for column in columns
        if column.get("field")
    }


def _output_problems(rule: Mapping[str, object], outputs: list[Mapping[str, object]], *, number: int) -> list[str]:
    told = {str(column.get("field")): str(rule.get(str(column.get("id"))) or "").strip() for column in outputs}
    decision = told.get("decision", "").strip("'\"")
    if not decision:
        return [f"rule {number}: expected an output 'decision'"]
    if not _LITERAL.fullmatch(told["decision"]):
        return []  # only known once it is evaluated
    if decision not in ("approve", "refer", "decline"):
        return [f"rule {number}, 'decision': expected approve, refer or decline, got {decision!r}"]
    if decision == "decline" and not told.get("reason", "").strip("'\""):
        return [f"rule {number}: declines without an output 'reason'; nobody is declined without one"]
    return []


def _syntax_problem(text: str, *, unary: bool) -> str:
    if not text:
        return ""
    try:
        (zen.compile_unary_expression if unary else zen.compile_expression)(text)
    except RuntimeError as error:
        return f"cannot be read: {text!r}: {first_line(error)}"
    return ""


def _fits(field: str, text: str, *, names: Collection[str]) -> _Cell:
    expression = zen.compile_unary_expression(text)
    others = set(_WORD.findall(_QUOTED.sub("", text))) & set(names)

    def fits(row: _Row) -> bool:
        context = {"$": row[field], **{name: row[name] for name in others}}
        try:
            return expression.evaluate(context) is True
        except RuntimeError:
            return False  # as in the engine: a cell that cannot be compared with the value does not fit it

    return fits


def first_line(error: RuntimeError) -> str:
    """Return the message without the stack backtrace that the engine appends."""
    return str(error).split("\n", 1)[0]


def _list(content: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise RuleError(f"decision table: {key}: expected a list of objects")
    return found
