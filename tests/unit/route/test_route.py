from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.errors import RouteError
from nbkit.route import RouteTable, Split, canary_point, split_key

GOLDEN = Path(__file__).parent / "golden" / "routes-1.json"
KEY = split_key(b"secret", model="loans", version=4)
SUBJECTS = [f"customer {number}" for number in range(20_000)]


@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, derandomize=True)
def test_a_subject_that_is_in_stays_in_when_the_share_grows(entity: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert Split(share=high, key=KEY).takes(entity) or not Split(share=low, key=KEY).takes(entity)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_that_of_the_subjects(share: float) -> None:
    split = Split(share=share, key=KEY)
    taken = sum(split.takes(subject) for subject in SUBJECTS) / len(SUBJECTS)
    # Five standard deviations of a binomial.
    assert abs(taken - share) < 5 * (share * (1 - share) / len(SUBJECTS)) ** 0.5


def test_nobody_at_0_and_everybody_at_1() -> None:
    assert not any(Split(share=0, key=KEY).takes(subject) for subject in SUBJECTS)
    assert all(Split(share=1, key=KEY).takes(subject) for subject in SUBJECTS)


def test_another_version_draws_other_subjects() -> None:
    other = split_key(b"secret", model="loans", version=5)
    first, second = (
        {subject for subject in SUBJECTS if Split(share=0.1, key=key).takes(subject)} for key in (KEY, other)
    )
    # Independent draws of a tenth share about a tenth.
    assert len(first & second) / len(first) < 0.15


def test_the_draw_needs_the_secret_and_never_changes() -> None:
    assert canary_point("customer 4711", key=KEY) != canary_point("customer 4711", key=b"another")
    # A changed algorithm would move people between versions in the middle of a trial.
    assert canary_point("customer 4711", key=KEY) == pytest.approx(PINNED, abs=0)


PINNED = 0.09403005361420969


def table(*routes: str) -> bytes:
    return f'{{"format": 1, "name": "lending", "routes": [{", ".join(routes)}]}}'.encode()


def test_the_first_route_whose_condition_holds_answers() -> None:
    parsed = RouteTable.load(GOLDEN)
    assert parsed.name == "lending"
    assert parsed.models == ("mortgage", "consumer")
    assert parsed.fields == {"purpose", "amount"}
    assert parsed.choose({"purpose": "home", "amount": 5}).model == "mortgage"
    assert parsed.choose({"purpose": "car", "amount": 500_000}).model == "mortgage"
    assert parsed.choose({"purpose": "car", "amount": 5}).model == "consumer"


def test_a_condition_that_cannot_be_evaluated_does_not_hold() -> None:
    parsed = RouteTable.load(GOLDEN)
    for inputs in ({}, {"purpose": 3, "amount": "many"}, {"amount": None}, {"amount": [object()]}):
        assert parsed.choose(inputs).model == "consumer"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "expected JSON"),
        (table().replace(b"[]", b"[1]"), r"\$.routes.0"),
        (table(), r"\$.routes: .*at least 1"),
        (table('{"model": "M"}'), r"\$.routes.0.model"),
        (table('{"model": "m"}').replace(b"1", b"2", 1), r"\$.format: expected 1, got 2"),
        (table('{"model": "m"}', '{"model": "n"}'), r"routes.0: without a condition only the last"),
        (table('{"model": "m", "when": "a > 1"}'), "expected no condition on the last route"),
        (table('{"model": "m", "when": "a >"}', '{"model": "n"}'), r"routes.0.when: cannot be read: 'a >'"),
    ],
)
def test_a_wrong_table_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(RouteError, match=problem):
        RouteTable.parse(text)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RouteError, match=r"routes\.json: cannot be read: No such file"):
        RouteTable.load(tmp_path / "routes.json")
