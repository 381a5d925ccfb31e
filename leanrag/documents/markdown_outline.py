"""The headings of Markdown and reStructuredText, and the fences of code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from leanrag.documents.formats.markdown import front_matter_end
from leanrag.documents.outlines import Heading, clean_label, iter_lines

__all__ = ["FENCE", "closes_fence", "markdown_headings", "restructured_headings"]

FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)(.*)")
_SETEXT = re.compile(r" {0,3}(?:(=){3,}|-{3,})[ \t]*$")
_NOT_A_TITLE = re.compile(r"\s*(?:[-*+>|]|\d+[.)]\s|={3,}\s*$|<!--)|\s{4}")
_RST_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")


def closes_fence(fence: str, line: str) -> bool:
    """Return whether `line` ends the block of code that `fence` began."""
    line = line.strip()
    return len(line) >= len(fence) and not line.strip(fence[0])


def markdown_headings(text: str) -> Iterator[Heading]:
    """Yield the headings outside of code and front matter."""
    skip = front_matter_end(text)
    fence = ""
    title, title_start = "", 0  # the line before, when it could be the words of an underlined heading
    after_blank = True
    for start, end in iter_lines(text):
        line = text[start:end].rstrip("\r\n")
        previous, title = title, ""
        if start < skip:
            continue
        if fence:
            fence = "" if closes_fence(fence, line) else fence
        elif opened := FENCE.match(line):
            fence = opened[1]
        elif heading := _ATX.match(line):
            yield start, len(heading[1]), clean_label(heading[2].strip().rstrip("#"))
            after_blank = True
            continue
        elif previous and (underline := _SETEXT.match(line)):
            yield title_start, 1 if underline[1] else 2, clean_label(previous)
            after_blank = True
            continue
        elif after_blank and line.strip() and not _NOT_A_TITLE.match(line):
            title, title_start = line, start
        after_blank = not line.strip()


def restructured_headings(text: str) -> Iterator[Heading]:
    """Yield underlined (and overlined) headings; the order in which the styles appear gives their levels."""
    styles: list[tuple[str, bool]] = []
    lines = [(start, text[start:end].strip()) for start, end in iter_lines(text)]
    for i in range(1, len(lines)):
        title_start, title = lines[i - 1]
        underline = lines[i][1]
        if not title or len(underline) < len(title) or not _RST_UNDERLINE.match(underline):
            continue
        above = lines[i - 2][1] if i > 1 else ""
        has_overline = above == underline
        if (
            (above and not has_overline)
            or _RST_UNDERLINE.match(title)
            or text[title_start] in " \t" * (not has_overline)
        ):
            continue
        style = (underline[0], has_overline)
        if style not in styles:
            styles.append(style)
        yield lines[i - 2][0] if has_overline else title_start, styles.index(style) + 1, clean_label(title)
