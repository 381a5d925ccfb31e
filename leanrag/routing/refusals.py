"""Answers that say that they do not know."""

from __future__ import annotations

import re

__all__ = ["is_refusal"]

_TEXT = r"(?:texts?|passages?|contexts?|documents?|sources?|articles?|information|excerpts?|paragraphs?)"
_SAID = r"(?:mention|state|specif|provide|give|say|contain|include|discuss|indicate|tell|answer|explain|describe)\w*"
_REFUSAL = re.compile(
    r"\bunanswerable\b"
    r"|\bi(?:'m| am) (?:sorry|unable|not sure|not able)\b"
    r"|\bi (?:do not|don't|cannot|can't|could not|couldn't) (?:know|answer|find|determine|tell|provide|have)\b"
    r"|\b(?:cannot|can't|could not) be (?:answered|determined|found)\b"
    r"|\b(?:not enough|no|insufficient) (?:relevant )?information (?:is |was )?(?:about|on|in|to|provided|given|available)\b"
    rf"|\b{_TEXT}(?: \w+){{0,3}} (?:do|does|did)(?: not|n't) {_SAID}"
    rf"|\bnot (?:found )?in (?:the|this|these) (?:\w+ )?{_TEXT}\b"
    rf"|\bnot (?:explicitly |directly |clearly )?{_SAID} (?:in|by|from) (?:the|this|that|any|these)(?: \w+){{0,2}} {_TEXT}\b"
)


def is_refusal(text: str) -> bool:
    """Return whether an English answer says that it does not know, or that the sources do not say.

    It knows the phrases that small instruction models use. It misses other wordings.

    Example:
        >>> is_refusal("The text does not mention who built it."), is_refusal("It does not rain there.")
        (True, False)
    """
    return _REFUSAL.search(" ".join(text.replace("’", "'").casefold().split())) is not None
