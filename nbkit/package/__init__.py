"""Write and load a model package: the files that nbkit serves, their digests, the compiled plan and its parity.

Names are resolved when they are first used: what decides (`Plan`, `Package`, `load_package`) needs neither pandas nor
scikit-learn, what packages (`compile_plan`, `write_package`) needs both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbkit.package._compile import compile_plan
    from nbkit.package._plan import Plan
    from nbkit.package._rows import PlanColumn

__all__ = [
    "Plan",
    "PlanColumn",
    "compile_plan",
]

_HOMES = {
    "Plan": "_plan",
    "PlanColumn": "_rows",
    "compile_plan": "_compile",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
