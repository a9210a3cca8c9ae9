"""Which inputs give away a protected group, alone and together: by how well they rank its members."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Protected
from nbkit.evaluate._delong import Estimate, auc_estimate

_FOLDS = 5
# Fewer members cannot be spread over the folds in any useful way.
_FEWEST = 20
# More rows change the third digit and take long; which ones is drawn with a fixed seed.
_MOST_ROWS = 20_000
_BINS = 10
# From so many rows on, half of them teach trees nearly as much as four fifths: on data of known strength the joint AUC
# was 0.537 instead of 0.540 and 0.645 instead of 0.646, less than DeLong's error of 0.004, in a fifth of the time.
_MANY = 10_000
_FOLDS_OF_MANY = 2
# Of one input in the trees: ranges of a number, or levels of a category of which the rarest are one.
_TREE_BINS = 64
# A rate of few rows is drawn towards the mean as if this many more rows had it.
_PRIOR_ROWS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyResult:
    """How well inputs tell a group from the reference group; 0.5 is guessing.

    Parameters
    ----------
    attribute, group, reference : str
        Whom they tell from whom.
    n : int
        Cases of the group.
    joint : Estimate or None
        AUC of all inputs together (boosted trees, cross-fitted), with DeLong's interval; None with too few cases.
    inputs : tuple of (str, Estimate)
        AUC of each input alone (rates of its bins, cross-fitted), strongest first.
    """

    attribute: str
    group: str
    reference: str
    n: int
    joint: Estimate | None
    inputs: tuple[tuple[str, Estimate], ...]

    @property
    def proxies(self) -> tuple[str, ...]:
        """Inputs that alone surely do better than guessing."""
        return tuple(name for name, area in self.inputs if area.low is not None and area.low > 0.5)


def proxies_of(
    frame: pd.DataFrame, *, attributes: tuple[Protected, ...], inputs: tuple[str, ...], confidence: float
) -> tuple[ProxyResult, ...]:
    """Measure how well the inputs predict each group of each attribute; the same rows give the same figures."""
    found = []
    for attribute in attributes:
        values = frame[attribute.name]
        known = values.notna().to_numpy(dtype=bool)
        codes, different = pd.factorize(values)
        names = np.array([*(str(value) for value in different), ""], dtype=object)[codes]
        for group in sorted({str(value) for value in different} - {attribute.reference}):
            rows = np.flatnonzero(known & ((names == group) | (names == attribute.reference)))
            rows = _capped(rows)
            member = names[rows] == group
            table = frame.iloc[rows][list(inputs)]
            found.append(_proxy(table, member, attribute=attribute, group=group, confidence=confidence))
    return tuple(found)


def _capped(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    if len(rows) <= _MOST_ROWS:
        return rows
    drawn: NDArray[np.intp] = np.sort(np.random.default_rng(0).choice(rows, _MOST_ROWS, replace=False))
    return drawn


def _proxy(
    table: pd.DataFrame, member: NDArray[np.bool_], *, attribute: Protected, group: str, confidence: float
) -> ProxyResult:
    count = int(member.sum())
    told = min(count, len(member) - count) >= _FEWEST
    fold = _folds(member, count=_FOLDS)
    areas: list[tuple[str, Estimate]] = []
    joint = None
    if told:
        columns = {str(name): table[name] for name in table.columns}
        areas = [
            (name, auc_estimate(_alone(values, member, fold), member, confidence=confidence))
            for name, values in columns.items()
        ]
        areas.sort(key=lambda pair: (-pair[1].value, pair[0]))
        joint = auc_estimate(_together(table, member), member, confidence=confidence)
    return ProxyResult(
        attribute=attribute.name,
        group=group,
        reference=attribute.reference,
        n=count,
        joint=joint,
        inputs=tuple(areas),
    )


def _folds(member: NDArray[np.bool_], *, count: int) -> NDArray[np.intp]:
    """Deal the rows of either kind into folds, drawn with a fixed seed."""
    fold = np.zeros(len(member), dtype=np.intp)
    rng = np.random.default_rng(zlib.crc32(b"proxy"))
    for kind in (True, False):
        rows = np.flatnonzero(member == kind)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % count
    return fold


def _alone(values: pd.Series, member: NDArray[np.bool_], fold: NDArray[np.intp]) -> NDArray[np.float64]:
    """Rank each row by the share of members in its bin, as the other folds know it."""
    bins = _binned(values)
    size = int(bins.max()) + 1
    cells = fold * size + bins
    seen = np.bincount(cells, minlength=_FOLDS * size).reshape(_FOLDS, size)
    members = np.bincount(cells[member], minlength=_FOLDS * size).reshape(_FOLDS, size)
    # What the other folds know.
    seen, members = seen.sum(axis=0) - seen, members.sum(axis=0) - members
    means = members.sum(axis=1, keepdims=True) / seen.sum(axis=1, keepdims=True)
    # Folds have slightly different means, which would rank rows by their fold.
    rates = (members + _PRIOR_ROWS * means) / (seen + _PRIOR_ROWS) - means
    found: NDArray[np.float64] = rates.ravel()[cells]
    return found


def _binned(values: pd.Series) -> NDArray[np.intp]:
    missing = values.isna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(values) and not missing.all():
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        edges = np.unique(np.quantile(numbers[~missing], np.arange(1, _BINS) / _BINS))
        bins = np.searchsorted(edges, np.where(missing, 0.0, numbers), side="left") + 1
        return np.where(missing, 0, bins).astype(np.intp)
    codes, _ = pd.factorize(values.astype(object), use_na_sentinel=True)
    return (codes + 1).astype(np.intp)


def _levels(values: pd.Series) -> NDArray[np.float64]:
    codes, different = pd.factorize(values.astype(object))
    place = np.full(len(different) + 1, _TREE_BINS - 2, dtype=np.float64)
    common = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(different)), kind="stable")[: _TREE_BINS - 2]
    place[common] = np.arange(len(common))
    place[-1] = np.nan
    found: NDArray[np.float64] = place[codes]
    return found


def _together(table: pd.DataFrame, member: NDArray[np.bool_]) -> NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns, texts = [], []
    for name in table.columns:
        values = table[name]
        if values.isna().all():
            continue  # says nothing, and the trees refuse it
        numeric = pd.api.types.is_numeric_dtype(values)
        columns.append(values.to_numpy(dtype=np.float64, na_value=np.nan) if numeric else _levels(values))
        texts.append(not numeric)
    matrix = np.column_stack(columns) if columns else np.zeros((len(member), 1))
    many = len(member) >= _MANY
    scores = np.zeros(len(member))
    fold = _folds(member, count=_FOLDS_OF_MANY if many else _FOLDS)
    for one in range(int(fold.max()) + 1):
        inside = fold == one
        model = HistGradientBoostingClassifier(
            max_iter=20 if many else 40,
            learning_rate=0.2 if many else 0.1,
            max_bins=_TREE_BINS,
            max_leaf_nodes=7,
            min_samples_leaf=10,
            early_stopping=False,
            random_state=0,
            categorical_features=texts or None,
        )
        model.fit(matrix[~inside], member[~inside])
        scores[inside] = model.decision_function(matrix[inside])
    return scores
