"""What an embedder reads of a chunk. The chunkers bound the same text."""

from __future__ import annotations

import re

from leanrag.protocols import TokenCounter
from leanrag.types import Chunk

__all__ = ["compose", "embedding_text"]

_MARKS = re.compile(r"[\W_]+")


def embedding_text(chunk: Chunk, count_tokens: TokenCounter, max_tokens: int) -> str:
    r"""Return the text of a chunk under its title, its headings and its lead, as far as all of it fits.

    What does not fit is left out in this order: the title, the headings, the lead. The chunkers keep headings, lead and
    text within their `max_tokens`, so that these three always fit an embedder that reads as many tokens.

    Example:
        >>> chunk = Chunk("guide", 40, 51, "Run it now.", title="Guide", heading="Start")
        >>> embedding_text(chunk, lambda text: len(text.split()), 8)
        'Guide > Start\nRun it now.'
        >>> embedding_text(chunk, lambda text: len(text.split()), 4)
        'Start\nRun it now.'
    """
    names = " > ".join(filter(None, (chunk.title, chunk.heading)))
    for heading, lead in ((names, chunk.lead), (chunk.heading, chunk.lead), ("", chunk.lead)):
        text = compose(heading, lead, chunk.text)
        if count_tokens(text) <= max_tokens:
            return text
    return chunk.text


def compose(heading: str, lead: str, text: str) -> str:
    """Return the parts that are not empty, each on a line of its own; a lead that repeats the end of the headings is left out."""
    if heading and f" {_words(heading)}".endswith(f" {_words(lead)}"):
        lead = ""
    return "\n".join(filter(None, (heading, lead, text)))


def _words(text: str) -> str:
    return _MARKS.sub(" ", text).strip().casefold()
