"""The places of the sources: each sentence, row or line with what stands above it, and where in its document it is."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from leanrag.grounding.above import Above, Speakers, is_list_item, is_question, is_term, text_below
from leanrag.grounding.cells import Cell, part_cells, part_labelled_cells, split_cells
from leanrag.grounding.clauses import segments_of, stem_of
from leanrag.grounding.directives import directive_of, spell_out_directive
from leanrag.grounding.lexicon import ANAPHORS, AUXILIARIES, CLASS_WORDS, DECIMAL_COMMA_WORDS, GERMAN_WORDS, NEGATIONS
from leanrag.grounding.measures import MONTHS
from leanrag.grounding.reading import Token, base_of, read_tokens
from leanrag.grounding.records import RecordLine, find_records
from leanrag.grounding.schedules import begins_with_schedule, spell_out_schedules
from leanrag.lines import count_column_gaps
from leanrag.spans import trim_span
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
        return _read(text, self.decimal_comma, self.german)


@functools.lru_cache(maxsize=8192)
def _read(text: str, decimal_comma: bool, german: bool) -> tuple[Token, ...]:
    text = part_labelled_cells(spell_out_directive(spell_out_schedules(text)))
    lead = _LEAD.match(text)
    return read_tokens(text[lead.end() if lead else 0 :], decimal_comma=decimal_comma, german=german)


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
        shape: What its line is made of, for rows, list items, directives (":" and the name) and schedules; "" for prose.
        record: Of the lines of its record, for lines such as "port: 8443"; empty for anything else.
        line: Which of them it is.
        cells: Of a row, under the names of their columns; empty for anything else.
        below: Content of what it stands over, of a heading or a term.
        near: Content of what stands right above it: the question or the innermost heading, lead-in, label and speaker.
        question: Content of the question that it answers.
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
    near: frozenset[str] = frozenset()
    question: frozenset[str] = frozenset()
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
    def segments(self) -> list[tuple[list[Token], frozenset[str], str]]:
        """The stretches of its words between pauses and conjunctions.

        With each its content, the words of its identifiers among it, and the sign before it (see `segments_of`).
        """
        return [(segment, _bases_of(segment), sign) for segment, sign in segments_of(self.tokens)]

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
        """Content of the lines of its record or of the names of its columns.

        They tell what the place speaks of, but an answer does not stand there.
        """
        return self.columns.union(*(line.name | line.bases for line in self.record))

    @functools.cached_property
    def part_bases(self) -> frozenset[str]:
        """The words that its identifiers are made of; they, too, only tell what it speaks of."""
        return frozenset(base_of(word) for words in _words_in(self.tokens) for word in words.split())

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """Content of the names of its columns."""
        return frozenset[str]().union(*(cell.name for cell in self.cells))

    @functools.cached_property
    def antecedent_bases(self) -> frozenset[str]:
        """What its pronouns may speak of."""
        return frozenset(token.base for token in self.antecedents if token.is_content)

    @functools.cached_property
    def reach(self) -> frozenset[str]:
        """Content of its words, its context, its antecedents, its record and the parts of its identifiers."""
        return self.bases | self.context_bases | self.antecedent_bases | self.record_bases | self.part_bases

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


def _words_in(tokens: Sequence[Token]) -> list[str]:
    """The words that the identifiers of a sentence are made of."""
    return [" ".join(_WORDS.findall(token.text.lower())) for token in tokens if token.kind == "identifier"]


def _bases_of(tokens: Sequence[Token]) -> frozenset[str]:
    words = {word for words in _words_in(tokens) for word in words.split()}
    return frozenset(token.base for token in tokens if token.is_content).union(words, map(base_of, words))


_WORDS = re.compile(r"[^\W\d_]{3,}")


_MONTH = f"(?i:{'|'.join(month for month in MONTHS if len(month) > 2)})"
_LEAD = re.compile(
    rf"\A\s*(?:>\s*)*(?:#{{1,6}}\s+|[-*+•‣◦]\s+(?:\[[ xX]\]\s+)?|\(?(?:\d{{1,3}}|[a-zA-Z])[.)]\s+(?!{_MONTH}\b)"
    r"|(?:Q|A|F|P|R)\s?[:.]\s+)?"
)
_RULE = re.compile(r"[\s|:=─━═-]+\Z")
_SEPARATORS = re.compile(r"\||\t|;|,|:|=")
_LINE_KEY = re.compile(r"\s*(?:[-*•]\s+)?([\w.-]{1,16})(?:\s{2,}|\t|[).:]\s|\s[-=]\s)(?=\S)")
_SOLUTION = re.compile(
    r"^\W*(?:(?:correct |right )?(?:answer|solution|key)|(?:richtige )?(?:antwort|lösung)|réponse|respuesta|risposta|答え?|正解)"
    r"[\s:：*_()]{1,6}([A-Ha-h])\b",
    re.IGNORECASE | re.MULTILINE,
)
_MOST_OPTIONS = 600  # characters of the options below a question
_MAX_NOTE = 4  # content words of a sentence that goes on with the one before it
_MAX_ANTECEDENTS = 3  # sentences back to the one that a pronoun speaks of


def find_places(items: Sequence[PackedItem]) -> list[Place]:
    """Return the places of all sources, in order; a pair of sentences follows its two."""
    return [place for item in items for place in _places_of(item)]


def _places_of(item: PackedItem) -> Iterator[Place]:
    style = style_of(item.text)
    above = Above()
    for passage in _passages(item):
        yield from _PassageReader(item, passage, style, above).places()


class _PassageReader:
    """Reads the places of a part of a source, in order."""

    def __init__(self, item: PackedItem, passage: Segment, style: Style, above: Above) -> None:
        chunk = (item.hit, *item.more)[passage.source if passage.source <= len(item.more) else 0].chunk
        self._item, self._passage, self._style, self._above = item, passage, style, above
        self._text = item.text[passage.start : passage.end]
        self._outer = [text for text in (chunk.title, chunk.heading, chunk.lead) if text]
        self._headings = _content(style, [chunk.heading])
        self._header = chunk.lead
        self._records = _RecordReader(style, self._text)
        self._speakers = Speakers(self._text)
        self._previous: list[Place] = []

    def places(self) -> Iterator[Place]:
        """Yield the places; a pair of sentences follows its two."""
        text, above = self._text, self._above
        end_of_last = 0
        for start, end, head in _sentences(text):
            sentence = text[start:end]
            if _RULE.match(sentence):
                continue
            begins_line = not end_of_last or "\n" in text[end_of_last:start]
            is_over = begins_line and above.begin_line(text, start, end)
            is_alone = head is None and is_term(text, start, end)
            above.begin(sentence, head)
            if is_alone:
                above.leave_term()
            if not is_question(sentence) and not self._is_wrong_option(sentence, end):
                place = self._place(
                    start, end, stands_over=head is not None or is_over or is_alone, goes_on=not begins_line
                )
                yield place
                if head is None and not is_alone and (pair := self._pair(place, goes_on=not begins_line)):
                    yield pair
                self._previous.append(place)
            above.read_label(sentence, is_first=begins_line, rest=text[end : end + 8])
            if head is not None:
                above.read_head(sentence, head)
            elif is_alone:
                above.read_term(sentence)
            if head is not None or is_alone or above.read(sentence):
                self._previous = []
            end_of_last = end

    def _place(self, start: int, end: int, *, stands_over: bool, goes_on: bool) -> Place:
        style, above = self._style, self._above
        sentence = self._text[start:end]
        header = (above.header or self._header).strip().partition("\n")[0]
        tokens = (*self._denial(sentence), *style.read(part_cells(sentence, header)))
        shape = _shape(sentence)
        if goes_on and not shape and self._previous and _is_item(self._previous[-1]):
            shape = self._previous[-1].shape
        record, line = self._records.at(start)
        key = _LINE_KEY.match(sentence)
        texts = above.texts(sentence)
        cells = _cells(style, sentence, header) if shape else ()
        far = above.headings if above.question else above.headings[:-1]
        return Place(
            item=self._item,
            segment=self._passage,
            start=self._passage.start + start,
            end=self._passage.start + end,
            tokens=tokens,
            context=tuple(token for words in (*self._outer, *texts) for token in style.read(words)),
            antecedents=tuple(
                token for before in _antecedents(tokens, self._previous) for token in _things_named(before.tokens)
            ),
            heading=self._headings | _content(style, [*above.headings, above.question]),
            shape=shape,
            record=record,
            line=line,
            cells=cells,
            below=_content(style, [text_below(self._text, start, end)]) if stands_over else frozenset(),
            near=_content(style, [words for words in texts if words not in far]) or self._headings,
            question=_content(style, [above.question]),
            key=key[1].casefold() if key else "",
            speaker=_content(style, [self._speakers.name_of(sentence) or above.speaker]),
        )

    def _is_wrong_option(self, sentence: str, end: int) -> bool:
        """Whether a sentence is an option below a question, and the text names the letter of another one as the answer."""
        key = _LINE_KEY.match(sentence) if self._above.question else None
        if key is None or len(key[1]) > 1 or not key[1].isalpha():
            return False
        solution = _SOLUTION.search(self._text, end, end + _MOST_OPTIONS)
        return solution is not None and solution[1].casefold() != key[1].casefold()

    def _denial(self, sentence: str) -> tuple[Token, ...]:
        """What stands over the item of a list, if it denies what the items say ("Do not take it: ...")."""
        if not (self._above.lead_in and is_list_item(sentence)):
            return ()
        lead_in = self._style.read(self._above.lead_in.rstrip().rstrip(":："))
        return lead_in if any(token.word in NEGATIONS for token in lead_in) else ()

    def _pair(self, place: Place, *, goes_on: bool) -> Place | None:
        """The place with the sentence before it, if it needs that to be understood."""
        if not self._previous or place.record:
            return None
        last = self._previous[-1]
        lacks_subject = _lacks_own_subject(place) if not last.shape else goes_on and _is_note(place)
        if place.shape.startswith(":") or not (place.antecedents or lacks_subject):
            return None
        tokens = (*last.tokens, _PAUSE, *place.tokens)
        shape = last.shape if _is_item(last) else ""
        return replace(
            place, start=last.start, tokens=tokens, antecedents=last.antecedents, cells=(), key="", shape=shape
        )


def _sentences(text: str) -> Iterator[tuple[int, int, Line | None]]:
    """Yield the spans of the sentences, and of the lines that stand over others with these lines."""
    end = 0
    for line in (line for lines in paragraphs(text, 0, len(text)) for line in lines):
        if _is_comment(text, line) or (line.kind == "heading" and _CODE_LINE.match(text, line.start)):
            continue
        if line.kind in ("heading", "question") or (line.kind == "lead" and line.level in _LEADS):
            yield from _sentences_between(text, end, line.start)
            yield line.start, line.end, line
            end = line.end
    yield from _sentences_between(text, end, len(text))


_CODE_LINE = re.compile(r"\d+(?: {2,}|\t)[^\W\dA-Z]")
"""A line of a list of codes ("3   if the file is not found"), which looks like a numbered heading."""


def _is_comment(text: str, line: Line) -> bool:
    """Whether a line that looks like a heading is one of the lines of a comment in a file of settings."""
    if line.kind != "heading" or not text.startswith("#", line.start):
        return False
    end_of_last = max(text.rfind("\n", 0, line.start), 0)
    neighbours = (text.rfind("\n", 0, end_of_last) + 1, text.find("\n", line.end) + 1)
    return any(start != line.start and text.startswith("#", start) for start in neighbours)


_OPTION = r"--?[A-Za-z][\w-]*(?:,? --?[A-Za-z][\w-]*)*(?:[ =\[][A-Z<\[]\S*)?(?: {2,}|\t|\n|\Z)"
_TERM_LINE = re.compile(rf"\n(?=[ \t]*(?:{_OPTION}|\S+(?: \S+)?(?: {{3,}}|\t+)\S|\*\*\S))")
"""The end of a line before one that begins with a term, with what is said of it behind a gap, or with an option alone."""


def _sentences_between(text: str, begin: int, stop: int) -> Iterator[tuple[int, int, None]]:
    """Yield the spans of the sentences of a part of a text; each line that begins with a term begins one."""
    for low, high in split_sentences(text[begin:stop]):
        start = begin + low
        for found in _TERM_LINE.finditer(text, start, begin + high):
            if span := trim_span(text, start, found.start()):
                yield *span, None
            start = found.end()
        if span := trim_span(text, start, begin + high):
            yield *span, None


_LEADS = (LINE_LEVELS["lead"], LINE_LEVELS["section"], LINE_LEVELS["stamp"])


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
        words = (*self._style.read(line.name.partition("(")[0]), *self._style.read(_WORD_JOINTS.sub(" ", line.name)))
        name = frozenset(token.base for token in words if token.kind != "pause")
        return Cell(name, self._style.read(self._text[line.start : line.end]))


_WORD_JOINTS = re.compile(r"[_.-]|\([^()]*\)")


_PAUSE = Token("pause", ".", ".")


def _cells(style: Style, row: str, header: str) -> tuple[Cell, ...]:
    return tuple(Cell(_content(style, [name]), style.read(text)) for name, text in split_cells(row, header))


def _content(style: Style, texts: Sequence[str]) -> frozenset[str]:
    found = [_content_of(text, style.decimal_comma, style.german) for text in texts if text]
    return found[0] if len(found) == 1 else frozenset[str]().union(*found)


@functools.lru_cache(maxsize=4096)
def _content_of(text: str, decimal_comma: bool, german: bool) -> frozenset[str]:
    return frozenset(token.base for token in _read(text, decimal_comma, german) if token.is_content)


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


def _is_note(place: Place) -> bool:
    """Whether a sentence is a few words without an auxiliary, as behind another one in the item of a list ("Thanks to Ada.")."""
    content = sum(token.is_content for token in place.tokens)
    return content <= _MAX_NOTE and all(token.word not in AUXILIARIES for token in place.tokens)


def _is_item(place: Place) -> bool:
    """Whether a place is a sentence of a list item."""
    return place.shape.startswith("row") and not place.text.startswith("|")


def _shape(sentence: str) -> str:
    """The separators of a row or a short line; "" for prose."""
    stripped = part_labelled_cells(sentence.strip())
    if name := directive_of(stripped):
        return f":{name}"
    if begins_with_schedule(stripped):
        return ":schedule"
    separators = "".join(_SEPARATORS.findall(stripped)) + "\t" * count_column_gaps(stripped)
    if stripped.startswith("|") or is_list_item(sentence):
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
