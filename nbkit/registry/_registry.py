"""What MLflow keeps, with the evidence of every move; importing this module loads MLflow."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

from nbkit.errors import EvidenceError, NotInRegistryError, RegistryError
from nbkit.registry._artifacts import Artifacts
from nbkit.registry._envelope import Envelope
from nbkit.registry._logged_model import DATA_FOLDER
from nbkit.registry._mlflow_errors import translated
from nbkit.registry._versions import Versions, plain_name

_MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]{32})\Z")


class Registry(Versions):
    """What MLflow keeps of runs and versions.

    Several registries with different settings can be used side by side in one process: none of them touches the
    tracking URI, the active run or the environment that the notebook around it uses.

    Parameters
    ----------
    settings : Settings
        ``tracking_uri`` (SQLite, PostgreSQL, another database, or an MLflow server), ``artifact_root`` (used where this
        process writes to the database itself) and ``ui_url`` for links.
    """

    def file_digests(self, name: str, *, version: int) -> dict[str, str]:
        """Return ``sha256:<hex>`` of every file of the version's MLflow model, by its path."""
        with translated(f"{name}@{version}: files"):
            return self._model_files(name, version).digests()

    def download_package(self, name: str, *, version: int, directory: Path) -> Path:
        """Download a version's package; `nbkit.package.load_package` then checks every file.

        Parameters
        ----------
        name : str
            The model.
        version : int
            Its version.
        directory : Path
            Made; must not exist, or be empty.

        Returns
        -------
        Path
            ``directory``, with the package's files and nothing else.

        Raises
        ------
        NotInRegistryError
            No such version, or it holds no package.
        RegistryError
            The folder is not empty, or MLflow lists something that is no plain file inside.
        """
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RegistryError(f"{directory}: expected a folder that does not exist or is empty")
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Complete or not there: a download that breaks off leaves nothing that looks like a package.
        scratch = tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent)
        with translated(f"{name}@{version}: package"), scratch as folder:
            target = Path(folder) / "package"
            self._model_files(name, version).download(DATA_FOLDER, target=target)
            if not target.exists():
                raise NotInRegistryError(f"{name}@{version}: holds no nbkit package")
            target.replace(directory)
        return directory

    def save_envelope(self, name: str, *, version: int, stage: str, envelope: Envelope, pending: bool) -> None:
        """Keep the evidence of a move: a file of the version's run, found through a tag of the version.

        Files are named by their digest and never replaced, so the history of a stage stays; the tag is set last.

        Parameters
        ----------
        name, version, stage : str, int, str
            What moves, and where to.
        envelope : Envelope
            Signed; not checked here.
        pending : bool
            True while approvals are being collected. Saving the final evidence ends what was pending.
        """
        tag = _evidence_tag(stage, pending=pending)
        with translated(f"{name}@{version}: evidence for {stage}"):
            run_id = self._run_of(name, version)
            path = _evidence_path(name, version, stage, envelope.digest)
            statement = json.dumps(json.loads(envelope.payload), indent=2, ensure_ascii=False)
            # The envelope's payload is base64: this copy is for people, and nothing reads it.
            self._keep_text(run_id, statement, path.replace(".dsse.json", ".statement.json"))
            self._keep_text(run_id, envelope.to_json(), path)
            self._client.set_model_version_tag(name, str(version), tag, envelope.digest)
            old = _evidence_tag(stage, pending=True)
            if not pending and old in self._version(name, version).tags:
                self._client.delete_model_version_tag(name, str(version), old)

    def envelope(self, name: str, *, version: int, stage: str, pending: bool = False) -> Envelope | None:
        """Return the evidence of a move as it was saved, unverified; None when there is none.

        Raises
        ------
        EvidenceError
            The file is gone or is not the one that was saved.
        """
        found = self._version(name, version)
        digest = found.tags.get(_evidence_tag(stage, pending=pending))
        if digest is None:
            return None
        return self.envelope_file(name, version=version, stage=stage, digest=digest)

    def envelope_file(self, name: str, *, version: int, stage: str, digest: str) -> Envelope:
        """Return the evidence of a move by the digest of its file, unverified.

        Raises
        ------
        EvidenceError
            Not a digest, or there is no such file, or its content is another.
        """
        place = f"{name}@{version}: evidence for {stage}"
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise EvidenceError(f"{place}: the tag holds no digest")
        path = _evidence_path(name, version, stage, digest)
        try:
            with translated(place):
                data = self._run_artifacts(self._run_of(name, version)).read(path)
        except NotInRegistryError as error:
            raise EvidenceError(f"{place}: the file {path} is gone") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise EvidenceError(f"{place}: the file {path} was changed")
        return Envelope.from_json(data)

    def _keep_text(self, run_id: str, text: str, path: str) -> None:
        """Write a file unless it is there as it should be: a guarded server lets nobody overwrite one."""
        artifacts = self._run_artifacts(run_id)
        if path in artifacts.paths(path.rpartition("/")[0]) and artifacts.read(path) == text.encode("utf-8"):
            return
        self._log_text(run_id, text, path)

    def _run_of(self, name: str, version: int) -> str:
        run_id = self._version(name, version).run_id
        if not run_id:
            raise RegistryError(f"{name}@{version}: has no run; it was not registered by nbkit")
        return str(run_id)

    def _model_files(self, name: str, version: int) -> Artifacts:
        match = _MODEL_SOURCE.match(self._version(name, version).source or "")
        if match is None:
            raise NotInRegistryError(f"{name}@{version}: holds no nbkit package; it was not registered by nbkit")
        return self._artifacts(self._client.get_logged_model(match[1]).artifact_location)


def _evidence_tag(stage: str, *, pending: bool) -> str:
    return f"nbkit.evidence.{plain_name(stage)}" + (".pending" if pending else "")


def _evidence_path(name: str, version: int, stage: str, digest: str) -> str:
    return f"evidence/{plain_name(name)}-{version}/{plain_name(stage)}-{digest.removeprefix('sha256:')[:16]}.dsse.json"
