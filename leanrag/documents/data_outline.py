"""The outline of JSON, YAML and files of settings: a section for each key, so that a value keeps the names above it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from leanrag.documents.outlines import Heading, Section, clean_label, iter_lines

__all__ = ["json_members", "json_name", "looks_like_json", "settings_headings", "yaml_headings"]

_JSON_START = re.compile(r"\s*(?:\{\s*(?:\"|\}|$)|\[\s*(?:[\[{\"\]]|-?\d|$))")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[{}\[\],]', re.DOTALL)
_JSON_KEY = re.compile(r'\s*"((?:[^"\\]|\\.){0,200})"\s*:')
_JSON_STRING = r'"(?:[^"\\]|\\.){0,120}"'
_JSON_OPENING = re.compile(
    rf"\s*({_JSON_STRING}\s*:\s*[{{\[]|\{{\s*{_JSON_STRING}\s*:\s*(?:{_JSON_STRING}|[\w.+-]{{1,40}})\s*,?)"
)
_YAML_KEY = re.compile(
    r"( *)((?:- +)*)([\"']?[^\s#\"'\[{&*!|>%@:-][^:#\"'\n]{0,80}?[\"']?|[\"'][^\"'\n]{1,80}[\"']):(?:\s+(.*))?$"
)
_YAML_ITEM = re.compile(r"( *)- ")
_BLOCK_SCALAR = re.compile(r"(?:[&!]\S+\s+)*[|>][-+\d]*\s*(?:#.*)?$")
_SECTION = re.compile(r"\s*\[\[?\s*([^\[\]\r\n]{1,120}?)\s*\]\]?\s*(?:[#;].*)?$")


def looks_like_json(text: str) -> bool:
    """Return whether a text is one JSON object or array, by its beginning and end."""
    return _JSON_START.match(text) is not None and text.rstrip()[-1:] in ("}", "]")


def json_members(text: str, section: Section) -> list[Section]:
    """Return the members of the first object or array in a section; each is a section named by its key."""
    depth = 0
    members: list[Section] = []
    start = section.start
    for token in _JSON_TOKEN.finditer(text, section.start, section.end):
        mark = token[0]
        if mark in "{[":
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark == "," and depth == 1:
            members.append(_member(text, start, token.end()))
            start = token.end()
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                if text[start : token.start()].strip():
                    members.append(_member(text, start, token.start()))
                break
    return members


def _member(text: str, start: int, end: int) -> Section:
    key = _JSON_KEY.match(text, start, end)
    return Section(start, end, clean_label(key[1]) if key else "")


def json_name(text: str, section: Section) -> tuple[int, int] | None:
    """Return the span of the key of an object or array with its bracket; of an object without key, of its first value."""
    if found := _JSON_OPENING.match(text, section.start, section.end):
        return found.start(1), found.end()
    return None


def yaml_headings(text: str) -> Iterator[Heading]:
    """Yield the keys of YAML that hold more than a value, nested by indentation; comments right above belong to a key."""
    lines = [(start, text[start:end].rstrip()) for start, end in iter_lines(text)]
    scalar: int | None = None  # indentation of the key whose text of several lines is open
    comment: int | None = None  # where the comments right above begin
    for start, line in lines:
        indent = len(line) - len(line.lstrip(" "))
        if scalar is not None and (not line or indent > scalar):
            continue
        scalar = None
        if line.lstrip().startswith("#"):
            comment = start if comment is None else comment
            continue
        key = _YAML_KEY.match(line)
        if key is not None:
            value = key[4] or ""
            if _BLOCK_SCALAR.match(value):
                scalar = indent
            if not value or value.startswith(("#", "&")) or scalar is not None or key[2]:
                label = "" if key[2] else clean_label(key[3].strip("\"'"))
                yield start if comment is None else comment, 2 * indent + (2 if key[2] else 1), label
        elif _YAML_ITEM.match(line):
            yield start if comment is None else comment, 2 * indent + 2, ""
        comment = None


def settings_headings(text: str) -> Iterator[Heading]:
    """Yield the `[section]` lines of INI and TOML; comments right above belong to a section."""
    comment: int | None = None
    for start, end in iter_lines(text):
        line = text[start:end].rstrip("\r\n")
        if found := _SECTION.match(line):
            yield start if comment is None else comment, 1, clean_label(found[1])
        if not line.lstrip().startswith(("#", ";")):
            comment = None
        elif comment is None:
            comment = start
