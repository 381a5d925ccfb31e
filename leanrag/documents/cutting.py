"""A document to spans that fit: sections that fit stay whole, others are cut into atoms that are grouped anew."""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from leanrag.documents.embedding_text import compose
from leanrag.documents.heads import MAX_LEAD, Head, find_heads, heads_over
from leanrag.documents.outlines import Section
from leanrag.documents.partition import partition
from leanrag.errors import ConfigurationError
from leanrag.protocols import TokenCounter
from leanrag.spans import trim_span

__all__ = ["CLOSING", "LIST_ITEM", "PARAGRAPH", "SENTENCE", "Atom", "Block", "Cutter", "Piece"]

Atom: TypeAlias = tuple[int, float]
"""Where it starts, and what a cut there costs."""
Names: TypeAlias = tuple[tuple[int, int], ...]
"""The spans of the lines that name the sections around a text, outermost first."""

# A WordPiece tokenizer counts a word of more than 100 characters as one unknown token, and white space as none; without
# this bound such a chunk would look small to the embedder and flood the model that answers.
_MAX_CHARS_PER_TOKEN = 8
_HEADING_SHARE = 4  # headings take at most 1/4 of a chunk
_LEAD_SHARE = 2  # the names of columns take at most 1/2
_HEAD_SHARE = 4  # a head that is shown above a chunk at most 1/4

# The cost of a cut, in units of the squared relative deviation from even sizes: a sentence end is worth being 1/4 off.
PARAGRAPH, LIST_ITEM, SENTENCE, _CLAUSE, _SPACE, _PUNCTUATION, _CHARACTER = 0.0, 0.03, 0.06, 0.4, 0.8, 1.5, 3.0
CLOSING = 0.4  # more, before a closing bracket
_AFTER_HEAD = 2.0  # more, between a head and what it stands over
_IN_SCOPE = 0.15  # more, for each head whose scope is as long as a chunk; in shorter scopes up to four times as much
_CHARS_PER_TOKEN = 4  # of most scripts
_MOST_MARKS = 80  # characters between a head and what it stands over: white space, an underline
_LETTER = re.compile(r"\S")
_CUTS = (
    (re.compile(r"[\r\n][^\S\r\n]*[\r\n]\s*"), PARAGRAPH),
    (re.compile(r"[.!?…。！？][\"'”’»)\]]*\s+|[。！？]"), SENTENCE),
    (re.compile(r"[,;:–—]\s+|[，、；：]|[\r\n]+"), _CLAUSE),
    (re.compile(r"\s+"), _SPACE),
    (re.compile(r"[^\w\s]+"), _PUNCTUATION),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a section that is cut by itself; `lead` is the span of the names of columns, if it has any."""

    start: int
    end: int
    lead: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of the text that is a chunk, with its headings and its lead."""

    start: int
    end: int
    heading: str = ""
    lead: tuple[int, int] | None = None


class Cutter:
    """Cuts one document. Kinds of text differ in `sections`, `name_of`, `blocks`, `prose` and `atoms`.

    Args:
        text: The text of the document.
        count_tokens: The embedder's tokenizer, special tokens included.
        max_tokens: Most tokens of a piece with its headings and its lead.
        title: The document's title, case folded: a first heading that says the same is left out.
    """

    has_heads = False
    """Whether lines may stand over others, as in prose."""

    def __init__(self, text: str, count_tokens: TokenCounter, max_tokens: int, title: str) -> None:
        self.text = text
        self.available = max_tokens  # tokens for the text of the block at hand, beside its headings and its lead
        self._count_tokens = count_tokens
        self._overhead = count_tokens("")
        self._max_tokens = max_tokens
        self._max_chars = max_tokens * _MAX_CHARS_PER_TOKEN
        self._title = title
        self._headings: dict[tuple[str, ...], tuple[str, int]] = {}

    def sections(self, section: Section) -> Sequence[Section]:
        """Return the sections in a section that does not fit."""
        return section.children

    def name_of(self, section: Section) -> tuple[int, int] | None:  # noqa: ARG002 - for subclasses
        """Return the span of the line that names a section, for chunks that begin inside it; None for no such line."""
        return None

    def blocks(self, start: int, end: int) -> Iterable[Block]:
        """Return the parts of a span that does not fit, in order, without gaps."""
        return [Block(start, end)]

    def prose(self, start: int, end: int) -> Iterable[tuple[int, int]]:
        """Return the parts of a span that are neither fenced code nor tables, in order."""
        return [(start, end)]

    def atoms(self, start: int, end: int) -> list[Atom]:
        """Return where cuts may fall in a block that does not fit, the first at `start`."""
        raise NotImplementedError

    def fits(self, piece: Piece) -> bool:
        """Return whether a piece is small enough."""
        return self._tokens(piece) <= self._max_tokens

    def size(self, start: int, end: int) -> float:
        """Return the tokens of a span alone, infinite when it has too many characters."""
        return max(self._tokens(Piece(start, end)) - self._overhead, 0)

    def cut(self, section: Section, start: int, path: tuple[str, ...] = (), names: Names = ()) -> Iterator[Piece]:
        """Yield the pieces of `section`, taken from `start` (small text before it comes along).

        Args:
            section: A section of the outline.
            start: First character of the pieces.
            path: The labels of the sections that it lies in.
            names: The lines that name it and the sections that it lies in, outermost first.
        """
        if section.label:
            path = (*path, section.label)
        span = trim_span(self.text, start, section.end)
        if span is None:
            return
        whole = Piece(*span, self._heading(path)[0])
        if self.fits(whole):
            yield self._named(whole, names)
        elif not (sections := self.sections(section)):
            yield from self._cut_leaf(*span, path, names)
        else:
            is_only = len(sections) == 1  # its name says nothing that tells chunks apart
            for group in self._groups(section, sections, start):
                yield from self._cut_group(group, path, names, is_only=is_only)

    def _cut_group(
        self, group: list[tuple[int, Section]], path: tuple[str, ...], names: Names, *, is_only: bool
    ) -> Iterator[Piece]:
        span = trim_span(self.text, group[0][0], group[-1][1].end)
        if len(group) > 1 and span:
            piece = Piece(*span, self._heading(path)[0])
            if self.fits(piece):
                yield self._named(piece, names)
                return
        for start, section in group:
            name = None if is_only else self.name_of(section)
            yield from self.cut(section, start, path, (*names, name) if name else names)

    def _named(self, piece: Piece, names: Names) -> Piece:
        """Return the piece with the lines that name its sections as its lead, if they fit."""
        named = replace(piece, lead=self._lead_of(names, piece.start))
        return named if self.fits(named) else piece

    def _lead_of(self, names: Names, position: int) -> tuple[int, int] | None:
        """Return the nearest name above a position, with the outer names that stand close to it."""
        above = [name for name in names if name[1] <= position]
        if not above:
            return None
        end = above[-1][1]
        start = next((start for start, _ in above if end - start <= MAX_LEAD), end)
        is_small = start < end and self.size(start, end) <= (self._max_tokens - self._overhead) // _HEAD_SHARE
        return (start, end) if is_small else None

    def _groups(self, section: Section, sections: Sequence[Section], start: int) -> Iterator[list[tuple[int, Section]]]:
        """Yield runs of neighbours that share a chunk: as long as one of two is less than half full and both fit."""
        group: list[tuple[int, Section]] = []
        tokens = math.inf
        for item_start, item in self._items(section, sections, start):
            size = self.size(item_start, item.end)
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

    def _items(self, section: Section, sections: Sequence[Section], start: int) -> Iterator[tuple[int, Section]]:
        """Yield sections and the text between them; little text, as a bare heading, comes with the section beside it."""
        position = start
        for child in sections:
            if self.size(position, child.start) > self._max_tokens // 8:
                yield position, Section(position, child.start)
                position = child.start
            if child is sections[-1] and self.size(child.end, section.end) <= self._max_tokens // 8:
                child.end = section.end  # a closing bracket
            yield position, child
            position = child.end
        if trim_span(self.text, position, section.end):
            yield position, Section(position, section.end)

    def _heading(self, path: tuple[str, ...]) -> tuple[str, int]:
        """Return the heading of a piece and the tokens beside it: the outermost headings give way when they take much."""
        if path not in self._headings:
            labels = list(path[1:] if path and path[0].casefold() == self._title else path)
            while True:
                heading = " > ".join(filter(None, labels))
                used = self._count_tokens(f"{heading}\n" if heading else "") - self._overhead
                if not heading or used <= (self._max_tokens - self._overhead) // _HEADING_SHARE:
                    break
                del labels[0]
            self._headings[path] = heading, self._max_tokens - self._overhead - used
        return self._headings[path]

    def _tokens(self, piece: Piece) -> float:
        if piece.end - piece.start > self._max_chars:
            return math.inf
        lead = self.text[slice(*piece.lead)] if piece.lead else ""
        return self._count_tokens(compose(piece.heading, lead, self.text[piece.start : piece.end]))

    def _cut_leaf(self, start: int, end: int, path: tuple[str, ...], names: Names) -> Iterator[Piece]:
        heading, available = self._heading(path)
        heads = find_heads(self.text, self.prose(start, end)) if self.has_heads else []
        for block in self.blocks(start, end):
            lead = block.lead
            used = self.size(lead[0], lead[1]) if lead else 0
            if used > self._max_tokens // _LEAD_SHARE or used + 1 >= available:
                lead, used = None, 0  # names of columns that leave no room for the rows
            self.available = available - int(used)
            yield from self._cut_block(replace(block, lead=lead), heading, heads, names)

    def _cut_block(self, block: Block, heading: str, heads: Sequence[Head], names: Names) -> Iterator[Piece]:
        lead, end = block.lead, block.end
        if trim_span(self.text, block.start, end) is None:
            return
        starts, costs, sizes = self._sized_atoms(block.start, end, heads)
        leads = [None] * len(starts) if lead else self._leads(starts, heads)
        if names and not lead:
            leads = [found or self._lead_of(names, at) for found, at in zip(leads, starts, strict=True)]
        tokens = {each: self.size(*each) for each in set(leads) if each}
        openings = [tokens[each] if each else 0.0 for each in leads]
        bounds = [*starts, end]
        limit = float(self.available)
        pieces: list[Piece] = []
        for _ in range(4):
            groups = partition(sizes, bounds, costs, limit, self._max_chars, openings)
            pieces = []
            for i, j in groups:
                if span := trim_span(self.text, bounds[i], bounds[j]):
                    piece = Piece(*span, heading, lead if lead and span[0] > lead[0] else None)
                    under = replace(piece, lead=leads[i])
                    pieces.append(under if leads[i] and self.fits(under) else piece)
            excess = max(map(self._tokens, pieces)) - self._max_tokens
            if excess <= 0:
                break
            if not math.isfinite(excess) or limit - excess < 1:
                break
            limit -= excess  # this tokenizer counts more in the whole than in the parts
        for piece in pieces:
            yield from self._settle(piece, starts)

    def _settle(self, piece: Piece, bounds: Sequence[int]) -> Iterator[Piece]:
        """Yield the piece, in halves as long as it does not fit: cut between atoms if it has several."""
        span = trim_span(self.text, piece.start, piece.end)
        if span is None:
            return
        piece = replace(piece, start=span[0], end=span[1])
        if self.fits(piece):
            yield piece
            return
        start, end = span
        if end - start == 1:
            if piece.lead:
                yield from self._settle(replace(piece, lead=None), bounds)
                return
            raise ConfigurationError(
                f"the character {self.text[start:end]!r} takes more than `max_tokens`={self._max_tokens} tokens with its"
                " heading; raise `max_tokens`"
            )
        inner = bounds[bisect_right(bounds, start) : bisect_left(bounds, end)]
        middle = min(inner, key=lambda bound: abs(2 * bound - start - end)) if inner else self._best_cut(start, end)[0]
        yield from self._settle(replace(piece, end=middle), bounds)
        yield from self._settle(replace(piece, start=middle), bounds)

    def _leads(self, starts: Sequence[int], heads: Sequence[Head]) -> list[tuple[int, int] | None]:
        """Return for each atom the nearest head above that it needs; None when it is a head, or stands below none."""
        leads: list[tuple[int, int] | None] = []
        begins = {head.start for head in heads if not head.is_item}
        starts = _skip_spaces(self.text, starts)
        for start, above in zip(starts, heads_over(heads, starts), strict=True):
            nearest = next((head for head in reversed(above) if head.is_lead), None)
            is_needed = nearest and start >= nearest.end and start not in begins
            leads.append((nearest.start, nearest.end) if nearest and is_needed else None)
        most = (self._max_tokens - self._overhead) // _HEAD_SHARE
        small = {lead for lead in set(leads) if lead and self.size(*lead) <= most}
        return [lead if lead in small else None for lead in leads]

    def _sized_atoms(self, start: int, end: int, heads: Sequence[Head]) -> tuple[list[int], list[float], list[float]]:
        """Return starts, costs and tokens of atoms that each fit."""
        starts, costs, sizes = [], [], []
        available = self.available
        atoms = self.atoms(start, end)
        above = heads_over(heads, _skip_spaces(self.text, [atom_start for atom_start, _ in atoms]))
        atoms = [(at, cost + self._scope_cost(at, over)) for (at, cost), over in zip(atoms, above, strict=True)]
        atoms = _merge_tiny(atoms, end, max(available // 8, 1))
        for i, (atom_start, cost) in enumerate(atoms):
            atom_end = atoms[i + 1][0] if i + 1 < len(atoms) else end
            size = self.size(atom_start, atom_end)
            pieces: Iterable[tuple[int, float, float]] = [(atom_start, cost, size)]
            if size > available:
                pieces = self._split_atom(atom_start, atom_end, cost, available // 4)
            for piece_start, piece_cost, piece_size in pieces:
                starts.append(piece_start)
                costs.append(piece_cost)
                sizes.append(piece_size)
        return starts, costs, sizes

    def _scope_cost(self, position: int, above: Sequence[Head]) -> float:
        """Return what a cut costs more because of the heads whose scope it divides."""
        chars = self.available * _CHARS_PER_TOKEN
        cost = sum(_IN_SCOPE * min(chars / (head.stop - head.start), 4) for head in above)
        for head in above:
            if not head.is_item and position - head.end <= _MOST_MARKS:
                cost += _AFTER_HEAD * (not any(map(str.isalnum, self.text[head.end : position])))
        return cost

    def _split_atom(self, start: int, end: int, cost: float, limit: int) -> Iterator[tuple[int, float, float]]:
        size = self.size(start, end)
        if size <= limit or end - start == 1:
            yield start, cost, size
            return
        middle, middle_cost = self._best_cut(start, end)
        yield from self._split_atom(start, middle, cost, limit)
        yield from self._split_atom(middle, end, middle_cost, limit)

    def _best_cut(self, start: int, end: int) -> tuple[int, float]:
        """Return the best position for a cut near the middle, and its cost; `start < position < end`."""
        middle = (start + end) // 2
        reach = min((end - start) // 4, self._max_chars // 2)
        for pattern, cost in _CUTS:
            positions = [
                found.end()
                for found in pattern.finditer(self.text, middle - reach, middle + reach)
                if start < found.end() < end and not _is_inside_grapheme(self.text, found.end())
            ]
            if positions:
                return min(positions, key=lambda position: abs(position - middle)), cost
        for distance in range(min(reach, 64) + 1):
            for position in (middle - distance, middle + distance):
                if start < position < end and not _is_inside_grapheme(self.text, position):
                    return position, _CHARACTER
        return middle, _CHARACTER


def _skip_spaces(text: str, positions: Iterable[int]) -> list[int]:
    """Return for each position (in order) where the first character is that is not white space. Nothing is read twice."""
    letters: list[int] = []
    letter = -1
    for position in positions:
        if position > letter:
            found = _LETTER.search(text, position)
            letter = found.start() if found else len(text)
        letters.append(letter)
    return letters


def _merge_tiny(atoms: list[Atom], end: int, min_chars: int) -> list[Atom]:
    """Join atoms of fewer than `min_chars` characters with a neighbour: bounds the work on texts of tiny lines.

    The neighbour is the next atom, or the atom before if a cut after the tiny atom costs less than a cut before it.
    """
    merged = [atoms[0]]
    for i in range(1, len(atoms)):
        atom_end = atoms[i + 1][0] if i + 1 < len(atoms) else end
        is_tiny = atoms[i][0] - merged[-1][0] < min_chars
        if is_tiny and len(merged) > 1 and atoms[i][1] < merged[-1][1]:
            merged[-1] = atoms[i]
        elif not (is_tiny and atom_end - merged[-1][0] <= 4 * min_chars):
            merged.append(atoms[i])
    return merged


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
