"""What a caller sent: read strictly, with everything that is wrong named at once."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import NoReturn

import msgspec

from nbkit.contract import RowCheck
from nbkit.errors import ContractViolationError, NbkitError

__all__ = ["BadRequestError", "DecisionRequest", "check_ids", "read_request"]

# Enough for any id that a caller makes up, short enough for a log line; nothing that needs escaping anywhere.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_ID_WORDS = "expected 1..128 letters, digits, '.', '_', ':' and '-', beginning with a letter or digit"

_MOST_SUBJECT = 256


class BadRequestError(NbkitError):
    """The request itself is wrong, whatever the model: not JSON, unknown fields, an unusable id."""


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row to decide.

    Parameters
    ----------
    request_id : str
        Given by the caller, who may repeat it; empty when not given.
    subject : str
        Whom the row is about; empty when not given. Only its seal is kept.
    row : dict
        As ``RowCheck.check`` returns it.
    special : dict of str to str
        Which inputs held a sentinel, and which one: the row itself says only that they are missing.
    """

    request_id: str
    subject: str
    row: dict[str, float | str | None]
    special: dict[str, str] = msgspec.field(default_factory=dict)


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: msgspec.Raw
    request_id: str | None = None
    subject: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class _Whole(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    inputs: msgspec.Struct
    request_id: str | None = None
    subject: str | None = None


def read_request(body: bytes, *, rows: RowCheck) -> DecisionRequest:
    """Read a request for one decision.

    Parameters
    ----------
    body : bytes
        ``{"inputs": {...}, "request_id": "...", "subject": "..."}``; the last two are optional.
    rows : RowCheck
        Of the contract.

    Returns
    -------
    DecisionRequest
        With a row that fits the contract.

    Raises
    ------
    ContractViolationError
        The inputs break the contract: all problems at once, values of personal data withheld.
    BadRequestError
        Not a JSON object of these fields.
    """
    whole = _read_whole(body, rows=rows)
    if whole is not None:
        return whole
    try:
        read = _DECODER.decode(body)
        # A field that is given twice is read once; two readers could then see two requests.
        if _may_repeat(body):
            _refuse_repeated(body)
        check_ids(read.request_id, read.subject)
        given = bytes(read.inputs)
        request_id, subject = read.request_id or "", read.subject or ""
        inputs = _decode_inputs(given, rows=rows)
        row = rows.check(inputs)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _explain(body, error, rows=rows)
    except RecursionError:
        raise BadRequestError("expected a JSON object with inputs: nested too deeply") from None
    return DecisionRequest(request_id=request_id, subject=subject, row=row, special=rows.special(inputs))


@lru_cache(maxsize=64)
def _whole_decoder(rows: RowCheck) -> msgspec.json.Decoder[_Whole] | None:
    """Return what reads a request with a plain row in one pass."""
    if rows.plain is None:
        return None
    return msgspec.json.Decoder(msgspec.defstruct("Whole", [("inputs", rows.plain.kind)], bases=(_Whole,), gc=False))


def _read_whole(body: bytes, *, rows: RowCheck) -> DecisionRequest | None:
    """Read what is ordinary; None where it is not, or wrong."""
    decoder, plain = _whole_decoder(rows), rows.plain
    if decoder is None or plain is None:
        return None
    try:
        read = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    request_id, subject = read.request_id or "", read.subject or ""
    # Every key has a colon, so one that is there twice shows; an escape could spell a colon of the others.
    keys, others = 1 + plain.colons + bool(request_id) + bool(subject), request_id.count(":") + subject.count(":")
    if body.count(b":") != keys + others or (others and b"\\" in body):
        return None
    check_ids(read.request_id, read.subject)
    row = plain.row(read.inputs, body)
    return None if row is None else DecisionRequest(request_id=request_id, subject=subject, row=row)


def check_ids(request_id: str | None, subject: str | None) -> None:
    """Refuse an id or a subject that cannot be used.

    Parameters
    ----------
    request_id, subject : str or None
        None where the caller gave none.

    Raises
    ------
    BadRequestError
        It is empty, too long, or holds what would need escaping.
    """
    if request_id is None and subject is None:
        return
    for name, value, fits in (
        ("request_id", request_id, lambda text: bool(_ID.match(text))),
        ("subject", subject, lambda text: 0 < len(text) <= _MOST_SUBJECT and text.isprintable()),
    ):
        if value is not None and not fits(value):
            words = _ID_WORDS if name == "request_id" else f"expected 1..{_MOST_SUBJECT} printable characters"
            raise BadRequestError(f"$.{name}: {words}")


def _may_repeat(body: bytes) -> bool:
    # Escapes could spell a name in another way; without any, a name that is there once is given once.
    if b"\\" in body or body.count(b'"inputs"') > 1:
        return True
    return body.count(b'"request_id"') > 1 or body.count(b'"subject"') > 1


def _refuse_repeated(body: bytes) -> None:
    names: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last

    json.loads(body, object_pairs_hook=collect, parse_int=str)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BadRequestError("request", problems=[f"$.{name}: appears twice" for name in repeated])


def _decode_inputs(inputs: bytes, *, rows: RowCheck) -> dict[str, object]:
    try:
        return rows.decode(inputs)
    except ContractViolationError as error:
        _explain_inputs(_lenient(inputs), rows=rows)
        raise error from None


def _explain(body: bytes, error: Exception, *, rows: RowCheck) -> NoReturn:
    content = _lenient(body)
    if isinstance(content, dict):
        _explain_inputs(content.get("inputs"), rows=rows)
    raise BadRequestError(f"expected a JSON object with inputs, and optionally request_id and subject: {error}")


def _explain_inputs(inputs: object, *, rows: RowCheck) -> None:
    """Find the better words: NaN, Infinity and numbers beyond float64 are values that break the contract."""
    if not isinstance(inputs, dict):
        return
    # The row check reads NaN as missing, which a table may say so; JSON says null.
    problems = [
        f"$.{name}: expected a finite number or null, got NaN" for name, value in inputs.items() if value != value
    ]
    try:
        rows.check({name: None if value != value else value for name, value in inputs.items()})
    except ContractViolationError as error:
        known = {problem.split(":")[0] for problem in problems}
        problems += [problem for problem in error.problems if problem.split(":")[0] not in known]
    if problems:
        raise ContractViolationError("the row breaks the contract", problems=problems)


def _lenient(body: bytes) -> object:
    try:
        return json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


def _integer(text: str) -> int | float:
    # Python refuses to read very long integers; as floats they are infinite, which the row check names.
    return int(text) if len(text) < 400 else float(text)
