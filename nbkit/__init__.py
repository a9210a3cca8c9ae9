"""nbkit takes a model from a notebook to governed production."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["__version__", "load_ipython_extension"]

__version__ = "0.1.0"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%nbkit`` and ``%%nbkit`` (called by ``%load_ext nbkit``)."""
    from nbkit.magics import load_ipython_extension as load

    load(shell)
