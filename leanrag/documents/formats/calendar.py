"""Calendars (.ics) and contacts (.vcf): a paragraph for each event, task or person, with a line for each thing that is said."""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.types import Document

__all__ = ["read_calendar"]

_QUOTED_PRINTABLE = re.compile(r"[^:]{0,200}QUOTED-PRINTABLE", re.IGNORECASE)
_LINE = re.compile(r"(?:item\d+\.)?([A-Za-z0-9-]{1,60})((?:;[^:\"\r\n]{0,200}(?:\"[^\"\r\n]{0,200}\")?){0,20}):(.*)")
_PARAMETER = re.compile(r";([A-Za-z-]+)=(\"[^\"]*\"|[^;]*)")
_STAMP = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:T(\d{2}):?(\d{2}):?\d{2}(Z?))?\Z")
_ESCAPE = re.compile(r"\\([nN,;:\\])")
_PARTS = re.compile(r"(?<!\\);")
_LABELS = {
    "DTSTART": "Start", "DTEND": "End", "RRULE": "Repeats", "FN": "Name", "N": "Name", "TEL": "Phone", "ADR": "Address",
    "ORG": "Organization", "BDAY": "Birthday", "GEO": "Position", "TZ": "Time zone",
}  # fmt: skip
_TITLES = frozenset(("SUMMARY", "FN", "N"))
_SILENT = frozenset(
    "BEGIN END VERSION PRODID UID DTSTAMP CALSCALE METHOD SEQUENCE REV PHOTO LOGO SOUND KEY TRANSP".split()
)
_SILENT_KINDS = frozenset(("voice", "internet", "pref", ""))
_DETAILS = frozenset("VALARM VTIMEZONE STANDARD DAYLIGHT".split())  # components that say nothing to a reader


def read_calendar(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a calendar or contacts; a file without an event or a person is read as plain text."""
    text = decode(data, path, encoding)
    readable = "\n\n".join(filter(None, map("\n".join, _components(text))))
    return Document(f"{readable}\n" if readable else text, id=path.as_posix(), kind="text")


def _components(text: str) -> Iterator[list[str]]:
    """Yield the lines of each component, what it is called first: "Start: 2024-03-09 10:00 (Europe/Dublin)"."""
    lines: dict[str, list[str]] = {}
    skipped = ""
    for content in _unfold(text):
        found = _LINE.match(content)
        if found is None:
            continue
        name, value = found[1].upper(), found[3].strip()
        if name in ("BEGIN", "END"):
            if not skipped:
                yield _in_order(lines)
                lines = {}
            begins_details = name == "BEGIN" and value.upper() in _DETAILS
            skipped = value.upper() if begins_details else "" if value.upper() == skipped else skipped
        elif not skipped and value and name not in _SILENT:
            lines.setdefault(name, []).append(_readable(name, found[2], value))
    yield _in_order(lines)


def _unfold(text: str) -> Iterator[str]:
    """Yield the lines without the breaks in long lines: these go on behind a space (RFC 5545, 3.1), or behind "="."""
    parts: list[str] = []
    is_quoted = False
    for line in text.splitlines():
        goes_on = line[:1] in (" ", "\t") or (is_quoted and parts[-1].endswith("="))
        if goes_on and parts:
            parts[-1] = parts[-1].removesuffix("=") if is_quoted else parts[-1]
            parts.append(line.lstrip(" \t") if is_quoted else line[1:])
            continue
        yield "".join(parts)
        parts = [line]
        is_quoted = _QUOTED_PRINTABLE.match(line) is not None
    yield "".join(parts)


def _in_order(lines: dict[str, list[str]]) -> list[str]:
    if "FN" in lines:
        lines.pop("N", None)  # the same name in parts
    names = sorted(lines, key=lambda name: name not in _TITLES)
    return [line for name in names for line in lines[name]]


def _readable(name: str, options: str, value: str) -> str:
    parameters = {key.upper(): word.strip('"') for key, word in _PARAMETER.findall(options)}
    if parameters.get("ENCODING", "").upper() == "QUOTED-PRINTABLE":
        value = quopri.decodestring(value.encode()).decode(parameters.get("CHARSET", "utf-8"), "replace")
    if name in ("ADR", "N", "ORG"):
        parts = [part for part in _PARTS.split(value) if part.strip()]
        value = " ".join(reversed(parts[:2])) if name == "N" else ", ".join(parts)
    value = _ESCAPE.sub(lambda escape: ", " if escape[1] in "nN" else escape[1], value)
    if stamp := _STAMP.match(value):
        year, month, day, hour, minute, utc = stamp.groups()
        value = f"{year}-{month}-{day}" + (f" {hour}:{minute}" if hour else "") + (" UTC" if utc else "")
    zone, kind, person = parameters.get("TZID", ""), parameters.get("TYPE", ""), parameters.get("CN", "")
    value = value.removeprefix("mailto:").removeprefix("MAILTO:")
    kinds = [word.strip().lower() for word in kind.split(",")]
    note = zone or ", ".join(word for word in kinds if word not in _SILENT_KINDS)
    label = _LABELS.get(name, name.removeprefix("X-").replace("-", " ").capitalize())
    if name in ("TEL", "ADR", "EMAIL") and note:
        return f"{label} ({note}): {value}"
    return f"{label}: {person} ({value})" if person else f"{label}: {value}" + (f" ({note})" if note else "")
