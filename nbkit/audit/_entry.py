"""One record as the bytes that are hashed and kept."""

from __future__ import annotations

from datetime import UTC

import msgspec

from nbkit.audit._tree import leaf_hash
from nbkit.errors import AuditError, LedgerTamperedError
from nbkit.records import AuditRecord

# Sorted keys (those of the record are sorted already) and shortest round-trip floats: one record, one byte string.
# RFC 8785 is not used here because it writes -0.0 as 0 and 1.0 as 1, and a replay must see the very floats that were
# scored.
_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(AuditRecord)


class Entry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A record that is ready to be written."""

    id: str
    model: str
    request_id: str
    body: bytes


def entry_of(record: AuditRecord) -> Entry:
    """Turn a record into bytes.

    Raises
    ------
    AuditError
        It holds a value that JSON cannot carry exactly, or a time without a zone.
    """
    try:
        body = _ENCODER.encode(record)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise AuditError(f"record {record.id} cannot be written as JSON: {error}") from error
    problems: list[str] = []
    if record.received_at.tzinfo is not UTC or record.decided_at.tzinfo is not UTC:
        problems += _times(record)
    if b"null" in body:  # which is what the encoder makes of a number that JSON has not
        problems += _numbers(record)
    if problems:
        raise AuditError(f"record {record.id} cannot be written", problems=problems)
    return Entry(id=record.id, model=record.model, request_id=record.request_id, body=body)


def _times(record: AuditRecord) -> list[str]:
    return [
        f"{name}: expected a time in UTC, got {time.isoformat()}"
        for name, time in (("received_at", record.received_at), ("decided_at", record.decided_at))
        if time.tzinfo is not UTC and (time.utcoffset() is None or time.utcoffset())
    ]


def _numbers(record: AuditRecord) -> list[str]:
    """Name what is NaN or infinite: subtracted from itself, any other number is zero."""
    named = {"score": record.score} | {f"inputs.{name}": value for name, value in record.inputs.items()}
    return [
        f"{name}: expected a finite number, got {value!r}"
        for name, value in named.items()
        if isinstance(value, float) and value - value != 0.0
    ]


def record_of(body: bytes, *, place: str) -> AuditRecord:
    """Read a record back.

    Raises
    ------
    LedgerTamperedError
        The bytes are not a record.
    """
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LedgerTamperedError(f"{place}: expected an audit record, got other bytes: {error}") from error


def leaf_of(seq: int, body: bytes) -> bytes:
    """Hash a record together with its place, so that a record that was moved is known by its own leaf."""
    return leaf_hash(seq.to_bytes(8, "big") + body)
