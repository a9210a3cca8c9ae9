"""Go back in production: one command, one operator, to a version whose promotion still holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, TamperedPackageError
from nbkit.lifecycle._champion import Claimed, Verified, claimed, verify_version
from nbkit.lifecycle._evidence import signing_key, statement_about, trusted
from nbkit.lifecycle._move import Promoted, move, next_epoch
from nbkit.registry import Action, Envelope, Registry, Role, Submitter
from nbkit.settings import Settings


def rollback(name: str, *, reason: str, settings: Settings, now: datetime, key: str = "") -> Promoted:
    """Return production to the last version before the current one whose evidence still holds.

    "Before" is by the order of promotions: rolling back twice goes back twice, and never to a version that was itself
    rolled back from.

    Raises
    ------
    RefusedError
        No earlier version's evidence holds, no reason is given, or another version moved at the same moment.
    EvidenceError
        The key is not trusted as an operator's.
    """
    if not reason.strip():
        raise RefusedError(f"{name}: a rollback needs a reason", next_step=f'nbkit rollback {name} --reason "..."')
    signer = signing_key(settings, key=key)
    operator = trusted(signer.key_id, role=Role.OPERATOR, settings=settings, now=now).owner
    decided = claimed(name, stage=Stage.PRODUCTION, settings=settings)
    # Before the files are looked at: whoever moves meanwhile has this epoch, and the move below is refused.
    epoch = next_epoch(name, stage=Stage.PRODUCTION, settings=settings, decided=decided)
    current, last = way_back(name, decided=decided, settings=settings, now=now)
    basis = last.envelope.as_mapping() if last.statement.basis is None else last.statement.basis
    statement = statement_about(
        last.package, version=last.version, stage=Stage.PRODUCTION, action=Action.ROLLBACK, epoch=epoch, now=now,
        documents=last.statement.documents, gates=last.statement.gates,
        submitter=Submitter(key_id=signer.key_id, owner=operator), run_id=last.statement.run_id, basis=basis,
        reason=reason.strip(),
    )  # fmt: skip
    move(Envelope.of(statement).sign(signer), statement=statement, signed_by=(operator,), settings=settings)
    return Promoted(
        name=name,
        version=last.version,
        stage=Stage.PRODUCTION,
        epoch=statement.epoch,
        approvers=(operator,),
        version_link=Registry(settings).version_link(name, last.version),
        rolled_back_from=current,
        statement=statement,
    )


def way_back(name: str, *, decided: Sequence[Claimed], settings: Settings, now: datetime) -> tuple[int, Verified]:
    """Return the version that is in production by what was decided last, and the one that a rollback would go to.

    Parameters
    ----------
    name : str
        The model.
    decided : sequence of Claimed
        Its evidence of production, as `claimed` returns it.
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.

    Raises
    ------
    RefusedError
        There is none.
    """
    failed = []
    if decided:
        current = decided[0]
        before = [each for each in decided[1:] if each.promoted_at_epoch < current.promoted_at_epoch]
        for each in sorted(before, key=lambda other: -other.promoted_at_epoch):
            try:
                found = verify_version(name, version=each.version, stage=Stage.PRODUCTION, settings=settings, now=now)
            except (EvidenceError, TamperedPackageError) as error:
                failed.append(f"version {each.version}: {error}")
            else:
                return current.version, found
    raise RefusedError(
        f"{name}: no earlier version in production whose evidence holds",
        problems=failed,
        next_step=f"nbkit gate {name}@VERSION --to production",
    )
