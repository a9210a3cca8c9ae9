"""Read a case that people wrote as YAML, strictly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from nbkit.errors import CaseSetError
from nbkit.files import write_atomically

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")

Entry = TypeVar("Entry")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that appears twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise CaseSetError("repeated keys", problems=[f"key {key!r} appears twice" for key in repeated])
        found: dict[object, object] = super().construct_mapping(node, deep=deep)
        return found


def read_mapping(path: Path) -> dict[str, object]:
    """Return the one mapping that a file holds.

    Raises
    ------
    CaseSetError
        Not YAML, not a mapping, or a key appears twice.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 -- a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CaseSetError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise CaseSetError(f"expected a mapping, got {type(document).__name__}")
    return {str(key): value for key, value in document.items()}


def check_keys(
    document: Mapping[str, object],
    *,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    formats: Sequence[int] = (1,),
) -> list[str]:
    """Return what is wrong with the keys and the format number of a document."""
    problems = [f"{key}: missing" for key in needed if key not in document]
    problems += [f"{key}: unknown key" for key in document if key not in (*needed, *optional)]
    found = document.get("format", formats[0])
    if isinstance(found, bool) or found not in formats:
        problems.append(f"format: expected {' or '.join(str(known) for known in formats)}, got {found!r}")
    return problems


def check_id(value: object) -> list[str]:
    """Return what is wrong with the id of a case, which is also the name of its file."""
    return [] if _ID.match(str(value)) else [f"id: expected letters, digits, '.', '_', '-', got {value!r}"]


def check_why(value: object) -> list[str]:
    """Return what is wrong with a reason."""
    return [] if isinstance(value, str) and value.strip() else ["why: expected a sentence"]


def check_mapping(name: str, value: object) -> list[str]:
    """Return that a value is no mapping, if it is none."""
    return [] if isinstance(value, Mapping) else [f"{name}: expected a mapping, got {value!r}"]


def is_share(value: object) -> bool:
    """Return whether a value is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def read_folder(directory: Path, *, read: Callable[[Path], Entry], name: Callable[[Entry], str]) -> tuple[Entry, ...]:
    """Read every YAML file of a folder, in the order of their names; one that does not exist holds none.

    Raises
    ------
    CaseSetError
        Everything that is wrong in any file, at once.
    """
    found, problems = [], []
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        try:
            found.append(read(path))
        except CaseSetError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems or (error.message,)]
    ids = [name(entry) for entry in found]
    problems += [f"id {one!r} appears twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    if problems:
        raise CaseSetError(str(directory.name), problems=problems, next_step="correct these files")
    return tuple(found)


def write_document(document: Mapping[str, object], *, directory: Path, what: str) -> Path:
    """Write one case as ``<id>.yaml``, in the place of an older one of that id.

    Raises
    ------
    CaseSetError
        It holds something else than plain numbers and text.
    """
    try:
        text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
    except yaml.representer.RepresenterError as error:
        raise CaseSetError(f"{what}: expected plain numbers and text, got {error.args[-1]!r}") from None
    path = directory / f"{document['id']}.yaml"
    write_atomically(path, content=text.encode())
    return path
