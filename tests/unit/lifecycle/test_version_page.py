"""The text of a version's page: what comes first, what fits, and what cannot break the markdown."""

from __future__ import annotations

from nbkit.lifecycle._version_page import gate_tags, page_text, verdict_on
from nbkit.records import GateResult, Verdict

FAIR = GateResult(gate="fairness", verdict=Verdict.FAIL, reason="impact ratio 0.74, floor 0.80", next_step="look")
GOOD = GateResult(gate="at_least:auc", verdict=Verdict.PASS, reason="auc is 0.83, reaching the floor 0.75")
LINKS = {"evaluation report": "#/experiments/1/runs/abc/artifacts/report.html", "run": "#/experiments/1/runs/abc"}


def test_one_tag_a_gate() -> None:
    assert gate_tags([FAIR, GOOD]) == {
        "nbkit.gate.fairness": "fail: impact ratio 0.74, floor 0.80",
        "nbkit.gate.at_least.auc": "pass: auc is 0.83, reaching the floor 0.75",
    }


def test_no_gate_at_all_is_no_pass() -> None:
    assert verdict_on([], stage="staging").startswith("Does not pass: 0 of 0 gates")


def test_the_verdict_comes_first_then_links_gates_and_the_rationale() -> None:
    text = page_text("Refused.", results=[FAIR, GOOD], stage="staging", links=LINKS, rationale="Why we do this.")
    lines = [line for line in text.splitlines() if line]
    assert lines == [
        "Refused.",
        "**Read on:** [evaluation report](#/experiments/1/runs/abc/artifacts/report.html)"
        " · [run](#/experiments/1/runs/abc)",
        "| Gate before staging | Verdict | Why |",
        "| --- | --- | --- |",
        "| fairness | fail | impact ratio 0.74, floor 0.80 |",
        "| at\\_least:auc | pass | auc is 0.83, reaching the floor 0.75 |",
        "**The rationale in short**",
        "Why we do this.",
    ]


def test_what_does_not_fit_ends_with_a_whole_paragraph() -> None:
    rationale = "\n\n".join(f"{number}: " + "x" * 500 for number in range(20))
    text = page_text("Refused.", results=[FAIR], stage="staging", links=LINKS, rationale=rationale)
    assert 4000 < len(text) <= 5000
    assert text.rstrip().endswith("x" * 500)


def test_a_reason_cannot_become_markup() -> None:
    nasty = GateResult(gate="scan", verdict=Verdict.FAIL, reason="a|b\n<script> [x](y) *z* " + "w" * 300)
    row = page_text("No.", results=[nasty], stage="staging", links={}, rationale="").splitlines()[-1]
    assert row.startswith("| scan | fail | a\\|b &lt;script> \\[x\\](y) \\*z\\* ")
    assert row.endswith("… |")
    assert len(row) < 200
