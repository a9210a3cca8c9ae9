"""What a document is made of, before it is HTML or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; columns whose cells are figures are aligned to the right. A wide one fills the page."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    figures: frozenset[int] = field(default_factory=frozenset)
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Names and values, such as owner and deputy."""

    items: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Inline SVG pictures under one caption."""

    pictures: tuple[str, ...]
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a person wrote, or the gap where a person should have."""

    title: str
    paragraphs: tuple[str, ...]
    written_at: str
    missing: bool = False


Block = Paragraph | Bullets | Table | Pairs | Figure | Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the document."""

    name: str
    title: str
    blocks: tuple[Block, ...]
