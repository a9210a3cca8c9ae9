"""The document that a reviewer reads: why this model, these data, this threshold; and what moves its scores."""

from __future__ import annotations

from nbkit.package import ReasonBook, load_reasons
from nbkit.rationale._document import RATIONALE_FORMAT, Rationale, write_rationale
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
from nbkit.rationale._reason import REASON_KINDS, Reason, contradictions, render_reason

__all__ = [
    "RATIONALE_FORMAT",
    "REASON_KINDS",
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
    "contradictions",
    "explain_package",
    "load_reasons",
    "render_reason",
    "write_rationale",
]
