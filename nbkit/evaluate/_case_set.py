"""A case set: labelled rows, golden cases, incidents and behaviours under one digest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import rfc8785

from nbkit.contract import Contract
from nbkit.errors import CaseSetError
from nbkit.evaluate._behaviours import Behaviour, behaviour_of, load_behaviours
from nbkit.evaluate._cases import (
    FREEZE_AGAIN,
    Case,
    CaseSet,
    Header,
    RowsPart,
    check_header,
    decode_rows,
    digest_of,
    make_cases,
)
from nbkit.evaluate._golden import GoldenCase, golden_of, load_golden
from nbkit.files import write_atomically

# 1 was a file of rows alone, which still loads; 2 names files of rows and holds the expectations.
CASE_SET_FORMAT = 2
_KIND = "nbkit.case-set"
_SHORT = 12


class _Manifest(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    format: int
    kind: str
    name: str
    model: str
    rows: list[RowsPart]
    golden: list[dict[str, object]]
    behaviours: list[dict[str, object]]
    previous: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What people expect of every version: the frozen cases, and those written since.

    Parameters
    ----------
    golden : tuple of GoldenCase
        Golden cases and incidents.
    behaviours : tuple of Behaviour
        Behaviours.
    unfrozen : tuple of str
        Files that were written after freezing: they are judged too, and no digest covers them yet.
    """

    golden: tuple[GoldenCase, ...]
    behaviours: tuple[Behaviour, ...]
    unfrozen: tuple[str, ...]


def load_cases(directory: Path, *, contract: Contract, reference: str = "") -> CaseSet:
    """Read the case set that the contract pins, or another one.

    Parameters
    ----------
    directory : Path
        The use case's folder.
    contract : Contract
        Its ``evaluate.case_set`` names the file and its digest.
    reference : str
        ``path@sha256:…`` of another set than the pinned one.

    Returns
    -------
    CaseSet
        The frozen cases.

    Raises
    ------
    CaseSetError
        None is pinned; a file is missing, edited after freezing or malformed; its columns are not the contract's; an id
        appears twice; a label is missing or all labels are the same.
    """
    reference = reference or contract.evaluate.case_set or ""
    if not reference:
        raise CaseSetError("contract.yaml: evaluate.case_set: no case set is frozen", next_step="nbkit freeze NAME")
    place, _, pinned = reference.partition("@")
    body = _read(directory, place, pinned=pinned)
    if place.endswith(".jsonl"):
        part = RowsPart(path=place, digest=pinned, cases=0, positives=0)
        return _rows(directory, [part], contract=contract, place=place, digest=pinned)
    manifest = _decode(body, place=place)
    found = _rows(directory, manifest.rows, contract=contract, place=place, digest=pinned)
    return dataclasses.replace(
        found,
        name=manifest.name,
        parts=tuple(manifest.rows),
        golden=tuple(golden_of(document) for document in manifest.golden),
        behaviours=tuple(behaviour_of(document) for document in manifest.behaviours),
        expectations_frozen=True,
        previous=manifest.previous,
        why=manifest.why,
    )


def write_case_set(
    directory: Path,
    *,
    contract: Contract,
    name: str,
    parts: Sequence[RowsPart],
    golden: Sequence[GoldenCase],
    behaviours: Sequence[Behaviour],
    previous: str = "",
    why: str = "",
) -> str:
    """Freeze rows and expectations under one digest.

    Files of rows are named, not copied, and the manifest is named by its digest: every set that was ever pinned stays
    where it is.

    Parameters
    ----------
    directory : Path
        The use case's folder.
    contract : Contract
        Whose model is judged.
    name : str
        Such as ``holdout``.
    parts : sequence of RowsPart
        Files of labelled rows.
    golden, behaviours : sequence
        Expectations, frozen as they are.
    previous, why : str
        Digest of the set that this one comes from, and what was changed.

    Returns
    -------
    str
        ``cases/<name>-<12 hex digits>.json@sha256:…``, for the contract.

    Raises
    ------
    CaseSetError
        A value in an expectation is not JSON.
    """
    document = {
        "format": CASE_SET_FORMAT,
        "kind": _KIND,
        "name": name,
        "model": contract.name,
        "rows": [msgspec.to_builtins(part) for part in sorted(parts, key=lambda part: part.digest)],
        "golden": [case.document() for case in sorted(golden, key=lambda case: case.id)],
        "behaviours": [one.document() for one in sorted(behaviours, key=lambda one: one.id)],
        "previous": previous,
        "why": why,
    }
    try:
        body: bytes = rfc8785.dumps(document) + b"\n"
    except rfc8785.CanonicalizationError as error:
        raise CaseSetError(f"case set {name}: {error}", next_step="write plain numbers and text only") from None
    digest = digest_of(body)
    place = f"cases/{name}-{digest.removeprefix('sha256:')[:_SHORT]}.json"
    if not (directory / place).exists() or (directory / place).read_bytes() != body:
        write_atomically(directory / place, content=body)
    return f"{place}@{digest}"


def read_expectations(directory: Path, *, contract: Contract) -> tuple[tuple[GoldenCase, ...], tuple[Behaviour, ...]]:
    """Read golden cases, incidents and behaviours as they lie in the folder now.

    Raises
    ------
    CaseSetError
        Everything that is wrong in any file.
    """
    where = contract.evaluate
    golden = (*load_golden(directory / where.golden), *load_golden(directory / where.incidents))
    ids = [case.id for case in golden]
    if repeated := sorted({one for one in ids if ids.count(one) > 1}):
        raise CaseSetError(
            f"{where.golden} and {where.incidents}",
            problems=[f"id {one!r} appears in both" for one in repeated],
            next_step="rename one of them",
        )
    return golden, load_behaviours(directory / where.behaviours)


def load_expectations(directory: Path, *, contract: Contract, cases: CaseSet) -> Expectations:
    """Return what every version must answer, and refuse a frozen expectation that was edited or removed.

    Parameters
    ----------
    directory : Path
        The use case's folder.
    contract : Contract
        Names the folders of golden cases, incidents and behaviours.
    cases : CaseSet
        The frozen set.

    Returns
    -------
    Expectations
        Those that are frozen, and those written since.

    Raises
    ------
    CaseSetError
        A file was edited or removed after freezing; each is named.
    """
    golden, behaviours = read_expectations(directory, contract=contract)
    if not cases.expectations_frozen:
        return Expectations(golden=golden, behaviours=behaviours, unfrozen=())
    folders = {"golden": contract.evaluate.golden, "incident": contract.evaluate.incidents}
    frozen = {f"{folders[case.kind]}/{case.id}.yaml": case.document() for case in cases.golden}
    frozen |= {f"{contract.evaluate.behaviours}/{one.id}.yaml": one.document() for one in cases.behaviours}
    found = {f"{folders[case.kind]}/{case.id}.yaml": case.document() for case in golden}
    found |= {f"{contract.evaluate.behaviours}/{one.id}.yaml": one.document() for one in behaviours}
    problems = [
        f"{place}: {'edited' if place in found else 'removed'} after freezing"
        for place, document in frozen.items()
        if place not in found or not _same(found[place], document)
    ]
    if problems:
        raise CaseSetError(
            f"the expectations are not those of {cases.reference.partition('@')[0]}",
            problems=problems,
            next_step=f"restore them, or say why: nbkit cases freeze {contract.name} --replace --why TEXT",
        )
    return Expectations(
        golden=golden, behaviours=behaviours, unfrozen=tuple(place for place in found if place not in frozen)
    )


def case_set_references(directory: Path) -> tuple[str, ...]:
    """Return every case set that lies in the folder, as ``path@sha256:…``.

    Parameters
    ----------
    directory : Path
        The use case's folder.

    Returns
    -------
    tuple of str
        Sets of every format; files of rows that belong to a set are among them.
    """
    paths = sorted([*directory.glob("cases/*.json"), *directory.glob("cases/*.jsonl")])
    return tuple(f"{path.relative_to(directory).as_posix()}@{digest_of(path.read_bytes())}" for path in paths)


def _same(left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    # 1 and 1.0 are one number in canonical JSON, as they are to a model.
    return bool(rfc8785.dumps(left) == rfc8785.dumps(right))


def _read(directory: Path, place: str, *, pinned: str) -> bytes:
    try:
        body = (directory / place).read_bytes()
    except OSError as error:
        raise CaseSetError(f"{place}: cannot be read: {error.strerror}", next_step=FREEZE_AGAIN) from None
    found = digest_of(body)
    if found != pinned:
        raise CaseSetError(
            f"{place}: edited after freezing: expected {pinned}, got {found}",
            next_step=f"restore the file (git checkout -- {place}), or {FREEZE_AGAIN}",
        )
    return body


def _decode(body: bytes, *, place: str) -> _Manifest:
    try:
        manifest = msgspec.json.decode(body, type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CaseSetError(f"{place}: {error}", next_step=FREEZE_AGAIN) from None
    problems = [
        f"{key}: expected {want!r}, got {got!r}"
        for key, want, got in (("format", CASE_SET_FORMAT, manifest.format), ("kind", _KIND, manifest.kind))
        if want != got
    ]
    problems += [] if manifest.rows else ["rows: expected at least one file"]
    problems += [f"rows: {part.path!r} leads outside" for part in manifest.rows if _leads_outside(part.path)]
    if problems:
        raise CaseSetError(f"{place}: is no case set", problems=problems, next_step=FREEZE_AGAIN)
    return manifest


def _leads_outside(path: str) -> bool:
    return path.startswith("/") or "\\" in path or ".." in path.split("/")


def _rows(directory: Path, parts: Sequence[RowsPart], *, contract: Contract, place: str, digest: str) -> CaseSet:
    headers: list[Header] = []
    cases: list[Case] = []
    for part in parts:
        header, some = decode_rows(_read(directory, part.path, pinned=part.digest), place=part.path)
        check_header(header, contract=contract, count=len(some), place=part.path)
        headers.append(header)
        cases += some
    # A column that only some of the files have cannot be given to any version.
    shared = [name for name in headers[0].inputs if all(name in header.inputs for header in headers)]
    header = msgspec.structs.replace(
        headers[0], inputs=shared, cases=len(cases), positives=sum(header.positives for header in headers)
    )
    if len(headers) > 1:
        cases = [
            msgspec.structs.replace(case, inputs={name: case.inputs[name] for name in shared if name in case.inputs})
            for case in cases
        ]
        cases.sort(key=lambda case: (case.id, "") if isinstance(case.id, int) else (0, case.id))
    return make_cases(header, cases, contract=contract, place=place, digest=digest)
