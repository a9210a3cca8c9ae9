"""Prove what was decided: verify the ledger, replay a decision."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from nbkit.audit import read_record, shown, verify_ledger
from nbkit.errors import NotInLedgerError, UsageError
from nbkit.lifecycle._keys import LEDGER_KEY
from nbkit.lifecycle._ledger_place import find_ledgers, ledger_place, place_of_ledger
from nbkit.lifecycle._view import Result, Table, View
from nbkit.records import AuditRecord
from nbkit.registry import load_key
from nbkit.serve import REASONS_FOLLOW, PackageStore, replay_decision
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerChecked(Result):
    """Whether the ledger is what was written."""

    name: str
    path: str
    records: int
    checkpoints: int
    problems: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether no row was edited, deleted, added or moved."""
        return not self.problems

    def view(self) -> View:
        """Return what a person is shown."""
        if self.succeeded:
            headline = f"{self.name}: {self.records} records are what was written"
        else:
            headline = f"{self.name}: the ledger was changed: {len(self.problems)} problem(s)"
        tables = [Table(columns=("problem",), rows=tuple((p,) for p in self.problems))] if self.problems else []
        return View(
            headline=headline,
            facts=[("ledger", self.path), ("signed checkpoints", str(self.checkpoints))],
            tables=tables,
        )


def audit_verify(name: str, *, settings: Settings) -> LedgerChecked:
    """Check every record of a model's ledger against its Merkle tree and signed checkpoints.

    Raises
    ------
    AuditError
        There is no ledger.
    """
    place = ledger_place(name, settings=settings)
    key = load_key(LEDGER_KEY, directory=settings.keys)
    report = verify_ledger(place, public_key=key.secret.public_key())
    return LedgerChecked(
        name=name,
        path=shown(place),
        records=report.records,
        checkpoints=report.checkpoints,
        problems=tuple(report.problems),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed(Result):
    """A past decision, scored again."""

    id: str
    model: str
    version: int
    recorded_score: float | None
    replayed_score: float | None
    recorded_decision: str
    replayed_decision: str
    recorded_reasons: tuple[str, ...]
    replayed_reasons: tuple[str, ...]
    fallback: str
    # The recorded answer came before its reasons; the replay's are those that followed.
    reasons_follow: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether score (bit for bit), decision and reasons are the same."""
        return (
            _same_bits(self.recorded_score, self.replayed_score)
            and self.recorded_decision == self.replayed_decision
            # What was told at once is told first; what was to follow comes behind it.
            and self.recorded_reasons
            == (self.replayed_reasons[: len(self.recorded_reasons)] if self.reasons_follow else self.replayed_reasons)
        )

    def view(self) -> View:
        """Return what a person is shown."""
        same = "identical, bit for bit" if self.succeeded else "DIFFERENT"
        told = " | ".join(self.recorded_reasons) or ("to follow" if self.reasons_follow else "")
        rows = (
            ("score", repr(self.recorded_score), repr(self.replayed_score)),
            ("decision", self.recorded_decision, self.replayed_decision),
            ("reasons", told, " | ".join(self.replayed_reasons)),
        )
        return View(
            headline=f"{self.id}: {self.model}@{self.version} replayed: {same}",
            tables=[Table(columns=("", "recorded", "replayed"), rows=rows)],
        )


def _same_bits(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))


def find_record(record_id: str, *, settings: Settings, ledger: str = "") -> AuditRecord:
    """Return a record from the ledger that is named, otherwise from whichever ledger of this machine holds it.

    Raises
    ------
    NotInLedgerError
        None does.
    """
    if ledger:
        return read_record(place_of_ledger(ledger), record_id)
    for name in find_ledgers(settings):
        try:
            return read_record(ledger_place(name, settings=settings), record_id)
        except NotInLedgerError:
            continue
    where = "that NBKIT_LEDGER names" if settings.ledger else f"under {settings.store}"
    raise NotInLedgerError(f"{record_id}: in no ledger {where}", next_step="nbkit audit verify")


def audit_replay(record_id: str, *, settings: Settings) -> Replayed:
    """Score a recorded decision again, with the very package that decided it.

    Raises
    ------
    NotInLedgerError
        No such record.
    UsageError
        The answer was a fallback: no model scored it; or the contract lets no inputs be kept.
    TamperedPackageError
        The package in the store is not the one that decided.
    """
    record = find_record(record_id, settings=settings)
    if record.fallback:
        raise UsageError(
            f"{record_id}: fallback {record.fallback!r} answered ({record.fallback_cause}); there is no score to replay"
        )
    # A shadow's inputs stand once, in the record of the answer that it followed.
    source = find_record(record.tags["shadow_of"], settings=settings) if record.kind == "shadow" else record
    if not source.inputs:
        raise UsageError(f"{record_id}: its inputs were not kept (audit.inputs), so nobody can score them again")
    package = PackageStore(settings.store).package(record.package_digest)
    decision = replay_decision(package, record, inputs_of=source)
    return Replayed(
        id=record.id,
        model=record.model,
        version=record.version,
        recorded_score=record.score,
        replayed_score=decision.score,
        recorded_decision=record.decision,
        replayed_decision=decision.decision,
        recorded_reasons=tuple(record.reasons),
        replayed_reasons=tuple(decision.reasons),
        fallback=record.fallback,
        reasons_follow=record.tags.get("reasons_missing") == REASONS_FOLLOW,
    )
