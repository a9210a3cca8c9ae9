"""``python -m nbkit`` is the ``nbkit`` command."""

from __future__ import annotations

from nbkit.cli import main

if __name__ == "__main__":
    main()
