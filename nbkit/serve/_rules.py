"""``rules.json``: one GoRules decision graph beside the model, evaluated before it, after it, and instead of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal, Self

import zen

from nbkit.contract import Contract, Outcome
from nbkit.errors import RuleError
from nbkit.package import Package
from nbkit.serve._rule_check import expression_problems, value_kinds
from nbkit.serve._table import Table, compile_table, first_line, table_problems

__all__ = ["Phase", "Rules", "Ruling", "check_rules"]

Phase = Literal["before", "after", "fallback"]
Row = Mapping[str, float | str | None]

_PHASES: tuple[Phase, ...] = ("before", "after", "fallback")

# Nodes that only compare and compute. Others run JavaScript or load further files.
_PLAIN_NODES = {"inputNode", "outputNode", "decisionTableNode", "expressionNode", "switchNode"}

_OUTCOMES = frozenset(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a rule says about a row.

    Parameters
    ----------
    decision : str
        approve, refer or decline.
    rule : str
        Name of the rule.
    reason : str
        Reason code, or a sentence; a decline has one.
    """

    decision: str
    rule: str
    reason: str


class Rules:
    """The rules of one package.

    A row is given to them with ``phase`` (before, after, fallback) and ``score`` (only after the model). A table with
    hit policy ``first`` is compiled; any other graph is evaluated by the engine.
    """

    def __init__(self, graph: object | None = None, *, tables: Mapping[Phase, Table] | None = None) -> None:
        self._graph = graph
        self._tables = tables or {}
        said = {phase: self._tables.get(phase) for phase in _PHASES}
        # Asked for every row: nothing is looked up for rules that cannot answer.
        self._speaking = frozenset(
            phase for phase, table in said.items() if graph is not None and (table is None or table.rules)
        )

    @classmethod
    def parse(cls, text: bytes, *, contract: Contract) -> Self:
        """Read a graph and check it against the contract.

        Parameters
        ----------
        text : bytes
            GoRules JDM, as its editor writes it.
        contract : Contract
            Whose inputs the rules may name.

        Returns
        -------
        Rules
            Ready to judge rows.

        Raises
        ------
        RuleError
            All problems at once: also cells that the engine would silently never match.
        """
        nodes = _nodes(text)
        problems = _problems(nodes, contract=contract, thorough=False)
        if problems:
            raise RuleError("rules.json", problems=problems)
        try:
            graph = zen.ZenEngine().create_decision(text.decode())
            graph.validate()
        except RuntimeError as error:
            raise RuleError(f"rules.json: not a decision graph: {first_line(error)}") from error
        tables: dict[Phase, Table | None] = {}
        if _is_one_table(nodes):
            content = next(_content(node) for node in nodes if node.get("type") == "decisionTableNode")
            names = value_kinds(contract)
            tables = {phase: compile_table(content, names=names, phase=phase) for phase in _PHASES}
        return cls(graph, tables={phase: table for phase, table in tables.items() if table is not None})

    @classmethod
    def from_package(cls, package: Package) -> Self:
        """Read the rules that travel with a package.

        Parameters
        ----------
        package : Package
            Verified.

        Returns
        -------
        Rules
            None of them ever answers where the package has no rules.

        Raises
        ------
        RuleError
            The file does not fit the contract.
        """
        rules = package.contract.serve.rules
        listed = package.manifest["files"]
        if not isinstance(listed, Mapping) or rules not in listed:
            return cls()
        return cls.parse(package.read(rules), contract=package.contract)

    def speak(self, phase: Phase) -> bool:
        """Return whether any rule could answer in a phase.

        Parameters
        ----------
        phase : {"before", "after", "fallback"}
            When they would be asked.

        Returns
        -------
        bool
            False where no row needs to be asked about.
        """
        return phase in self._speaking

    def judge(self, row: Row, *, phase: Phase, score: float | None = None) -> Ruling | None:
        """Return what the rules say about a row.

        Parameters
        ----------
        row : mapping
            As ``RowCheck.check`` returns it.
        phase : {"before", "after", "fallback"}
            When they are asked.
        score : float, optional
            After the model.

        Returns
        -------
        Ruling or None
            None when no rule fits.

        Raises
        ------
        RuleError
            The graph failed, or said something that is not a decision.
        """
        if phase not in self._speaking:
            return None
        table = self._tables.get(phase)
        context = {**row, "phase": phase, "score": score}
        said = table.first(context) if table is not None else self.evaluate_graph(context)
        return _ruling(said) if said else None

    def evaluate_graph(self, context: Mapping[str, object]) -> Mapping[str, object]:
        """Evaluate the graph with the engine itself.

        Parameters
        ----------
        context : mapping
            The row, ``phase`` and ``score``.

        Returns
        -------
        mapping
            The graph's outputs; empty when nothing fits.

        Raises
        ------
        RuleError
            The engine failed.
        """
        try:
            result = self._graph.evaluate(dict(context))["result"]  # type: ignore[union-attr]
        except RuntimeError as error:
            raise RuleError(f"rules.json: {first_line(error)}") from error
        if result is not None and not isinstance(result, dict):
            raise RuleError(f"rules.json: expected one result, got {type(result).__name__}")
        return result or {}


def check_rules(text: bytes, *, contract: Contract) -> tuple[str, ...]:
    """Check rules as they are packaged: everything that would never fit, as well as what `Rules.parse` refuses.

    Parameters
    ----------
    text : bytes
        GoRules JDM, as its editor writes it.
    contract : Contract
        Whose inputs the rules may name.

    Returns
    -------
    tuple of str
        All problems at once: unknown fields, types that do not match, values that no row has, and rows of a table that
        earlier ones leave nothing. Empty when the rules are sound.
    """
    try:
        nodes = _nodes(text)
        problems = _problems(nodes, contract=contract, thorough=True)
        if not problems:
            Rules.parse(text, contract=contract)
    except RuleError as error:
        return error.problems or (error.message,)
    return tuple(problems)


def _is_one_table(nodes: list[Mapping[str, object]]) -> bool:
    return sorted(str(node.get("type")) for node in nodes) == ["decisionTableNode", "inputNode", "outputNode"]


def _problems(nodes: list[Mapping[str, object]], *, contract: Contract, thorough: bool) -> list[str]:
    problems = [
        f"node {node.get('name')!r}: type {kind!r} is not allowed"
        for node in nodes
        if (kind := str(node.get("type"))) not in _PLAIN_NODES
    ]
    computed, alone = _computed(nodes), _is_one_table(nodes)
    for content in [_content(node) for node in nodes if node.get("type") == "decisionTableNode"]:
        problems += table_problems(content, contract=contract, computed=computed, alone=alone, thorough=thorough)
    return problems + (_expression_problems(nodes, contract=contract, computed=computed) if thorough else [])


def _ruling(said: Mapping[str, object]) -> Ruling | None:
    decision = said.get("decision")
    if decision is None:
        return None
    if decision not in _OUTCOMES:
        raise RuleError(f"rules.json: decision: expected approve, refer or decline, got {decision!r}")
    return Ruling(decision=str(decision), rule=str(said.get("rule") or "unnamed"), reason=str(said.get("reason") or ""))


def _nodes(text: bytes) -> list[Mapping[str, object]]:
    try:
        graph = json.loads(text)
    except ValueError as error:
        raise RuleError(f"rules.json: expected JSON: {error}") from error
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise RuleError("rules.json: nodes: expected a list of objects, as the GoRules editor writes it")
    return nodes


def _expressions(nodes: list[Mapping[str, object]]) -> list[tuple[str, str, str]]:
    """Node, key and text of every expression outside the tables."""
    found = []
    for node in nodes:
        content = node.get("content")
        content = content if isinstance(content, dict) else {}
        lines = content.get("expressions") if node.get("type") == "expressionNode" else content.get("statements")
        for line in lines if isinstance(lines, list) else ():
            if node.get("type") in ("expressionNode", "switchNode") and isinstance(line, dict):
                text = str(line.get("value") or line.get("condition") or "").strip()
                found.append((str(node.get("name")), str(line.get("key") or "condition"), text))
    return found


def _computed(nodes: list[Mapping[str, object]]) -> frozenset[str]:
    keys = {str(line[1]) for line in _expressions(nodes)}
    for node in nodes:
        content = node.get("content")
        if node.get("type") == "decisionTableNode" and isinstance(content, dict) and content.get("passThrough"):
            outputs = content.get("outputs")
            keys |= (
                {str(o.get("field")) for o in outputs if isinstance(o, dict)} if isinstance(outputs, list) else set()
            )
    return frozenset(key.split(".")[0] for key in keys)


def _expression_problems(nodes: list[Mapping[str, object]], *, contract: Contract, computed: Set[str]) -> list[str]:
    problems = []
    for node, key, text in _expressions(nodes):
        try:
            if text:
                zen.compile_expression(text)
        except RuntimeError as error:
            problems.append(f"node {node!r}, {key!r}: cannot be read: {text!r}: {first_line(error)}")
            continue
        found = expression_problems(text, contract=contract, computed=computed) if text else []
        problems += [f"node {node!r}, {key!r}: {problem}" for problem in found]
    return problems


def _content(node: Mapping[str, object]) -> Mapping[str, object]:
    content = node.get("content")
    if not isinstance(content, dict):
        raise RuleError(f"rules.json: node {node.get('name')!r}: expected a content")
    return content
