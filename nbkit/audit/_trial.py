"""What a trial of a version showed, from the ledger: the facts that the gates ``shadow`` and ``canary`` read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import cast

import msgspec

from nbkit.audit._book import Place, shown
from nbkit.audit._entry import leaf_of
from nbkit.audit._read import reading
from nbkit.errors import LedgerTamperedError

__all__ = ["CANARY_DECISION", "CANARY_VERSION", "CHAMPION_DECISION", "SHADOW_END", "SHADOW_ID", "trial_summary"]

# Tag of a shadow's record: what the version that answered had decided about the same row.
CHAMPION_DECISION = "champion_decision"

# Tags of what the champion would have decided about a row that the canary answered: the answer, and whose it was.
CANARY_DECISION = "canary_decision"
CANARY_VERSION = "canary_version"

# How request ids of shadows begin: a caller's begin with a letter or a digit, so none takes the place of the other.
SHADOW_ID = "~shadow:"

# How record ids of shadows end: a decision's are hexadecimal. At their end, so that they still begin with the time.
SHADOW_END = "s"

_ERROR = "error"
_DECLINE = "decline"


class _Seen(msgspec.Struct, frozen=True):
    """The part of a record that a trial is judged by."""

    version: int
    received_at: datetime
    decision: str
    score: float | None = None
    fallback: str = ""
    fallback_cause: str = ""
    latency_us: int = 0
    tags: Mapping[str, str] = {}
    kind: str = "decision"
    stage: str = "production"


_DECODER = msgspec.json.Decoder(_Seen)


def trial_summary(
    ledgers: Iterable[Place], *, model: str, version: int, stage: str, since: datetime
) -> dict[str, float | int | None]:
    """Sum up what a version did in a stage, beside the champion.

    Parameters
    ----------
    ledgers : iterable of Path or str
        Of every worker that served the model.
    model : str
        The registered model.
    version : int
        On trial.
    stage : str
        ``shadow`` or ``canary`` (or ``production``).
    since : datetime
        Aware; what was received before does not count.

    Returns
    -------
    dict
        ``days`` on which it decided at all (UTC), ``decisions``, and of those the shares of errors, fallbacks,
        disagreements with the champion about the same row (where it was asked about a canary's), and declines;
        ``p99_ms`` of its own latency; and the share of declines of the champion: about the same rows for a shadow,
        about all rows of the same time for a canary. None where there is nothing to count: a gate that reads it
        cannot tell.

    Raises
    ------
    LedgerTamperedError
        A record is not what was written.
    AuditError
        A ledger cannot be read.
    """
    own: list[_Seen] = []
    champion: list[_Seen] = []
    compared: list[tuple[str, str]] = []
    for path in ledgers:
        for seen in _records(path, model=model):
            if seen.received_at < since:
                continue
            if (seen.version, seen.stage) == (version, stage) and CANARY_DECISION not in seen.tags:
                own.append(seen)
            elif stage == "canary" and seen.tags.get(CANARY_VERSION) == str(version):
                compared.append((seen.tags[CANARY_DECISION], seen.decision))
            elif seen.stage == "production" and seen.kind == "decision":
                champion.append(seen)
    paired = [seen for seen in own if CHAMPION_DECISION in seen.tags]
    compared += [(seen.decision, seen.tags[CHAMPION_DECISION]) for seen in paired]
    return {
        "days": len({seen.received_at.date() for seen in own}),
        "decisions": len(own),
        "error_share": _share(sum(seen.fallback_cause.startswith(_ERROR) for seen in own), len(own)),
        "fallback_share": _share(sum(bool(seen.fallback) for seen in own), len(own)),
        "disagreement_share": _share(sum(mine != theirs for mine, theirs in compared), len(compared)),
        "p99_ms": _p99_ms(own),
        "decline_share": _share(sum(seen.decision == _DECLINE for seen in own), len(own)),
        "champion_decline_share": _champion_decline_share(own, paired, champion),
    }


def _records(path: Place, *, model: str) -> Iterable[_Seen]:
    with reading(path) as reader:
        rows = reader.execute("SELECT seq, leaf, body FROM records WHERE model = ?", (model,))
        for seq, leaf, body in cast("Iterable[tuple[int, bytes, bytes]]", rows):
            if leaf_of(seq, body) != leaf:
                raise LedgerTamperedError(f"{shown(path)}: record {seq}: edited", next_step="nbkit audit verify")
            try:
                yield _DECODER.decode(body)
            except msgspec.MsgspecError as error:
                raise LedgerTamperedError(f"{shown(path)}: record {seq}: not an audit record: {error}") from error


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _p99_ms(seen: list[_Seen]) -> float | None:
    if not seen:
        return None
    # The smallest latency that 99 of 100 do not exceed (nearest rank).
    ordered = sorted(each.latency_us for each in seen)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] / 1000


def _champion_decline_share(own: list[_Seen], paired: list[_Seen], champion: list[_Seen]) -> float | None:
    if paired:
        return _share(sum(each.tags[CHAMPION_DECISION] == _DECLINE for each in paired), len(paired))
    if not own:
        return None
    first, last = min(each.received_at for each in own), max(each.received_at for each in own)
    beside = [each for each in champion if first <= each.received_at <= last]
    return _share(sum(each.decision == _DECLINE for each in beside), len(beside))
