"""The verbs that judge and move a version, each with the version's page in MLflow kept fresh."""

from __future__ import annotations

from datetime import datetime

from nbkit.contract import Stage
from nbkit.lifecycle import _approve, _promote, _rollback
from nbkit.lifecycle._approve import Approved
from nbkit.lifecycle._gate import GateTable, judge_gates
from nbkit.lifecycle._move import Promoted
from nbkit.lifecycle._version_page import show_approval, show_archived, show_gates, show_move
from nbkit.registry import Registry
from nbkit.settings import Settings


def gate(target: str, *, to: str, settings: Settings, now: datetime) -> GateTable:
    """Show every gate between a version and a stage, and what to do about each that does not pass.

    What the gates say is also written on the version's page in MLflow.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    to : str
        The stage.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.

    Returns
    -------
    GateTable
        Never raises for a gate that fails.

    Raises
    ------
    UsageError, NotInRegistryError
        There is no such version or stage.
    """
    table = judge_gates(target, to=to, settings=settings, now=now)
    _show_table(table, settings)
    return table


def _show_table(table: GateTable, settings: Settings) -> None:
    show_gates(
        table.name,
        version=table.version,
        stage=str(table.stage),
        results=table.results,
        run_id=table.run_id,
        settings=settings,
    )


def approve(target: str, *, to: str, settings: Settings, now: datetime, key: str = "") -> Approved:
    """Sign a move as its approver.

    All approvals are signatures over one payload: gates, package, contract, case set, documents.

    Raises
    ------
    RefusedError
        A gate does not pass, or the approver submitted the version or has approved already.
    EvidenceError
        The key is not trusted as an approver's.
    """
    approved = _approve.approve(target, to=to, settings=settings, now=now, key=key)
    _show_table(approved.table, settings)
    show_approval(approved.name, version=approved.version, stage=str(approved.stage), approver=approved.approver,
                  count=f"{approved.approvals} of {approved.approvals_needed}", settings=settings)  # fmt: skip
    return approved


def promote(target: str, *, to: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Move a version to a stage: gates pass, enough others approved, and its submitter signs.

    Raises
    ------
    RefusedError
        A gate does not pass, approvals are missing or were given for something else, or somebody else than the
        submitter asks.
    """
    name = target.partition("@")[0]
    before = Registry(settings).version_at(name, stage=Stage.PRODUCTION)
    return _shown(_promote.promote(target, to=to, settings=settings, now=now, key=key), before, settings, now)


def rollback(name: str, *, reason: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Return production to the last version before the current one whose evidence still holds.

    Raises
    ------
    RefusedError
        No earlier version's evidence holds, or no reason is given.
    """
    before = Registry(settings).version_at(name, stage=Stage.PRODUCTION)
    return _shown(_rollback.rollback(name, reason=reason, settings=settings, now=now, key=key), before, settings, now)


def _shown(moved: Promoted, before: int | None, settings: Settings, now: datetime) -> Promoted:
    show_move(moved.statement, signed_by=moved.approvers, settings=settings)
    if moved.stage is Stage.PRODUCTION and before not in (None, moved.version):
        show_archived(moved.name, version=before or 0, successor=moved.version, now=now, settings=settings)
    return moved
