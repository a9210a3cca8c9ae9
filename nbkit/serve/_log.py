"""One JSON object a line: ids and causes, never inputs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

__all__ = ["JsonLines"]

_ENCODER = msgspec.json.Encoder()


class JsonLines(logging.Formatter):
    """Formats a record with its ``fields`` as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        Parameters
        ----------
        record : LogRecord
            ``extra={"fields": {...}}`` adds fields.

        Returns
        -------
        str
            JSON without a line break.
        """
        told: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        told.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            told["trace"] = self.formatException(record.exc_info)
        return _ENCODER.encode(told).decode()
