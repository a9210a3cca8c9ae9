"""The book of reason codes: every sentence that may be said about a declined row, and of which rows it is true."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

from nbkit.contract import Contract
from nbkit.errors import RationaleError
from nbkit.package._reason_check import incomplete, side_of_risk
from nbkit.package._reason_file import REASONS_FORMAT, ReasonText, read_reasons_file
from nbkit.package._steps import Scalar, is_missing

__all__ = ["REASONS_FORMAT", "ReasonBook", "ReasonText", "load_reasons"]

REASONS_FILE = "reasons.yaml"
PROFILE_FILE = "profile.json"

_NOTHING: Mapping[str, str] = MappingProxyType({})


class _Package(Protocol):
    """What is used of a ``Package``."""

    @property
    def contract(self) -> Contract:
        """The contract that the model was packaged with."""

    def read(self, path: str) -> bytes:
        """Return a verified file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonBook:
    """Every reason that may be given for a model's decisions.

    Parameters
    ----------
    entries : tuple of ReasonText
        In the order of the file.
    typical : mapping of str to float
        A middle value of each numerical input; says what is high and what is low.
    risk : mapping of str to str
        ``high`` or ``low`` for each input whose direction the contract declares; on the other side it is never a
        reason.
    policies : tuple of ReasonText
        Codes that only rules give.
    first : (str, str)
        The jurisdiction and language that the service answers in.
    """

    entries: tuple[ReasonText, ...]
    typical: Mapping[str, float] = field(default_factory=dict)
    risk: Mapping[str, str] = field(default_factory=dict)
    policies: tuple[ReasonText, ...] = ()
    first: tuple[str, str] = ("", "")
    _by_input: Mapping[str, tuple[ReasonText, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_input: dict[str, tuple[ReasonText, ...]] = {}
        for entry in self.entries:
            for name in entry.inputs:
                by_input[name] = (*by_input.get(name, ()), entry)
        object.__setattr__(self, "_by_input", by_input)

    @classmethod
    def parse(
        cls, text: str, *, contract: Contract, source: str = REASONS_FILE, typical: Mapping[str, float] | None = None
    ) -> Self:
        """Read the text of a ``reasons.yaml`` and check it against the contract.

        Parameters
        ----------
        text : str
            YAML, format 1 or 2.
        contract : Contract
            Every input must be covered, in every jurisdiction and language.
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
        file = read_reasons_file(text, source=source)
        problems = [*file.problems, *incomplete(file, contract=contract)]
        if problems:
            raise RationaleError(source, problems=problems, next_step=f"correct {source}")
        first = (contract.jurisdictions[0], contract.notice.languages[0])
        risk = {column.name: side_of_risk(column) for column in contract.inputs if column.direction}
        return cls(
            entries=_told_in(first, file.entries),
            typical=dict(typical or {}),
            risk=risk,
            policies=_told_in(first, file.policies),
            first=first,
        )

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

    def entry_for(self, name: str, value: Scalar) -> ReasonText | None:
        """Return the entry whose text is true of this value of an input.

        Parameters
        ----------
        name : str
            An input.
        value : float, str or None
            Its value; None or NaN is missing.

        Returns
        -------
        ReasonText or None
            None where nothing true can be said: the value lies on the side of which no text speaks, or on which the
            contract lets the score only fall.

        Raises
        ------
        RationaleError
            The input has no entry, or its typical value is needed and not known.
        """
        entries = self._by_input.get(name, ())
        if not entries:
            raise RationaleError(f"{REASONS_FILE}: no reason covers input {name!r}")
        if is_missing(value):
            return min(entries, key=lambda entry: not entry.missing_text)
        risky = self.risk.get(name, "")
        if not risky and entries[0].direction == "any":
            return entries[0]
        middle = self.typical.get(name)
        if middle is None or not isinstance(value, float | int):
            raise RationaleError(f"{REASONS_FILE}: {name!r} has a high or a low text, but no typical value to compare")
        side = "high" if value > middle else "low"
        if risky and side != risky:
            return None
        return next((entry for entry in entries if entry.direction in ("any", side)), None)

    def find(self, code: str) -> ReasonText | None:
        """Return the entry of a code, of inputs or of rules.

        Parameters
        ----------
        code : str
            Such as ``R01``.

        Returns
        -------
        ReasonText or None
            None for a code that the book does not hold.
        """
        return next((entry for entry in (*self.entries, *self.policies) if entry.code == code), None)

    def sentence(self, code: str, row: Mapping[str, Scalar], *, special: Mapping[str, str] = _NOTHING) -> str:
        """Return what a rule's code says of a row: where all inputs of the code are missing, what is said of that.

        Parameters
        ----------
        code : str
            What a rule gives as its reason; words that are no code are their own sentence.
        row : mapping
            The inputs.
        special : mapping of str to str
            The sentinel that stood for an input's missing value.

        Returns
        -------
        str
            In the contract's first jurisdiction and language.
        """
        entry = self.find(code)
        if entry is None:
            return code
        absent = entry.inputs and all(is_missing(row.get(name)) for name in entry.inputs)
        return self.of_the_absent(entry, entry.inputs, special=special) if absent else entry.text

    def of_the_absent(self, entry: ReasonText, names: Sequence[str], *, special: Mapping[str, str]) -> str:
        """Return what is said of inputs that are all missing: the sentence of a sentinel before that of any gap.

        Parameters
        ----------
        entry : ReasonText
            Of the book.
        names : sequence of str
            The inputs, most important first.
        special : mapping of str to str
            The sentinel that stood for an input's missing value.

        Returns
        -------
        str
            In the contract's first jurisdiction and language.
        """
        for name in names:
            words = entry.special.get(special.get(name, ""))
            if words is not None:
                return words.find(*self.first)
        return entry.missing_text or entry.text


def load_reasons(path: Path, *, contract: Contract, typical: Mapping[str, float] | None = None) -> ReasonBook:
    """Read ``reasons.yaml`` and check it against the contract.

    Parameters
    ----------
    path : Path
        The file.
    contract : Contract
        Every input must be covered by a code.
    typical : mapping of str to float, optional
        Middle values of numerical inputs.

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


def _told_in(first: tuple[str, str], entries: tuple[ReasonText, ...]) -> tuple[ReasonText, ...]:
    """Fill in what the service tells: the contract's first jurisdiction in its first language."""
    return tuple(
        replace(entry, text=entry.words.find(*first), missing_text=entry.missing_words.find(*first))
        for entry in entries
    )


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
