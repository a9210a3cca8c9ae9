"""Read a fitted encoder by asking it: its answer for every level is its whole meaning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.package._steps import Level, Lookup, is_missing

_UNSEEN_TEXT = "\x00unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedColumn:
    """One output column of an encoder."""

    lookup: Lookup
    level: str | None
    missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """The values put to one input column: its levels, then missing, then unseen."""

    levels: tuple[Level, ...]
    values: tuple[object, ...]


def encode(encoder: Any, *, texts: Sequence[bool], none_is_missing: bool) -> list[list[EncodedColumn]]:
    """Return what a fitted OneHotEncoder or OrdinalEncoder makes of each input column.

    Groups of infrequent levels, dropped levels, codes for unknown and missing values interact in many ways. An encoder
    treats its columns one by one and a category takes finitely many values, so asking for all of them is both shorter
    and exact.

    Parameters
    ----------
    encoder : OneHotEncoder or OrdinalEncoder
        Fitted.
    texts : sequence of bool
        Which input columns hold categories.
    none_is_missing : bool
        Whether a missing category reaches the encoder as ``None`` (else as NaN).

    Returns
    -------
    list of list of EncodedColumn
        For each input column its output columns.
    """
    asked = [
        _questions(levels, missing=None if text and none_is_missing else np.nan)
        for levels, text in zip(encoder.categories_, texts, strict=True)
    ]
    widths = list(getattr(encoder, "_n_features_outs", [1] * len(asked)))
    starts = np.cumsum([0, *widths])
    one_hot = hasattr(encoder, "drop_idx_")
    encoded = []
    for place, questions in enumerate(asked):
        answers = _ask(encoder, asked=asked, place=place)
        columns = range(starts[place], starts[place + 1])
        encoded.append(
            [_column(questions, answers=[_pick(a, column) for a in answers], one_hot=one_hot) for column in columns]
        )
    return encoded


def _questions(levels: NDArray[Any], *, missing: object) -> _Questions:
    known = tuple(level for level in levels.tolist() if not is_missing(level))
    numeric = levels.dtype.kind in "fiub"
    unseen: object = max((float(level) for level in known), default=0.0) + 1.0 if numeric else _UNSEEN_TEXT
    return _Questions(levels=known, values=(*known, missing, unseen))


def _ask(encoder: Any, *, asked: list[_Questions], place: int) -> list[NDArray[np.float64] | None]:
    """Ask for each value of one column, the others held at a level they know; None where the encoder refuses."""
    values = asked[place].values
    others = [levels.tolist()[0] for levels in encoder.categories_]
    columns: list[list[object]] = [[other] * len(values) for other in others]
    columns[place] = list(values)
    try:
        return list(_answers(encoder, columns=columns))
    except ValueError:
        # handle_unknown='error' names no row, so ask once more, one by one.
        return [_answer(encoder, columns=[column[row : row + 1] for column in columns]) for row in range(len(values))]


def _answer(encoder: Any, *, columns: list[list[object]]) -> NDArray[np.float64] | None:
    try:
        (answer,) = _answers(encoder, columns=columns)
    except ValueError:
        return None
    return np.asarray(answer, dtype=np.float64)


def _answers(encoder: Any, *, columns: list[list[object]]) -> NDArray[np.float64]:
    kinds = [np.float64 if levels.dtype.kind in "fiub" else object for levels in encoder.categories_]
    series = [pd.Series(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    frame = pd.concat(series, axis=1)
    frame.columns = pd.Index(getattr(encoder, "feature_names_in_", range(len(series))))
    table: Any = frame if hasattr(encoder, "feature_names_in_") else frame.to_numpy()
    with warnings.catch_warnings():
        # An encoder that drops a level warns of unknown values; asking for one is the point here.
        warnings.filterwarnings("ignore", message="Found unknown categories", category=UserWarning)
        result = encoder.transform(table)
    dense = result.toarray() if hasattr(result, "toarray") else result
    return np.asarray(dense, dtype=np.float64)


def _pick(answer: NDArray[np.float64] | None, column: int) -> float | None:
    return None if answer is None else float(answer[column])


def _column(questions: _Questions, *, answers: list[float | None], one_hot: bool) -> EncodedColumn:
    *known, missing, unknown = answers
    numbers = [0.0 if number is None else number for number in known]
    # Codes differ level by level; a one-hot column differs from 0 in few.
    values = {level: number for level, number in zip(questions.levels, numbers, strict=True) if number != 0.0}
    lookup = Lookup(values=values, other=0.0, domain=frozenset(questions.levels), missing=missing, unknown=unknown)
    if not one_hot:
        return EncodedColumn(lookup=lookup, level=None, missing=False)
    marked = [str(level) for level in values]
    level = marked[0] if len(marked) == 1 else "infrequent" if marked else None
    return EncodedColumn(lookup=lookup, level=level, missing=not marked and bool(missing))
