"""What MLflow keeps, with the evidence of every move; importing this module loads MLflow."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from nbkit.errors import NotInRegistryError, RegistryError
from nbkit.registry._artifacts import DATA_FOLDER, Artifacts
from nbkit.registry._evidence_files import EvidenceFiles
from nbkit.registry._mlflow_errors import translated

_MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]{32})\Z")


class Registry(EvidenceFiles):
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

    def _model_files(self, name: str, version: int) -> Artifacts:
        match = _MODEL_SOURCE.match(self._version(name, version).source or "")
        if match is None:
            raise NotInRegistryError(f"{name}@{version}: holds no nbkit package; it was not registered by nbkit")
        return self._artifacts(self._client.get_logged_model(match[1]).artifact_location)
