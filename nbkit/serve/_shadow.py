"""What a version on trial would have decided."""

from __future__ import annotations

from collections.abc import Sequence

from nbkit.package import Package
from nbkit.records import Decision
from nbkit.serve._decide import Judge, Row

__all__ = ["shadow_decision", "shadow_decisions"]


def shadow_decision(package: Package, row: Row, *, judge: Judge) -> Decision:
    """Decide one row as a shadow does: without reasons, because nobody is told them and they cost most of the time.

    Parameters
    ----------
    package : Package
        Verified.
    row : mapping
        As ``RowCheck.check`` of this package's contract returns it.
    judge : Judge
        Of the package.

    Returns
    -------
    Decision
        The same for the same package and row, whenever it is asked.

    Raises
    ------
    PackageError
        The score is not a probability.
    RuleError
        The rules failed.
    """
    early = judge.before(row)
    if early is not None:
        return early.decision
    return judge.bare(row, package.score(row))


def shadow_decisions(package: Package, rows: Sequence[Row], *, judge: Judge) -> list[Decision | Exception]:
    """Decide rows that wait together as a shadow does: the model is called once for all of them.

    Parameters
    ----------
    package : Package
        Verified.
    rows : sequence of mapping
        As `shadow_decision` takes each.
    judge : Judge
        Of the package.

    Returns
    -------
    list of Decision or Exception
        What `shadow_decision` gives for each row, or what it raises.
    """
    told: list[Decision | Exception] = []
    try:
        early = [judge.before(row) for row in rows]
        scores = iter(package.score_rows([row for row, said in zip(rows, early, strict=True) if said is None]))
        for row, said in zip(rows, early, strict=True):
            told.append(judge.bare(row, next(scores)) if said is None else said.decision)
    except Exception as error:  # noqa: BLE001 - whatever a model on trial raises is what its record says
        if len(rows) == 1:
            return [error]
        # One row must not take the others down with it; halves find it in few calls.
        middle = len(rows) // 2
        halves = rows[:middle], rows[middle:]
        return [each for half in halves for each in shadow_decisions(package, half, judge=judge)]
    return told
