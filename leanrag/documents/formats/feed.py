"""Feeds (RSS and Atom, .rss, .atom, .xml): a section for each entry. Other XML is read as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

from leanrag.documents.decoding import decode
from leanrag.documents.formats.html import html_to_text
from leanrag.types import Document

__all__ = ["read_feed"]

_ROOT = re.compile(
    r"(?:\s|<\?[^>]{0,500}\?>|<!--.{0,5000}?-->|<!DOCTYPE[^>]{0,500}>)*<(?:rss|feed|rdf:RDF)\b", re.DOTALL
)
_ENTRY = re.compile(r"<((item|entry))\b([^<>]{0,500})>")
_FIELD = re.compile(
    r"<((?:\w{1,40}:)?(title|author|creator|name|pubDate|published|updated|date|link|category|summary|description|subtitle|encoded|content))\b"
    r"([^<>]{0,1000})>"
)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_HREF = re.compile(r"href=[\"']([^\"']{1,500})")
_TAG = re.compile(r"<[^<>]{0,500}>")
_LINES = {
    "author": "Author",
    "creator": "Author",
    "pubDate": "Date",
    "published": "Date",
    "updated": "Updated",
    "date": "Date",
    "category": "Category",
    "link": "Link",
}
_TEXTS = ("content", "encoded", "summary", "description", "subtitle")  # the fullest first


def read_feed(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a feed; its title is that of the document."""
    text = decode(data, path, encoding)
    entries = list(_elements(text, _ENTRY)) if _ROOT.match(text) else []
    if not entries:
        return Document(text, id=path.as_posix(), kind="code")
    head = dict(_fields(text[: entries[0].start]))
    title, about = head.get("title", ""), head.get("description") or head.get("subtitle", "")
    sections = [title and f"# {title}", about, *(_section(dict(_fields(entry.content))) for entry in entries)]
    return Document("\n\n".join(filter(None, sections)) + "\n", id=path.as_posix(), title=title, kind="markdown")


class _Element(NamedTuple):
    start: int
    name: str
    attributes: str
    content: str


def _elements(text: str, opening: re.Pattern[str]) -> Iterator[_Element]:
    """Yield the elements that `opening` begins, none inside another; what is not closed is passed over."""
    end, unclosed = 0, set[str]()
    while found := opening.search(text, end):
        end, (tag, name, attributes) = found.end(), found.groups()
        if attributes.endswith("/"):
            yield _Element(found.start(), name, attributes, "")
        elif tag not in unclosed:
            closing = text.find(f"</{tag}>", end)
            if closing < 0:
                unclosed.add(tag)  # nowhere below, either
                continue
            yield _Element(found.start(), name, attributes, text[end:closing])
            end = closing


def _fields(source: str) -> list[tuple[str, str]]:
    found = []
    for _, name, attributes, content in _elements(source, _FIELD):
        href = _HREF.search(attributes) if name == "link" else None
        found.append((name, href[1] if href else _words(content, is_text=name in _TEXTS)))
    return found[::-1]  # of several, the first counts


def _words(source: str, *, is_text: bool) -> str:
    source = (
        _CDATA.sub(lambda data: data[1], source) if "<![CDATA[" in source else unescape(source) if is_text else source
    )
    return (
        html_to_text(source, boilerplate=True).strip() if is_text else " ".join(unescape(_TAG.sub(" ", source)).split())
    )


def _section(fields: dict[str, str]) -> str:
    lines = [f"{label}: {fields[name]}" for name, label in _LINES.items() if fields.get(name)]
    body = next((fields[name] for name in _TEXTS if fields.get(name)), "")
    return "\n\n".join(filter(None, (f"## {fields.get('title') or 'Entry'}", "\n".join(dict.fromkeys(lines)), body)))
