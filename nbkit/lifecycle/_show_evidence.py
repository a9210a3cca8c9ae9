"""Show what was signed about a version, and write it into a folder that can be taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._documents import EXPORTED, place_of
from nbkit.lifecycle._examine import ENVELOPE_FILE, PACKAGE_FOLDER, signers_of
from nbkit.lifecycle._gate import resolve
from nbkit.lifecycle._view import Result, Table, View
from nbkit.registry import Registry, TrustStore
from nbkit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown(Result):
    """What the evidence of a version says; not verified."""

    name: str
    version: int
    moves: tuple[Mapping[str, object], ...]

    def view(self) -> View:
        """Return what a person is shown."""
        columns = ("stage", "action", "epoch", "issued_at", "expires_at", "signed_by", "digest")
        rows = tuple(tuple(str(each[column]) for column in columns) for each in self.moves)
        return View(
            headline=f"{self.name}@{self.version}: evidence for {len(self.moves)} stages, as it lies in MLflow",
            tables=[Table(columns=columns, rows=rows)],
            next_step=f"nbkit evidence export {self.name}@{self.version} --to STAGE --directory FOLDER",
        )


def show_evidence(target: str, *, settings: Settings) -> Shown:
    """Show the evidence of a version, stage by stage; who signed is looked up in this machine's trust file.

    Raises
    ------
    EvidenceError
        A file is gone or was changed.
    """
    name, version = resolve(target, settings=settings)
    trust = TrustStore.load(settings.trust_file)
    moves = []
    for stage in Stage:
        envelope = Registry(settings).envelope(name, version=version, stage=stage)
        if envelope is None:
            continue
        statement = envelope.unverified_statement()
        moves.append(
            {
                "stage": stage.value,
                "action": statement.action.value,
                "epoch": statement.epoch,
                "issued_at": statement.issued_at.isoformat(timespec="seconds"),
                "expires_at": statement.expires_at.isoformat(timespec="seconds"),
                "signed_by": ", ".join(signers_of(envelope, trust=trust)),
                "digest": envelope.digest,
            }
        )
    return Shown(name=name, version=version, moves=tuple(moves))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(Result):
    """Evidence with all that it is about, in one folder."""

    name: str
    version: int
    stage: str
    directory: Path

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}@{self.version} -> {self.stage}: evidence, package and documents are in"
            f" {self.directory}",
            next_step=f"nbkit evidence verify {self.directory} --trust TRUST.json",
        )


def export_evidence(target: str, *, to: str, directory: Path, settings: Settings) -> Exported:
    """Write the evidence of a stage, the package and the documents into a folder that can be taken away.

    Raises
    ------
    UsageError
        No such stage, or the folder is not empty.
    EvidenceError
        There is no evidence for the stage.
    """
    if to not in set(Stage):
        raise UsageError(f"stage: expected one of {', '.join(Stage)}, got {to!r}")
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory}: expected a folder that is empty or does not exist")
    name, version = resolve(target, settings=settings)
    registry = Registry(settings)
    envelope = registry.envelope(name, version=version, stage=to)
    if envelope is None:
        raise EvidenceError(
            f"{name}@{version}: no evidence for {to}", next_step=f"nbkit gate {name}@{version} --to {to}"
        )
    statement = envelope.unverified_statement()
    registry.download_package(name, version=version, directory=directory / PACKAGE_FOLDER)
    write_atomically(directory / ENVELOPE_FILE, content=envelope.to_json().encode())
    for document in EXPORTED:
        if document not in statement.documents:
            continue
        try:
            raw = registry.read_artifact(statement.run_id, place_of(document, version=version))
        except NotInRegistryError:
            continue
        (directory / document).parent.mkdir(exist_ok=True)
        write_atomically(directory / document, content=raw)
    return Exported(name=name, version=version, stage=to, directory=directory)
