"""A notice of adverse action, rendered from an audit record: what was decided, why, and what the law wants said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup, escape

from nbkit.contract import Contract, Notice, duties_of
from nbkit.errors import RationaleError
from nbkit.package import ReasonBook, ReasonText
from nbkit.records import AuditRecord

__all__ = ["AdverseNotice", "notice_of"]

# Of the texts in notices/. To raise it: read both layouts in `_words`.
_FORMAT = 1

_FOLDER = Path(__file__).parent / "notices"
_TEXT_TAG = "reason."
_GAP = re.compile(r"\[[^\[\]]+\]")
_ADVERSE = "decline"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdverseNotice:
    """A notice for one declined applicant.

    Parameters
    ----------
    record_id : str
        The decision.
    jurisdiction, language : str
        Of the texts.
    reasons : tuple of (str, str)
        Codes and sentences, in the order in which they were recorded.
    text, html : str
        The notice; a gap stands in square brackets.
    send_by : datetime or None
        The latest day by the profile of duties; None where it names none.
    gaps : tuple of str
        What the notice must say and nobody told nbkit; empty when it can be sent.
    """

    record_id: str
    jurisdiction: str
    language: str
    reasons: tuple[tuple[str, str], ...]
    text: str
    html: str
    send_by: datetime | None
    gaps: tuple[str, ...]


def notice_of(
    record: AuditRecord,
    *,
    contract: Contract,
    book: ReasonBook,
    told_by: Notice | None = None,
    jurisdiction: str = "",
    language: str = "",
) -> AdverseNotice:
    """Render the notice of one recorded decline.

    Parameters
    ----------
    record : AuditRecord
        Of a decision that was answered.
    contract : Contract
        Of the package that decided.
    book : ReasonBook
        Of the same package; reasons in another language come from it.
    told_by : Notice, optional
        Creditor, address and agency of today, where the contract was packaged without; default: the contract's.
    jurisdiction, language : str
        Default: the contract's first.

    Returns
    -------
    AdverseNotice
        Perhaps with gaps, which are named.

    Raises
    ------
    RationaleError
        The decision is not adverse, answered nobody, or has no reason; or no notice text exists for the jurisdiction
        in the language.
    """
    _refuse(record)
    jurisdiction = jurisdiction or contract.jurisdictions[0]
    language = language or contract.notice.languages[0]
    words = _words(jurisdiction, language, contract=contract)
    gaps: list[str] = []
    reasons = tuple(
        (code, _sentence(record, code, book, jurisdiction=jurisdiction, language=language, gaps=gaps))
        for code in record.reasons
    )
    parts = _parts(record, words, told_by or contract.notice, contract=contract, gaps=gaps)
    days = _days(contract, jurisdiction)
    made = AdverseNotice(
        record_id=record.id,
        jurisdiction=jurisdiction,
        language=language,
        reasons=reasons,
        text=_text(words, parts, reasons),
        html="",
        send_by=record.received_at + timedelta(days=days) if days is not None else None,
        gaps=tuple(dict.fromkeys(gaps)),
    )
    return _with_html(made, words=words, parts=parts)


def _refuse(record: AuditRecord) -> None:
    why = ""
    if record.kind == "shadow":
        why = "it is the record of a version in shadow, which answered nobody"
    elif record.decision != _ADVERSE:
        waiting = "; a person has not decided yet" if record.decision == "refer" else ""
        why = f"the decision is {record.decision}, which is not adverse{waiting}"
    elif not record.reasons:
        why = "the record holds no reason, and a notice never invents one"
    if why:
        raise RationaleError(f"{record.id}: no notice of adverse action: {why}")


def _words(jurisdiction: str, language: str, *, contract: Contract) -> Mapping[str, str]:
    if jurisdiction not in contract.jurisdictions:
        listed = ", ".join(contract.jurisdictions)
        raise RationaleError(f"jurisdiction {jurisdiction!r}: the contract decides in {listed}")
    chosen = [profile.jurisdiction for profile in duties_of(contract) if jurisdiction in profile.covers]
    path = _FOLDER / f"{(chosen or [jurisdiction])[0].lower()}.{language}.yaml"
    if not path.is_file():
        stems = sorted(known.stem.split(".") for known in _FOLDER.glob("*.yaml"))
        there = ", ".join(f"{code.upper()}/{spoken}" for code, spoken in stems)
        raise RationaleError(f"no notice text for {jurisdiction} in {language!r}; there are {there}")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if document.get("format") != _FORMAT:
        raise RationaleError(f"{path.name}: expected format {_FORMAT}, got {document.get('format')!r}")
    words: dict[str, str] = document
    return words


def _days(contract: Contract, jurisdiction: str) -> int | None:
    times = [profile.days() for profile in duties_of(contract) if jurisdiction in profile.covers]
    return min((days for days in times if days is not None), default=None)


def _sentence(
    record: AuditRecord, code: str, book: ReasonBook, *, jurisdiction: str, language: str, gaps: list[str]
) -> str:
    """Return what the person was told, in the language that is asked for."""
    entry = book.find(code)
    told = record.tags.get(f"{_TEXT_TAG}{code}", "") or (entry.text if entry else code)
    if (jurisdiction, language) == book.first:
        return told
    found = _translated(entry, told, first=book.first, wanted=(jurisdiction, language)) if entry else ""
    if not found:
        gaps.append(f"reason {code} has no text for {jurisdiction}/{language}; it stands as it was recorded")
    return found or told


def _translated(entry: ReasonText, told: str, *, first: tuple[str, str], wanted: tuple[str, str]) -> str:
    for words in (entry.words, entry.missing_words, *entry.special.values()):
        if words.find(*first) == told:
            return words.find(*wanted)
    return ""


def _parts(
    record: AuditRecord, words: Mapping[str, str], notice: Notice, *, contract: Contract, gaps: list[str]
) -> dict[str, str]:
    """Fill the sentences in; what is needed and not known becomes a gap in brackets."""
    needs = words["needs"]
    known = {name: getattr(notice, name) for name in ("creditor", "address", "phone", "agency")}
    for name, value in known.items():
        if not value and name in needs:
            known[name] = f"[{name}: set notice.{name} in contract.yaml]"
            gaps.append(f"notice.{name} is not set in contract.yaml")
    known |= {"request": record.request_id, "received": record.received_at.date().isoformat()}
    bureau = notice.bureau
    score = ""
    if bureau is not None and bureau.score is not None:
        score = words["score"].format(**_score(record, bureau.score, contract=contract, gaps=gaps))
    return {
        "sender": "\n".join(part for part in (known["creditor"], known["address"], known["phone"]) if part),
        "opening": words["opening"].format(**known),
        "rights": words["rights"].format(**known),
        "contact": words["contact_phone" if known["phone"] else "contact"].format(**known),
        "bureau": "\n".join((bureau.name, bureau.address, bureau.phone)) if bureau else "",
        "score": score,
    }


def _score(record: AuditRecord, name: str, *, contract: Contract, gaps: list[str]) -> dict[str, str]:
    """Return what is known of the bureau's score; its date and key factors are the bureau's to say."""
    column = contract.input(name)
    told = {
        "score": record.inputs.get(name),
        "low": column.minimum,
        "high": column.maximum,
        "made": None,
        "factors": None,
    }
    missing = {
        "score": f"the credit score: input {name!r} is not in the record",
        "low": f"the lowest possible score: input {name!r} has no minimum in the contract",
        "high": f"the highest possible score: input {name!r} has no maximum in the contract",
        "made": "the date of the credit score: the agency says it, the record does not",
        "factors": "the key factors of the credit score: the agency says them, the record does not",
    }
    gaps += [why for key, why in missing.items() if told[key] is None]
    return {
        key: f"{value:g}" if isinstance(value, int | float) else f"[{missing[key].split(':')[0]}]"
        for key, value in told.items()
    }


def _text(words: Mapping[str, str], parts: Mapping[str, str], reasons: tuple[tuple[str, str], ...]) -> str:
    blocks = [parts["sender"], words["title"].upper(), parts["opening"]]
    listed = "\n".join(f"  {place}. {text}" for place, (_, text) in enumerate(reasons, start=1))
    blocks.append(f"{words['reasons']}:\n{listed}")
    if parts["bureau"]:
        blocks += [words["bureau"], parts["bureau"], words["bureau_rights"]]
        blocks += [parts["score"]] if parts["score"] else []
    blocks += [words["rights_title"], parts["rights"], parts["contact"]]
    return "\n\n".join(blocks) + "\n"


def _with_html(made: AdverseNotice, *, words: Mapping[str, str], parts: Mapping[str, str]) -> AdverseNotice:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["gaps"] = _marked
    page = environment.get_template("notice.html.j2").render(notice=made, words=words, parts=parts)
    return replace(made, html=page)


def _marked(text: str) -> Markup:
    """Mark gaps, so that nobody sends a notice with one unseen."""
    return Markup(_GAP.sub(lambda gap: f"<mark>{gap.group()}</mark>", str(escape(text))))  # noqa: S704 - escaped
