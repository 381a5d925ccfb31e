"""The tags `<llmlingua, rate=0.4, compress=False>...</llmlingua>` of structured prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from leanrag.errors import ConfigurationError

__all__ = ["Segment", "parse_tags", "segments_of"]

_TAG = re.compile(r"<llmlingua(?P<settings>\s*(?:,[^<>]*)?)>|(?P<closing></llmlingua>)")
_SETTING = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>[^\s,=]+)\s*")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a document with settings of its own.

    Attributes:
        text: The part.
        rate: Share of its tokens to keep, in (0, 1].
        compress: False keeps the part whole.
    """

    text: str
    rate: float
    compress: bool = True


def parse_tags(text: str, rate: float) -> list[Segment]:
    """Return the segments of a document; their texts joined are the document without its tags.

    Text outside of all tags is a segment with the rate `rate`. Nothing is lost: a "<" in a segment is text.

    Raises:
        ConfigurationError: A tag is not closed, not opened, or inside another one, or its settings cannot be read.
    """
    segments: list[Segment] = []
    opened: tuple[int, Segment] | None = None
    at = 0
    for tag in _TAG.finditer(text):
        between = text[at : tag.start()]
        if tag["closing"]:
            if opened is None:
                raise ConfigurationError(
                    f"the tag '</llmlingua>' at character {tag.start()} closes nothing. Write '<llmlingua>' before it"
                )
            if between:
                segments.append(Segment(between, opened[1].rate, opened[1].compress))
            opened = None
        else:
            if opened is not None:
                raise ConfigurationError(
                    f"the tag {tag[0]!r} at character {tag.start()} stands inside the tag at character {opened[0]}."
                    " Tags cannot be nested: write '</llmlingua>' before it"
                )
            if between:
                segments.append(Segment(between, rate))
            opened = tag.start(), _settings(tag, rate)
        at = tag.end()
    if opened is not None:
        raise ConfigurationError(
            f"the tag at character {opened[0]} is not closed. Write '</llmlingua>' where its text ends"
        )
    if at < len(text):
        segments.append(Segment(text[at:], rate))
    return segments


def _settings(tag: re.Match[str], rate: float) -> Segment:
    compress = True
    for part in filter(str.strip, tag["settings"].split(",")):
        setting = _SETTING.fullmatch(part)
        if setting is None or setting["name"] not in ("rate", "compress"):
            raise ConfigurationError(
                f"the tag {tag[0]!r} has the setting {part.strip()!r}. Allowed are 'rate=0.4' and 'compress=False'"
            )
        name, value = setting["name"], setting["value"]
        if name == "compress":
            if value not in ("True", "False"):
                raise ConfigurationError(f"`compress` of the tag {tag[0]!r} must be True or False, got {value!r}")
            compress = value == "True"
        else:
            rate = _rate(tag[0], value)
    return Segment("", rate, compress)


def _rate(tag: str, value: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = float("nan")
    if not 0 <= rate <= 1:
        raise ConfigurationError(f"`rate` of the tag {tag!r} must be in [0, 1], got {value!r}")
    return rate


def segments_of(
    documents: Sequence[str],
    texts: Sequence[Sequence[str]],
    rates: Sequence[Sequence[float]] | None,
    compress: Sequence[Sequence[bool]] | None,
    rate: float,
) -> list[list[Segment]]:
    """Return the segments that `context_segs`, `context_segs_rate` and `context_segs_compress` describe.

    Raises:
        ConfigurationError: The lists do not describe the documents.
    """
    rates = [[rate] * len(own) for own in texts] if rates is None else rates
    compress = [[True] * len(own) for own in texts] if compress is None else compress
    if not len(documents) == len(texts) == len(rates) == len(compress):
        raise ConfigurationError(
            f"`context_segs`, `context_segs_rate` and `context_segs_compress` must have a list for each of the {len(documents)}"
            f" documents, got {len(texts)}, {len(rates)} and {len(compress)}"
        )
    found = []
    for number, (document, own, shares, flags) in enumerate(zip(documents, texts, rates, compress, strict=True)):
        if "".join(own) != document or not len(own) == len(shares) == len(flags):
            raise ConfigurationError(
                f"`context_segs[{number}]` must be the parts of document {number} in order, with a rate and a flag for each"
            )
        if wrong := [share for share in shares if not 0 <= share <= 1]:
            raise ConfigurationError(f"a rate in `context_segs_rate` must be in [0, 1], got {wrong[0]!r}")
        found.append([Segment(*values) for values in zip(own, shares, flags, strict=True)])
    return found
