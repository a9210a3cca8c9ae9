"""Begin: a new use case, a checked contract, inputs that give nothing away."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import nbkit
from nbkit.contract import Contract, Stage, load_contract
from nbkit.errors import ContractError, UsageError
from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View

if TYPE_CHECKING:
    import pandas as pd

_PLACEHOLDER = "__NAME__"
_TEXT_FILES = {".yaml", ".json", ".ipynb", ".md"}


def templates_directory() -> Path:
    """Return where templates lie: inside an installed package, or beside the package in a checkout."""
    package = Path(nbkit.__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def templates() -> tuple[str, ...]:
    """Return the names that ``nbkit new --template`` knows."""
    return tuple(sorted(path.parent.name for path in templates_directory().glob("*/contract.yaml")))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUseCase(Result):
    """A use-case folder that was just written."""

    name: str
    template: str
    directory: Path
    files: tuple[str, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        return View(
            headline=f"{self.name}: written from template {self.template}",
            facts=[("folder", str(self.directory)), ("files", ", ".join(self.files))],
            next_step=f"nbkit run {self.name}",
        )


def new(name: str, *, template: str = "credit", directory: Path) -> NewUseCase:
    """Write the folder of a new use case.

    Parameters
    ----------
    name : str
        Lower-case name of the model and of the folder.
    template : str
        One of `templates`.
    directory : Path
        Where the folder is made.

    Returns
    -------
    NewUseCase
        What was written.

    Raises
    ------
    UsageError
        Unknown template, unusable name, or the folder exists.
    """
    source = templates_directory() / template
    if template not in templates():
        raise UsageError(f"template: expected one of {', '.join(templates())}, got {template!r}")
    target = directory / name
    if target.exists():
        raise UsageError(f"{target}: exists already; nothing was written", next_step=f"nbkit run {name}")
    # The contract decides what a name may be; the finished folder is checked before it appears under its name.
    staging = directory / f".{template}-being-written"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        shutil.copytree(source, staging, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".nbkit"))
        for path in staging.rglob("*"):
            if path.suffix in _TEXT_FILES:
                path.write_text(path.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")
        try:
            load_contract(staging / "contract.yaml")
        except ContractError as error:
            raise UsageError(f"{name!r} cannot be the name of a use case", problems=error.problems) from error
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    return NewUseCase(name=name, template=template, directory=target, files=tuple(files))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractReport(Result):
    """Whether a contract holds, and everything that is wrong with it."""

    path: Path
    problems: tuple[str, ...]
    digest: str = ""
    contract: Contract | None = field(default=None, repr=False)
    remark: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the contract has no problem."""
        return not self.problems

    def view(self) -> View:
        """Return what a person is shown."""
        if self.contract is None:
            count = len(self.problems)
            return View(
                headline=f"{self.path}: {count} problem{'s' if count != 1 else ''}",
                tables=[Table(columns=("problem",), rows=tuple((problem,) for problem in self.problems))],
                next_step="nbkit contract schema",
            )
        contract = self.contract
        return View(
            headline=f"{contract.name}: the contract holds",
            facts=[
                ("title", contract.title),
                ("owner", f"{contract.owner.primary} (deputy {contract.owner.deputy}, {contract.owner.team})"),
                ("impact", f"{contract.impact}: {contract.approvals_needed} approval(s) for every move"),
                ("inputs", f"{len(contract.inputs)} ({', '.join(column.name for column in contract.inputs)})"),
                ("protected", ", ".join(column.name for column in contract.protected) or "none"),
                ("stages", " -> ".join(contract.rollout.path)),
                ("case set", contract.evaluate.case_set or "not frozen yet"),
                *((("later versions", self.remark),) if self.remark else ()),
                ("digest", self.digest),
            ],
        )


def check_contract(path: Path) -> ContractReport:
    """Read a contract and report all its problems; never raises for a wrong contract."""
    try:
        contract = load_contract(path)
    except ContractError as error:
        return ContractReport(path=path, problems=error.problems or (error.message,))
    return ContractReport(
        path=path, problems=(), digest=contract.digest, contract=contract, remark=_stages_left_out(contract)
    )


def _stages_left_out(contract: Contract) -> str:
    """Say what the gate ``path`` will ask of every version but the first; no problem, as the first one passes."""
    from nbkit.lifecycle._standing import stages_to_pass

    needed = stages_to_pass(contract, to=Stage.PRODUCTION, beside_champion=True)
    missing = [stage.value for stage in needed if stage not in contract.rollout.path]
    if not missing:
        return ""
    return (
        f"with impact {contract.impact} one that replaces another passes {' and '.join(missing)} first: add to "
        "rollout.path and gates before the second version"
    )


def check_leaks(use_case: UseCase, frame: pd.DataFrame, *, others: Mapping[str, pd.DataFrame] | None = None) -> None:
    """Stop when an input gives the target away, or when rows are on both sides of a split.

    Parameters
    ----------
    use_case : UseCase
        Its contract names inputs, target and entity.
    frame : pandas.DataFrame
        Rows that a model is fitted on.
    others : mapping of str to pandas.DataFrame, optional
        Rows that it is judged on, by name.

    Raises
    ------
    LeakError
        With the evidence: which input, how well it alone predicts the target, when it was known; which rows are shared.
    """
    from nbkit.evaluate import refuse_leaks, refuse_split_leaks

    refuse_leaks(frame, contract=use_case.contract)
    if others:
        refuse_split_leaks({"training": frame, **others}, contract=use_case.contract)
