from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.package._files import canonical_json
from nbkit.package._steps import (
    Arithmetic,
    Clip,
    Fill,
    IsMissing,
    Lookup,
    RefusedValueError,
    Step,
    apply_many,
    apply_one,
    function_of,
    is_missing,
    step_from_json,
    step_to_json,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
steady = settings(deadline=None, derandomize=True)
arithmetic = st.builds(
    Arithmetic,
    kind=st.sampled_from(["subtract", "divide", "multiply", "add"]),
    value=finite.filter(lambda value: abs(value) > 1e-300),
)
codes = Lookup(values={1.0: 5.0, 2.0: 6.0}, other=0.0, domain=frozenset({1.0, 2.0, 3.0}), missing=-1.0, unknown=-2.0)


def same_bits(one: object, other: object) -> bool:
    return np.float64(one).tobytes() == np.float64(other).tobytes()  # type: ignore[arg-type]


@steady
@given(steps=st.lists(arithmetic, max_size=4), values=st.lists(finite, min_size=1, max_size=5))
def test_one_value_and_a_column_of_values_round_alike(steps: list[Step], values: list[float]) -> None:
    with np.errstate(all="ignore"):
        together = apply_many(steps, np.array(values))
    alone = [apply_one(steps, value) for value in values]
    assert all(same_bits(a, b) for a, b in zip(alone, together.tolist(), strict=True) if not is_missing(a))


@steady
@given(steps=st.lists(arithmetic, max_size=3), value=finite)
def test_a_fused_function_gives_what_its_steps_give(steps: list[Step], value: float) -> None:
    fused, plain = function_of(steps)(value), apply_one(steps, value)
    assert same_bits(fused, plain) or is_missing(plain)


def test_a_scaler_becomes_one_function() -> None:
    scale = function_of([Arithmetic(kind="multiply", value=3.0), Arithmetic(kind="add", value=1.0)])
    assert scale(2.0) == 7.0


@pytest.mark.parametrize(
    ("step", "values", "expected"),
    [
        (Fill(value=4.0), [1.0, math.nan], [1.0, 4.0]),
        (IsMissing(), [1.0, math.nan], [0.0, 1.0]),
        (Clip(low=0.0, high=1.0), [-3.0, 0.5, 9.0, math.nan], [0.0, 0.5, 1.0, math.nan]),
        (codes, [1.0, 3.0, 4.0, math.nan], [5.0, 0.0, -2.0, -1.0]),
    ],
)
def test_a_step_means_the_same_for_one_and_for_many(step: Step, values: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal([step.one(value) for value in values], expected)
    np.testing.assert_array_equal(step.many(np.array(values)), expected)


def test_a_look_up_refuses_what_its_encoder_refused() -> None:
    strict = Lookup(values={"a": 1.0}, other=0.0, domain=frozenset({"a", "b"}), missing=None, unknown=None)
    assert [strict.one("a"), strict.one("b")] == [1.0, 0.0]
    for refused in ("c", None, math.nan):
        with pytest.raises(RefusedValueError):
            strict.one(refused)


@pytest.mark.parametrize(
    "step",
    [
        Fill(value="none"),
        Fill(value=0.1),
        IsMissing(),
        Arithmetic(kind="divide", value=1e300),
        Clip(low=-1.0, high=2.0),
        codes,
        Lookup(values={"a": math.pi}, other=0.0, domain=frozenset({"a", "b"}), missing=None, unknown=0.0),
    ],
)
def test_a_step_survives_json(step: Step) -> None:
    domains: list[Any] = []
    spec = json.loads(canonical_json(step_to_json(step, domains=domains)))
    assert step_from_json(spec, domains=[frozenset(levels) for levels in domains]) == step


def test_a_code_of_nan_survives_json() -> None:
    step = Lookup(values={"a": 1.0}, other=0.0, domain=frozenset({"a"}), missing=math.nan, unknown=math.nan)
    domains: list[Any] = []
    spec = json.loads(canonical_json(step_to_json(step, domains=domains)))
    back = step_from_json(spec, domains=[frozenset({"a"})])
    assert is_missing(back.one("zebra"))
    assert is_missing(back.one(None))


def test_equal_level_sets_are_kept_once() -> None:
    domains: list[Any] = []
    first, second = (step_to_json(codes, domains=domains) for _ in range(2))
    assert first == second
    assert domains == [(1.0, 2.0, 3.0)]


def test_an_unknown_step_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected a step of a plan, got {'step': 'guess'}"):
        step_from_json({"step": "guess"}, domains=[])
