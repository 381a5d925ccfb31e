"""Markdown and reStructuredText, kept as they are, with the title and the values of their front matter."""

from __future__ import annotations

import datetime
import math
import re
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.types import Document, MetadataValue

__all__ = ["front_matter", "front_matter_end", "read_markdown"]

_MAX_CHARS = 64 * 1024
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def read_markdown(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a file; its front matter gives the title and the metadata."""
    text = decode(data, path, encoding)
    values = front_matter(text)
    title = values.pop("title", None)
    title = "" if title is None else str(title).strip()
    return Document(text, id=path.as_posix(), title=title, kind="markdown", metadata=values)


def front_matter_end(text: str) -> int:
    """Return where the front matter ends, 0 if there is none: lines of YAML between `---` and `---` or `...`."""
    position = 0
    while position < min(len(text), _MAX_CHARS):
        line = _LINE.match(text, position)
        words = line[0].rstrip() if line else ""
        if position == 0 and words != "---":
            return 0
        if position > 0 and words in ("---", "..."):
            return line.end() if line else 0
        position = line.end() if line else len(text)
    return 0


def front_matter(text: str) -> dict[str, MetadataValue]:
    """Return the values at the top of the front matter: text, numbers, dates, booleans, null and lists of these.

    Front matter that is not YAML has no values: a page may begin with a rule.
    """
    end = front_matter_end(text)
    if not end:
        return {}
    import yaml

    try:
        values = yaml.safe_load("\n".join(text[:end].splitlines()[1:-1]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(name): value for name, value in values.items() if _is_storable(value)}


def _is_storable(value: object) -> bool:
    """Return whether a store can filter on a value."""
    if isinstance(value, list):
        return all(_is_storable(item) and not isinstance(item, list) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, (str, datetime.date))
