"""Check the rules of a use case before anything is packaged with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbkit.lifecycle._usecase import UseCase
from nbkit.lifecycle._view import Result, Table, View
from nbkit.serve import check_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesChecked(Result):
    """Whether the rules of a use case can all fit a row of its contract."""

    name: str
    path: Path
    found: bool
    problems: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether nothing is wrong with them."""
        return not self.problems

    def view(self) -> View:
        """Return what a person is shown."""
        if self.problems:
            table = Table(columns=("problem",), rows=tuple((problem,) for problem in self.problems))
            count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
            return View(
                headline=f"{self.name}: {self.path.name}: {count}", tables=[table], next_step=f"edit {self.path}"
            )
        said = "every rule can fit a row of the contract" if self.found else "no such file: no rules"
        return View(headline=f"{self.name}: {self.path.name}: {said}", next_step=f"nbkit run {self.name}")


def check_rules_of(use_case: UseCase) -> RulesChecked:
    """Check the rules of a use case against its contract: unknown fields, types, rows that are never reached."""
    contract = use_case.contract
    path = use_case.directory / contract.serve.rules
    text = path.read_bytes() if path.is_file() else None
    problems = check_rules(text, contract=contract) if text is not None else ()
    return RulesChecked(name=contract.name, path=path, found=text is not None, problems=problems)
