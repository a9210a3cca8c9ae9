"""Verified packages on this machine's disk: content-addressed, and one pointer a model that moves in one step."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from nbkit.errors import PackageError
from nbkit.files import write_atomically
from nbkit.package import Package, load_package

__all__ = ["PRODUCTION", "Installed", "PackageStore"]

STORE_FORMAT = 1

PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What a model's pointer says; whoever serves it verifies the evidence again.

    Parameters
    ----------
    name : str
        The registered model.
    version : int
        Its version.
    package_digest : str
        Which package.
    epoch : int
        Of the evidence; a later install never has a lower one.
    envelope : str
        The evidence: a DSSE envelope as JSON.
    stage : str
        That the evidence is for: ``production``, ``canary`` or ``shadow``.
    share : float
        Of the subjects that a canary answers, 0..1.
    """

    name: str
    version: int
    package_digest: str
    epoch: int
    envelope: str
    stage: str = PRODUCTION
    share: float = 0.0


class _Pointer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    format: int
    name: str
    version: int
    package_digest: str
    epoch: int
    envelope: str
    # Only pointers of other stages say so: those of production are what they always were.
    stage: str = PRODUCTION
    share: float = 0.0


class PackageStore:
    """A folder of packages: ``packages/<hex>/``, ``models/<name>.json`` and ``alerts.jsonl``.

    A version in another stage than production has a pointer of its own, ``models/<name>.<stage>.json``.

    Parameters
    ----------
    root : Path
        Made when something is installed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def pointer(self, name: str, *, stage: str = PRODUCTION) -> Path:
        """Return the file that says which version of a model is installed.

        Parameters
        ----------
        name : str
            The registered model.
        stage : str
            In which stage.

        Returns
        -------
        Path
            May not exist.
        """
        # No name holds a dot, so no model's pointer is another's.
        return self._root / "models" / (f"{name}.json" if stage == PRODUCTION else f"{name}.{stage}.json")

    def install(
        self,
        name: str,
        *,
        version: int,
        package_dir: Path,
        envelope_json: str,
        epoch: int,
        stage: str = PRODUCTION,
        share: float = 0.0,
    ) -> Installed:
        """Copy a package into the store and point the model at it; readers see the old version or the new one.

        Parameters
        ----------
        name : str
            The registered model.
        version : int
            Its version.
        package_dir : Path
            A package whose evidence has been verified.
        envelope_json : str
            That evidence.
        epoch : int
            Of that evidence.
        stage : str
            That it is for.
        share : float
            Of a canary.

        Returns
        -------
        Installed
            What the pointer says from now on.

        Raises
        ------
        PackageError
            The package is not whole, or the store holds a later epoch.
        """
        before = self.current(name, stage=stage)
        if before is not None and epoch < before.epoch:
            raise PackageError(f"{name}: the store holds epoch {before.epoch}, got the older {epoch}")
        digest = load_package(package_dir).digest
        self._keep(package_dir, digest=digest)
        installed = Installed(
            name=name,
            version=version,
            package_digest=digest,
            epoch=epoch,
            envelope=envelope_json,
            stage=stage,
            share=share,
        )
        self.point(installed)
        return installed

    def point(self, installed: Installed) -> None:
        """Let a model's stage point at a package that the store holds already.

        Parameters
        ----------
        installed : Installed
            What the pointer says from now on.
        """
        path = self.pointer(installed.name, stage=installed.stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = msgspec.to_builtins(_Pointer(format=STORE_FORMAT, **asdict(installed)))
        write_atomically(path, content=json.dumps(content, sort_keys=True).encode())

    def remove(self, name: str, *, stage: str) -> bool:
        """Let nothing be in a stage any more; the package stays.

        Parameters
        ----------
        name : str
            The registered model.
        stage : str
            Which one.

        Returns
        -------
        bool
            Whether something was.
        """
        path = self.pointer(name, stage=stage)
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed

    def current(self, name: str, *, stage: str = PRODUCTION) -> Installed | None:
        """Return what is installed for a model.

        Parameters
        ----------
        name : str
            The registered model.
        stage : str
            In which stage.

        Returns
        -------
        Installed or None
            None when nothing is.

        Raises
        ------
        PackageError
            The pointer cannot be read.
        """
        path = self.pointer(name, stage=stage)
        try:
            pointer = msgspec.json.decode(path.read_bytes(), type=_Pointer)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PackageError(f"{path}: expected a pointer of the package store: {error}") from error
        if (pointer.format, pointer.name, pointer.stage) != (STORE_FORMAT, name, stage):
            got = f"{pointer.format}, {pointer.name!r} and {pointer.stage!r}"
            raise PackageError(f"{path}: expected format {STORE_FORMAT}, model {name!r} and stage {stage!r}, got {got}")
        fields = msgspec.structs.asdict(pointer)
        del fields["format"]
        return Installed(**fields)

    def package(self, digest: str) -> Package:
        """Load a package of the store; every file is compared with its digest.

        Parameters
        ----------
        digest : str
            ``sha256:<hex>``.

        Returns
        -------
        Package
            The very one of that digest.

        Raises
        ------
        PackageError
            It is not in the store.
        TamperedPackageError
            Its files were changed.
        """
        package = load_package(self._home(digest))
        if package.digest != digest:
            raise PackageError(f"{package.directory}: expected package {digest}, got {package.digest}")
        return package

    def incoming(self) -> Path:
        """Make an empty folder on the store's own disk, for what is being fetched.

        Returns
        -------
        Path
            The caller removes it.
        """
        path = self._root / "incoming" / secrets.token_hex(8)
        path.mkdir(parents=True)
        return path

    def alert(self, name: str, *, version: int, reason: str, now: datetime) -> None:
        """Note that something was refused, once: the same refusal is not repeated.

        Parameters
        ----------
        name : str
            The registered model.
        version : int
            What was refused; 0 when no version is meant.
        reason : str
            Why.
        now : datetime
            Aware, UTC.
        """
        path = self._root / "alerts.jsonl"
        told = {"model": name, "version": version, "reason": reason}
        if _last_line(path) == told:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"format": STORE_FORMAT, "at": now.isoformat(), **told}) + "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(line)

    def _home(self, digest: str) -> Path:
        kind, _, name = digest.partition(":")
        if kind != "sha256" or len(name) != 64 or set(name) - set("0123456789abcdef"):
            raise PackageError(f"package digest: expected 'sha256:<64 hex digits>', got {digest!r}")
        return self._root / "packages" / name

    def _keep(self, package_dir: Path, *, digest: str) -> None:
        home = self._home(digest)
        try:
            self.package(digest)
        except PackageError:
            pass  # absent, or no longer what it was: put the verified files in its place
        else:
            return
        incoming = self.incoming()
        try:
            copy = incoming / "new"
            shutil.copytree(package_dir, copy, symlinks=True)
            for path in (*(p for p in copy.rglob("*") if p.is_file()), copy):
                _sync(path)
            # What was copied is what counts, not what was checked before it was copied.
            if load_package(copy).digest != digest:
                raise PackageError(f"{package_dir}: changed while it was copied")
            home.parent.mkdir(parents=True, exist_ok=True)
            if home.exists():
                home.rename(incoming / "old")
            copy.rename(home)
            _sync(home.parent)
        finally:
            shutil.rmtree(incoming)


def _last_line(path: Path) -> dict[str, object] | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    if not lines:
        return None
    try:
        last = json.loads(lines[-1])
    except ValueError:
        return None
    return {key: last.get(key) for key in ("model", "version", "reason")} if isinstance(last, dict) else None


def _sync(path: Path) -> None:
    """Put a file or a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
