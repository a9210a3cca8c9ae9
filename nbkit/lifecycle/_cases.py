"""Case sets: freeze, add, look at, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbkit.contract import pin_case_set
from nbkit.errors import UsageError
from nbkit.lifecycle._case_diff import expectation_changes, find_case_set
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View

if TYPE_CHECKING:
    import pandas as pd

    from nbkit.evaluate import Behaviour, CaseSet, GoldenCase, RowsPart


def freeze(
    use_case: UseCase, frame: pd.DataFrame, *, name: str = "holdout", share: float = 0.3, seed: int = 0
) -> CaseSet:
    """Freeze a share of the rows, with the golden cases and behaviours of the folder, as what judges every version.

    The first call draws the cases and pins their digest in the contract; every later call returns the same cases.

    Parameters
    ----------
    use_case : UseCase
        Its contract names the entity and the target.
    frame : pandas.DataFrame
        All labelled rows.
    name : str
        Name of the case set.
    share : float
        Share of the rows, 0..1, drawn stratified by the target.
    seed : int
        Seed of the draw.

    Returns
    -------
    CaseSet
        The frozen cases; ``ids`` must be kept out of training.

    Raises
    ------
    CaseSetError
        A frozen file was edited, or the rows cannot be frozen.
    """
    from nbkit.evaluate import freeze_cases, load_cases, read_expectations

    if use_case.contract.evaluate.case_set:
        return load_cases(use_case.directory, contract=use_case.contract)
    # Read first: a golden case that is wrong must not leave half a case set behind.
    golden, behaviours = read_expectations(use_case.directory, contract=use_case.contract)
    rows = freeze_cases(
        frame, contract=use_case.contract, directory=use_case.directory, name=name, share=share, seed=seed
    )
    return _pin(use_case, name=name, parts=rows.parts, golden=golden, behaviours=behaviours)


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesShown(Result):
    """What a case set holds."""

    name: str
    reference: str
    pinned: bool
    cases: int
    positives: int
    files: tuple[tuple[str, int, int], ...]
    golden: tuple[str, ...]
    incidents: tuple[str, ...]
    behaviours: tuple[str, ...]
    not_in_contract: tuple[str, ...]
    unfrozen: tuple[str, ...]
    previous: str
    why: str
    changes: tuple[str, ...] = ()
    case_set: CaseSet | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        expectations = [("golden case", one) for one in self.golden] + [("incident", one) for one in self.incidents]
        expectations += [("behaviour", one) for one in self.behaviours]
        facts = [("case set", self.reference + ("" if self.pinned else " (not the one that the contract pins)"))]
        facts += [("changed", change) for change in self.changes]
        facts += [("why", self.why)] if self.why else []
        facts += [("came from", self.previous)] if self.previous else []
        facts += [("no longer in the contract", ", ".join(self.not_in_contract))] if self.not_in_contract else []
        facts += [("not frozen yet", ", ".join(self.unfrozen))] if self.unfrozen else []
        rows = tuple((path, f"{cases:,}", f"{positives:,}") for path, cases, positives in self.files)
        tables = [Table(columns=("file of rows", "cases", "positive"), rows=rows)]
        if expectations:
            tables.append(Table(columns=("kind", "id"), rows=tuple(expectations)))
        return View(
            headline=f"{self.name}: {self.cases:,} labelled rows ({self.positives:,} positive), {len(self.golden)} "
            f"golden cases, {len(self.incidents)} incidents, {len(self.behaviours)} behaviours",
            facts=facts,
            tables=tables,
            next_step=f"nbkit cases add {self.name}" if self.unfrozen else "",
        )


def freeze_case_set(
    use_case: UseCase,
    frame: pd.DataFrame | None = None,
    *,
    name: str = "holdout",
    share: float = 0.3,
    seed: int = 0,
    replace: bool = False,
    why: str = "",
) -> CasesShown:
    """Freeze rows and expectations; or, with ``replace``, freeze golden cases and behaviours anew as they now are.

    Parameters
    ----------
    use_case : UseCase
        Whose cases.
    frame : pandas.DataFrame, optional
        All labelled rows; needed for the first time only.
    name : str
        Name of the case set.
    share : float
        Share of the rows, 0..1, drawn stratified by the target.
    seed : int
        Seed of the draw.
    replace : bool
        Take over edited and removed expectations; the rows stay.
    why : str
        Why something that was frozen is changed; kept in the set, and needed with ``replace``.

    Returns
    -------
    CasesShown
        The set that the contract now pins.

    Raises
    ------
    UsageError
        There are no rows to freeze, or no reason is given.
    CaseSetError
        The rows or the expectations cannot be frozen.
    """
    from nbkit.evaluate import load_cases, read_expectations

    if not use_case.contract.evaluate.case_set:
        if frame is None:
            raise UsageError(
                f"{use_case.contract.name}: no rows to freeze", next_step="nbkit cases freeze NAME --from FILE"
            )
        return _shown(use_case, freeze(use_case, frame, name=name, share=share, seed=seed))
    if not replace:
        return show_case_set(use_case)
    if not why.strip():
        raise UsageError("cases freeze: --replace needs --why: say why what was frozen is changed")
    before = load_cases(use_case.directory, contract=use_case.contract)
    golden, behaviours = read_expectations(use_case.directory, contract=use_case.contract)
    after = _pin(
        use_case, name=before.name, parts=before.parts, golden=golden, behaviours=behaviours, before=before, why=why
    )
    return _shown(use_case, after, changes=_changes(before, after))


def add_cases(use_case: UseCase, frame: pd.DataFrame | None = None, *, why: str = "") -> CasesShown:
    """Add rows, and every golden case, incident and behaviour that is not frozen yet: a new digest.

    Parameters
    ----------
    use_case : UseCase
        Whose cases.
    frame : pandas.DataFrame, optional
        Labelled rows that the set does not hold yet.
    why : str
        Kept in the set.

    Returns
    -------
    CasesShown
        The set that the contract now pins. Versions judged on the earlier one are not comparable with it until they are
        judged again.

    Raises
    ------
    UsageError
        Nothing is frozen yet, or there is nothing to add.
    CaseSetError
        A row or a file cannot be added, or a frozen one was edited.
    """
    from nbkit.evaluate import freeze_rows, load_cases, load_expectations

    if not use_case.contract.evaluate.case_set:
        raise UsageError(
            f"{use_case.contract.name}: nothing is frozen yet", next_step="nbkit cases freeze NAME --from FILE"
        )
    before = load_cases(use_case.directory, contract=use_case.contract)
    expected = load_expectations(use_case.directory, contract=use_case.contract, cases=before)
    if frame is None and before.expectations_frozen and not expected.unfrozen:
        raise UsageError(f"{use_case.contract.name}: nothing to add", next_step="nbkit cases add NAME --from FILE")
    parts = list(before.parts)
    if frame is not None:
        name = f"{before.name}-{len(parts) + 1}"
        parts.append(
            freeze_rows(frame, contract=use_case.contract, directory=use_case.directory, name=name, taken=before.ids)
        )
    after = _pin(
        use_case,
        name=before.name,
        parts=parts,
        golden=expected.golden,
        behaviours=expected.behaviours,
        before=before,
        why=why,
    )
    return _shown(use_case, after, changes=_changes(before, after))


def show_case_set(use_case: UseCase, *, reference: str = "") -> CasesShown:
    """Show what a case set holds.

    Parameters
    ----------
    use_case : UseCase
        Whose cases.
    reference : str
        ``path@sha256:…``, or the beginning of a digest; the pinned set by default.

    Returns
    -------
    CasesShown
        Rows, expectations, and what is not frozen yet.

    Raises
    ------
    CaseSetError
        There is no such set, or it was edited.
    """
    from nbkit.evaluate import load_cases

    reference = find_case_set(use_case, reference) if reference else ""
    return _shown(use_case, load_cases(use_case.directory, contract=use_case.contract, reference=reference))


def _pin(
    use_case: UseCase,
    *,
    name: str,
    parts: Sequence[RowsPart],
    golden: Sequence[GoldenCase],
    behaviours: Sequence[Behaviour],
    before: CaseSet | None = None,
    why: str = "",
) -> CaseSet:
    from nbkit.evaluate import load_cases, write_case_set

    reference = write_case_set(
        use_case.directory,
        contract=use_case.contract,
        name=name,
        parts=parts,
        golden=golden,
        behaviours=behaviours,
        previous=before.digest if before else "",
        why=why,
    )
    # Read back before it is pinned: what is pinned can be loaded.
    found = load_cases(use_case.directory, contract=use_case.contract, reference=reference)
    pin_case_set(use_case.directory / "contract.yaml", reference=reference)
    return found


def _shown(use_case: UseCase, cases: CaseSet, *, changes: Sequence[str] = ()) -> CasesShown:
    from nbkit.evaluate import read_expectations

    contract = use_case.contract
    golden, behaviours = read_expectations(use_case.directory, contract=contract)
    known = {case.id for case in cases.golden} | {one.id for one in cases.behaviours}
    loose = [case.id for case in golden] + [one.id for one in behaviours]
    known_columns = {contract.entity, contract.target.column, *cases.inputs, *(c.name for c in contract.protected)}
    return CasesShown(
        name=contract.name,
        reference=cases.reference,
        pinned=bool(changes) or cases.reference == contract.evaluate.case_set or not contract.evaluate.case_set,
        cases=len(cases),
        positives=int(cases.labels.sum()),
        files=tuple((part.path, part.cases or len(cases), part.positives) for part in cases.parts),
        golden=tuple(case.id for case in cases.golden if case.kind == "golden"),
        incidents=tuple(case.id for case in cases.golden if case.kind == "incident"),
        behaviours=tuple(one.id for one in cases.behaviours),
        not_in_contract=tuple(name for name in cases.columns if name not in known_columns),
        unfrozen=tuple(one for one in loose if one not in known),
        previous=cases.previous,
        why=cases.why,
        changes=tuple(changes),
        case_set=cases,
    )


def _changes(before: CaseSet, after: CaseSet) -> tuple[str, ...]:
    more = len(after) - len(before)
    found = [f"{more:,} rows added"] if more else []
    return (*found, *expectation_changes(before, after))
