"""What happens when a version moves: the epoch is claimed, the evidence is set in one step, then labels follow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, RefusedError, TamperedPackageError
from nbkit.lifecycle._champion import Claimed, Verified, claimed, verify_version
from nbkit.lifecycle._index import write_index
from nbkit.lifecycle._view import Result, View
from nbkit.registry import Envelope, Registry, Statement
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Result):
    """A version that has moved to a stage."""

    name: str
    version: int
    stage: Stage
    epoch: int
    approvers: tuple[str, ...]
    version_link: str
    statement: Statement = field(repr=False)
    rolled_back_from: int | None = None

    def view(self) -> View:
        """Return what a person is shown."""
        verb = "promoted" if self.rolled_back_from is None else f"rolled back from {self.rolled_back_from}"
        path = (
            f"nbkit serve {self.name}"
            if self.stage is Stage.PRODUCTION
            else f"nbkit gate {self.name}@{self.version} --to production"
        )
        return View(
            headline=f"{self.name}@{self.version}: {verb}, now {self.stage}",
            facts=[
                ("signed by", ", ".join(self.approvers)),
                ("epoch", str(self.epoch)),
                ("version", self.version_link),
            ],
            next_step=path,
        )


def next_epoch(name: str, *, stage: Stage, settings: Settings, decided: Sequence[Claimed] | None = None) -> int:
    """Return the epoch of the next move: above that of all evidence, and above all that were ever claimed.

    Parameters
    ----------
    name, stage : str, Stage
        What moves, and where to.
    settings : Settings
        Where MLflow and the trust file are.
    decided : sequence of Claimed, optional
        What `claimed` said a moment ago. Should somebody have moved since, the claim of the epoch is refused.
    """
    decided = claimed(name, stage=stage, settings=settings) if decided is None else decided
    epochs = [each.statement.epoch for each in decided]
    epochs += [epoch for epoch in map(_epoch_of, _claims(name, stage=stage, settings=settings)) if epoch]
    return max(epochs, default=0) + 1


def may_still_move(statement: Statement, *, settings: Settings) -> bool:
    """Say whether a statement is about the next move, or about one that was claimed for it and then broke off."""
    stage = Stage(statement.stage)
    following = next_epoch(statement.model, stage=stage, settings=settings)
    if statement.epoch == following:
        return True
    claims = _claims(statement.model, stage=stage, settings=settings)
    return statement.epoch == following - 1 and claims.get(_key(stage, statement.epoch)) == _claim_of(statement)


def move(envelope: Envelope, *, statement: Statement, signed_by: tuple[str, ...], settings: Settings) -> None:
    """Let a version move: claim the epoch, set the evidence, then the labels.

    The claim lets exactly one of several moves at the same moment go on. Setting the evidence is the one step in which
    the version moves: whoever looks before finds the state before, whoever looks after it finds the state after, alias
    or not, and a move that was killed in between is finished by asking for it again.

    Raises
    ------
    RefusedError
        Another move has the epoch.
    """
    registry, stage = Registry(settings), Stage(statement.stage)
    claim = _claim_of(statement)
    held = registry.claim(statement.model, key=_key(stage, statement.epoch), value=claim)
    if held != claim:
        winner = held.partition(" ")[0]
        raise RefusedError(
            f"{statement.model}@{statement.version} -> {stage}: version {winner} moved at the same moment"
            f" (epoch {statement.epoch})",
            next_step=f"nbkit gate {statement.model}@{statement.version} --to {stage}",
        )
    registry.save_envelope(statement.model, version=statement.version, stage=stage, envelope=envelope, pending=False)
    label(statement, signed_by=signed_by, settings=settings)


def label(statement: Statement, *, signed_by: tuple[str, ...], settings: Settings) -> None:
    """Show in MLflow what the evidence says: tags, aliases. Nothing that decides reads them."""
    registry = Registry(settings)
    name, version, stage = statement.model, statement.version, Stage(statement.stage)
    previous = registry.version_at(name, stage=stage)
    tags = {f"nbkit.gate.{r.gate.replace(':', '.')}": f"{r.verdict.value}: {r.reason}" for r in statement.gates}
    tags |= {"nbkit.stage": stage.value, "nbkit.signed_by": ", ".join(signed_by)}
    if statement.reason:
        tags["nbkit.rollback_reason"] = statement.reason
    # Before the alias: a move that was killed here is still seen as unfinished, and asked for again.
    write_index(statement.run_id, registry=registry)
    registry.set_version_tags(name, version=version, tags=tags)
    registry.set_alias(name, stage=stage, version=version)
    registry.set_run_tags(statement.run_id, {"nbkit.stage": stage.value})
    if stage is Stage.PRODUCTION and previous is not None and previous != version:
        registry.set_version_tags(name, version=previous, tags={"nbkit.stage": Stage.ARCHIVED.value})
        registry.set_alias(name, stage=Stage.ARCHIVED, version=previous)


def unfinished(name: str, *, version: int, stage: Stage, settings: Settings, now: datetime) -> Verified | None:
    """Return a version whose evidence is what was decided last and holds, while the alias does not say so."""
    last = next(iter(claimed(name, stage=stage, settings=settings)), None)
    if last is None or last.version != version or Registry(settings).version_at(name, stage=stage) == version:
        return None
    try:
        return verify_version(name, version=version, stage=stage, settings=settings, now=now)
    except (EvidenceError, TamperedPackageError):
        return None


def _claims(name: str, *, stage: Stage, settings: Settings) -> dict[str, str]:
    prefix = f"move.{stage.value}."
    return {key: value for key, value in Registry(settings).claims(name).items() if key.startswith(prefix)}


def _key(stage: Stage, epoch: int) -> str:
    return f"move.{stage.value}.{epoch}"


def _epoch_of(key: str) -> int:
    number = key.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _claim_of(statement: Statement) -> str:
    return f"{statement.version} sha256:{hashlib.sha256(statement.payload()).hexdigest()}"
