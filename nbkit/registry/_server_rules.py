"""What a write to a guarded MLflow server needs; decided after parsing, by the server's own trust file."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError, RefusedError
from nbkit.package import Package, load_package
from nbkit.registry._entries import VersionRecord
from nbkit.registry._envelope import Envelope
from nbkit.registry._registry import Registry
from nbkit.registry._statement import Statement
from nbkit.registry._trust import Role, TrustStore
from nbkit.registry._verify import verify_evidence, verify_submission
from nbkit.registry._versions import is_plain_name

# What registration wrote about a version; the submission signs it, so it never changes.
FIXED_TAGS = ("nbkit.package_digest", "nbkit.contract_digest", "nbkit.case_set", "nbkit.owner", "nbkit.submitter")

_ALIAS = re.compile(r"[A-Za-z0-9_-]+\Z")
_EVIDENCE_TAG = re.compile(r"nbkit\.evidence\.([a-z_-]+?)(\.pending(?:\.[0-9a-f]{16})?)?\Z")
_EVIDENCE = "nbkit.evidence."
_STAGE_TAG = "nbkit.stage"
# MLflow's own stages that let nothing be served: a version may leave the deprecated scheme.
_NO_MLFLOW_STAGE = "none"


class WriteRules:
    """Raises for a write that its evidence does not allow; returns for any other.

    Parameters
    ----------
    registry : Registry
        Reads the server's own database and files, past the guard.
    trust_file : Path
        Read again at every write.
    now : callable
        The clock: aware, UTC.
    """

    def __init__(self, registry: Registry, *, trust_file: Path, now: Callable[[], datetime]) -> None:
        self._registry = registry
        self._trust_file = trust_file
        self._now = now

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Refuse a stage's alias without evidence for it, and every other spelling of a stage."""
        stage = _stage_named(alias)
        if stage is None:
            return
        if alias != stage.value:
            raise RefusedError(
                f"alias {alias!r}: the stage is spelled {stage.value!r}", next_step=_promote(name, version)
            )
        if stage is Stage.ARCHIVED and self._registry.version_at(name, stage=Stage.PRODUCTION) == version:
            raise RefusedError(f"{name}@{version}: is in production, so it is not archived")
        statement = self._backing(name, version, stage=stage)
        current = self._registry.version_at(name, stage=stage)
        if stage not in (Stage.CANDIDATE, Stage.ARCHIVED) and current not in (None, version):
            self._not_older(statement, name=name, version=current, stage=stage)

    def delete_alias(self, name: str, alias: str) -> None:
        """Refuse to take a stage away; another spelling of one may go."""
        if alias in set(Stage):
            raise RefusedError(f"{name}: stage {alias} is moved, not deleted", next_step=_promote(name))

    def transition(self, name: str, version: int, stage: str) -> None:
        """Refuse MLflow's deprecated stages, which know no evidence."""
        if stage.strip().lower() != _NO_MLFLOW_STAGE:
            raise RefusedError(
                f"{name}@{version}: MLflow's own stage {stage!r} is not used here", next_step=_promote(name, version)
            )

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        """Refuse tags that claim evidence or a stage that is not there, and changes of what was registered."""
        record = self._registry.version(name, version=version) if key.startswith("nbkit.") else None
        if record is None:
            return
        if key in FIXED_TAGS and record.tags.get(key) != value:
            raise RefusedError(f"{name}@{version}: tag {key} was registered and does not change")
        if key == _STAGE_TAG:
            if value not in set(Stage):
                raise RefusedError(f"{name}@{version}: {value!r} is no stage", next_step=_promote(name, version))
            self._backing(name, version, stage=Stage(value))
        if key.startswith(_EVIDENCE):
            self._set_evidence(record, key, value)

    def delete_tag(self, name: str, version: int, key: str) -> None:
        """Refuse to remove evidence, a stage or what was registered; pending approvals end with the evidence."""
        match = _EVIDENCE_TAG.match(key)
        if match and match[2] and match[1] in set(Stage):
            self._backing(name, version, stage=Stage(match[1]))
        elif key in FIXED_TAGS or key == _STAGE_TAG or key.startswith(_EVIDENCE):
            raise RefusedError(f"{name}@{version}: tag {key} is not deleted")

    def new_version(self, name: str, tags: Mapping[str, str]) -> None:
        """Refuse a version that is born with evidence, or in a stage."""
        wrong = [key for key in tags if key.startswith(_EVIDENCE)]
        wrong += [_STAGE_TAG] if tags.get(_STAGE_TAG, Stage.CANDIDATE.value) != Stage.CANDIDATE.value else []
        if wrong:
            raise RefusedError(f"{name}: a new version has no {', '.join(wrong)}", next_step=f"nbkit register {name}")

    def delete(self, name: str, version: int | None = None) -> None:
        """Refuse to delete or rename what was registered by nbkit: decisions were recorded under it."""
        if not is_plain_name(name):
            return  # nothing that nbkit registered
        records = self._registry.versions(name) if version is None else (self._registry.version(name, version=version),)
        kept = [record.version for record in records if FIXED_TAGS[0] in record.tags]
        if kept:
            shown = ", ".join(str(number) for number in kept[:3])
            raise RefusedError(f"{name}: version {shown} is kept: decisions may have been recorded under it")

    def delete_run(self, run_id: str) -> None:
        """Refuse to delete a run that versions came out of: their evidence lies in it."""
        if versions := self._registry.registered_from(run_id=run_id):
            raise RefusedError(f"run {run_id}: holds the evidence of {versions[0].model}@{versions[0].version}")

    def delete_experiment(self, experiment_id: str) -> None:
        """Refuse to delete an experiment with such a run."""
        records = [
            record for name in self._registry.names() if is_plain_name(name) for record in self._registry.versions(name)
        ]
        for run_id in {record.run_id for record in records if record.run_id and FIXED_TAGS[0] in record.tags}:
            if self._registry.run(run_id).experiment_id == experiment_id:
                self.delete_run(run_id)

    def delete_model(self, model_id: str) -> None:
        """Refuse to delete the files of a version."""
        if self.is_registered(model_id):
            raise RefusedError(f"logged model {model_id}: is registered as a version")

    def is_registered(self, model_id: str) -> bool:
        """Say whether some version's files are those of this logged model."""
        return bool(self._registry.registered_from(model_id=model_id))

    def has_versions(self, run_id: str) -> bool:
        """Say whether some version came out of this run."""
        return bool(self._registry.registered_from(run_id=run_id))

    def _backing(self, name: str, version: int, *, stage: Stage) -> Statement:
        """Return the verified statement that lets a version be called by a stage."""
        # Who is archived was in production once; that this may have expired since changes nothing.
        asked = Stage.PRODUCTION if stage is Stage.ARCHIVED else stage
        envelope = self._registry.envelope(name, version=version, stage=asked)
        if envelope is None:
            raise EvidenceError(f"{name}@{version}: no evidence for {asked}", next_step=_promote(name, version))
        now = envelope.unverified_statement().issued_at if stage is Stage.ARCHIVED else self._now()
        return self._verified(envelope, name=name, version=version, stage=asked, now=now)

    def _verified(self, envelope: Envelope, *, name: str, version: int, stage: Stage, now: datetime) -> Statement:
        trust = TrustStore.load(self._trust_file)
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
            package = self._package(name, version, Path(folder))
            if stage is Stage.CANDIDATE:
                return verify_submission(
                    envelope, trust=trust, now=now, model=name, version=version, package_digest=package.digest,
                    contract=package.contract,
                )  # fmt: skip
            return verify_evidence(
                envelope, trust=trust, now=now, model=name, version=version, stage=stage.value,
                package_digest=package.digest, contract=package.contract,
            )  # fmt: skip

    def _package(self, name: str, version: int, folder: Path) -> Package:
        return load_package(self._registry.download_package(name, version=version, directory=folder / "package"))

    def _set_evidence(self, record: VersionRecord, key: str, value: str) -> None:
        name, version = record.model, record.version
        match = _EVIDENCE_TAG.match(key)
        if match is None or match[1] not in set(Stage) - {Stage.ARCHIVED}:
            raise RefusedError(f"{name}@{version}: tag {key} names no stage that evidence is for")
        stage = Stage(match[1])
        envelope = self._registry.envelope_file(name, version=version, stage=stage, digest=value)
        if match[2]:
            self._pending(envelope, name=name, version=version, stage=stage)
            return
        statement = self._verified(envelope, name=name, version=version, stage=stage, now=self._now())
        if stage is not Stage.CANDIDATE and key in record.tags:
            self._not_older(statement, name=name, version=version, stage=stage)

    def _pending(self, envelope: Envelope, *, name: str, version: int, stage: Stage) -> None:
        """Accept what is still being approved when it is about this version, and somebody who may has signed it."""
        trust, now = TrustStore.load(self._trust_file), self._now()
        signers = [
            key
            for signature in envelope.signatures
            if (key := trust.find(signature.keyid)) is not None and signature.fits(key.raw, payload=envelope.payload)
        ]
        statement = envelope.unverified_statement()
        counting = [key for key in signers if not key.problem(signed_at=statement.issued_at, now=now)]
        if not any(Role.APPROVER in key.roles for key in counting):
            raise EvidenceError(f"{name}@{version}: no approver of the trust file has signed this")
        if (statement.model, statement.version, statement.stage) != (name, version, stage.value):
            other = f"{statement.model}@{statement.version} for {statement.stage}"
            raise EvidenceError(f"{name}@{version} for {stage}: these are approvals of {other}")

    def _not_older(self, statement: Statement, *, name: str, version: int | None, stage: Stage) -> None:
        """Refuse a statement that is older than the one which holds now."""
        try:
            current = self._backing(name, version or 0, stage=stage)
        except (EvidenceError, NotInRegistryError):
            return  # what points there now has no right to; anything verified is better
        if statement.epoch < current.epoch:
            raise RefusedError(
                f"{name}@{statement.version}: evidence of epoch {statement.epoch}, but epoch {current.epoch} holds",
                next_step=_promote(name, statement.version),
            )


def _stage_named(alias: str) -> Stage | None:
    """Return the stage that a person would read, in whatever spelling; what cannot be told is refused."""
    plain = unicodedata.normalize("NFKC", alias).casefold().strip()
    if plain in set(Stage):
        return Stage(plain)
    if not _ALIAS.match(alias):
        raise RefusedError(f"alias {alias!r}: expected ASCII letters, digits, '-' and '_'")
    return None


def _promote(name: str, version: int | None = None) -> str:
    return f"nbkit promote {name}@{version or 'VERSION'} --to STAGE"
