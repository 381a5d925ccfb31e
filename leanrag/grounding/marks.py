"""The sentences of an answer, and where its marks stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from leanrag.text import STOP_WORDS, code_spans, split_sentences

__all__ = ["goes_on", "sentences_of", "with_marks"]


def sentences_of(answer: str) -> Iterator[tuple[int, int, bool]]:
    """The sentences of an answer; a block of code, or a sentence with code that holds a full stop, is one."""
    code = list(code_spans(answer))
    fenced = [
        span
        for span in code
        if answer[span[0] : span[1]].lstrip().startswith(("```", "~~~")) and "\n" in answer[span[0] : span[1]]
    ]
    pending: tuple[int, int] | None = None
    for start, end in _split_around(answer, fenced):
        if (start, end) in fenced:
            if pending:
                yield (*pending, False)
                pending = None
            yield start, end, True
            continue
        start = pending[0] if pending else start
        pending = (start, end) if any(low < end < high for low, high in code) else None
        if pending is None:
            yield start, end, False
    if pending:
        yield (*pending, False)


def _split_around(answer: str, blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start = 0
    for low, high in [*blocks, (len(answer), len(answer))]:
        yield from ((start + a, start + b) for a, b in split_sentences(answer[start:low]))
        if low < high:
            yield low, high
        start = high


_SENTENCE_ENDS = ".!?。！？।؟۔"


def with_marks(sentence: str, numbers: Sequence[int], is_code: bool) -> str:
    """Return a sentence with [n] before the punctuation that ends it, or a block of code with [n] under it."""
    if not numbers:
        return sentence
    marks = " ".join(f"[{number}]" for number in numbers)
    if is_code:
        return f"{sentence}\n{marks}"
    body = sentence.removesuffix("|").rstrip() if sentence.endswith("|") else sentence.rstrip(_SENTENCE_ENDS)
    return f"{body} {marks}{sentence[len(body) :]}"


_WORD_BEFORE_STOP = re.compile(r"(\S*)\.\Z")
_SEAM_CHARS = 24
_LONGEST_SHORT_WORD = 2  # letters, of a word written small; one more with a capital. Units behind numbers do not count


def goes_on(answer: str, end: int, start: int, sources: Sequence[str]) -> bool:
    """Whether the stop at `end` ends no sentence, as behind an abbreviation: what begins at `start` follows it in a source, too.

    That then begins small, with a digit or with a single letter, or the word before the stop is short and has a stop everywhere.
    """
    before = _WORD_BEFORE_STOP.search(answer, max(0, end - _SEAM_CHARS), end)
    seam = answer[before.start() if before else end : start + 3]
    if before is None or "\n" in seam or not any(seam in text for text in sources):
        return False
    if answer[start].islower() or answer[start].isdigit() or answer[start + 1 : start + 2] == ".":
        return True
    word = before[1].lstrip("(\"'„“«")
    alone = re.compile(rf"(?<!\w){re.escape(word)}(?![\w.])")
    is_short = len(word) <= _LONGEST_SHORT_WORD + word.istitle() and word.lower() not in STOP_WORDS
    is_short = is_short and not answer[: before.start()].rstrip()[-1:].isdigit()
    return is_short and not any(alone.search(text) for text in sources)
