"""Spans that no compressor may cut or thin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from leanrag.errors import ConfigurationError

__all__ = ["PROTECTED_KINDS", "ProtectedKind", "Protection", "merge_spans"]

Span: TypeAlias = tuple[int, int]

ProtectedKind: TypeAlias = Literal[
    "code", "url", "path", "email", "quantity", "date", "identifier", "quotation", "negation", "heading"
]

PROTECTED_KINDS: tuple[ProtectedKind, ...] = get_args(ProtectedKind)
"""Everything that is protected by default."""

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)[a-z]{0,6}\.?"
_NUMBER = r"[+\-−±~≈]?(?:\d{1,3}(?:[,  ]\d{3})+|\d+)(?:[.,]\d+)*"
_UNIT = (
    r"(?:%|‰|°[CFK]?|[kKmMgGtTpPµnc]?(?:m|g|s|b|B|W|V|A|Hz|J|Pa|mol|bit|byte|bytes|bps|L|l)\b[²³]?|"
    r"(?:percent|million|billion|trillion|thousand|hundred|dozen|years?|months?|weeks?|days?|hours?|minutes?|seconds?|"
    r"miles?|feet|foot|inch(?:es)?|pounds?|tons?|tonnes?|acres?|hectares?|degrees?|dollars?|euros?|cents?|people|"
    r"kilomet(?:er|re)s?|met(?:er|re)s?|mph|km/h|ft|lb|oz|USD|EUR|GBP|AD|BC|BCE|CE|a\.m\.|p\.m\.|am|pm)\b)"
)
_PATTERNS: dict[ProtectedKind, str] = {
    "code": r"(?ms:^(?P<fence>```+|~~~+).*?(?:^(?P=fence)|\Z))|`[^`\n]+`",
    "url": r"\b(?:https?|ftp|file|mailto|git|ssh|s3)://?[^\s<>\"'）)\]]+|\bwww\.[^\s<>\"')\]]+",
    "email": r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b",
    "path": r"(?<![\w/])(?:[A-Za-z]:\\[\w.\\ -]{1,200}[\w]|(?:\.{1,2}|~)?/(?:[\w.+@-]{1,100}/){0,20}[\w.+@-]{1,100})",
    "date": (
        rf"\b\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}})?Z?)?\b|\b\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}\b|"
        rf"\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH},?(?: \d{{4}})?\b|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?|"
        rf"\b{_MONTH},? \d{{4}}\b|\b\d{{1,2}}:\d{{2}}(?::\d{{2}})?\b"
    ),
    "quantity": rf"(?:[$€£¥₹]\s?)?(?<!\w){_NUMBER}(?:\s?{_UNIT})?(?!\w)|[$€£¥₹]\s?{_NUMBER}",
    "identifier": (
        r"\b(?=\w{0,60}\d)(?=\w{0,60}[A-Za-z])\w+(?:[-.:]\w+)*\b|\b[a-z]\w*_\w+\b|\b[a-z]+[A-Z]\w*\b|"
        r"\b[A-Z]{2,}(?:[-_.]\w+)+\b|\b\w+(?:::\w+)+\b|\b\w+\(\)"
    ),
    "quotation": r"\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”|«[^»\n]{1,300}»|‘[^’\n]{2,300}’(?!\w)|「[^」\n]{1,300}」",
    "negation": (
        r"\b(?:not|no|never|none|nor|neither|without|cannot|unless|except|only|must|nobody|nothing|nowhere)\b|\b\w+n['’]t\b"
    ),
    "heading": r"(?m:^[ \t]{0,3}#{1,6}[ \t]+[^\n]+$)|(?m:^[^\n]{1,100}\n(?:=|-){3,}[ \t]*$)",
}


@dataclass(frozen=True, slots=True)
class Protection:
    """What may never be cut.

    What a compressor leaves of a sentence, row or block keeps its protected spans whole. It may leave out a whole one that holds
    some, unless the span was asked for by `patterns` or `keep=`, or `everywhere` is set: those are always in the result, and if
    they alone do not fit, that is a `BudgetError`.

    Args:
        kinds: Kinds of spans that are recognised; none for no protection but `patterns` and `keep=`.
        patterns: Regular expressions whose matches are always kept.
        everywhere: Keep every span of `kinds`, wherever it stands.
    """

    kinds: Sequence[ProtectedKind] = PROTECTED_KINDS
    patterns: Sequence[str | re.Pattern[str]] = ()
    everywhere: bool = False

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in PROTECTED_KINDS]:
            raise ConfigurationError(
                f"`kinds` may hold {', '.join(PROTECTED_KINDS)}, got {', '.join(map(repr, unknown))}"
            )
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigurationError(f"{pattern!r} is not a regular expression: {error}") from error

    def spans(self, text: str, keep: Iterable[Span] = ()) -> list[Span]:
        """Return the spans of `text` that must stay whole, disjoint and in order; `required` ones among them."""
        found = [match.span() for kind in self.kinds for match in re.finditer(_PATTERNS[kind], text)]
        return merge_spans([*found, *self.required(text, keep)])

    def required(self, text: str, keep: Iterable[Span] = ()) -> list[Span]:
        """Return the spans of `text` that must be in the result, disjoint and in order.

        Raises:
            ConfigurationError: A span of `keep` lies outside the text.
        """
        keep = list(keep)
        for start, end in keep:
            if not 0 <= start < end <= len(text):
                raise ConfigurationError(
                    f"`keep` spans must lie in the text of {len(text):,} characters, got ({start}, {end})"
                )
        if self.everywhere:
            keep += [match.span() for kind in self.kinds for match in re.finditer(_PATTERNS[kind], text)]
        return merge_spans(
            [*keep, *(match.span() for pattern in self.patterns for match in re.finditer(pattern, text))]
        )


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the union of `spans` as disjoint spans in order; empty ones vanish, touching ones become one.

    Example:
        >>> merge_spans([(5, 9), (0, 2), (1, 3), (9, 9)])
        [(0, 3), (5, 9)]
    """
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
