"""The document that a reviewer reads: why this model, these data, this threshold; and what moves its scores."""

from __future__ import annotations

from nbkit.package import ReasonBook, load_reasons
from nbkit.rationale._claims import contradictions
from nbkit.rationale._document import RATIONALE_FORMAT, Rationale, read_rationale, write_rationale
from nbkit.rationale._explain import explain_package
from nbkit.rationale._explanation import (
    Dependence,
    Explanation,
    Interaction,
    Share,
    SliceExplanation,
    Stability,
    Trial,
)
from nbkit.rationale._notice import AdverseNotice, notice_of
from nbkit.rationale._pdf import find_browser, print_pdf
from nbkit.rationale._reason import REASON_KINDS, Cited, Reason, changed_figures, cited_figures, render_reason
from nbkit.rationale._source import known_facts

__all__ = [
    "RATIONALE_FORMAT",
    "REASON_KINDS",
    "AdverseNotice",
    "Cited",
    "Dependence",
    "Explanation",
    "Interaction",
    "Rationale",
    "Reason",
    "ReasonBook",
    "Share",
    "SliceExplanation",
    "Stability",
    "Trial",
    "changed_figures",
    "cited_figures",
    "contradictions",
    "explain_package",
    "find_browser",
    "known_facts",
    "load_reasons",
    "notice_of",
    "print_pdf",
    "read_rationale",
    "render_reason",
    "write_rationale",
]
