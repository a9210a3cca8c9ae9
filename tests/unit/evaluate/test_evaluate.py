"""A package is judged on the pinned cases; the champion on the very same ones."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nbkit.contract import Thresholds
from nbkit.errors import CaseSetError, EvaluationError, PackageError
from nbkit.evaluate import EvaluationResult, GoldenCase, evaluate_package, freeze_cases
from nbkit.gates import require_cases, require_fairness, require_golden, require_no_regression
from nbkit.records import Decision, Verdict

ROW = {"risk": -3.0, "income": 2000.0, "kind": "fixed", "owner": True}


@pytest.fixture
def cases(rows, contract, tmp_path):
    return freeze_cases(rows, contract=contract, directory=tmp_path, share=0.9, seed=0)


@pytest.fixture
def package(package_class, pinned, cases):
    return package_class(contract=pinned(cases))


@pytest.fixture
def evaluate(package, cases):
    def call(package=package, **changes):
        given = {"cases": cases, "golden": (), "champion": None, "champion_version": None}
        return evaluate_package(package, **(given | changes))

    return call


def golden(**changes):
    return GoldenCase(
        **({"id": "safe", "why": "It is safe.", "inputs": ROW, "expect": {"decision": "approve"}} | changes)
    )


class TestResult:
    def test_everything_is_measured_on_the_cases(self, evaluate, cases, contract):
        result = evaluate()
        assert {metric.n for metric in result.metrics} == {len(cases)}
        assert sum(row.positive + row.negative for row in result.confusion) == len(cases)
        assert sum(row.positive for row in result.confusion) == result.case_set.positives == cases.labels.sum()
        assert result.case_set.digest == result.case_set.pinned == cases.digest
        assert result.metric("auc").value > 0.7
        with pytest.raises(KeyError):
            result.metric("recall")

    def test_expected_cost_is_the_mean_of_the_cost_matrix(self, evaluate):
        result = evaluate()
        money = {"approve": (100, 0), "refer": (5, 5), "decline": (0, 20)}
        total = sum(
            row.positive * money[row.decision][0] + row.negative * money[row.decision][1] for row in result.confusion
        )
        assert result.metric("expected_cost").value == pytest.approx(total / result.case_set.cases)

    def test_the_same_seed_gives_the_same_json_and_another_seed_does_not(self, evaluate):
        assert evaluate().to_json() == evaluate().to_json() != evaluate(seed=1).to_json()

    def test_json_is_canonical_and_read_back_equal(self, evaluate, package):
        result = evaluate(golden=[golden()], champion=package, champion_version=2, alternatives={"tree": {"auc": 0.7}})
        document = json.loads(result.to_json())
        assert (document["format"], document["package_digest"]) == (2, package.digest)
        assert document["facts"] == json.loads(json.dumps(result.facts()))
        assert EvaluationResult.from_json(result.to_json()) == result
        assert EvaluationResult.from_json(result.to_json().encode()) == result

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"format": 3}', "format: expected at most 2, got 3"),
            ("{}", "format: expected at most 2, got None"),
            ("[]", "evaluation: Expected `object`, got `array`"),
            ("nonsense", "evaluation: JSON is malformed"),
            ('{"format": 1, "result": {"model": 1}}', r"evaluation: Expected `str`, got `int` - at `\$\.model`"),
            ('{"format": 1}', "evaluation: Expected `object`, got `null`"),
        ],
    )
    def test_other_json_is_refused(self, text, message):
        with pytest.raises(EvaluationError, match=message):
            EvaluationResult.from_json(text)

    def test_the_summary_begins_with_the_verdict(self, evaluate, package):
        assert evaluate(golden=[golden()]).summary_line.startswith("no objection")
        line = evaluate(
            golden=[golden(expect={"decision": "decline"})], champion=package, champion_version=4
        ).summary_line
        assert line.startswith("1 objection")
        assert line.endswith("on 360 cases; like version 4")

    def test_a_single_positive_case_gives_figures_without_intervals(
        self, evaluate, rows, contract, pinned, package_class, tmp_path
    ):
        rare = rows.assign(bad=(rows.index == 7).astype(int))
        cases = freeze_cases(rare, contract=contract, directory=tmp_path, name="rare", share=1.0, seed=0)
        package = package_class(contract=pinned(cases))
        result = evaluate(package, cases=cases, champion=package, champion_version=1)
        assert result.metric("auc").low is None
        assert f"AUC {result.metric('auc').value:.3f}, cost per case" in result.summary_line
        assert result.champion.reason == "a label occurs too rarely for an interval"
        assert "no interval" in result.to_html()

    def test_progress_goes_from_nothing_to_done(self, evaluate):
        told = []
        evaluate(progress=lambda share, message: told.append((share, message)))
        assert (told[0], told[-1]) == ((0.0, "scoring the cases"), (1.0, "done"))
        assert [share for share, _ in told] == sorted(share for share, _ in told)

    def test_the_facts_are_what_the_gates_read(self, evaluate, package):
        facts = evaluate(golden=[golden()], champion=package, champion_version=2).facts()
        for gate in (require_cases(), require_golden(), require_no_regression()):
            assert gate(facts).verdict is Verdict.PASS
        assert "not among the facts" not in require_fairness()(facts).reason

    @pytest.mark.parametrize(("told", "gaps"), [("a", ""), (None, "; 120 have no group")])
    def test_an_attribute_that_no_case_tells_anything_about_never_passes(
        self, evaluate, rows, contract, pinned, package_class, tmp_path, told, gaps
    ):
        alike = rows.assign(group=told)
        cases = freeze_cases(alike, contract=contract, directory=tmp_path, name="one", share=0.3, seed=0)
        result = evaluate(package_class(contract=pinned(cases)), cases=cases)
        assert (
            f"approval of group 'any other' against 'a': no case has a group to compare{gaps}" in result.open_questions
        )
        (group,) = result.facts()["fairness"]["groups"]
        assert (group["n"], group["approval_rate"], group["impact_ratio"]) == (0, None, None)
        gate = require_fairness()(result.facts())
        assert (gate.verdict, "group any other (not measured)" in gate.reason) == (Verdict.CANNOT_TELL, True)
        assert EvaluationResult.from_json(result.to_json()) == result

    def test_notebooks_show_the_summary_line(self, evaluate):
        assert "AUC" in evaluate()._repr_html_()


class TestDecisions:
    def test_thresholds_alone_decide_unless_something_else_does(self, evaluate):
        result = evaluate()
        assert (result.decided_by, result.ruled) == ("thresholds", 0)

    def test_rules_decide_as_the_service_would_and_change_what_decisions_cost(self, evaluate, package, cases):
        def refer_all(columns, scores):
            assert list(columns) == ["risk", "income", "kind", "owner"]
            return np.ones(len(scores), dtype=np.int64)

        plain, ruled = evaluate(), evaluate(decide_all=refer_all)
        assert ruled.metric("refer_rate").value == 1.0
        assert ruled.metric("expected_cost").value == 5.0
        assert ruled.decided_by == "rules and thresholds"
        assert ruled.ruled == len(cases) - sum(row.positive + row.negative for row in plain.confusion[1:2])
        assert ruled.metric("auc") == plain.metric("auc")

    def test_the_champion_is_decided_by_its_own_rules(self, evaluate, package):
        def refer_all(_, scores):
            return np.ones(len(scores), dtype=np.int64)

        found = evaluate(champion=package, champion_version=1, decide_all_champion=refer_all).champion
        assert {change.champion for change in found.changes} == {"refer"}

    def test_a_golden_case_that_only_the_champion_passes_is_named(self, evaluate, package):
        case = golden(expect={"decision": "refer"})
        found = evaluate(
            golden=[case],
            champion=package,
            champion_version=1,
            decide_champion=lambda row: Decision(decision="refer", score=0.5),
        )
        assert found.champion.golden_newly_failed == ("safe",)
        assert evaluate(golden=[case], champion=package, champion_version=1).champion.golden_newly_failed == ()


class TestSlices:
    def test_categories_and_quartiles_and_missing_values_each_cover_all_cases(self, evaluate, cases):
        slices = evaluate().slices
        for column in ("kind", "risk"):
            assert sum(one.n for one in slices if one.column == column) == len(cases)
        assert [one.level for one in slices if one.column == "kind"] == ["adjustable", "fixed", "missing"]
        ranges = [one.level for one in slices if one.column == "risk"]
        assert len(ranges) == 4
        assert ranges[0].startswith("up to ")
        assert " up to " in ranges[1]
        assert ranges[3].startswith("above ")

    def test_a_range_that_holds_nothing_is_left_out(self, evaluate, rows, contract, pinned, package_class, tmp_path):
        capped = rows.assign(risk=rows.risk.clip(upper=-1.5))
        cases = freeze_cases(capped, contract=contract, directory=tmp_path, name="capped", share=1.0, seed=0)
        slices = [
            one for one in evaluate(package_class(contract=pinned(cases)), cases=cases).slices if one.column == "risk"
        ]
        assert sum(one.n for one in slices) == len(cases)
        assert [one.level for one in slices][-1].endswith("up to -1.5")

    def test_a_slice_with_one_label_says_so(self, evaluate, rows, contract, pinned, package_class, tmp_path):
        sure = rows.assign(bad=np.where(rows.kind == "fixed", 0, rows.bad))
        cases = freeze_cases(sure, contract=contract, directory=tmp_path, name="sure", share=1.0, seed=0)
        result = evaluate(package_class(contract=pinned(cases)), cases=cases)
        fixed = next(one for one in result.slices if one.level == "fixed")
        assert (fixed.positives, fixed.auc, fixed.note) == (0, None, "one label only: no AUC")

    def test_a_slice_that_ranks_surely_worse_says_so(self, evaluate, rows, contract, pinned, package_class, tmp_path):
        upside_down = rows.assign(bad=np.where(rows.kind == "fixed", (rows.risk < -1), (rows.risk > -1)).astype(int))
        cases = freeze_cases(upside_down, contract=contract, directory=tmp_path, name="down", share=1.0, seed=0)
        result = evaluate(package_class(contract=pinned(cases)), cases=cases)
        assert [one.level for one in result.slices if one.note == "ranks worse than on all cases"] == ["fixed"]


class TestRefusing:
    @pytest.mark.parametrize(
        ("scores", "text"),
        [
            (lambda n: np.full(n, np.nan), r"360 of 360 are NaN \(first ids: 1000, "),
            (lambda n: np.where(np.arange(n) == 1, 1.5, 0.5), "1 of 360 are outside 0..1"),
            (lambda n: np.where(np.arange(n) == 1, -0.1, 0.5), "1 of 360 are outside 0..1"),
            (lambda n: np.full(n - 1, 0.5), r"expected one for each of 360 cases, got shape \(359,\)"),
            (lambda n: np.full((n, 2), 0.5), r"got shape \(360, 2\)"),
        ],
    )
    def test_scores_that_are_none_are_refused(self, evaluate, package, scores, text):
        with pytest.raises(EvaluationError, match=text):
            evaluate(Odd(package, scores))

    def test_other_cases_than_the_pinned_are_refused(self, evaluate, rows, contract, tmp_path):
        other = freeze_cases(rows, contract=contract, directory=tmp_path, name="other", share=0.5, seed=3)
        with pytest.raises(CaseSetError, match=r"the package's contract pins sha256:.*, the cases are sha256:"):
            evaluate(cases=other)

    def test_cases_without_a_column_of_the_contract_are_refused(self, evaluate, package_class, make_contract):
        inputs = [{"name": "brand_new", "type": "number"}, {"name": "risk", "type": "number"}]
        with pytest.raises(CaseSetError, match="the cases lack columns of the contract: 1 problem: brand_new: missing"):
            evaluate(package_class(contract=make_contract(inputs=inputs, evaluate={})))

    def test_a_champion_needs_its_version(self, evaluate, package):
        with pytest.raises(EvaluationError, match="champion_version: expected the champion's version, got None"):
            evaluate(champion=package)


@dataclass
class Odd:
    """A package whose scores are what a test wants."""

    like: object
    scores: object

    def __getattr__(self, name):
        return getattr(self.like, name)

    def score_frame(self, frame):
        return self.scores(len(frame))


class TestChampion:
    def test_the_same_model_makes_no_difference(self, evaluate, package):
        found = evaluate(champion=package, champion_version=3).champion
        assert (found.version, found.verdict, found.newly_wrong) == (3, "no difference", ())
        assert (found.auc_difference.value, found.cost_difference.value) == (0, 0)

    def test_a_champion_that_guesses_is_beaten_and_the_other_way_round(self, evaluate, package, cases):
        guess = Odd(package, lambda n: np.random.default_rng(2).random(n))
        better = evaluate(champion=guess, champion_version=1)
        assert (better.champion.verdict, better.champion.reason) == (
            "better",
            "ranks better and costs less",
        )
        worse = evaluate(guess, champion=package, champion_version=1)
        assert worse.champion.verdict == "worse"
        assert worse.verdict == "fail"
        assert any(text.startswith("worse than version 1: ranks worse") for text in worse.objections)
        assert set(worse.champion.newly_wrong) == set(better.champion.newly_right)
        assert worse.champion.auc_difference.value == pytest.approx(-better.champion.auc_difference.value)

    def test_each_version_uses_its_own_thresholds(self, evaluate, package):
        lax = replace(package, thresholds=Thresholds(refer=1.0, decline=1.0))
        found = evaluate(champion=lax, champion_version=1).champion
        assert found.auc_difference.value == 0
        assert found.cost_difference.value < 0
        assert (found.verdict, found.reason) == ("better", "costs less")

    def test_a_champion_of_another_target_cannot_be_compared(self, evaluate, package, make_contract):
        target = {"column": "late", "positive": 1, "meaning": "late", "label_delay_days": 1}
        found = evaluate(champion=replace(package, contract=make_contract(target=target)), champion_version=2)
        assert found.champion.verdict == "cannot tell"
        assert found.champion.reason == "it predicts late == 1, this one bad == 1"
        assert "against version 2: it predicts late == 1, this one bad == 1" in found.open_questions
        assert found.summary_line.endswith("cannot tell against version 2")

    def test_a_champion_whose_inputs_the_cases_lack_cannot_be_compared(self, evaluate, package, make_contract):
        inputs = [{"name": "old", "type": "number"}]
        champion = replace(package, contract=make_contract(inputs=inputs, evaluate={}))
        found = evaluate(champion=champion, champion_version=2).champion
        assert (found.verdict, found.reason) == ("cannot tell", "the cases lack its inputs old")
        assert (found.auc_difference, found.cost_difference) == (None, None)

    def test_a_champion_that_cannot_score_cannot_be_compared(self, evaluate, package):
        def broken(_):
            raise PackageError("model.skops: gone")

        for champion, reason in (
            (Odd(package, broken), "model.skops: gone"),
            (Odd(package, lambda n: [np.nan] * n), "NaN"),
        ):
            found = evaluate(champion=champion, champion_version=2).champion
            assert found.verdict == "cannot tell"
            assert reason in found.reason

    def test_both_are_scored_on_one_case_set(self, evaluate, package, cases):
        found = evaluate(champion=package, champion_version=2)
        assert found.champion.case_set == found.case_set.digest == cases.digest


class TestGolden:
    def test_a_case_decided_as_expected_passes(self, evaluate):
        (found,) = evaluate(golden=[golden(expect={"decision": ["approve", "refer"], "score_max": 0.2})]).golden
        assert (found.problem, found.decision, found.expected) == ("", "approve", "approve or refer, score 0 to 0.2")
        assert found.score == pytest.approx(1 / (1 + np.exp(3)))

    def test_a_case_decided_otherwise_fails_with_both(self, evaluate):
        result = evaluate(golden=[golden(expect={"decision": "decline", "score_min": 0.9})])
        assert result.golden[0].problem == "expected decline, got approve; expected a score from 0.9 to 1, got 0.0474"
        assert result.objections == ("1 of 1 golden cases failed (safe)",)
        assert result.facts()["golden"]["failed"] == [{"id": "safe", "problem": result.golden[0].problem}]

    def test_inputs_that_break_the_contract_fail(self, evaluate):
        (found,) = evaluate(golden=[golden(inputs=ROW | {"kind": "floating"})]).golden
        assert "$.kind: expected one of 'fixed', 'adjustable', got 'floating'" in found.problem
        assert (found.decision, found.score) == ("", None)

    def test_reason_codes_cannot_pass_unless_they_are_computed(self, evaluate):
        (found,) = evaluate(golden=[golden(expect={"reason_present": "R01"})]).golden
        assert found.problem == "expects reason codes, which were not computed in this evaluation"

    def test_production_can_be_asked_for_the_answer(self, evaluate):
        asked = []

        def decide(row):
            asked.append(dict(row))
            return Decision(decision="decline", score=None, reasons=("R01",), route="rules:bankrupt")

        expectations = [
            {"decision": "decline", "reason_present": "R01", "reason_absent": "R02"},
            {"reason_present": ["R02"], "reason_absent": ["R01"]},
            {"score_min": 0.5},
        ]
        cases = [golden(id=f"case-{n}", expect=expect) for n, expect in enumerate(expectations)]
        found = evaluate(golden=cases, decide=decide).golden
        assert asked[0] == ROW | {"owner": 1.0}
        assert found[0].problem == ""
        assert (
            found[1].problem == "expected reason R02, which was not given; reason R01 was given, which was not expected"
        )
        assert found[2].problem == "expected a score from 0.5 to 1, a rule answered without one"

    def test_no_golden_case_is_an_open_question(self, evaluate):
        result = evaluate()
        assert "no golden case exists" in result.open_questions
        assert result.verdict == "cannot tell"
