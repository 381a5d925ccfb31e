"""Subtitles (SubRip, WebVTT, SubViewer) to a transcript: what is said, without the breaks of the screen.

A cue holds what fits on a screen, often half a sentence. The transcript joins cues to paragraphs, and each paragraph
begins with its time, as in "[00:01:30] The launch was moved from May to June.".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.types import Document

__all__ = ["read_subtitles"]

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*(?:-->|,)\s*{_TIME}")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>|<\d[\d:.]{0,20}>|\{\\?[^{}\n]{0,100}\}")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^<>\n]{1,100})>")
_DASH = re.compile(r"[-–—]\s*(?=\S)")
_SPEAKER = re.compile(r"(?:>>\s*|[^\W\d_][\w .'-]{0,40}:\s)")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_PAUSE_SECONDS = 3.0  # a longer silence ends a paragraph
_PARAGRAPH_SECONDS = 30.0  # a longer paragraph ends with its sentence


@dataclass(frozen=True, slots=True)
class _Cue:
    start: float
    end: float
    text: str


def read_subtitles(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a file of subtitles as its transcript; a file without a cue is read as plain text."""
    text = decode(data, path, encoding)
    transcript = "\n\n".join(_paragraphs(_cues(text)))
    return Document(f"{transcript}\n" if transcript else text, id=path.as_posix(), kind="text")


def _cues(text: str) -> Iterator[_Cue]:
    last = ""
    for block in _BLANK_LINES.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.split("\n")
        for i, line in enumerate(lines[:3]):
            if times := _TIMES.match(line):
                words = _clean(lines[i + 1 :])
                if words and words != last:  # rolling captions repeat the line before
                    yield _Cue(_seconds(*times.group(1, 2, 3, 4)), _seconds(*times.group(5, 6, 7, 8)), words)
                last = words or last
                break


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction}")


def _clean(lines: list[str]) -> str:
    """Return the words of a cue: one line, but a line of its own for each speaker."""
    said: list[str] = []
    for line in lines:
        words = unescape(_TAG.sub("", _VOICE.sub(r"\1: ", line.replace("[br]", " ")))).strip()
        if not words:
            continue
        turn = _DASH.match(words) if len(lines) > 1 else None
        words = f"- {words[turn.end() :]}" if turn else " ".join(words.split())
        starts_turn = turn or _SPEAKER.match(words)
        said.append(("\n" if said and starts_turn else " " if said else "") + words)
    return "".join(said)


def _paragraphs(cues: Iterator[_Cue]) -> Iterator[str]:
    words = ""
    start = end = 0.0
    for cue in cues:
        is_silence = cue.start - end > _PAUSE_SECONDS
        is_long = end - start > _PARAGRAPH_SECONDS and _SENTENCE_END.search(words)
        if words and (is_silence or is_long):
            yield f"{_stamp(start)} {words}"
            words = ""
        if not words:
            start = cue.start
        starts_turn = cue.text.startswith("- ") or _SPEAKER.match(cue.text)
        words += ("\n" if words and starts_turn else " " if words else "") + cue.text
        end = cue.end
    if words:
        yield f"{_stamp(start)} {words}"


def _stamp(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"[{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}]"
