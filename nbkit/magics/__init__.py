"""``%nbkit VERB`` and ``%%nbkit VERB``: the verbs of the command line, and those that take live objects."""

from __future__ import annotations

from nbkit.magics._magic import NbkitMagics, load_ipython_extension

__all__ = ["NbkitMagics", "load_ipython_extension"]
