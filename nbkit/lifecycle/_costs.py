"""What decisions cost: sums of a ledger between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TypedDict

from nbkit.audit import CostLine, CostReport, Place, shown, sum_costs
from nbkit.errors import UsageError
from nbkit.lifecycle._ledger_place import find_ledgers, ledger_place, place_of_ledger
from nbkit.lifecycle._view import Progress, Result, Table, View, no_progress
from nbkit.settings import Settings

# Sums are exact; a mean need not end, and twelve digits are more than anybody pays by.
_MEAN = Context(prec=12, rounding=ROUND_HALF_EVEN)

_SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSum:
    """What so many decisions cost; amounts are decimal text, the sum exact and the means to twelve digits."""

    decisions: int
    cost_usd: str
    mean_usd: str
    per_thousand_usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What decisions of one kind cost; amounts as in `CostSum`."""

    model: str
    version: int
    stage: str
    kind: str
    route: str
    fallback: str
    decisions: int
    cost_usd: str
    mean_usd: str
    per_thousand_usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostsSummed(Result):
    """What the decisions of a model, or of all, cost between two moments.

    Parameters
    ----------
    name : str
        Of the model; empty for all.
    ledgers : tuple of str
        That were read.
    since, until : datetime or None
        Aware: requests that were received from the first on, and before the second.
    answers : CostSum
        How many were answered, and what that cost with all the shadows beside it.
    production, canary, shadow : CostSum
        The same by who was asked: the version in production, one in canary, or any whose answer went to nobody.
    lines : tuple of CostRow
        By model, version, stage, kind, route and fallback.
    problems : tuple of str
        Records that could not be counted.
    """

    name: str
    ledgers: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    answers: CostSum
    production: CostSum
    canary: CostSum
    shadow: CostSum
    lines: tuple[CostRow, ...]
    problems: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every record could be counted."""
        return not self.problems

    def view(self) -> View:
        """Return what a person is shown."""
        headline = f"{self.name or 'all models'}: {self.answers.decisions:,} answers cost {self.answers.cost_usd} USD"
        if self.problems:
            headline += f"; {len(self.problems)} problem(s), what they name is not counted"
        time = f"{_said(self.since, 'from', 'the first')} {_said(self.until, 'to before', 'to the last')}"
        facts = [("received", time)]
        for kind, found in (("production", self.production), ("canary", self.canary), ("shadows", self.shadow)):
            if found.decisions:
                facts.append((kind, f"{found.cost_usd} USD for {found.decisions:,}"))
        each = f"{self.answers.mean_usd} USD, {self.answers.per_thousand_usd} USD per 1,000, shadows included"
        facts += [("an answer", each), ("ledger", ", ".join(self.ledgers))]
        columns = ("model", "version", "stage", "kind", "route", "decisions", "USD", "USD each", "USD per 1,000")
        tables = [Table(columns=columns, rows=tuple(_cells(line) for line in self.lines))] if self.lines else []
        if self.problems:
            tables.append(Table(columns=("problem",), rows=tuple((problem,) for problem in self.problems)))
        return View(headline=headline, facts=facts, tables=tables, next_step="nbkit audit verify" * bool(self.problems))


def _said(moment: datetime | None, before: str, otherwise: str) -> str:
    return f"{before} {moment.isoformat()}" if moment else otherwise


def _cells(line: CostRow) -> tuple[str, ...]:
    route = f"fallback: {line.fallback}" if line.fallback else line.route
    return (
        line.model,
        str(line.version),
        line.stage,
        line.kind,
        route,
        f"{line.decisions:,}",
        line.cost_usd,
        line.mean_usd,
        line.per_thousand_usd,
    )


def moment_of(text: str, *, option: str) -> datetime | None:
    """Return the moment that somebody typed.

    Parameters
    ----------
    text : str
        A day, which begins at 00:00 UTC, or a time with its zone (ISO 8601); empty for none.
    option : str
        What it was typed for.

    Returns
    -------
    datetime or None
        Aware, UTC.

    Raises
    ------
    UsageError
        It is neither.

    Examples
    --------
    >>> moment_of("2026-11-01", option="--since").isoformat()
    '2026-11-01T00:00:00+00:00'
    >>> moment_of("2026-11-01T09:30+01:00", option="--since").isoformat()
    '2026-11-01T08:30:00+00:00'
    """
    if not text:
        return None
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time(tzinfo=UTC))
    with suppress(ValueError, OverflowError):  # the first and the last day of the calendar have no other zones
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    raise UsageError(
        f"{option}: expected a day or a time with its zone, got {text!r}",
        next_step=f"{option} 2026-11-01 or {option} 2026-11-01T09:30+01:00",
    )


def audit_costs(
    name: str,
    *,
    settings: Settings,
    since: datetime | None = None,
    until: datetime | None = None,
    ledger: str = "",
    progress: Progress = no_progress,
) -> CostsSummed:
    """Add up what the decisions of a model cost, from its ledger.

    Parameters
    ----------
    name : str
        Registered model; empty for every model that has a ledger here.
    settings : Settings
        Where ledgers are.
    since, until : datetime, optional
        Aware. Requests that were received from the first on, and before the second, count.
    ledger : str
        Another ledger: a file, or ``postgresql://…``.
    progress : callable
        Told how much is done.

    Returns
    -------
    CostsSummed
        Exact sums; records that could not be counted are its problems.

    Raises
    ------
    UsageError
        There is no ledger, or no time between the two moments.
    AuditError
        A ledger cannot be read.
    """
    if since is not None and until is not None and until <= since:
        raise UsageError(f"--until: expected later than {since.isoformat()}, got {until.isoformat()}")
    places = _places(name, settings=settings, ledger=ledger)
    report = sum_costs(places, model=name or None, since=since, until=until, progress=progress)
    production, canary, shadow = (_sum_of(report, kind) for kind in ("production", "canary", _SHADOW))
    return CostsSummed(
        name=name,
        ledgers=tuple(shown(place) for place in places),
        since=since,
        until=until,
        answers=CostSum(**_amounts(report.cost_usd, report.decisions - shadow.decisions)),
        production=production,
        canary=canary,
        shadow=shadow,
        lines=tuple(_row(line) for line in report.lines),
        problems=report.problems,
    )


def _places(name: str, *, settings: Settings, ledger: str) -> Sequence[Place]:
    if ledger:
        return (place_of_ledger(ledger),)
    names = (name,) if name else find_ledgers(settings)
    if not names:
        raise UsageError(f"no ledger under {settings.store}", next_step="nbkit serve NAME")
    return tuple(ledger_place(each, settings=settings) for each in names)


def _kind(line: CostLine) -> str:
    """Return who was asked; a champion that is asked about a canary's row is a shadow, and stays in production."""
    return _SHADOW if line.kind == _SHADOW else line.stage


def _sum_of(report: CostReport, kind: str) -> CostSum:
    part = replace(report, lines=tuple(line for line in report.lines if _kind(line) == kind))
    return CostSum(**_amounts(part.cost_usd, part.decisions))


def _row(line: CostLine) -> CostRow:
    return CostRow(
        model=line.model,
        version=line.version,
        stage=line.stage,
        kind=line.kind,
        route=line.route,
        fallback=line.fallback,
        **_amounts(line.cost_usd, line.decisions),
    )


class _Amounts(TypedDict):
    decisions: int
    cost_usd: str
    mean_usd: str
    per_thousand_usd: str


def _amounts(cost: Decimal, decisions: int) -> _Amounts:
    mean = _MEAN.divide(cost, Decimal(decisions)) if decisions else Decimal(0)
    thousand = _MEAN.scaleb(mean, Decimal(3))
    return {
        "decisions": decisions,
        "cost_usd": _text(cost),
        "mean_usd": _text(mean),
        "per_thousand_usd": _text(thousand),
    }


def _text(amount: Decimal) -> str:
    """Write an amount in full: no exponent, no noughts at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
