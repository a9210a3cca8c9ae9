"""The parameters that a notebook declares in its tagged cell."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

from nbkit.errors import ParameterError
from nbkit.retrain._annotation import Allowed, read_annotation
from nbkit.retrain._cells import read_cells
from nbkit.retrain._convert import Value, from_python

TAG = "parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a notebook.

    Parameters
    ----------
    name : str
        The variable that the parameters cell assigns.
    allowed : Allowed
        What the annotation allows; ``str(allowed)`` is readable, such as ``int in 10..2000``.
    default : int, float, str, bool or None
        The value in the notebook; ``None`` as well where ``required``.
    required : bool
        Whether the cell only declares the name, so that every run must give a value.
    description : str
        The comment at the end of its line.
    """

    name: str
    allowed: Allowed
    default: Value = None
    required: bool = False
    description: str = ""


def notebook_parameters(path: Path) -> tuple[Parameter, ...]:
    """Read the parameters of a notebook from the cell tagged ``parameters``, without running it.

    The cell holds typed assignments of literals, and imports of the types. A comment at the end of a line describes
    the parameter::

        from typing import Annotated, Literal

        max_iter: Annotated[int, "10..2000"] = 300  # trees at most
        learning_rate: Annotated[float, "0.001.."] = 0.1
        seed: int | None = None
        strategy: Literal["mean", "median"] = "median"

    A range includes its ends; ``"0.0.."`` and ``"..1.0"`` leave one end open. It is a plain string, so the cell runs in
    any notebook without nbkit.

    Parameters
    ----------
    path : Path
        The notebook.

    Returns
    -------
    tuple of Parameter
        In the order of the cell; empty when no cell has the tag.

    Raises
    ------
    ParameterError
        The cell holds something else, or a default that its own annotation does not allow: all problems at once.
    UsageError
        The file is not a notebook.
    """
    tagged = [cell for cell in read_cells(path) if TAG in cell.tags and cell.kind == "code"]
    if not tagged:
        return ()
    place = f"{path.name}, parameters cell"
    if len(tagged) > 1:
        raise ParameterError(f"{place}: expected one cell with the tag 'parameters', got {len(tagged)}")
    try:
        body = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise ParameterError(f"{place}, line {error.lineno}: expected typed assignments, got {error.msg}") from None
    return _declared(body, comments=_comments(tagged[0].source), place=place)


def _declared(body: list[ast.stmt], *, comments: dict[int, str], place: str) -> tuple[Parameter, ...]:
    declared: dict[str, Parameter] = {}
    problems = []
    for statement in body:
        if _is_harmless(statement):
            continue
        try:
            parameter = _parameter(statement, comment=comments.get(statement.end_lineno or 0, ""))
            if parameter.name in declared:
                raise ParameterError(f"{parameter.name} is declared twice")
        except ParameterError as problem:
            problems.append(f"line {statement.lineno}: {problem}")
        else:
            declared[parameter.name] = parameter
    if problems:
        raise ParameterError(place, problems=problems)
    return tuple(declared.values())


def _is_harmless(statement: ast.stmt) -> bool:
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return text or isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)


def _parameter(statement: ast.stmt, *, comment: str) -> Parameter:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        name = statement.targets[0].id
        value = ast.unparse(statement.value)
        raise ParameterError(f"{name} has no type; write {name}: {_guess(statement.value)} = {value}")
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        got = ast.unparse(statement).splitlines()[0]
        raise ParameterError(f"expected a typed assignment such as max_iter: int = 300, got {got}")
    name = statement.target.id
    try:
        allowed = read_annotation(statement.annotation)
    except ParameterError as problem:
        raise ParameterError(f"{name}: {problem}") from None
    if statement.value is None:
        return Parameter(name=name, allowed=allowed, required=True, description=comment)
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ParameterError(f"{name}: expected a literal, got {ast.unparse(statement.value)}") from None
    try:
        return Parameter(name=name, allowed=allowed, default=from_python(default, allowed), description=comment)
    except ParameterError as problem:
        raise ParameterError(f"the default of {name}: {problem}") from None


def _guess(value: ast.expr) -> str:
    kind = type(value.value).__name__ if isinstance(value, ast.Constant) else ""
    return kind if kind in ("int", "float", "str", "bool") else "float"


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
