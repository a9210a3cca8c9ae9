"""What the MLflow UI shows of a version: a plain verdict, its gates, where to read on, and tags to filter by.

Nothing that decides reads any of it. `nbkit registry audit` says where it differs from what was signed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import RegistryError
from nbkit.lifecycle._index import INDEX
from nbkit.lifecycle._pages import page_links
from nbkit.package import Package
from nbkit.records import GateResult
from nbkit.registry import Registry, Statement
from nbkit.settings import Settings

__all__ = [
    "gate_tags",
    "identity_tags",
    "page_text",
    "show_approval",
    "show_archived",
    "show_candidate",
    "show_gates",
    "show_move",
    "verdict_on",
]

_LOG = logging.getLogger("nbkit.lifecycle")

# MLflow keeps a version's description in a column of 5,000 characters.
_MOST_CHARACTERS = 4900
_RATIONALE = "**The rationale in short**"
_LONGEST_REASON = 120


def identity_tags(package: Package, *, submitter: str) -> dict[str, str]:
    """Return the tags that registration writes and that never change."""
    contract = package.contract
    return {
        "nbkit.owner": contract.owner.primary,
        "nbkit.submitter": submitter,
        "nbkit.package_digest": package.digest,
        "nbkit.contract_digest": contract.digest,
        "nbkit.case_set": contract.evaluate.case_set or "none",
    }


def gate_tags(results: Sequence[GateResult]) -> dict[str, str]:
    """Return one tag a gate: ``nbkit.gate.fairness`` = ``fail: impact ratio 0.74, floor 0.80``."""
    return {f"nbkit.gate.{r.gate.replace(':', '.')}": f"{r.verdict.value}: {r.reason}" for r in results}


def verdict_on(results: Sequence[GateResult], *, stage: str) -> str:
    """Return a plain verdict in one sentence.

    Examples
    --------
    >>> from nbkit.records import Verdict
    >>> good = GateResult(gate="parity", verdict=Verdict.PASS, reason="agrees")
    >>> bad = GateResult(gate="fairness", verdict=Verdict.FAIL, reason="impact ratio 0.74, floor 0.80")
    >>> verdict_on([good], stage="staging")
    'Passes the 1 gate before staging.'
    >>> verdict_on([good, bad], stage="staging")
    'Does not pass: 1 of 2 gates before staging stands in the way (fairness).'
    """
    open_gates = [result.gate for result in results if not result.passed]
    count = f"{len(results)} gate{'s' * (len(results) != 1)}"
    if results and not open_gates:
        return f"Passes the {count} before {stage}."
    stand = "stand" if len(open_gates) != 1 else "stands"
    return f"Does not pass: {len(open_gates)} of {count} before {stage} {stand} in the way ({', '.join(open_gates)})."


def page_text(
    verdict: str, *, results: Sequence[GateResult], stage: str, links: Mapping[str, str], rationale: str
) -> str:
    """Return a version's description: verdict, links, a narrow table of gates, the rationale as far as it fits.

    Parameters
    ----------
    verdict : str
        One plain sentence: all that a list of versions shows.
    results : sequence of GateResult
        Of the stage that was asked for last; may be empty.
    stage : str
        That stage.
    links : mapping of str to str
        Address of each document, by its title.
    rationale : str
        Its short form, in Markdown.

    Returns
    -------
    str
        Markdown that fits MLflow's column.
    """
    parts = [verdict]
    if links:
        parts.append("**Read on:** " + " · ".join(f"[{_cell(title)}]({place})" for title, place in links.items()))
    if results:
        rows = [f"| {_cell(r.gate)} | {r.verdict.value} | {_cell(_short(r.reason))} |" for r in results]
        parts.append("\n".join([f"| Gate before {stage} | Verdict | Why |", "| --- | --- | --- |", *rows]))
    text = "\n\n".join(parts)
    room = _MOST_CHARACTERS - len(text) - len(_RATIONALE) - 4
    shown = _as_far_as_it_fits(rationale, room)
    return f"{text}\n\n{_RATIONALE}\n\n{shown}\n" if shown else text + "\n"


def show_candidate(name: str, *, version: int, rationale: str, run_id: str, settings: Settings) -> None:
    """Show a version that was just registered, on its page and on that of its run."""
    registry = Registry(settings)
    figures, _, rest = rationale.partition("\n")
    verdict = f"Waits for review. {figures}".strip()
    text = page_text(verdict, results=(), stage="", links=_links(registry, run_id, version), rationale=rest.strip())
    registry.describe_version(name, version=version, description=text)
    registry.set_version_tags(name, version=version, tags={"nbkit.verdict": verdict})
    _show_run(registry, run_id, stage=Stage.CANDIDATE.value, verdict=verdict)


def show_gates(
    name: str, *, version: int, stage: str, results: Sequence[GateResult], run_id: str, settings: Settings
) -> None:
    """Show what the gates said when they were last asked, unless the version has the stage already.

    Whoever may only read sees the gates as well: where MLflow refuses the tags, that is logged and nothing else.
    """
    registry = Registry(settings)
    try:
        if f"nbkit.evidence.{stage}" in registry.version(name, version=version).tags:
            return  # what was signed stays on the page
        _show(registry, name, version=version, stage=stage, verdict=verdict_on(results, stage=stage), results=results,
              run_id=run_id)  # fmt: skip
    except RegistryError as error:
        _LOG.warning("page of %s@%s not refreshed: %s", name, version, error)


def show_approval(name: str, *, version: int, stage: str, approver: str, count: str, settings: Settings) -> None:
    """Say on a version's page who has approved its move so far."""
    registry = Registry(settings)
    record = registry.version(name, version=version)
    verdict = f"Waits for {stage}: approved by {approver} ({count}). {record.tags.get('nbkit.verdict', '')}".strip()
    try:
        _retell(registry, name, version=version, verdict=verdict)
    except RegistryError as error:
        _LOG.warning("page of %s@%s not refreshed: %s", name, version, error)


def show_move(statement: Statement, *, signed_by: Sequence[str], settings: Settings) -> None:
    """Show a version in the stage that its evidence puts it into."""
    people = ", ".join(sorted(signed_by))
    since = f"In {statement.stage} since {statement.issued_at.date().isoformat()}"
    verdict = f"{since}: passes the {len(statement.gates)} gates before it, signed by {people}."
    if statement.reason:
        verdict = f"{since}: rolled back to by {people}: {statement.reason}"
    _show(Registry(settings), statement.model, version=statement.version, stage=statement.stage, verdict=verdict,
          results=statement.gates, run_id=statement.run_id)  # fmt: skip


def show_archived(name: str, *, version: int, successor: int, now: datetime, settings: Settings) -> None:
    """Say on a version's page that another one took its place; its gates stay as they were signed."""
    verdict = f"Archived on {now.date().isoformat()}: version {successor} is in production."
    _retell(Registry(settings), name, version=version, verdict=verdict, stage=Stage.ARCHIVED.value)


def _retell(registry: Registry, name: str, *, version: int, verdict: str, stage: str = "") -> None:
    """Put another verdict in front of what a page says."""
    record = registry.version(name, version=version)
    rest = record.description.partition("\n")[2]
    registry.describe_version(name, version=version, description=f"{verdict}\n{rest}")
    registry.set_version_tags(name, version=version, tags={"nbkit.verdict": verdict})
    if record.run_id:
        _show_run(registry, record.run_id, stage=stage or record.tags.get("nbkit.stage", ""), verdict=verdict)


def _show(
    registry: Registry,
    name: str,
    *,
    version: int,
    stage: str,
    verdict: str,
    results: Sequence[GateResult],
    run_id: str,
) -> None:
    record = registry.version(name, version=version)
    rationale = record.description.partition(_RATIONALE)[2].strip()
    links = _links(registry, run_id, version) if run_id else {}
    text = page_text(verdict, results=results, stage=stage, links=links, rationale=rationale)
    tags = gate_tags(results) | {"nbkit.gates_for": stage, "nbkit.verdict": verdict}
    # Gates of another stage that this one does not have would stand beside its own as if they were.
    stale = [key for key in record.tags if key.startswith("nbkit.gate.") and key not in tags]
    registry.delete_version_tags(name, version=version, keys=stale)
    registry.set_version_tags(name, version=version, tags=tags)
    registry.describe_version(name, version=version, description=text)
    if run_id:
        _show_run(registry, run_id, stage=record.tags.get("nbkit.stage", ""), verdict=verdict)


def _show_run(registry: Registry, run_id: str, *, stage: str, verdict: str) -> None:
    """Put the verdict first on the run's page too; what follows it there stays."""
    before = registry.run(run_id)
    # What was there is the verdict of an earlier day, or the rationale's own first line.
    rest = before.description.partition("\n")[2].strip()
    tags = {"nbkit.verdict": verdict} | ({"nbkit.stage": stage} if stage else {})
    registry.describe_run(run_id, f"{verdict}\n\n{rest}" if rest else verdict, tags=tags)


def _links(registry: Registry, run_id: str, version: int) -> dict[str, str]:
    """Return where each document is read; addresses without a host, so that they hold wherever the UI runs."""
    run = registry.run_path(run_id)
    return dict(page_links(registry, run_id, version=version)) | {"evidence": f"{run}/artifacts/{INDEX}", "run": run}


def _as_far_as_it_fits(text: str, room: int) -> str:
    if len(text) <= room:
        return text.strip()
    kept: list[str] = []
    for part in text.split("\n\n"):
        room -= len(part) + 2
        if room < 0:
            break
        kept.append(part)
    return "\n\n".join(kept).strip()


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"


def _cell(text: str) -> str:
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ").replace("|", "\\|")
    return plain.replace("[", "\\[").replace("]", "\\]").replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")
