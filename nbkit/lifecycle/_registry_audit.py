"""What MLflow says that no evidence backs: aliases, stages, tags, files, owners."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError, PackageError, RegistryError
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._documents import LOGGED_MODEL
from nbkit.lifecycle._evidence import logged_model_digest, submission_of
from nbkit.lifecycle._figures import changed_figures
from nbkit.lifecycle._index import index_problem
from nbkit.lifecycle._pages import changed_documents
from nbkit.lifecycle._version_page import gate_tags, identity_tags
from nbkit.lifecycle._view import Result, Table, View
from nbkit.package import Package
from nbkit.registry import Envelope, Registry, Statement, TrustStore, VersionRecord, verify_evidence
from nbkit.serve import PackageStore
from nbkit.settings import Settings

_LOG = logging.getLogger("nbkit.serve")
_SERVED = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)
# The deprecated stage of a version that never had one.
_NO_MLFLOW_STAGE = ("", "None")
_EVIDENCE_TAG = "nbkit.evidence."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing in the registry that nothing signed backs.

    Parameters
    ----------
    kind : str
        ``alias``, ``mlflow stage``, ``tag``, ``metric``, ``parameter``, ``files``, ``evidence`` or ``owner``.
    where : str
        ``NAME`` or ``NAME@VERSION``.
    what : str
        What is wrong.
    next_step : str
        What to do about it.
    """

    kind: str
    where: str
    what: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAudit(Result):
    """How far the registry has drifted from what was signed."""

    models: tuple[str, ...]
    versions: int
    findings: tuple[Finding, ...]

    @property
    def succeeded(self) -> bool:
        """Whether everything is as it was signed."""
        return not self.findings

    def view(self) -> View:
        """Return what a person is shown."""
        looked = f"{self.versions} version{'s' * (self.versions != 1)} of {', '.join(self.models) or 'no model'}"
        count = len(self.findings)
        headline = f"{looked}: {f'{count} finding' + 's' * (count != 1) if count else 'all is as it was signed'}"
        rows = tuple((each.kind, each.where, f"{each.what} [{each.next_step}]") for each in self.findings)
        tables = [Table(columns=("kind", "where", "what"), rows=rows)] if rows else []
        return View(headline=headline, tables=tables)


def audit_registry(name: str = "", *, settings: Settings, now: datetime) -> RegistryAudit:
    """Compare what MLflow says of a model, or of all models, with what was signed.

    Files are downloaded and verified as whoever loads a version would. A finding is reported, never raised.

    Parameters
    ----------
    name : str
        A registered model; empty for all.
    settings : Settings
        Where MLflow and the trust file are.
    now : datetime
        Aware.

    Returns
    -------
    RegistryAudit
        Aliases without evidence and in other spellings, MLflow's own stages, edited tags, metrics and parameters,
        changed files, versions that nobody signed for.

    Raises
    ------
    EvidenceError
        There is no trust file to compare with.
    """
    registry, trust = Registry(settings), TrustStore.load(settings.trust_file)
    names = (name,) if name else registry.names()
    findings: list[Finding] = []
    count = 0
    for each in names:
        try:
            records = registry.versions(each)
        except RegistryError as error:
            step = "move its aliases away, or register it with nbkit run"
            findings.append(Finding(kind="owner", where=each, what=str(error), next_step=step))
            continue
        count += len(records)
        for record in records:
            findings += _Look(record, registry=registry, trust=trust, settings=settings, now=now).findings()
    return RegistryAudit(models=names, versions=count, findings=tuple(findings))


class DriftWatch:
    """Audits one model every few minutes for the process that serves it, and alerts on what is new.

    Parameters
    ----------
    name : str
        The model that is served.
    settings : Settings
        Where MLflow, the trust file and the package store with its ``alerts.jsonl`` are.
    every : timedelta
        How often it looks; an alias that moved is seen sooner, by whoever would load it.
    """

    def __init__(self, name: str, *, settings: Settings, every: timedelta = timedelta(minutes=10)) -> None:
        self._name = name
        self._settings = settings
        self._every = every
        self._next: datetime | None = None
        self._told: frozenset[Finding] = frozenset()

    def look(self, now: datetime) -> tuple[Finding, ...]:
        """Return what is found for the first time, each also an alert; nothing before it is time to look again."""
        if self._next is not None and now < self._next:
            return ()
        self._next = now + self._every
        try:
            found = audit_registry(self._name, settings=self._settings, now=now).findings
        except (RegistryError, EvidenceError) as error:
            _LOG.warning("registry not audited", extra={"fields": {"model": self._name, "reason": str(error)}})
            return ()
        new = tuple(finding for finding in found if finding not in self._told)
        self._told = frozenset(found)
        store = PackageStore(self._settings.store)
        for finding in new:
            version = finding.where.rpartition("@")[2]
            reason = f"registry: {finding.kind}: {finding.where}: {finding.what}"
            _LOG.warning("registry drift", extra={"fields": {"model": self._name, "reason": reason}})
            try:
                store.alert(self._name, version=int(version) if version.isdigit() else 0, reason=reason, now=now)
            except OSError as error:
                _LOG.warning("alert not written", extra={"fields": {"model": self._name, "reason": str(error)}})
        return new


class _Look:
    """One version, compared with what was signed about it."""

    def __init__(
        self, record: VersionRecord, *, registry: Registry, trust: TrustStore, settings: Settings, now: datetime
    ) -> None:
        self._record = record
        self._registry = registry
        self._trust = trust
        self._settings = settings
        self._now = now
        self._name, self._version = record.model, record.version
        self._where = f"{record.model}@{record.version}"

    def findings(self) -> Iterator[Finding]:
        """Yield everything that is not as it was signed."""
        yield from self._spellings()
        if self._record.mlflow_stage not in _NO_MLFLOW_STAGE:
            what = f"MLflow's own stage is {self._record.mlflow_stage}; it knows no evidence and nbkit reads it nowhere"
            yield self._found("mlflow stage", what, "transition it to None in MLflow")
        try:
            package = fetch(self._name, version=self._version, settings=self._settings)
        except (PackageError, NotInRegistryError, RegistryError) as error:
            registered = "nbkit.package_digest" in self._record.tags
            step = f"nbkit rollback {self._name} if it serves, then register it again"
            yield self._found("files" if registered else "owner", str(error), step)
            yield from (self._unbacked(alias, "its files do not verify") for alias in self._stages())
            return
        submission: Statement | None = None
        try:
            submission = submission_of(
                self._name, version=self._version, package=package, settings=self._settings, now=self._now
            )
        except EvidenceError as error:
            yield self._found("owner", str(error), f"nbkit register {self._name}")
        yield from self._aliases(package, submission)
        yield from self._evidence(package)
        if submission is not None:
            yield from self._files(submission)
            yield from self._tags(package, submission)

    def _stages(self) -> list[str]:
        return [alias for alias in self._record.stages if alias in set(Stage)]

    def _spellings(self) -> Iterator[Finding]:
        for alias in self._record.stages:
            plain = unicodedata.normalize("NFKC", alias).casefold().strip()
            if alias not in set(Stage) and (plain in set(Stage) or not alias.isascii()):
                stage = plain if plain in set(Stage) else "a stage"
                what = f"alias {alias!r} reads like {stage} and is not: nothing is served by it"
                yield self._found("alias", what, f"delete the alias {alias!r} in MLflow")

    def _aliases(self, package: Package, submission: Statement | None) -> Iterator[Finding]:
        for alias in self._stages():
            stage = Stage(alias)
            if stage is Stage.CANDIDATE:
                if submission is None:
                    yield self._unbacked(alias, "nobody signed its submission")
                continue
            asked = Stage.PRODUCTION if stage is Stage.ARCHIVED else stage
            try:
                statement = self._verified(asked, package, ever=stage is Stage.ARCHIVED)
            except EvidenceError as error:
                yield self._unbacked(alias, str(error))
                continue
            newest = self._newest_epoch(asked)
            if stage in _SERVED and statement.epoch < newest:
                yield self._unbacked(alias, f"its evidence is of epoch {statement.epoch}, the newest is of {newest}")

    def _verified(self, stage: Stage, package: Package, *, ever: bool) -> Statement:
        """Return the statement that puts the version into a stage: today, or at least on the day it was issued."""
        envelope = self._registry.envelope(self._name, version=self._version, stage=stage)
        if envelope is None:
            raise EvidenceError(f"{self._where}: no evidence for {stage}")
        return verify_evidence(
            envelope, trust=self._trust, now=envelope.unverified_statement().issued_at if ever else self._now,
            model=self._name, version=self._version, stage=stage.value, package_digest=package.digest,
            contract=package.contract,
        )  # fmt: skip

    def _newest_epoch(self, stage: Stage) -> int:
        epochs = [0]
        for record in self._registry.versions(self._name):
            # Another version's files are looked at in its own turn; here only what its tag names.
            if f"{_EVIDENCE_TAG}{stage.value}" in record.tags:
                envelope = _readable(self._registry, record, stage)
                if envelope is not None and _signed_by_known(envelope, self._trust):
                    epochs.append(envelope.unverified_statement().epoch)
        return max(epochs)

    def _evidence(self, package: Package) -> Iterator[Finding]:
        """Look at evidence that no alias points at: copied or edited, it waits for somebody to move the alias."""
        for stage in _SERVED:
            if f"{_EVIDENCE_TAG}{stage.value}" in self._record.tags and stage.value not in self._record.stages:
                try:
                    self._verified(stage, package, ever=True)
                except EvidenceError as error:
                    yield self._found("evidence", str(error), f"nbkit gate {self._where} --to {stage}")

    def _files(self, submission: Statement) -> Iterator[Finding]:
        step = f"nbkit gate {self._where} --to staging shows it; register it again"
        try:
            for _, problem in changed_documents(submission, self._registry):
                yield self._found("files", problem, step)
            if problem := index_problem(submission.run_id, registry=self._registry):
                yield self._found("files", problem, "compare it with nbkit evidence show; the next move writes it anew")
            for kind, problem in changed_figures(submission, self._registry):
                yield self._found(
                    kind, problem, f"read it in version-{self._version}/evaluation.json; register it again"
                )
            found = logged_model_digest(self._name, version=self._version, settings=self._settings)
        except RegistryError as error:
            yield self._found("files", str(error), step)
            return
        if found != submission.documents.get(LOGGED_MODEL):
            yield self._found("files", "the files in MLflow are not those that were submitted", step)

    def _tags(self, package: Package, submission: Statement) -> Iterator[Finding]:
        tags = self._record.tags
        expected = identity_tags(package, submitter=submission.submitter.owner)
        for key, value in expected.items():
            if tags.get(key) != value:
                yield self._edited(key, f"signed is {value!r}")
        stage = tags.get("nbkit.stage", "")
        if stage not in set(Stage) or not self._has_stage(Stage(stage), package):
            yield self._edited("nbkit.stage", "no evidence says so")
        yield from self._gate_tags(package)

    def _gate_tags(self, package: Package) -> Iterator[Finding]:
        """Look for results that differ from the signed ones; a tag may also show what is not signed yet."""
        stage = self._record.tags.get("nbkit.gates_for", "")
        if stage not in set(_SERVED):
            return
        try:
            signed = gate_tags(self._verified(Stage(stage), package, ever=True).gates)
        except EvidenceError:
            return
        for key, value in signed.items():
            if self._record.tags.get(key) != value:
                yield self._edited(key, f"signed is {value!r}")

    def _has_stage(self, stage: Stage, package: Package) -> bool:
        if stage is Stage.CANDIDATE:
            return True
        try:
            self._verified(Stage.PRODUCTION if stage is Stage.ARCHIVED else stage, package, ever=True)
        except EvidenceError:
            return False
        return stage is not Stage.PRODUCTION or stage.value in self._record.stages

    def _edited(self, key: str, why: str) -> Finding:
        said = self._record.tags.get(key)
        what = f"tag {key} {'is missing' if said is None else f'says {said!r}'}; {why}"
        return self._found("tag", what, "set it back in MLflow")

    def _unbacked(self, alias: str, why: str) -> Finding:
        step = f"nbkit rollback {self._name}" if alias == Stage.PRODUCTION else f"nbkit gate {self._where} --to {alias}"
        return self._found("alias", f"alias {alias} points here without evidence: {why}", step)

    def _found(self, kind: str, what: str, next_step: str) -> Finding:
        return Finding(kind=kind, where=self._where, what=what, next_step=next_step)


def _readable(registry: Registry, record: VersionRecord, stage: Stage) -> Envelope | None:
    try:
        return registry.envelope(record.model, version=record.version, stage=stage)
    except (EvidenceError, RegistryError):
        return None


def _signed_by_known(envelope: Envelope, trust: TrustStore) -> bool:
    known = ((trust.find(signature.keyid), signature) for signature in envelope.signatures)
    return any(key is not None and signature.fits(key.raw, payload=envelope.payload) for key, signature in known)
