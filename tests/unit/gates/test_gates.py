"""Gates say pass, fail or cannot tell, always with a reason that a reviewer can read."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbkit.gates
from nbkit.contract import GateSpec
from nbkit.gates import (
    GATES,
    gate_from_spec,
    require_at_least,
    require_at_most,
    require_behaviours,
    require_canary,
    require_cases,
    require_fairness,
    require_golden,
    require_monitoring,
    require_no_regression,
    require_owner,
    require_parity,
    require_rationale,
    require_rehearsal,
    require_reproduction,
    require_scan,
    require_shadow,
    run_gates,
)
from nbkit.records import GateResult, Verdict, may_be_waived

PASS, FAIL, CANNOT_TELL = Verdict.PASS, Verdict.FAIL, Verdict.CANNOT_TELL
STABILITY_SHARES = ("background_share", "twin_share", "noise_share", "worst_share")
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def group(**changes):
    return {
        "attribute": "race",
        "group": "black",
        "reference": "white",
        "n": 60,
        "impact_ratio": 0.95,
        "low": 0.88,
        "high": 1.02,
        "verdict": "pass",
        "n_that_would_tell": None,
    } | changes


def champion(**changes):
    return {
        "version": 3,
        "case_set": A,
        "auc_difference": {"value": 0.01, "low": 0.002, "high": 0.018},
        "cost_difference": {"value": -12.5, "low": -20.0, "high": -5.0},
        "verdict": "better",
        "newly_wrong": 4,
        "newly_right": 9,
    } | changes


def facts(**changes):
    return {
        "parity": {"compiled": True, "max_abs": 2e-16, "tolerance": 1e-12, "rows": 1200, "reason": ""},
        "case_set": {"digest": A, "pinned": A, "cases": 597, "positives": 73},
        "metrics": {
            "auc": {"value": 0.83, "low": 0.77, "high": 0.88},
            "ece": {"value": 0.03, "low": None, "high": None},
        },
        "golden": {"total": 2, "failed": []},
        "behaviours": {"total": 2, "tried": 1190, "failed": [], "untried": []},
        "champion": champion(),
        "fairness": {"floor": 0.8, "groups": [group()]},
        "rationale": {"written": True, "missing": [], "stale": []},
        "owner": {"team": "Risk", "primary": "Ada", "deputy": "Sam"},
        "scan": {"problems": []},
        "stability": {"rows": 200, **{key: {"value": 0.02, "low": 0.01, "high": 0.05} for key in STABILITY_SHARES}},
        "monitoring": {"missing": [], "inputs": 16, "rows": 1392, "alert": "owner", "label_delay_days": 60},
        "reproduction": {
            "by": "Sam",
            "expires_on": "2027-02-01",
            "problem": "",
            "identical": True,
            "differs": [],
            "cases": 597,
        },
        "rehearsal": {
            "by": "Sam",
            "expires_on": "2027-02-01",
            "problem": "",
            "steps": ["train again", "roll back (dry run)"],
        },
        "shadow": trial(),
        "canary": trial(disagreement_share=None),
        "limits": {
            "beside_champion": True,
            "shadow_days": 7,
            "minimum_decisions": 200,
            "error_share_ceiling": 0.01,
            "fallback_share_ceiling": 0.05,
            "disagreement_share_ceiling": 0.2,
            "p99_ms_ceiling": 50.0,
        },
    } | changes


def trial(**changes):
    return {
        "days": 8,
        "decisions": 12_000,
        "error_share": 0.0,
        "fallback_share": 0.002,
        "disagreement_share": 0.03,
        "p99_ms": 4.5,
    } | changes


def test_every_exported_name_resolves():
    for name in nbkit.gates.__all__:
        assert getattr(nbkit.gates, name) is not None


def test_every_gate_passes_on_good_facts():
    specs = [GateSpec(gate=name) for name in GATES if name not in ("at_least", "at_most", "stability")]
    specs += [GateSpec(gate="at_least", metric="auc", value=0.75), GateSpec(gate="at_most", metric="ece", value=0.1)]
    specs += [GateSpec(gate="stability", value=0.1)]
    results = run_gates(specs, facts=facts())
    assert len(results) == len(GATES)
    assert [(result.gate, result.reason) for result in results if not result.passed] == []
    assert all(result.reason for result in results)


def test_every_gate_says_cannot_tell_when_its_facts_are_missing():
    specs = [GateSpec(gate=name) for name in GATES if name not in ("at_least", "at_most", "stability")]
    specs += [GateSpec(gate="at_least", metric="auc", value=0.75), GateSpec(gate="at_most", metric="ece", value=0.1)]
    specs += [GateSpec(gate="stability", value=0.1)]
    for result in run_gates(specs, facts={}):
        assert result.verdict is CANNOT_TELL
        assert "is not among the facts" in result.reason
        assert result.next_step


def test_a_stage_without_gates_does_not_pass():
    (result,) = run_gates([], facts=facts())
    assert (result.verdict, result.reason) == (CANNOT_TELL, "no gate is listed for this stage")


class TestSpecs:
    def test_an_unknown_gate_names_the_nearest(self):
        result = gate_from_spec(GateSpec(gate="fairnes"))(facts())
        assert result.verdict is CANNOT_TELL
        assert result.reason == "no gate is called 'fairnes'; did you mean 'fairness'?"
        assert result.next_step == "correct gates in contract.yaml"

    def test_an_unknown_gate_without_a_neighbour_lists_all(self):
        reason = gate_from_spec(GateSpec(gate="zzz"))(facts()).reason
        assert reason == f"no gate is called 'zzz'; the gates are {', '.join(GATES)}"

    @pytest.mark.parametrize("spec", [{"metric": "auc"}, {"value": 0.5}, {}])
    def test_a_limit_needs_metric_and_value(self, spec):
        result = gate_from_spec(GateSpec(gate="at_least", **spec))(facts())
        assert (result.verdict, result.reason) == (CANNOT_TELL, "at_least needs a metric and a value")

    @pytest.mark.parametrize("spec", [{"metric": "auc"}, {"value": 0.5}])
    def test_other_gates_take_neither(self, spec):
        result = gate_from_spec(GateSpec(gate="golden", **spec))(facts())
        assert (result.verdict, result.reason) == (CANNOT_TELL, "golden takes neither metric nor value")


class TestLimits:
    def test_the_reason_gives_figure_and_floor(self):
        result = require_at_least("recall", 0.80)({"recall": 0.78})
        assert (result.gate, result.verdict) == ("at_least:recall", FAIL)
        assert result.reason == "recall is 0.780, below the floor 0.800"

    def test_the_reason_gives_the_interval_when_there_is_one(self):
        assert (
            require_at_least("auc", 0.75)(facts()).reason == "auc is 0.830 (0.770 to 0.880), reaching the floor 0.750"
        )
        assert require_at_most("ece", 0.1)(facts()).reason == "ece is 0.030, within the ceiling 0.100"

    def test_above_the_ceiling_fails(self):
        result = require_at_most("ece", 0.02)(facts())
        assert (result.verdict, result.reason) == (FAIL, "ece is 0.030, above the ceiling 0.020")

    def test_a_near_miss_is_written_in_full(self):
        reason = require_at_least("auc", 0.75)({"metrics": {"auc": 0.74999}}).reason
        assert reason == "auc is 0.74999, below the floor 0.75"

    @given(value=st.floats(allow_nan=False, allow_infinity=False), limit=st.floats(-1e6, 1e6))
    @settings(deadline=None, derandomize=True)
    def test_floor_and_ceiling_agree_with_comparison(self, value, limit):
        given_facts = {"metrics": {"m": {"value": value, "low": value, "high": value}}}
        assert require_at_least("m", limit)(given_facts).passed == (value >= limit)
        assert require_at_most("m", limit)(given_facts).passed == (value <= limit)

    @pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.9", True, [0.9]])
    def test_what_is_not_a_finite_number_never_passes(self, value):
        for shape in ({"m": value}, {"metrics": {"m": value}}, {"metrics": {"m": {"value": value}}}):
            for gate in (require_at_least("m", -1e9), require_at_most("m", 1e9)):
                result = gate(shape)
                assert result.verdict is CANNOT_TELL
                assert "not a finite number" in result.reason

    @pytest.mark.parametrize("limit", [math.nan, math.inf, True])
    def test_a_limit_that_is_not_a_finite_number_never_passes(self, limit):
        result = require_at_least("auc", limit)(facts())
        assert result.verdict is CANNOT_TELL
        assert result.reason == f"the floor is {limit!r}, not a finite number"


class TestParity:
    def test_a_difference_above_the_tolerance_fails(self):
        result = require_parity()(facts(parity=facts()["parity"] | {"max_abs": 3e-9}))
        assert result.verdict is FAIL
        assert result.reason == (
            "plan and fitted model differ by at most 3.0e-09 on 1,200 rows, above the tolerance 1.0e-12"
        )

    def test_a_model_without_a_plan_passes_when_it_says_why(self):
        result = require_parity()({"parity": {"compiled": False, "reason": "SVC has no exact plan"}})
        assert result.verdict is PASS
        assert (
            result.reason == "not compiled (SVC has no exact plan); the fitted model itself is served in micro-batches"
        )

    @pytest.mark.parametrize(
        ("parity", "reason"),
        [
            ({"compiled": False, "reason": " "}, "the model is not compiled and the package does not say why"),
            ({"compiled": "yes"}, "parity.compiled is 'yes', neither true nor false"),
            ({"compiled": True, "rows": 0}, "plan and fitted model were compared on no row"),
            ({"compiled": True, "rows": -1}, "parity.rows is -1, not a count"),
            ({"compiled": True, "rows": 5, "max_abs": math.nan}, "parity.max_abs is nan, not a finite number"),
            (
                {"compiled": True, "rows": 5, "max_abs": -1.0, "tolerance": 1e-12},
                "plan and fitted model differ by at most -1.0e+00 on 5 rows: a difference cannot be negative",
            ),
        ],
    )
    def test_what_is_not_known_never_passes(self, parity, reason):
        result = require_parity()({"parity": parity})
        assert (result.verdict, result.reason) == (CANNOT_TELL, reason)


class TestCases:
    def test_another_case_set_than_the_pinned_fails(self):
        result = require_cases()(facts(case_set={"digest": B, "pinned": A, "cases": 5, "positives": 2}))
        assert (result.verdict, result.reason) == (
            FAIL,
            "evaluated on bbbbbbbbbbbb, but the contract pins aaaaaaaaaaaa",
        )

    @pytest.mark.parametrize(("digest", "pinned"), [("", ""), (A, ""), ("", A)])
    def test_nothing_pinned_never_passes(self, digest, pinned):
        result = require_cases()(facts(case_set={"digest": digest, "pinned": pinned, "cases": 5, "positives": 2}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "the contract pins no case set")

    @pytest.mark.parametrize("positives", [0, 5])
    def test_one_label_only_never_passes(self, positives):
        result = require_cases()(facts(case_set={"digest": A, "pinned": A, "cases": 5, "positives": positives}))
        assert result.verdict is CANNOT_TELL
        assert result.reason == f"{positives} of 5 cases are positive: both labels are needed"


class TestGolden:
    def test_failed_cases_are_named(self):
        failed = [{"id": f"case-{n}", "problem": "expected approve, got decline"} for n in range(5)]
        result = require_golden()(facts(golden={"total": 9, "failed": failed}))
        assert result.verdict is FAIL
        assert result.reason.startswith("5 of 9 golden cases failed: case-0: expected approve, got decline, case-1")
        assert result.reason.endswith("and 2 more")

    def test_no_case_at_all_never_passes(self):
        result = require_golden()(facts(golden={"total": 0, "failed": []}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "there is no golden case")

    def test_a_malformed_list_never_passes(self):
        result = require_golden()(facts(golden={"total": 1, "failed": ["case-1"]}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "golden.failed is ['case-1'], not a list of entries")


class TestBehaviours:
    def test_that_all_hold_passes_with_how_many_rows_were_tried(self):
        result = require_behaviours()(facts())
        assert (result.verdict, result.reason) == (PASS, "all 2 behaviours hold on 1,190 changed rows")

    def test_what_does_not_hold_is_named(self):
        failed = [{"id": "debt", "problem": "3 of 90 changed rows behave otherwise"}]
        result = require_behaviours()(facts(behaviours={"total": 2, "tried": 90, "failed": failed, "untried": ["x"]}))
        assert result.verdict is FAIL
        assert result.reason == "1 of 2 behaviours do not hold: debt: 3 of 90 changed rows behave otherwise"

    def test_one_that_no_row_fits_never_passes(self):
        result = require_behaviours()(facts(behaviours={"total": 2, "tried": 9, "failed": [], "untried": ["debt"]}))
        assert result.verdict is CANNOT_TELL
        assert result.reason == "1 of 2 behaviours fit no row of the case set: debt"

    def test_none_at_all_never_passes(self):
        result = require_behaviours()(facts(behaviours={"total": 0, "tried": 0, "failed": [], "untried": []}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "there is no behaviour")


class TestRegression:
    def test_no_champion_passes_and_says_so(self):
        result = require_no_regression()(facts(champion=None))
        assert (result.verdict, result.reason) == (PASS, "there is no champion yet: nothing to be worse than")

    def test_better_passes_with_the_differences(self):
        assert require_no_regression()(facts()).reason == (
            "better than version 3 on the same cases: AUC +0.010 (+0.002 to +0.018), "
            "cost per case -12.50 (-20.00 to -5.00), 4 newly wrong, 9 newly right"
        )

    def test_no_difference_passes(self):
        result = require_no_regression()(facts(champion=champion(verdict="no difference")))
        assert result.passed
        assert result.reason.startswith("like version 3 on the same cases")

    def test_worse_fails(self):
        result = require_no_regression()(facts(champion=champion(verdict="worse")))
        assert result.verdict is FAIL
        assert result.reason.startswith("worse than version 3 on the same cases")
        assert result.reason.endswith("9 newly right; no reason is given")

    def test_worse_on_a_slice_names_it_and_how_rarely_that_is_chance(self):
        told = champion(
            verdict="worse", reason="kind = fixed: costs more (adjusted p 0.004)", false_block_level=0.05, judged=24
        )
        result = require_no_regression()(facts(champion=told))
        assert result.verdict is FAIL
        assert result.reason.endswith(
            "kind = fixed: costs more (adjusted p 0.004) (false block at most 5% over 24 comparisons)"
        )

    def test_too_few_cases_says_how_many_would_tell(self):
        told = champion(verdict="cannot tell", reason="a loss of 0.02 of AUC cannot be ruled out")
        result = require_no_regression()(facts(champion=told | {"n_that_would_tell": 6400}))
        assert result.verdict is CANNOT_TELL
        assert result.reason.endswith("a loss of 0.02 of AUC cannot be ruled out; about 6,400 cases would tell")

    def test_a_champion_scored_on_other_cases_never_passes(self):
        result = require_no_regression()(facts(champion=champion(case_set=B)))
        assert (result.verdict, result.reason) == (
            CANNOT_TELL,
            "version 3 was scored on bbbbbbbbbbbb, this one on aaaaaaaaaaaa",
        )

    @pytest.mark.parametrize(
        ("extra", "why"),
        [
            ({"reason": "the cases lack its inputs x"}, "the cases lack its inputs x"),
            ({}, "the intervals are too wide"),
        ],
    )
    def test_cannot_tell_never_passes(self, extra, why):
        told = champion(verdict="cannot tell", auc_difference=None, cost_difference=None) | extra
        result = require_no_regression()(facts(champion=told))
        assert (result.verdict, result.reason) == (
            CANNOT_TELL,
            f"whether it is worse than version 3 cannot be told: {why}",
        )


class TestFairness:
    def test_a_group_below_the_floor_fails_and_is_named(self):
        groups = [group(), group(group="asian", impact_ratio=0.6, low=0.5, high=0.7, verdict="fail")]
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": groups}))
        assert result.verdict is FAIL
        assert result.reason == (
            "approval of race asian is 0.60 of white's (0.50 to 0.70): surely below the floor 0.80"
        )

    def test_too_few_cases_say_how_many_would_tell(self):
        unsure = group(impact_ratio=0.76, low=0.64, high=0.92, verdict="cannot tell", n_that_would_tell=1942)
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": [unsure]}))
        assert result.verdict is CANNOT_TELL
        assert result.reason == (
            "approval of race black is 0.76 of white's (0.64 to 0.92; 1,942 cases of the group would tell): "
            "too few cases to tell about the floor 0.80"
        )

    def test_a_group_that_was_not_measured_never_passes(self):
        absent = group(impact_ratio=None, low=None, high=None, verdict="cannot tell")
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": [absent]}))
        assert result.verdict is CANNOT_TELL
        assert "race black (not measured)" in result.reason

    @pytest.mark.parametrize(("verdict", "expected"), [("fail", FAIL), ("cannot tell", CANNOT_TELL), ("pass", PASS)])
    def test_other_figures_must_keep_to_their_limits(self, verdict, expected):
        odds = {"measure": "odds", "attribute": "race", "group": "black", "verdict": verdict, "reason": "so"}
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": [group()], "measures": [odds]}))
        assert result.verdict is expected
        words = {
            "fail": "odds of race black: so",
            "cannot tell": "odds of race black: so",
            "pass": "floor 0.80, and 1 other figures keep to their limits",
        }
        assert result.reason.endswith(words[verdict])

    def test_a_group_and_a_figure_are_named_together(self):
        odds = {"measure": "odds", "attribute": "race", "group": "black", "verdict": "fail", "reason": "so"}
        low = group(impact_ratio=0.6, low=0.5, high=0.7, verdict="fail")
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": [low], "measures": [odds]}))
        assert result.reason.endswith("surely below the floor 0.80; odds of race black: so")

    def test_an_unknown_verdict_never_passes(self):
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": [group(verdict="fine")]}))
        assert result.verdict is CANNOT_TELL

    def test_no_group_never_passes(self):
        result = require_fairness()(facts(fairness={"floor": 0.8, "groups": []}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "no protected group was measured")


class TestDocumentsAndPeople:
    @pytest.mark.parametrize(
        ("rationale", "reason"),
        [
            ({"written": False, "missing": [], "stale": []}, "no rationale is written"),
            ({"written": True, "missing": ["data", "threshold"], "stale": []}, "the rationale lacks: data, threshold"),
            ({"written": True, "missing": [], "stale": ["auc"]}, "no longer agrees with the figures: auc"),
        ],
    )
    def test_an_incomplete_rationale_fails(self, rationale, reason):
        result = require_rationale()(facts(rationale=rationale))
        assert (result.verdict, result.reason, result.next_step) == (FAIL, reason, "%%nbkit rationale NAME")

    @pytest.mark.parametrize("missing", [None, "data", [1]])
    def test_a_malformed_rationale_never_passes(self, missing):
        result = require_rationale()(facts(rationale={"written": True, "missing": missing, "stale": []}))
        assert (result.verdict, result.reason) == (
            CANNOT_TELL,
            f"rationale.missing is {missing!r}, not a list of text",
        )

    @pytest.mark.parametrize(
        ("owner", "reason"),
        [
            ({"team": " ", "primary": "Ada", "deputy": ""}, "nobody is named as team, deputy"),
            ({"team": "Risk", "primary": "Ada", "deputy": "ada"}, "Ada is primary and deputy"),
        ],
    )
    def test_a_model_without_two_people_fails(self, owner, reason):
        result = require_owner()(facts(owner=owner))
        assert (result.verdict, result.reason) == (FAIL, reason)

    def test_a_person_who_is_not_text_never_passes(self):
        result = require_owner()(facts(owner={"team": "Risk", "primary": 7, "deputy": "Sam"}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, "owner.primary is 7, not text")

    def test_findings_of_the_scan_fail(self):
        result = require_scan()(facts(scan={"problems": ["os.system in model.skops"]}))
        assert (result.verdict, result.reason) == (FAIL, "1 found in the package: os.system in model.skops")


class TestCertificates:
    def test_a_model_that_comes_out_the_same_passes(self):
        reason = require_reproduction()(facts()).reason
        assert (
            reason == "Sam trained it again from the record, valid until 2027-02-01: the same to the bit on 597 cases"
        )

    @pytest.mark.parametrize(
        ("differs", "said"), [(["trees", "scores"], "trees, scores"), ([], "the certificate does not say what")]
    )
    def test_a_model_that_comes_out_otherwise_fails(self, differs, said):
        found = facts()["reproduction"] | {"identical": False, "differs": differs}
        result = require_reproduction()(facts(reproduction=found))
        assert result.verdict is FAIL
        assert result.reason.endswith(f"not the same: {said}")

    @pytest.mark.parametrize(
        ("gate", "name"), [(require_reproduction, "reproduction"), (require_rehearsal, "rehearsal")]
    )
    def test_without_a_certificate_nobody_can_tell(self, gate, name):
        result = gate()(facts(**{name: None}))
        assert (result.verdict, result.reason) == (CANNOT_TELL, f"there is no certificate of a {name}")
        assert result.next_step.startswith("nbkit re")

    @pytest.mark.parametrize(
        ("gate", "name"), [(require_reproduction, "reproduction"), (require_rehearsal, "rehearsal")]
    )
    def test_a_certificate_that_does_not_hold_fails(self, gate, name):
        result = gate()(facts(**{name: facts()[name] | {"problem": "expired at 2026-01-01"}}))
        assert (result.verdict, result.reason) == (FAIL, "expired at 2026-01-01")
        assert gate()(facts(**{name: "yes"})).verdict is CANNOT_TELL

    def test_somebody_elses_rehearsal_fails(self):
        result = require_rehearsal()(facts(rehearsal=facts()["rehearsal"] | {"by": "Ada"}))
        assert (result.verdict, result.reason) == (FAIL, "Ada rehearsed, but the deputy is Sam")

    def test_a_rehearsal_of_nothing_never_passes(self):
        assert require_rehearsal()(facts(rehearsal=facts()["rehearsal"] | {"steps": []})).verdict is CANNOT_TELL


class TestMonitoring:
    @pytest.mark.parametrize(
        ("change", "verdict", "reason"),
        [
            ({"alert": " "}, FAIL, "nobody is told when an input drifts"),
            ({"missing": ["income"]}, FAIL, "the reference profile lacks income"),
            ({"rows": 0}, CANNOT_TELL, "the reference profile was counted over no row"),
            ({"rows": None}, CANNOT_TELL, "monitoring.rows is None, not a count"),
        ],
    )
    def test_what_cannot_be_watched_does_not_pass(self, change, verdict, reason):
        result = require_monitoring()(facts(monitoring=facts()["monitoring"] | change))
        assert (result.verdict, result.reason) == (verdict, reason)


class TestTrials:
    @pytest.mark.parametrize(
        ("change", "verdict", "said"),
        [
            ({"error_share": 0.02}, FAIL, "scoring failed for 2.00% of decisions, above 0.01"),
            ({"error_share": -0.1}, FAIL, "scoring failed for -10.00% of decisions, above 0.01"),
            ({"fallback_share": 0.06}, FAIL, "a fallback answered 6.00%, above 0.05"),
            ({"disagreement_share": 0.21}, FAIL, "21.00% were decided otherwise than by the champion, above 0.2"),
            ({"p99_ms": 51.0}, FAIL, "99 of 100 were done within 51.0 ms, above 50"),
            ({"decisions": 199}, CANNOT_TELL, "fewer than 200 tell nothing"),
            ({"decisions": 0, "error_share": None}, CANNOT_TELL, "holds no decision of this version in shadow"),
            ({"days": 6}, CANNOT_TELL, "the contract asks for 7 days"),
            ({"disagreement_share": None}, CANNOT_TELL, "shadow.disagreement_share is None, not a finite number"),
        ],
    )
    def test_a_shadow_that_breaks_a_guardrail_or_is_too_short_does_not_pass(self, change, verdict, said):
        result = require_shadow()(facts(shadow=trial(**change)))
        assert result.verdict is verdict
        assert said in result.reason

    def test_a_version_that_never_ran_cannot_be_told(self):
        for gate, name in ((require_shadow, "shadow"), (require_canary, "canary")):
            result = gate()(facts(**{name: None}))
            assert result.verdict is CANNOT_TELL
            assert result.reason == f"the ledger holds no decision of this version in {name}"

    def test_a_first_version_has_nothing_to_run_beside(self):
        limits = facts()["limits"] | {"beside_champion": False}
        for gate, name in ((require_shadow, "shadow"), (require_canary, "canary")):
            result = gate()(facts(limits=limits, **{name: None}))
            assert (result.verdict, result.reason) == (
                PASS,
                "no version is in production yet: there is nothing to run beside",
            )

    def test_a_canary_is_compared_only_where_somebody_measured_it(self):
        assert require_canary()(facts()).passed
        assert require_canary()(facts(canary=trial(days=1))).passed
        assert require_canary()(facts(canary=trial(disagreement_share=0.5))).verdict is FAIL

    def test_the_reason_gives_every_figure(self):
        assert require_canary()(facts()).reason == (
            "12,000 decisions on 8 days: scoring failed for 0.00% of decisions, a fallback answered 0.20%, "
            "99 of 100 were done within 4.5 ms"
        )


class TestWaivers:
    @pytest.mark.parametrize("gate", ["parity", "cases", "scan", "ownership", "rationale", "path", "submission"])
    def test_what_asks_whether_the_others_looked_at_the_real_thing_is_never_waived(self, gate):
        assert not may_be_waived(gate, verdict=FAIL)
        assert not may_be_waived(gate, verdict=CANNOT_TELL)

    def test_other_gates_may_be_waived_unless_they_passed(self):
        for gate in ("at_least:auc", "golden", "regression", "shadow", "rehearsal"):
            assert may_be_waived(gate, verdict=FAIL)
            assert not may_be_waived(gate, verdict=PASS)
            assert not may_be_waived(gate, verdict=Verdict.WAIVED)

    def test_sure_unfairness_is_not_waived_but_too_few_cases_may_be(self):
        assert not may_be_waived("fairness", verdict=FAIL)
        assert may_be_waived("fairness", verdict=CANNOT_TELL)

    def test_a_waived_result_lets_a_version_through(self):
        assert GateResult(gate="golden", verdict=Verdict.WAIVED, reason="x").passed


def test_importing_gates_loads_nothing_heavy():
    heavy = ("mlflow", "shap", "pandas", "sklearn", "skops")
    code = f"import nbkit.gates, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
