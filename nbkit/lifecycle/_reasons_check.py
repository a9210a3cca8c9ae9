"""Check reasons: the book against the contract, the rules against the book, the ledger against the packages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbkit.audit import read_records
from nbkit.contract import Contract, RowCheck, load_contract
from nbkit.errors import NbkitError, RationaleError, UsageError
from nbkit.lifecycle._ledger_place import ledger_begun, ledger_place, place_of_ledger
from nbkit.lifecycle._usecase import open_use_case
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import ReasonBook, load_reasons
from nbkit.records import AuditRecord
from nbkit.serve import REASONS_FOLLOW, Judge, PackageStore
from nbkit.settings import Settings

REASONS_FILE = "reasons.yaml"
_SPECIAL = "special."
_TEXT = "reason."
_MISSING = "reasons_missing"
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonDifference:
    """A record whose reasons are not those that its package gives."""

    id: str
    recorded: tuple[str, ...]
    recomputed: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Recorded reasons against recomputed ones.

    Parameters
    ----------
    records, adverse : int
        How many records were read, and how many of them hold or ought to hold reasons.
    same : int
        Adverse ones whose recomputed reasons and sentences are those of the record.
    differences : tuple of ReasonDifference
        The others that could be recomputed.
    not_recomputed : mapping of str to int
        Why records could not be recomputed, and how many.
    """

    records: int
    adverse: int
    same: int
    differences: tuple[ReasonDifference, ...]
    not_recomputed: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonsChecked(Result):
    """Whether reasons are complete, and whether those that were given are those that the packages give."""

    name: str
    path: Path
    codes: int
    problems: tuple[str, ...]
    ledger: Reconciled | None = field(default=None)

    @property
    def succeeded(self) -> bool:
        """Whether nothing is wrong with the book, and no record differs."""
        return not self.problems and not (self.ledger and self.ledger.differences)

    def view(self) -> View:
        """Return what a person is shown."""
        count = len(self.problems)
        said = f"{count} problem{'s' * (count != 1)}" if count else f"{self.codes} codes, complete"
        tables = []
        if self.problems:
            tables.append(Table(columns=("problem",), rows=tuple((problem,) for problem in self.problems)))
        facts = []
        if self.ledger is not None:
            found = self.ledger
            facts.append(("ledger", f"{found.records} records, {found.adverse} with reasons to check"))
            facts.append(("same when recomputed", str(found.same)))
            facts.append(("different", str(len(found.differences))))
            facts += [("not recomputed", f"{number}: {why}") for why, number in found.not_recomputed.items()]
            if found.differences:
                rows = tuple(
                    (one.id, " ".join(one.recorded), " ".join(one.recomputed), one.why)
                    for one in found.differences[:_SHOWN]
                )
                tables.append(Table(columns=("record", "recorded", "recomputed", ""), rows=rows))
        return View(headline=f"{self.name}: {self.path.name}: {said}", facts=facts, tables=tables)


def check_reasons(
    target: str, *, base: Path, settings: Settings, limit: int = 1000, ledger: str = ""
) -> ReasonsChecked:
    """Check ``reasons.yaml`` against the contract and the rules, and the ledger's reasons against recomputed ones.

    Parameters
    ----------
    target : str
        A use case by name or folder, or the file of one beside its contract: then the file alone is checked.
    base : Path
        Where a use case is looked for.
    settings : Settings
        Where ledgers and packages are.
    limit : int
        The newest records that are recomputed.
    ledger : str
        Where decisions are recorded, where ``nbkit serve`` on this machine did not: a file, or ``postgresql://…``.

    Returns
    -------
    ReasonsChecked
        All problems and differences; never raises for a wrong book.

    Raises
    ------
    UsageError
        No such use case, file or ledger.
    AuditError
        The ledger cannot be read.
    """
    path = base / target
    if target and path.is_file():
        return _check_file(path, contract=_contract_beside(path), name=target)
    use_case = open_use_case(target, base=base)
    name = use_case.contract.name
    checked = _check_file(use_case.directory / REASONS_FILE, contract=use_case.contract, name=name)
    place = place_of_ledger(ledger) if ledger else ledger_place(name, settings=settings)
    if not ledger and not ledger_begun(name, settings=settings):
        return checked
    # A shadow gives nobody reasons.
    told = tuple(record for record in read_records(place, model=name, limit=limit) if record.kind == "decision")
    found = reconcile(told, store=PackageStore(settings.store))
    return ReasonsChecked(name=name, path=checked.path, codes=checked.codes, problems=checked.problems, ledger=found)


def _contract_beside(path: Path) -> Contract:
    contract = path.parent / "contract.yaml"
    if not contract.is_file():
        raise UsageError(f"{path}: no contract.yaml beside it", next_step="nbkit reasons check NAME")
    return load_contract(contract)


def _check_file(path: Path, *, contract: Contract, name: str) -> ReasonsChecked:
    try:
        book = load_reasons(path, contract=contract)
    except RationaleError as error:
        return ReasonsChecked(name=name, path=path, codes=0, problems=error.problems or (error.message,))
    rules = path.parent / contract.serve.rules
    problems = tuple(_unknown_to(book, rules.read_bytes())) if rules.is_file() else ()
    return ReasonsChecked(name=name, path=path, codes=len(book.entries) + len(book.policies), problems=problems)


def _unknown_to(book: ReasonBook, rules: bytes) -> Iterator[str]:
    """Find codes that a decision table gives as reasons and the book does not hold; a sentence is its own reason."""
    for reason in sorted(_table_reasons(rules)):
        if reason and " " not in reason and book.find(reason) is None:
            yield f"rules.json: reason {reason!r} is in neither codes nor policies of {REASONS_FILE}"


def _table_reasons(rules: bytes) -> set[str]:
    try:
        nodes = json.loads(rules).get("nodes", [])
    except (ValueError, AttributeError):
        return set()  # nbkit rules check says what is wrong with it
    found = set()
    for content in [node.get("content") or {} for node in nodes if node.get("type") == "decisionTableNode"]:
        columns = [column.get("id") for column in content.get("outputs", ()) if column.get("field") == "reason"]
        cells = [str(rule.get(column) or "").strip() for rule in content.get("rules", ()) for column in columns]
        found |= {cell[1:-1] for cell in cells if len(cell) > 1 and cell[0] in "'\"" and cell[-1] == cell[0]}
    return found


def reconcile(records: tuple[AuditRecord, ...], *, store: PackageStore) -> Reconciled:
    """Recompute the reasons of every adverse record with the package that decided it.

    Parameters
    ----------
    records : tuple of AuditRecord
        Of one model.
    store : PackageStore
        Holds the packages.

    Returns
    -------
    Reconciled
        Counts and differences.
    """
    judges: dict[str, tuple[Judge, RowCheck]] = {}
    same, adverse = 0, 0
    differences: list[ReasonDifference] = []
    skipped: dict[str, int] = {}
    for record in records:
        if record.decision == "approve":
            continue
        adverse += 1
        why = _why_not(record)
        if not why:
            try:
                recomputed, texts = _again(record, store=store, judges=judges)
            except NbkitError as error:
                why = f"{type(error).__name__}: {error.message}"
        if why:
            skipped[why] = skipped.get(why, 0) + 1
        elif recomputed == record.reasons and texts == _told(record):
            same += 1
        else:
            missing = record.tags.get(_MISSING, "")
            why = "the same codes in other words" if recomputed == record.reasons else missing
            differences.append(ReasonDifference(id=record.id, recorded=record.reasons, recomputed=recomputed, why=why))
    return Reconciled(
        records=len(records),
        adverse=adverse,
        same=same,
        differences=tuple(differences),
        not_recomputed=dict(sorted(skipped.items())),
    )


def _why_not(record: AuditRecord) -> str:
    if record.fallback:
        return "a fallback answered"
    if record.tags.get(_MISSING) == REASONS_FOLLOW:
        return "they were late, and follow from the record"
    return "" if record.inputs else "the inputs were not kept"


def _told(record: AuditRecord) -> dict[str, str]:
    return {code: record.tags.get(f"{_TEXT}{code}", "") for code in record.reasons}


def _again(
    record: AuditRecord, *, store: PackageStore, judges: dict[str, tuple[Judge, RowCheck]]
) -> tuple[tuple[str, ...], dict[str, str]]:
    if record.package_digest not in judges:
        package = store.package(record.package_digest)
        judges[record.package_digest] = (Judge.of(package), RowCheck(package.contract))
    judge, rows = judges[record.package_digest]
    row = rows.check(record.inputs)
    special = {name.removeprefix(_SPECIAL): v for name, v in record.tags.items() if name.startswith(_SPECIAL)}
    early = judge.before(row, special=special)
    judgement = early or judge.after(row, record.score if record.score is not None else -1.0, special=special)
    return judgement.decision.reasons, {code: judgement.texts.get(code, "") for code in judgement.decision.reasons}
