import copy
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from nbkit.contract import Data
from nbkit.errors import RationaleError
from nbkit.rationale import (
    RATIONALE_FORMAT,
    Reason,
    SliceExplanation,
    explain_package,
    read_rationale,
    write_rationale,
)
from nbkit.rationale._markdown import MOST_CHARACTERS

from .conftest import NOW, estimate, one_hot, package_of


@pytest.fixture
def write(package, explanation, evaluation, reasons):
    def written(**changes):
        given = {
            "evaluation": evaluation,
            "explanation": explanation,
            "reasons": reasons,
            "alternatives": {},
            "links": {"run": "http://127.0.0.1:5000/#/runs/1"},
            "now": NOW,
        }
        return write_rationale(changes.pop("package", package), **{**given, **changes})

    return written


class Shape(HTMLParser):
    """Collects what a document would fetch or run, and its text."""

    def __init__(self, html):
        super().__init__()
        self.fetched, self.tags, self.words = [], [], []
        self.open = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "srcset", "data", "action")]
        self.fetched += [value for name, value in attrs if name == "href" and tag not in ("a",)]
        if tag not in ("meta", "rect", "path", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def with_facts(evaluation, **facts):
    changed = copy.deepcopy(evaluation)
    changed["facts"].update(facts)
    return changed


def test_the_verdict_comes_first(write):
    rationale = write()
    assert rationale.verdict == (
        "No objection. AUC 0.836 (0.774 to 0.884), cost per case 467 (316 to 627) USD on 800 frozen cases; "
        "no champion yet."
    )
    assert rationale.markdown.splitlines()[0] == rationale.verdict
    assert rationale.verdict in Shape(rationale.html).text[:400]
    assert (rationale.missing, rationale.stale) == ((), ())


def test_the_document_is_one_file_that_fetches_and_runs_nothing(write):
    html = write().html
    shape = Shape(html)
    assert shape.fetched == []
    assert shape.open == []
    assert "script" not in shape.tags
    assert "@import" not in html
    assert "url(" not in html
    assert shape.tags.count("svg") == 1 + 4 + 1


def test_every_chapter_is_there_in_its_order(write):
    titles = re.findall(r"<h2>(?:\d+)\. ([^<]*)</h2>", write().html)
    assert titles == [
        "Purpose and scope", "Owner and deputy", "Data", "Features", "Architecture and alternatives", "Training",
        "Performance", "Thresholds and costs", "What moves the score", "How far the explanation can be trusted",
        "Reasons given for a decision", "Fairness by group", "Duties by jurisdiction",
        "Limits and known failures", "Monitoring plan", "Fallback",
        "Change against the champion", "Approvals", "Reproduction", "Glossary",
    ]  # fmt: skip


def test_what_people_wrote_stands_where_it_belongs_with_its_figures(write):
    html = write().html
    architecture = html[html.index('id="architecture"') : html.index('id="performance"')]
    assert "They reach an AUC of 0.836." in architecture
    assert "written 2026-11-24" in architecture
    assert (
        "1,989 applications of Boston lenders in 1990." in html[html.index('id="data"') : html.index('id="features"')]
    )


def test_names_are_text_and_never_markup(write):
    html = write(links={"run": "javascript:alert(1)", "<b>": "http://127.0.0.1/?a=1&b=<i>"}).html
    assert "<Boston>" not in html
    assert "&lt;Boston&gt;" in html
    assert "javascript:" not in html
    assert "<i>" not in html


def test_digests_seeds_and_pins_are_told(write, package):
    text = Shape(write().html).text
    for part in (package.digest, package.contract.digest, "abc1234", "training 7", "scikit-learn 1.", "treelite 4."):
        assert part in text


def test_a_required_reason_that_nobody_wrote_is_an_objection(write, reasons):
    rationale = write(reasons=reasons[:1])
    assert rationale.missing == ("data", "threshold")
    assert rationale.verdict.startswith("Not ready: 2 objections. AUC")
    assert "The reason 'data' is required and nobody has written it." in rationale.markdown
    assert "The contract asks for this reason, and nobody has written it." in rationale.html


def test_figures_that_no_longer_hold_are_an_objection(write, reasons):
    late = NOW + timedelta(minutes=1)
    again = Reason(kind="data", text="AUC 0.91 on {{ data.row }}", written_at=late)
    rationale = write(reasons=[again, *reasons])
    assert rationale.stale == (
        "data: {{ data.row }}: no such fact (nearest: data.rows)",
        "data: says auc 0.91, measured 0.836",
    )
    assert rationale.verdict.startswith("Not ready: 2 objections.")


def test_limits_and_alternatives_may_be_quoted(write, reasons):
    quoted = Reason(kind="architecture", text="An AUC of 0.75 is the floor. Logistic: AUC 0.79.", written_at=NOW)
    assert write(reasons=[*reasons, quoted]).stale == ()


def test_objections_name_their_evidence(write, evaluation):
    group = {"attribute": "race", "group": "black", "reference": "white", "n": 75}
    facts = {
        "metrics": {**evaluation["facts"]["metrics"], "auc": estimate(0.70, 0.65, 0.74)},
        "golden": {"total": 2, "failed": [{"id": "G7", "problem": "expected decline, got approve"}]},
        "champion": {
            "version": 3,
            "verdict": "worse",
            "reason": "the AUC is lower",
            "auc_difference": estimate(-0.08, -0.11, -0.05),
            "cost_difference": estimate(120.0, 80.0, 160.0),
            "newly_wrong": 31,
            "newly_right": 4,
        },
        "fairness": {
            "floor": 0.8,
            "groups": [
                {**group, "impact_ratio": 0.5, "low": 0.4, "high": 0.6, "verdict": "fail", "reason": "at most 0.60"}
            ],
        },
    }
    rationale = write(evaluation=with_facts(evaluation, **facts))
    assert rationale.verdict.startswith("Not ready: 4 objections. AUC 0.700 (0.650 to 0.740)")
    assert rationale.verdict.endswith("on 800 frozen cases; worse against version 3.")
    assert rationale.facts["objections"][0].startswith("A limit is missed: auc is 0.700")
    for sentence in (
        "Golden case G7 failed: expected decline, got approve.",
        "Worse than version 3: the AUC is lower.",
        "Approval of race 'black' against 'white': at most 0.60.",
    ):
        assert sentence in rationale.facts["objections"]
    assert "Cases newly wrong" in rationale.html


def test_what_cannot_be_told_is_an_open_question(write, evaluation):
    group = {"attribute": "race", "group": "black", "reference": "white", "n": 75, "low": 0.6, "high": 0.86}
    unsure = {**group, "impact_ratio": 0.72, "verdict": "cannot tell", "n_that_would_tell": 410}
    lenient = {**group, "group": "hispanic", "impact_ratio": 0.72, "verdict": "pass"}
    unmeasured = {**group, "group": "other", "impact_ratio": None, "low": None, "high": None, "verdict": "cannot tell"}
    facts = {
        "fairness": {"floor": 0.5, "groups": [unsure, lenient, unmeasured]},
        "champion": {"version": 3, "verdict": "cannot tell"},
        "golden": {"total": 0, "failed": []},
    }
    rationale = write(evaluation=with_facts(evaluation, **facts))
    assert rationale.facts["open_questions"] == [
        "Approval of race 'black' against 'white': impact ratio 0.720; about 410 cases would tell.",
        "Approval of race 'other' against 'white': not measured.",
        "Approval of race 'hispanic' is 0.720 of 'white': above this contract's floor, below the usual four fifths.",
        "Against version 3: the figures are in the chapter on change.",
        "No golden case exists: nothing says which decisions must never change.",
    ]
    assert rationale.verdict.startswith("No objection, 5 open questions. AUC")
    assert "Golden case" not in Shape(rationale.html[rationale.html.index('id="words"') :].split("</section>")[0]).text


def test_an_uncompiled_package_without_reason_codes_says_so(frame, inputs, contract, evaluation, reasons, tmp_path):
    from sklearn.impute import SimpleImputer

    steps = one_hot(GaussianNB()).steps
    model = Pipeline([steps[0], ("impute", SimpleImputer()), steps[1]]).fit(frame[inputs], frame["denied"])
    package = package_of(model, frame, tmp_path / "package", contract=contract, with_reasons=False)
    rationale = write_rationale(
        package,
        evaluation=evaluation["facts"],
        explanation=explain_package(package, frame, sample=5, stability=False),
        reasons=reasons,
        alternatives={},
        links={},
        now=NOW,
    )
    assert "No reasons.yaml is packaged" in rationale.html
    assert "GaussianNB, served as fitted, in batches, because" in rationale.html
    assert rationale.verdict.startswith("No objection, 2 open questions.")


def test_rows_that_shap_could_not_explain_are_an_open_question(write, explanation):
    rationale = write(explanation=replace(explanation, failed_rows=7))
    assert "shap's explanation did not add up to the model's answer in 7 of 120 rows" in rationale.markdown


@pytest.mark.parametrize("what", ["evaluation", "explanation"])
def test_documents_of_another_package_are_refused(write, evaluation, explanation, what):
    other = "sha256:" + "0" * 64
    changed = {
        "evaluation": {**evaluation, "package_digest": other},
        "explanation": replace(explanation, package_digest=other),
    }
    with pytest.raises(RationaleError) as caught:
        write(**{what: changed[what]})
    verb = {"evaluation": "evaluate", "explanation": "explain"}[what]
    assert f"got {other}. Next: nbkit {verb} mortgage" in str(caught.value)


def test_a_time_without_a_zone_is_refused(write):
    with pytest.raises(RationaleError, match="write_rationale: now has no time zone"):
        write(now=datetime(2026, 11, 24))  # noqa: DTZ001


def test_the_json_names_what_gates_and_registration_ask_for(write, package, reasons):
    document = json.loads(write(reasons=reasons[1:]).to_json())
    assert document["format"] == 2
    assert document["package_digest"] == package.digest
    assert document["missing"] == ["architecture"]
    assert document["stale"] == []
    assert document["explanation"]["failed_rows"] == 0
    assert document["written_at"] == "2026-11-24T09:30:00+00:00"
    assert document["alternatives"] == {"logistic regression": {"auc": 0.79}}


def test_markdown_fits_the_description_of_a_version(write, reasons):
    long = Reason(kind="limit", text="Not for boats. " * 500, written_at=NOW)
    markdown = write(reasons=[*reasons, long]).markdown
    assert len(markdown) <= MOST_CHARACTERS
    assert markdown.rstrip().endswith("`rationale.html` among the artifacts of the run.")
    assert "Not for boats" not in markdown
    assert "| race: black | 310 | 0.950 (0.860 to 1.050) | pass |" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert max(line.count("|") for line in rows) <= 5


def test_markdown_is_text_where_people_wrote_markup(write, reasons):
    tricky = Reason(kind="limit", text="# Not *for* <b>boats</b> | see [this](http://x)", written_at=NOW)
    markdown = write(reasons=[*reasons, tricky]).markdown
    assert r"\# Not \*for\* &lt;b>boats&lt;/b> | see \[this\](http://x)" in markdown


def test_inputs_that_do_nothing_are_said_to_do_nothing(write, explanation):
    flat = replace(
        explanation,
        importance={"obligations": 1.0, "loan_to_price": 0.5, "assets": 0.4, "guidelines": 0.0, "history": 0.001},
        trend={"obligations": 0.9, "loan_to_price": -0.5, "assets": 0.01},
    )
    html = write(explanation=flat).html
    features = html[html.index('id="features"') : html.index('id="architecture"')]
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in features.split("<tr>")[2:]]
    assert {row[0]: row[-1] for row in cells} == {
        "obligations": "rises",
        "loan_to_price": "mostly falls",
        "assets": "no single direction",
        "guidelines": "none",
        "history": "hardly any",
    }


def test_an_evaluation_with_few_facts_still_gives_a_document(write, reasons):
    rationale = write(evaluation={"metrics": {"auc": estimate(0.8)}}, reasons=reasons[:1])
    assert rationale.verdict.endswith("AUC 0.800 on the cases; no champion yet.")
    assert "no group was compared" in rationale.html


def test_what_else_differs_between_groups_is_told(write, evaluation):
    measure = {"measure": "odds", "attribute": "race", "group": "black", "n": 40, "verdict": "no limit"}
    found = {
        "measures": [
            {**measure, "value": estimate(0.1, 0.02, 0.2), "limit": None},
            {**measure, "value": None, "limit": 0.1},
        ],
        "intersections": [
            {
                "groups": [
                    {
                        "group": "black × female",
                        "reference": "white × male",
                        "n": 9,
                        "impact_ratio": None,
                        "verdict": "x",
                    }
                ]
            }
        ],
        "intersections_judged": False,
        "proxies": [
            {
                "attribute": "race",
                "group": "black",
                "n": 80,
                "joint": estimate(0.7, 0.6, 0.8),
                "inputs": [[f"postcode{i}", estimate(0.65, 0.6, 0.7)] for i in range(7)]
                + [["x", estimate(0.5, 0.4, 0.6)]],
            },
            {"attribute": "race", "group": "asian", "n": 5, "joint": None, "inputs": []},
        ],
    }
    evaluation = {**evaluation, "result": {**evaluation.get("result", {}), "disparities": found}}
    group = {"attribute": "race", "group": "black", "reference": "white", "n": 75, "low": 0.6, "high": 0.86}
    evaluation = with_facts(
        evaluation, fairness={"floor": 0.5, "groups": [{**group, "impact_ratio": 0.72, "verdict": "pass"}]}
    )
    text = Shape(write(evaluation=evaluation).html).text
    for words in ("0.100 (0.0200 to 0.200)", "not measured", "black × female", "and 2 more", "too few cases"):
        assert words in text


def test_the_duties_of_the_jurisdictions_are_told_with_source_and_date(write):
    text = Shape(write().html).text
    for words in (
        "United States as of 2025-06-01",
        "12 CFR 1002.9(b)(2)",
        "us-notice-content: notice.agency says nothing",
    ):
        assert words in text


def chapter(html, name):
    return Shape(html[html.index(f'<section id="{name}">') :].split("</section>")[0] + "</section>").text


class Changed:
    """A package of which something is otherwise."""

    def __init__(self, package, **changes):
        self._package = package
        vars(self).update(changes)

    def __getattr__(self, name):
        return getattr(self._package, name)


def test_the_owner_and_the_deputy_are_named(write):
    text = chapter(write().html, "ownership")
    assert "Ada Lindqvist, Mortgage risk" in text
    assert "Samuel Okoye, who answers when Ada Lindqvist is gone" in text
    assert "2 people approve every move, never the submitter" in text


def test_what_is_not_declared_about_the_data_is_said_to_be_so(write):
    text = chapter(write().html, "data")
    for key in ("source", "window", "selective_labels", "exclusions", "known_bias"):
        assert f"not declared (contract.yaml, data.{key})" in text
    assert "it counts after 60 days" in text
    assert "sha256:" in text


def test_what_is_declared_about_the_data_is_told(write, package):
    data = Data(
        source="the bureau",
        window="1990",
        exclusions=("withdrawn applications",),
        known_bias=("one city only",),
        selective_labels="none: everyone has a label",
    )
    text = chapter(
        write(package=Changed(package, contract=package.contract.model_copy(update={"data": data}))).html, "data"
    )
    for sentence in (
        "the bureau",
        "1990",
        "Left out: withdrawn applications",
        "Known bias: one city only",
        "none: everyone has a label",
    ):
        assert sentence in text
    assert "not declared" not in text


def test_training_names_what_the_fitted_model_was_set_to(write):
    text = chapter(write().html, "training")
    for setting in ("early_stopping False", "max_iter 20", "random_state 0", "depth none", "seed: training 7"):
        assert setting in text
    assert "abc1234" in text
    assert "Python 3." in text


def test_the_explanation_shows_pairs_and_slices(write, explanation):
    slices = (
        SliceExplanation(column="race", level="black", rows=53, difference=1.18, because={"guidelines": 0.54}),
        SliceExplanation(column="race", level="other", rows=3, difference=None, because={}),
    )
    text = chapter(write(explanation=replace(explanation, slices=slices)).html, "explanation")
    first = explanation.interactions[0]
    assert " and ".join(first.inputs) in text
    assert "race: black 53 +1.18 guidelines +0.54" in text
    assert "race: other 3 too few rows to tell" in text
    none = chapter(write(explanation=replace(explanation, interactions=())).html, "explanation")
    assert "No two of the most important inputs do together much that they do not do alone." in none


def test_the_choice_of_the_explanation_is_shown_with_its_measurements(write, explanation):
    text = chapter(write().html, "trust")
    assert "shap TreeExplainer, path-dependent (chosen) 0 of 40" in text
    assert "None needed another computation." in text
    broken = replace(explanation.trials[0], chosen=False, max_error=None, problem="TypeError: no trees", failed=40)
    text = chapter(write(explanation=replace(explanation, trials=(broken, *explanation.trials[1:]))).html, "trust")
    assert "40 of 40 TypeError: no trees" in text
    failing = chapter(write(explanation=replace(explanation, failed_rows=7)).html, "trust")
    assert "In 7 of them the first computation did not, and another took its place." in failing


def test_the_stability_certificate_is_printed(write, explanation):
    share = explanation.stability.twin_share
    text = chapter(write().html, "trust")
    assert "For the 200 cases with the highest scores" in text
    assert f"{100 * share.value:.1f} % {100 * share.low:.1f} % to {100 * share.high:.1f} %" in text
    assert "Top reasons change in" in write().markdown
    without = write(explanation=replace(explanation, stability=None))
    assert "No stability certificate was measured for this version." in without.html
    assert "Top reasons change in" not in without.markdown


def test_correlated_inputs_are_reported_as_a_group(write, explanation):
    assert "No two inputs correlate at 0.7 or more" in chapter(write().html, "features")
    grouped = replace(explanation, groups={"obligations+assets": 0.9})
    text = chapter(write(explanation=grouped).html, "features")
    assert "obligations, assets (0.900 together)" in text


def test_known_failures_are_those_that_were_measured(write, evaluation):
    assert "No known failure" in chapter(write().html, "limits")
    worse = copy.deepcopy(evaluation)
    worse["facts"]["golden"] = {"total": 1, "failed": [{"id": "G1", "problem": "expected decline, got approve"}]}
    worse["facts"]["champion"] = {"version": 3, "verdict": "no difference", "newly_wrong": 4}
    part = {"column": "race", "level": "black", "n": 75, "auc": estimate(0.6), "note": "ranks worse than on all cases"}
    worse["result"]["slices"] = [part]
    found = {"conditions": ["kind = fixed", "risk above 0.3"], "figure": "expected_cost", "n": 90, "rest": 300.0}
    sure = {**found, "value": 900.0, "low": 700.0, "high": 1100.0, "sure": True}
    worse["result"]["search"] = {"candidates": 40, "minimum": 30, "found": [sure, {**sure, "sure": False}]}
    html = write(evaluation=worse).html
    text = chapter(html, "limits")
    assert "Golden case G1 fails: expected decline, got approve." in text
    assert "race 'black' (75 cases): ranks worse than on all cases, AUC 0.600." in text
    assert "kind = fixed and risk above 0.3 (90 cases): expected cost 900 (700 to 1,100), 300 elsewhere" in text
    assert "4 cases are decided wrongly that version 3 decides right" in text
    searched = chapter(html, "performance")
    assert "40 others of at least 30 cases were searched" in searched
    assert "may be chance" in searched


def test_other_costs_are_told_as_far_as_they_would_change_the_thresholds(write, package):
    def with_sensitivity(shifted):
        chosen = {**package.manifest["threshold_facts"], "plus_minus_20": shifted}
        other = Changed(package, manifest={**package.manifest, "threshold_facts": chosen})
        return chapter(write(package=other).html, "threshold")

    same = {"approve.positive -20%": {"refer": "0.2", "decline": "0.6", "regret": "0.00"}}
    assert "would have chosen other thresholds" in with_sensitivity(same)
    moved = {"approve.positive +20%": {"refer": "0.15", "decline": "0.6", "regret": "3.10"}}
    assert "approve.positive +20% 0.15 0.6 3.10" in with_sensitivity(same | moved)


def test_approvals_are_said_to_come_later_and_never_made_up(write):
    text = chapter(write().html, "approvals")
    assert "it cannot hold their names. 2 people other than the submitter must approve each move" in text
    assert "nbkit gate mortgage@VERSION --to STAGE" in text
    assert "staging at least auc 0.75, rationale" in text


def test_without_a_reproduction_certificate_the_document_says_how_to_get_one(write):
    text = chapter(write().html, "reproduction")
    assert text[4:].startswith("Reproduction No reproduction certificate")
    assert "run nbkit reproduce mortgage@VERSION" in text


FORMATS = sorted((Path(__file__).parent / "formats").iterdir())


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_every_format_that_was_ever_written_still_loads(folder):
    document = read_rationale((folder / "rationale.json").read_bytes())
    assert (document["format"], document["model"], document["missing"]) == (RATIONALE_FORMAT, "mortgage", [])
    assert document["explanation"]["failed_rows"] == 0
    assert (document["explanation"]["stability"] is None) == (folder.name == "1")


def test_the_json_that_is_written_is_read_back(write):
    rationale = write()
    assert read_rationale(rationale.to_json()) == json.loads(rationale.to_json())
    assert str(RATIONALE_FORMAT) in [folder.name for folder in FORMATS]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("{", "rationale.json: Expecting property name"),
        ("[]", "rationale.json: format: expected 1 or 2, got None"),
        ('{"format": 3}', "rationale.json: format: expected 1 or 2, got 3. Next: nbkit explain NAME"),
        ('{"format": true}', "rationale.json: format: expected 1 or 2, got True"),
    ],
)
def test_what_is_no_rationale_is_refused(raw, problem):
    with pytest.raises(RationaleError) as caught:
        read_rationale(raw)
    assert str(caught.value).startswith(problem)


def test_the_search_for_alternatives_is_told_or_its_absence(write, evaluation):
    group = {"attribute": "race", "group": "black", "impact_ratio": estimate(0.7, 0.6, 0.8)}
    tried = {"name": "without x", "thresholds": "cheapest", "cost_change": estimate(1.0, -1.0, 3.0), "reason": "so"}
    ledger = {
        "attribute": "race",
        "group": "black",
        "rows": 1193,
        "entries": [
            {**tried, "name": "present", "groups": [group], "verdict": "present"},
            {**tried, "groups": [], "verdict": "perhaps"},
            {**tried, "name": "too dear", "groups": [group], "verdict": "rejected"},
        ],
    }
    fair = {"floor": 0.5, "groups": [{"attribute": "race", "group": "b", "reference": "w", "verdict": "pass"}]}
    bare = with_facts(evaluation, fairness=fair)
    assert (
        "No search for less discriminatory alternatives belongs to this version"
        in Shape(write(evaluation=bare).html).text
    )
    result = {**bare.get("result", {}), "lda": {"summary": "2 candidates tried", "ledger": ledger}}
    text = Shape(write(evaluation={**bare, "result": result}).html).text
    for words in ("2 candidates tried. It saw 1,193 rows", "0.700 (0.600 to 0.800)", "perhaps: so", "without x"):
        assert words in text
    assert "too dear" not in text
    empty = {**bare.get("result", {}), "lda": {"summary": "nothing", "ledger": {}}}
    assert "alternatives: nothing" in Shape(write(evaluation={**bare, "result": empty}).html).text
