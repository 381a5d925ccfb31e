"""HTML pages, as a browser's parser reads them, to Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag.documents.decoding import decode
from leanrag.documents.formats.html_repair import DROPPED, repair_html
from leanrag.documents.formats.html_writing import Cell, Table, Writer
from leanrag.text import fence_code
from leanrag.types import Document

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

__all__ = ["html_to_text", "read_html"]

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = frozenset(
    "address article aside blockquote body details dl div fieldset figure footer form header hr html main ol p section"
    " table ul".split()
)
_LINES = frozenset("caption dd dt figcaption legend li summary".split())
_TABLE_PARTS = frozenset(("table", "tr", "td", "th"))
_MAX_TABLE_DEPTH = 8  # tables nested deeper are read as plain blocks

_SITE_PARTS = frozenset(("aside", "footer", "header"))
_SITE_ROLES = frozenset(("banner", "complementary", "contentinfo", "navigation", "search"))
_SITE_CLASS = re.compile(
    r"(?:^|[\s_-])(?:cookie|cookies|consent|gdpr|breadcrumbs?|skip-link|mw-editsection)(?:$|[\s_-])", re.I
)

_ORDINALS = frozenset("st nd rd th er re e è ème eme o a º ª".split())
_MARKS = {"tm": "™", "sm": "℠", "r": "®", "(r)": "®", "(c)": "©"}
_BASE = re.compile(r"(?<!\d)\d{1,3}$|(?:^|[^\w])[^\W\d_]{1,2}$|[)\]]$")  # what a power may stand at
_PRICE = re.compile(r"[$€£¥]\d{1,3}(?:,?\d{3})*$")
_CENTS = re.compile(r"\d{2}")


def read_html(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a page. Its `<title>` is the document's title; its description stands first if the text does not repeat it."""
    page = _Page(decode(data, path, encoding))
    text = page.text(boilerplate=False)
    if page.description and _letters(page.description) not in _letters(text):
        text = f"{page.description}\n\n{text}"
    return Document(text, id=path.as_posix(), title=page.title, kind="markdown")


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def html_to_text(html: str, *, boilerplate: bool = False) -> str:
    r"""Return the readable text of an HTML page as Markdown.

    Headings become `#` lines, list items `-` or `1.` lines, preformatted text fenced blocks and table rows `| a | b |`
    lines; a cell that spans rows stands in each of them. Powers become `10^6`, marks of footnotes `[7]`, struck text
    `~~text~~`, pictures their alternative text. Scripts, styles, navigation and form controls are dropped; entities are
    decoded; white space is collapsed.

    Args:
        html: The page.
        boilerplate: Keep the header, the footer, asides and cookie notes of the site, and what is outside of `<main>`.

    Example:
        >>> html_to_text("<h1>Caf&eacute;</h1><ul><li>one<li>two</ul>")
        '# Café\n\n- one\n- two\n'
    """
    return _Page(html).text(boilerplate=boilerplate)


class _Page:
    """A parsed page.

    Attributes:
        title: Words of its `<title>`, "" if it has none.
        description: What its `<meta name="description">` says.
    """

    def __init__(self, html: str) -> None:
        from selectolax.lexbor import LexborHTMLParser

        self._tree = LexborHTMLParser(repair_html(html.replace("\0", "")))
        titles = [node for node in self._tree.css("title") if not _is_in_content(node, ("svg",))]
        self.title = " ".join(titles[0].text().split()) if titles else ""
        description = self._tree.css_first('meta[name="description" i]')
        self.description = " ".join((description.attributes.get("content") or "").split()) if description else ""

    def text(self, *, boilerplate: bool) -> str:
        if boilerplate:
            return self._read(self._roots(""), boilerplate=True)
        for roots in (self._roots("main, [role=main]"), self._roots("")):
            if text := self._read(roots, boilerplate=False):
                return text
        return self._read(self._roots(""), boilerplate=True)

    def _roots(self, selector: str) -> list[LexborNode]:
        """Return the outermost elements to read; a main part without a heading comes after the heading of the page."""
        root = self._tree.root
        if root is None:
            return []
        if not selector:
            return [root]
        mains = [node for node in root.css(selector) if not _is_in_content(node, ("main",))]
        heading = root.css_first("h1")
        if mains and heading and not any(main.css_first("h1") for main in mains):
            return [heading, *mains]
        return mains

    def _read(self, roots: list[LexborNode], *, boilerplate: bool) -> str:
        reader = _Reader(boilerplate)
        for root in roots:
            reader.read(root)
        text = reader.page.text()
        return text + "\n" if text else ""


def _is_in_content(node: LexborNode, tags: tuple[str, ...] = ("main", "article", "section")) -> bool:
    """Return whether an element is a part of one of `tags`."""
    parent = node.parent
    while parent is not None:
        if parent.tag in tags or (parent.is_element_node and parent.attributes.get("role") == "main"):
            return True
        parent = parent.parent
    return False


class _Reader:
    """Writes the text of elements of a page, in one pass."""

    def __init__(self, boilerplate: bool) -> None:
        self.page = Writer()
        self._boilerplate = boilerplate
        self._tables: list[Table] = []
        self._extra_tables = 0  # open tables beyond _MAX_TABLE_DEPTH
        self._lists: list[int | None] = []  # the next number of each open list, None for bullets
        self._pre: list[str] | None = None
        self._in_heading = False

    @property
    def _out(self) -> Writer:
        for table in reversed(self._tables):
            if table.in_cell:
                return table.rows[-1][-1].writer
        return self.page

    def read(self, root: LexborNode) -> None:
        """Read an element; not recursive, for pages nest deeply."""
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, is_open = stack.pop()
            if is_open:
                self._end(node)
            elif node.is_text_node:
                self._data(node.text_content or "")
            elif node.is_element_node and not self._drops(node) and self._start(node):
                stack.append((node, True))
                child = node.last_child
                while child is not None:
                    stack.append((child, False))
                    child = child.prev
        self.page.break_line(2)

    def _drops(self, node: LexborNode) -> bool:
        """Return whether an element and all in it are left out."""
        tag, attributes = node.tag or "", node.attributes
        if tag in DROPPED or "hidden" in attributes or tag in ("annotation", "annotation-xml", "rp"):
            return True
        if "display:none" in (attributes.get("style") or "").replace(" ", "").lower():
            return True
        if self._in_heading and tag == "a" and not any(map(str.isalnum, node.text())):
            return not node.css_first("img[alt]")  # a mark that links to the heading
        if self._boilerplate or tag in ("html", "body", "main", "article"):
            return False
        if _SITE_CLASS.search(f"{attributes.get('class') or ''} {attributes.get('id') or ''}"):
            return True
        is_site_part = tag in _SITE_PARTS or attributes.get("role") in _SITE_ROLES
        return is_site_part and not _is_in_content(node) and not node.css_first("h1")

    def _data(self, text: str) -> None:
        if self._pre is not None:
            self._pre.append(text)
        else:
            self._out.write(text)

    def _start(self, node: LexborNode) -> bool:
        """Open an element; return whether its children are to be read."""
        tag = node.tag or ""
        if self._pre is not None:
            self._pre.append("\n" * (tag == "br"))
        elif tag in _TABLE_PARTS:
            self._start_table_part(tag, node)
        elif tag in _HEADINGS:
            self._mark_blocks()
            self._out.break_line(2)
            self._out.lead = "#" * _HEADINGS[tag] + " "
            self._in_heading = True
        elif tag == "pre":
            self._pre = []
        elif tag == "li":
            self._start_item(node)
        elif tag in _LINES:
            self._out.break_line(1)
        elif tag in _PARAGRAPHS:
            self._out.break_line(1 if self._lists else 2)
            if tag in ("ul", "ol"):
                self._lists.append(None if tag == "ul" else _number(node, "start"))
        else:
            return self._start_inline(tag, node)
        return True

    def _start_inline(self, tag: str, node: LexborNode) -> bool:
        if tag == "br":
            if self._in_heading:
                self._out.write(" ")
            else:
                self._out.break_line(1)
        elif tag == "img":
            self._out.write(f" {node.attributes.get('alt') or ''} ")
        elif tag in ("sup", "sub"):
            return self._start_script(tag, node)
        elif tag in ("del", "s", "strike"):
            self._data("~~" * bool(node.text().strip()))
        elif tag == "rt":
            self._data("(")
        self._join_math(node)
        return True

    def _end(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "pre":
            self._end_pre()
        elif self._pre is not None:
            return
        elif tag in _TABLE_PARTS:
            self._end_table_part(tag)
        elif tag in _HEADINGS:
            self._out.break_line(2)
            self._out.lead = ""
            self._in_heading = False
        elif tag in _LINES:
            if tag == "dt" and self._out.word_before()[-1:].isalnum():
                self._out.write(":")
            self._out.break_line(1)
            self._out.lead = ""
        elif tag in _PARAGRAPHS:
            if tag in ("ul", "ol") and self._lists:
                self._lists.pop()
            self._out.break_line(1 if self._lists else 2)
        elif tag in ("del", "s", "strike"):
            self._data("~~" * bool(node.text().strip()))
        elif tag == "rt":
            self._data(")")

    def _start_script(self, tag: str, node: LexborNode) -> bool:
        """Write a power, an index or the mark of a footnote so that it does not join the word before it."""
        text = " ".join(node.text().split())
        before = self._out.word_before()
        if not text or len(text) > 20 or self._pre is not None:
            self._out.write(" ")
            return True
        is_note = tag == "sup" and (node.css_first("a") is not None or (text.isdecimal() and not _BASE.search(before)))
        if text.casefold() in _MARKS:
            self._out.write(_MARKS[text.casefold()])
        elif _PRICE.search(before) and _CENTS.fullmatch(text):
            self._out.write(f".{text}")
        elif is_note:
            self._out.write(text if text.startswith("[") else f"[{text}]" if text.isalnum() else text)
        elif tag == "sub":
            self._out.write("_" * before[-1:].isdecimal() * text[0].isdecimal() + text)
        elif not before or not (text[0].isalnum() or text[0] in "+-−–(") or _is_ordinal(before, text):
            self._out.write(text)
        else:
            self._out.write("^" + text)
        return False

    def _join_math(self, node: LexborNode) -> None:
        """Put a mark between the parts of a power, an index or a fraction of MathML."""
        parent = node.parent
        mark = (
            {"msup": "^", "msub": "_", "mfrac": "/", "munder": "_", "mover": "^"}.get(parent.tag or "")
            if parent
            else None
        )
        if node.tag == "mfrac":
            self._out.write(" ")
        if mark and parent and parent.first_child and node.mem_id != parent.first_child.mem_id:
            self._out.write(mark)

    def _start_item(self, node: LexborNode) -> None:
        self._out.break_line(1)
        mark = "- "
        if self._lists and self._lists[-1] is not None:
            number = _number(node, "value", self._lists[-1])
            mark = f"{number}. "
            self._lists[-1] = number + 1
        self._out.lead = "  " * min(len(self._lists) - 1, 8) + mark

    def _end_pre(self) -> None:
        block = "".join(self._pre or ()).strip("\r\n")
        self._pre = None
        if block and not block.isspace():
            self._mark_blocks()
            self._out.write_block(fence_code(block))

    def _mark_blocks(self) -> None:
        for table in self._tables:
            table.has_blocks = True

    def _start_table_part(self, tag: str, node: LexborNode) -> None:
        if tag == "table":
            self._out.break_line(2)
            if len(self._tables) == _MAX_TABLE_DEPTH:
                self._extra_tables += 1
                return
            self._mark_blocks()
            self._tables.append(Table())
        elif not self._tables or self._extra_tables:
            self._out.break_line(1)
        elif tag == "tr":
            parent = node.parent
            self._tables[-1].open_row(is_header=parent is not None and parent.tag == "thead")
        else:
            columns, rows = _number(node, "colspan"), _number(node, "rowspan")
            self._tables[-1].open_cell(Cell(Writer(), tag == "th", columns, rows))

    def _end_table_part(self, tag: str) -> None:
        if self._extra_tables:
            self._extra_tables -= tag == "table"
        elif self._tables:
            self._tables[-1].in_cell = False
            if tag == "table":
                table = self._tables.pop()
                table.write_to(self._out)


def _is_ordinal(before: str, text: str) -> bool:
    return before[-1:].isdecimal() and text.casefold() in _ORDINALS


def _number(node: LexborNode, attribute: str, default: int = 1) -> int:
    text = node.attributes.get(attribute) or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) else default
