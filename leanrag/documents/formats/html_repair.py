"""Broken HTML to HTML that a browser's parser reads without losing the page.

A parser of the HTML standard puts all that follows an unclosed `<nav>`, `<select>` or `<title>` into that element. Such
an element is dropped, and the page would be dropped with it. Here the tags are balanced first, in one linear pass.
"""

from __future__ import annotations

import re

__all__ = ["DROPPED", "repair_html"]

DROPPED = frozenset(
    "applet audio button canvas dialog iframe map nav noembed noframes noscript object script select style svg template"
    " textarea title video".split()
)
"""Elements whose content is not part of the text."""

_RAW = frozenset("iframe noembed noframes plaintext script style textarea title xmp".split())  # hold text, not tags
_CODE = frozenset(("script", "style"))
_BALANCED = (DROPPED | {"aside", "footer", "header"}) - _RAW
_FLAT = frozenset(  # elements that hold nothing, or that the next of their kind closes
    "area base br col colgroup dd dt embed frame h1 h2 h3 h4 h5 h6 hr img input li link meta optgroup option p param rp rt"
    " source tbody td tfoot th thead tr track wbr".split()
)
_BLOCKS = frozenset("article blockquote div main ol section table ul".split())
_MAX_DEPTH = 400  # browsers stop near 500; the parser's time grows with the square of the depth

_MARKUP = re.compile(r"<(?:!--|[!?]|(?P<slash>/?)(?P<name>[a-zA-Z][^\s/>]*))")
_ATTRIBUTES = re.compile(r"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_RAW_END = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in _RAW}
_BLOCK = re.compile(r"<(?:/head|article|body|div|h[1-6]|main|ol|p|pre|section|table|ul)(?=[\s/>])", re.IGNORECASE)


def repair_html(html: str) -> str:
    """Return `html` with its unclosed and self-closed elements mended, as far as they could hide the rest of the page.

    Example:
        >>> repair_html("<nav>Home<p>It is on 4 May.</p>")
        '<div>Home<p>It is on 4 May.</p>'
    """
    return _Repair(html).run()


class _Repair:
    def __init__(self, html: str) -> None:
        self._html = html
        self._pieces: list[str] = []
        self._open: dict[str, list[int]] = {}  # by tag, the pieces that open an element which is not closed yet
        self._blocks = dict.fromkeys(_BLOCKS, 0)  # elements that are open
        self._depth = 0
        self._trusts_quotes = True
        self._never_closed: set[str] = set()  # raw tags that are not closed in the rest of the text

    def run(self) -> str:
        html, pieces = self._html, self._pieces
        position = 0
        while markup := _MARKUP.search(html, position):
            pieces.append(html[position : markup.start()])
            position = self._skip_declaration(markup) if markup["name"] is None else self._tag(markup)
        pieces.append(html[position:])
        for opened in self._open.values():
            for i in opened:
                pieces[i] = "<div>"
        return "".join(pieces)

    def _skip_declaration(self, markup: re.Match[str]) -> int:
        """Leave out a comment or declaration and return where it ends."""
        closing = "-->" if markup[0] == "<!--" else ">"
        end = self._html.find(closing, markup.end())
        if markup[0] == "<!--" and self._html.startswith(">", markup.end()):
            return markup.end() + 1
        return len(self._html) if end < 0 else end + len(closing)

    def _tag(self, markup: re.Match[str]) -> int:
        """Write one tag and return where the text goes on."""
        end, is_sound = self._tag_end(markup.end())
        if end < 0:
            return len(self._html)
        tag = markup["name"].lower()
        source = self._html[markup.start() : end] if is_sound else f"<{markup['slash']}{tag}>"
        if markup["slash"]:
            self._close(tag, source)
        elif tag in _RAW:
            return self._raw(tag, source, end)
        elif tag in _BALANCED and source.endswith("/>"):
            return end
        else:
            self._start(tag, source)
        return end

    def _tag_end(self, position: int) -> tuple[int, bool]:
        """Return where a tag ends, with a `>` in quotes passed over, and whether its quotes are paired."""
        if self._trusts_quotes:
            if quoted := _ATTRIBUTES.match(self._html, position):
                return quoted.end(), True
            self._trusts_quotes = False  # from here on the nearest `>` closes a tag
        end = self._html.find(">", position) + 1
        attributes = self._html[position:end]
        return end or -1, attributes.count('"') % 2 == 0 and attributes.count("'") % 2 == 0

    def _start(self, tag: str, source: str) -> None:
        if tag not in _FLAT:
            if self._depth >= _MAX_DEPTH:
                return
            self._depth += not source.endswith("/>")
        if tag in _BLOCKS:
            self._blocks[tag] += 1
        if tag in _BALANCED:
            self._open.setdefault(tag, []).append(len(self._pieces))
        self._pieces.append(source)

    def _close(self, tag: str, source: str) -> None:
        if tag in _BALANCED:
            if not self._open.get(tag):
                return
            self._open[tag].pop()
        if tag in _BLOCKS and not self._blocks[tag]:
            self._pieces.append("<hr>")  # it ends nothing, and it still parts two words
            return
        if tag in _BLOCKS:
            self._blocks[tag] -= 1
        self._depth -= tag not in _FLAT and self._depth > 0
        self._pieces.append(source)

    def _raw(self, tag: str, source: str, end: int) -> int:
        """Write an element whose content is text up to its closing tag; without that tag it is empty."""
        if tag == "plaintext" or source.endswith("/>"):
            return end
        closing = None if tag in self._never_closed else _RAW_END[tag].search(self._html, end)
        if closing is not None:
            self._pieces.append(source + self._html[end : closing.start()])
            return closing.start()
        self._never_closed.add(tag)
        if tag not in _CODE:
            return end
        block = _BLOCK.search(self._html, end)
        return block.start() if block else len(self._html)
