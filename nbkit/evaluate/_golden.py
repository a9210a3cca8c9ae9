"""Golden cases: rows whose decision must never change silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbkit.contract import Outcome
from nbkit.errors import CaseSetError
from nbkit.evaluate._case_yaml import (
    check_id,
    check_keys,
    check_mapping,
    check_why,
    is_share,
    read_folder,
    read_mapping,
    write_document,
)

# 2 added `record`: what production answered, of an incident. A case without it is still written as 1.
_FORMAT, _INCIDENT_FORMAT = 1, 2
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
    record : mapping
        Of an incident: the audit record that it was made from (its id, who answered what, and when); empty otherwise.

    Raises
    ------
    CaseSetError
        The case says nothing that can be checked, or contradicts itself.
    """

    id: str
    why: str
    inputs: Mapping[str, object]
    expect: Mapping[str, object]
    record: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = check_id(self.id) + check_why(self.why)
        problems += check_mapping("record", self.record)
        if not isinstance(self.inputs, Mapping) or not self.inputs:
            problems.append("inputs: expected a value for every input")
        problems += _expectation_problems(self.expect)
        if problems:
            raise CaseSetError(f"golden case {self.id!r}", problems=problems, next_step="correct the case")

    @property
    def kind(self) -> str:
        """``incident`` when it was made from an audit record, otherwise ``golden``."""
        return "incident" if self.record else "golden"

    def document(self) -> dict[str, object]:
        """Return the case as it is written to its file.

        Returns
        -------
        dict
            Plain values, with the format number.
        """
        found = {
            "format": _INCIDENT_FORMAT if self.record else _FORMAT,
            "id": self.id,
            "why": self.why,
            "inputs": dict(self.inputs),
            "expect": {key: _plain(value) for key, value in self.expect.items()},
        }
        return found | ({"record": dict(self.record)} if self.record else {})

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
    return read_folder(directory, read=_read, name=lambda case: case.id)


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
    return write_document(case.document(), directory=directory, what=f"golden case {case.id!r}")


def golden_of(document: Mapping[str, object]) -> GoldenCase:
    """Return the case that a document describes.

    Raises
    ------
    CaseSetError
        Everything that is wrong with it.
    """
    problems = check_keys(
        document,
        needed=("format", "id", "why", "inputs", "expect"),
        optional=("record",) if document.get("format") == _INCIDENT_FORMAT else (),
        formats=(_FORMAT, _INCIDENT_FORMAT),
    )
    if problems:
        raise CaseSetError("golden case", problems=problems)
    # What is wrong with these values, the case itself says.
    given: dict[str, Any] = {key: value for key, value in document.items() if key != "format"}
    return GoldenCase(**given | {"id": str(document["id"])})


def _read(path: Path) -> GoldenCase:
    return golden_of(read_mapping(path))


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
    bad = [(key, value) for key, value in limits if not is_share(value)]
    problems += [f"expect.{key}: expected a number 0..1, got {value!r}" for key, value in bad]
    if len(limits) == 2 and not bad and float(limits[0][1]) > float(limits[1][1]):
        problems.append(f"expect.score_min: expected at most score_max {limits[1][1]!r}, got {limits[0][1]!r}")
    both = set(_texts(expect.get("reason_present"))) & set(_texts(expect.get("reason_absent")))
    problems += [f"expect: reason {code!r} is expected to be present and absent" for code in sorted(both)]
    return problems


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
