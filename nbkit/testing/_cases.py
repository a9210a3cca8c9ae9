"""Whether a case set is what the contract pins."""

from __future__ import annotations

from pathlib import Path

from nbkit.contract import load_contract
from nbkit.errors import NbkitError
from nbkit.evaluate import load_cases, load_expectations


def check_case_set(directory: Path) -> None:
    """Fail unless every frozen row, golden case, incident and behaviour is as it was frozen, and nothing is unfrozen.

    Parameters
    ----------
    directory : Path
        The use case's folder.

    Raises
    ------
    AssertionError
        With every file that was edited, removed or never frozen.
    """
    contract = load_contract(directory / "contract.yaml")
    try:
        cases = load_cases(directory, contract=contract)
        expected = load_expectations(directory, contract=contract, cases=cases)
    except NbkitError as error:
        raise AssertionError(str(error)) from error
    if expected.unfrozen:
        raise AssertionError(f"{directory}: not frozen: {', '.join(expected.unfrozen)}")
