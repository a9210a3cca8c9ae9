"""What the law asks of whoever decides, by jurisdiction: dated profiles in files, compared with a contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbkit.contract._model import Contract
from nbkit.contract._yaml import read_document
from nbkit.errors import ContractError

__all__ = ["Duty", "DutyProfile", "duties_of", "load_duties", "unmet"]

_FOLDER = Path(__file__).parent / "duties"
_MONTHS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One duty.

    Parameters
    ----------
    id : str
        Its name.
    what : str
        What is asked, in short.
    source : str
        Where it is asked.
    met_by : str
        What of nbkit helps to meet it.
    requires : tuple of str
        Keys of the contract that must say something, such as ``notice.agency``.
    days : int or None
        Time to act, counted from when the request came.
    retention_months : int or None
        How long records are kept at least.
    impact : str
        The impact that the contract must declare; empty for any.
    """

    id: str
    what: str
    source: str
    met_by: str
    requires: tuple[str, ...] = ()
    days: int | None = None
    retention_months: int | None = None
    impact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyProfile:
    """The duties of one jurisdiction, as they stood on a day.

    Parameters
    ----------
    jurisdiction, title : str
        Its code and its name.
    as_of : date
        What changed later is not in it.
    covers : tuple of str
        Jurisdictions of a contract that choose this profile.
    duties : tuple of Duty
        In the order of the file.
    """

    jurisdiction: str
    title: str
    as_of: date
    covers: tuple[str, ...]
    duties: tuple[Duty, ...]

    def days(self) -> int | None:
        """Return within how many days a decline must be told; None where the profile names no time."""
        return min((duty.days for duty in self.duties if duty.days is not None), default=None)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Entry(_Strict):
    id: str = Field(min_length=1)
    what: str = Field(min_length=1)
    source: str = Field(min_length=1)
    met_by: str = Field(min_length=1)
    requires: list[str] = Field(default_factory=list)
    days: int | None = None
    retention_months: int | None = None
    impact: Literal["", "low", "medium", "high"] = ""


class _File(_Strict):
    # To raise it: read both layouts, and keep a file of the old one beside the tests.
    format: Literal[1]
    jurisdiction: str
    title: str
    as_of: str
    covers: list[str] = Field(min_length=1)
    duties: list[_Entry] = Field(min_length=1)


def load_duties(path: Path) -> DutyProfile:
    """Read one profile.

    Parameters
    ----------
    path : Path
        YAML, format 1.

    Returns
    -------
    DutyProfile
        As the file says.

    Raises
    ------
    ContractError
        The file is not of this layout; all problems at once.
    """
    document = read_document(path.read_text(encoding="utf-8"), source=path.name)
    try:
        file = _File.model_validate(document.value)
        as_of = date.fromisoformat(file.as_of)
    except ValidationError as error:
        problems = [f"$.{'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()]
        raise ContractError(path.name, problems=[*document.problems, *problems]) from None
    except ValueError:
        raise ContractError(path.name, problems=[f"$.as_of: expected a date, got {file.as_of!r}"]) from None
    duties = tuple(
        Duty(**{**entry.model_dump(exclude={"requires"}), "requires": tuple(entry.requires)}) for entry in file.duties
    )
    return DutyProfile(
        jurisdiction=file.jurisdiction, title=file.title, as_of=as_of, covers=tuple(file.covers), duties=duties
    )


def duties_of(contract: Contract) -> tuple[DutyProfile, ...]:
    """Return the profiles that a contract's jurisdictions choose.

    Parameters
    ----------
    contract : Contract
        Its ``jurisdictions`` choose.

    Returns
    -------
    tuple of DutyProfile
        Each once, in the order of the contract; a jurisdiction that no profile covers chooses none.
    """
    profiles = [load_duties(path) for path in sorted(_FOLDER.glob("*.yaml"))]
    chosen = [profile for code in contract.jurisdictions for profile in profiles if code in profile.covers]
    return tuple(dict.fromkeys(chosen))


def unmet(duty: Duty, *, contract: Contract) -> tuple[str, ...]:
    """Say what of a duty a contract visibly lacks.

    Parameters
    ----------
    duty : Duty
        Of a profile.
    contract : Contract
        What is compared.

    Returns
    -------
    tuple of str
        Empty where nothing is visibly lacking; whether the duty is met is for people to say.
    """
    return tuple(_lacking(duty, contract))


def _lacking(duty: Duty, contract: Contract) -> Iterator[str]:
    for path in duty.requires:
        value: object = contract
        for step in path.split("."):
            value = getattr(value, step)
        if not value:
            yield f"{path} says nothing"
    kept = contract.audit.retention_years * _MONTHS
    if duty.retention_months is not None and kept < duty.retention_months:
        yield f"audit.retention_years keeps records {kept:g} months, {duty.retention_months} are asked for"
    if duty.impact and contract.impact != duty.impact:
        yield f"impact is {contract.impact}, {duty.impact} is asked for"
