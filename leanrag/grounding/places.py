"""The places of the sources: each sentence, row or line with what stands above it, and where in its document it is."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from leanrag.grounding.cells import Cell, split_cells
from leanrag.grounding.clauses import stem_of
from leanrag.grounding.lexicon import ANAPHORS, CLASS_WORDS, DECIMAL_COMMA_WORDS, GERMAN_WORDS
from leanrag.grounding.reading import Token, read_tokens
from leanrag.grounding.records import RecordLine, find_records
from leanrag.lines import COLUMN_GAP
from leanrag.structure import LINE_LEVELS, Line, paragraphs
from leanrag.text import STOP_WORDS, split_sentences
from leanrag.types import Citation, PackedItem, Segment, locate

__all__ = ["Place", "Style", "find_places", "style_of"]


@dataclass(frozen=True, slots=True)
class Style:
    """How a text writes numbers and names."""

    decimal_comma: bool = False
    german: bool = False

    def read(self, text: str) -> tuple[Token, ...]:
        """Return the tokens of a sentence in this style."""
        lead = _LEAD.match(text)
        return read_tokens(text[lead.end() if lead else 0 :], decimal_comma=self.decimal_comma, german=self.german)


def style_of(*texts: str) -> Style:
    """Return the style of some texts, by their function words."""
    english, comma, german = map(sum, zip(*map(_function_words, texts), strict=True))
    return Style(comma > english, german > english)


@functools.lru_cache(maxsize=4096)
def _function_words(text: str) -> tuple[int, int, int]:
    """How many words are English, are of a language that writes a decimal comma, and are German."""
    words = _LETTERS.findall(text.casefold())
    return (
        sum(map(STOP_WORDS.__contains__, words)),
        sum(map(DECIMAL_COMMA_WORDS.__contains__, words)),
        sum(map(GERMAN_WORDS.__contains__, words)),
    )


_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Place:
    """A span of a source, one sentence or two that belong together, and what is needed to understand it.

    Attributes:
        item: The source.
        segment: The span of the source that it lies in.
        start: First character in `item.text`.
        end: One past the last.
        tokens: Of its words.
        context: Of headings, title, question, lead-in and table header above it.
        antecedents: What its pronouns may speak of, from the sentences before it.
        heading: Content of the headings above it alone.
        shape: What its line is made of, for rows and list items; "" for prose.
        record: Of the lines of its record, for lines such as "port: 8443"; empty for anything else.
        line: Which of them it is.
        cells: Of a row, under the names of their columns; empty for anything else.
        below: Content of what it stands over, of a heading or a term.
        key: What a line of a list begins with, such as the number of an error; "" for none.
        speaker: Content of the name that a turn of a talk begins with.
    """

    item: PackedItem
    segment: Segment
    start: int
    end: int
    tokens: tuple[Token, ...]
    context: tuple[Token, ...]
    antecedents: tuple[Token, ...]
    heading: frozenset[str]
    shape: str
    record: tuple[Cell, ...] = ()
    line: int = 0
    cells: tuple[Cell, ...] = ()
    below: frozenset[str] = frozenset()
    key: str = ""
    speaker: frozenset[str] = frozenset()

    @functools.cached_property
    def bases(self) -> frozenset[str]:
        """Content of its words."""
        return frozenset(token.base for token in self.tokens if token.is_content)

    @functools.cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all its words."""
        return frozenset(stem_of(token.word) for token in self.tokens if token.kind == "word")

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        """Its words, and of its values what kind they are."""
        found: set[str] = set()
        for token in self.tokens:
            if token.kind == "script":
                found.update(token.text[i : i + 2] for i in range(len(token.text) - 1))
            elif token.is_content:
                dimension = token.quantity.dimension if token.quantity else ""
                found.add(token.base if token.kind == "word" else f"{token.kind} {dimension}")
        return frozenset(found)

    @functools.cached_property
    def frame(self) -> frozenset[str]:
        """As `kinds`, with one kind for all names."""
        return self.kinds - {token.base for token in self.tokens if token.is_name} | {"name"}

    @functools.cached_property
    def context_bases(self) -> frozenset[str]:
        """Content of its context."""
        return frozenset(token.base for token in self.context if token.is_content)

    @functools.cached_property
    def record_bases(self) -> frozenset[str]:
        """Content of the lines of its record."""
        return frozenset[str]().union(*(line.name | line.bases for line in self.record))

    @functools.cached_property
    def antecedent_bases(self) -> frozenset[str]:
        """What its pronouns may speak of."""
        return frozenset(token.base for token in self.antecedents if token.is_content)

    @functools.cached_property
    def reach(self) -> frozenset[str]:
        """Content of its words, its context, its antecedents and its record."""
        return self.bases | self.context_bases | self.antecedent_bases | self.record_bases

    @functools.cached_property
    def speaks_of_heading(self) -> bool:
        """Whether it begins with a pronoun that only its heading explains."""
        return bool(self.heading) and not self.antecedents and _speaks_of_before(self.tokens)

    @property
    def text(self) -> str:
        """Its words."""
        return self.item.text[self.start : self.end]

    def cite(self, support: float) -> Citation:
        """Return the place as a citation."""
        chunk = self.item.hit.chunk
        start = self.segment.source_start + self.start - self.segment.start
        end = start + self.end - self.start
        return Citation(
            number=self.item.number,
            document_id=chunk.document_id,
            title=chunk.title,
            source=chunk.source,
            start=start,
            end=end,
            quote=self.text,
            support=support,
            location=locate(chunk.marks, start, end),
        )


_LEAD = re.compile(
    r"\A\s*(?:>\s*)*(?:#{1,6}\s+|[-*+•‣◦]\s+(?:\[[ xX]\]\s+)?|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s+|(?:Q|A|F|P|R)\s?[:.]\s+)?"
)
_QUESTION = re.compile(r"\s*(?:Q|F|P|Question|Frage)\s?[:.]\s")
_RULE = re.compile(r"[\s|:=-]+\Z")
_SEPARATORS = re.compile(r"\||\t|;|,|:|=")
_ROW = re.compile(r"\s*\||[^;\n]*(?:;[^;\n]*){2,}\Z|[^\t\n]*(?:\t[^\t\n]*)+\Z|[^,\n]+(?:,[^,\s][^,\n]*){2,}\Z")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s")
_TERM = re.compile(r"\S(?:[^.!?:;|\n]{0,58}[^\s.!?:;|,])?\Z")
_TERM_LEVEL = 60  # below headings that are marked as such
_SPACE = re.compile(r"\s*")
_LABEL = re.compile(r"\s*(?:[-*+•]\s+)?(\S[^.!?:;|\n]{0,38}):\s+\S")
_DEFINED = re.compile(r"[^\s.!?:;|][^.!?:;|\n]{0,38}\.\Z")
_TURN = re.compile(r"\s*(?:\[?\(?\d[\d/.:, -]{3,24}[apAP.mM]{0,4}\)?\]?[ -]*)?<?\s?[@+]?(\w[\w .'()-]{0,38})[:>]\s")
_MAX_ANTECEDENTS = 3  # sentences back to the one that a pronoun speaks of
_LINE_KEY = re.compile(r"\s*(?:[-*•]\s+)?([\w.-]{1,16})(?:\s{2,}|\t|[).:]\s|\s[-=]\s)(?=\S)")
_MOST_BELOW = 400  # characters of what a line stands over
_LONGEST_HEAD = 120  # characters of a line that stands over lines set deeper
_MAX_REPLIES = 3  # turns of a talk that may answer a question


class _Above:
    """What stands above the sentence that is being read."""

    def __init__(self) -> None:
        self.headings: list[tuple[int, str]] = []
        self.question = self.lead_in = self.table = self.header = self.label = self.first_cell = ""
        self.turns = 0  # that may still answer the question, if that is a turn of a talk
        self.over: list[tuple[int, str]] = []  # lines that stand over lines set deeper, with their indentation

    def read_line(self, text: str, start: int, end: int) -> bool:
        """Take note of the first sentence of a line, if it stands over lines that are set deeper; return whether it does."""
        indent = _indent_of(text, start)
        while self.over and self.over[-1][0] >= indent:
            self.over.pop()
        below = _skip_space(text, end)
        is_over = "\n" in text[end:below] and below < len(text) and _indent_of(text, below) > indent + 1
        is_over = is_over and end - start <= _LONGEST_HEAD and not _LIST_ITEM.match(text[start:end])
        if is_over:
            self.over.append((indent, text[start:end]))
        return is_over

    def leave(self, line: Line) -> None:
        """Forget what does not stand over a line that stands over others."""
        if line.kind != "question" and line.level != LINE_LEVELS["lead"]:
            self.headings = [(level, words) for level, words in self.headings if level < line.level]
            self.question = self.table = ""
        self.lead_in = ""

    def read_head(self, text: str, line: Line) -> None:
        """Take note of a line that stands over the lines below it."""
        if _is_question(text):
            self._ask(text)
        elif line.level == LINE_LEVELS["lead"]:
            self.lead_in = text
        else:
            self._enter(line.level, text)

    def _enter(self, level: int, text: str) -> None:
        self.headings = [(above, words) for above, words in self.headings if above < level] + [(level, text)]
        self.question = self.lead_in = self.table = ""

    def _ask(self, text: str) -> None:
        turn = _TURN.match(text) if _is_turn(text) else None
        self.question, self.lead_in = text[turn.end() :] if turn else text, ""
        self.turns = _MAX_REPLIES if turn else 0

    def read_term(self, text: str) -> None:
        """Take note of a short line that stands alone; the paragraph below tells about it."""
        self._enter(_TERM_LEVEL, text)

    def read(self, text: str) -> bool:
        """Take note of a sentence that later ones stand under; return whether something new begins with it."""
        if _is_question(text):
            self._ask(text)
            return True
        if self.turns and _is_turn(text):
            self.turns -= 1
            self.question = self.question if self.turns else ""
        if text.rstrip().endswith((":", "：")):
            self.lead_in = text
        elif text.lstrip().startswith("|"):
            self.table = self.table or text
        elif not _LIST_ITEM.match(text):
            self.table = ""
        self.header = (self.header or text) if _ROW.match(text) or COLUMN_GAP.search(text) else ""
        self.first_cell = _first_cell(text) or self.first_cell if self.table else ""
        return False

    def cell_above(self, text: str) -> str:
        """Return the first cell of a row above, for a row whose first cell is empty."""
        return self.first_cell if text.startswith("|") and not _first_cell(text) else ""

    @property
    def texts(self) -> list[str]:
        """Everything that is above."""
        marked = [words for _, words in (*self.headings, *self.over) if words not in self.lead_in]
        texts = [*marked, self.question, self.lead_in, self.table, self.label]
        return [text for text in texts if text]


def _is_term(text: str, start: int, end: int) -> bool:
    """Whether a line is short, begins a paragraph and is not a sentence: a term, with what is said of it below.

    What is said stands in the next paragraph, or in lines that are indented deeper.
    """
    if not _TERM.match(text[start:end]) or len(text[start:end].split()) > 6:
        return False
    before = start
    while before and text[before - 1] in " \t":
        before -= 1
    if before and not text.endswith("\n\n", 0, before):
        return False
    below = _skip_space(text, end)
    if below == len(text) or "\n" not in text[end:below]:
        return False
    indent = start - (text.rfind("\n", 0, start) + 1)
    return text.count("\n", end, below) > 1 or below - (text.rfind("\n", end, below) + 1) > indent


def _below(text: str, position: int) -> str:
    """The paragraph below a position, or the rest of the one that it lies in."""
    start = _skip_space(text, position)
    end = text.find("\n\n", start)
    return text[start : min(end if end >= 0 else len(text), start + _MOST_BELOW)]


def _indent_of(text: str, position: int) -> int:
    """The columns between the beginning of a line and a position in it."""
    return len(text[max(text.rfind("\n", 0, position), text.rfind("\r", 0, position)) + 1 : position].expandtabs(4))


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _is_question(text: str) -> bool:
    return text.rstrip("*_\"'”» \t\r\n").endswith(("?", "？", "؟")) or _QUESTION.match(text) is not None


def _first_cell(row: str) -> str:
    """The first cell of a row of a Markdown table; "" for an empty cell."""
    return row.strip().strip("|").split("|")[0].strip() if row.lstrip().startswith("|") and not row.startswith("||") else ""


def _is_turn(text: str) -> bool:
    """Whether a line is a turn of a talk, with the name of the speaker."""
    return _TURN.match(text) is not None and _QUESTION.match(text) is None


def find_places(items: Sequence[PackedItem]) -> list[Place]:
    """Return the places of all sources, in order; a pair of sentences follows its two."""
    return [place for item in items for place in _places_of(item)]


def _places_of(item: PackedItem) -> Iterator[Place]:
    style = style_of(item.text)
    above = _Above()
    for passage in _passages(item):
        chunk = (item.hit, *item.more)[passage.source if passage.source <= len(item.more) else 0].chunk
        outer = [text for text in (chunk.title, chunk.heading, chunk.lead) if text]
        headings = frozenset(_content(style, [chunk.heading]))
        previous: list[Place] = []
        text = item.text[passage.start : passage.end]
        records = _RecordReader(style, text)
        speakers = _Speakers(text)
        end_of_last = 0
        for low, high, head in _sentences(text):
            sentence = text[low:high]
            shape = _shape(sentence)
            is_new_line = "\n" in text[end_of_last:low] or not end_of_last
            is_head = head is not None
            if is_new_line:
                above.label = ""
                is_head |= above.read_line(text, low, high)
            label = _LABEL.match(sentence)
            if label:
                above.label = ""
            is_term = head is None and _is_term(text, low, high)
            is_head |= is_term
            if head is not None:
                above.leave(head)
            end_of_last = high
            if not _RULE.match(sentence) and not _is_question(sentence):
                texts = [text for text in (*outer, *above.texts, above.cell_above(sentence)) if text]
                if sentence in texts:
                    texts.remove(sentence)
                heading = headings | _content(style, [words for _, words in above.headings] + [above.question])
                context = tuple(token for words in texts for token in style.read(words))
                tokens = style.read(sentence)
                antecedents = _antecedents(tokens, previous)
                record, line = records.at(low)
                place = Place(
                    item=item,
                    segment=passage,
                    start=passage.start + low,
                    end=passage.start + high,
                    tokens=tokens,
                    context=context,
                    antecedents=tuple(token for before in antecedents for token in _things_named(before.tokens)),
                    heading=heading,
                    shape=shape,
                    record=record,
                    line=line,
                    cells=_cells(style, sentence, above.header or chunk.lead) if shape else (),
                    below=_content(style, [_below(text, high)]) if is_head else frozenset(),
                    key=key[1].casefold() if (key := _LINE_KEY.match(sentence)) else "",
                    speaker=_content(style, [turn[1]]) if (turn := speakers.match(sentence)) else frozenset(),
                )
                yield place
                if previous and not is_term and not record and (antecedents or (not previous[-1].shape and _lacks_own_subject(place))):
                    last = previous[-1]
                    yield replace(
                        place,
                        start=last.start,
                        tokens=(*last.tokens, _PAUSE, *tokens),
                        antecedents=last.antecedents,
                        shape="",
                        record=(),
                        cells=(),
                    )
                previous.append(place)
            if label:
                above.label = label[1]
            elif is_new_line and _DEFINED.match(sentence) and len(sentence.split()) <= 3 and text[high:].lstrip(" \t")[:1].isalnum():
                above.label = sentence
            if head is not None:
                above.read_head(sentence, head)
                previous = []
            elif is_term:
                above.read_term(sentence)
                previous = []
            elif above.read(sentence):
                previous = []


def _sentences(text: str) -> Iterator[tuple[int, int, Line | None]]:
    """Yield the spans of the sentences, and of the lines that stand over others with these lines."""
    end = 0
    for line in (line for lines in paragraphs(text, 0, len(text)) for line in lines):
        is_head = line.kind in ("heading", "question") or (line.kind == "lead" and line.level in _LEADS)
        if is_head:
            yield from ((end + low, end + high, None) for low, high in split_sentences(text[end : line.start]))
            yield line.start, line.end, line
            end = line.end
    yield from ((end + low, end + high, None) for low, high in split_sentences(text[end:]))


_LEADS = (LINE_LEVELS["lead"], LINE_LEVELS["section"])


class _Speakers:
    """The names that turns of a talk begin with: those of which a text has several, and those behind a time."""

    def __init__(self, text: str) -> None:
        names = Counter(found[1] for found in map(_TURN.match, text.splitlines()) if found)
        self._names = {name for name, count in names.items() if count > 1} if len(names) > 1 else set[str]()

    def match(self, line: str) -> re.Match[str] | None:
        """Return the match of a turn, whose first group is the speaker; None for anything else."""
        found = _TURN.match(line)
        return found if found and (found[1] in self._names or line[found.start() : found.start(1)].strip(" <[(")) else None


class _RecordReader:
    """The records of a text; the lines are read when they are needed."""

    def __init__(self, style: Style, text: str) -> None:
        self._style, self._text = style, text
        self._records = find_records(text)
        self._cells: dict[int, tuple[Cell, ...]] = {}
        self._i = 0

    def at(self, position: int) -> tuple[tuple[Cell, ...], int]:
        """Return the lines of the record at a position, and which of them is there; positions do not decrease."""
        while self._i < len(self._records) and self._records[self._i].end <= position:
            self._i += 1
        if self._i == len(self._records) or position < self._records[self._i].start:
            return (), 0
        record = self._records[self._i]
        if self._i not in self._cells:
            self._cells[self._i] = tuple(map(self._read, record.lines))
        line = next(i for i, line in enumerate(record.lines) if position < line.end)
        return self._cells[self._i], line

    def _read(self, line: RecordLine) -> Cell:
        words = (*self._style.read(line.name), *self._style.read(_WORD_JOINTS.sub(" ", line.name)))
        name = frozenset(token.base for token in words if token.kind != "pause")
        return Cell(name, self._style.read(self._text[line.start : line.end]))


_WORD_JOINTS = re.compile(r"[_.-]")


_PAUSE = Token("pause", ".", ".")


def _cells(style: Style, row: str, header: str) -> tuple[Cell, ...]:
    return tuple(
        Cell(_content(style, [name]), style.read(text))
        for name, text in split_cells(row, header.strip().partition("\n")[0])
    )


def _content(style: Style, texts: Sequence[str]) -> frozenset[str]:
    return frozenset(token.base for text in texts for token in style.read(text) if token.is_content)


def _antecedents(tokens: Sequence[Token], previous: Sequence[Place]) -> list[Place]:
    """The sentences before, back to the one that a pronoun may speak of; none without a pronoun near the beginning."""
    found: list[Place] = []
    for place in reversed(previous[-_MAX_ANTECEDENTS:]):
        if not _speaks_of_before(tokens):
            break
        found.insert(0, place)
        tokens = place.tokens
    return found


def _things_named(tokens: Sequence[Token]) -> Iterator[Token]:
    """What a later sentence may call "it" or "she": the names, and the words that the sentence begins with."""
    is_first = True
    for token in tokens:
        if (token.is_name and token.word not in CLASS_WORDS) or (
            token.is_content and token.kind == "word" and is_first
        ):
            yield token
        is_first = is_first and not token.is_content


def _speaks_of_before(tokens: Sequence[Token]) -> bool:
    first = itertools.takewhile(lambda token: not (token.is_content and token.kind in {"word", "identifier"}), tokens)
    return any(token.word in ANAPHORS for token in first)


def _lacks_own_subject(place: Place) -> bool:
    """Whether a clause begins with a verb, as where a packer left out its beginning."""
    return bool(place.tokens) and place.tokens[0].kind == "word" and place.tokens[0].text[:1].islower()


def _shape(sentence: str) -> str:
    """The separators of a row or a short line; "" for prose."""
    stripped = sentence.strip()
    separators = "".join(_SEPARATORS.findall(stripped)) + "\t" * len(COLUMN_GAP.findall(stripped))
    if stripped.startswith("|") or _LIST_ITEM.match(sentence):
        return "row" + separators.replace(",", "")
    if (stripped.endswith((".", "!", "?", "。")) and "\t" not in separators) or len(stripped) > 120:
        return ""
    return separators


def _passages(item: PackedItem) -> Iterator[Segment]:
    """The segments of a source; those with only white space between them in the document, too, as one."""
    passage: Segment | None = None
    for segment in item.segments:
        if passage is not None and _follows(item, passage, segment):
            passage = replace(passage, end=segment.end, source_end=segment.source_end)
        else:
            if passage is not None:
                yield passage
            passage = segment
    if passage is not None:
        yield passage


def _follows(item: PackedItem, passage: Segment, segment: Segment) -> bool:
    """Whether what the source shows between the two is what stands between them in a chunk."""
    for chunk in (hit.chunk for hit in (item.hit, *item.more)):
        if chunk.start <= passage.source_start and segment.source_end <= chunk.end:
            between = chunk.text[passage.source_end - chunk.start : segment.source_start - chunk.start]
            return between == item.text[passage.end : segment.start]
    return False
