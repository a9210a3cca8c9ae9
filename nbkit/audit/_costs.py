"""What decisions cost, added up from their records: exactly, and without holding them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Annotated, NamedTuple, cast

import msgspec

from nbkit.audit._book import Place, shown
from nbkit.audit._entry import leaf_of
from nbkit.audit._read import reading
from nbkit.errors import LedgerTamperedError

__all__ = ["CostLine", "CostReport", "sum_costs", "total_cost"]

# Enough digits that no sum is ever rounded: a record costs at most 10**12 (as a contract's price), in steps of 10**-30.
_EXACT = Context(prec=100)
_MOST_USD = Decimal(10) ** 12
_EXPONENTS = range(-30, 13)
# As `str` writes a Decimal that is no less than nought.
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(E[+-][0-9]{1,2})?")

# A cost in these bounds is never longer; what is longer is not even read.
_LONGEST = 64

# Enough to see what happened.
_MOST_PROBLEMS = 100

# Records between two words about how far it is.
_ROWS_A_STEP = 5000

_Progress = Callable[[float, str], None]


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """The part of a record that costs are summed by."""

    id: str
    model: str
    version: int
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]
    cost_usd: str = "0"
    fallback: str = ""
    kind: str = "decision"
    route: str = "model"
    stage: str = "production"


class _Key(NamedTuple):
    model: str
    version: int
    stage: str
    kind: str
    route: str
    fallback: str


_DECODER = msgspec.json.Decoder(_Seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """What decisions of one kind cost.

    Parameters
    ----------
    model : str
        Registered model.
    version : int
        That was asked.
    stage, kind : str
        As their records have them: a ``decision`` of a version in ``production`` or ``canary``, or a ``shadow``.
    route : str
        ``model`` or ``rules``: without a rule's name, because rules are many.
    fallback : str
        Name of the fallback that answered; empty when none did.
    decisions : int
        How many records.
    cost_usd : Decimal
        Their sum, exact.
    """

    model: str
    version: int
    stage: str
    kind: str
    route: str
    fallback: str
    decisions: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """What ``sum_costs`` found.

    Parameters
    ----------
    lines : tuple of CostLine
        In the order of model, version, stage, kind, route and fallback.
    problems : tuple of str
        Records that could not be counted; each is named.
    """

    lines: tuple[CostLine, ...]
    problems: tuple[str, ...]

    @property
    def decisions(self) -> int:
        """How many records were counted."""
        return sum(line.decisions for line in self.lines)

    @property
    def cost_usd(self) -> Decimal:
        """What all of them cost, exact."""
        return _sum(line.cost_usd for line in self.lines)


def sum_costs(
    ledgers: Iterable[Place],
    *,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: _Progress = lambda _fraction, _message: None,
) -> CostReport:
    """Add up what the decisions in ledgers cost, while workers go on writing.

    Every record is read once and forgotten; what is kept grows with the kinds of decisions, not with their number.
    A record whose bytes are not what was written, or whose cost is no amount, is named and not counted.

    Parameters
    ----------
    ledgers : iterable of Path or str
        Files, or addresses of PostgreSQL databases.
    model : str, optional
        Only this model's.
    since, until : datetime, optional
        Aware. Requests that were received from the first on, and before the second, count.
    progress : callable
        Told how much is done (0..1), and what.

    Returns
    -------
    CostReport
        Sums by model, version, stage, kind, route and fallback.

    Raises
    ------
    AuditError
        A ledger cannot be read.
    """
    places = tuple(ledgers)
    sums = _Sums(model=model, since=since, until=until)
    for number, place in enumerate(places):
        sums.add(place, told=lambda share, number=number: progress((number + share) / len(places), sums.said))  # type: ignore[misc]
    return sums.report()


def total_cost(counts: Mapping[str, int]) -> Decimal:
    """Add up amounts that came up so many times each.

    Parameters
    ----------
    counts : mapping of str to int
        How often by amount, as ``cost_usd`` of a record has it.

    Returns
    -------
    Decimal
        Exact.

    Raises
    ------
    ValueError
        One is no amount of money: not from 0 to 10**12, or finer than 10**-30.

    Examples
    --------
    >>> total_cost({"0.1": 3, "0": 5})
    Decimal('0.3')
    """
    return _sum(_EXACT.multiply(_amount(text), Decimal(count)) for text, count in counts.items())


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


@lru_cache(maxsize=1024)
def _amount(text: str) -> Decimal:
    found = Decimal(text) if len(text) <= _LONGEST and _AMOUNT.fullmatch(text) else None
    if found is None or found.as_tuple().exponent not in _EXPONENTS or found > _MOST_USD:
        raise ValueError(f"expected an amount from 0 to 10**12, got {text[:_LONGEST]!r}")
    return found


class _Sums:
    def __init__(self, *, model: str | None, since: datetime | None, until: datetime | None) -> None:
        self._model, self._since, self._until = model, since, until
        self._sums: dict[_Key, tuple[int, Decimal]] = {}
        self._problems: list[str] = []
        self._wrong = 0
        self._read = 0

    @property
    def said(self) -> str:
        return f"{self._read:,} records"

    def add(self, place: Place, *, told: Callable[[float], None]) -> None:
        with reading(place) as reader:
            if problems := [found for found in reader.schema_problems() if found.startswith("table")]:
                told_what = f"{shown(place)}: not the tables of a ledger"
                raise LedgerTamperedError(told_what, problems=problems, next_step="nbkit audit verify")
            (last,) = cast("tuple[int]", reader.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone())
            rows = reader.execute("SELECT seq, leaf, body FROM records ORDER BY seq")
            for seq, leaf, body in cast("Iterable[tuple[int, bytes, bytes]]", rows):
                self._read += 1
                if self._read % _ROWS_A_STEP == 0:
                    told(seq / last)
                try:
                    self._count(seq, leaf, body)
                except ValueError as error:
                    self._note(f"{shown(place)}: record {seq}: {error}")

    def _count(self, seq: int, leaf: bytes, body: bytes) -> None:
        if seq < 1 or leaf_of(seq, body) != leaf:
            raise ValueError("edited")
        try:
            seen = _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not an audit record: {error}") from error
        if not self._asked_for(seen):
            return
        try:
            amount = _amount(seen.cost_usd)
        except ValueError as error:
            raise ValueError(f"{seen.id}: cost_usd: {error}") from error
        key = _Key(seen.model, seen.version, seen.stage, seen.kind, seen.route.partition(":")[0], seen.fallback)
        count, total = self._sums.get(key, (0, Decimal(0)))
        self._sums[key] = count + 1, _EXACT.add(total, amount)

    def _asked_for(self, seen: _Seen) -> bool:
        return (
            (self._model is None or seen.model == self._model)
            and (self._since is None or seen.received_at >= self._since)
            and (self._until is None or seen.received_at < self._until)
        )

    def _note(self, problem: str) -> None:
        self._wrong += 1
        if self._wrong <= _MOST_PROBLEMS:
            self._problems.append(problem)

    def report(self) -> CostReport:
        more = [f"and {self._wrong - _MOST_PROBLEMS} more"] if self._wrong > _MOST_PROBLEMS else []
        lines = tuple(
            CostLine(**key._asdict(), decisions=count, cost_usd=total)
            for key, (count, total) in sorted(self._sums.items())
        )
        return CostReport(lines=lines, problems=(*self._problems, *more))
