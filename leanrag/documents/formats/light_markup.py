"""AsciiDoc (.adoc) and Org (.org) to Markdown: headings, lists, listings and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.documents.formats.parts import markdown_table
from leanrag.types import Document

__all__ = ["read_asciidoc", "read_org"]

_ADOC_HEADING = re.compile(r"(={1,6}) +(\S.*)")
_ADOC_ATTRIBUTE = re.compile(r":!?[\w-]+!?:(?: .*)?\Z")
_ADOC_BLOCK = re.compile(r"\[([^\[\]]*)\]\Z|\.([^\s.].*)\Z")  # attributes, or the title of the block below
_ADOC_COLUMNS = re.compile(r"cols\s*=\s*\"?([^\"\]]*)")
_ADOC_ITEM = re.compile(r"(\.{1,5}|\*{1,5}) +(?=\S)")
_ADOC_LINK = re.compile(r"(?:link:|xref:|image::?)?(\w[^\s\[\]]{0,300})\[([^\[\]]{1,300})\]")
_FENCES = ("----", "....", "```")
_TABLE_MARK = "|==="
_DELIMITERS = frozenset(("====", "****", "____", "--", "'''"))
_NOTES = frozenset("NOTE TIP IMPORTANT WARNING CAUTION".split())
_ORG_HEADING = re.compile(r"(\*{1,8}) +(\S.*?)(?:[ \t]+:[\w@:]+:)?[ \t]*\Z")
_ORG_TITLE = re.compile(r"#\+title:\s*(.+)", re.IGNORECASE)
_ORG_LISTING = re.compile(r"#\+(?:begin|end)_(?:src|example)\b", re.IGNORECASE)
_DASHES = re.compile("-+")
_ORG_RULE = re.compile(r"\|[-+]+\|?\Z")


def read_asciidoc(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a file; its first heading, of one equals sign, is the title."""
    lines = decode(data, path, encoding).splitlines()
    title = next((found[2] for found in map(_ADOC_HEADING.fullmatch, lines) if found and len(found[1]) == 1), "")
    return Document("\n".join(_AsciiDoc().read(lines)) + "\n", id=path.as_posix(), title=title, kind="markdown")


class _AsciiDoc:
    """Reads the lines of a file in order."""

    def __init__(self) -> None:
        self._fence = ""
        self._table: list[str] | None = None
        self._columns = 0
        self._numbers: dict[int, int] = {}  # of the last step of the list, by its depth
        self._is_attached = False  # whether what follows belongs to the step above

    def read(self, lines: list[str]) -> Iterator[str]:
        """Yield the lines of the Markdown."""
        for line in lines:
            bare = line.strip()
            if self._fence or bare in _FENCES:
                yield "```" if bare in (self._fence, *_FENCES) else line
                self._fence = "" if bare == self._fence else self._fence or bare
            elif bare == _TABLE_MARK:
                if self._table is None:
                    self._table = []
                else:
                    yield self._end_table()
            elif self._table is not None:
                self._table.append(bare)
            else:
                yield from self._text(line, bare)
        if self._table:
            yield self._end_table()

    def _text(self, line: str, bare: str) -> Iterator[str]:
        """Yield a line outside of listings and tables."""
        if heading := _ADOC_HEADING.fullmatch(bare):
            self._numbers = {}
            yield f"{'#' * len(heading[1])} {heading[2]}"
        elif block := _ADOC_BLOCK.fullmatch(bare):
            columns = _ADOC_COLUMNS.search(bare)
            self._columns = len(columns[1].split(",")) if columns else self._columns
            if block[2] or block[1] in _NOTES:
                yield block[2] or f"{block[1].capitalize()}:"
        elif bare == "+":
            self._is_attached = True
        elif bare not in _DELIMITERS and not bare.startswith("//") and not _ADOC_ATTRIBUTE.fullmatch(bare):
            yield _ADOC_LINK.sub(_link, self._item(line, bare))

    def _item(self, line: str, bare: str) -> str:
        """Return a line, the marks of list items replaced."""
        item = _ADOC_ITEM.match(bare)
        if item is None:
            self._numbers = {} if bare and not self._is_attached else self._numbers
            self._is_attached = self._is_attached and bool(bare)
            return line
        depth = len(item[1])
        self._numbers = {key: value for key, value in self._numbers.items() if key <= depth}
        self._numbers[depth] = self._numbers.get(depth, 0) + 1
        mark = f"{self._numbers[depth]}." if bare[0] == "." else "-"
        return f"{'  ' * (depth - 1)}{mark} {bare[item.end() :]}"

    def _end_table(self) -> str:
        """A table of Markdown; its cells may stand on a line each, in rows as long as its attributes or its first line say."""
        lines = list(filter(None, self._table or []))
        width = self._columns or (lines[0].count("|") if lines else 0) or 1
        cells = [cell.strip() for line in lines for cell in line.split("|")[1:]]
        self._table, self._columns = None, 0
        return markdown_table([cells[i : i + width] for i in range(0, len(cells), width)])


def _link(found: re.Match[str]) -> str:
    return f"{found[2]} ({found[1]})" if "://" in found[1] else found[2] if ":" in found[0] else found[0]


def read_org(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a file; `#+TITLE:` is the title of the document."""
    lines = decode(data, path, encoding).splitlines()
    title = next((found[1].strip() for found in map(_ORG_TITLE.match, lines) if found), "")
    return Document("\n".join(_org(lines)) + "\n", id=path.as_posix(), title=title, kind="markdown")


def _org(lines: list[str]) -> Iterator[str]:
    is_listing = False
    for line in lines:
        if _ORG_LISTING.match(line.lstrip()):
            is_listing = not is_listing
            yield "```"
        elif is_listing:
            yield line
        elif found := _ORG_HEADING.fullmatch(line):
            yield f"{'#' * min(len(found[1]), 6)} {found[2]}"
        elif _ORG_RULE.fullmatch(line.strip()):
            yield _DASHES.sub(" --- ", line.replace("+", "|"))
        elif found := _ORG_TITLE.match(line):
            yield f"# {found[1].strip()}"
        elif not line.startswith(("#+", "# ")):
            yield line
