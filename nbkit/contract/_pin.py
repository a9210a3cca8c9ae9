"""Write one key into ``contract.yaml`` and leave every other byte alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import yaml

from nbkit.contract._load import parse_contract, read_text
from nbkit.contract._model import Contract
from nbkit.contract._yaml import read_document
from nbkit.errors import ContractError
from nbkit.files import write_atomically


def pin_case_set(path: Path, *, reference: str) -> Contract:
    """Write ``evaluate.case_set`` into a contract file, keeping comments and everything else byte for byte.

    Parameters
    ----------
    path : Path
        ``contract.yaml``; it is replaced atomically.
    reference : str
        ``path@sha256:<64 hex digits>``.

    Returns
    -------
    Contract
        The contract as it now is.

    Raises
    ------
    ContractError
        The file or the reference is wrong, or the file is laid out so that the key has no safe place.
    """
    path = path.resolve()
    text = read_text(path)
    before = parse_contract(text, source=str(path))
    edited = _with_case_set(text, json.dumps(reference, ensure_ascii=False))
    after = parse_contract(edited, source=str(path))
    wanted = before.evaluate.model_copy(update={"case_set": reference})
    if after != before.model_copy(update={"evaluate": wanted}):
        raise ContractError(
            f"{path}: evaluate.case_set has no safe place here",
            next_step=f"write it by hand: case_set: {json.dumps(reference)} under evaluate",
        )
    write_atomically(path, mode=stat.S_IMODE(path.stat().st_mode), content=edited.encode())
    return after


def _with_case_set(text: str, quoted: str) -> str:
    root = read_document(text, source="contract").root
    newline = "\r\n" if "\r\n" in text else "\n"
    evaluate = _value_of(root, "evaluate")
    if not isinstance(evaluate, yaml.MappingNode):
        if root.flow_style:
            return _insert_after_brace(text, root, f'"evaluate": {{"case_set": {quoted}}}')
        gap = "" if text.endswith("\n") else newline
        return f"{text}{gap}{newline}evaluate:{newline}  case_set: {quoted}{newline}"
    case_set = _value_of(evaluate, "case_set")
    if case_set is not None:
        start, end = case_set.start_mark.index, case_set.end_mark.index
        return f"{text[:start]}{' ' if start == end else ''}{quoted}{text[end:]}"
    if evaluate.flow_style:
        return _insert_after_brace(text, evaluate, f'"case_set": {quoted}')
    start = evaluate.start_mark
    indent = " " * start.column
    return f"{text[: start.index]}case_set: {quoted}{newline}{indent}{text[start.index :]}"


def _value_of(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in node.value if name.value == key), None)


def _insert_after_brace(text: str, node: yaml.MappingNode, entry: str) -> str:
    after_brace = node.start_mark.index + 1
    return f"{text[:after_brace]}{entry}{', ' if node.value else ''}{text[after_brace:]}"
