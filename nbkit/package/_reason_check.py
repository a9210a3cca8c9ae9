"""Whether a book of reasons is complete: whatever the model declines for, there is a true sentence about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbkit.contract import Contract, Input, sentinel_key
from nbkit.package._reason_file import ReasonsFile, ReasonText, Words

__all__ = ["incomplete", "side_of_risk"]


def incomplete(file: ReasonsFile, *, contract: Contract) -> Iterator[str]:
    """Find every case in which nothing true could be said, and every text that could never be said.

    Format 1 knows neither languages nor jurisdictions, and is held to the rules of its time: packages that were written
    with it must go on deciding.
    """
    known = [column.name for column in contract.inputs]
    for entry in file.entries:
        for name in entry.inputs:
            if name not in known:
                yield f"$.codes.{entry.code}.inputs: {name!r} is not an input of the contract"
    for column in contract.inputs:
        entries = [entry for entry in file.entries if column.name in entry.inputs]
        yield from _uncovered(column, entries)
        if file.format > 1:
            yield from _contradicted(column, entries)
    if file.format > 1:
        for entry in (*file.entries, *file.policies):
            yield from _untranslated(entry, contract=contract)
            yield from _never_special(entry, contract=contract)


def side_of_risk(column: Input) -> str:
    """Return the side on which a value speaks against the row, as the contract declares it; empty when it does not."""
    return {"increasing": "high", "decreasing": "low"}.get(column.direction or "", "")


def _uncovered(column: Input, entries: Sequence[ReasonText]) -> Iterator[str]:
    name = column.name
    codes = ", ".join(entry.code for entry in entries)
    sides = sorted(entry.direction for entry in entries)
    if not entries:
        yield f"input {name!r}: no code covers it"
        return
    if column.reason is not None and column.reason not in [entry.code for entry in entries]:
        yield f"input {name!r}: the contract names code {column.reason}, but it is covered by {codes}"
    if column.type == "category" and sides != ["any"]:
        yield f"input {name!r}: a category is neither high nor low; expected one code with direction any, got {codes}"
    elif sides not in (["any"], ["high"], ["low"], ["high", "low"]):
        yield f"input {name!r}: expected one code, or one for high and one for low; got {codes}"
    elif len(sides) == 1 and sides != ["any"] and sides[0] != side_of_risk(column):
        yield (
            f"input {name!r}: {codes} is only true of {sides[0]} values, and the contract lets the score rise on the"
            " other side; add a code for it, or declare the input's direction in the contract"
        )
    # A sentinel is a missing value, whether or not the contract also takes null.
    if (column.nullable or column.sentinels) and not any(
        entry.missing_text or entry.missing_words for entry in entries
    ):
        yield f"input {name!r}: may be missing, but there is no missing_text in {codes}"


def _contradicted(column: Input, entries: Sequence[ReasonText]) -> Iterator[str]:
    """Find texts of the side on which the contract lets the score only fall: there the input is never a reason."""
    risky = side_of_risk(column)
    if len(entries) < 2 or not risky:
        return
    for entry in entries:
        if entry.direction not in ("any", risky):
            yield (
                f"input {column.name!r}: {entry.code} is said of {entry.direction} values, but the contract declares"
                f" direction {column.direction}; no such value is ever a reason"
            )


def _untranslated(entry: ReasonText, *, contract: Contract) -> Iterator[str]:
    place = f"$.codes.{entry.code}" if entry.inputs else f"$.policies.{entry.code}"
    told = {"text": entry.words, "missing_text": entry.missing_words}
    told |= {f"special.{value}": words for value, words in entry.special.items()}
    for name, words in told.items():
        if words or name == "text":
            lacking = _lacking(words, contract=contract)
            if lacking:
                yield f"{place}.{name}: no text for {', '.join(lacking)}"


def _lacking(words: Words, *, contract: Contract) -> list[str]:
    return [
        f"{jurisdiction}/{language}"
        for jurisdiction in contract.jurisdictions
        for language in contract.notice.languages
        if not words.find(jurisdiction, language)
    ]


def _never_special(entry: ReasonText, *, contract: Contract) -> Iterator[str]:
    sentinels = {
        sentinel_key(value) for column in contract.inputs if column.name in entry.inputs for value in column.sentinels
    }
    for value in entry.special:
        if value not in sentinels:
            yield f"$.codes.{entry.code}.special.{value}: not a sentinel of {', '.join(entry.inputs)} in the contract"
