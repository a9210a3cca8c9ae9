"""Everything that could decide stands in one table, on the same cases."""

from dataclasses import replace

import numpy as np
import pytest

from nbkit.contract import RowCheck, Thresholds
from nbkit.errors import EvaluationError
from nbkit.evaluate import (
    Behaviour,
    CaseRecord,
    Contender,
    GoldenCase,
    at_equal_rates,
    by_answers,
    by_scores,
    compare_records,
    evaluate_package,
    freeze_cases,
    judge_cases,
)

APPROVE, REFER, DECLINE = 0, 1, 2


@pytest.fixture
def cases(rows, contract, tmp_path):
    return freeze_cases(rows, contract=contract, directory=tmp_path, share=0.9, seed=0)


@pytest.fixture
def package(package_class, pinned, cases):
    return package_class(contract=pinned(cases))


class TestEqualRates:
    def test_the_same_order_decides_the_same_however_it_is_scaled(self):
        scores = np.linspace(0, 1, 10)
        like = np.array([APPROVE] * 5 + [REFER] * 3 + [DECLINE] * 2)
        assert (at_equal_rates("v", scores * 1000 - 7, like=like).decisions == like).all()
        assert (at_equal_rates("v", -scores, like=like, falling=True).decisions == like).all()

    def test_equal_scores_are_decided_alike_the_milder_way(self):
        like = np.array([APPROVE, APPROVE, REFER, DECLINE])
        found = at_equal_rates("v", [1, 2, 2, 2], like=like).decisions
        assert found.tolist() == [APPROVE] * 4
        assert at_equal_rates("v", [1, 2, 2, 3], like=like).decisions.tolist() == [APPROVE, APPROVE, APPROVE, DECLINE]

    def test_all_of_one_decision(self):
        assert at_equal_rates("v", [3, 1, 2], like=np.array([2, 2, 2])).decisions.tolist() == [2, 2, 2]
        assert at_equal_rates("v", [3, 1, 2], like=np.array([0, 0, 0])).decisions.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("scores", "problem"),
        [
            ([1, np.nan, 2], r"v: 1 of 3 scores are missing or infinite \(first rows: 1\)"),
            (["a", "b", "c"], "v: expected a number for every case"),
            ([[1], [2], [3]], r"v: expected one score a case, got shape \(3, 1\)"),
        ],
    )
    def test_what_is_no_score_is_refused(self, scores, problem):
        with pytest.raises(EvaluationError, match=problem):
            at_equal_rates("v", scores, like=np.array([0, 1, 2]))


def test_scores_outside_0_to_1_need_equal_rates():
    with pytest.raises(EvaluationError, match=r"v: 1 of 2 scores are outside 0\.\.1.*compare it at equal rates"):
        by_scores("v", [0.5, 640], kind="vendor", thresholds=Thresholds(refer=0.2, decline=0.4))


def test_answers_are_asked_row_by_row_and_checked(cases, contract):
    check = RowCheck(contract)
    found = by_answers(
        "r", lambda row: "approve" if row["kind"] == "fixed" else None, cases=cases, check=check, kind="rules"
    )
    assert (found.decisions == np.where(cases.frame.kind == "fixed", APPROVE, -1)).all()
    with pytest.raises(EvaluationError, match="r: expected approve, refer, decline or nothing, got 'maybe'"):
        by_answers("r", lambda _: "maybe", cases=cases, check=check, kind="rules")


class TestTable:
    def test_costs_and_differences_are_those_of_the_cost_matrix(self, package, cases):
        everyone = Contender(name="approve all", kind="rules", decisions=np.zeros(len(cases), dtype=int))
        silent = Contender(name="silent", kind="rules", decisions=np.full(len(cases), -1))
        result = evaluate_package(
            package, cases=cases, golden=(), champion=None, champion_version=None, contenders=[everyone, silent]
        )
        own, approving, nothing = result.contenders
        assert own.name == "this version"
        assert own.cost.value == pytest.approx(result.metric("expected_cost").value)
        assert own.auc.value == pytest.approx(result.metric("auc").value)
        assert approving.cost.value == pytest.approx(100 * cases.labels.mean())
        assert approving.cost_difference.value == pytest.approx(approving.cost.value - own.cost.value)
        # Everybody alike ranks nobody.
        assert (approving.auc, approving.auc_difference) == (None, None)
        assert approving.wrong == cases.labels.sum()
        # Somebody has to look at what is not answered.
        assert (nothing.cost.value, nothing.unanswered, nothing.referred.value) == (5.0, len(cases), 0.0)
        assert "approve all" in result.to_html()
        assert type(result).from_json(result.to_json()) == result

    def test_another_number_of_decisions_is_refused(self, package, cases):
        short = Contender(name="short", kind="rules", decisions=np.zeros(3, dtype=int))
        with pytest.raises(EvaluationError, match="short: expected one decision for each of 360 cases"):
            evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None, contenders=[short])


class TestRecord:
    def test_it_is_read_back_as_it_was_and_named_by_its_digest(self, package, cases):
        record = judge_cases(package, cases=cases)
        again = CaseRecord.from_bytes(record.to_bytes())
        assert again.digest == record.digest
        assert (again.ids, again.case_set) == (record.ids, cases.digest)
        for name in ("scores", "labels", "decisions", "costs"):
            assert (getattr(again.judged, name) == getattr(record.judged, name)).all()
        with pytest.raises(EvaluationError, match="record of cases"):
            CaseRecord.from_bytes(b"x")

    def test_two_records_tell_what_became_of_every_case(self, package, package_class, pinned, cases):
        worse = judge_cases(package_class(contract=pinned(cases), slope=0.1), cases=cases)
        better = judge_cases(package, cases=cases)
        found = compare_records(worse, better, confidence=0.95)
        assert found.cost_difference.value == pytest.approx((better.judged.costs - worse.judged.costs).mean())
        assert found.flipped == (better.judged.decisions != worse.judged.decisions).sum() > 0
        moved = [one for one in found.changes if one.champion != one.challenger]
        assert sum(one.positive + one.negative for one in moved) == found.flipped
        wrong = {flip.id for flip in found.flips if flip.kind == "newly wrong"}
        assert len(wrong) == found.mcnemar.newly_wrong

    def test_records_of_other_cases_are_never_compared(self, package, cases):
        record = judge_cases(package, cases=cases)
        other = replace(record, case_set="sha256:" + "0" * 64)
        with pytest.raises(EvaluationError, match=r"the records are of different cases.*--re-evaluate"):
            compare_records(record, other, confidence=0.95)


def test_junit_says_what_failed_and_what_nobody_can_tell(package, cases):
    from xml.etree import ElementTree as ET

    row = {"risk": -3.0, "income": 2000.0, "kind": "fixed", "owner": True}
    result = evaluate_package(
        package,
        cases=cases,
        golden=[
            GoldenCase(id="safe", why="w", inputs=row, expect={"decision": "approve"}),
            GoldenCase(id="odd", why="a < b\x01", inputs=row, expect={"decision": "decline"}, record={"id": "r"}),
        ],
        champion=None,
        champion_version=None,
        behaviours=[
            Behaviour(
                id="r", why="w", kind="direction", change={"risk": {"add": 1}}, expect="not_higher", where={"risk": 99}
            )
        ],
    )
    root = ET.fromstring(result.to_junit())  # noqa: S314  our own text
    found = {suite.get("name"): suite for suite in root}
    assert (found["golden cases"].get("failures"), found["incident cases"].get("failures")) == ("0", "1")
    failure = found["incident cases"].find("testcase/failure")
    assert failure.get("message") == "expected decline, got approve"
    assert failure.text.endswith("a < b?")
    assert found["behaviours"].get("skipped") == "1"
    assert found["behaviours"].find("testcase/skipped").get("message") == "no case can be changed so"
