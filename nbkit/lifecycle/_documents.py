"""Which documents a submission signs, and how they are named; light, so that an examiner's laptop can use it."""

from __future__ import annotations

import hashlib

# What a submission signs besides the package: the documents that gates and reviewers rely on.
DOCUMENTS = ("evaluation.json", "rationale.json", "facts.json")
# Name, among a submission's documents, of all files at the version's location in MLflow.
LOGGED_MODEL = "logged model"


def digest_of(raw: bytes) -> str:
    """Return ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def submitted_folder(version: int) -> str:
    """Return where, among a run's artifacts, the documents of a version lie."""
    return f"version-{version}"
