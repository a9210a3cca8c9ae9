"""Behaviours: what must hold for any row when something about it is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbkit.contract import Contract
from nbkit.errors import CaseSetError
from nbkit.evaluate._case_yaml import (
    check_id,
    check_keys,
    check_mapping,
    check_why,
    is_share,
    read_folder,
    read_mapping,
)

_FORMAT = 1
_EXPECTATIONS = {"invariance": ("same_score", "same_decision"), "direction": ("not_lower", "not_higher")}
_OPERATIONS = ("set", "add", "multiply")
_NEEDED = ("format", "id", "why", "kind", "change", "expect")
_OPTIONAL = ("where", "tolerance", "allowed_share", "most_rows")
_WORDS = {
    "same_score": "the score stays",
    "same_decision": "the decision stays",
    "not_lower": "the score does not fall",
    "not_higher": "the score does not rise",
}

Plain = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """A change to a row, and what must not follow from it; tried on the rows of the case set.

    Parameters
    ----------
    id : str
        Also the file's name.
    why : str
        Why it must hold.
    kind : str
        ``invariance`` (this is changed and nothing moves) or ``direction`` (this is changed and the score must not move
        the wrong way).
    change : mapping
        Input to ``{set: value}``, ``{set: [values]}`` (each in turn, for one input), ``{add: number}`` or
        ``{multiply: number}``.
    expect : str
        ``same_score`` or ``same_decision``; ``not_lower`` or ``not_higher``.
    where : mapping
        Input to a value or a list of values: only such rows are changed.
    tolerance : float
        Of the score: a smaller move does not count.
    allowed_share : float
        Share of the rows that may behave otherwise, 0..1.
    most_rows : int
        At most so many rows are tried, spread evenly over the case set.

    Raises
    ------
    CaseSetError
        Everything that is wrong, at once.
    """

    id: str
    why: str
    kind: str
    change: Mapping[str, Mapping[str, object]]
    expect: str
    where: Mapping[str, object] = field(default_factory=dict)
    tolerance: float = 0.0
    allowed_share: float = 0.0
    most_rows: int = 1000

    def __post_init__(self) -> None:
        problems = check_id(self.id) + check_why(self.why)
        if self.kind not in _EXPECTATIONS:
            problems.append(f"kind: expected {' or '.join(_EXPECTATIONS)}, got {self.kind!r}")
        elif self.expect not in _EXPECTATIONS[self.kind]:
            wanted = " or ".join(_EXPECTATIONS[self.kind])
            problems.append(f"expect: expected {wanted} for {self.kind}, got {self.expect!r}")
        problems += _change_problems(self.change)
        problems += check_mapping("where", self.where)
        problems += [
            f"{key}: expected a number 0..1, got {value!r}"
            for key, value in (("tolerance", self.tolerance), ("allowed_share", self.allowed_share))
            if not is_share(value)
        ]
        if isinstance(self.most_rows, bool) or not isinstance(self.most_rows, int) or self.most_rows < 1:
            problems.append(f"most_rows: expected a whole number from 1, got {self.most_rows!r}")
        if problems:
            raise CaseSetError(f"behaviour {self.id!r}", problems=problems, next_step="correct the behaviour")

    @property
    def variants(self) -> tuple[Mapping[str, tuple[str, Plain]], ...]:
        """Every change that is tried: input to operation and value."""
        plain: dict[str, tuple[str, Any]] = {}
        listed: tuple[str, list[Any]] | None = None
        for name, operation in self.change.items():
            ((verb, value),) = operation.items()
            if isinstance(value, list):
                listed = (name, value)
            else:
                plain[name] = (verb, value)
        if listed is None:
            return (plain,)
        return tuple(plain | {listed[0]: ("set", value)} for value in listed[1])

    @property
    def sentence(self) -> str:
        """What must hold, in words."""
        words = {"set": "is {}", "add": "rises by {}", "multiply": "is multiplied by {}"}
        parts = []
        for name, operation in self.change.items():
            ((verb, value),) = operation.items()
            shown = " or ".join(str(one) for one in value) if isinstance(value, list) else str(value)
            parts.append(f"{name} {words[verb].format(shown)}")
        return f"when {' and '.join(parts)}, {_WORDS[self.expect]}"

    def document(self) -> dict[str, object]:
        """Return the behaviour as it stands in its file, with every default written out.

        Returns
        -------
        dict
            Plain values, with the format number.
        """
        return {
            "format": _FORMAT,
            "id": self.id,
            "why": self.why,
            "kind": self.kind,
            "change": {name: dict(operation) for name, operation in self.change.items()},
            "expect": self.expect,
            "where": dict(self.where),
            "tolerance": self.tolerance,
            "allowed_share": self.allowed_share,
            "most_rows": self.most_rows,
        }

    def problems_with(self, contract: Contract) -> list[str]:
        """Return what in this behaviour the contract does not know.

        Parameters
        ----------
        contract : Contract
            Of the version that is judged.

        Returns
        -------
        list of str
            Empty when it fits.
        """
        types = {column.name: column.type for column in contract.inputs}
        problems = [
            f"{self.id}: {block}: {name!r} is not an input"
            for block, names in (("change", self.change), ("where", self.where))
            for name in names
            if name not in types
        ]
        problems += [
            f"{self.id}: change: {name!r} is text and can only be set"
            for name, operation in self.change.items()
            if types.get(name) == "category" and "set" not in operation
        ]
        return problems


def load_behaviours(directory: Path) -> tuple[Behaviour, ...]:
    """Read every behaviour of a folder.

    Parameters
    ----------
    directory : Path
        Such as ``cases/behaviours``; one that does not exist holds none.

    Returns
    -------
    tuple of Behaviour
        In the order of their file names.

    Raises
    ------
    CaseSetError
        Everything that is wrong in any file, at once.
    """
    return read_folder(
        directory, read=lambda path: behaviour_of(read_mapping(path)), name=lambda behaviour: behaviour.id
    )


def behaviour_of(document: Mapping[str, object]) -> Behaviour:
    """Return the behaviour that a document describes.

    Raises
    ------
    CaseSetError
        Everything that is wrong with it.
    """
    problems = check_keys(document, needed=_NEEDED, optional=_OPTIONAL, formats=(_FORMAT,))
    if problems:
        raise CaseSetError("behaviour", problems=problems)
    # What is wrong with these values, the behaviour itself says.
    given: dict[str, Any] = {key: value for key, value in document.items() if key != "format"}
    return Behaviour(**given | {"id": str(document["id"])})


def _change_problems(change: object) -> list[str]:
    if not isinstance(change, Mapping) or not change:
        return ["change: expected at least one input with set, add or multiply"]
    problems = []
    lists = 0
    for name, operation in change.items():
        if not isinstance(operation, Mapping) or len(operation) != 1 or next(iter(operation)) not in _OPERATIONS:
            problems.append(f"change.{name}: expected one of {', '.join(_OPERATIONS)}, got {operation!r}")
            continue
        ((verb, value),) = operation.items()
        if verb == "set":
            lists += isinstance(value, list)
            values = value if isinstance(value, list) else [value]
            if not values or not all(one is None or isinstance(one, str | int | float) for one in values):
                problems.append(f"change.{name}.set: expected a plain value or a list of them, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"change.{name}.{verb}: expected a number, got {value!r}")
    if lists > 1:
        problems.append("change: expected a list of values for one input at most")
    return problems
