"""An executed notebook as a page: everything readable, nothing fetched, nothing run."""

from __future__ import annotations

import base64
import json
import re

import pytest
from bs4 import BeautifulSoup

from nbkit.errors import UsageError
from nbkit.retrain import notebook_html
from nbkit.retrain._offline import offline, static_html

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
FETCHES = re.compile(
    r"""(?:src|srcset|href|data|action|poster)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(\s*['"]?\s*http"""
)


def page_of(write_notebook, *outputs: dict[str, object], source: str = "x = 1", **metadata: object) -> str:
    path = write_notebook("#md # Mortgage\n\n[UI](https://example.org/run) ![p](https://example.org/p.png)", source)
    document = json.loads(path.read_text())
    document["cells"][1]["outputs"] = list(outputs)
    document["cells"][1]["execution_count"] = 7
    document["metadata"] = metadata
    path.write_text(json.dumps(document))
    return notebook_html(path)


def shown(**data: object) -> dict[str, object]:
    kinds = {"html": "text/html", "text": "text/plain", "png": "image/png", "svg": "image/svg+xml"}
    named = {kinds.get(name, name): value for name, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": named}


def test_a_page_holds_cells_outputs_pictures_and_parameters(write_notebook):
    page = page_of(
        write_notebook,
        {"output_type": "stream", "name": "stdout", "text": "<out>\n"},
        {"output_type": "stream", "name": "stderr", "text": "\x1b[31mred\x1b[0m\n"},
        shown(html="<table><tr><td>cell</td></tr></table>", text="a table"),
        shown(png=PNG, text="<Figure>"),
        shown(svg="<svg xmlns='http://www.w3.org/2000/svg'/>", text="<Figure>"),
        shown(**{"image/jpeg": PNG}),
        shown(**{"text/markdown": "**bold**"}),
        shown(**{"text/latex": "$x < 1$"}),
        shown(text="only text"),
        source="model.fit(X)  # <train>",
        nbkit={"succeeded": True},
        papermill={
            "input_path": "train.ipynb",
            "parameters": {"max_iter": 300, "name": "<b>"},
            "start_time": "2026-11-23T10:00:00.123+00:00",
            "duration": 12.34,
        },
    )
    soup = BeautifulSoup(page, "html.parser")
    text = soup.get_text()
    assert soup.title.string == "train"
    assert soup.find(class_="outcome").string == "Every cell ran."
    assert [entry.string for entry in soup.find_all("dd")] == [
        "max_iter = 300, name = '<b>'",
        "2026-11-23 10:00:00 UTC",
        "12.3 s",
    ]
    for piece in (
        "Mortgage",
        "[7]",
        "model.fit(X)",
        "# <train>",
        "<out>",
        "red",
        "cell",
        "bold",
        "$x < 1$",
        "only text",
    ):
        assert piece in text
    assert "a table" not in text
    pictures = [picture["src"].split(",")[0] for picture in soup.find_all("img")]
    assert pictures == ["data:image/png;base64", "data:image/svg+xml;base64", "data:image/jpeg;base64"]
    assert soup.find(class_="ansi-red-fg").string == "red"
    assert soup.find("style").string.count("{") > 50


def test_a_failed_run_says_so_at_the_top_and_shows_the_error_where_it_happened(write_notebook):
    error = {
        "output_type": "error",
        "ename": "KeyError",
        "evalue": "<x>",
        "traceback": ["\x1b[31mline <1>\x1b[0m", "two"],
    }
    outcome = {"succeeded": False, "failed_cell": 2, "error_name": "KeyError", "error_text": "<x>"}
    soup = BeautifulSoup(page_of(write_notebook, error, nbkit=outcome), "html.parser")
    assert soup.find(class_="outcome").get_text() == "Failed in cell 2: KeyError: <x>"
    assert soup.find(class_="error").get_text() == "line <1>\ntwo\n"
    assert soup.find(class_="failed-cell") is not None


def test_an_error_without_traceback_and_a_run_without_a_cell_are_shown_too(write_notebook):
    error = {"output_type": "error", "ename": "UsageError", "evalue": "no <magic>", "traceback": []}
    outcome = {"succeeded": False, "failed_cell": None, "error_name": "KernelDidNotStart", "error_text": "no room"}
    soup = BeautifulSoup(page_of(write_notebook, error, nbkit=outcome), "html.parser")
    assert soup.find(class_="error").get_text() == "UsageError: no <magic>"
    assert soup.find(class_="outcome").get_text() == "Failed: KernelDidNotStart: no room"


def test_nothing_is_fetched_whatever_the_cells_hold(write_notebook):
    page = page_of(
        write_notebook,
        shown(html='<script src="https://cdn.example.org/plot.js"></script><div id="plot"></div>', text="a plot"),
        shown(html="<script>draw()</script>", png=PNG),
        shown(
            html='<p>text</p><img src="//example.org/pixel.gif"><link rel="stylesheet" href="https://example.org/a.css">'
        ),
        shown(html='<html><body background="http://example.org/b.png"><h1>Report</h1></body></html>'),
        shown(
            html="<style>@import url(https://example.org/c.css); p { background: url('http://example.org/d') }</style>t"
        ),
        shown(html='<p style="background:url(http://example.org/e)" onclick="go()">styled</p>'),
        shown(html='<iframe src="https://example.org/f"></iframe>', text="a frame"),
        shown(**{"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "a widget"}),
        shown(**{"application/javascript": "alert(1)"}),
    )
    assert not FETCHES.search(page)
    assert "<script" not in page
    assert "onclick" not in page
    soup = BeautifulSoup(page, "html.parser")
    text = soup.get_text()
    for piece in ("a plot", "text", "styled", "a widget", "UI (https://example.org/run)"):
        assert piece in text
    assert "[picture not kept: https://example.org/p.png]" in text
    assert "[an output that is not kept in this page: application/javascript]" in text
    assert "Report" in soup.find("iframe", srcdoc=True)["srcdoc"]
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_an_output_that_only_a_script_draws_falls_back_to_its_picture(write_notebook):
    page = page_of(write_notebook, shown(html="<style>p{}</style><div><script>draw()</script></div>", png=PNG))
    assert f"data:image/png;base64,{PNG}" in page


def test_marks_that_papermill_left_in_a_notebook_are_not_shown(write_notebook):
    path = write_notebook(("#md <span>An Exception was encountered</span>", "papermill-error-cell-tag"), "1")
    assert "An Exception was encountered" not in notebook_html(path)


def test_a_link_keeps_its_address_unless_it_sits_in_a_control():
    assert offline('<a href="https://a.example/x">here</a>') == (
        '<a title="https://a.example/x">here (https://a.example/x)</a>'
    )
    assert offline('<a href="https://a.example/x">https://a.example/x</a>').count("https") == 2
    assert offline('<label><a href="https://a.example/x">?</a></label>') == (
        '<label><a title="https://a.example/x">?</a></label>'
    )
    assert offline('<a href="#part">part</a>') == '<a href="#part">part</a>'
    assert offline('<a href="javascript:go()">go</a>') == "<a>go</a>"
    assert offline('<meta http-equiv="Refresh" content="0; url=http://a.example"/>') == ""


def test_a_report_in_a_frame_is_cleaned_inside():
    frame = static_html(
        '<iframe srcdoc="&lt;script src=&quot;http://a.example/x.js&quot;&gt;&lt;/script&gt;ok"></iframe>'
    )
    assert offline(frame) == '<iframe sandbox="" srcdoc="ok"></iframe>'


def test_a_raw_cell_is_shown_as_it_is(write_notebook):
    path = write_notebook("1")
    document = json.loads(path.read_text())
    document["cells"][0] = {"cell_type": "raw", "id": "r", "metadata": {}, "source": "<raw>"}
    path.write_text(json.dumps(document))
    assert "&lt;raw&gt;" in notebook_html(path)


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected a notebook, found no file"):
        notebook_html(tmp_path / "gone.ipynb")
