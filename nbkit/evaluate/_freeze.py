"""Freeze a share of the rows as the cases that every version is judged on."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pandas as pd
import rfc8785

from nbkit.contract import Contract, RowCheck
from nbkit.errors import CaseSetError
from nbkit.evaluate._cases import (
    ROWS_FORMAT,
    Case,
    CaseId,
    CaseSet,
    Header,
    Label,
    RowsPart,
    digest_of,
    is_positive,
    make_cases,
    require_both_labels,
    shorten,
)
from nbkit.files import write_atomically


def freeze_cases(
    frame: pd.DataFrame,
    *,
    contract: Contract,
    directory: Path,
    name: str = "holdout",
    share: float,
    seed: int,
    replace: bool = False,
) -> CaseSet:
    """Draw cases, stratified by the target, and write them as ``cases/<name>.jsonl``.

    Which rows are drawn depends on their ids and the seed alone, never on their order; only the columns that the
    contract names are kept. Pinning the reference in the contract is the caller's next step.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with the entity, every input, every protected attribute and the target.
    contract : Contract
        Which columns matter, and what may be in them.
    directory : Path
        The use case's folder.
    name : str
        The file's name without its suffix.
    share : float
        Share of the rows to freeze, above 0 and at most 1; at least one row of each label is drawn.
    seed : int
        Another seed draws other rows.
    replace : bool
        Whether a different set of that name may be overwritten.

    Returns
    -------
    CaseSet
        The frozen cases.

    Raises
    ------
    CaseSetError
        A column is missing, a row breaks the contract, an id or a label is missing, an id appears twice, all labels are
        the same, or another case set of that name is already frozen.
    """
    place = f"cases/{name}.jsonl"
    if not 0 < share <= 1:
        raise CaseSetError(f"{place}: share: expected above 0 and at most 1, got {share!r}")
    ids, labels, positive = _checked(frame, contract=contract, name=name)
    require_both_labels(positive, contract=contract, place=place)
    drawn = _draw(ids, positive, share=share, seed=seed)
    header, cases, body = _document(
        frame, ids, labels, positive, drawn=drawn, contract=contract, name=name, share=share, seed=seed
    )
    _write(directory / place, body, place=place, replace=replace)
    return make_cases(header, cases, contract=contract, place=place, digest=digest_of(body))


def freeze_rows(
    frame: pd.DataFrame, *, contract: Contract, directory: Path, name: str, taken: Collection[CaseId]
) -> RowsPart:
    """Freeze all rows of a table as one more file of a case set.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with the entity, every input, every protected attribute and the target; of one label only, if need be.
    contract : Contract
        Which columns matter, and what may be in them.
    directory : Path
        The use case's folder.
    name : str
        The file's name without its suffix.
    taken : collection of int or str
        Ids that the case set holds already.

    Returns
    -------
    RowsPart
        The file that was written.

    Raises
    ------
    CaseSetError
        As `freeze_cases`; or an id is in the set already.
    """
    place = f"cases/{name}.jsonl"
    ids, labels, positive = _checked(frame, contract=contract, name=name)
    known = {str(found) for found in taken}
    if repeated := [f"id {found!r} is in the case set already" for found in ids if str(found) in known]:
        raise CaseSetError(place, problems=shorten(repeated), next_step="add rows that the set does not hold")
    drawn = _draw(ids, positive, share=1.0, seed=0)
    header, _, body = _document(
        frame, ids, labels, positive, drawn=drawn, contract=contract, name=name, share=1.0, seed=0
    )
    _write(directory / place, body, place=place, replace=False)
    return RowsPart(path=place, digest=digest_of(body), cases=header.cases, positives=header.positives)


def _checked(frame: pd.DataFrame, *, contract: Contract, name: str) -> tuple[list[CaseId], list[Label], list[bool]]:
    place = f"cases/{name}.jsonl"
    if Path(name).name != name or name.startswith("."):
        raise CaseSetError(f"name: expected a plain file name, got {name!r}")
    _check_frame(frame, contract=contract, place=place)
    ids, labels = _ids(frame[contract.entity], place=place), _labels(frame[contract.target.column], place=place)
    return ids, labels, [is_positive(label, contract=contract) for label in labels]


def _document(
    frame: pd.DataFrame,
    ids: list[CaseId],
    labels: list[Label],
    positive: list[bool],
    *,
    drawn: list[int],
    contract: Contract,
    name: str,
    share: float,
    seed: int,
) -> tuple[Header, list[Case], bytes]:
    cases = _cases(frame.iloc[drawn], [ids[row] for row in drawn], [labels[row] for row in drawn], contract=contract)
    header = Header(
        format=ROWS_FORMAT,
        kind="nbkit.cases",
        name=name,
        model=contract.name,
        entity=contract.entity,
        target=contract.target.column,
        positive=contract.target.positive,
        inputs=[column.name for column in contract.inputs],
        protected=[column.name for column in contract.protected],
        cases=len(cases),
        positives=sum(positive[row] for row in drawn),
        share=share,
        seed=seed,
    )
    return header, cases, b"".join(rfc8785.dumps(msgspec.to_builtins(line)) + b"\n" for line in (header, *cases))


def _check_frame(frame: pd.DataFrame, *, contract: Contract, place: str) -> None:
    wanted = [contract.entity, *(c.name for c in contract.inputs), *(c.name for c in contract.protected)]
    missing = [column for column in [*wanted, contract.target.column] if column not in frame.columns]
    problems = [f"{column}: missing" for column in missing]
    problems += [f"{column}: appears twice" for column in wanted if list(frame.columns).count(column) > 1]
    if not problems:
        problems += RowCheck(contract).problems_in(
            {c.name: cast("Sequence[object]", frame[c.name]) for c in contract.inputs}
        )
    if problems:
        raise CaseSetError(
            f"{place}: the rows do not fit the contract",
            problems=problems,
            next_step="correct the rows or contract.yaml",
        )


def _ids(column: pd.Series, *, place: str) -> list[CaseId]:
    problems: list[str] = []
    ids: list[CaseId] = []
    seen: set[str] = set()
    for row, value in enumerate(column.tolist()):
        found = _plain(value)
        if found is None or isinstance(found, bool):
            problems.append(f"row {row}: expected an id, got {value!r}")
            continue
        if isinstance(found, int) and abs(found) >= 2**53:
            problems.append(f"row {row}: id {found} is too large for JSON; make it text")
        if str(found) in seen:
            problems.append(f"row {row}: id {found!r} appears twice")
        seen.add(str(found))
        ids.append(found)
    if len({type(found) for found in ids}) > 1:
        problems.append("ids: expected all numbers or all text, got both")
    if problems:
        raise CaseSetError(
            f"{place}: column {column.name!r} does not identify the rows",
            problems=shorten(problems),
            next_step="give every row an id of its own",
        )
    return ids


def _labels(column: pd.Series, *, place: str) -> list[Label]:
    labels = [_plain(value) for value in column.tolist()]
    missing = [row for row, label in enumerate(labels) if label is None]
    if missing:
        raise CaseSetError(
            f"{place}: column {column.name!r} has no label in {len(missing)} of {len(labels)} rows "
            f"(first: row {missing[0]})",
            next_step="freeze matured rows only",
        )
    return [label for label in labels if label is not None]


def _plain(value: object) -> Label | None:
    """Return an id or a label as plain Python; whole floats are integers, as pandas makes them of columns with gaps."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):
            return None
        return int(number) if number.is_integer() else repr(number)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return str(value)


def _draw(ids: Sequence[CaseId], positive: Sequence[bool], *, share: float, seed: int) -> list[int]:
    drawn: list[int] = []
    for side in (True, False):
        rows = [row for row, label in enumerate(positive) if label is side]
        rows.sort(key=lambda row: hashlib.sha256(f"{seed}:{ids[row]}".encode()).digest())
        drawn += rows[: max(1, round(share * len(rows)))]
    # Numbers come before text here only so that mypy sees one type; ids of one set are all of one kind.
    return sorted(drawn, key=lambda row: (ids[row], "") if isinstance(ids[row], int) else (0, ids[row]))


def _cases(rows: pd.DataFrame, ids: list[CaseId], labels: list[Label], *, contract: Contract) -> list[Case]:
    check = RowCheck(contract).check
    inputs = _columns(rows, [column.name for column in contract.inputs])
    protected = _columns(rows, [column.name for column in contract.protected])
    return [
        Case(
            id=ids[row],
            label=labels[row],
            inputs=check({name: values[row] for name, values in inputs.items()}),
            protected={name: group_name(values[row]) for name, values in protected.items()},
        )
        for row in range(len(ids))
    ]


def _columns(rows: pd.DataFrame, names: list[str]) -> Mapping[str, list[object]]:
    return {
        name: [
            None if missing else value for value, missing in zip(rows[name].tolist(), rows[name].isna(), strict=True)
        ]
        for name in names
    }


def group_name(value: object) -> str | None:
    """Return a protected group as frozen cases name it: ``1``, also where a gap made pandas write 1.0."""
    found = _plain(value)
    return None if found is None else str(found)


def _write(path: Path, body: bytes, *, place: str, replace: bool) -> None:
    if path.exists():
        if path.read_bytes() == body:
            return
        if not replace:
            raise CaseSetError(
                f"{place}: another case set of that name is frozen",
                next_step="freeze under another name; versions are compared on the same cases only",
            )
    write_atomically(path, content=body)
