"""Find inputs that give the target away, before a model is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.errors import EvaluationError, LeakError
from nbkit.evaluate._delong import auc

# No honest single input of a credit or fraud model ranks its target this well.
LEAK_AUC = 0.99
# A column with at most this many values may give the target away without order, such as one code among several.
_MOST_CODES = 50
_FOLDS = 2
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Evidence that rows say more than a model may know.

    Parameters
    ----------
    kind : str
        ``value`` (the input ranks the target), ``code`` (its values do, without order), ``missing`` (that it is missing
        does), ``together`` (all inputs do), ``future`` (known after the decision was due), ``split`` (an entity is on
        both sides), or ``duplicates`` (rows of different entities are the same in every input and the target).
    column : str
        The input; empty for duplicates.
    auc : float or None
        How well this alone ranks the target, 0.5..1.
    rows : tuple of str
        For duplicates: the first groups of entities that share a row.
    text : str
        The finding as a sentence.
    refused : bool
        Whether training must not go on. Duplicates are listed only: with few coarse inputs they happen honestly.
    """

    kind: str
    column: str
    auc: float | None
    rows: tuple[str, ...]
    text: str
    refused: bool


def find_leaks(frame: pd.DataFrame, *, contract: Contract) -> tuple[Leak, ...]:
    """Look at every input alone, at when each was known, at all of them together, and at rows that occur twice.

    Parameters
    ----------
    frame : pandas.DataFrame
        Training rows with the target and every input; the entity is used when it is there.
    contract : Contract
        Which columns are inputs, and what the target is.

    Returns
    -------
    tuple of Leak
        Worst first, duplicates last; empty when nothing was found.

    Raises
    ------
    EvaluationError
        A column is missing, or all rows have the same label.
    """
    from nbkit.evaluate._leaks_between import future_leaks, together_leaks
    from nbkit.evaluate._plugged import plugged_checks

    names = [column.name for column in contract.inputs]
    require_columns(frame, [*names, contract.target.column])
    labels = (frame[contract.target.column] == contract.target.positive).fillna(value=False).to_numpy(dtype=bool)
    if not 0 < labels.sum() < len(labels):
        target = contract.target
        raise EvaluationError(
            f"leak check: {int(labels.sum())} of {len(labels)} rows have {target.column} == {target.positive!r}: "
            "expected some of both labels",
            next_step="check target.positive in contract.yaml",
        )
    found = [leak for name in names if (leak := _column_leak(frame[name], labels, target=contract.target.column))]
    found.sort(key=lambda leak: -(leak.auc or 0))
    # What a single column gives away, all of them together give away too: one finding is enough.
    together = () if found else together_leaks(frame, labels, contract=contract)
    future = future_leaks(frame, contract=contract)
    plugged = plugged_checks(frame, contract=contract)
    return (*found, *future, *together, *plugged, *_duplicates(frame, names=names, contract=contract))


def require_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table that lacks columns, and name all of them."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise EvaluationError("leak check", problems=[f"{name}: missing" for name in missing])


def refuse_leaks(frame: pd.DataFrame, *, contract: Contract) -> None:
    """Stop when an input gives the target away.

    Parameters
    ----------
    frame : pandas.DataFrame
        Training rows with the target and every input.
    contract : Contract
        Which columns are inputs, and what the target is.

    Raises
    ------
    LeakError
        With the evidence for every such input.
    EvaluationError
        A column is missing, or all rows have the same label.
    """
    refused = [leak for leak in find_leaks(frame, contract=contract) if leak.refused]
    if refused:
        raise LeakError(
            "inputs give the target away",
            problems=[leak.text for leak in refused],
            next_step="remove them from inputs in contract.yaml",
        )


def _column_leak(values: pd.Series, labels: NDArray[np.bool_], *, target: str) -> Leak | None:
    candidates: list[tuple[str, float, str]] = []
    missing = values.isna().to_numpy()
    if missing.any():
        candidates.append(("missing", _either(missing.astype(np.float64), labels), "that it is missing"))
    if pd.api.types.is_numeric_dtype(values) and not missing.all():
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        # Missing values count as lowest in one reading and as highest in the other.
        readings = [np.where(missing, side, numbers) for side in (-np.inf, np.inf)]
        candidates.append(("value", max(_either(reading, labels) for reading in readings), "its value"))
    # Two-valued columns were seen above; here any set of codes, missing among them, may stand for the target.
    codes, levels = pd.factorize(values, use_na_sentinel=False)
    if len(levels) <= max(_MOST_CODES, 2) or not pd.api.types.is_numeric_dtype(values):
        candidates.append(("code", _code_auc(codes, labels), "its code"))
    kind, best, what = max(candidates, key=lambda candidate: candidate[1], default=("", 0.0, ""))
    if best <= LEAK_AUC:
        return None
    text = f"{values.name}: {what} alone ranks {target} with AUC {best:.4f} on {len(labels):,} rows (limit {LEAK_AUC})"
    return Leak(kind=kind, column=str(values.name), auc=best, rows=(), text=text, refused=True)


def _either(reading: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    area = auc(reading, labels)
    return max(area, 1 - area)


def _code_auc(codes: NDArray[np.int64], labels: NDArray[np.bool_]) -> float:
    """Rank each half of the rows by the target rates of their codes in the other half; unseen codes get the base rate.

    Rates from the same rows would make any column of unique codes look like a leak.
    """
    half = np.random.default_rng(0).permutation(len(codes)) % _FOLDS
    rates = np.zeros(len(codes))
    for fold in range(_FOLDS):
        other = half != fold
        size = codes.max() + 1
        seen = np.bincount(codes[other], minlength=size)
        positive = np.bincount(codes[other], weights=labels[other], minlength=size)
        rate = np.where(seen > 0, positive / np.maximum(seen, 1), labels[other].mean())
        rates[~other] = rate[codes[~other]]
    return auc(rates, labels)


def _duplicates(frame: pd.DataFrame, *, names: list[str], contract: Contract) -> tuple[Leak, ...]:
    columns = [*names, contract.target.column]
    twice = frame[frame.duplicated(subset=columns, keep=False)]
    if twice.empty:
        return ()
    ids = twice[contract.entity] if contract.entity in frame.columns else pd.Series(twice.index, index=twice.index)
    groups = ids.groupby([twice[column] for column in columns], dropna=False, sort=False)
    shared = [" = ".join(str(value) for value in group) for _, group in groups if group.nunique() > 1]
    if not shared:
        return ()
    rows = sum(1 + entry.count(" = ") for entry in shared)
    text = f"{rows:,} rows of different entities are the same in every input and the target: {'; '.join(shared[:3])}"
    return (Leak(kind="duplicates", column="", auc=None, rows=tuple(shared[:_SHOWN]), text=text, refused=False),)
