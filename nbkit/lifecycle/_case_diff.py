"""What distinguishes two case sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbkit.errors import CaseSetError
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View

if TYPE_CHECKING:
    from nbkit.evaluate import CaseSet

_SHOWN_IDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesDiff(Result):
    """What distinguishes two case sets."""

    name: str
    left: str
    right: str
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]
    changes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both judge alike."""
        return not self.changes and not any(count for _, count, _ in self.rows)

    def view(self) -> View:
        """Return what a person is shown."""
        headline = "the same cases" if self.same else "different cases: results on them are not comparable"
        shown = tuple((kind, f"{count:,}", ", ".join(ids)) for kind, count, ids in self.rows if count)
        tables = [Table(columns=("rows", "count", "first ids"), rows=shown)] if shown else []
        if self.changes:
            tables.append(Table(columns=("expectations",), rows=tuple((change,) for change in self.changes)))
        return View(headline=f"{self.name}: {headline}", facts=[("from", self.left), ("to", self.right)], tables=tables)


def diff_case_sets(use_case: UseCase, left: str, right: str = "") -> CasesDiff:
    """Compare two case sets row by row and expectation by expectation.

    Parameters
    ----------
    use_case : UseCase
        Whose cases.
    left, right : str
        ``path@sha256:…``, or the beginning of a digest; ``right`` is the pinned set by default.

    Returns
    -------
    CasesDiff
        Rows added, removed and changed; expectations added, removed and changed.

    Raises
    ------
    CaseSetError
        There is no such set, or it was edited.
    """
    from nbkit.evaluate import load_cases

    references = [find_case_set(use_case, left), find_case_set(use_case, right) if right else ""]
    before, after = (
        load_cases(use_case.directory, contract=use_case.contract, reference=reference) for reference in references
    )
    old, new = (
        {str(found): row for found, row in zip(one.ids, one.frame.to_numpy(dtype=object).tolist(), strict=True)}
        for one in (before, after)
    )
    kinds = (
        ("added", [found for found in new if found not in old]),
        ("removed", [found for found in old if found not in new]),
        ("changed", [found for found in new if found in old and _text(old[found]) != _text(new[found])]),
    )
    return CasesDiff(
        name=use_case.contract.name,
        left=before.reference,
        right=after.reference,
        rows=tuple((kind, len(ids), tuple(ids[:_SHOWN_IDS])) for kind, ids in kinds),
        changes=expectation_changes(before, after),
    )


def find_case_set(use_case: UseCase, wanted: str) -> str:
    """Return the full reference of a case set that is named by path, digest or the beginning of a digest.

    Raises
    ------
    CaseSetError
        None or several are called so.
    """
    from nbkit.evaluate import case_set_references

    if "@" in wanted:
        return wanted
    known = case_set_references(use_case.directory)
    short = wanted.removeprefix("sha256:")
    found = [
        one for one in known if one.partition("@")[0] == wanted or (short and one.rpartition(":")[2].startswith(short))
    ]
    if len(found) != 1:
        problem = "no case set" if not found else f"{len(found)} case sets"
        raise CaseSetError(f"{wanted}: {problem} of that name (known: {', '.join(known) or 'none'})")
    return found[0]


def expectation_changes(before: CaseSet, after: CaseSet) -> tuple[str, ...]:
    """Return which golden cases, incidents and behaviours were added, removed or changed."""
    old, new = (
        {f"{one.kind} {one.id}": one.document() for one in case_set.golden}
        | {f"behaviour {one.id}": one.document() for one in case_set.behaviours}
        for case_set in (before, after)
    )
    return (
        *(f"added {name}" for name in new if name not in old),
        *(f"removed {name}" for name in old if name not in new),
        *(f"changed {name}" for name in new if name in old and _text(old[name]) != _text(new[name])),
    )


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
