"""Load a model package, and refuse one whose files are not those of its manifest."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from nbkit.contract import Contract, Thresholds
from nbkit.errors import PackageError, TamperedPackageError
from nbkit.package._files import sha256, strict_json
from nbkit.package._plan import PLAN_FILE, TREES_FILE, Plan
from nbkit.package._steps import Scalar
from nbkit.package._tables import Table

MANIFEST_FORMAT = 1
MANIFEST_FILE = "manifest.json"
CONTRACT_FILE = "contract.json"
MODEL_FILE = "model.skops"
BACKGROUND_FILE = "background.json"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Package:
    """A verified model package. Made by `load_package`; safe to share between threads.

    Parameters
    ----------
    directory : Path
        Where the files lie.
    manifest : mapping
        The parsed manifest.
    digest : str
        ``sha256:`` of the canonical manifest, which holds the digests of all other files.
    contract : Contract
        The contract that the model was packaged with.
    plan : Plan or None
        The compiled plan, when one passed parity.
    """

    def __init__(
        self, *, directory: Path, manifest: Mapping[str, object], digest: str, contract: Contract, plan: Plan | None
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._digest = digest
        self._contract = contract
        self._plan = plan
        self._thresholds = Thresholds.model_validate(manifest["thresholds"])
        self._lock = threading.Lock()
        self._fitted: object | None = None

    def __repr__(self) -> str:
        return f"Package({self._contract.name!r}, {self._manifest['family']!r}, {self._digest[:19]}…)"

    @property
    def directory(self) -> Path:
        """Where the files lie."""
        return self._directory

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical manifest, which holds the digests of all other files."""
        return self._digest

    @property
    def manifest(self) -> Mapping[str, object]:
        """The parsed manifest, format 1."""
        return self._manifest

    @property
    def contract(self) -> Contract:
        """The contract that the model was packaged with."""
        return self._contract

    @property
    def thresholds(self) -> Thresholds:
        """Scores at which a decision changes."""
        return self._thresholds

    @property
    def plan(self) -> Plan | None:
        """The compiled plan; None where none is exact."""
        return self._plan

    @property
    def compiled(self) -> bool:
        """Whether scores come from the plan (else from the fitted model)."""
        return self._plan is not None

    def fitted(self) -> object:
        """Return the fitted model, read once, with nbkit's own list of trusted types.

        Returns
        -------
        object
            A scikit-learn estimator.

        Raises
        ------
        PackageError
            It holds types that nbkit does not trust.
        TamperedPackageError
            The file changed since the package was loaded.
        """
        with self._lock:
            if self._fitted is None:
                from nbkit.package._fitted import load_model

                self._fitted = load_model(self.read(MODEL_FILE))
            return self._fitted

    def read(self, path: str) -> bytes:
        """Return a file of the package, compared with its digest once more.

        Parameters
        ----------
        path : str
            As the manifest names it.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        PackageError
            The package holds no such file.
        TamperedPackageError
            The file changed since the package was loaded.
        """
        listed = cast("Mapping[str, Mapping[str, object]]", self._manifest["files"])
        if path not in listed:
            raise PackageError(f"the package of {self._contract.name} holds no {path}")
        try:
            content = (self._directory / path).read_bytes()
        except OSError as error:
            raise TamperedPackageError(str(self._directory), problems=[f"{path}: {error.strerror}"]) from error
        if sha256(content) != listed[path]["sha256"]:
            raise TamperedPackageError(str(self._directory), problems=[f"{path}: edited"])
        return content

    def score(self, row: Mapping[str, Scalar]) -> float:
        """Return the probability of the positive class for one contract row.

        Parameters
        ----------
        row : mapping
            Every input by name, as ``RowCheck.check`` returns it.

        Returns
        -------
        float
            0..1.

        Raises
        ------
        ContractViolationError
            An input is absent, or the model was fitted to refuse its value.
        """
        if self._plan is not None:
            return self._plan.score(row)
        return float(self.score_frame({name: [value] for name, value in row.items()})[0])

    def lay_out(self) -> None:
        """Get ready for `score_rows` of many rows, where that takes time; until then it is slower, not another."""
        if self._plan is not None:
            self._plan.lay_out()

    def score_rows(self, rows: Sequence[Mapping[str, Scalar]]) -> list[float]:
        """Return the scores of rows that came one by one, in one call of the model.

        Parameters
        ----------
        rows : sequence of mapping
            As `score` takes each.

        Returns
        -------
        list of float
            0..1, in the order of the rows; from a plan bit for bit what `score` gives for each.

        Raises
        ------
        ContractViolationError
            As `score`, for any of them.
        """
        if len(rows) < 2:
            return [self.score(row) for row in rows]
        if self._plan is not None:
            return self._plan.score_rows(rows)
        return [float(score) for score in self.score_frame({name: [row[name] for row in rows] for name in rows[0]})]

    def score_frame(self, frame: Table) -> NDArray[np.float64]:
        """Return the scores of many rows: from the plan when there is one, else from the fitted model.

        Parameters
        ----------
        frame : mapping
            Every input's values by name; a DataFrame is one. Other columns are ignored.

        Returns
        -------
        ndarray of float64
            Shape (rows,).

        Raises
        ------
        ContractViolationError
            A column is absent, or holds something of another type.
        """
        if self._plan is not None:
            return self._plan.score_columns(frame)
        from nbkit.package._fitted import FrameShape, model_frame, score_model

        signature = cast("dict[str, Any]", self._manifest["signature"])
        shape = FrameShape(
            none_is_missing=signature["none_is_missing"],
            levels={name: tuple(levels) for name, levels in signature["levels"].items()},
        )
        made = model_frame(frame, inputs=self._contract.inputs, shape=shape)
        return score_model(self.fitted(), made, positive=signature["positive_class"])

    def background(self) -> NDArray[np.float64] | None:
        """Return the pinned background sample for explanations, shape (rows, plan columns).

        Returns
        -------
        ndarray of float64 or None
            None where the model has no plan.

        Raises
        ------
        TamperedPackageError
            The file changed since the package was loaded.
        """
        if self._plan is None:
            return None
        document = cast("dict[str, Any]", strict_json(self.read(BACKGROUND_FILE)))
        return np.array(document["rows"], dtype=np.float64).reshape(-1, len(self._plan.columns))


def load_package(directory: Path) -> Package:
    """Load a package after comparing every file with the manifest.

    Parameters
    ----------
    directory : Path
        What `write_package` filled.

    Returns
    -------
    Package
        Its plan is ready; the fitted model is read when it is asked for.

    Raises
    ------
    TamperedPackageError
        A file was edited, removed, added or replaced by a link; the message names all of them.
    PackageError
        The directory holds no package, or one of another format.
    """
    path = directory / MANIFEST_FILE
    if path.is_symlink():
        raise TamperedPackageError(str(directory), problems=[f"{MANIFEST_FILE}: a link"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}", next_step="nbkit package") from error
    manifest = _manifest(content, directory=directory)
    files = _verified(directory, listed=cast("dict[str, dict[str, object]]", manifest["files"]))
    try:
        contract = Contract.model_validate_json(files[CONTRACT_FILE])
        if contract.digest != manifest["contract_digest"]:
            raise TamperedPackageError(str(directory), problems=[f"{CONTRACT_FILE}: not the contract of the manifest"])
        plan = None
        if manifest["compiled"]:
            plan = Plan.from_files({name: files[name] for name in (PLAN_FILE, TREES_FILE) if name in files})
        return Package(directory=directory, manifest=manifest, digest=sha256(content), contract=contract, plan=plan)
    except (KeyError, ValidationError) as error:
        raise PackageError(f"{directory}: no package that this version reads ({error})") from error


def _manifest(content: bytes, *, directory: Path) -> dict[str, object]:
    try:
        manifest = strict_json(content)
    except ValueError as error:
        raise TamperedPackageError(str(directory), problems=[f"{MANIFEST_FILE}: {error}"]) from error
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise PackageError(f"{directory / MANIFEST_FILE}: expected format {MANIFEST_FORMAT}, got {found!r}")
    if not isinstance(manifest.get("files"), dict):
        raise TamperedPackageError(str(directory), problems=[f"{MANIFEST_FILE}: lists no files"])
    return manifest


def _verified(directory: Path, *, listed: Mapping[str, Mapping[str, object]]) -> dict[str, bytes]:
    """Return the content of every listed file, each read once, so that what is checked is what is used."""
    problems = []
    files: dict[str, bytes] = {}
    for name, expected in listed.items():
        problem, content = _compare(directory, name=name, expected=expected)
        if problem:
            problems.append(f"{name}: {problem}")
        else:
            files[name] = content
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() and name not in listed:
            problems.append(f"{name}: a link that the manifest does not list")
        elif not path.is_dir() and name not in listed and name != MANIFEST_FILE:
            problems.append(f"{name}: not in the manifest")
    if problems:
        raise TamperedPackageError(str(directory), problems=problems, next_step="fetch the package again")
    return files


def _compare(directory: Path, *, name: str, expected: object) -> tuple[str, bytes]:
    if not is_inside(name):
        return "leads out of the package", b""
    path = directory / name
    if any((directory / part).is_symlink() for part in [name, *map(str, PurePosixPath(name).parents)][:-1]):
        return "a link", b""
    if not path.is_file():
        return "removed", b""
    if not isinstance(expected, dict) or not _DIGEST.match(str(expected.get("sha256"))):
        return "listed without a digest", b""
    content = path.read_bytes()
    if len(content) != expected.get("bytes") or sha256(content) != expected["sha256"]:
        return "edited", b""
    return "", content


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its directory.

    Examples
    --------
    >>> is_inside("cases/a.yaml"), is_inside("../a"), is_inside("/a"), is_inside("a/./b")
    (True, False, False, False)
    """
    pure = PurePosixPath(name)
    plain = bool(name) and "\\" not in name and "\x00" not in name and str(pure) == name and name != "."
    return plain and not pure.is_absolute() and ".." not in pure.parts
