from datetime import UTC, datetime

import pytest

from nbkit.errors import RationaleError
from nbkit.rationale import Reason, contradictions, render_reason

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
        ({"kind": "arcitecture"}, "did you mean 'architecture'?. Next: %%nbkit rationale --kind architecture"),
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
