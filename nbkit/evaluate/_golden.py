"""Golden cases: rows whose decision must never change silently."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from nbkit.contract import Outcome
from nbkit.errors import CaseSetError
from nbkit.files import write_atomically

_FORMAT = 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
_EXPECTATIONS = ("decision", "score_min", "score_max", "reason_present", "reason_absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One row with the answer that people agreed on.

    Parameters
    ----------
    id : str
        Also the file's name.
    why : str
        Why this answer must hold, for the person who one day wants to change it.
    inputs : mapping
        A value for every input of the contract.
    expect : mapping
        At least one of ``decision`` (one outcome, or a list of those allowed), ``score_min``, ``score_max``,
        ``reason_present`` and ``reason_absent`` (one reason code or a list).

    Raises
    ------
    CaseSetError
        The case says nothing that can be checked, or contradicts itself.
    """

    id: str
    why: str
    inputs: Mapping[str, object]
    expect: Mapping[str, object]

    def __post_init__(self) -> None:
        problems = [] if _ID.match(str(self.id)) else [f"id: expected letters, digits, '.', '_', '-', got {self.id!r}"]
        if not isinstance(self.why, str) or not self.why.strip():
            problems.append("why: expected a sentence")
        if not isinstance(self.inputs, Mapping) or not self.inputs:
            problems.append("inputs: expected a value for every input")
        problems += _expectation_problems(self.expect)
        if problems:
            raise CaseSetError(f"golden case {self.id!r}", problems=problems, next_step="correct the case")

    @property
    def decisions(self) -> tuple[str, ...]:
        """Outcomes that are allowed; empty means any."""
        return _texts(self.expect.get("decision"))

    @property
    def score_range(self) -> tuple[float, float]:
        """Lowest and highest score that is allowed."""
        low, high = self.expect.get("score_min", 0.0), self.expect.get("score_max", 1.0)
        return float(str(low)), float(str(high))

    @property
    def reasons_present(self) -> tuple[str, ...]:
        """Reason codes that must be given."""
        return _texts(self.expect.get("reason_present"))

    @property
    def reasons_absent(self) -> tuple[str, ...]:
        """Reason codes that must not be given."""
        return _texts(self.expect.get("reason_absent"))


def load_golden(directory: Path) -> tuple[GoldenCase, ...]:
    """Read every golden case of a folder.

    Parameters
    ----------
    directory : Path
        Such as ``cases/golden``; one that does not exist holds no case.

    Returns
    -------
    tuple of GoldenCase
        In the order of their file names.

    Raises
    ------
    CaseSetError
        Everything that is wrong in any file, at once.
    """
    cases, problems = [], []
    paths = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")])
    for path in paths:
        try:
            cases.append(_read(path))
        except CaseSetError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems or (error.message,)]
    ids = [case.id for case in cases]
    problems += [f"id {name!r} appears twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
    if problems:
        raise CaseSetError(str(directory.name), problems=problems, next_step="correct these files")
    return tuple(cases)


def write_golden(case: GoldenCase, *, directory: Path) -> Path:
    """Write one golden case as ``<id>.yaml``, in the place of an older one of that id.

    Parameters
    ----------
    case : GoldenCase
        What to write.
    directory : Path
        Such as ``cases/golden``; made when it does not exist.

    Returns
    -------
    Path
        The file.
    """
    document = {
        "format": _FORMAT,
        "id": case.id,
        "why": case.why,
        "inputs": dict(case.inputs),
        "expect": {key: _plain(value) for key, value in case.expect.items()},
    }
    try:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    except yaml.representer.RepresenterError as error:
        raise CaseSetError(
            f"golden case {case.id!r}: expected plain numbers and text, got {error.args[-1]!r}"
        ) from None
    path = directory / f"{case.id}.yaml"
    write_atomically(path, content=text.encode())
    return path


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that appears twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise CaseSetError("repeated keys", problems=[f"key {key!r} appears twice" for key in repeated])
        found: dict[object, object] = super().construct_mapping(node, deep=deep)
        return found


def _read(path: Path) -> GoldenCase:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 -- a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CaseSetError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise CaseSetError(f"expected a mapping, got {type(document).__name__}")
    problems = []
    wanted = ("format", "id", "why", "inputs", "expect")
    problems += [f"{key}: missing" for key in wanted if key not in document]
    problems += [f"{key}: unknown key" for key in document if key not in wanted]
    if document.get("format", _FORMAT) != _FORMAT:
        problems.append(f"format: expected {_FORMAT}, got {document['format']!r}")
    if problems:
        raise CaseSetError(path.name, problems=problems)
    return GoldenCase(id=str(document["id"]), why=document["why"], inputs=document["inputs"], expect=document["expect"])


def _expectation_problems(expect: object) -> list[str]:
    if not isinstance(expect, Mapping) or not expect:
        return [f"expect: expected at least one of {', '.join(_EXPECTATIONS)}"]
    problems = [f"expect.{key}: unknown key" for key in expect if key not in _EXPECTATIONS]
    problems += [
        f"expect.{key}: expected text or a list of text, got {expect[key]!r}"
        for key in ("decision", "reason_present", "reason_absent")
        if key in expect and not _texts(expect[key])
    ]
    outcomes = [outcome.value for outcome in Outcome]
    decisions = _texts(expect.get("decision"))
    problems += [
        f"expect.decision: expected {', '.join(outcomes)}, got {found!r}"
        for found in decisions
        if found not in outcomes
    ]
    limits = [(key, expect[key]) for key in ("score_min", "score_max") if key in expect]
    bad = [(key, value) for key, value in limits if not _is_score(value)]
    problems += [f"expect.{key}: expected a number 0..1, got {value!r}" for key, value in bad]
    if len(limits) == 2 and not bad and float(limits[0][1]) > float(limits[1][1]):
        problems.append(f"expect.score_min: expected at most score_max {limits[1][1]!r}, got {limits[0][1]!r}")
    both = set(_texts(expect.get("reason_present"))) & set(_texts(expect.get("reason_absent")))
    problems += [f"expect: reason {code!r} is expected to be present and absent" for code in sorted(both)]
    return problems


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (str(value),)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(str(item) for item in value)
    return ()
