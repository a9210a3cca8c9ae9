"""The reference profile (counts, never rows) and the fingerprint of the data that a model was fitted on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbkit.contract import Contract
from nbkit.errors import PackageError
from nbkit.package._files import canonical_json, sha256
from nbkit.package._tables import categories, numbers

PROFILE_FORMAT = 1
FINGERPRINT_FORMAT = 1

# Deciles are what PSI is usually computed on; twice as many keep both tails visible.
_BINS = 20


def build_profile(frame: pd.DataFrame, *, contract: Contract, scores: NDArray[np.float64]) -> dict[str, object]:
    """Count the inputs and scores of a frame into bins.

    Parameters
    ----------
    frame : pandas.DataFrame
        At least the contract's inputs.
    contract : Contract
        Names the inputs and their types.
    scores : ndarray of float64
        The model's scores of the same rows.

    Returns
    -------
    dict
        Format 1. A number's bins are ``value <= edges[0]``, ``edges[0] < value <= edges[1]``, …, ``value > edges[-1]``.
    """
    inputs: dict[str, object] = {}
    for item in contract.inputs:
        if item.type == "category":
            inputs[item.name] = _count_categories(categories(frame[item.name], name=item.name))
        else:
            values = numbers(frame[item.name], name=item.name)
            known = values[~np.isnan(values)]
            inner = np.arange(1, _BINS) / _BINS
            # Unique: a value that fills several quantiles is one edge.
            edges = np.unique(np.quantile(known, inner, method="inverted_cdf")) if len(known) else np.zeros(0)
            inputs[item.name] = _count_numbers(values, edges=edges)
    score = _count_numbers(scores, edges=np.arange(1, _BINS) / _BINS)
    return {"format": PROFILE_FORMAT, "rows": len(frame), "inputs": inputs, "score": score}


def _count_categories(values: list[str | None]) -> dict[str, object]:
    counts = Counter(value for value in values if value is not None)
    return {"categories": dict(sorted(counts.items())), "missing": len(values) - sum(counts.values())}


def _count_numbers(values: NDArray[np.float64], *, edges: NDArray[np.float64]) -> dict[str, object]:
    known = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "missing": int(len(values) - len(known))}


def merge_profiles(one: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """Add two profiles with the same bins: exactly the profile of both tables together.

    Parameters
    ----------
    one, other : mapping
        As `build_profile` returns them; `other` counted into the edges of `one`.

    Returns
    -------
    dict
        Their sum.

    Raises
    ------
    PackageError
        They have other inputs or other bins.
    """
    ours, theirs = (cast("Mapping[str, Any]", profile["inputs"]) for profile in (one, other))
    if ours.keys() != theirs.keys():
        raise PackageError(f"profiles: expected the inputs {', '.join(ours)}, got {', '.join(theirs)}")
    inputs = {name: _merge(ours[name], theirs[name], name=name) for name in ours}
    score = _merge(cast("Mapping[str, Any]", one["score"]), cast("Mapping[str, Any]", other["score"]), name="score")
    rows = cast("int", one["rows"]) + cast("int", other["rows"])
    return {"format": PROFILE_FORMAT, "rows": rows, "inputs": inputs, "score": score}


def _merge(one: Mapping[str, Any], other: Mapping[str, Any], *, name: str) -> dict[str, object]:
    if one.get("edges") != other.get("edges"):
        raise PackageError(f"profiles: {name} has other bins")
    missing = one["missing"] + other["missing"]
    if "categories" in one:
        counts = Counter(one["categories"]) + Counter(other["categories"])
        return {"categories": dict(sorted(counts.items())), "missing": missing}
    counts_added = [left + right for left, right in zip(one["counts"], other["counts"], strict=True)]
    return {"edges": one["edges"], "counts": counts_added, "missing": missing}


def fingerprint(frame: pd.DataFrame) -> dict[str, object]:
    """Return content hashes of a table: one over all rows of each column, one over all columns.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any table of numbers, booleans, text and times.

    Returns
    -------
    dict
        Format 1: ``rows``, ``columns`` (name → ``sha256:…``) and ``digest``. Changes with any value and with the order
        of rows, not with the order of columns.
    """
    columns = {str(name): _column_digest(frame[name]) for name in frame.columns}
    document = {"format": FINGERPRINT_FORMAT, "rows": len(frame), "columns": columns}
    return {**document, "digest": sha256(canonical_json(document))}


def _column_digest(column: pd.Series[Any]) -> str:
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        # One bit pattern for all NaN, and for both zeros.
        content = np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes()
        return "sha256:" + hashlib.sha256(b"number\x00" + content).hexdigest()
    digest = hashlib.sha256(b"text\x00")
    missing = column.isna().tolist()
    # The length before each value keeps "ab", "c" apart from "a", "bc".
    texts = ("-" if gone else f"{len(str(value))}:{value}" for value, gone in zip(column, missing, strict=True))
    digest.update("".join(texts).encode())
    return "sha256:" + digest.hexdigest()
