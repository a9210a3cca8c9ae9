from __future__ import annotations

import json
from typing import Any

import pytest

from nbkit.contract import Input, RowCheck
from nbkit.errors import ContractViolationError, NbkitError
from nbkit.serve import _request as request_module
from nbkit.serve._request import BadRequestError, read_request


@pytest.fixture(scope="module")
def rows(lender: Any) -> RowCheck:
    return RowCheck(lender.make_contract())


INPUTS = '"inputs": {"income": 5, "ratio": 0.5, "purpose": "car"}'


def test_a_request_is_read_in_the_contracts_types(rows: RowCheck) -> None:
    request = read_request(f'{{"request_id": "a-1", "subject": "Jo", {INPUTS}}}'.encode(), rows=rows)
    assert (request.request_id, request.subject) == ("a-1", "Jo")
    assert request.row == {"income": 5.0, "ratio": 0.5, "purpose": "car"}


@pytest.fixture
def plain(lender: Any) -> RowCheck:
    inputs = [
        {"name": "amount", "type": "number", "minimum": -10, "maximum": 10, "nullable": True},
        {"name": "purpose", "type": "category", "categories": ["car", "a:b"]},
    ]
    contract = lender.make_contract()
    return RowCheck(contract.model_copy(update={"inputs": tuple(Input.model_validate(each) for each in inputs)}))


def reads(body: str, *, rows: RowCheck) -> object:
    try:
        return read_request(body.encode(), rows=rows)
    except NbkitError as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize(
    ("body", "at_once"),
    [
        ('{"inputs": {"amount": 5, "purpose": "car"}}', True),
        ('{"subject": "Jo: n", "inputs": {"purpose": "car", "amount": null}, "request_id": "a:1-0:b"}', True),
        ('{"inputs": {"amount": -0.5, "purpose": "car"}, "request_id": "f0-0e"}', True),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": "a b"}', True),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "subject": "a\\u0000"}', True),
        ('{"inputs": {"amount": -0.0, "purpose": "car"}}', False),
        ('{"inputs": {"amount": 5, "purpose": "a:b"}}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": null}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": ""}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": "a", "request_id": "b"}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": "a", "request\\u005fid": "a"}', False),
        ('{"inputs": {"amount": 5, "amount": 6, "purpose": "car"}}', False),
        # A colon that is spelled in another way does not make up for that of a key.
        ('{"inputs": {"amount": 5, "amount": 6, "purpose": "car"}, "subject": "a\\u003ab"}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "subject": "x", "subject": "a\\u003ab"}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "request_id": "x", "request_id": "a\\u003ab"}', False),
        ('{"inputs": {"amount": 5, "amo\\u0075nt": 6, "purpose": "car"}}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "inputs": {"amount": 6, "purpose": "car"}}', False),
        ('{"inputs": {"amount": 50, "purpose": "car"}}', False),
        ('{"inputs": {"amount": 5}}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}, "x": 1}', False),
        ('{"inputs": {"amount": 5, "purpose": "car"}', False),
    ],
)
def test_what_is_read_at_once_is_what_is_read_step_by_step(
    plain: RowCheck, monkeypatch: pytest.MonkeyPatch, *, body: str, at_once: bool
) -> None:
    def tried() -> object:
        try:
            return request_module._read_whole(body.encode(), rows=plain)
        except NbkitError:
            return True

    assert (tried() is not None) == at_once
    quickly = reads(body, rows=plain)
    monkeypatch.setattr(request_module, "_read_whole", lambda body, *, rows: None)
    assert reads(body, rows=plain) == quickly


def test_request_id_and_subject_are_optional(rows: RowCheck) -> None:
    request = read_request(f"{{{INPUTS}}}".encode(), rows=rows)
    assert (request.request_id, request.subject) == ("", "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "expected a JSON object with inputs"),
        ("[1]", "expected a JSON object with inputs"),
        ("{}", "missing required field `inputs`"),
        (f'{{{INPUTS}, "extra": 1}}', "unknown field `extra`"),
        (f'{{"request_id": 7, {INPUTS}}}', "Expected `str | null`, got `int`"),
        (f'{{"request_id": "", {INPUTS}}}', "$.request_id: expected 1..128 letters"),
        (f'{{"request_id": "a b", {INPUTS}}}', "$.request_id: expected 1..128 letters"),
        (f'{{"request_id": "{"a" * 129}", {INPUTS}}}', "$.request_id: expected 1..128 letters"),
        (f'{{"request_id": "a\\n", {INPUTS}}}', "$.request_id: expected 1..128 letters"),
        (f'{{"subject": "{"s" * 257}", {INPUTS}}}', "$.subject: expected 1..256 printable"),
        (f"{{{INPUTS}, {INPUTS}}}", "$.inputs: appears twice"),
        (f'{{"request_id": "a", "request_id": "b", {INPUTS}}}', "$.request_id: appears twice"),
        (f'{{{INPUTS}, "\\u0069nputs": {{}}}}', "$.inputs: appears twice"),
        ("[" * 100_000, "expected a JSON object with inputs"),
        ('{"inputs": ' + "[" * 30_000 + "]" * 30_000 + "}", "nested too deeply"),
        ('{"inputs": ' + '{"a":' * 9_000 + "1" + "}" * 9_001, "nested too deeply"),
        ('{"other": ' + "[" * 30_000 + "]" * 30_000 + "}", "expected a JSON object with inputs"),
        ('{"inputs": {"\\n": ' + "[" * 30_000 + "]" * 30_000 + "}}", "nested too deeply"),
    ],
)
def test_a_request_that_is_wrong_whatever_the_model_is_refused(rows: RowCheck, body: str, problem: str) -> None:
    with pytest.raises(BadRequestError) as error:
        read_request(body.encode(), rows=rows)
    assert problem in str(error.value)


def test_bytes_that_are_no_text_are_refused(rows: RowCheck) -> None:
    with pytest.raises(BadRequestError, match="expected a JSON object with inputs"):
        read_request(b'{"request_id": "\xff", "inputs": {}}', rows=rows)


@pytest.mark.parametrize(
    ("inputs", "problems"),
    [
        (
            '{"income": -1, "purpose": "yacht", "more": 1}',
            (
                "$.income: expected 0..1000, got a value that is withheld as personal data",
                "$.ratio: missing",
                "$.purpose: expected one of 'car', 'home', 'study', got 'yacht'",
                "$.more: not an input",
            ),
        ),
        (
            '{"income": NaN, "ratio": -Infinity, "purpose": "yacht"}',
            (
                "$.income: expected a finite number or null, got NaN",
                "$.ratio: expected 0..1, got -inf",
                "$.purpose: expected one of 'car', 'home', 'study', got 'yacht'",
            ),
        ),
        ('{"income": 1e999, "ratio": 0.5, "purpose": "car"}', ("$.income: expected 0..1000",)),
        (f'{{"income": {"9" * 5000}, "ratio": 0.5, "purpose": "car"}}', ("$.income: expected 0..1000",)),
        ('{"income": 1, "income": 2, "ratio": 0.5, "purpose": "car"}', ("$.income: appears twice",)),
        ("[1, 2]", ("$: expected a JSON object",)),
    ],
)
def test_inputs_that_break_the_contract_are_named_all_at_once(
    rows: RowCheck, inputs: str, problems: tuple[str, ...]
) -> None:
    with pytest.raises(ContractViolationError) as error:
        read_request(f'{{"inputs": {inputs}}}'.encode(), rows=rows)
    found = error.value.problems
    assert len(found) == len(problems)
    assert all(text.startswith(start) for text, start in zip(found, problems, strict=True)), found


def test_personal_data_is_never_repeated(rows: RowCheck) -> None:
    for value in ("123456789", "-123456789", '"123456789"', "[123456789]", "123456789e999"):
        body = json.dumps({"inputs": {"income": 0, "ratio": 0.5, "purpose": "car"}}).replace(
            '"income": 0', f'"income": {value}'
        )
        with pytest.raises(ContractViolationError) as error:
            read_request(body.encode(), rows=rows)
        assert "123456789" not in str(error.value)
