"""People's reasons: kept where they were written, with the figures that they cited then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.errors import RationaleError, UsageError
from nbkit.files import write_atomically
from nbkit.lifecycle._usecase import Build, UseCase
from nbkit.lifecycle._view import Result, View
from nbkit.package import load_package

if TYPE_CHECKING:
    from nbkit.rationale import Reason

_MEMORY_FORMAT = 1
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReason(Result):
    """A reason as it was kept, with its figures as far as they are known."""

    name: str
    kind: str
    text: str
    unknown: tuple[str, ...]
    stale: tuple[str, ...]

    def view(self) -> View:
        """Return what a person is shown."""
        facts = [("reads", " ".join(self.text.split()))]
        if self.unknown:
            facts.append(("filled in later", ", ".join(self.unknown)))
        facts += [("contradicted", problem) for problem in self.stale]
        follow = "correct the figure, or cite it: {{ metrics.auc }}" if self.stale else f"nbkit evaluate {self.name}"
        return View(headline=f"{self.name}: reason '{self.kind}' is kept", facts=facts, next_step=follow)


def write_reason(
    use_case: UseCase, *, kind: str, text: str, run_id: str, now: datetime, confirmed: str = ""
) -> WrittenReason:
    """Keep what a person wrote about a choice, where the choice was made; the last word on a kind counts.

    Parameters
    ----------
    use_case : UseCase
        Whose model.
    kind : str
        architecture, data, feature, threshold, exclusion or limit.
    text : str
        Paragraphs; ``{{ metrics.auc }}`` cites a figure of the run.
    run_id : str
        The run that it belongs to.
    now : datetime
        Aware.
    confirmed : str
        Day on which a person read the text again and found it true; a later day than before renews it.

    Returns
    -------
    WrittenReason
        What it reads now, and what is already known to contradict it.

    Raises
    ------
    RationaleError
        Unknown kind or empty text.
    UsageError
        ``confirmed`` is no day.
    """
    from nbkit.rationale import Reason, cited_figures, contradictions, render_reason

    if confirmed and not _DAY.fullmatch(confirmed):
        raise UsageError(f"--confirmed: expected a day such as {now.date()}, got {confirmed!r}")
    build = use_case.build(run_id)
    facts = _facts(build)
    reason = Reason(kind=kind, text=text, written_at=now, cited=cited_figures(text, facts))
    kept = [line for line in read_reasons(build) if line["kind"] != reason.kind]
    kept.append({**_plain(reason), "confirmed": confirmed})
    _write(build, kept)
    unknown: tuple[str, ...] = ()
    try:
        shown = render_reason(text, facts)
    except RationaleError as error:
        shown, unknown = text, tuple(problem.partition(":")[0] for problem in error.problems)
    stale = contradictions(text, facts)
    return WrittenReason(name=use_case.contract.name, kind=kind, text=shown, unknown=unknown, stale=stale)


def read_reasons(build: Build) -> list[dict[str, object]]:
    """Return the reasons of a build as they were written."""
    if not build.reasons.exists():
        return []
    return [json.loads(line) for line in build.reasons.read_text(encoding="utf-8").splitlines()]


def recall(use_case: UseCase, build: Build) -> list[Reason]:
    """Return the reasons of a build, each as of when a person wrote or confirmed it.

    A notebook that runs again writes the same text again, and nobody has read it. Such a reason keeps the time and the
    figures of when it was new.

    Parameters
    ----------
    use_case : UseCase
        Remembers the texts of earlier runs.
    build : Build
        Holds the texts of this one.

    Returns
    -------
    list of Reason
        In the order in which they were written.
    """
    from nbkit.rationale import Cited, Reason

    memory = _memory(use_case)
    found = []
    for line in read_reasons(build):
        kind, text = str(line["kind"]), str(line["text"])
        cited = {path: Cited.read(values, run=True) for path, values in _mapping(line.get("cited")).items()}
        written_at = str(line["written_at"])
        before = memory.get(kind, {})
        if before.get("text") == _digest(line):
            written_at = str(before["written_at"])
            earlier = _mapping(before.get("cited"))
            if before["run"] != build.run_id:
                cited |= {path: Cited.read(values, run=False) for path, values in earlier.items()}
        found.append(Reason(kind=kind, text=text, written_at=datetime.fromisoformat(written_at), cited=cited))
    return found


def remember(use_case: UseCase, build: Build, *, reasons: Sequence[Reason], facts: Mapping[str, object]) -> None:
    """Keep the figures that each reason cited when it was first filled in, in this run and for later ones.

    Parameters
    ----------
    use_case : UseCase
        Where later runs look.
    build : Build
        This run.
    reasons : sequence of Reason
        From `recall`.
    facts : mapping
        Of this run.
    """
    from nbkit.rationale import cited_figures

    memory, lines = _memory(use_case), read_reasons(build)
    by_kind = {reason.kind: reason for reason in reasons}
    for line in lines:
        now = {path: asdict(cited) for path, cited in cited_figures(str(line["text"]), facts).items()}
        line["cited"] = now | _mapping(line.get("cited"))
        kind, digest = str(line["kind"]), _digest(line)
        if memory.get(kind, {}).get("text") != digest:
            written_at = by_kind[kind].written_at.isoformat()
            memory[kind] = {"text": digest, "written_at": written_at, "run": build.run_id, "cited": now}
    _write(build, lines)
    document = {"format": _MEMORY_FORMAT, "reasons": memory}
    write_atomically(_memory_path(use_case), content=json.dumps(document, indent=1, sort_keys=True).encode())


def _facts(build: Build) -> dict[str, object]:
    """Return what is known in this run so far: nothing before there is a package."""
    from nbkit.rationale import known_facts

    if not (build.package / "manifest.json").exists():
        return {}
    package = load_package(build.package)
    evaluation = build.read_json("evaluation.json")
    if evaluation.get("package_digest") != package.digest:
        evaluation = {}
    return known_facts(package, evaluation=evaluation, alternatives=build.read_json("alternatives.json"))


def _plain(reason: Reason) -> dict[str, object]:
    cited = {path: asdict(figure) for path, figure in reason.cited.items()}
    return {"kind": reason.kind, "text": reason.text, "written_at": reason.written_at.isoformat(), "cited": cited}


def _write(build: Build, lines: Sequence[Mapping[str, object]]) -> None:
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(build.reasons, content=content.encode())


def _memory_path(use_case: UseCase) -> Path:
    return use_case.directory / ".nbkit" / "reasons.json"


def _memory(use_case: UseCase) -> dict[str, dict[str, object]]:
    path = _memory_path(use_case)
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("format") != _MEMORY_FORMAT:
        raise RationaleError(
            f"{path}: format: expected {_MEMORY_FORMAT}, got {document.get('format')!r}",
            next_step="delete it: the reasons are then as if they were new",
        )
    reasons: dict[str, dict[str, object]] = document["reasons"]
    return reasons


def _digest(line: Mapping[str, object]) -> str:
    read = " ".join(str(line["text"]).split()) + "\n" + str(line.get("confirmed") or "")
    return "sha256:" + hashlib.sha256(read.encode()).hexdigest()


def _mapping(value: object) -> dict[str, dict[str, object]]:
    return dict(value) if isinstance(value, dict) else {}
