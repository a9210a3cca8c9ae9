"""The clock, and ids that never repeat."""

from __future__ import annotations

import itertools
import secrets
import time
from datetime import UTC, datetime

__all__ = ["Ids", "utc_now"]


def utc_now() -> datetime:
    """Return the time.

    Returns
    -------
    datetime
        Aware, UTC.
    """
    return datetime.now(UTC)


class Ids:
    """Ids that never repeat: the time, this process, and a count.

    Time comes first, so that new ids lie at the end of the ledger's index, which keeps commits short.
    """

    def __init__(self) -> None:
        self._process = secrets.token_hex(6)
        self._count = itertools.count()

    def __call__(self) -> str:
        return f"{int(time.time() * 1000):012x}{self._process}{next(self._count):08x}"
