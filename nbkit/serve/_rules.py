"""``rules.json``: one GoRules decision graph beside the model, evaluated before it, after it, and instead of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import zen

from nbkit.contract import Contract, Outcome
from nbkit.errors import RuleError
from nbkit.package import Package
from nbkit.serve._table import Table, compile_table, first_line, table_problems

__all__ = ["Phase", "Rules", "Ruling"]

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
        names = [*(column.name for column in contract.inputs), "phase", "score"]
        kinds = [str(node.get("type")) for node in nodes]
        problems = [
            f"node {n.get('name')!r}: type {k!r} is not allowed"
            for n, k in zip(nodes, kinds, strict=True)
            if k not in _PLAIN_NODES
        ]
        alone = sorted(kinds) == ["decisionTableNode", "inputNode", "outputNode"]
        contents = [_content(node) for node in nodes if node.get("type") == "decisionTableNode"]
        for content in contents:
            problems += table_problems(content, names=names if alone else None)
        if problems:
            raise RuleError("rules.json", problems=problems)
        try:
            graph = zen.ZenEngine().create_decision(text.decode())
            graph.validate()
        except RuntimeError as error:
            raise RuleError(f"rules.json: not a decision graph: {first_line(error)}") from error
        tables = {phase: compile_table(contents[0], names=names, phase=phase) for phase in _PHASES} if alone else {}
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
        if self._graph is None:
            return None
        table = self._tables.get(phase)
        if table is not None and not table.rules:
            return None
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


def _content(node: Mapping[str, object]) -> Mapping[str, object]:
    content = node.get("content")
    if not isinstance(content, dict):
        raise RuleError(f"rules.json: node {node.get('name')!r}: expected a content")
    return content
