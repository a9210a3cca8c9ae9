"""Importing Jupyter's libraries without what they do not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# jsonschema loads this package, where it is installed, to check IRIs, of which a notebook has none; importing it costs
# more than a second of CPU, most of what `import papermill` takes. jsonschema goes on without it when it is missing.
_SLOW = "rfc3987_syntax"


@contextmanager
def quick_import() -> Iterator[None]:
    """Hide the slow package from the imports inside; afterwards anybody can import it again."""
    hide = _SLOW not in sys.modules
    if hide:
        sys.modules[_SLOW] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules[_SLOW]
