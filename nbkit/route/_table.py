"""Several models behind one address: ``routes.json`` says which of them answers which row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import zen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbkit.errors import RouteError

__all__ = ["Route", "RouteTable"]

# Raise it when a key changes its meaning; a file of each older format stays in tests/unit/route/golden and is read.
ROUTES_FORMAT = 1

_Name = Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_-]{0,62}\z")]


class _Route(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: _Name
    when: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    name: _Name
    routes: Annotated[tuple[_Route, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    Parameters
    ----------
    model : str
        The registered model that answers.
    when : str
        The condition, as it is written; empty for the last.
    """

    model: str
    when: str


class RouteTable:
    """Which model answers which row; the first route whose condition is true does.

    Examples
    --------
    >>> table = RouteTable.parse(b'{"format": 1, "name": "lending", "routes": ['
    ...     b'{"when": "amount > 100000", "model": "mortgage"}, {"model": "consumer"}]}')
    >>> table.choose({"amount": 250_000}).model, table.choose({"amount": 900}).model
    ('mortgage', 'consumer')
    """

    def __init__(self, name: str, routes: tuple[tuple[Route, Callable[[Mapping[str, object]], bool]], ...]) -> None:
        self._name = name
        self._routes = routes

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Parameters
        ----------
        path : Path
            ``routes.json``.

        Returns
        -------
        RouteTable
            Ready.

        Raises
        ------
        RouteError
            The file cannot be read or is wrong: all problems at once.
        """
        try:
            return cls.parse(path.read_bytes(), source=str(path))
        except OSError as error:
            raise RouteError(f"{path}: cannot be read: {error.strerror}") from error

    @classmethod
    def parse(cls, text: bytes, *, source: str = "routes.json") -> Self:
        """Read a table.

        Parameters
        ----------
        text : bytes
            ``{"format": 1, "name": ..., "routes": [{"when": EXPRESSION, "model": NAME}, ..., {"model": NAME}]}``.
        source : str
            Named in errors.

        Returns
        -------
        RouteTable
            Ready.

        Raises
        ------
        RouteError
            All problems at once.
        """
        try:
            file = _File.model_validate(json.loads(text))
        except ValidationError as error:
            problems = [f"$.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise RouteError(source, problems=problems) from error
        except ValueError as error:
            raise RouteError(f"{source}: expected JSON: {error}") from error
        problems = [] if file.format == ROUTES_FORMAT else [f"$.format: expected {ROUTES_FORMAT}, got {file.format}"]
        last = len(file.routes) - 1
        routes = []
        for number, entry in enumerate(file.routes):
            place = f"$.routes.{number}"
            if not entry.when and number != last:
                problems.append(f"{place}: without a condition only the last route is reached")
            if entry.when and number == last:
                problems.append(f"{place}: expected no condition on the last route, so that every row has a model")
            try:
                condition = _condition(entry.when)
            except RuntimeError as error:
                problems.append(f"{place}.when: cannot be read: {entry.when!r}: {str(error).split(chr(10), 1)[0]}")
            else:
                routes.append((Route(model=entry.model, when=entry.when), condition))
        if problems:
            raise RouteError(source, problems=problems)
        return cls(file.name, tuple(routes))

    @property
    def name(self) -> str:
        """What the table is called; requests are sent to it as to a model."""
        return self._name

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that a row may be sent to, once."""
        return tuple(dict.fromkeys(route.model for route, _ in self._routes))

    @property
    def fields(self) -> frozenset[str]:
        """Every input that a condition reads."""
        return frozenset(name for route, _ in self._routes for name in _names(route.when))

    def choose(self, inputs: Mapping[str, object]) -> Route:
        """Return the route of a row.

        Parameters
        ----------
        inputs : mapping
            As the caller sent them: the chosen model's contract judges them afterwards.

        Returns
        -------
        Route
            The first whose condition is true. A condition that cannot be evaluated is not true.
        """
        return next(route for route, condition in self._routes if condition(inputs))


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_WORD = re.compile(r"(?<![\w.#$])[A-Za-z_]\w*(?!\w*\s*\()")
_KEYWORDS = frozenset({"and", "or", "not", "in", "true", "false", "null"})


def _names(when: str) -> set[str]:
    return set(_WORD.findall(_QUOTED.sub("''", when))) - _KEYWORDS


def _condition(when: str) -> Callable[[Mapping[str, object]], bool]:
    if not when:
        return lambda _inputs: True
    expression, names = zen.compile_expression(when), sorted(_names(when))

    def holds(inputs: Mapping[str, object]) -> bool:
        try:
            return expression.evaluate({name: inputs.get(name) for name in names}) is True
        except (RuntimeError, TypeError, ValueError, OverflowError):
            return False

    return holds
