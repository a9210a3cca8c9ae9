"""``reasons.yaml`` as it is written: formats 1 and 2, read into entries with everything that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nbkit.contract import sentinel_key
from nbkit.contract._yaml import Document, read_document
from nbkit.errors import ContractError, RationaleError

__all__ = ["REASONS_FORMAT", "Direction", "ReasonText", "ReasonsFile", "Words", "read_reasons_file"]

# To raise it: add a model below, keep the former ones, say in docs/reference/reasons.md what changed, and add a file of
# the new format to tests/unit/package/formats.
REASONS_FORMAT = 2

Direction = Literal["high", "low", "any"]

_Model = TypeVar("_Model", bound=BaseModel)

_CODE = re.compile(r"[A-Z][A-Z0-9_-]{0,15}\Z")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")
_JURISDICTION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One sentence in every jurisdiction and language that it is written in.

    Parameters
    ----------
    texts : mapping of (str, str) to str
        By jurisdiction and language; an empty jurisdiction stands for all, an empty language too (format 1).
    """

    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def find(self, jurisdiction: str, language: str) -> str:
        """Return the sentence for a jurisdiction in a language, or the empty text.

        Parameters
        ----------
        jurisdiction, language : str
            Such as ``US`` and ``en``.

        Returns
        -------
        str
            The jurisdiction's own sentence before the one for all.
        """
        for key in ((jurisdiction, language), ("", language), ("", "")):
            if key in self.texts:
                return self.texts[key]
        return ""

    def __bool__(self) -> bool:
        return bool(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonText:
    """One entry of ``reasons.yaml``.

    Parameters
    ----------
    code : str
        Capital letters, digits, ``-`` and ``_``.
    inputs : tuple of str
        Inputs whose contributions count for this reason; none for a code that only rules give.
    text : str
        What the person is told, in the contract's first jurisdiction and language.
    missing_text : str
        What is told instead where the inputs were missing; needed when one of them may be.
    direction : {"high", "low", "any"}
        Whether the text is only true of a high, or only of a low value.
    words, missing_words : Words
        The same two in every jurisdiction and language.
    special : mapping of str to Words
        What is told where an input had this sentinel value; before ``missing_words``.
    """

    code: str
    inputs: tuple[str, ...]
    text: str
    missing_text: str = ""
    direction: Direction = "any"
    words: Words = Words()
    missing_words: Words = Words()
    special: Mapping[str, Words] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonsFile:
    """What a file says, and what is wrong with its layout."""

    format: int
    entries: tuple[ReasonText, ...]
    policies: tuple[ReasonText, ...]
    problems: tuple[str, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Entry1(_Strict):
    inputs: list[str] = Field(min_length=1)
    text: str = Field(min_length=1)
    missing_text: str = ""
    direction: Direction = "any"


class _File1(_Strict):
    format: Literal[1]
    codes: dict[str, _Entry1] = Field(min_length=1)


_Text = str | dict[str, str | dict[str, str]]


class _Entry2(_Strict):
    inputs: list[str] = Field(default_factory=list)
    groups: list[str] = Field(default_factory=list)
    text: _Text
    missing_text: _Text = ""
    direction: Direction = "any"
    special: dict[str, _Text] = Field(default_factory=dict)


class _Policy(_Strict):
    text: _Text


class _File2(_Strict):
    format: Literal[2]
    language: str = "en"
    groups: dict[str, list[str]] = Field(default_factory=dict)
    codes: dict[str, _Entry2] = Field(min_length=1)
    policies: dict[str, _Policy] = Field(default_factory=dict)


def read_reasons_file(text: str, *, source: str) -> ReasonsFile:
    """Read a file of any format that nbkit has written.

    Raises
    ------
    RationaleError
        Not YAML, or not of the layout: no entry could be read.
    """
    try:
        document = read_document(text, source=source)
    except ContractError as error:
        raise RationaleError(error.message, problems=error.problems) from error
    found = document.value.get("format")
    if found not in (1, REASONS_FORMAT) or isinstance(found, bool):
        problems = [*document.problems, f"$.format: expected 1 or {REASONS_FORMAT}, got {found!r}"]
        raise RationaleError(source, problems=problems, next_step=f"correct {source}")
    return _format_1(document, source=source) if found == 1 else _format_2(document, source=source)


def _format_1(document: Document, *, source: str) -> ReasonsFile:
    file = _validated(_File1, document, source=source)
    problems = [*document.problems, *_code_problems(file.codes, place="codes")]
    entries = []
    for code, entry in file.codes.items():
        problems += [f"$.codes.{code}.text: empty"] if not entry.text.strip() else []
        problems += _twice(code, entry.inputs)
        entries.append(
            ReasonText(
                code=code,
                inputs=tuple(entry.inputs),
                text=entry.text.strip(),
                missing_text=entry.missing_text.strip(),
                direction=entry.direction,
                words=_any_language(entry.text),
                missing_words=_any_language(entry.missing_text),
            )
        )
    return ReasonsFile(format=1, entries=tuple(entries), policies=(), problems=tuple(problems))


def _any_language(text: str) -> Words:
    return Words(texts={("", ""): text.strip()} if text.strip() else {})


def _format_2(document: Document, *, source: str) -> ReasonsFile:
    file = _validated(_File2, document, source=source)
    problems = [*document.problems, *_code_problems(file.codes, place="codes")]
    problems += _code_problems(file.policies, place="policies")
    problems += [f"$.policies.{code}: is also one of codes" for code in file.policies if code in file.codes]
    problems += [f"$.language: expected a language such as en, got {file.language!r}"] * (
        not _LANGUAGE.match(file.language)
    )
    used = {name for entry in file.codes.values() for name in entry.groups}
    problems += [f"$.groups.{name}: no code uses it" for name in file.groups if name not in used]
    entries = []
    for code, entry in file.codes.items():
        place = f"$.codes.{code}"
        problems += [f"{place}.groups: {name!r} is not defined" for name in entry.groups if name not in file.groups]
        grouped = [member for name in entry.groups for member in file.groups.get(name, ())]
        inputs = [*entry.inputs, *grouped]
        problems += [f"{place}: expected inputs or groups"] if not entry.inputs and not entry.groups else []
        problems += _twice(code, inputs)
        words = {"text": entry.text, "missing_text": entry.missing_text}
        words |= {f"special.{value}": text for value, text in entry.special.items()}
        problems += [problem for name, text in words.items() for problem in _text_problems(text, f"{place}.{name}")]
        entries.append(
            ReasonText(
                code=code,
                inputs=tuple(inputs),
                text="",
                direction=entry.direction,
                words=_words(entry.text, language=file.language),
                missing_words=_words(entry.missing_text, language=file.language),
                special={
                    sentinel_key(value): _words(text, language=file.language) for value, text in entry.special.items()
                },
            )
        )
    policies = []
    for code, policy in file.policies.items():
        problems += _text_problems(policy.text, f"$.policies.{code}.text")
        policies.append(ReasonText(code=code, inputs=(), text="", words=_words(policy.text, language=file.language)))
    return ReasonsFile(format=2, entries=tuple(entries), policies=tuple(policies), problems=tuple(problems))


def _words(text: _Text, *, language: str) -> Words:
    if isinstance(text, str):
        return Words(texts={("", language): text.strip()} if text.strip() else {})
    found: dict[tuple[str, str], str] = {}
    for key, value in text.items():
        if isinstance(value, str):
            found[("", key)] = value.strip()
        else:
            found |= {(key, inner): sentence.strip() for inner, sentence in value.items()}
    return Words(texts={key: sentence for key, sentence in found.items() if sentence})


def _text_problems(text: _Text, place: str) -> Iterator[str]:
    if isinstance(text, str):
        if not text.strip() and not place.endswith(".missing_text"):
            yield f"{place}: empty"
        return
    for key, value in text.items():
        if isinstance(value, str):
            if not _LANGUAGE.match(key):
                yield f"{place}.{key}: expected a language such as en, or a jurisdiction such as US with languages"
            elif not value.strip():
                yield f"{place}.{key}: empty"
        elif not _JURISDICTION.match(key):
            yield f"{place}.{key}: expected a jurisdiction such as US"
        else:
            yield from _text_problems(dict(value), f"{place}.{key}")


def _validated(model: type[_Model], document: Document, *, source: str) -> _Model:
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        # A text may be one of three things; the branches that pydantic tried are not places in the file.
        found = {
            f"$.{'.'.join(str(step) for step in item['loc'] if not _is_branch(step))}: {item['msg'].lower()}": None
            for item in error.errors()
        }
        raise RationaleError(source, problems=[*document.problems, *found], next_step=f"correct {source}") from None


def _is_branch(step: str | int) -> bool:
    return isinstance(step, str) and (step == "str" or step.startswith("dict["))


def _code_problems(codes: Mapping[str, object], *, place: str) -> list[str]:
    return [f"$.{place}.{code}: expected a code such as R01" for code in codes if not _CODE.match(code)]


def _twice(code: str, inputs: list[str]) -> list[str]:
    repeated = dict.fromkeys(name for name in inputs if inputs.count(name) > 1)
    return [f"$.codes.{code}.inputs: {name!r} appears twice" for name in repeated]
