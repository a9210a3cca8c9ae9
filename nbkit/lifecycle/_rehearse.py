"""Let the deputy show that they can do without the owner: train again, and go back in production."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import RefusedError
from nbkit.lifecycle._champion import claimed, fetch
from nbkit.lifecycle._evidence import submission_of
from nbkit.lifecycle._gate import resolve
from nbkit.lifecycle._reproduce import certifier, certify, train_again
from nbkit.lifecycle._rollback import way_back
from nbkit.lifecycle._view import Progress, Result, View
from nbkit.registry import CertificateKind, owner_identity
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed(Result):
    """What the deputy has shown."""

    name: str
    version: int
    deputy: str
    steps: tuple[str, ...]
    expires_at: datetime

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        return View(
            headline=f"{target}: {self.deputy} has rehearsed, valid until {self.expires_at.date()}",
            facts=[(f"step {number}", step) for number, step in enumerate(self.steps, start=1)],
            next_step=f"nbkit gate {target} --to production",
        )


def rehearse(
    target: str,
    *,
    base: Path,
    settings: Settings,
    now: datetime,
    key: str = "",
    progress: Progress | None = None,
) -> Rehearsed:
    """Rehearse as the deputy: train the version again, and look for the way back in production; then sign it.

    The rollback is a dry run: it finds and verifies the version that production would go back to, and moves nothing.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    base : Path
        Folder of the use case, or the one it lies in.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.
    key : str
        Name of the deputy's key: its owner is the deputy whom the contract names.
    progress : callable, optional
        Takes fraction and message of the notebook's run.

    Returns
    -------
    Rehearsed
        The steps that were done.

    Raises
    ------
    RefusedError
        Somebody else than the deputy asks, or the notebook makes no package any more.
    """
    name, version = resolve(target, settings=settings)
    signer, owner = certifier(CertificateKind.REHEARSAL, key=key, settings=settings, now=now)
    package = fetch(name, version=version, settings=settings)
    deputy = package.contract.owner.deputy
    if owner_identity(owner) != owner_identity(deputy):
        raise RefusedError(
            f"{name}@{version}: the deputy is {deputy}, and {owner} cannot rehearse for them",
            next_step=f'nbkit keys new NAME --role operator --owner "{deputy}"',
        )
    submission = submission_of(name, version=version, package=package, settings=settings, now=now)
    compared = train_again(package, submission, base=base, settings=settings, now=now, progress=progress)
    same = "the same to the bit" if not compared.differs else f"other in {', '.join(compared.differs)}"
    steps = [f"trained again: {same}", _dry_run(name, settings=settings, now=now)]
    says = {"steps": steps, "deputy": deputy}
    certificate = certify(
        submission, kind=CertificateKind.REHEARSAL, says=says, signer=signer, owner=owner, settings=settings, now=now
    )
    return Rehearsed(name=name, version=version, deputy=owner, steps=tuple(steps), expires_at=certificate.expires_at)


def _dry_run(name: str, *, settings: Settings, now: datetime) -> str:
    decided = claimed(name, stage=Stage.PRODUCTION, settings=settings)
    try:
        current, last = way_back(name, decided=decided, settings=settings, now=now)
    except RefusedError as error:
        # A first version has no way back; the fallback chain of its contract is what remains, and that is a finding.
        return f"rollback (dry run): {error.message}"
    return f"rollback (dry run): from version {current} to {last.version}, whose evidence holds"
