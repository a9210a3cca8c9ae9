"""What must hold for any row when something about it is changed."""

import pytest
import yaml

from nbkit.errors import CaseSetError
from nbkit.evaluate import Behaviour, behaviour_results, freeze_cases, load_behaviours


def behaviour(**changes):
    given = {
        "id": "more-risk",
        "why": "More risk is never less risk.",
        "kind": "direction",
        "change": {"risk": {"add": 1}},
        "expect": "not_lower",
    }
    return Behaviour(**(given | changes))


@pytest.fixture
def cases(rows, contract, tmp_path):
    return freeze_cases(rows, contract=contract, directory=tmp_path, share=0.5, seed=0)


@pytest.fixture
def try_(package_class, contract, cases):
    def call(one, **package):
        (found,) = behaviour_results(package_class(contract=contract, **package), [one], cases=cases)
        return found

    return call


def test_a_direction_that_holds_has_no_problem(try_, cases):
    found = try_(behaviour())
    assert (found.problem, found.broken, found.skipped, found.examples) == ("", 0, 0, ())
    assert found.tried == len(cases)
    assert found.expected == "when risk rises by 1, the score does not fall"


def test_a_score_that_falls_instead_is_counted_and_the_worst_rows_are_listed(try_, cases):
    found = try_(behaviour(), slope=-1.0)
    assert found.broken == found.tried == len(cases)
    assert len(found.examples) == 10
    moves = [one.before - one.after for one in found.examples]
    assert moves == sorted(moves, reverse=True)
    assert found.worst == pytest.approx(moves[0])
    assert found.problem.startswith(
        f"{len(cases)} of {len(cases)} changed rows behave otherwise, the score by up to 0.2"
    )
    assert found.examples[0].changed.startswith("risk: ")


def test_the_other_direction(try_):
    lower = behaviour(change={"risk": {"multiply": 2}}, where={}, expect="not_higher", id="double")
    found = try_(lower)
    # Doubling raises a positive risk and lowers a negative one.
    assert 0 < found.broken < found.tried
    assert all(one.before >= 0.5 for one in found.examples)


def test_an_input_that_the_score_does_not_read_is_invariant(try_, cases):
    found = try_(behaviour(kind="invariance", change={"kind": {"set": ["fixed", "adjustable"]}}, expect="same_score"))
    assert (found.problem, found.broken) == ("", 0)
    # Each row is set to the kind that it is not; rows without a kind to both.
    assert found.tried == len(cases) + int(cases.frame.kind.isna().sum())
    assert found.expected == "when kind is fixed or adjustable, the score stays"


def test_a_share_of_the_rows_may_change_their_decision(try_):
    strict = behaviour(kind="invariance", change={"risk": {"add": 0.05}}, expect="same_decision")
    found = try_(strict)
    assert 0 < found.broken < 0.1 * found.tried
    allowed = try_(
        behaviour(kind="invariance", change={"risk": {"add": 0.05}}, expect="same_decision", allowed_share=0.1)
    )
    assert (allowed.broken, allowed.problem) == (found.broken, "")
    assert all(one.decision_before != one.decision_after for one in found.examples)


def test_a_move_within_the_tolerance_does_not_count(try_):
    assert try_(behaviour(kind="invariance", expect="same_score", tolerance=0.5)).broken == 0


def test_rows_that_cannot_be_changed_so_are_skipped(try_, cases):
    found = try_(behaviour(change={"risk": {"add": 11}}))
    assert found.skipped > 0
    assert found.tried + found.skipped == len(cases)
    # A missing income stays missing.
    missing = int(cases.frame.income.isna().sum())
    assert try_(behaviour(change={"income": {"add": 100}})).skipped == missing > 0


def test_where_chooses_rows_and_none_at_all_is_no_success(try_, cases):
    found = try_(behaviour(where={"kind": "fixed"}))
    assert found.tried == int((cases.frame.kind == "fixed").sum())
    nobody = try_(behaviour(where={"kind": "fixed", "risk": 42}))
    assert (nobody.tried, nobody.problem) == (0, "")


def test_at_most_so_many_rows_are_tried_spread_evenly(try_):
    assert 40 <= try_(behaviour(most_rows=50)).tried <= 50


def test_columns_that_are_no_inputs_are_all_named(try_):
    with pytest.raises(CaseSetError) as caught:
        try_(behaviour(change={"group": {"set": "b"}, "kind": {"add": 1}}, where={"colour": "red"}))
    assert caught.value.problems == (
        "more-risk: change: 'group' is not an input",
        "more-risk: where: 'colour' is not an input",
        "more-risk: change: 'kind' is text and can only be set",
    )


def test_everything_wrong_with_a_behaviour_is_said_at_once():
    with pytest.raises(CaseSetError) as caught:
        behaviour(
            id="a b",
            why=" ",
            kind="direction",
            expect="same_score",
            change={"a": {"add": "x"}, "b": {"raise": 1}, "c": {"set": {}}, "d": {"set": [1]}, "e": {"set": [2]}},
            where=[],
            tolerance=-1,
            allowed_share=True,
            most_rows=0,
        )
    found = "\n".join(caught.value.problems)
    for text in (
        "id: expected letters",
        "why: expected a sentence",
        "expect: expected not_lower or not_higher for direction, got 'same_score'",
        "change.a.add: expected a number, got 'x'",
        "change.b: expected one of set, add, multiply, got {'raise': 1}",
        "change.c.set: expected a plain value",
        "change: expected a list of values for one input at most",
        "where: expected a mapping",
        "tolerance: expected a number 0..1, got -1",
        "allowed_share: expected a number 0..1, got True",
        "most_rows: expected a whole number from 1, got 0",
    ):
        assert text in found
    with pytest.raises(CaseSetError, match=r"kind: expected invariance or direction, got 'magic'.*change: expected at"):
        behaviour(kind="magic", change={})


def test_files_are_read_back_as_they_were_meant(tmp_path):
    one = behaviour(tolerance=0.01, where={"kind": ["fixed"]})
    (tmp_path / "more-risk.yaml").write_text(yaml.safe_dump(one.document()))
    assert load_behaviours(tmp_path) == (one,)
    (tmp_path / "other.yaml").write_text("format: 2\nid: x\nwhat: y\n")
    with pytest.raises(CaseSetError) as caught:
        load_behaviours(tmp_path)
    assert "other.yaml: format: expected 1, got 2" in caught.value.problems
    assert "other.yaml: what: unknown key" in caught.value.problems
