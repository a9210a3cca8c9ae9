"""Which documents are signed, where they lie and what they are called; light, for an examiner's laptop."""

from __future__ import annotations

import hashlib

# What a submission signs besides the package: the documents that gates rely on …
DOCUMENTS = ("evaluation.json", "rationale.json", "facts.json")
# … and those that only people read, where a run has them.
PAGES = ("report.html", "rationale.html", "rationale.pdf")
# The notebook as it ran is written after its last cell, which registers: whoever approves signs it.
NOTEBOOK = "notebook.html"
# In MLflow, what a run shows at its top; registered once, none of it changes.
SHOWN = (*PAGES, "evaluation.json", "rationale.json")
TABLES = "tables"
# Among signed documents: what the run shows at its top, rather than the version's own copy.
AT_THE_TOP = "run/"
# Name, among a submission's documents, of all files at the version's location in MLflow.
LOGGED_MODEL = "logged model"
# What of it is taken away with the evidence.
EXPORTED = (*DOCUMENTS, *PAGES, AT_THE_TOP + NOTEBOOK)


def digest_of(raw: bytes) -> str:
    """Return ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def submitted_folder(version: int) -> str:
    """Return where, among a run's artifacts, the documents of a version lie."""
    return f"version-{version}"


def place_of(document: str, *, version: int) -> str:
    """Return where, among a run's artifacts, a signed document lies.

    Examples
    --------
    >>> place_of("report.html", version=2)
    'version-2/report.html'
    >>> place_of("run/report.html", version=2)
    'report.html'
    """
    if document.startswith(AT_THE_TOP):
        return document.removeprefix(AT_THE_TOP)
    return f"{submitted_folder(version)}/{document}"


def called(document: str) -> str:
    """Return what a signed document is called in a sentence.

    Examples
    --------
    >>> called("run/report.html")
    'report.html at the top of the run'
    """
    top = document.startswith(AT_THE_TOP)
    return f"{document.removeprefix(AT_THE_TOP)} at the top of the run" if top else document
