"""The report is one file that needs nothing else, and says the verdict first."""

import re
from html.parser import HTMLParser

import pytest

from nbkit.evaluate import Estimate, EvaluationResult, GoldenCase, evaluate_package, freeze_cases
from nbkit.evaluate._report import figure, share_interval
from nbkit.evaluate._svg import Chart, strip, tick_text, ticks

VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def read(html):
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


@pytest.fixture
def result(rows, contract, pinned, package_class, tmp_path):
    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.9, seed=0)
    package = package_class(contract=pinned(cases))
    row = {"risk": -3.0, "income": 2000.0, "kind": "fixed", "owner": True}
    golden = [
        GoldenCase(id="safe", why="It is safe.", inputs=row, expect={"decision": "approve"}),
        GoldenCase(id="odd", why="<script>alert(1)</script>", inputs=row, expect={"decision": "decline"}),
    ]
    champion = package_class(contract=pinned(cases), slope=0.1)

    def make(**changes):
        given = {"cases": cases, "golden": golden, "champion": champion, "champion_version": 3}
        given["alternatives"] = {"logistic regression": {"auc": 0.71, "recall": 0.5}, "tree": {"auc": 0.7}}
        return evaluate_package(package, **(given | changes))

    return make


def test_the_page_is_well_formed_and_needs_nothing_else(result):
    page = read(result().to_html())
    assert page.links == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert "url(" not in result().to_html()
    assert "@import" not in result().to_html()
    assert page.tags.count("svg") > 10


def test_the_verdict_comes_first(result):
    text = read(result().to_html()).text
    assert re.match(r".*? \d objections? to this version", text)
    assert text.index(" to this version") < text.index("AUC") < text.index("Figures")
    assert "1 of 2 golden cases failed (odd)" in text


def test_text_from_people_is_escaped(result):
    assert "<script>alert" not in result().to_html()
    assert "&lt;script&gt;alert(1)" in result().to_html()


def test_every_part_is_there(result):
    text = read(result().to_html()).text
    for heading in (
        "Figures",
        "Ranking and calibration",
        "Decisions and money",
        "Against the champion",
        "Fairness",
        "Slices",
    ):
        assert heading in text
    assert "Golden cases" in text
    assert "logistic regression" in text
    assert "Expected cost by threshold" in result().to_html()


def test_a_first_version_without_champion_golden_cases_or_alternatives_renders(result):
    found = result(champion=None, champion_version=None, golden=(), alternatives={})
    text = read(found.to_html()).text
    assert "nothing: there is no version in production yet" in text
    assert "Cannot tell: no golden case exists" in text
    assert "Alternatives that were tried" not in text


def test_a_champion_that_could_not_be_scored_says_why(result, package_class, make_contract):
    other = make_contract(inputs=[{"name": "old", "type": "number"}], evaluate={})
    text = read(result(champion=package_class(contract=other)).to_html()).text
    assert "Cannot tell : the cases lack its inputs old" in text
    assert "Newly wrong" not in text


def test_a_contract_without_groups_and_slices_renders(rows, make_contract, package_class, tmp_path):
    contract = make_contract(protected=[], evaluate={"resamples": 200})
    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.5, seed=0)
    package = package_class(contract=contract)
    found = evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None)
    text = read(found.to_html()).text
    assert "The contract names no protected attribute" in text
    assert "The contract names no slice." in text


def test_a_group_that_does_not_occur_and_a_reference_without_cases_render(rows, make_contract, package_class, tmp_path):
    for reference, said in (("nobody", "the reference group 'nobody' has no case"), ("a", "No other group occurs")):
        contract = make_contract(protected=[{"name": "group", "reference": reference}])
        frame = rows.assign(group="a")
        cases = freeze_cases(frame, contract=contract, directory=tmp_path, name=reference, share=0.5, seed=0)
        package = package_class(contract=contract)
        found = evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None)
        assert said in read(found.to_html()).text


def test_a_model_that_scores_all_alike_renders(rows, contract, pinned, package_class, tmp_path):
    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.5, seed=0)
    package = package_class(contract=pinned(cases), slope=0.0, offset=-20.0)
    found = evaluate_package(package, cases=cases, golden=(), champion=None, champion_version=None)
    assert found.metric("auc").value == 0.5
    assert "0.500" in read(found.to_html()).text


def test_no_number_is_written_as_nan_or_negative_zero(result):
    text = read(result().to_html()).text
    assert not re.search(r"\bnan\b|\binf\b|−0\.0+\b", text)
    assert figure(-0.0001) == "0.000"
    assert figure(-1234.5, 1) == "−1,234.5"
    assert figure(None) == ""
    assert share_interval(Estimate(value=0.5)) == "no interval"


class TestPictures:
    def test_ticks_are_round_and_inside(self):
        assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        assert ticks(0.13, 0.87) == [0.2, 0.4, 0.6, 0.8]
        assert ticks(0, 3400) == [0.0, 1000.0, 2000.0, 3000.0]
        assert [tick_text(value, ticks(0, 0.11)) for value in ticks(0, 0.11)] == [
            "0.000",
            "0.025",
            "0.050",
            "0.075",
            "0.100",
        ]
        assert tick_text(2000.0, [0.0, 2000.0]) == "2,000"
        assert tick_text(3.0, [3.0]) == "3"

    def test_text_in_a_picture_is_escaped(self):
        chart = Chart(x=(0, 1), y=(0, 1), x_label="<x>", y_label="&", title='"quoted"')
        chart.label((0.5, 0.5), "<b>")
        chart.dot((0.5, 0.5), kind="main", tip="<i>")
        found = chart.render()
        assert "&lt;x&gt;" in found
        assert "&lt;b&gt;" in found
        assert "&lt;i&gt;" in found
        assert "&#34;quoted&#34;" in found

    def test_a_name_near_the_right_edge_is_written_to_the_left(self):
        chart = Chart(x=(0, 1), y=(0, 1), x_label="x", y_label="y", title="t")
        chart.upright(0.2, "decline 0.2", kind="main")
        chart.upright(0.99, "decline 0.99", kind="main")
        assert 'text-anchor="start">decline 0.2<' in chart.render()
        assert 'text-anchor="end">decline 0.99<' in chart.render()

    def test_an_interval_beyond_the_scale_is_cut_at_its_end(self):
        assert 'cx="184.0"' in strip(5.0, 4.0, 6.0, scale=(0, 1), reference=None)
        assert "circle" not in strip(None, None, None, scale=(0, 1), reference=0.5)


def test_figures_by_group_intersections_and_proxies_are_shown(rows, make_contract, package_class, tmp_path):
    rows["sex"] = ["male", "female"] * (len(rows) // 2)
    contract = make_contract(
        protected=[{"name": "group", "reference": "a"}, {"name": "sex", "reference": "male"}],
        fairness={"odds_ceiling": 0.1},
    )
    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.9, seed=0)
    result = evaluate_package(
        package_class(contract=contract), cases=cases, golden=[], champion=None, champion_version=None
    )
    page = read(result.to_html())
    for words in (
        "Scores, odds and calibration by group",
        "b × female",
        "What the inputs give away",
        "score difference",
    ):
        assert words in page.text
    assert "shown, not judged" in page.text
    assert any("odds of" in sentence for sentence in result.objections + result.open_questions)
    assert [one["measure"] for one in result.facts()["fairness"]["measures"]] == ["odds", "odds"]
    again = EvaluationResult.from_json(result.to_json())
    assert again.disparities == result.disparities


def test_intersections_are_judged_where_the_contract_says_so(rows, make_contract, package_class, tmp_path):
    rows["sex"] = ["male", "female"] * (len(rows) // 2)
    protected = [{"name": "group", "reference": "a"}, {"name": "sex", "reference": "male"}]
    contract = make_contract(protected=protected, fairness={"intersections": True})
    cases = freeze_cases(rows, contract=contract, directory=tmp_path, share=0.9, seed=0)
    result = evaluate_package(
        package_class(contract=contract), cases=cases, golden=[], champion=None, champion_version=None
    )
    assert "b × female" in [group["group"] for group in result.facts()["fairness"]["groups"]]
