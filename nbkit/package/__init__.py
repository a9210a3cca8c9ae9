"""Write and load a model package: the files that nbkit serves, their digests, the compiled plan and its parity.

Names are resolved when they are first used: what decides (`Plan`, `Package`, `load_package`) needs neither pandas nor
scikit-learn, what packages (`compile_plan`, `write_package`) needs both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbkit.package._compile import compile_plan
    from nbkit.package._contributions import Attribution, Contributions
    from nbkit.package._kernels import has_kernel
    from nbkit.package._load import Package, load_package
    from nbkit.package._parity import Parity, measure_parity
    from nbkit.package._plan import Plan
    from nbkit.package._profile import build_profile, fingerprint, merge_profiles
    from nbkit.package._reason_book import ReasonBook, load_reasons
    from nbkit.package._reason_file import ReasonText, Words
    from nbkit.package._reasons import ReasonCode, principal_reasons
    from nbkit.package._rows import PlanColumn
    from nbkit.package._write import write_package

__all__ = [
    "Attribution",
    "Contributions",
    "Package",
    "Parity",
    "Plan",
    "PlanColumn",
    "ReasonBook",
    "ReasonCode",
    "ReasonText",
    "Words",
    "build_profile",
    "compile_plan",
    "fingerprint",
    "has_kernel",
    "load_package",
    "load_reasons",
    "measure_parity",
    "merge_profiles",
    "principal_reasons",
    "write_package",
]

_HOMES = {
    "Attribution": "_contributions",
    "Contributions": "_contributions",
    "Package": "_load",
    "Parity": "_parity",
    "Plan": "_plan",
    "PlanColumn": "_rows",
    "ReasonBook": "_reason_book",
    "ReasonCode": "_reasons",
    "ReasonText": "_reason_file",
    "Words": "_reason_file",
    "build_profile": "_profile",
    "compile_plan": "_compile",
    "fingerprint": "_profile",
    "has_kernel": "_kernels",
    "load_package": "_load",
    "load_reasons": "_reason_book",
    "measure_parity": "_parity",
    "merge_profiles": "_profile",
    "principal_reasons": "_reasons",
    "write_package": "_write",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
