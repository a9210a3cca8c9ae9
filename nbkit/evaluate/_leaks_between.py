"""Leaks that no single column shows: the future, rows on both sides of a split, inputs that are too good together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.errors import EvaluationError, LeakError
from nbkit.evaluate._delong import auc
from nbkit.evaluate._leaks import LEAK_AUC, Leak, require_columns

# The probe must tell in seconds what a training would tell in minutes.
_MOST_ROWS = 20_000
_FEWEST_ROWS = 200
_ROUNDS = 60
_FOLDS = 2
_NAMED = 3
# With an input of so many values, two customers do not share a whole row by chance.
_FINE = 50
_MOST_SHARED = 0.01
_SHOWN = 5


def future_leaks(frame: pd.DataFrame, *, contract: Contract) -> tuple[Leak, ...]:
    """Compare, for every input with ``known_at``, when it was known with when the decision was due."""
    stamped = [column for column in contract.inputs if column.known_at]
    decided_at = contract.target.decided_at
    if not stamped or decided_at is None:
        return ()
    require_columns(frame, [decided_at, *(column.known_at or "" for column in stamped)])
    due = _times(frame[decided_at])
    found = []
    for column in stamped:
        known = _times(frame[column.known_at or ""])
        late = (known > due).to_numpy(dtype=bool)
        # A value without a moment may have come at any time.
        undated = (frame[column.name].notna() & known.isna()).to_numpy(dtype=bool)
        rows = np.flatnonzero(late | undated)
        if not len(rows):
            continue
        parts = []
        if late.any():
            worst = (known - due)[late].max()
            parts.append(f"known after the decision in {int(late.sum()):,} rows, by up to {_span(worst)}")
        if undated.any():
            parts.append(f"present without a moment in {column.known_at} in {int(undated.sum()):,} rows")
        ids = _ids(frame, rows, contract=contract)
        text = f"{column.name}: {' and '.join(parts)} of {len(frame):,} (first: {', '.join(ids)})"
        found.append(Leak(kind="future", column=column.name, auc=None, rows=tuple(ids), text=text, refused=True))
    return tuple(found)


def together_leaks(frame: pd.DataFrame, labels: NDArray[np.bool_], *, contract: Contract) -> tuple[Leak, ...]:
    """Fit a quick model on half of the rows and rank the other half: what is too good to be true names its columns."""
    if len(frame) < _FEWEST_ROWS or min(int(labels.sum()), int((~labels).sum())) < 2 * _FOLDS:
        return ()
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(frame))[:_MOST_ROWS])
    names = [column.name for column in contract.inputs]
    rows = _numbers(frame.iloc[chosen][names])
    truth = labels[chosen]
    half = rng.permutation(len(rows)) % _FOLDS == 0
    if not 0 < truth[half].sum() < half.sum() or not 0 < truth[~half].sum() < (~half).sum():
        return ()
    # A column that says nothing in the half that is fitted on cannot carry anything, and the model refuses it.
    speaking = [n for n in range(len(names)) if len(np.unique(rows[half, n][~np.isnan(rows[half, n])])) > 1]
    if not speaking:
        return ()
    rows, names = rows[:, speaking], [names[n] for n in speaking]
    model = HistGradientBoostingClassifier(max_iter=_ROUNDS, max_leaf_nodes=7, early_stopping=False, random_state=0)
    model.fit(rows[half], truth[half])
    area = auc(model.predict_proba(rows[~half])[:, 1], truth[~half])
    if area <= LEAK_AUC:
        return ()
    losses = {}
    for number, name in enumerate(names):
        shuffled = rows[~half].copy()
        shuffled[:, number] = rng.permutation(shuffled[:, number])
        losses[name] = area - auc(model.predict_proba(shuffled)[:, 1], truth[~half])
    carriers = sorted(losses, key=lambda name: -losses[name])[:_NAMED]
    named = ", ".join(f"{name} (without it {area - losses[name]:.3f})" for name in carriers)
    text = (
        f"all inputs together rank {contract.target.column} with AUC {area:.4f} on rows that a quick model had not "
        f"seen (limit {LEAK_AUC}); what carries it: {named}"
    )
    return (Leak(kind="together", column=", ".join(carriers), auc=area, rows=(), text=text, refused=True),)


def find_split_leaks(parts: Mapping[str, pd.DataFrame], *, contract: Contract, group: str = "") -> tuple[Leak, ...]:
    """Look for rows that are on both sides of a split.

    Parameters
    ----------
    parts : mapping of str to pandas.DataFrame
        Such as training, validation and cases, the one that is fitted on first.
    contract : Contract
        Names entity, inputs and target.
    group : str
        A column whose values must not be on both sides either, such as a customer's number.

    Returns
    -------
    tuple of Leak
        Entities or groups in two parts are refused; rows that are the same in every input and the target are refused
        when they are too many for chance.

    Raises
    ------
    EvaluationError
        A column is missing.
    """
    names = [column.name for column in contract.inputs]
    for part, frame in parts.items():
        wanted = [*names, contract.target.column, *([group] if group else [])]
        missing = [name for name in wanted if name not in frame.columns]
        if missing:
            raise EvaluationError(f"leak check: {part}", problems=[f"{name}: missing" for name in missing])
    found: list[Leak] = []
    ordered = list(parts.items())
    for number, (first, left) in enumerate(ordered):
        for second, right in ordered[number + 1 :]:
            pair = f"{first} and {second}"
            for column in dict.fromkeys([contract.entity, *([group] if group else [])]):
                found += _shared_values(left, right, column=column, pair=pair)
            found += _shared_rows(left, right, pair=pair, second=second, contract=contract)
    return tuple(found)


def refuse_split_leaks(parts: Mapping[str, pd.DataFrame], *, contract: Contract, group: str = "") -> None:
    """Stop when rows are on both sides of a split.

    Parameters
    ----------
    parts : mapping of str to pandas.DataFrame
        Such as training, validation and cases, the one that is fitted on first.
    contract : Contract
        Names entity, inputs and target.
    group : str
        A column whose values must not be on both sides either.

    Raises
    ------
    LeakError
        With the evidence.
    EvaluationError
        A column is missing.
    """
    refused = [leak.text for leak in find_split_leaks(parts, contract=contract, group=group) if leak.refused]
    if refused:
        step = "split by group or by time: nbkit.evaluate.split"
        raise LeakError("rows are on both sides of the split", problems=refused, next_step=step)


def _shared_values(left: pd.DataFrame, right: pd.DataFrame, *, column: str, pair: str) -> list[Leak]:
    if column not in left.columns or column not in right.columns:
        return []
    shared = sorted(set(left[column].dropna().astype(str)) & set(right[column].dropna().astype(str)))
    if not shared:
        return []
    first = ", ".join(shared[:_SHOWN])
    text = f"{column}: {len(shared):,} values are in {pair} (first: {first})"
    return [Leak(kind="split", column=column, auc=None, rows=tuple(shared[:_SHOWN]), text=text, refused=True)]


def _shared_rows(left: pd.DataFrame, right: pd.DataFrame, *, pair: str, second: str, contract: Contract) -> list[Leak]:
    columns = [*(column.name for column in contract.inputs), contract.target.column]
    keys = [pd.util.hash_pandas_object(frame[columns].astype(object), index=False) for frame in (left, right)]
    same = keys[1].isin(set(keys[0])).to_numpy()
    if not same.any():
        return []
    fine = any(left[column.name].nunique() > _FINE for column in contract.inputs)
    share = float(same.mean())
    ids = _ids(right, np.flatnonzero(same), contract=contract)
    text = (
        f"{int(same.sum()):,} of {len(right):,} rows of {second} ({share:.1%}) are the same as a row of the other part "
        f"in {pair}, in every input and the target (first: {', '.join(ids)})"
    )
    refused = fine and share > _MOST_SHARED
    return [Leak(kind="duplicates", column="", auc=None, rows=tuple(ids), text=text, refused=refused)]


def _ids(frame: pd.DataFrame, rows: NDArray[np.int64], *, contract: Contract) -> list[str]:
    shown = frame.iloc[rows[:_SHOWN]]
    values = shown[contract.entity] if contract.entity in frame.columns else shown.index
    return [str(value) for value in values]


def _times(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        raise EvaluationError(f"leak check: {column.name}: expected times, got numbers")
    try:
        return pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"leak check: {column.name}: expected times: {error}") from None


def _span(span: pd.Timedelta) -> str:
    days = span.total_seconds() / 86_400
    return f"{days:.1f} days" if days >= 1 else f"{span.total_seconds() / 3600:.1f} hours"


def _numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    columns = []
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            columns.append(values.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            codes, _ = pd.factorize(values)
            columns.append(np.where(codes < 0, np.nan, codes.astype(np.float64)))
    return np.column_stack(columns)
