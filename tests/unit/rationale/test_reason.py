from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from nbkit.errors import RationaleError
from nbkit.rationale import Cited, Reason, changed_figures, cited_figures, contradictions, render_reason

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FACTS = {
    "metrics": {
        "auc": {"value": 0.7815, "low": 0.742, "high": 0.82},
        "expected_cost": {"value": 812.4, "low": None, "high": None},
        "approval_rate": {"value": 0.7124, "low": 0.68, "high": 0.74},
        "brier": {"value": 0.0652},
    },
    "data": {"rows": 1989},
    "thresholds": {"decline": 0.6},
    "golden": {"failed": []},
}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "arcitecture"}, "did you mean 'architecture'?. Next: %%nbkit rationale architecture"),
        (
            {"kind": "weather"},
            "reason of kind 'weather': expected architecture, data, feature, threshold, exclusion, limit",
        ),
        ({"text": " \n"}, "reason of kind 'data': expected text, got none"),
        ({"written_at": datetime(2026, 11, 24)}, "reason of kind 'data': written_at has no time zone"),  # noqa: DTZ001
    ],
)
def test_a_reason_that_is_none_is_refused(values, text):
    with pytest.raises(RationaleError) as caught:
        Reason(**{"kind": "data", "text": "Because.", "written_at": NOW, **values})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("AUC {{ metrics.auc }} ({{metrics.auc.low}})", "AUC 0.781 (0.742)"),
        ("{{ data.rows }} rows at {{ metrics.expected_cost }}", "1,989 rows at 812"),
        ("nothing cited", "nothing cited"),
    ],
)
def test_cited_figures_are_filled_in(text, rendered):
    assert render_reason(text, FACTS) == rendered


def test_every_unknown_citation_is_named():
    with pytest.raises(RationaleError) as caught:
        render_reason("{{ metrics.acu }} and {{ golden.failed }} and {{ metrics }}", FACTS)
    assert str(caught.value) == (
        "reason: 3 problems: {{ metrics.acu }}: no such fact (nearest: metrics.auc); "
        "{{ golden.failed }}: no such fact; {{ metrics }}: no such fact (nearest: metrics.auc). "
        "Next: cite a figure of the evaluation, such as metrics.auc"
    )


@pytest.mark.parametrize(
    "text",
    [
        "It reached an AUC of {{ metrics.auc }}.",
        "It reached an AUC of 0.78.",
        "The AUC is 0.8 when rounded.",
        "ROC AUC 0.7815, somewhere between AUC 0.742 and AUC 0.82",
        "71 % approved: the approval rate is 71 %, approval_rate 0.71",
        "The Brier score of 0.07 is low.",
        "AUC was the measure. 0.9 was hoped for.",
        "AUC and 0.9 are unrelated here",
        "The challenger's AUC of 0.79 was no better",
        "It must reach an AUC of 0.75",
        "A cost per case of 812",
        "AUC matters, 0.9 does not",
        "the KS of 0.4 was never measured",
    ],
)
def test_a_figure_that_was_measured_is_no_contradiction(text):
    others = {"logistic": {"auc": 0.79}, "gate": {"auc": 0.75}}
    assert contradictions(text, FACTS, alternatives=others) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("It reached an AUC of 0.85.", "says auc 0.85, measured 0.781"),
        ("The approval rate is 80 %.", "says approval_rate 80 %, measured 0.712"),
        ("a cost per case of 1,200 USD", "says expected_cost 1,200, measured 812"),
    ],
)
def test_a_figure_that_nothing_bears_out_is_named(text, problem):
    assert contradictions(text, FACTS, alternatives={"logistic": {"auc": {"value": 0.79}}, "odd": 3}) == (problem,)


def test_without_metrics_nothing_can_be_contradicted():
    assert contradictions("AUC 0.9", {"metrics": None}) == ()
    assert contradictions("AUC 0.9", {"metrics": {"auc": {"value": None}}}) == ()


def cites(text, *, run=True, facts=FACTS):
    reason = Reason(kind="architecture", text=text, written_at=NOW)
    seen = {path: replace(figure, run=run) for path, figure in cited_figures(text, facts).items()}
    return replace(reason, cited=seen)


def test_cited_figures_are_kept_with_their_intervals():
    assert cited_figures("{{ metrics.auc }} {{ data.rows }} {{ metrics.acu }} {{ golden.failed }}", FACTS) == {
        "metrics.auc": Cited(value=0.7815, low=0.742, high=0.82),
        "data.rows": Cited(value=1989),
    }
    kept = asdict(Cited(value=0.7815, low=0.742, high=0.82))
    assert Cited.read(kept, run=False) == Cited(value=0.7815, low=0.742, high=0.82, run=False)
    assert Cited.read({}, run=True).value == ""


def test_a_figure_that_changed_in_the_same_run_makes_a_reason_stale():
    later = {**FACTS, "metrics": {**FACTS["metrics"], "auc": {"value": 0.79, "low": 0.75, "high": 0.83}}}
    assert changed_figures(cites("{{ metrics.auc }}"), FACTS) == ()
    assert changed_figures(cites("{{ metrics.auc }} of {{ data.rows }}"), later) == (
        "cites metrics.auc, which was 0.781 when it was written (2026-11-24) and is 0.790 now",
    )


def test_a_change_that_no_reader_sees_is_none():
    later = {**FACTS, "metrics": {"auc": {"value": 0.78149}}}
    assert changed_figures(cites("{{ metrics.auc }}"), later) == ()


@pytest.mark.parametrize(("auc", "stale"), [(0.743, False), (0.819, False), (0.74, True), (0.83, True)])
def test_in_a_later_run_a_figure_has_changed_when_it_leaves_its_interval(auc, stale):
    later = {**FACTS, "metrics": {"auc": {"value": auc}}}
    assert bool(changed_figures(cites("{{ metrics.auc }}", run=False), later)) == stale


def test_in_a_later_run_other_rows_and_what_is_gone_are_no_change():
    later = {"data": {"rows": 2500}}
    assert changed_figures(cites("{{ data.rows }} {{ metrics.auc }}", run=False), later) == ()


def test_a_citation_may_name_a_model_that_was_tried():
    facts = {"alternatives": {"larger trees": {"auc": 0.8}}}
    assert render_reason("{{ alternatives.larger trees.auc }}", facts) == "0.800"


WITH_MORE = {**FACTS, "case_set": {"cases": 796}, "parameters": {"max_iter": 100, "depth": None, "learning_rate": 0.05}}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("It has an 0.85 AUC.", ("says auc 0.85, measured 0.781",)),
        ("It has an 0.78 AUC.", ()),
        ("AUC 0.78 KS is better.", ()),
        ("We decline applications from 0.6 on.", ()),
        ("We decline applications from 0.5 on.", ("says decline threshold 0.5, measured 0.600",)),
        ("A person looks; we decline 4 % of them.", ()),
        ("1,989 training rows", ()),
        ("2,000 training rows", ("says training rows 2,000, measured 1,989",)),
        ("800 frozen cases", ("says frozen cases 800, measured 796",)),
        ("Trained with max_iter 200 and learning_rate=0.05.", ("says max_iter 200, trained with 100",)),
        ("Trained with max_iter of 100.", ()),
        ("Trained with max_iter 1,000.", ("says max_iter 1,000, trained with 100",)),
        ("learning_rate 5e-2 and max_iter 1.2.3, which is no number", ()),
        ("It has an AUC of .78.", ()),
        ("The depth 3 is a guess.", ()),
    ],
)
def test_figures_of_thresholds_rows_and_parameters_are_checked_too(text, problems):
    assert contradictions(text, WITH_MORE) == problems


MONEY = {
    **FACTS,
    "metrics": {
        **FACTS["metrics"],
        "decline_rate": {"value": 0.025, "low": 0.016, "high": 0.038},
        "refer_rate": {"value": 0.152},
    },
    "costs": {
        "approve": {"positive": 12000.0, "negative": 0.0},
        "refer": {"positive": 150.0, "negative": 150.0},
        "decline": {"positive": 0.0, "negative": 3000.0},
    },
    "fairness": {
        "floor": 0.5,
        "groups": [
            {"group": "black", "approval_rate": 0.61, "impact_ratio": 0.718, "low": 0.598, "high": 0.862},
            {"group": "hispanic", "approval_rate": None, "impact_ratio": None},
        ],
    },
}


@pytest.mark.parametrize(
    "said",
    [
        "It approves 71 % of the cases, refers 15 % and declines 2.5 %.",
        "71.2% of all frozen cases are approved; 15 % are referred.",
        "It declines 30 % of people without a bank account.",
        "Of black applicants 61 % are approved.",
        "At most 20 % are referred, at least 60 % approved.",
        "Approving someone who does not pay costs 12,000 USD, declining a good one costs $3,000.",
        "A look costs 150 USD a case; it comes to 812 USD per case, the rival to 900 USD per case.",
        "Approving costs 2 analysts an hour, 3 people a case.",
        "Approving is cheaper than declining, which costs 3,000 USD.",
        "An impact ratio of 0.72 lies above 0.6; impact ratio 0.8 is the rule of thumb, impact ratio 0.5 the floor.",
    ],
)
def test_shares_and_amounts_that_were_measured_or_declared_are_no_contradiction(said):
    assert contradictions(said, MONEY, alternatives={"rival": {"expected_cost": 900}}) == ()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("It approves 90 % of the cases.", "says approve 90 %, measured 71.2\xa0%"),
        ("It declines 5 %, no more.", "says decline 5 %, measured 2.5\xa0%"),
        ("40 % of applications are referred.", "says refer 40 %, measured 15.2\xa0%"),
        (
            "Approving a bad one costs USD 10,000.",
            "says approve costs 10,000, the cost matrix has 12,000 and 0",
        ),
        ("Declining a good one costs 2,000 USD.", "says decline costs 2,000, the cost matrix has 0 and 3,000"),
        ("All in all 500 USD per case.", "says 500 per case, measured 812"),
        ("The impact ratio is 0.95.", "says impact ratio 0.95, measured black 0.718"),
    ],
)
def test_shares_and_amounts_that_nothing_bears_out_are_named(said, problem):
    assert contradictions(said, MONEY) == (problem,)


def test_without_figures_shares_and_amounts_are_not_judged():
    said = "It approves 90 %, an impact ratio of 0.95; approving a bad one costs 10,000 USD, 500 USD per case."
    assert contradictions(said, {"metrics": {"auc": {"value": 0.8}}}) == ()
