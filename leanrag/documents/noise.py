"""What a document holds that is not text: pictures and fonts written as letters, and code that was minified for machines.

Such runs are cut out before a document is split into chunks. They would become thousands of chunks that nobody asks for.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from leanrag.spans import merge_spans

__all__ = ["Readable", "find_noise", "without_noise"]

_DATA_URI = re.compile(r"(?:\]\(\s*<?)?data:[\w.+-]{1,60}/[\w.+-]{1,80}[;,][^\s\"'()<>]{100,}(?:>?\s*\))?")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{200,}={0,2}")
_BASE64_LINES = re.compile(
    r"(?:^[ \t]*[A-Za-z0-9+/]{60,100}[ \t]*\r?\n){3,}(?:[ \t]*[A-Za-z0-9+/]{1,100}={0,2}(?=\s|\Z))?", re.MULTILINE
)
_LONG_LINE = re.compile(r"[^\r\n]{1000,}")
_MIN_LETTERS = 16  # different characters of a run that is not just one word repeated


@dataclass(frozen=True, slots=True)
class Readable:
    """A text without its noise, and where it stood in the whole text.

    Attributes:
        text: What is left.
        cuts: Where in `text` something was cut out, ascending.
        skipped: Characters that were cut out up to and with each cut.
    """

    text: str
    cuts: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of the whole text that `start:end` of this text is made of."""
        inner = self.cuts[bisect_right(self.cuts, start) : bisect_left(self.cuts, end)]
        for low, high in zip((start, *inner), (*inner, end), strict=True):
            yield low + self._skipped(bisect_right(self.cuts, low)), high + self._skipped(bisect_left(self.cuts, high))

    def _skipped(self, cuts: int) -> int:
        return self.skipped[cuts - 1] if cuts else 0


def without_noise(text: str, *, is_code: bool) -> Readable:
    """Return `text` without its noise."""
    pieces: list[str] = []
    cuts: list[int] = []
    skipped: list[int] = []
    position = length = 0
    for start, end in find_noise(text, is_code=is_code):
        pieces.append(text[position:start])
        length += start - position
        if cuts and cuts[-1] == length:
            skipped[-1] = end - length
        else:
            cuts.append(length)
            skipped.append(end - length)
        position = end
    pieces.append(text[position:])
    return Readable("".join(pieces), tuple(cuts), tuple(skipped))


def find_noise(text: str, *, is_code: bool) -> list[tuple[int, int]]:
    """Return the spans of `text` that are noise, in order and without overlap.

    These are `data:` URIs, base64 (a run of 200 characters, or four lines and more) and, in code, minified lines.
    """
    found = [match.span() for match in _DATA_URI.finditer(text)] if "data:" in text else []
    found += [match.span() for match in _BASE64_RUN.finditer(text) if _is_random(match[0])]
    found += [match.span() for match in _BASE64_LINES.finditer(text) if _is_random(match[0])]
    if is_code:
        found += [match.span() for match in _LONG_LINE.finditer(text) if _is_minified(match[0])]
    return merge_spans(found, joins_touching=False)


def _is_random(run: str) -> bool:
    """Return whether a run of letters and digits looks like bytes, not like words."""
    sample = run[:2000]
    kinds = (str.isupper, str.islower, str.isdecimal)
    return len(set(sample)) >= _MIN_LETTERS and all(any(map(kind, sample)) for kind in kinds)


def _is_minified(line: str) -> bool:
    """Return whether a long line is code without spaces. JSON and tables of data are not code."""
    sample = line[:20_000]
    if sample.lstrip()[:1] in ("{", "[", '"', "<"):
        return False
    marks = sum(map(sample.count, ";{}"))
    return marks > len(sample) / 50 and sum(map(sample.count, " \t")) < len(sample) / 10
