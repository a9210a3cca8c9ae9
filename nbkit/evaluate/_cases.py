"""Frozen labelled rows: what a file of them holds, and the frame that a model is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract, RowCheck
from nbkit.errors import CaseSetError, ContractViolationError
from nbkit.evaluate._behaviours import Behaviour
from nbkit.evaluate._golden import GoldenCase

ROWS_FORMAT = 1
FREEZE_AGAIN = "freeze the cases again: nbkit freeze NAME"

CaseId = int | str
Label = bool | int | str


class Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """First line of a case-set file."""

    format: int
    kind: str
    name: str
    model: str
    entity: str
    target: str
    positive: Label
    inputs: list[str]
    protected: list[str]
    cases: int
    positives: int
    share: float
    seed: int


class Case(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One line of a case-set file."""

    id: CaseId
    label: Label
    inputs: dict[str, float | str | None]
    protected: dict[str, str | None]


class RowsPart(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One file of labelled rows.

    Parameters
    ----------
    path, digest : str
        Inside the use-case folder; ``sha256:`` of its bytes.
    cases, positives : int
        How many rows, and how many of them turned out positive.
    """

    path: str
    digest: str
    cases: int
    positives: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseSet:
    """Frozen cases: the same rows judge every version.

    Parameters
    ----------
    name : str
        Such as ``holdout``.
    digest : str
        ``sha256:`` of the file's bytes.
    reference : str
        ``cases/<name>.jsonl@sha256:…``, as the contract pins it.
    frame : pandas.DataFrame
        Entity, inputs (numbers as float64, categories as text), protected attributes (text) and target; then inputs
        that were frozen and the contract does not name any more, so that a version that has them can be scored.
    ids : tuple of int or str
        The entity of every row, each once, in the frame's order; these rows must be kept out of training.
    labels : numpy.ndarray
        Whether each case turned out positive, shape (n,), bool.
    inputs : tuple of str
        The columns that a model is given, in the contract's order.
    parts : tuple of RowsPart
        The files that hold the rows, each once.
    golden : tuple of GoldenCase
        Golden cases and incidents that were frozen with the rows.
    behaviours : tuple of Behaviour
        Behaviours that were frozen with the rows.
    expectations_frozen : bool
        Whether the digest covers golden cases and behaviours; a file of rows alone (format 1) covers the rows only.
    previous, why : str
        Digest of the case set that this one came from, and what was changed; empty for the first.
    """

    name: str
    digest: str
    reference: str
    frame: pd.DataFrame
    ids: tuple[CaseId, ...]
    labels: NDArray[np.bool_]
    inputs: tuple[str, ...]
    parts: tuple[RowsPart, ...] = ()
    golden: tuple[GoldenCase, ...] = ()
    behaviours: tuple[Behaviour, ...] = ()
    expectations_frozen: bool = False
    previous: str = ""
    why: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the frame."""
        return tuple(self.frame.columns)

    @property
    def rows(self) -> pd.DataFrame:
        """What a model is given: the inputs only."""
        return self.frame[list(self.inputs)]

    def __len__(self) -> int:
        return len(self.ids)


def digest_of(body: bytes) -> str:
    """Return ``sha256:`` and the hash."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def make_cases(header: Header, cases: Sequence[Case], *, contract: Contract, place: str, digest: str) -> CaseSet:
    """Build the frame of cases whose header fits the contract."""
    _check_cases(cases, frozen=header.inputs, contract=contract, place=place)
    ids = tuple(case.id for case in cases)
    columns: dict[str, pd.Series] = {contract.entity: pd.Series(ids)}
    for column in contract.inputs:
        values = [case.inputs[column.name] for case in cases]
        # Without a dtype pandas chooses text as it does in a notebook, so the fitted model sees the same missing value.
        columns[column.name] = pd.Series(values, dtype=None if column.type == "category" else "float64")
    for attribute in contract.protected:
        columns[attribute.name] = pd.Series([case.protected[attribute.name] for case in cases], dtype="object")
    columns[contract.target.column] = pd.Series([case.label for case in cases])
    for name in header.inputs:
        if name not in columns:
            columns[name] = _unknown_column([case.inputs[name] for case in cases])
    return CaseSet(
        name=header.name,
        digest=digest,
        reference=f"{place}@{digest}",
        frame=pd.DataFrame(columns),
        ids=ids,
        labels=np.array([is_positive(case.label, contract=contract) for case in cases], dtype=bool),
        inputs=tuple(column.name for column in contract.inputs),
        parts=(RowsPart(path=place, digest=digest, cases=len(cases), positives=header.positives),),
    )


def _unknown_column(values: Sequence[float | str | None]) -> pd.Series:
    text = any(isinstance(value, str) for value in values)
    return pd.Series(values, dtype=None if text else "float64")


def is_positive(label: Label, *, contract: Contract) -> bool:
    """Return whether a label is the positive class; ``1`` and ``True`` are the same, ``1`` and ``"1"`` are not."""
    return label == contract.target.positive


def require_both_labels(labels: Sequence[bool] | NDArray[np.bool_], *, contract: Contract, place: str) -> None:
    """Refuse cases that are all positive or all negative."""
    positives = sum(bool(label) for label in labels)
    if 0 < positives < len(labels):
        return
    target = contract.target
    raise CaseSetError(
        f"{place}: {positives} of {len(labels)} cases have {target.column} == {target.positive!r}: "
        "expected some of both labels",
        next_step="check target.positive in contract.yaml, or freeze more rows",
    )


def decode_rows(body: bytes, *, place: str) -> tuple[Header, list[Case]]:
    lines = body.splitlines()
    if not lines:
        raise CaseSetError(f"{place}: expected a header line, got an empty file", next_step=FREEZE_AGAIN)
    number = 1
    try:
        header = msgspec.json.decode(lines[0], type=Header)
        decoder = msgspec.json.Decoder(Case)
        cases = []
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007 -- the error names it
            cases.append(decoder.decode(line))
    except msgspec.DecodeError as error:
        raise CaseSetError(f"{place}: line {number}: {error}", next_step=FREEZE_AGAIN) from None
    return header, cases


def check_header(header: Header, *, contract: Contract, count: int, place: str) -> None:
    expected: Mapping[str, tuple[object, object]] = {
        "format": (ROWS_FORMAT, header.format),
        "kind": ("nbkit.cases", header.kind),
        "entity": (contract.entity, header.entity),
        "target": (contract.target.column, header.target),
        "positive": (contract.target.positive, header.positive),
        "cases": (count, header.cases),
    }
    problems = [f"{key}: expected {want!r}, got {got!r}" for key, (want, got) in expected.items() if want != got]
    wanted = {"inputs": [c.name for c in contract.inputs], "protected": [c.name for c in contract.protected]}
    for kind, names in wanted.items():
        frozen = getattr(header, kind)
        problems += [
            f"{kind}: {name!r} is in the contract but not in the cases" for name in names if name not in frozen
        ]
    if problems:
        raise CaseSetError(f"{place}: does not fit the contract", problems=problems, next_step=FREEZE_AGAIN)


def _check_cases(cases: Sequence[Case], *, frozen: Sequence[str], contract: Contract, place: str) -> None:
    problems: list[str] = []
    seen: set[str] = set()
    inputs = [column.name for column in contract.inputs]
    protected = [column.name for column in contract.protected]
    check = RowCheck(contract)
    for case in cases:
        if str(case.id) in seen:
            problems.append(f"id {case.id!r} appears twice")
        seen.add(str(case.id))
        absent = [name for name in inputs if name not in case.inputs]
        absent += [name for name in protected if name not in case.protected]
        absent += [name for name in frozen if name not in case.inputs and name not in absent]
        unknown = [name for name in case.inputs if name not in frozen]
        problems += [f"id {case.id!r}: {name!r} is a column that neither contract nor header knows" for name in unknown]
        if absent:
            problems.append(f"id {case.id!r} lacks {', '.join(absent)}")
            continue
        try:
            check.check({name: case.inputs[name] for name in inputs})
        except ContractViolationError as error:
            problems += [f"id {case.id!r}: {problem}" for problem in error.problems]
    if problems:
        raise CaseSetError(
            f"{place}: cases do not fit the contract", problems=shorten(problems), next_step=FREEZE_AGAIN
        )
    require_both_labels([is_positive(case.label, contract=contract) for case in cases], contract=contract, place=place)


def shorten(problems: Sequence[str], *, most: int = 20) -> list[str]:
    """Keep the first problems and say how many more there are."""
    shown = list(problems[:most])
    return shown if len(problems) <= most else [*shown, f"and {len(problems) - most} more"]
