"""What a reviewer reads in MLflow: kept for each version, signed, and compared with what was signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NotInRegistryError
from nbkit.lifecycle._documents import (
    AT_THE_TOP,
    DOCUMENTS,
    LOGGED_MODEL,
    NOTEBOOK,
    PAGES,
    SHOWN,
    TABLES,
    called,
    digest_of,
    place_of,
    submitted_folder,
)
from nbkit.lifecycle._usecase import Build
from nbkit.registry import Registry, Statement

_STAGES = (Stage.STAGING, Stage.SHADOW, Stage.CANARY, Stage.PRODUCTION)


def is_settled(registry: Registry, run_id: str) -> bool:
    """Say whether a version came out of a run: from then on, what the run shows at its top does not change."""
    return bool(registry.registered_from(run_id=run_id))


def show_pages(registry: Registry, build: Build, *, settled: bool) -> Mapping[str, str]:
    """Let a run show its build's pages at its top, unless it is settled; return what is to be signed of what it shows.

    Returns
    -------
    mapping of str to str
        Digest of each page and table at the top, under ``run/<path>``.
    """
    known: dict[str, str] = {}
    if not settled:
        # Written again: what is signed is what this build made, whatever became of the file since.
        for name in SHOWN:
            if (path := build.directory / name).exists():
                registry.log_file(build.run_id, path)
                known[name] = digest_of(path.read_bytes())
    found = {path: known.get(path) or digest_of(registry.read_artifact(build.run_id, path))
             for path in _shown(registry, build.run_id)}  # fmt: skip
    return {AT_THE_TOP + path: digest for path, digest in found.items()}


def keep_documents(registry: Registry, build: Build, *, version: int) -> None:
    """Keep a version's own copy of its documents and pages: one run may submit several versions."""
    for name in (*DOCUMENTS, *PAGES):
        if (path := build.directory / name).exists():
            registry.log_file(build.run_id, path, folder=submitted_folder(version))


def notebook_signed(submission: Statement, registry: Registry) -> Mapping[str, str]:
    """Return what an approval signs besides the submission's documents: the notebook as it ran, where there is one."""
    try:
        raw = registry.read_artifact(submission.run_id, NOTEBOOK)
    except NotInRegistryError:
        return {}
    return {AT_THE_TOP + NOTEBOOK: digest_of(raw)}


def changed_documents(submission: Statement, registry: Registry) -> Iterator[tuple[str, str]]:
    """Yield each document that is not as it was signed, and in what way; MLflow's own model files are not looked at.

    Parameters
    ----------
    submission : Statement
        Verified. One from before pages were signed names none of them, and none is missed.
    registry : Registry
        Where the documents lie.
    """
    version, run_id = submission.version, submission.run_id
    signed = {**_notebook_of(submission, registry), **submission.documents}
    for document, digest in signed.items():
        if document == LOGGED_MODEL:
            continue
        try:
            found = digest_of(registry.read_artifact(run_id, place_of(document, version=version)))
        except NotInRegistryError:
            yield document, f"{called(document)} is gone"
            continue
        if found != digest:
            verb = "approved" if document == AT_THE_TOP + NOTEBOOK else "submitted"
            yield document, f"{called(document)} is not the file that was {verb}"
    if any(document.startswith(AT_THE_TOP) for document in submission.documents):
        for path in _shown(registry, run_id):
            if AT_THE_TOP + path not in signed:
                yield AT_THE_TOP + path, f"{called(AT_THE_TOP + path)} was not submitted"


def page_links(registry: Registry, run_id: str, *, version: int) -> Mapping[str, str]:
    """Return where to read on about a version, in reading order: path inside the MLflow UI by title."""
    run = registry.run_path(run_id)
    own = submitted_folder(version)
    later = version != min((record.version for record in registry.registered_from(run_id=run_id)), default=version)
    # The run's top shows the pages of the first version that came out of it.
    kept = set(registry.file_paths(run_id, folder=own)) if later else set()
    pages = {"evaluation report": "report.html", "rationale": "rationale.html", "notebook as it ran": NOTEBOOK}
    return {
        title: f"{run}/artifacts/{own}/{page}" if f"{own}/{page}" in kept else f"{run}/artifacts/{page}"
        for title, page in pages.items()
    }


def _shown(registry: Registry, run_id: str) -> Iterator[str]:
    for path in registry.file_paths(run_id):
        if path in SHOWN or path.startswith(f"{TABLES}/"):
            yield path


def _notebook_of(submission: Statement, registry: Registry) -> Mapping[str, str]:
    """Return the notebook that was signed by who approved an earlier stage: whoever forged that fails, never passes."""
    found: dict[str, str] = {}
    for stage in _STAGES:
        try:
            envelope = registry.envelope(submission.model, version=submission.version, stage=stage)
        except EvidenceError:
            continue  # not readable: whoever asks for this stage says so
        documents = envelope.unverified_statement().documents if envelope is not None else {}
        found |= {name: digest for name, digest in documents.items() if name == AT_THE_TOP + NOTEBOOK}
    return found
