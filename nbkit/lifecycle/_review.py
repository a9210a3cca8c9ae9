"""What a reviewer needs before signing: gates, what changed against production, documents, who said what so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from nbkit.contract import Stage
from nbkit.errors import EvidenceError, NbkitError, NotInRegistryError, UsageError
from nbkit.lifecycle._champion import fetch
from nbkit.lifecycle._diff import diff
from nbkit.lifecycle._gate import GateTable, judge_gates, resolve
from nbkit.lifecycle._pages import page_links
from nbkit.lifecycle._refusals import remarks
from nbkit.lifecycle._refuse import refuse, remark, withdraw
from nbkit.lifecycle._ui import waiting
from nbkit.lifecycle._version_page import verdict_on
from nbkit.lifecycle._view import Result, Table, View
from nbkit.lifecycle._with_page import approve
from nbkit.lifecycle._with_page import gate as show_gate
from nbkit.registry import Envelope, Registry, TrustStore
from nbkit.settings import Settings

_ANSWERS = ("approve", "refuse", "withdraw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Result):
    """The versions that wait for a reviewer."""

    versions: tuple[tuple[str, str, str], ...]

    def view(self) -> View:
        """Return what a person is shown."""
        if not self.versions:
            return View(headline="no version waits for review")
        count = len(self.versions)
        return View(
            headline=f"{count} version{'s' * (count != 1)} wait{'s' * (count == 1)} for review",
            tables=[Table(columns=("version", "what it says", "page"), rows=self.versions)],
            next_step=f"nbkit review {self.versions[0][0]}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Review(Result):
    """A version as its reviewer sees it.

    Parameters
    ----------
    name, version, stage : str, int, str
        What asks to move, and where to.
    verdict : str
        What the gates say, in one sentence.
    table : GateTable
        Every gate.
    submitter : str
        Who asks.
    approvers : tuple of str
        Who has approved what the gates say now.
    approvals_needed : int
        How many other people it takes.
    champion : int, optional
        The version in production.
    documents : tuple of (str, str)
        Title and address of each document, in the order to read them.
    changes : Result, optional
        What distinguishes it from production; None when there is nothing to compare with.
    remarks : tuple of (str, str)
        Who signed which remark with an approval.
    why_no_changes : str
        Why not.
    """

    name: str
    version: int
    stage: str
    verdict: str
    table: GateTable
    submitter: str
    approvers: tuple[str, ...]
    approvals_needed: int
    champion: int | None
    documents: tuple[tuple[str, str], ...]
    remarks: tuple[tuple[str, str], ...] = ()
    why_no_changes: str = ""
    changes: Result | None = field(default=None, repr=False)

    def view(self) -> View:
        """Return what a person is shown."""
        target = f"{self.name}@{self.version}"
        approved = f"{', '.join(self.approvers) or 'nobody'} ({len(self.approvers)} of {self.approvals_needed} needed)"
        facts = [("submitted by", self.submitter or "nobody whose signature counts"), ("approved by", approved)]
        facts += [(f"  {who} remarks", words) for who, words in self.remarks]
        facts += list(self.documents)
        tables = [Table(title=f"Gates before {self.stage}", columns=("gate", "verdict", "why"), rows=self.table.rows())]
        if self.changes is not None:
            against = self.changes.view()
            facts.append(("against production", against.headline))
            facts += [(f"  {label}", value) for label, value in against.facts]
            tables += against.tables
        else:
            facts.append(("against production", self.why_no_changes))
        verb = "--approve" if self.table.succeeded else '--refuse --reason "..."'
        return View(
            headline=f"{target} -> {self.stage}: {self.verdict}",
            facts=facts,
            tables=tables,
            next_step=f"nbkit review {target} --to {self.stage} {verb} --key NAME",
        )


def reviews(*, settings: Settings) -> Waiting:
    """List the versions that wait for a reviewer, with links to their pages."""
    registry = Registry(settings)
    found = tuple(
        (
            f"{record.model}@{record.version}",
            record.tags.get("nbkit.verdict") or record.description.partition("\n")[0],
            registry.version_link(record.model, record.version),
        )
        for record in waiting(settings)
    )
    return Waiting(versions=found)


def review(target: str, *, to: str = "", settings: Settings, now: datetime) -> Review:
    """Show a reviewer what a version is, what changed against production, and what to read before signing.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    to : str
        The stage; by default the next one on the contract's path.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.

    Returns
    -------
    Review
        Never raises for a gate that fails.

    Raises
    ------
    UsageError, NotInRegistryError
        There is no such version or stage.
    """
    name, version = resolve(target, settings=settings)
    registry = Registry(settings)
    package = fetch(name, version=version, settings=settings)
    stage = to or _next_stage(registry, name, version, path=[str(step) for step in package.contract.rollout.path])
    table = judge_gates(f"{name}@{version}", to=stage, settings=settings, now=now)
    found = table.production
    champion = found.version if found is not None and found.version != version else None
    changed, why = None, "nothing is in production yet" if champion is None else ""
    if found is not None and champion is not None:
        fetched = {champion: found.package, version: package}
        try:
            changed = diff(f"{name}@{champion}", f"{name}@{version}", settings=settings, now=now, fetched=fetched)
        except NbkitError as error:
            why = f"cannot be compared with version {champion}: {error}"
    return Review(
        name=name,
        version=version,
        stage=stage,
        verdict=verdict_on(table.results, stage=stage),
        table=table,
        submitter=registry.version(name, version=version).tags.get("nbkit.submitter", ""),
        approvers=_approvers(table, settings=settings, now=now),
        approvals_needed=package.contract.approvals_needed,
        champion=champion,
        documents=_documents(registry, table),
        remarks=remarks(name, version=version, stage=Stage(stage), package=package, settings=settings, now=now),
        why_no_changes=why,
        changes=changed,
    )


def answer_review(
    target: str, *, answer: str, to: str = "", reason: str = "", settings: Settings, now: datetime, key: str = ""
) -> Result:
    """Sign a reviewer's answer with the reviewer's own key, and keep the version's page fresh.

    Parameters
    ----------
    target : str
        ``NAME@VERSION``, or ``NAME`` for the candidate.
    answer : str
        ``approve``, ``refuse`` or ``withdraw`` (one's own refusal).
    to : str
        The stage; by default the next one on the contract's path.
    reason : str
        Why. A refusal and a withdrawal need it; with an approval it is kept as a signed remark.
    settings : Settings
        Where MLflow, keys and trust file are.
    now : datetime
        Aware.
    key : str
        Name of the reviewer's key.

    Returns
    -------
    Result
        What was signed.

    Raises
    ------
    UsageError
        Another answer, or no reason where one is needed.
    RefusedError
        A gate does not pass, or the reviewer submitted the version.
    EvidenceError
        The key is not trusted as an approver's.
    """
    if answer not in _ANSWERS:
        raise UsageError(f"review: expected {', '.join(_ANSWERS)}, got {answer!r}")
    name, version = resolve(target, settings=settings)
    target = f"{name}@{version}"
    if not to:
        path = [str(step) for step in fetch(name, version=version, settings=settings).contract.rollout.path]
        to = _next_stage(Registry(settings), name, version, path=path)
    if answer == "approve":
        approved = approve(target, to=to, settings=settings, now=now, key=key)
        if reason.strip():
            remark(target, to=to, reason=reason, settings=settings, now=now, key=key)
        return approved
    sign = refuse if answer == "refuse" else withdraw
    signed = sign(target, to=to, reason=reason, settings=settings, now=now, key=key)
    show_gate(target, to=to, settings=settings, now=now)
    return signed


def _next_stage(registry: Registry, name: str, version: int, *, path: list[str]) -> str:
    tags = registry.version(name, version=version).tags
    ahead = [stage for stage in path if f"nbkit.evidence.{stage}" not in tags]
    return (ahead or path or [Stage.PRODUCTION.value])[0]


def _approvers(table: GateTable, *, settings: Settings, now: datetime) -> tuple[str, ...]:
    """Return who has signed the approvals that wait for this stage; only a move checks what they signed."""
    registry, trust = Registry(settings), TrustStore.load(settings.trust_file)
    try:
        envelope: Envelope | None = registry.envelope(
            table.name, version=table.version, stage=str(table.stage), pending=True
        )
    except (EvidenceError, NotInRegistryError):
        return ()
    if envelope is None:
        return ()
    found = [(trust.find(signature.keyid), signature) for signature in envelope.signatures]
    return tuple(
        key.owner
        for key, signature in found
        if key is not None
        and signature.fits(key.raw, payload=envelope.payload)
        and not key.problem(signed_at=envelope.unverified_statement().issued_at, now=now)
    )


def _documents(registry: Registry, table: GateTable) -> tuple[tuple[str, str], ...]:
    version = ("version", registry.version_link(table.name, table.version))
    if not table.run_id:
        return (version,)
    pages = page_links(registry, table.run_id, version=table.version)
    # Links of pages begin inside the UI; here they are for a terminal.
    ui = registry.run_link(table.run_id).partition("#")[0]
    return (*((title, f"{ui}{place}") for title, place in pages.items()), version)
