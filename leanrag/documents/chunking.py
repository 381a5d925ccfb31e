"""Documents to `Chunk`s that an embedder can read whole.

The outline of a document (headings of Markdown, definitions of code, nothing for prose) is a tree of sections. A section
that fits is one chunk, small neighbours share one, and a section that does not fit is cut into atoms (sentences, lines,
fenced blocks) that are grouped by dynamic programming: groups of even size, ending where the text itself pauses.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from leanrag.documents.formats.markdown import front_matter_end
from leanrag.errors import ConfigurationError
from leanrag.protocols import TokenCounter
from leanrag.text import split_sentences, trim_span
from leanrag.types import Chunk, Document

__all__ = [
    "CodeChunker",
    "DocumentChunker",
    "MarkdownChunker",
    "RecursiveChunker",
    "embedding_text",
]

MAX_TOKENS = 160

# A WordPiece tokenizer counts a word of more than 100 characters as one unknown token, and white space as none; without
# this bound such a chunk would look small to the embedder and flood the model that answers.
_MAX_CHARS_PER_TOKEN = 8
_MIN_TOKENS = 8  # of text, beside the special tokens
_HEADING_SHARE = 4  # headings take at most 1/4 of a chunk
_VERSION = 1  # raise it when the same settings cut elsewhere


# ---------------------------------------------------------------------------------------------------------- public API


def embedding_text(chunk: Chunk) -> str:
    r"""Return what an embedder should read of a chunk: its headings on a line of their own, then its text.

    This is the text that the chunkers keep within `max_tokens`.

    Example:
        >>> embedding_text(Chunk("guide", 40, 51, "Run it now.", heading="Guide > Start"))
        'Guide > Start\nRun it now.'
    """
    return _with_heading(chunk.heading, chunk.text)


def _with_heading(heading: str, text: str) -> str:
    return f"{heading}\n{text}" if heading else text


class _Chunker:
    """What the chunkers share: settings and the way from an outline to chunks."""

    name = ""

    def __init__(self, count_tokens: TokenCounter, *, max_tokens: int = MAX_TOKENS) -> None:
        """Remember the settings.

        Args:
            count_tokens: The embedder's tokenizer, special tokens included.
            max_tokens: Bound of `count_tokens(embedding_text(chunk))` for every chunk.

        Raises:
            ConfigurationError: `max_tokens` leaves fewer than 8 tokens beside the special tokens.
        """
        least = count_tokens("") + _MIN_TOKENS
        if max_tokens < least:
            raise ConfigurationError(f"`max_tokens` must be at least {least} with this tokenizer, got {max_tokens!r}")
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens

    @property
    def id(self) -> str:
        """Name, version and settings."""
        return f"{self.name}-{_VERSION}:max_tokens={self._max_tokens}"

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of `document`, in order and without overlap.

        Between them, and around them, only white space is left out. Each satisfies
        `chunk.text == document.text[chunk.start:chunk.end]` and takes at most `max_tokens` tokens, its headings
        included. A document that fits is one chunk; one of white space has none.

        Raises:
            ConfigurationError: One single character takes more than `max_tokens` tokens.
        """
        raise NotImplementedError

    def _cut(self, document: Document, outline: _Section, cutter: type[_Cutter]) -> list[Chunk]:
        title = document.title.strip().casefold()
        worker = cutter(document.text, self._count_tokens, self._max_tokens, title)
        return [
            Chunk(
                document_id=document.id,
                start=start,
                end=end,
                text=document.text[start:end],
                title=document.title,
                heading=heading,
            )
            for start, end, heading in worker.cut_section(outline, outline.start, ())
        ]


class RecursiveChunker(_Chunker):
    """Cuts prose at paragraphs, else sentences, else clauses, else words, else between characters.

    Example:
        >>> chunker = RecursiveChunker(lambda text: len(text.split()), max_tokens=8)
        >>> [chunk.text for chunk in chunker.chunk(Document("One two three. Four five six. Seven eight nine ten."))]
        ['One two three. Four five six.', 'Seven eight nine ten.']
    """

    name = "recursive"

    def chunk(self, document: Document) -> list[Chunk]:  # noqa: D102 - as the base class
        return self._cut(document, _Section(0, len(document.text)), _ProseCutter)


class MarkdownChunker(_Chunker):
    """Cuts Markdown (and reStructuredText, by the suffix of its source or title) by its headings.

    Fenced code and tables stay whole when they fit. `Chunk.heading` is the path of headings, without the document's
    title; a chunk of several small sections has the path they share.
    """

    name = "markdown"

    def chunk(self, document: Document) -> list[Chunk]:  # noqa: D102 - as the base class
        name = (document.source or document.title or document.id).lower()
        headings = _rst_headings(document.text) if name.endswith(".rst") else _markdown_headings(document.text)
        return self._cut(document, _outline(headings, len(document.text)), _MarkdownCutter)


class CodeChunker(_Chunker):
    """Cuts source code by its definitions, found by keywords and indentation in any common language.

    `Chunk.heading` is the path of definitions, as in "class Foo > def bar". Comments and decorators stay with what they
    precede. Code is never parsed or compiled: a hostile file can neither crash nor slow it.
    """

    name = "code"

    def chunk(self, document: Document) -> list[Chunk]:  # noqa: D102 - as the base class
        return self._cut(document, _code_outline(document.text), _CodeCutter)


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


# ------------------------------------------------------------------------------------------------------------- outline

_Heading: TypeAlias = tuple[int, int, str]  # where it starts, its level (1 is outermost), its words
_MAX_DEPTH = 8


@dataclass(slots=True)
class _Section:
    """A span with a name; `children` lie in it, in order and without overlap."""

    start: int
    end: int
    label: str = ""
    children: list[_Section] = field(default_factory=list)


def _outline(headings: Iterable[_Heading], end: int) -> _Section:
    """Nest headings by level; a section ends where the next of its level or a lower one starts."""
    root = _Section(0, end)
    open_sections: list[tuple[int, _Section]] = [(0, root)]
    for start, level, label in headings:
        while open_sections[-1][0] >= level:
            open_sections.pop()[1].end = start
        section = _Section(start, end, label)
        open_sections[-1][1].children.append(section)
        open_sections.append((level, section))
    return root


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of each line, its newline included."""
    start = 0
    for newline in re.finditer(r"\r\n|\r|\n", text):
        yield start, newline.end()
        start = newline.end()
    if start < len(text):
        yield start, len(text)


_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)(.*)")
_SETEXT = re.compile(r" {0,3}(?:(=){3,}|-{3,})[ \t]*$")
_FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*(?:[-*+>|]|\d+[.)]\s|={3,}\s*$|<!--)|\s{4}")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"\{#[^}]*\}\s*$|[*`]|(?<!\w)_|_(?!\w)")
_RST_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")
_MAX_LABEL = 200  # characters


def _clean_label(label: str) -> str:
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", label[: 2 * _MAX_LABEL])).split())[:_MAX_LABEL]


def _closes(fence: str, line: str) -> bool:
    line = line.strip()
    return len(line) >= len(fence) and not line.strip(fence[0])


def _markdown_headings(text: str) -> Iterator[_Heading]:
    skip = front_matter_end(text)
    fence = ""
    title, title_start = "", 0  # the line before, when it could be the words of an underlined heading
    after_blank = True
    for start, end in _lines(text):
        line = text[start:end].rstrip("\r\n")
        previous, title = title, ""
        if start < skip:
            continue
        if fence:
            fence = "" if _closes(fence, line) else fence
        elif opened := _FENCE.match(line):
            fence = opened[1]
        elif heading := _ATX.match(line):
            yield start, len(heading[1]), _clean_label(heading[2].strip().rstrip("#"))
            after_blank = True
            continue
        elif previous and (underline := _SETEXT.match(line)):
            yield title_start, 1 if underline[1] else 2, _clean_label(previous)
            after_blank = True
            continue
        elif after_blank and line.strip() and not _NOT_A_TITLE.match(line):
            title, title_start = line, start
        after_blank = not line.strip()


def _rst_headings(text: str) -> Iterator[_Heading]:
    """Underlined (and overlined) headings; the order in which the styles appear gives their levels."""
    styles: list[tuple[str, bool]] = []
    lines = [(start, text[start:end].strip()) for start, end in _lines(text)]
    for i in range(1, len(lines)):
        title_start, title = lines[i - 1]
        underline = lines[i][1]
        if not title or len(underline) < len(title) or not _RST_UNDERLINE.match(underline):
            continue
        above = lines[i - 2][1] if i > 1 else ""
        has_overline = above == underline
        if (
            (above and not has_overline)
            or _RST_UNDERLINE.match(title)
            or text[title_start] in " \t" * (not has_overline)
        ):
            continue
        style = (underline[0], has_overline)
        if style not in styles:
            styles.append(style)
        yield lines[i - 2][0] if has_overline else title_start, styles.index(style) + 1, _clean_label(title)


# ---------------------------------------------------------------------------------------------------------------- code

_MODIFIERS = (
    r"(?:(?:abstract|async|data|declare|default|export|extern|final|inline|internal|local|open|override|partial|private"
    r"|protected|pub(?:\([^)]*\))?|public|sealed|static|unsafe|virtual|const(?=\s+fn))\s+)*"
)
_DEFINITION = re.compile(
    _MODIFIERS
    + r"(?:(?P<key>def|class|function|func|fn|fun|struct|enum|interface|trait|module|mod|namespace|type|record"
    r"|protocol|extension|sub|proc)\b\*?\s*(?:<[^>]*>\s*)?(?:(?<=func )\([^)]*\)\s*)?(?P<name>[^\W\d][\w$.:!?]*)"
    r"|(?P<impl>impl\b[^{]*)"
    r"|(?:const|let|var)\s+(?P<variable>[\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?(?:function\b|\([^=]*=>|[\w$]+\s*=>|\($))"
)
_SQL_DEFINITION = re.compile(
    r"create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+|unique\s+|materialized\s+)*"
    r"(table|view|function|procedure|trigger|index|type|schema)\s+(?:if\s+not\s+exists\s+)?([\w.\"`\[\]]+)",
    re.IGNORECASE,
)
_STATEMENTS = frozenset(
    "assert await case catch defer delete do elif else for foreach go goto guard if import in match new not package raise"
    " return select switch throw try typedef until unless using when while with yield".split()
)
_WORD = re.compile(r"[\w:<>,&*\[\]~.?@$]+")
_NAME = re.compile(r"[*&]*(~?[^\W\d][\w:~$]*)")
_COMMENT = re.compile(r"//|#|--|/\*|\*|;|%|<!--")
_CLOSER = re.compile(r"[)\]}{]|end\b|(?:else|elif|elsif|except|finally|catch|rescue|then|esac|fi|done)\b|\w+\s*:\s*$")
_TRIPLE_QUOTE = re.compile(r'"""|' + "'''")


def _definition(line: str, next_line: str) -> str:
    """Return what `line` defines, as "class Foo" or "name()"; "" when it defines nothing."""
    line = line[:300]
    if found := _DEFINITION.match(line):
        if found["impl"]:
            return _clean_label(found["impl"])
        return f"{found['key']} {found['name']}" if found["key"] else f"function {found['variable']}"
    if found := _SQL_DEFINITION.match(line):
        return f"{found[1].lower()} {found[2]}"
    head, parenthesis, _ = line.partition("(")
    if not parenthesis or not (line.endswith("{") or next_line.startswith("{")):
        return ""
    words = head.split()
    if not words or words[0] in _STATEMENTS or not all(map(_WORD.fullmatch, words)):
        return ""
    name = _NAME.fullmatch(words[-1])
    return f"{name[1]}()" if name and name[1] not in _STATEMENTS else ""


def _code_outline(text: str) -> _Section:
    """Nest definitions by indentation; decorators and comments right above belong to what follows them."""
    lines = [(start, end, text[start:end].strip()) for start, end in _lines(text)]
    root = _Section(0, len(text))
    stack: list[tuple[int, _Section]] = [(-1, root)]
    last = 0  # where the last line of code ends
    lead: int | None = None  # where the comments and decorators right above begin
    brackets = 0  # open in the decorator
    quote = ""  # the triple quote that is open
    for i, (start, end, line) in enumerate(lines):
        if quote or not line:
            quote = _quote_after(line, quote)
            last = end if line else last
            lead = None
            continue
        if brackets > 0 or line.startswith("@") or _COMMENT.match(line):
            if brackets > 0 or line.startswith("@"):
                brackets += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
            lead = start if lead is None else lead
            continue
        indent = len(text[start:end].expandtabs(4)) - len(text[start:end].expandtabs(4).lstrip())
        is_closer = _CLOSER.match(line) is not None
        while stack[-1][0] > indent or (stack[-1][0] == indent and not is_closer):
            stack.pop()[1].end = last
        label = _definition(line, lines[i + 1][2] if i + 1 < len(lines) else "")
        if label and len(stack) <= _MAX_DEPTH:
            section = _Section(start if lead is None else lead, end, label)
            stack[-1][1].children.append(section)
            stack.append((indent, section))
        quote = _quote_after(line, "")
        last, lead = end, None
    for _, section in stack[1:]:
        section.end = last
    return root


def _quote_after(line: str, quote: str) -> str:
    """Return the triple quote that is open after `line`, given the one that is open before it."""
    for found in _TRIPLE_QUOTE.findall(line):
        quote = "" if quote == found else quote or found
    return quote


# ------------------------------------------------------------------------------------------------------------- cutting

_Span: TypeAlias = tuple[int, int, str]  # start, end, heading
_Atom: TypeAlias = tuple[int, float]  # start, what a cut there costs

# The cost of a cut, in units of the squared relative deviation from even sizes: a sentence end is worth being 1/4 off.
_PARAGRAPH, _LIST_ITEM, _SENTENCE, _CLAUSE, _SPACE, _PUNCTUATION, _CHARACTER = 0.0, 0.03, 0.06, 0.4, 0.8, 1.5, 3.0
_LEAD_IN = 0.4  # more, after a heading or a colon
_CUTS = (
    (re.compile(r"[\r\n][^\S\r\n]*[\r\n]\s*"), _PARAGRAPH),
    (re.compile(r"[.!?…。！？][\"'”’»)\]]*\s+|[。！？]"), _SENTENCE),
    (re.compile(r"[,;:–—]\s+|[，、；：]|[\r\n]+"), _CLAUSE),
    (re.compile(r"\s+"), _SPACE),
    (re.compile(r"[^\w\s]+"), _PUNCTUATION),
)
_BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[^\S\r\n]*[\r\n]")
_DELIMITER_ROW = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?\s*$")


class _Cutter:
    """Cuts one document. `atoms` is what the kinds of text differ in."""

    def __init__(self, text: str, count_tokens: TokenCounter, max_tokens: int, title: str) -> None:
        self.text = text
        self._count_tokens = count_tokens
        self._overhead = count_tokens("")
        self._max_tokens = max_tokens
        self._max_chars = max_tokens * _MAX_CHARS_PER_TOKEN
        self._available = max_tokens  # for the text of the section at hand, beside its heading
        self._title = title
        self._headings: dict[tuple[str, ...], tuple[str, int]] = {}

    def atoms(self, start: int, end: int) -> list[_Atom]:
        """Return where cuts may fall in a span that does not fit, the first at `start`."""
        raise NotImplementedError

    def cut_section(self, section: _Section, start: int, path: tuple[str, ...]) -> Iterator[_Span]:
        """Yield the spans of `section`, taken from `start` (small text before it comes along)."""
        if section.label:
            path = (*path, section.label)
        span = trim_span(self.text, start, section.end)
        if span is None:
            return
        heading, _ = self._heading(path)
        if self._fits(*span, heading):
            yield (*span, heading)
        elif not section.children:
            yield from self._cut_leaf(*span, path)
        else:
            for group in self._groups(section, start):
                yield from self._cut_group(group, path)

    def _cut_group(self, group: list[tuple[int, _Section]], path: tuple[str, ...]) -> Iterator[_Span]:
        span = trim_span(self.text, group[0][0], group[-1][1].end)
        heading, _ = self._heading(path)
        if len(group) > 1 and span and self._fits(*span, heading):
            yield (*span, heading)
            return
        for start, section in group:
            yield from self.cut_section(section, start, path)

    def _groups(self, section: _Section, start: int) -> Iterator[list[tuple[int, _Section]]]:
        """Yield runs of neighbours that share a chunk: as long as one of two is less than half full and both fit."""
        group: list[tuple[int, _Section]] = []
        tokens = math.inf
        for item_start, item in self._items(section, start):
            size = self._size(item_start, item.end)
            if (
                group
                and tokens + size <= self._max_tokens - self._overhead
                and min(tokens, size) < self._max_tokens / 2
            ):
                group.append((item_start, item))
                tokens += size
                continue
            if group:
                yield group
            group, tokens = [(item_start, item)], size
        if group:
            yield group

    def _items(self, section: _Section, start: int) -> Iterator[tuple[int, _Section]]:
        """Yield children and the text between them; little text, as a bare heading, comes with the child beside it."""
        position = start
        for child in section.children:
            if self._size(position, child.start) > self._max_tokens // 8:
                yield position, _Section(position, child.start)
                position = child.start
            if child is section.children[-1] and self._size(child.end, section.end) <= self._max_tokens // 8:
                child.end = section.end  # a closing bracket
            yield position, child
            position = child.end
        if trim_span(self.text, position, section.end):
            yield position, _Section(position, section.end)

    def _heading(self, path: tuple[str, ...]) -> tuple[str, int]:
        """Return the heading of a chunk and the tokens left for its text: the outermost give way when they take much."""
        if path not in self._headings:
            labels = list(path[1:] if path and path[0].casefold() == self._title else path)
            while True:
                heading = " > ".join(filter(None, labels))
                used = self._count_tokens(_with_heading(heading, "")) - self._overhead
                if not heading or used <= (self._max_tokens - self._overhead) // _HEADING_SHARE:
                    break
                del labels[0]
            self._headings[path] = heading, self._max_tokens - self._overhead - used
        return self._headings[path]

    def _tokens(self, start: int, end: int, heading: str) -> float:
        """Return the tokens of a chunk, infinite when it has too many characters."""
        if end - start > self._max_chars:
            return math.inf
        return self._count_tokens(_with_heading(heading, self.text[start:end]))

    def _fits(self, start: int, end: int, heading: str) -> bool:
        return self._tokens(start, end, heading) <= self._max_tokens

    def _size(self, start: int, end: int) -> float:
        return max(self._tokens(start, end, "") - self._overhead, 0)

    def _cut_leaf(self, start: int, end: int, path: tuple[str, ...]) -> Iterator[_Span]:
        heading, available = self._heading(path)
        self._available = available
        starts, costs, sizes = self._sized_atoms(start, end)
        bounds = [*starts, end]
        limit = float(available)
        spans: list[tuple[int, int]] = []
        for _ in range(4):
            groups = _partition(sizes, bounds, costs, limit, self._max_chars)
            spans = [span for i, j in groups if (span := trim_span(self.text, bounds[i], bounds[j]))]
            excess = max(self._tokens(*span, heading) for span in spans) - self._max_tokens
            if excess <= 0:
                break
            if not math.isfinite(excess) or limit - excess < 1:
                break
            limit -= excess  # this tokenizer counts more in the whole than in the parts
        for span in spans:
            yield from self._settle(*span, heading)

    def _settle(self, start: int, end: int, heading: str) -> Iterator[_Span]:
        """Yield the span, in halves as long as it does not fit."""
        span = trim_span(self.text, start, end)
        if span is None:
            return
        if self._fits(*span, heading):
            yield (*span, heading)
            return
        start, end = span
        if end - start == 1:
            raise ConfigurationError(
                f"the character {self.text[start:end]!r} takes more than `max_tokens`={self._max_tokens} tokens with its"
                " heading; raise `max_tokens`"
            )
        middle, _ = self._best_cut(start, end)
        yield from self._settle(start, middle, heading)
        yield from self._settle(middle, end, heading)

    def _sized_atoms(self, start: int, end: int) -> tuple[list[int], list[float], list[float]]:
        """Return starts, costs and tokens of atoms that each fit."""
        starts, costs, sizes = [], [], []
        available = self._available
        atoms = _merge_tiny(self.atoms(start, end), end, max(available // 8, 1))
        for i, (atom_start, cost) in enumerate(atoms):
            atom_end = atoms[i + 1][0] if i + 1 < len(atoms) else end
            size = self._size(atom_start, atom_end)
            pieces: Iterable[tuple[int, float, float]] = [(atom_start, cost, size)]
            if size > available:
                pieces = self._split_atom(atom_start, atom_end, cost, available // 4)
            for piece_start, piece_cost, piece_size in pieces:
                starts.append(piece_start)
                costs.append(piece_cost)
                sizes.append(piece_size)
        return starts, costs, sizes

    def _split_atom(self, start: int, end: int, cost: float, limit: int) -> Iterator[tuple[int, float, float]]:
        size = self._size(start, end)
        if size <= limit or end - start == 1:
            yield start, cost, size
            return
        middle, middle_cost = self._best_cut(start, end)
        yield from self._split_atom(start, middle, cost, limit)
        yield from self._split_atom(middle, end, middle_cost, limit)

    def _best_cut(self, start: int, end: int) -> tuple[int, float]:
        """Return the best place near the middle and its cost; `start < place < end`."""
        middle = (start + end) // 2
        reach = min((end - start) // 4, self._max_chars // 2)
        for pattern, cost in _CUTS:
            places = [
                found.end()
                for found in pattern.finditer(self.text, middle - reach, middle + reach)
                if start < found.end() < end and not _is_inside_grapheme(self.text, found.end())
            ]
            if places:
                return min(places, key=lambda place: abs(place - middle)), cost
        for distance in range(min(reach, 64) + 1):
            for place in (middle - distance, middle + distance):
                if start < place < end and not _is_inside_grapheme(self.text, place):
                    return place, _CHARACTER
        return middle, _CHARACTER


class _ProseCutter(_Cutter):
    def atoms(self, start: int, end: int) -> list[_Atom]:
        atoms = [(start, _PARAGRAPH)]
        previous: tuple[int, int] | None = None
        for sentence_start, sentence_end in split_sentences(self.text[start:end]):
            if previous:
                gap = self.text[start + previous[1] : start + sentence_start]
                cost = _SENTENCE
                if _BLANK_LINE.search(gap):
                    cost = _PARAGRAPH
                elif "\n" in gap or "\r" in gap:
                    cost = _LIST_ITEM
                if self.text[start + previous[0]] == "#" or self.text[start + previous[1] - 1] in ":：":
                    cost += _LEAD_IN
                atoms.append((start + sentence_start, cost))
            previous = sentence_start, sentence_end
        return atoms


class _CodeCutter(_Cutter):
    def atoms(self, start: int, end: int) -> list[_Atom]:
        return _line_atoms(self.text, start, end)


class _MarkdownCutter(_ProseCutter):
    def atoms(self, start: int, end: int) -> list[_Atom]:
        atoms: list[_Atom] = []
        for block_start, block_end, is_block in self._blocks(start, end):
            span = trim_span(self.text, block_start, block_end)
            if span is None:
                continue
            if not is_block:
                found = super().atoms(block_start, block_end)
            elif self._size(*span) <= self._available:
                found = [(block_start, _PARAGRAPH)]
            else:
                found = _line_atoms(self.text, block_start, block_end)
            if atoms and self.text[max(block_start - 8, 0) : block_start].rstrip().endswith(":"):
                found[0] = (found[0][0], _LEAD_IN)
            atoms += found
        return [(start, _PARAGRAPH), *atoms[1:]]

    def _blocks(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Yield consecutive spans, with whether each is a fenced block or a table."""
        lines = [(start + a, start + b, self.text[start + a : start + b]) for a, b in _lines(self.text[start:end])]
        position = start
        i = 0
        while i < len(lines):
            j = _block_end(lines, i)
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


def _line_atoms(text: str, start: int, end: int) -> list[_Atom]:
    """Cut before lines, best after a blank one and at little indentation, least before a closing bracket."""
    atoms = []
    after_blank = True
    for line_start, line_end in _lines(text[start:end]):
        line = text[start + line_start : start + line_end].expandtabs(4)
        stripped = line.strip()
        if stripped:
            depth = min((len(line) - len(line.lstrip())) / 4, 5)
            cost = 0.06 * depth + (_PARAGRAPH if after_blank else 0.15) + _LEAD_IN * bool(_CLOSER.match(stripped))
            atoms.append((start + line_start, cost))
        after_blank = not stripped
    return [(start, _PARAGRAPH), *atoms[1:]]


def _block_end(lines: Sequence[tuple[int, int, str]], i: int) -> int:
    """Return the line after the fenced block or table that starts at line `i`, `i` itself when none does."""
    if fence := _FENCE.match(lines[i][2].rstrip("\r\n")):
        for j in range(i + 1, len(lines)):
            if _closes(fence[1], lines[j][2]):
                return j + 1
        return len(lines)
    is_table = lines[i][2].lstrip().startswith("|")
    if not is_table and "|" in lines[i][2] and i + 1 < len(lines):
        is_table = len(lines[i + 1][2]) < 1000 and _DELIMITER_ROW.match(lines[i + 1][2]) is not None
    j = i
    while is_table and j < len(lines) and "|" in lines[j][2]:
        j += 1
    return j


def _merge_tiny(atoms: list[_Atom], end: int, min_chars: int) -> list[_Atom]:
    """Join atoms of fewer than `min_chars` characters with the next ones: bounds the work on texts of tiny lines."""
    merged = [atoms[0]]
    for i in range(1, len(atoms)):
        atom_end = atoms[i + 1][0] if i + 1 < len(atoms) else end
        is_tiny = atoms[i][0] - merged[-1][0] < min_chars
        if not (is_tiny and atom_end - merged[-1][0] <= 4 * min_chars):
            merged.append(atoms[i])
    return merged


def _partition(
    sizes: Sequence[float], bounds: Sequence[int], costs: Sequence[float], limit: float, max_chars: int
) -> list[tuple[int, int]]:
    """Group consecutive atoms: the least sum of squared deviations from even sizes plus the costs of the cuts.

    The dynamic programme that breaks paragraphs into lines in TeX (Knuth and Plass, Software: Practice and Experience
    1981), with chunks for lines.

    Args:
        sizes: Tokens of each atom.
        bounds: Where each atom starts, and the end of the last.
        costs: Cost of a cut before each atom.
        limit: Most tokens of a group of more than one atom.
        max_chars: Most characters of a group of more than one atom.

    Returns:
        `(first, past_last)` of each group, in order.
    """
    total = sum(sizes)
    groups = max(math.ceil(total / limit), math.ceil((bounds[-1] - bounds[0]) / max_chars), 1)
    scale = groups / max(total, 1)  # of a size, relative to the even size
    best = [0.0] + [math.inf] * len(sizes)
    first = [0] * (len(sizes) + 1)
    for j in range(1, len(sizes) + 1):
        size = 0.0
        for i in range(j - 1, -1, -1):
            size += sizes[i]
            if i < j - 1 and (size > limit or bounds[j] - bounds[i] > max_chars):
                break
            cost = best[i] + (costs[i] if i else 0.0) + (size * scale - 1) ** 2
            if cost < best[j]:
                best[j], first[j] = cost, i
    found = []
    j = len(sizes)
    while j:
        found.append((first[j], j))
        j = first[j]
    return found[::-1]


def _is_inside_grapheme(text: str, position: int) -> bool:
    """Return whether a cut before `position` would part what is read as one character (the common cases)."""
    before, after = text[position - 1], text[position]
    return (
        (before == "\r" and after == "\n")
        or "\u200d" in (before, after)
        or unicodedata.category(after).startswith("M")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
        or ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff")  # flags
    )
