"""What a version on trial would have decided."""

from __future__ import annotations

from nbkit.package import Package
from nbkit.records import Decision
from nbkit.serve._decide import Judge, Row

__all__ = ["shadow_decision"]


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
    score = package.score(row)
    judge.check_score(score)
    return judge.conclude(judge.weigh(row, score), follow=True).decision
