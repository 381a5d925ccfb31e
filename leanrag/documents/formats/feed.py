"""Feeds (RSS and Atom, .rss, .atom, .xml): a section for each entry. Other XML is read as it is."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.documents.formats.html import html_to_text
from leanrag.documents.formats.plain import read_code
from leanrag.types import Document

__all__ = ["read_feed"]

_ROOT = re.compile(
    r"(?:\s|<\?[^>]{0,500}\?>|<!--.{0,5000}?-->|<!DOCTYPE[^>]{0,500}>)*<(?:rss|feed|rdf:RDF)\b", re.DOTALL
)
_ENTRY = re.compile(r"<(item|entry)\b[^>]{0,500}>(.{0,200000}?)</\1>", re.DOTALL)
_FIELD = re.compile(
    r"<(?:\w+:)?(title|author|creator|name|pubDate|published|updated|date|link|category|summary|description|encoded|content)\b"
    r"([^>]{0,1000})(?:/>|>(.{0,200000}?)</(?:\w+:)?\1>)",
    re.DOTALL,
)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_HREF = re.compile(r"href=[\"']([^\"']{1,500})")
_TAG = re.compile(r"<[^<>]{0,500}>")
_LINES = {
    "author": "Author",
    "creator": "Author",
    "pubDate": "Date",
    "published": "Date",
    "updated": "Updated",
    "date": "Date",
}
_LINES |= {"category": "Category", "link": "Link"}
_TEXTS = ("content", "encoded", "summary", "description")  # the fullest first


def read_feed(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a feed; its title is that of the document."""
    text = decode(data, path, encoding)
    entries = list(_ENTRY.finditer(text)) if _ROOT.match(text) else []
    if not entries:
        return read_code(data, path, encoding)
    head = dict(_fields(text[: entries[0].start()]))
    title, about = head.get("title", ""), head.get("description") or head.get("subtitle", "")
    sections = [f"# {title}\n\n{about}".strip(), *(_section(dict(_fields(entry[2]))) for entry in entries)]
    return Document("\n\n".join(filter(None, sections)) + "\n", id=path.as_posix(), title=title, kind="markdown")


def _fields(source: str) -> list[tuple[str, str]]:
    found = []
    for field in _FIELD.finditer(source):
        href = _HREF.search(field[2]) if field[1] == "link" else None
        found.append((field[1], href[1] if href else _words(field[3] or "", is_text=field[1] in _TEXTS)))
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
