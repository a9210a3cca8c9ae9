"""A recorded decision, decided again from its record and its package alone."""

from __future__ import annotations

from msgspec.structs import replace

from nbkit.contract import RowCheck
from nbkit.package import Package
from nbkit.records import AuditRecord, Decision
from nbkit.serve._decide import REASONS_FOLLOW, Judge, Row
from nbkit.serve._explain import row_of, special_of
from nbkit.serve._record import REASONS_MISSING
from nbkit.serve._rules import Rules
from nbkit.serve._shadow import shadow_decision

__all__ = ["decide", "fallback_decision", "replay_decision"]


def replay_decision(package: Package, record: AuditRecord, *, inputs_of: AuditRecord | None = None) -> Decision:
    """Decide a record's row again, the way in which it was decided.

    Parameters
    ----------
    package : Package
        The one that the record names, verified.
    record : AuditRecord
        Of a decision that the model or a rule took, with its inputs.
    inputs_of : AuditRecord, optional
        Where the inputs stand, if not in the record: a shadow's stand in the record that it followed.

    Returns
    -------
    Decision
        Where the reasons were to follow: what was decided without them, and then the reasons that follow.

    Raises
    ------
    PackageError
        The score is not a probability.
    RuleError
        The rules failed.
    """
    judge, row = Judge.of(package), row_of(inputs_of or record)
    if record.kind == "shadow":
        # A shadow checks the row of the answer by its own contract.
        return shadow_decision(package, RowCheck(package.contract).check(row), judge=judge)
    early = judge.before(row)
    if early is not None:
        return early.decision
    score, special = package.score(row), special_of(record)
    if record.tags.get(REASONS_MISSING) != REASONS_FOLLOW:
        return judge.after(row, score, special=special).decision
    judge.check_score(score)
    # With its reasons in time a decline of which none is true would have become a referral. It was answered without
    # them, as a decline; that is what has to come out again.
    decided = judge.conclude(judge.weigh(row, score), follow=True).decision
    told = [reason.code for reason in judge.reasons(row, special)[0] if reason.code not in decided.reasons]
    return replace(decided, reasons=(*decided.reasons, *told))


def decide(package: Package, row: Row, *, rules: Rules) -> Decision:
    """Decide one row: rules before, score, thresholds, rules after, reasons where adverse.

    Parameters
    ----------
    package : Package
        Verified.
    row : mapping
        As ``RowCheck.check`` returns it, or the inputs of an audit record.
    rules : Rules
        Those of the package.

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
    judge = Judge(package, rules=rules)
    early = judge.before(row)
    return (early or judge.after(row, package.score(row))).decision


def fallback_decision(package: Package, row: Row, *, rules: Rules) -> Decision | None:
    """Answer one row without the model, by the contract's fallback chain.

    Parameters
    ----------
    package : Package
        Verified; only its contract is used.
    row : mapping
        As ``RowCheck.check`` returns it.
    rules : Rules
        Those of the package.

    Returns
    -------
    Decision or None
        None when the chain says: ask again later.
    """
    judgement = Judge(package, rules=rules).fallback(row)
    return judgement.decision if judgement else None
