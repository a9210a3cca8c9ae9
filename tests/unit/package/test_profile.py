from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.contract import Contract
from nbkit.errors import PackageError
from nbkit.package import build_profile, fingerprint, merge_profiles
from nbkit.package._files import canonical_json
from nbkit.package._profile import _count_numbers


@pytest.fixture(scope="module")
def profile(table: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    return build_profile(table, contract=contract, scores=np.linspace(0, 1, len(table)))


def test_every_row_is_counted_once(profile: dict[str, Any], table: pd.DataFrame) -> None:
    assert profile["rows"] == len(table)
    for name, counted in profile["inputs"].items():
        counts = counted.get("counts") or list(counted["categories"].values())
        assert sum(counts) + counted["missing"] == len(table)
        assert counted["missing"] == int(table[name].isna().sum())
    assert sum(profile["score"]["counts"]) == len(table)


def test_the_bins_of_a_number_are_its_quantiles(profile: dict[str, Any]) -> None:
    income = profile["inputs"]["income"]
    assert len(income["edges"]) == 19
    assert max(income["counts"]) - min(income["counts"]) <= 2


def test_a_value_on_an_edge_lies_below_it() -> None:
    counted = _count_numbers(np.array([1.0, 1.0, 2.0, 3.0, np.nan]), edges=np.array([1.0, 2.0]))
    assert counted == {"edges": [1.0, 2.0], "counts": [2, 1, 1], "missing": 1}


def test_categories_are_counted_by_name(profile: dict[str, Any], table: pd.DataFrame) -> None:
    assert profile["inputs"]["region"]["categories"] == table["region"].value_counts().to_dict()


def test_a_profile_is_json_without_any_row(profile: dict[str, Any], table: pd.DataFrame) -> None:
    text = canonical_json(profile).decode()
    assert json.loads(text)["format"] == 1
    edges = set(profile["inputs"]["income"]["edges"])
    assert len(set(table["income"].dropna()) - edges) > 300


@settings(deadline=None, derandomize=True, max_examples=30)
@given(cut=st.integers(0, 400))
def test_two_halves_add_up_to_the_whole(cut: int, profile: dict[str, Any], table: pd.DataFrame) -> None:
    scores = np.linspace(0, 1, len(table))

    def counted(part: slice) -> dict[str, Any]:
        inputs = {}
        for name, whole in profile["inputs"].items():
            column = table[name].iloc[part]
            if "edges" in whole:
                inputs[name] = _count_numbers(column.to_numpy(dtype=float), edges=np.array(whole["edges"]))
            else:
                found = {str(level): int(count) for level, count in column.value_counts().items()}
                inputs[name] = {"categories": found, "missing": int(column.isna().sum())}
        score = _count_numbers(scores[part], edges=np.array(profile["score"]["edges"]))
        return {"format": 1, "rows": len(scores[part]), "inputs": inputs, "score": score}

    assert merge_profiles(counted(slice(0, cut)), counted(slice(cut, None))) == profile


def test_profiles_that_do_not_fit_are_not_added(profile: dict[str, Any]) -> None:
    fewer = {**profile, "inputs": {name: profile["inputs"][name] for name in ("income", "ratio")}}
    with pytest.raises(PackageError, match=r"profiles: expected the inputs income, ratio, years.*, got income, ratio"):
        merge_profiles(profile, fewer)
    other = {**profile, "inputs": {**profile["inputs"], "ratio": {**profile["inputs"]["ratio"], "edges": [0.5]}}}
    with pytest.raises(PackageError, match="profiles: ratio has other bins"):
        merge_profiles(profile, other)


def test_a_column_without_values_has_one_empty_bin(table: pd.DataFrame, contract: Contract) -> None:
    frame = table.assign(years=np.nan)
    counted: Any = build_profile(frame, contract=contract, scores=np.zeros(len(frame)))
    assert counted["inputs"]["years"] == {"edges": [], "counts": [0], "missing": len(table)}


CHANGES: list[Callable[[pd.DataFrame], pd.DataFrame]] = [
    lambda frame: frame.assign(income=frame["income"].where(frame.index != frame.index[200], 1.0)),
    lambda frame: frame.assign(purpose=frame["purpose"].where(frame.index != frame.index[200], "home ")),
    lambda frame: frame.iloc[::-1],
    lambda frame: frame.iloc[:-1],
    lambda frame: frame.rename(columns={"income": "wage"}),
    lambda frame: frame.assign(region=frame["region"].fillna("-")),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_fingerprint(
    change: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame
) -> None:
    assert fingerprint(change(table))["digest"] != fingerprint(table)["digest"]


def test_a_fingerprint_depends_on_content_alone(table: pd.DataFrame) -> None:
    same = table.iloc[:, ::-1].reset_index(drop=True).astype({"purpose": object, "married": int})
    assert fingerprint(same) == fingerprint(table)


def test_text_is_hashed_with_its_borders() -> None:
    one, other = (pd.DataFrame({"a": values}) for values in (["ab", "c"], ["a", "bc"]))
    assert fingerprint(one)["digest"] != fingerprint(other)["digest"]


def test_both_zeros_are_one_number_and_times_have_a_hash() -> None:
    plus, minus = (pd.DataFrame({"a": [value]}) for value in (0.0, -0.0))
    assert fingerprint(plus) == fingerprint(minus)
    days = [pd.DataFrame({"day": pd.to_datetime([day, None])}) for day in ("2026-01-01", "2026-01-02")]
    assert fingerprint(days[0])["digest"] != fingerprint(days[1])["digest"]
