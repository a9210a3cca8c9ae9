"""What a ``%nbkit`` line means."""

from __future__ import annotations

import pytest

from nbkit.errors import UsageError
from nbkit.magics._parse import VERBS, options_of, overview, parse


def test_every_verb_has_help_that_names_its_options() -> None:
    for verb, (_, description) in VERBS.items():
        text = parse(f"{verb} --help").help
        assert description in text
        assert all(option in text for option in options_of(verb))
        assert verb in overview()


def test_an_unknown_verb_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown verb 'evalute'; did you mean 'evaluate'\?.*Next: %nbkit --help"):
        parse("evalute")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("gate mortgage@1", "--to"),
        ("freeze", "frame"),
        ("freeze applications --share lots", "invalid float value: 'lots'"),
        ("package model --training 'rows", "No closing quotation"),
        ("evaluate mortgage --fast", "unrecognized arguments: --fast"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_leaves_the_kernel_alive(line: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line)
    assert problem in str(caught.value)


def test_a_result_can_be_kept_in_a_variable() -> None:
    call = parse("gate mortgage@3 --to staging >> table")
    assert (call.verb, call.arguments.target, call.arguments.to, call.variable) == (
        "gate",
        "mortgage@3",
        "staging",
        "table",
    )


def test_an_empty_line_shows_the_overview() -> None:
    assert parse("").help == parse("--help").help == overview()
