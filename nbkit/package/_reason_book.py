"""The book of reason codes: every sentence that may be said about a declined row, checked for completeness."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbkit.contract import Contract, Input
from nbkit.contract._yaml import read_document
from nbkit.errors import ContractError, RationaleError
from nbkit.package._steps import Scalar, is_missing

__all__ = ["REASONS_FORMAT", "ReasonBook", "ReasonText", "load_reasons"]

REASONS_FORMAT = 1
REASONS_FILE = "reasons.yaml"
PROFILE_FILE = "profile.json"

Direction = Literal["high", "low", "any"]

_CODE = re.compile(r"[A-Z][A-Z0-9_-]{0,15}\Z")


class _Package(Protocol):
    """What is used of a ``Package``."""

    @property
    def contract(self) -> Contract:
        """The contract that the model was packaged with."""

    def read(self, path: str) -> bytes:
        """Return a verified file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonText:
    """One entry of ``reasons.yaml``.

    Parameters
    ----------
    code : str
        Capital letters, digits, ``-`` and ``_``.
    inputs : tuple of str
        Inputs whose contributions count for this reason.
    text : str
        What the person is told.
    missing_text : str
        What is told instead where the inputs were missing; needed when one of them may be.
    direction : {"high", "low", "any"}
        Whether the text is only true of a high, or only of a low value.
    """

    code: str
    inputs: tuple[str, ...]
    text: str
    missing_text: str = ""
    direction: Direction = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonBook:
    """Every reason that may be given for a model's decisions.

    Parameters
    ----------
    entries : tuple of ReasonText
        In the order of the file.
    typical : mapping of str to float
        A middle value of each input that has one text for high and another for low values; decides between the two.
    """

    entries: tuple[ReasonText, ...]
    typical: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(
        cls, text: str, *, contract: Contract, source: str = REASONS_FILE, typical: Mapping[str, float] | None = None
    ) -> Self:
        """Read the text of a ``reasons.yaml`` and check it against the contract.

        Parameters
        ----------
        text : str
            YAML, format 1.
        contract : Contract
            Every input must be covered.
        source : str
            Named in errors.
        typical : mapping of str to float, optional
            As the attribute.

        Returns
        -------
        ReasonBook
            Complete: whatever the model declines for, there is a true sentence about it.

        Raises
        ------
        RationaleError
            With all problems at once.
        """
        entries, problems = _read(text, source=source)
        problems += [problem for name in _names(entries) for problem in _unknown(name, contract=contract)]
        for column in contract.inputs:
            problems += _uncovered(column, [entry for entry in entries if column.name in entry.inputs])
        if problems:
            raise RationaleError(source, problems=problems, next_step=f"correct {source}")
        return cls(entries=entries, typical=dict(typical or {}))

    @classmethod
    def from_package(cls, package: _Package) -> Self:
        """Read the book of a package, with the typical values of its training rows.

        Parameters
        ----------
        package : Package
            Holds ``reasons.yaml`` and ``profile.json``.

        Returns
        -------
        ReasonBook
            Complete.

        Raises
        ------
        PackageError
            The package holds no ``reasons.yaml``.
        TamperedPackageError
            A file changed since the package was loaded.
        RationaleError
            The book does not fit the package's contract.
        """
        text = package.read(REASONS_FILE).decode("utf-8", errors="replace")
        return cls.parse(text, contract=package.contract, typical=_typical(json.loads(package.read(PROFILE_FILE))))

    def entry_for(self, name: str, value: Scalar) -> ReasonText:
        """Return the entry whose text is true of this value of an input.

        Parameters
        ----------
        name : str
            An input.
        value : float, str or None
            Its value; None or NaN is missing.

        Returns
        -------
        ReasonText
            The only entry of the input, or the one for its side of the typical value.

        Raises
        ------
        RationaleError
            The input has no entry, or its typical value is needed and not known.
        """
        entries = [entry for entry in self.entries if name in entry.inputs]
        if len(entries) < 2 or is_missing(value):
            for entry in sorted(entries, key=lambda entry: not entry.missing_text):
                return entry
            raise RationaleError(f"{REASONS_FILE}: no reason covers input {name!r}")
        middle = self.typical.get(name)
        if middle is None or not isinstance(value, float | int):
            raise RationaleError(f"{REASONS_FILE}: {name!r} has a high and a low text, but no typical value to compare")
        side = "high" if value > middle else "low"
        return next(entry for entry in entries if entry.direction == side)


def load_reasons(path: Path, *, contract: Contract, typical: Mapping[str, float] | None = None) -> ReasonBook:
    """Read ``reasons.yaml`` and check it against the contract.

    Parameters
    ----------
    path : Path
        The file.
    contract : Contract
        Every input must be covered by a code.
    typical : mapping of str to float, optional
        Middle values of inputs that have a high and a low text.

    Returns
    -------
    ReasonBook
        Complete.

    Raises
    ------
    RationaleError
        The file cannot be read, or has problems: all are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RationaleError(f"{path}: cannot be read ({error})", next_step=f"write {path.name}") from error
    return ReasonBook.parse(text, contract=contract, source=path.name, typical=typical)


def _typical(profile: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> dict[str, float]:
    """Return about the median of each numerical input, from the bins of a reference profile."""
    middles = {}
    for name, bins in profile["inputs"].items():
        edges, counts = bins.get("edges", []), bins.get("counts", [])
        if not sum(counts) or not edges:
            continue
        # Edges are values that occur; the last bin lies above the last edge.
        reached = [sum(counts[: place + 1]) for place in range(len(edges))]
        place = next((place for place, below in enumerate(reached) if below >= sum(counts) / 2), len(edges) - 1)
        # Where the median is also the largest value, that value is the high side.
        largest = reached[place] == sum(counts)
        middles[name] = math.nextafter(edges[place], -math.inf) if largest else edges[place]
    return middles


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: list[str] = Field(min_length=1)
    text: str = Field(min_length=1)
    missing_text: str = ""
    direction: Direction = "any"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    codes: dict[str, _Entry] = Field(min_length=1)


def _read(text: str, *, source: str) -> tuple[tuple[ReasonText, ...], list[str]]:
    try:
        document = read_document(text, source=source)
        file = _File.model_validate(document.value)
    except ContractError as error:
        raise RationaleError(error.message, problems=error.problems) from error
    except ValidationError as error:
        found = [f"$.{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()]
        raise RationaleError(source, problems=[*document.problems, *found]) from None
    problems = list(document.problems)
    problems += [f"$.codes.{code}: expected a code such as R01" for code in file.codes if not _CODE.match(code)]
    entries = tuple(
        ReasonText(
            code=code,
            inputs=tuple(entry.inputs),
            text=entry.text.strip(),
            missing_text=entry.missing_text.strip(),
            direction=entry.direction,
        )
        for code, entry in file.codes.items()
    )
    problems += [f"$.codes.{entry.code}.text: empty" for entry in entries if not entry.text]
    twice = [(entry.code, name) for entry in entries for name in set(entry.inputs) if entry.inputs.count(name) > 1]
    problems += [f"$.codes.{code}.inputs: {name!r} appears twice" for code, name in twice]
    return entries, problems


def _names(entries: Sequence[ReasonText]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        yield from ((entry.code, name) for name in entry.inputs)


def _unknown(place: tuple[str, str], *, contract: Contract) -> list[str]:
    code, name = place
    if any(column.name == name for column in contract.inputs):
        return []
    return [f"$.codes.{code}.inputs: {name!r} is not an input of the contract"]


def _uncovered(column: Input, entries: Sequence[ReasonText]) -> Iterator[str]:
    """Find cases in which the model could decline for an input and no true sentence says so."""
    name = column.name
    codes = ", ".join(entry.code for entry in entries)
    sides = sorted(entry.direction for entry in entries)
    if not entries:
        yield f"input {name!r}: no code covers it"
        return
    if column.reason is not None and column.reason not in [entry.code for entry in entries]:
        yield f"input {name!r}: the contract names code {column.reason}, but it is covered by {codes}"
    if column.type == "category" and sides != ["any"]:
        yield f"input {name!r}: a category is neither high nor low; expected one code with direction any, got {codes}"
    elif sides not in (["any"], ["high"], ["low"], ["high", "low"]):
        yield f"input {name!r}: expected one code, or one for high and one for low; got {codes}"
    elif len(sides) == 1 and sides != ["any"] and sides[0] != _side_of_risk(column):
        yield (
            f"input {name!r}: {codes} is only true of {sides[0]} values, and the contract lets the score rise on the"
            " other side; add a code for it, or declare the input's direction in the contract"
        )
    # A sentinel is a missing value, whether or not the contract also takes null.
    if (column.nullable or column.sentinels) and not any(entry.missing_text for entry in entries):
        yield f"input {name!r}: may be missing, but there is no missing_text in {codes}"


def _side_of_risk(column: Input) -> str:
    return {"increasing": "high", "decreasing": "low"}.get(column.direction or "", "")
