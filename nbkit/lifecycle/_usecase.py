"""The use-case folder, and what one run builds in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from nbkit.contract import Contract, load_contract
from nbkit.errors import UsageError
from nbkit.files import write_atomically

_RUN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Build:
    """What one run has made so far: the package, its evaluation, its rationale."""

    directory: Path

    @property
    def run_id(self) -> str:
        """The MLflow run that this belongs to."""
        return self.directory.name

    @property
    def package(self) -> Path:
        """The model package."""
        return self.directory / "package"

    @property
    def evaluation(self) -> Path:
        """The evaluation as JSON."""
        return self.directory / "evaluation.json"

    @property
    def rationale(self) -> Path:
        """The rationale as JSON."""
        return self.directory / "rationale.json"

    @property
    def reasons(self) -> Path:
        """What people wrote in ``%%nbkit rationale`` cells, a JSON line each."""
        return self.directory / "reasons.jsonl"

    def read_json(self, name: str) -> dict[str, object]:
        """Read one of the build's JSON files; an absent one is empty."""
        path = self.directory / name
        if not path.exists():
            return {}
        document: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return document


@dataclass(frozen=True, slots=True)
class UseCase:
    """A folder with ``contract.yaml``, ``train.ipynb``, ``cases/``, ``rules.json`` and ``reasons.yaml``."""

    directory: Path
    contract: Contract

    @property
    def notebook(self) -> Path:
        """The notebook that trains the model."""
        return self.directory / self.contract.retrain.notebook

    def build(self, run_id: str) -> Build:
        """Return the build of a run, made if it is new; it becomes the latest."""
        if not _RUN_ID.match(run_id):
            raise UsageError(f"run id: expected letters, digits, '-' and '_', got {run_id!r}")
        directory = self.directory / ".nbkit" / "runs" / run_id
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.directory / ".nbkit" / "latest", content=run_id.encode())
        return Build(directory)

    def latest_build(self) -> Build:
        """Return the build of the last run.

        Raises
        ------
        UsageError
            Nothing has been packaged yet.
        """
        pointer = self.directory / ".nbkit" / "latest"
        if not pointer.exists():
            raise UsageError(
                f"{self.contract.name}: nothing has been packaged yet", next_step=f"nbkit run {self.contract.name}"
            )
        return self.build(pointer.read_text(encoding="utf-8").strip())


def find_contract(name: str, *, base: Path) -> Path:
    """Return the contract of a use case by its name, its folder or, for an empty name, of the folder itself.

    Raises
    ------
    UsageError
        No such use case.
    """
    candidates = [base / name / "contract.yaml"] if name else []
    candidates.append(base / "contract.yaml")
    for path in candidates:
        if path.is_file() and (path.parent != base or _is_named(path, name)):
            return path
    raise UsageError(
        f"{name or base}: no use case here (looked for {', '.join(str(path) for path in candidates)})",
        next_step=f"nbkit new {name or 'NAME'} --template credit",
    )


def _is_named(path: Path, name: str) -> bool:
    return not name or path.resolve().parent.name == name or f"\nname: {name}\n" in path.read_text(encoding="utf-8")


def open_use_case(name: str = "", *, base: Path) -> UseCase:
    """Open a use case by name, by folder, or the one that ``base`` itself is.

    Raises
    ------
    UsageError
        No such use case.
    ContractError
        Its contract is wrong.
    """
    path = find_contract(name, base=base)
    return UseCase(path.parent.resolve(), load_contract(path))
