from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nbkit.contract import Thresholds
from nbkit.errors import PackageError
from nbkit.package import Package
from nbkit.serve import Judge, Rules, decide, fallback_decision


@pytest.fixture(scope="module")
def rules(package: Package) -> Rules:
    return Rules.from_package(package)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def test_a_low_score_is_approved_without_reasons(lender: Any, package: Package, rules: Rules) -> None:
    decision = decide(package, lender.GOOD, rules=rules)
    assert (decision.decision, decision.reasons, decision.route) == ("approve", (), "model")
    assert decision.score == package.score(lender.GOOD)


def test_a_high_score_is_declined_with_the_inputs_that_pushed(lender: Any, package: Package, rules: Rules) -> None:
    decision = decide(package, lender.BAD, rules=rules)
    assert (decision.decision, decision.reasons) == ("decline", ("R02", "R01"))
    judgement = Judge.of(package).after(lender.BAD, package.score(lender.BAD))
    assert judgement.texts["R02"] == "Excessive obligations in relation to income"
    assert judgement.reasons_missing == ""


def test_deciding_again_gives_the_same_bits(lender: Any, package: Package, rules: Rules) -> None:
    first, again = (decide(package, lender.BAD, rules=rules) for _ in range(2))
    assert first == again


def test_scores_at_the_thresholds_take_the_stricter_decision(package: Package, lender: Any) -> None:
    judge = Judge.of(package)
    found = [judge.after(lender.BAD, score).decision.decision for score in (0.4 - 1e-12, 0.4, 0.7 - 1e-12, 0.7)]
    assert found == ["approve", "refer", "refer", "decline"]


@pytest.mark.parametrize(
    "score", [0.0, -0.0, 0.2, math.nextafter(0.4, 0), 0.4, math.nextafter(0.4, 1), math.nextafter(0.7, 0), 0.7, 1.0]
)
def test_what_is_plain_is_what_the_steps_come_to(package: Package, lender: Any, score: float) -> None:
    judge = Judge(package, rules=Rules())
    weighed = judge.weigh(lender.GOOD, score)
    assert (judge.plain(score) is None) == weighed.adverse
    assert judge.plain(score) in (None, judge.conclude(weighed))
    # Here rules follow the model, and have to be asked.
    assert Judge.of(package).plain(score) is None


@pytest.mark.parametrize("score", [math.nan, -math.inf, -1e-9, math.nextafter(1.0, 2), math.inf])
def test_what_is_no_probability_is_not_plain(package: Package, lender: Any, score: float) -> None:
    judge = Judge(package, rules=Rules())
    assert judge.plain(score) is None
    with pytest.raises(PackageError, match="score: expected"):
        judge.after(lender.GOOD, score)


def test_a_rule_before_the_model_decides_without_a_score(lender: Any, package: Package, rules: Rules) -> None:
    decision = decide(package, lender.BAD | {"ratio": 1.0}, rules=rules)
    assert (decision.decision, decision.score, decision.route) == ("decline", None, "rules:overcommitted")
    assert decision.reasons == ("R02",)


def test_a_rule_after_the_model_puts_its_reason_first(lender: Any, package: Package, rules: Rules) -> None:
    decision = decide(package, lender.BAD | {"income": 0.1}, rules=rules)
    assert (decision.decision, decision.route) == ("refer", "rules:no-income")
    assert decision.reasons[0] == "R01"
    assert set(decision.reasons) == {"R01", "R02"}


def test_a_rule_that_refers_what_the_model_approves_gives_only_its_own_reason(package: Package, lender: Any) -> None:
    judgement = Judge.of(package).after(lender.GOOD | {"income": 0.1}, 0.01)
    assert (judgement.decision.decision, judgement.decision.reasons) == ("refer", ("R01",))


def test_a_rule_that_approves_gives_no_reasons(lender: Any, folder: Path) -> None:
    graph = lender.rules_graph({"phase": "'after'", "decision": "'approve'", "rule": "'staff'"})
    package = lender.make_package(folder / "approves", rules=graph)
    decision = decide(package, lender.BAD, rules=Rules.from_package(package))
    assert (decision.decision, decision.reasons, decision.route) == ("approve", (), "rules:staff")


def test_a_rule_may_give_its_reason_in_words(lender: Any, folder: Path) -> None:
    words = "We do not lend for this purpose"
    graph = lender.rules_graph({"phase": "'before'", "decision": "'decline'", "rule": "'x'", "reason": f"'{words}'"})
    judgement = Judge.of(lender.make_package(folder / "words", rules=graph)).before(lender.BAD)
    assert judgement is not None
    assert judgement.texts == {words: words}


@pytest.mark.parametrize("phase", ["before", "after", "fallback"])
def test_a_rule_never_says_that_a_missing_value_was_too_low(lender: Any, folder: Path, phase: str) -> None:
    graph = lender.rules_graph(
        {"phase": f"'{phase}'", "income": "null", "decision": "'refer'", "rule": "'x'", "reason": "'R01'"}
    )
    judge = Judge.of(lender.make_package(folder / phase, rules=graph))
    row = lender.BAD | {"income": None}
    asked = {"before": judge.before, "after": lambda one: judge.after(one, 0.01), "fallback": judge.fallback}
    judgement = asked[phase](row)
    assert judgement is not None
    assert judgement.texts == {"R01": "Unable to verify income"}


def test_without_a_reason_book_nobody_is_declined(lender: Any, folder: Path) -> None:
    package = lender.make_package(folder / "no-book", reasons=None)
    judgement = Judge.of(package).after(lender.BAD, 0.99)
    assert (judgement.decision.decision, judgement.decision.score) == ("refer", 0.99)
    assert "holds no reasons.yaml" in judgement.reasons_missing
    assert judgement.reasons_missing.endswith("referred instead of declined")


def test_without_exact_contributions_nobody_is_declined(lender: Any, folder: Path) -> None:
    package = lender.make_package(folder / "naive", compiled=False)
    judgement = Judge.of(package).after(lender.BAD, package.score(lender.BAD))
    assert judgement.decision.decision == "refer"
    assert "the model is not compiled" in judgement.reasons_missing


def test_where_nothing_pushed_towards_declining_nobody_is_declined(lender: Any, folder: Path) -> None:
    package = lender.make_package(folder / "strict", thresholds=Thresholds(refer=0.0, decline=0.0))
    judgement = Judge.of(package).after({"income": 80.0, "ratio": 0.0, "purpose": "car"}, 0.5)
    assert (judgement.decision.decision, judgement.decision.reasons) == ("refer", ())
    assert (
        judgement.reasons_missing
        == "no input of which a text is true pushed the score up; referred instead of declined"
    )


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1, float("inf")])
def test_what_is_no_probability_is_refused(package: Package, lender: Any, score: float) -> None:
    with pytest.raises(PackageError, match=r"score: expected 0\.\.1, got"):
        Judge.of(package).after(lender.BAD, score)


def test_the_fallback_asks_the_rules_and_then_the_default(lender: Any, package: Package, rules: Rules) -> None:
    good, other = (fallback_decision(package, row, rules=rules) for row in (lender.GOOD, lender.BAD))
    assert good is not None
    assert (good.decision, good.fallback, good.route, good.score) == ("approve", "rules", "rules:plainly-good", None)
    assert other is not None
    assert (other.decision, other.fallback, other.route) == ("refer", "default", "default")


def test_a_fallback_may_ask_the_caller_to_come_again(lender: Any, folder: Path) -> None:
    contract = lender.make_contract(serve={"fallback": ["rules", "retry"]})
    package = lender.make_package(folder / "retry", contract=contract)
    assert fallback_decision(package, lender.BAD, rules=Rules.from_package(package)) is None


def test_a_default_never_declines_because_it_has_no_reason(lender: Any, folder: Path) -> None:
    contract = lender.make_contract(serve={"fallback": ["default"], "default": "decline"})
    judgement = Judge.of(lender.make_package(folder / "default", contract=contract)).fallback(lender.BAD)
    assert judgement is not None
    assert judgement.decision.decision == "refer"
    assert judgement.reasons_missing == "the default answered, which looks at nothing; referred instead of declined"


def test_rules_that_fail_leave_the_fallback_to_the_default(lender: Any, folder: Path) -> None:
    graph = lender.rules_graph({"phase": "'fallback'", "decision": "purpose", "rule": "'broken'"})
    judgement = Judge.of(lender.make_package(folder / "broken", rules=graph)).fallback(lender.BAD)
    assert judgement is not None
    assert judgement.decision.fallback == "default"
