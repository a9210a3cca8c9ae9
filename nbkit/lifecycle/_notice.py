"""Tell the person concerned: a notice of adverse action from a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from nbkit.contract import Notice
from nbkit.errors import NbkitError, RationaleError
from nbkit.files import write_atomically
from nbkit.lifecycle._prove import find_record
from nbkit.lifecycle._usecase import open_use_case
from nbkit.lifecycle._view import Result, View
from nbkit.package import Package, ReasonBook
from nbkit.records import AuditRecord
from nbkit.serve import REASONS_FOLLOW, PackageStore, explanation_of
from nbkit.settings import Settings

_SHOWN_AS = "%Y-%m-%d"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRendered(Result):
    """A notice of adverse action."""

    id: str
    model: str
    jurisdiction: str
    language: str
    reasons: tuple[tuple[str, str], ...]
    gaps: tuple[str, ...]
    send_by: datetime | None
    path: Path | None
    text: str = field(repr=True)
    html: str = field(default="", repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the notice can be sent as it is."""
        return not self.gaps

    def view(self) -> View:
        """Return what a person is shown."""
        said = "complete" if self.succeeded else f"NOT to be sent yet: {len(self.gaps)} gaps"
        facts = [("gap", gap) for gap in self.gaps]
        facts += [("send by", self.send_by.strftime(_SHOWN_AS))] if self.send_by else []
        facts += [("written to", str(self.path))] if self.path else []
        return View(
            headline=f"{self.id}: notice for {self.jurisdiction} in {self.language}: {said}\n\n{self.text}",
            facts=facts,
        )


def notice(
    record_id: str,
    *,
    settings: Settings,
    jurisdiction: str = "",
    language: str = "",
    html: Path | None = None,
    base: Path | None = None,
    ledger: str = "",
) -> NoticeRendered:
    """Render the notice of adverse action of a recorded decline.

    Reasons are those of the record. Creditor, address and agency come from the contract of the use case where it is at
    hand, otherwise from the one that was packaged.

    Parameters
    ----------
    record_id : str
        The ``decision_id`` of the answer.
    settings : Settings
        Where ledgers and packages are.
    jurisdiction, language : str
        Default: the contract's first.
    html : Path, optional
        Where the HTML is written.
    base : Path, optional
        Folder in which use cases are looked for.
    ledger : str
        Where the decision is recorded, where ``nbkit serve`` on this machine did not: a file, or ``postgresql://…``.

    Returns
    -------
    NoticeRendered
        It succeeds when nothing that must be said is missing.

    Raises
    ------
    NotInLedgerError
        No such record.
    RationaleError
        The decision is not adverse, or there is no text for the jurisdiction in the language.
    """
    from nbkit.rationale import notice_of

    record = find_record(record_id, settings=settings, ledger=ledger)
    if record.kind != "decision":
        followed = record.tags.get("shadow_of", "ID")
        raise RationaleError(
            f"{record_id}: a shadow's record, which answered nobody", next_step=f"nbkit notice {followed}"
        )
    package = PackageStore(settings.store).package(record.package_digest)
    made = notice_of(
        _with_late_reasons(record, package),
        contract=package.contract,
        book=ReasonBook.from_package(package),
        told_by=_present(record.model, base=base),
        jurisdiction=jurisdiction,
        language=language,
    )
    if html is not None:
        write_atomically(html, content=made.html.encode())
    return NoticeRendered(
        id=record.id,
        model=record.model,
        jurisdiction=made.jurisdiction,
        language=made.language,
        reasons=made.reasons,
        gaps=made.gaps,
        send_by=made.send_by,
        path=html,
        text=made.text,
        html=made.html,
    )


def _with_late_reasons(record: AuditRecord, package: Package) -> AuditRecord:
    """Add the reasons of a decline that were late for its answer, computed from the record as the service does."""
    if record.reasons or record.tags.get("reasons_missing") != REASONS_FOLLOW:
        return record
    found = explanation_of(record, load_package=lambda _: package)["reasons"]
    given = [(str(one["code"]), str(one["text"])) for one in found] if isinstance(found, list) else []
    tags = {**record.tags, **{f"reason.{code}": text for code, text in given}}
    return replace(record, reasons=tuple(code for code, _ in given), tags=tags)


def _present(model: str, *, base: Path | None) -> Notice | None:
    """Return what the contract of today says about the creditor; None where there is no use case at hand."""
    if base is None:
        return None
    try:
        use_case = open_use_case(model, base=base)
    except NbkitError:
        return None
    told = use_case.contract.notice
    return told if use_case.contract.name == model and told.creditor else None
