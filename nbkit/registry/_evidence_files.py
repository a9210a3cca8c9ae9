"""Evidence, approvals, certificates and claims: where they lie in MLflow, and what is written in one step."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from mlflow.exceptions import MlflowException

from nbkit.errors import EvidenceError, NotInRegistryError, RegistryError
from nbkit.registry._entries import VersionRecord
from nbkit.registry._envelope import Envelope
from nbkit.registry._mlflow_errors import translated
from nbkit.registry._runs import CLAIM_PREFIX
from nbkit.registry._versions import Versions, plain_name

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A certificate's tag: its kind, and for a waiver the stage and the gate.
_LABEL = re.compile(r"[a-z][a-z0-9_.:-]{0,120}\Z")


class EvidenceFiles(Versions):
    """Read and write what was signed; nothing is verified here, and whoever reads verifies.

    Files lie in the version's run, are named by their digest and never replaced, so the history of a stage stays. A tag
    of the version names the one that counts: setting it is the one step in which a move happens.
    """

    def save_envelope(self, name: str, *, version: int, stage: str, envelope: Envelope, pending: bool) -> None:
        """Keep the evidence of a move, or the approvals that were collected so far.

        Approvals under one payload add up, each under a tag of its key: two people who approve at the same moment
        overwrite nothing.

        Parameters
        ----------
        name, version, stage : str, int, str
            What moves, and where to.
        envelope : Envelope
            Signed; not checked here.
        pending : bool
            True while approvals are being collected. Saving the final evidence ends what was pending.
        """
        with translated(f"{name}@{version}: evidence for {stage}"):
            if pending:
                for signature in envelope.signatures:
                    tag = f"{_evidence_tag(stage)}.pending.{signature.keyid[7:23]}"
                    self._save(name, version, tag=tag, folder="evidence", label=stage, envelope=envelope)
                return
            self._save(name, version, tag=_evidence_tag(stage), folder="evidence", label=stage, envelope=envelope)
            for tag in self._version(name, version).tags:
                if tag.startswith(f"{_evidence_tag(stage)}.pending."):
                    self._client.delete_model_version_tag(name, str(version), tag)

    def envelope(self, name: str, *, version: int, stage: str, pending: bool = False) -> Envelope | None:
        """Return the evidence of a move as it was saved, unverified; None when there is none.

        With ``pending`` the approvals collected so far, joined; where there are some under several payloads, those of
        the latest.

        Raises
        ------
        EvidenceError
            The file is gone or is not the one that was saved.
        """
        if pending:
            found = self.pending(name, version=version, stage=stage)
            return found[0] if found else None
        return self.envelope_of(self.version(name, version=version), stage=stage)

    def envelope_of(self, record: VersionRecord, *, stage: str) -> Envelope | None:
        """Return the evidence that a version's tag named when the version was read; see `envelope`."""
        return self._read(record, tag=_evidence_tag(stage), folder="evidence", label=stage)

    def pending(self, name: str, *, version: int, stage: str) -> tuple[Envelope, ...]:
        """Return what is being approved, unverified: one envelope a payload with all its signatures, the latest first.

        Raises
        ------
        EvidenceError
            A file is gone or is not the one that was saved.
        """
        joined: dict[bytes, Envelope] = {}
        record = self.version(name, version=version)
        for tag in sorted(record.tags):
            if tag.startswith(f"{_evidence_tag(stage)}.pending."):
                found = self._read(record, tag=tag, folder="evidence", label=stage)
                if found is not None:
                    joined[found.payload] = joined[found.payload].joined(found) if found.payload in joined else found
        statements = {payload: envelope.unverified_statement() for payload, envelope in joined.items()}
        order = sorted(joined, key=lambda payload: (statements[payload].epoch, statements[payload].issued_at))
        return tuple(joined[payload] for payload in reversed(order))

    def save_certificate(self, name: str, *, version: int, label: str, envelope: Envelope) -> None:
        """Keep a certificate of a version, in place of an earlier one of the same label.

        Parameters
        ----------
        name, version : str, int
            What it is about.
        label : str
            Its kind; of a waiver ``waiver.<stage>.<gate>``.
        envelope : Envelope
            Signed; not checked here.
        """
        with translated(f"{name}@{version}: certificate {label}"):
            self._save(
                name, version, tag=_certificate_tag(label), folder="certificates", label=label, envelope=envelope
            )

    def certificate(self, name: str, *, version: int, label: str) -> Envelope | None:
        """Return a certificate as it was saved, unverified; None when there is none.

        Raises
        ------
        EvidenceError
            The file is gone or is not the one that was saved.
        """
        record = self.version(name, version=version)
        return self._read(record, tag=_certificate_tag(label), folder="certificates", label=label)

    def claim(self, name: str, *, key: str, value: str) -> str:
        """Write a value under a key that nobody has used yet; return what stands there, one's own or an earlier one.

        MLflow keeps a run's parameter under (run, key) as primary key and never changes it: of any number of writers,
        on SQLite, on PostgreSQL or through a server, the first one wins. The run is that of the model's first version.
        """
        run_id = self._first_run(name)
        with translated(f"{name}: claim {key}"):
            try:
                self._client.log_param(run_id, f"{CLAIM_PREFIX}{key}", value)
            except MlflowException:
                found: str | None = self._client.get_run(run_id).data.params.get(f"{CLAIM_PREFIX}{key}")
                if found is None:
                    raise
                return found
        return value

    def claims(self, name: str) -> Mapping[str, str]:
        """Return every claim of a model by its key."""
        run_id = self._first_run(name)
        with translated(f"{name}: claims"):
            parameters = self._client.get_run(run_id).data.params
        return {
            key.removeprefix(CLAIM_PREFIX): value for key, value in parameters.items() if key.startswith(CLAIM_PREFIX)
        }

    def save_unsigned(self, name: str, *, version: int, stage: str, envelope: Envelope) -> None:
        """Keep a payload that approvers are about to sign; a claim on its digest then says which one counts."""
        with translated(f"{name}@{version}: payload for {stage}"):
            self._write(name, version, folder="evidence", label=stage, envelope=envelope)

    def envelope_file(self, name: str, *, version: int, stage: str, digest: str, run_id: str = "") -> Envelope:
        """Return the evidence of a move, or a payload that `save_unsigned` kept, by the digest of its file, unverified.

        Parameters
        ----------
        name, version, stage : str, int, str
            What moves, and where to.
        digest : str
            ``sha256:<hex>`` of the file.
        run_id : str
            The version's run, where it is known: MLflow is then not asked for it.

        Raises
        ------
        EvidenceError
            Not a digest, or there is no such file, or its content is another.
        """
        run_id = run_id or _run_of(self.version(name, version=version))
        return self._read_file(name, version, run_id=run_id, folder="evidence", label=stage, digest=digest)

    def _save(self, name: str, version: int, *, tag: str, folder: str, label: str, envelope: Envelope) -> None:
        self._write(name, version, folder=folder, label=label, envelope=envelope)
        self._client.set_model_version_tag(name, str(version), tag, envelope.digest)

    def _write(self, name: str, version: int, *, folder: str, label: str, envelope: Envelope) -> None:
        run_id = _run_of(self.version(name, version=version))
        path = _path(folder, name, version, label, envelope.digest)
        # The envelope's payload is base64: this copy is for people, and nothing reads it.
        shown = json.dumps(json.loads(envelope.payload), indent=2, ensure_ascii=False)
        self._keep_text(run_id, shown, path.replace(".dsse.json", ".statement.json"))
        self._keep_text(run_id, envelope.to_json(), path)

    def _keep_text(self, run_id: str, text: str, path: str) -> None:
        """Write a file unless it is there as it should be: a guarded server lets nobody overwrite one."""
        artifacts = self._run_artifacts(run_id)
        if path in artifacts.paths(path.rpartition("/")[0]) and artifacts.read(path) == text.encode("utf-8"):
            return
        self._log_text(run_id, text, path)

    def _read(self, record: VersionRecord, *, tag: str, folder: str, label: str) -> Envelope | None:
        digest = record.tags.get(tag)
        if digest is None:
            return None
        run_id = _run_of(record)
        return self._read_file(record.model, record.version, run_id=run_id, folder=folder, label=label, digest=digest)

    def _read_file(self, name: str, version: int, *, run_id: str, folder: str, label: str, digest: str) -> Envelope:
        place = f"{name}@{version}: evidence for {label}"
        if not _DIGEST.fullmatch(digest):
            raise EvidenceError(f"{place}: the tag holds no digest")
        path = _path(folder, name, version, label, digest)
        try:
            with translated(place):
                data = self._run_artifacts(run_id).read(path)
        except NotInRegistryError as error:
            raise EvidenceError(f"{place}: the file {path} is gone") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise EvidenceError(f"{place}: the file {path} was changed")
        return Envelope.from_json(data)

    def _first_run(self, name: str) -> str:
        records = self.versions(name, stages=False)
        if not records:
            raise NotInRegistryError(f"{name}: no version is registered", next_step=f"nbkit run {name}")
        return _run_of(records[-1])


def _run_of(record: VersionRecord) -> str:
    if not record.run_id:
        raise RegistryError(f"{record.model}@{record.version}: has no run; it was not registered by nbkit")
    return record.run_id


def _evidence_tag(stage: str) -> str:
    return f"nbkit.evidence.{plain_name(stage)}"


def _certificate_tag(label: str) -> str:
    return f"nbkit.certificate.{_plain_label(label)}"


def _plain_label(label: str) -> str:
    if not _LABEL.match(label) or ".." in label:
        raise RegistryError(f"certificate: expected lower-case letters, digits and '._:-', got {label!r}")
    return str(label)


def _path(folder: str, name: str, version: int, label: str, digest: str) -> str:
    stem = f"{_plain_label(label).replace(':', '.')}-{digest.removeprefix('sha256:')[:16]}"
    return f"{folder}/{plain_name(name)}-{version}/{stem}.dsse.json"
