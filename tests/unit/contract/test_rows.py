import json
import math

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkit.contract import Contract, Input, RowCheck
from nbkit.errors import ContractViolationError

GOOD = {"amount": 5, "age_days": 666, "bankrupt": True, "income": -1.5, "purpose": "car"}


@pytest.fixture
def rows(contract: Contract) -> RowCheck:
    return RowCheck(contract)


def problems_of(rows: RowCheck, row: dict[object, object]) -> tuple[str, ...]:
    with pytest.raises(ContractViolationError) as caught:
        rows.check(row)  # type: ignore[arg-type]
    return caught.value.problems


def decode_problem(rows: RowCheck, body: bytes) -> str:
    with pytest.raises(ContractViolationError) as caught:
        rows.decode(body)
    return str(caught.value)


def test_a_good_row_comes_back_in_contract_order_and_types(rows: RowCheck) -> None:
    checked = rows.check(dict(reversed(GOOD.items())))
    assert list(checked.items()) == [
        ("amount", 5.0),
        ("age_days", None),
        ("bankrupt", 1.0),
        ("income", -1.5),
        ("purpose", "car"),
    ]
    assert [type(value) for value in checked.values()] == [float, type(None), float, float, str]


def test_everything_wrong_is_said_at_once(rows: RowCheck) -> None:
    with pytest.raises(ContractViolationError) as caught:
        rows.check({"amount": -5, "bankrupt": 2, "income": 10, "purpose": "boat", "amunt": 1, 7: 1})  # type: ignore[dict-item]
    assert str(caught.value) == (
        "the row breaks the contract: 7 problems: $.amount: expected 0..1000000, got -5; $.age_days: missing; "
        "$.bankrupt: expected true or false, got 2; "
        "$.income: expected a finite number, at most 9.5, got a value that is withheld as personal data; "
        "$.purpose: expected one of 'car', 'home', got 'boat'; $.amunt: not an input; did you mean 'amount'?; "
        "$['7']: not an input"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("amount", 1_000_000, 1e6),
        ("amount", np.float32(0.5), 0.5),
        ("amount", np.int64(3), 3.0),
        ("age_days", 3.0, 3.0),
        ("age_days", 2**60, 2.0**60),
        ("age_days", None, None),
        ("age_days", math.nan, None),
        ("age_days", 666.0, None),
        ("bankrupt", False, 0.0),
        ("bankrupt", 1, 1.0),
        ("bankrupt", np.bool_(True), 1.0),
        ("purpose", "NA", None),
        ("purpose", None, None),
        ("purpose", math.nan, None),
        ("purpose", np.float32(math.nan), None),
        ("purpose", np.str_("home"), "home"),
    ],
)
def test_what_fits_is_read(rows: RowCheck, name: str, value: object, expected: object) -> None:
    read = rows.check(GOOD | {name: value})[name]
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("amount", None, "$.amount: expected 0..1000000, got null"),
        ("amount", math.nan, "$.amount: expected 0..1000000, got nan"),
        ("amount", math.inf, "$.amount: expected 0..1000000, got inf"),
        ("amount", True, "$.amount: expected 0..1000000, got true"),
        ("amount", np.bool_(True), "$.amount: expected 0..1000000, got true"),
        ("amount", "5", "$.amount: expected 0..1000000, got '5'"),
        ("amount", [5], "$.amount: expected 0..1000000, got a list"),
        ("amount", {"a": 5}, "$.amount: expected 0..1000000, got a mapping"),
        ("amount", 10**400, "$.amount: expected 0..1000000, got an enormous integer"),
        ("amount", pd.NA, "$.amount: expected 0..1000000, got <NA>"),
        ("age_days", 1.5, "$.age_days: expected an integer, at least 0, got 1.5"),
        ("age_days", -1, "$.age_days: expected an integer, at least 0, got -1"),
        ("bankrupt", 0.5, "$.bankrupt: expected true or false, got 0.5"),
        ("bankrupt", "true", "$.bankrupt: expected true or false, got 'true'"),
        ("purpose", "Car", "$.purpose: expected one of 'car', 'home', got 'Car'"),
        ("purpose", 1, "$.purpose: expected one of 'car', 'home', got 1"),
        ("purpose", 10**400, "$.purpose: expected one of 'car', 'home', got an enormous integer"),
        ("purpose", ["car"], "$.purpose: expected one of 'car', 'home', got a list"),
        ("purpose", pd.NA, "$.purpose: expected one of 'car', 'home', got <NA>"),
        ("purpose", "x" * 10_000, f"$.purpose: expected one of 'car', 'home', got '{'x' * 56}..."),
    ],
)
def test_what_does_not_fit_is_refused(rows: RowCheck, name: str, value: object, problem: str) -> None:
    assert problems_of(rows, GOOD | {name: value}) == (problem,)


def test_limits_are_said_in_words() -> None:
    def expected(**given: object) -> str:
        contract = Contract.model_construct(inputs=(Input.model_validate({"name": "x", "type": "number"} | given),))
        return problems_of(RowCheck(contract), {"x": "?"})[0]

    assert expected() == "$.x: expected a finite number, got '?'"
    assert expected(minimum=1) == "$.x: expected a finite number, at least 1, got '?'"
    assert expected(type="integer", minimum=1, maximum=2) == "$.x: expected an integer 1..2, got '?'"
    assert expected(type="integer") == "$.x: expected an integer, got '?'"
    many = tuple(f"c{index}" for index in range(12))
    assert expected(type="category", categories=many).endswith("'c8', 'c9' and 2 more, got '?'")


def test_a_sentinel_of_an_input_that_must_be_there_is_refused() -> None:
    number = Input(name="lines", type="number", sentinels=(9.5,))
    category = Input(name="kind", type="category", categories=("a",), sentinels=("?",))
    rows = RowCheck(Contract.model_construct(inputs=(number, category)))
    assert problems_of(rows, {"lines": 9.5, "kind": "?"}) == (
        "$.lines: expected a finite number, got 9.5",
        "$.kind: expected one of 'a', got '?'",
    )


def test_minus_zero_becomes_zero(rows: RowCheck) -> None:
    assert math.copysign(1, rows.check(GOOD | {"amount": -0.0})["amount"]) == 1  # type: ignore[arg-type]


def test_an_unknown_field_alone_is_refused(rows: RowCheck) -> None:
    assert problems_of(rows, GOOD | {"sex": "male"}) == ("$.sex: not an input",)


def test_a_name_that_is_no_word_is_quoted_and_cut(rows: RowCheck) -> None:
    assert problems_of(rows, GOOD | {"a b" * 50: 1}) == (f"$['{('a b' * 20)}']: not an input",)


def test_json_is_decoded(rows: RowCheck) -> None:
    assert rows.decode(json.dumps(GOOD).encode()) == GOOD
    assert rows.decode(b'{"purpose": "a: b", "n": 99999999999999999999}')["purpose"] == "a: b"


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (b"", "Input data was truncated"),
        (b"{", "Input data was truncated"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"amount": NaN}', "JSON is malformed: invalid character (byte 11)"),
        (b'{"amount": Infinity}', "JSON is malformed"),
        (b'{"amount": -Infinity}', "JSON is malformed"),
        (b'{"amount": 1e999}', "Number out of range"),
        (b'{"amount": ' + b"9" * 5000 + b"}", "Integer value out of range"),
        (b'{"amount": 1} x', "JSON is malformed: trailing characters"),
        (b"{'amount': 1}", "JSON is malformed"),
        (b'{"amount": 1,}', "JSON is malformed"),
        (b'{"amount": "\xff"}', "can't decode byte 0xff"),
        (b'{"amount": "\\ud800"}', "JSON"),
        (b'\xef\xbb\xbf{"amount": 1}', "JSON is malformed"),
        (b'{"a":' * 100_000, "recursion"),
    ],
)
def test_what_is_not_a_strict_json_object_is_refused(rows: RowCheck, body: bytes, because: str) -> None:
    text = decode_problem(rows, body)
    assert text.startswith("the row breaks the contract: 1 problem: $: expected a JSON object (")
    assert because in text or because == "JSON"


def test_a_repeated_key_is_refused(rows: RowCheck) -> None:
    text = decode_problem(rows, b'{"amount": 1, "amount": 2, "amount": 3, "b": {"c": 1, "c": ":"}}')
    assert text == "the row breaks the contract: 2 problems: $.c: appears twice; $.amount: appears twice"


def test_a_key_repeated_by_an_escape_is_refused(rows: RowCheck) -> None:
    assert "$.amount: appears twice" in decode_problem(rows, b'{"amount": 1, "\\u0061mount": 2}')


def test_nesting_that_only_the_second_reader_minds_is_refused(rows: RowCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(*_: object, **__: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(json, "loads", too_deep)
    assert "maximum recursion depth exceeded" in decode_problem(rows, b'{"a": ":"}')


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.text()), max_size=6
    )
)
def test_any_flat_object_survives_decoding(row: dict[str, object]) -> None:
    rows = RowCheck(Contract.model_construct(inputs=()))
    encoded = msgspec.json.encode({key: value for key, value in row.items() if value not in {math.inf, -math.inf}})
    assert rows.decode(encoded) == msgspec.json.decode(encoded)


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "amount": [1.0, 2.0, 3.0],
            "age_days": [666, 1, 2],
            "bankrupt": [0.0, np.nan, 1.0],
            "income": [1, 2, 3],
            "purpose": ["car", None, "NA"],
            "sex": ["male", "female", "x"],
        }
    )


def test_a_table_that_fits_has_no_problems(rows: RowCheck, frame: pd.DataFrame) -> None:
    assert rows.problems_in(frame) == ()
    assert rows.problems_in(frame.convert_dtypes()) == ()
    assert rows.problems_in(frame.astype({"purpose": "category"})) == ()
    assert rows.problems_in({name: frame[name].tolist() for name in frame}) == ()
    assert rows.problems_in(frame.assign(bankrupt=[True, False, True])) == ()


def test_a_table_with_problems_names_the_first_row_and_how_many_more(rows: RowCheck, frame: pd.DataFrame) -> None:
    wrong = frame.assign(
        amount=[1.0, np.nan, -1.0],
        age_days=[1.0, 1.5, np.inf],
        bankrupt=[0, 1, 2],
        income=[1, 99, 3],
        purpose=["car", "boat", "home"],
    )
    assert rows.problems_in(wrong) == (
        "$.amount: expected 0..1000000, got nan in row 1 and 1 more",
        "$.age_days: expected an integer, at least 0, got 1.5 in row 1 and 1 more",
        "$.bankrupt: expected true or false, got 2 in row 2",
        "$.income: expected a finite number, at most 9.5, got a value that is withheld as personal data in row 1",
        "$.purpose: expected one of 'car', 'home', got 'boat' in row 1",
    )
    assert len(rows.problems_in(wrong, limit=2)) == 2


def test_a_missing_column_and_a_column_of_text_are_named(rows: RowCheck, frame: pd.DataFrame) -> None:
    assert rows.problems_in(frame.drop(columns="age_days").assign(amount=["a", "b", "c"])) == (
        "$.amount: expected 0..1000000, got 'a' in row 0 and 2 more",
        "$.age_days: missing",
    )


def test_two_columns_of_one_name_are_refused(rows: RowCheck, frame: pd.DataFrame) -> None:
    doubled = pd.concat([frame, frame[["amount"]]], axis=1)
    assert rows.problems_in(doubled) == ("$.amount: expected one column, got 2 of that name",)


def test_an_empty_table_fits(rows: RowCheck, frame: pd.DataFrame) -> None:
    assert rows.problems_in(frame.iloc[:0]) == ()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.sampled_from([666.0, 1e6])), max_size=8))
def test_a_table_and_its_rows_are_judged_alike(values: list[float | None]) -> None:
    column = Input(name="x", type="integer", minimum=-3, maximum=1e6, nullable=True, sentinels=(666,))
    rows = RowCheck(Contract.model_construct(inputs=(column,)))

    def fits(value: float | None) -> bool:
        try:
            rows.check({"x": value})
        except ContractViolationError:
            return False
        return True

    wrong = sum(not fits(value) for value in values)
    table = rows.problems_in({"x": pd.Series(values, dtype=float)})
    assert bool(table) == bool(wrong)
    assert table == rows.problems_in({"x": np.array([math.nan if v is None else v for v in values], dtype=float)})
    if wrong > 1:
        assert table[0].endswith(f"and {wrong - 1} more")


def test_a_row_says_which_sentinel_stood_for_a_missing_value() -> None:
    inputs = (
        Input(name="lines", type="number", nullable=True, sentinels=(-9, 999.5)),
        Input(name="kind", type="category", categories=("a",), nullable=True, sentinels=("?",)),
        Input(name="plain", type="number", nullable=True),
    )
    check = RowCheck(Contract.model_construct(inputs=inputs))
    assert check.special({"lines": -9.0, "kind": "?", "plain": None}) == {"lines": "-9", "kind": "?"}
    assert check.special({"lines": 999.5, "kind": "a", "plain": 1}) == {"lines": "999.5"}
    assert check.special({"lines": None, "kind": None, "plain": None}) == {}


PLAIN = (
    {"name": "amount", "type": "number", "minimum": 0, "maximum": 1_000_000},
    {"name": "count", "type": "integer", "nullable": True},
    {"name": "bankrupt", "type": "boolean", "nullable": True},
    {"name": "größe:m", "type": "number"},
    {"name": "purpose", "type": "category", "categories": ["car", "a:b", "home"], "nullable": True},
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.integers(min_value=-3, max_value=3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 0.0, 1.0, 0.5, 2.0**53, -(2.0**53)]),
    st.sampled_from(["car", "home", "a:b", "boat", "", "ca\u0072"]),
    st.lists(st.integers(), max_size=1),
)


@pytest.fixture
def plain(contract: Contract) -> RowCheck:
    return RowCheck(contract.model_copy(update={"inputs": tuple(Input.model_validate(each) for each in PLAIN)}))


def read_plain(rows: RowCheck, body: bytes) -> dict[str, object] | None:
    found = rows.plain and rows.plain.read(body)
    return None if found is None else dict(found)


def test_a_plain_row_is_read_at_once(plain: RowCheck) -> None:
    row = {"purpose": "home", "amount": 5, "count": 3, "bankrupt": True, "größe:m": None}
    body = json.dumps({**row, "größe:m": 1.25}).encode()
    # A name with a colon, written out or escaped, is left to the slow way, which knows what it is.
    assert read_plain(plain, body) is None
    assert plain.check(plain.decode(body)) == {**row, "amount": 5.0, "count": 3.0, "bankrupt": 1.0, "größe:m": 1.25}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.fixed_dictionaries({}, optional={column["name"].replace("größe:m", "größe"): VALUES for column in PLAIN}),
    more=st.dictionaries(st.sampled_from(["amount", "amunt", "count"]), VALUES, max_size=1),
    ascii_only=st.booleans(),
)
def test_what_is_read_at_once_is_what_the_check_says(
    contract: Contract, *, values: dict[str, object], more: dict[str, object], ascii_only: bool
) -> None:
    inputs = tuple(Input.model_validate({**each, "name": each["name"].replace("größe:m", "größe")}) for each in PLAIN)
    rows = RowCheck(contract.model_copy(update={"inputs": inputs}))
    pairs = [*values.items(), *more.items()]  # a name may be there twice
    body = "{" + ",".join(f"{json.dumps(n, ensure_ascii=ascii_only)}:{json.dumps(v)}" for n, v in pairs) + "}"
    read = read_plain(rows, body.encode())
    if read is None:
        return
    checked = rows.check(rows.decode(body.encode()))
    assert list(read.items()) == list(checked.items())
    assert [(type(v), math.copysign(1, v) if isinstance(v, float) else 0) for v in read.values()] == [
        (type(v), math.copysign(1, v) if isinstance(v, float) else 0) for v in checked.values()
    ]


@pytest.mark.parametrize(
    "change",
    [{}, {"count": 2.0}, {"count": None, "bankrupt": None, "purpose": None}, {"amount": 1e6}, {"amount": 0.5}],
)
def test_most_rows_are_plain(contract: Contract, change: dict[str, object]) -> None:
    inputs = tuple(Input.model_validate(each) for each in PLAIN if ":" not in each["name"])
    rows = RowCheck(contract.model_copy(update={"inputs": inputs}))
    row = {"amount": 5, "count": 3, "bankrupt": True, "purpose": "home", **change}
    body = json.dumps(row).encode()
    read = read_plain(rows, body)
    assert read is not None
    assert read == rows.check(rows.decode(body))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2.5},
        {"amount": -1},
        {"amount": -0.0},
        {"bankrupt": 1},
        {"purpose": "boat"},
        {"count": 2**53},
        {"x": 1},
    ],
)
def test_rows_out_of_the_ordinary_are_left_to_the_check(contract: Contract, change: dict[str, object]) -> None:
    inputs = tuple(Input.model_validate(each) for each in PLAIN if ":" not in each["name"])
    rows = RowCheck(contract.model_copy(update={"inputs": inputs}))
    row = {"amount": 5, "count": 3, "bankrupt": True, "purpose": "home", **change}
    assert read_plain(rows, json.dumps(row).encode()) is None
    assert read_plain(rows, b"[1") is None


def test_a_number_too_small_to_be_told_from_zero_is_zero_without_a_sign(contract: Contract) -> None:
    inputs = tuple(Input.model_validate(each) for each in PLAIN if ":" not in each["name"])
    rows = RowCheck(contract.model_copy(update={"inputs": inputs}))
    body = b'{"amount": -1e-400, "count": 3, "bankrupt": true, "purpose": "home"}'
    assert read_plain(rows, body) is None
    assert math.copysign(1.0, rows.check(rows.decode(body))["amount"]) == 1.0  # type: ignore[arg-type]


def test_a_contract_with_sentinels_or_names_to_escape_reads_no_row_at_once(rows: RowCheck, contract: Contract) -> None:
    assert read_plain(rows, json.dumps(GOOD).encode()) is None
    quoted = Input.model_validate({"name": 'a"b', "type": "number"})
    assert read_plain(RowCheck(contract.model_copy(update={"inputs": (quoted,)})), b'{"a\\"b": 1}') is None


def test_checks_of_the_same_inputs_are_the_same(contract: Contract) -> None:
    other = contract.model_copy(update={"inputs": contract.inputs[1:]})
    assert RowCheck(contract).same_as(RowCheck(contract))
    assert not RowCheck(contract).same_as(RowCheck(other))
