"""What stays of documents, as texts, segments and labelled words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from leanrag.compression.compat.causal import Kept
from leanrag.compression.compat.tags import Segment
from leanrag.spans import Span

__all__ = ["joined_documents", "label_format", "label_words", "texts_of_segments"]


def joined_documents(documents: Sequence[str], kept: Kept) -> Iterator[str]:
    """Yield what stays of each document; tokens that are dropped leave nothing behind, as in the package."""
    for i, spans in zip(kept.used, kept.spans, strict=True):
        yield "".join(documents[i][start:end] for start, end in spans)


def texts_of_segments(document: str, segments: Sequence[Segment], spans: Sequence[Span]) -> list[str]:
    """Return what stays of each segment."""
    texts, at = [], 0
    for segment in segments:
        end = at + len(segment.text)
        own = [document[max(at, low) : min(end, high)] for low, high in spans if low < end and high > at]
        texts.append("".join(own).strip() if segment.compress else segment.text)
        at = end
    return texts


def label_words(document: str, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """Yield the words of a document, and whether any of each stays."""
    for word in re.finditer(r"\S+", document):
        yield word[0], any(low < word.end() and word.start() < high for low, high in spans)


def label_format(wanted: bool, word_sep: str, label_sep: str) -> Callable[[Sequence[tuple[str, bool]]], str] | None:
    """Return what writes labelled words as one text; None if nobody wants it."""
    if not wanted:
        return None
    return lambda pairs: word_sep.join(f"{word}{label_sep}{int(label)}" for word, label in pairs)
