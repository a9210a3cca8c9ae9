"""Read ``contract.yaml`` and say everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Mapping
from pathlib import Path

import rfc8785
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nbkit.contract._descriptions import DESCRIPTIONS
from nbkit.contract._model import CONTRACT_FORMAT, Contract
from nbkit.contract._yaml import Document, path_text, read_document
from nbkit.errors import ContractError

_MOST_SHOWN = 60

# What pydantic expected, in words; the braces are filled from the error's context.
_EXPECTED = {
    "string_type": "text",
    "string_too_short": "some text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "decimal_type": "an amount of money",
    "decimal_parsing": "an amount of money",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "too_short": "at least {min_length} entry",
}

# Where several types are possible pydantic reports each of them; a person needs one sentence.
_EITHER = {
    "thresholds": "'optimize', or a mapping with refer and decline",
    "positive": "an integer, text, or true or false",
    "sentinels": "a number or text",
}


def load_contract(path: Path) -> Contract:
    """Read a contract file.

    Parameters
    ----------
    path : Path
        ``contract.yaml`` of a use case.

    Returns
    -------
    Contract
        The validated contract.

    Raises
    ------
    ContractError
        The file cannot be read or breaks the rules; every problem is named with its place and line.
    """
    return parse_contract(read_text(path), source=str(path))


def parse_contract(text: str, *, source: str) -> Contract:
    """Read a contract from YAML text.

    Parameters
    ----------
    text : str
        YAML; JSON is YAML too.
    source : str
        What errors call the text, such as its file name.

    Returns
    -------
    Contract
        The validated contract.

    Raises
    ------
    ContractError
        The text breaks the rules; every problem is named with its place and line.

    Examples
    --------
    >>> parse_contract("format: 2", source="contract.yaml")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nbkit.errors.ContractError: contract.yaml: 12 problems: $.format: expected 1, got 2 (line 1); $.name: missing; ...
    """
    document = read_document(text, source=source)
    problems = list(document.problems)
    contract = None
    try:
        # Through JSON, because pydantic's strict mode then still reads lists as tuples and text as enums.
        contract = Contract.model_validate_json(json.dumps(document.value), strict=True)
        contract.canonical()
    except ValidationError as error:
        problems += _problems(error, document)
    except rfc8785.CanonicalizationError as error:
        problems.append(f"$: {error}")
    if problems or contract is None:
        problems = list(dict.fromkeys(problems))
        raise ContractError(source, problems=problems, next_step="nbkit contract schema shows every key")
    return contract


def read_text(path: Path) -> str:
    """Return the file's text without touching its line ends.

    Raises
    ------
    ContractError
        There is no such file, or it is not UTF-8 text.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file", next_step="nbkit new NAME --template credit") from None
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ContractError(f"{path}: expected UTF-8 text, got another byte at position {error.start}") from error


def contract_schema() -> dict[str, object]:
    """Return the JSON Schema of ``contract.yaml`` for editors.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12.

    Examples
    --------
    >>> contract_schema()["$id"]
    'urn:nbkit:contract:1'
    """
    schema = Contract.model_json_schema()
    for block, keys in DESCRIPTIONS.items():
        properties = (schema if block == "Contract" else schema["$defs"][block])["properties"]
        for key, description in keys.items():
            properties[key]["description"] = description
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:nbkit:contract:{CONTRACT_FORMAT}",
    }
    return heading | schema | {"title": f"nbkit contract, format {CONTRACT_FORMAT}"}


def _problems(error: ValidationError, document: Document) -> list[str]:
    found: list[str] = []
    for detail in error.errors(include_url=False):
        found += _problem(detail, document)
    return found


def _problem(detail: ErrorDetails, document: Document) -> list[str]:
    kind, got = detail["type"], detail["input"]
    path, branch = _place(detail, document.value)
    if branch and isinstance(got, Mapping) and kind == "literal_error":
        return []  # the mapping's own branch says more
    if kind == "missing":
        return [f"{path_text(path)}: missing{_line(path[:-1], document)}"]
    if kind == "extra_forbidden":
        return [f"{path_text(path)}: unknown key{_nearest(path)}{_line(path, document)}"]
    if kind == "value_error":
        return [_own_problem(text, got, path, document) for text in str(detail["ctx"]["error"]).splitlines()]
    expected = _EITHER[_last_key(path)] if branch else _expected(detail)
    return [f"{path_text(path)}: expected {expected}, got {shown(got)}{_line(path, document)}"]


def _place(detail: ErrorDetails, value: object) -> tuple[tuple[str | int, ...], bool]:
    """Return the path in the document, without the branch names that pydantic puts between."""
    path: list[str | int] = []
    branch = False
    for step in detail["loc"]:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int):
            value = value[int(step)]
        elif detail["type"] != "missing" or step != detail["loc"][-1]:
            branch = step != "[key]"
            continue
        branch = False
        path.append(step)
    return tuple(path), branch


def _own_problem(text: str, got: object, path: tuple[str | int, ...], document: Document) -> str:
    if not isinstance(got, Mapping):
        return f"{path_text(path)}: {text}, got {shown(got)}{_line(path, document)}"
    field, _, rest = text.partition(": ")
    within = (*path, *field.split("."))
    if all(part.isidentifier() for part in field.split(".")):
        return f"{path_text(within)}: {rest}{_line(within, document)}"
    return f"{path_text(path)}: {text}{_line(path, document)}"


def _expected(detail: ErrorDetails) -> str:
    words = _EXPECTED.get(detail["type"])
    context = {name: str(value).removesuffix(".0") for name, value in detail.get("ctx", {}).items()}
    return words.format(**context) if words else f"something else ({detail['msg']})"


def _last_key(path: tuple[str | int, ...]) -> str:
    return next(step for step in reversed(path) if isinstance(step, str))


def _line(path: tuple[str | int, ...], document: Document) -> str:
    line = document.lines.get(path)
    return f" (line {line})" if line and path else ""


def _nearest(path: tuple[str | int, ...]) -> str:
    known = _block_at(path[:-1]).model_fields
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"


def _block_at(path: tuple[str | int, ...]) -> type[BaseModel]:
    block: type[BaseModel] = Contract
    for step in path:
        field = block.model_fields.get(str(step))
        block = (_block_in(field.annotation) if field else None) or block
    return block


def _block_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_block_in(part) for part in typing.get_args(annotation))
    return next((block for block in found if block), None)


def shown(value: object) -> str:
    """Return a value as an error shows it: one line, not long.

    Examples
    --------
    >>> shown({"a": 1}), shown(None), shown("x" * 100)[-4:]
    ('a mapping', 'null', 'x...')
    """
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # A number of thousands of digits cannot even be printed.
    if isinstance(value, int) and abs(value) >= 10**_MOST_SHOWN:
        return "an enormous integer"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
