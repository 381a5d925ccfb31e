"""Documents to `Chunk`s that an embedder can read whole.

The outline of a document (headings of Markdown, definitions of code, keys of JSON, nothing for prose) is a tree of
sections. A section that fits is one chunk, small neighbours share one, and a section that does not fit is cut into atoms
(sentences, lines, records, fenced blocks) that are grouped by dynamic programming: groups of even size, ending where the
text itself pauses. A heading, a question or a lead-in goes with what follows it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from leanrag.documents.code_outline import CLOSER, COMMENT, outline_code
from leanrag.documents.cutting import CLOSING, LIST_ITEM, PARAGRAPH, SENTENCE, Atom, Block, Cutter, Piece
from leanrag.documents.data_outline import json_members, json_name, looks_like_json, settings_headings, yaml_headings
from leanrag.documents.markdown_outline import markdown_headings, restructured_headings
from leanrag.documents.noise import without_noise
from leanrag.documents.outlines import Section, iter_lines, nest_headings
from leanrag.documents.tables import end_of_block, iter_rows, markdown_header, values_header
from leanrag.errors import ConfigurationError
from leanrag.lines import find_records
from leanrag.protocols import TokenCounter
from leanrag.spans import trim_span
from leanrag.text import split_sentences
from leanrag.types import Chunk, Document

__all__ = ["MAX_TOKENS", "CodeChunker", "DocumentChunker", "MarkdownChunker", "RecursiveChunker"]

MAX_TOKENS = 160

_MIN_TOKENS = 8  # of text, beside the special tokens
_VERSION = 6  # raise it when the same settings cut elsewhere


# ------------------------------------------------------------------------------------------------------------ chunkers


class _Chunker:
    """What the chunkers share: settings and the way from an outline to chunks."""

    name = ""

    def __init__(self, count_tokens: TokenCounter, *, max_tokens: int = MAX_TOKENS) -> None:
        """Remember the settings.

        Args:
            count_tokens: The embedder's tokenizer, special tokens included.
            max_tokens: Most tokens of a chunk with its headings and its lead, as `embedding_text` joins them.

        Raises:
            ConfigurationError: `max_tokens` leaves fewer than 8 tokens beside the special tokens.
        """
        allowed = count_tokens("") + _MIN_TOKENS
        if max_tokens < allowed:
            raise ConfigurationError(f"`max_tokens` must be at least {allowed} with this tokenizer, got {max_tokens!r}")
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens

    @property
    def id(self) -> str:
        """Name, version and settings."""
        return f"{self.name}-{_VERSION}:max_tokens={self._max_tokens}"

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of `document`, in order and without overlap.

        Between them, and around them, only white space is left out, and what `leanrag.documents.noise` finds: pictures as
        text, and minified code. Each satisfies `chunk.text == document.text[chunk.start:chunk.end]` and takes at most
        `max_tokens` tokens, its headings and its lead included. A document that fits is one chunk; one of white space has
        none.

        Raises:
            ConfigurationError: One single character takes more than `max_tokens` tokens.
        """
        readable = without_noise(document.text, is_code=document.kind == "code")
        title = document.title.strip().casefold()
        cutter, outline = self._plan(readable.text, (document.source or document.title or document.id).lower())
        worker = cutter(readable.text, self._count_tokens, self._max_tokens, title)
        chunks = []
        for piece in worker.cut(outline, outline.start):
            spans = list(readable.spans(piece.start, piece.end))
            for low, high in spans:
                span = trim_span(document.text, low, high)
                if span and (len(spans) == 1 or any(map(str.isalnum, document.text[span[0] : span[1]]))):
                    lead = next(readable.spans(*piece.lead)) if piece.lead else (0, 0)
                    chunks.append(_as_chunk(document, span, piece.heading, lead))
        return chunks

    def _plan(self, text: str, name: str) -> tuple[type[Cutter], Section]:
        """Return how to cut a text, and its outline.

        Args:
            text: The text of the document, without its noise.
            name: The file's path or the document's title, in lower case.
        """
        raise NotImplementedError


def _as_chunk(document: Document, span: tuple[int, int], heading: str, lead: tuple[int, int]) -> Chunk:
    return Chunk(
        document_id=document.id,
        start=span[0],
        end=span[1],
        text=document.text[span[0] : span[1]],
        title=document.title,
        heading=heading,
        lead=document.text[lead[0] : lead[1]],
        lead_start=lead[0],
    )


class RecursiveChunker(_Chunker):
    """Cuts prose at paragraphs, else sentences, else clauses, else words, else between characters.

    A record (a log line, a turn of a chat, a row of separated values) is cut only when it does not fit alone. The chunks
    of a table of separated values have the row of column names as their lead, and a chunk that begins inside a section, a
    record or the replies to a question has its first line.

    Example:
        >>> chunker = RecursiveChunker(lambda text: len(text.split()), max_tokens=8)
        >>> [chunk.text for chunk in chunker.chunk(Document("One two three. Four five six. Seven eight nine ten."))]
        ['One two three. Four five six.', 'Seven eight nine ten.']
    """

    name = "recursive"

    def _plan(self, text: str, name: str) -> tuple[type[Cutter], Section]:
        if values_header(text, name) or name.endswith((".csv", ".tsv", ".tab")):
            return _ValuesCutter, Section(0, len(text))
        return _ProseCutter, Section(0, len(text))


class MarkdownChunker(_Chunker):
    """Cuts Markdown (and reStructuredText, by the suffix of its source or title) by its headings.

    Fenced code and tables stay whole when they fit. A table that does not fit is cut between rows, and its header row is
    the lead of each chunk below it. A chunk that begins inside a section has the heading line as its lead. `Chunk.heading`
    is the path of headings, without the document's title; a chunk of several small sections has the path they share.
    """

    name = "markdown"

    def _plan(self, text: str, name: str) -> tuple[type[Cutter], Section]:
        headings = restructured_headings(text) if name.endswith(".rst") else markdown_headings(text)
        return _MarkdownCutter, nest_headings(headings, len(text))


class CodeChunker(_Chunker):
    """Cuts source code by its definitions, found by keywords and indentation in any common language.

    `Chunk.heading` is the path of definitions, as in "class Foo > def bar"; of JSON, YAML and files of settings the path
    of keys. A chunk that begins inside a definition or a key has the line that names it as its lead. Comments and
    decorators stay with what they precede. Code is never parsed or compiled: a hostile file can neither crash nor slow it.
    """

    name = "code"

    def _plan(self, text: str, name: str) -> tuple[type[Cutter], Section]:
        if looks_like_json(text):
            return _JsonCutter, Section(0, len(text))
        if name.endswith((".yaml", ".yml")):
            return _CodeCutter, nest_headings(yaml_headings(text), len(text))
        if name.endswith((".ini", ".cfg", ".toml", ".conf")):
            return _CodeCutter, nest_headings(settings_headings(text), len(text))
        return _CodeCutter, outline_code(text)


class DocumentChunker(_Chunker):
    """Chooses by `Document.kind`: `RecursiveChunker`, `MarkdownChunker` or `CodeChunker`."""

    name = "document"

    def __init__(self, count_tokens: TokenCounter, *, max_tokens: int = MAX_TOKENS) -> None:
        """As the other chunkers."""
        super().__init__(count_tokens, max_tokens=max_tokens)
        self._chunkers: dict[str, _Chunker] = {
            "text": RecursiveChunker(count_tokens, max_tokens=max_tokens),
            "markdown": MarkdownChunker(count_tokens, max_tokens=max_tokens),
            "code": CodeChunker(count_tokens, max_tokens=max_tokens),
        }

    def chunk(self, document: Document) -> list[Chunk]:  # noqa: D102 - as the base class
        if document.kind not in self._chunkers:
            raise ConfigurationError(f"`kind` must be one of {sorted(self._chunkers)}, got {document.kind!r}")
        return self._chunkers[document.kind].chunk(document)


# ------------------------------------------------------------------------------------------------------ kinds of text

_BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[^\S\r\n]*[\r\n]")


class _ProseCutter(Cutter):
    """Cuts at sentences, but not inside records."""

    has_heads = True

    def atoms(self, start: int, end: int) -> list[Atom]:
        text = self.text[start:end]
        records = find_records(text)
        firsts = [first for first, _ in records]
        atoms = [(start, PARAGRAPH)]
        previous: tuple[int, int] | None = None
        for sentence_start, sentence_end in split_sentences(text):
            i = bisect_right(firsts, sentence_start) - 1
            is_inside = i >= 0 and records[i][0] < sentence_start < records[i][1]
            if previous and not is_inside:
                cost = _cost_between(text, previous, sentence_start)
                atoms.append((start + sentence_start, cost))
            previous = sentence_start, sentence_end
        return atoms


def _cost_between(text: str, sentence: tuple[int, int], following: int) -> float:
    """Return what a cut between a sentence and the next costs."""
    gap = text[sentence[1] : following]
    if _BLANK_LINE.search(gap):
        return PARAGRAPH
    return LIST_ITEM if "\n" in gap or "\r" in gap else SENTENCE


class _ValuesCutter(Cutter):
    """Cuts a file of separated values between rows."""

    def blocks(self, start: int, end: int) -> Iterable[Block]:
        return [Block(start, end, values_header(self.text, ".csv"))]

    def atoms(self, start: int, end: int) -> list[Atom]:
        rows = [(row, LIST_ITEM) for row in iter_rows(self.text, start, end)]
        return [(start, PARAGRAPH), *rows[1:]]


class _CodeCutter(Cutter):
    """Cuts at lines."""

    def name_of(self, section: Section) -> tuple[int, int] | None:
        """Return the first line with the name that is neither a comment nor a decorator; of an item, its first line."""
        word = section.label.rstrip("()").rpartition(" ")[2]
        for line_start, line_end in iter_lines(self.text[section.start : section.end]):
            span = trim_span(self.text, section.start + line_start, section.start + line_end)
            line = self.text[slice(*span)] if span else ""
            if (
                span
                and word in line
                and (word or line.startswith("- "))
                and not (COMMENT.match(line) or line.startswith("@"))
            ):
                return span
        return None

    def atoms(self, start: int, end: int) -> list[Atom]:
        return _line_atoms(self.text, start, end)


class _JsonCutter(_CodeCutter):
    """Cuts between the members of objects and arrays."""

    def sections(self, section: Section) -> Sequence[Section]:
        return json_members(self.text, section)

    def name_of(self, section: Section) -> tuple[int, int] | None:
        return json_name(self.text, section)


class _MarkdownCutter(_ProseCutter):
    """Cuts at sentences, around fenced code and tables; those that do not fit are cut between lines."""

    def blocks(self, start: int, end: int) -> Iterable[Block]:
        """Part tables that do not fit from the text around them; a few words above a table stay with it."""
        position = start
        for block_start, block_end, is_block in self._parts(start, end):
            header = markdown_header(self.text, block_start, block_end) if is_block else None
            if header is None or self.fits(Piece(block_start, block_end)):
                continue
            if self.size(position, block_start) > self.available // 4:
                yield Block(position, block_start)
                position = block_start
            yield Block(position, block_end, header)
            position = block_end
        if position < end:
            yield Block(position, end)

    def prose(self, start: int, end: int) -> Iterable[tuple[int, int]]:
        return [(low, high) for low, high, is_block in self._parts(start, end) if not is_block]

    def atoms(self, start: int, end: int) -> list[Atom]:
        atoms: list[Atom] = []
        for block_start, block_end, is_block in self._parts(start, end):
            span = trim_span(self.text, block_start, block_end)
            if span is None:
                continue
            if not is_block:
                found = super().atoms(block_start, block_end)
            elif self.size(*span) <= self.available:
                found = [(block_start, PARAGRAPH)]
            else:
                found = _line_atoms(self.text, block_start, block_end)
            atoms += found
        return [(start, PARAGRAPH), *atoms[1:]]

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Yield consecutive spans, with whether each is a fenced block or a table."""
        lines = [(start + a, start + b, self.text[start + a : start + b]) for a, b in iter_lines(self.text[start:end])]
        position = start
        i = 0
        while i < len(lines):
            j = end_of_block(lines, i)
            if j == i:
                i += 1
                continue
            if position < lines[i][0]:
                yield position, lines[i][0], False
            yield lines[i][0], lines[j - 1][1], True
            position = lines[j - 1][1]
            i = j
        if position < end:
            yield position, end, False


def _line_atoms(text: str, start: int, end: int) -> list[Atom]:
    """Cut before lines, best after a blank one and at little indentation, least before a closing bracket."""
    atoms = []
    after_blank = True
    for line_start, line_end in iter_lines(text[start:end]):
        line = text[start + line_start : start + line_end].expandtabs(4)
        stripped = line.strip()
        if stripped:
            depth = min((len(line) - len(line.lstrip())) / 4, 5)
            cost = 0.06 * depth + (PARAGRAPH if after_blank else 0.15) + CLOSING * bool(CLOSER.match(stripped))
            atoms.append((start + line_start, cost))
        after_blank = not stripped
    return [(start, PARAGRAPH), *atoms[1:]]
