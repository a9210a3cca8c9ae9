"""Files below an artifact location: list, digest, download. What a store lists is not trusted to stay inside."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from nbkit.errors import NotInRegistryError, RegistryError

# A package's files lie below this folder of its MLflow model; nbkit reads nothing else.
DATA_FOLDER = "data"

# A package holds a dozen files; a listing without end would fill the disk.
_MOST_FILES = 10_000
_DEEPEST = 32
_CHUNK = 1 << 20


class Artifacts:
    """The files below one artifact location.

    Parameters
    ----------
    location : str
        A URI that MLflow knows: a local path, ``mlflow-artifacts:``, ``s3:``, …
    tracking_uri : str
        The store that the location belongs to.
    """

    def __init__(self, location: str, *, tracking_uri: str) -> None:
        self._location = location
        self._repository = get_artifact_repository(location, tracking_uri=tracking_uri)
        self._root = Path(local_file_uri_to_path(location)) if is_local_uri(location) else None

    def paths(self, folder: str = "") -> tuple[str, ...]:
        """Return the path of every file below ``folder``, sorted; relative to the location."""
        found = sorted(self._walk_local(folder) if self._root is not None else self._walk(folder, depth=0))
        if len(set(found)) != len(found) or len(found) > _MOST_FILES:
            raise RegistryError(f"{self._location}: expected at most {_MOST_FILES} files, none twice")
        return tuple(found)

    def digests(self) -> dict[str, str]:
        """Return ``sha256:<hex>`` of every file, by its path."""
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
            return {path: _digest(self._local(path, Path(folder))) for path in self.paths()}

    def read(self, path: str) -> bytes:
        """Return one file's bytes."""
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder:
            return self._local(_inside(path, place=self._location), Path(folder)).read_bytes()

    def download(self, folder: str, *, target: Path) -> None:
        """Write every file below ``folder`` to ``target``, which is made; links are refused, not followed."""
        with tempfile.TemporaryDirectory(prefix="nbkit-") as scratch:
            for path in self.paths(folder):
                source = self._local(path, Path(scratch))
                destination = target / PurePosixPath(path).relative_to(folder)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with source.open("rb") as reader, destination.open("xb") as writer:
                    while chunk := reader.read(_CHUNK):
                        writer.write(chunk)

    def _local(self, path: str, scratch: Path) -> Path:
        if self._root is not None:
            file = (self._root / path).resolve()
            if not file.is_relative_to(self._root.resolve()):
                raise RegistryError(f"{self._location}: {path!r} leads outside")
            if not file.is_file():
                raise NotInRegistryError(f"{self._location}: no file {path!r}")
            return file
        target = scratch / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # The public download_artifacts draws a progress bar for every file; this is the call that it makes.
        self._repository._download_file(path, str(target))
        return target

    def _walk(self, folder: str, *, depth: int) -> Iterator[str]:
        if depth > _DEEPEST:
            raise RegistryError(f"{self._location}: folders nested too deeply")
        for entry in self._repository.list_artifacts(folder or None):
            path = _inside(entry.path, place=self._location)
            if folder and not path.startswith(f"{folder}/"):
                raise RegistryError(f"{self._location}: {folder!r} lists {path!r}, which lies outside")
            if entry.is_dir:
                yield from self._walk(path, depth=depth + 1)
            else:
                yield path

    def _walk_local(self, folder: str) -> Iterator[str]:
        assert self._root is not None  # noqa: S101  for mypy
        for directory, folders, files in os.walk(self._root / folder, followlinks=False):
            for name in (*folders, *files):
                path = Path(directory) / name
                try:
                    mode = path.lstat().st_mode
                except FileNotFoundError:
                    continue  # MLflow writes under another name and renames: gone since it was listed
                if stat.S_ISLNK(mode) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise RegistryError(f"{path}: expected a file or a folder, not a link or a device")
                if stat.S_ISREG(mode):
                    yield path.relative_to(self._root).as_posix()


def _inside(path: str, *, place: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise RegistryError(f"{place}: expected a path inside, got {path!r}")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
