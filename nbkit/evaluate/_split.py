"""Splits that do not lie: by time with an embargo, by group, or stratified."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.errors import EvaluationError

_DEFAULT_SHARES: Mapping[str, float] = {"training": 0.7, "validation": 0.3}
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Rows in parts that know nothing of each other.

    Parameters
    ----------
    parts : mapping of str to numpy.ndarray
        Positions of the rows of each part, in rising order.
    dropped : numpy.ndarray
        Positions of rows that are in no part, because their label was not known yet when the next part began.
    text : str
        What was done, for the rationale.
    """

    parts: Mapping[str, NDArray[np.int64]]
    dropped: NDArray[np.int64]
    text: str

    def take(self, frame: pd.DataFrame, part: str) -> pd.DataFrame:
        """Return the rows of one part.

        Parameters
        ----------
        frame : pandas.DataFrame
            The table that was split.
        part : str
            One of ``parts``.

        Returns
        -------
        pandas.DataFrame
            With the index that the rows had.

        Raises
        ------
        EvaluationError
            No such part, or a table of another length.
        """
        if part not in self.parts:
            raise EvaluationError(f"split: expected one of {', '.join(self.parts)}, got {part!r}")
        rows = sum(len(rows) for rows in self.parts.values()) + len(self.dropped)
        if len(frame) != rows:
            raise EvaluationError(f"split: {rows} rows were split, got a table of {len(frame)}")
        return frame.iloc[self.parts[part]]


def split(
    frame: pd.DataFrame,
    *,
    contract: Contract,
    by: Literal["time", "group", "stratified"],
    column: str = "",
    shares: Mapping[str, float] | None = None,
    embargo_days: float | None = None,
    seed: int = 0,
) -> Split:
    """Split labelled rows so that what judges a model is not known to it.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with the target, and with the entity or ``column``.
    contract : Contract
        Names target, entity, label delay and the moment of the decision.
    by : str
        ``time``: later parts are later, and a row whose label was not known yet when the next part began is dropped.
        ``group``: all rows of a customer are in one part. ``stratified``: every part has the same share of positives;
        the draw depends on ids and seed, not on the order of rows.
    column : str
        Of times or groups; ``target.decided_at`` and ``entity`` by default.
    shares : mapping of str to float
        Parts in order with their share of the rows, which add up to 1; 0.7 training and 0.3 validation by default.
    embargo_days : float, optional
        Days between the parts; ``target.label_delay_days`` by default. By time only.
    seed : int
        Another seed draws other groups or rows.

    Returns
    -------
    Split
        Positions by part.

    Raises
    ------
    EvaluationError
        A column is missing or holds gaps, the shares do not add up to 1, a part is empty or has one label only.

    Examples
    --------
    See ``docs/how-to/split.md``.
    """
    wanted = dict(shares or _DEFAULT_SHARES)
    if len(wanted) < 2 or min(wanted.values()) <= 0 or abs(sum(wanted.values()) - 1) > _ROUNDING:
        raise EvaluationError(f"split: shares: expected two or more above 0 that add up to 1, got {wanted}")
    column = column or {"time": contract.target.decided_at or "", "group": contract.entity}.get(by, contract.entity)
    if not column:
        raise EvaluationError("split: by time needs a column", next_step="name it: column=..., or target.decided_at")
    missing = [name for name in (column, contract.target.column) if name not in frame.columns]
    if missing:
        raise EvaluationError("split", problems=[f"{name}: missing" for name in missing])
    gaps = int(frame[column].isna().sum())
    if gaps:
        raise EvaluationError(f"split: {column} is missing in {gaps} of {len(frame)} rows")
    labels = (frame[contract.target.column] == contract.target.positive).fillna(value=False).to_numpy(dtype=bool)
    if by == "time":
        days = contract.target.label_delay_days if embargo_days is None else embargo_days
        found = _by_time(frame[column], shares=wanted, days=days)
    elif by == "group":
        found = _by_group(frame[column], shares=wanted, seed=seed)
    elif by == "stratified":
        found = _stratified(frame[column], labels, shares=wanted, seed=seed)
    else:
        raise EvaluationError(f"split: by: expected time, group or stratified, got {by!r}")
    return _checked(found, labels=labels)


def _by_time(column: pd.Series, *, shares: Mapping[str, float], days: float) -> Split:
    if not days >= 0:
        raise EvaluationError(f"split: embargo_days: expected 0 or more, got {days!r}")
    if pd.api.types.is_numeric_dtype(column):
        raise EvaluationError(f"split: {column.name}: expected times, got numbers")
    try:
        times = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"split: {column.name}: expected times: {error}") from None
    moments = times.to_numpy(dtype="datetime64[ns]")
    order = np.sort(moments)
    # A part begins at a moment, so rows of one moment are never torn apart.
    ends = np.cumsum(list(shares.values()))[:-1]
    begins = [order[min(len(order) - 1, math.ceil(end * len(order) - _ROUNDING))] for end in ends]
    part_of = np.searchsorted(np.array(begins), moments, side="right")
    embargo = np.timedelta64(round(days * 86_400_000_000_000), "ns")
    dropped = np.zeros(len(moments), dtype=bool)
    for number, begin in enumerate(begins):
        dropped |= (part_of == number) & (moments + embargo > begin)
    names = list(shares)
    starts = ", ".join(f"{names[n + 1]} from {np.datetime_as_string(b, unit='D')}" for n, b in enumerate(begins))
    text = f"by {column.name}: {starts}; {int(dropped.sum()):,} rows within {days:g} days before the next part left out"
    parts = {name: np.flatnonzero((part_of == number) & ~dropped) for number, name in enumerate(names)}
    return Split(parts=parts, dropped=np.flatnonzero(dropped), text=text)


def _by_group(column: pd.Series, *, shares: Mapping[str, float], seed: int) -> Split:
    codes, groups = pd.factorize(column)
    sizes = np.bincount(codes, minlength=len(groups))
    order = sorted(range(len(groups)), key=lambda group: _draw(groups[group], seed=seed))
    ends = np.cumsum(list(shares.values())) * len(column)
    part_of_group = np.zeros(len(groups), dtype=np.int64)
    # Whole groups, each to the part in which its middle falls.
    reached = np.cumsum(sizes[order]) - sizes[order] / 2
    part_of_group[order] = np.minimum(np.searchsorted(ends, reached, side="left"), len(ends) - 1)
    text = f"by {column.name}: {len(groups):,} groups, each in one part (seed {seed})"
    return _parts(part_of_group[codes], names=list(shares), text=text)


def _stratified(column: pd.Series, labels: NDArray[np.bool_], *, shares: Mapping[str, float], seed: int) -> Split:
    part_of = np.zeros(len(labels), dtype=np.int64)
    draws = [_draw(value, seed=seed) for value in column.tolist()]
    for side in (True, False):
        rows = sorted(np.flatnonzero(labels == side).tolist(), key=lambda row: draws[row])
        ends = np.round(np.cumsum(list(shares.values())) * len(rows)).astype(np.int64)
        part_of[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
    text = f"stratified by the target, drawn by {column.name} (seed {seed})"
    return _parts(part_of, names=list(shares), text=text)


def _parts(part_of: NDArray[np.int64], *, names: Sequence[str], text: str) -> Split:
    parts = {name: np.flatnonzero(part_of == number) for number, name in enumerate(names)}
    return Split(parts=parts, dropped=np.zeros(0, dtype=np.int64), text=text)


def _draw(value: object, *, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{value}".encode()).digest()


def _checked(found: Split, *, labels: NDArray[np.bool_]) -> Split:
    problems = []
    for name, rows in found.parts.items():
        positives = int(labels[rows].sum())
        if len(rows) == 0:
            problems.append(f"{name} is empty")
        elif not 0 < positives < len(rows):
            problems.append(f"{name} has {positives} positives among {len(rows)} rows: expected some of both labels")
    if problems:
        raise EvaluationError(f"split {found.text}", problems=problems, next_step="choose other shares or more rows")
    return found
