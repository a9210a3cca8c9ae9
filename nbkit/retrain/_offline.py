"""Take everything out of a page that would load something or run: what is left looks the same anywhere, for years."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_DROPPED = (
    "script",
    "link",
    "object",
    "embed",
    "applet",
    "base",
    "frame",
    "audio",
    "video",
    "source",
    "track",
    "portal",
)
_LOADING = frozenset(
    {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping", "manifest", "xlink:href", "href"}
)
_IMPORT = re.compile(r"@import[^;]*(?:;|$)", re.IGNORECASE)
_CSS_URL = re.compile(r"url\(\s*(['\"]?)(?!\s*['\"]?\s*(?:data:|#))[^)]*\)", re.IGNORECASE)
_WHOLE_PAGE = re.compile(r"\s*<(?:!doctype|html)[\s>]", re.IGNORECASE)
_SCRIPT = re.compile(r"<script[\s>]", re.IGNORECASE)
# Inside these an address would break the control that it belongs to.
_CONTROLS = ["label", "summary", "details", "button"]
_DRAWN = ["img", "svg", "table", "iframe", "input", "progress", "meter", "hr"]


def offline(page: str) -> str:
    """Return the page without scripts and without anything fetched; a link becomes its text and its address."""
    soup = _soup(page)
    _clean(soup)
    return str(soup)


def static_html(fragment: str) -> str:
    """Return a cell's HTML output as it can be kept, or nothing when only its scripts would have drawn something.

    A whole page (a report) goes into a frame of its own, so that its styles stay inside.
    """
    if _WHOLE_PAGE.match(fragment):
        return f'<iframe sandbox="" title="report" srcdoc="{html.escape(offline(fragment))}"></iframe>'
    if not _SCRIPT.search(fragment):
        return fragment
    soup = _soup(fragment)
    _clean(soup)
    kept = str(soup)
    for style in soup.find_all("style"):
        style.decompose()
    return kept if soup.get_text(strip=True) or soup.find(_DRAWN) else ""


def _soup(text: str) -> BeautifulSoup:
    from bs4 import BeautifulSoup

    return BeautifulSoup(text, features="html.parser")


def _clean(soup: BeautifulSoup) -> None:
    for tag in soup.find_all(_DROPPED):
        tag.decompose()
    for tag in soup.find_all("meta", attrs={"http-equiv": re.compile("^refresh$", re.IGNORECASE)}):
        tag.decompose()
    for style in soup.find_all("style"):
        style.string = _offline_css(style.get_text())
    for tag in soup.find_all(True):
        _clean_tag(tag)


def _clean_tag(tag: Tag) -> None:
    if "style" in tag.attrs:
        tag["style"] = _offline_css(str(tag["style"]))
    if tag.name == "iframe" and "srcdoc" in tag.attrs:
        # A frame inherits neither this cleaning nor, in every browser, the page's policy.
        tag["srcdoc"] = offline(str(tag["srcdoc"]))
        tag["sandbox"] = ""
    for name in list(tag.attrs):
        address = str(tag[name]).strip()
        if name.lower().startswith("on"):
            del tag[name]
        elif name.lower() in _LOADING and not address.startswith(("#", "data:image/")):
            del tag[name]
            _tell(tag, address)


def _tell(tag: Tag, address: str) -> None:
    """Keep the address of a link or a picture readable."""
    if tag.name == "img":
        tag.name = "span"
        tag.attrs = {}
        tag.string = f"[picture not kept: {address}]"
    elif tag.name == "a" and address.startswith(("http:", "https:", "mailto:")):
        tag["title"] = address
        if address not in tag.get_text() and not tag.find_parent(_CONTROLS):
            tag.append(f" ({address})")


def _offline_css(css: str) -> str:
    return _CSS_URL.sub("none", _IMPORT.sub("", css))
