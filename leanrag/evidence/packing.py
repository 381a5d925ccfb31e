"""Which text the prompt holds: packers that keep to a token budget, and a report of what was left out."""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from leanrag.checks import check_choice, check_share
from leanrag.errors import BudgetError
from leanrag.evidence.budget import nothing_fits, without_repetitions
from leanrag.evidence.selection import Candidate, Promising, Selection, fill, select
from leanrag.protocols import Compressor, EvidenceScorer, SourceCounter
from leanrag.spans import join_spans, merge_neighbours
from leanrag.types import Compression, DroppedItem, Evidence, Hit, PackAction, PackedItem, Packing, Segment

__all__ = ["CompressingPacker", "EvidencePacker", "Ordering"]

Ordering = Literal["relevance", "reverse", "ends", "document"]
"""How sources follow each other: best first, best last, best at both ends, or by document (so that prompts over the same documents
begin alike)."""

_ENOUGH = 1 / 3  # of a budget, which is filled whatever the units are worth
_TOGETHER = 0.7  # of a budget: groups that take more come apart
_DropReason = Literal["budget", "duplicate", "irrelevant"]


class EvidencePacker:
    """Packs the units (sentences, rows, blocks) of the hits that are worth most for the question, from any hit.

    A source is shown whole if all of it is worth its tokens. Otherwise some of its units are shown, in their order. Hits of the
    same document are one source. A hit that nearly repeats a better hit is dropped.

    With `headings`, the remaining tokens show the headings, or else the titles, of hits that were dropped for the budget, best
    first. They count as the least relevant sources. A heading answers nothing and is never quoted, so this is off by default. It
    helps with documentation: a reader that lacks the text can still say in which section to look.

    Args:
        scorer: Says how much a unit is worth.
        ordering: The order of the sources in the prompt. Small readers find best what stands next to the question.
        power: 1 divides the worth of a unit by its tokens, 0 does not.
        least: Once a third of the budget is filled, leave out units that are worth less than this share of the best unit; 0
            fills the budget. Small models answer better from less text; see `leanrag.protocols.ReadsLittle`.
        duplicate_overlap: A hit is a repetition if a better hit has more than this share of its sequences of three words.
        pruner: Shortens the best unit if no unit fits whole; None raises a `BudgetError` instead.
        headings: Whether the remaining tokens show the headings of hits that did not fit.

    Raises:
        ConfigurationError: `ordering` is unknown, `power` or `least` is not in [0, 1], or `duplicate_overlap` is not in (0, 1].
    """

    def __init__(
        self,
        scorer: EvidenceScorer,
        *,
        ordering: Ordering = "reverse",
        power: float = 1.0,
        least: float = 0.0,
        duplicate_overlap: float = 0.8,
        pruner: Compressor | None = None,
        headings: bool = False,
    ) -> None:
        check_choice(get_args(Ordering), ordering=ordering)
        check_share(power=power, least=least)
        check_share(open_ends="0", duplicate_overlap=duplicate_overlap)
        self._scorer, self._ordering, self._pruner, self._headings = scorer, ordering, pruner, headings
        self._power, self._least, self._duplicate_overlap = power, least, duplicate_overlap

    def pack(self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, *, question: str = "") -> Packing:
        """Return a packing of at most `budget` tokens.

        Args:
            hits: Best first.
            budget: Tokens for all sources together.
            count_source: Tokens of one source as the prompt shows it.
            question: What the reader will be asked.

        Raises:
            BudgetError: Not one unit of the hits that repeat no better one fits.
        """
        kept, repeated = without_repetitions(hits, self._duplicate_overlap, question)
        units, repeats = self._scorer.score(question, kept)
        sources = _Sources(kept, units, self._ordering, count_source)
        choose = functools.partial(self._choose, sources, budget)
        items = fill(units, budget, choose, _tokens, repeats=repeats, least=self._least)
        if units and not items:
            items = [self._pruned(kept, units, budget, count_source, question)]
        reasons: dict[int, _DropReason] = {id(hit): "duplicate" for hit in repeated}
        reasons |= zip(map(id, kept), sources.reasons(budget - _tokens(items)), strict=True)
        if self._headings:
            items = sources.with_headings(items, [hit for hit in kept if reasons[id(hit)] == "budget"], budget)
        dropped = _dropped(hits, items, reasons, count_source)
        return Packing(tuple(sorted(items, key=lambda item: item.number)), dropped, budget, _tokens(items))

    def _choose(self, sources: _Sources, budget: int, looked_at: Promising) -> list[PackedItem]:
        """The sources that show the best of the units within the budget; none when not one fits."""
        candidates = sources.candidates(looked_at.units, budget)
        room = budget
        while room >= 0:
            chosen = self._select(sources, looked_at, candidates, room).chosen
            items = sources.items([looked_at.places[i] for i in chosen if i < len(looked_at.units)])
            if not items:
                break
            tokens = _tokens(items)
            if tokens <= budget:
                return items
            room -= max(1, tokens - budget)  # tokens do not add up over parts
        for i in sorted(range(len(looked_at.units)), key=lambda i: -looked_at.units[i].value):
            needs = looked_at.units[i].needs
            for indices in ([i], [needs, i]) if needs is None or looked_at.units[i].value else ():
                items = sources.items([looked_at.places[j] for j in indices if j is not None], bare=True)
                if _tokens(items) <= budget:
                    return items
        return []

    def _select(self, sources: _Sources, looked_at: Promising, candidates: Sequence[Candidate], room: int) -> Selection:
        """What is worth its place; or what fills `_ENOUGH` of the room, where that is more."""
        repeats, n_leads = looked_at.repeats, len(candidates) - len(looked_at.units)
        if repeats is not None:
            repeats = np.pad(repeats, (0, n_leads))
        choose = functools.partial(select, candidates, openings=sources.openings, repeats=repeats, power=self._power)
        selection = choose(room, least=self._least)
        if selection.cost < _ENOUGH * room and self._least:
            selection = max(selection, choose(int(_ENOUGH * room)), key=lambda found: found.value)
        return selection

    def _pruned(
        self, hits: Sequence[Hit], units: Sequence[Evidence], budget: int, count_source: SourceCounter, question: str
    ) -> PackedItem:
        """The best unit, thinned until it fits."""
        best = max(units, key=lambda unit: unit.value)
        chunk = hits[best.hit].chunk
        compression = None
        if self._pruner is not None and budget >= 1:
            unit = replace(chunk, start=chunk.start + best.start, end=chunk.start + best.end, text=_text(best, hits))
            compression = self._pruner.compress(
                unit, count_tokens=lambda text: count_source(1, chunk.title, text), budget=budget, question=question
            )
        if compression is None or not compression.text:
            cheapest = min(count_source(1, hits[unit.hit].chunk.title, _text(unit, hits)) for unit in units)
            raise nothing_fits(max(cheapest, budget + 1), budget)
        return PackedItem(1, hits[best.hit], compression.text, compression.segments, compression.tokens_after, "pruned")


class CompressingPacker:
    """Packs what a compressor makes of the hits.

    Args:
        compressor: Any `Compressor`.
        duplicate_overlap: Share of a hit's three-word sequences that a better hit may hold before it counts as a repetition.
    """

    def __init__(self, compressor: Compressor, *, duplicate_overlap: float = 0.8) -> None:
        check_share(open_ends="0", duplicate_overlap=duplicate_overlap)
        self._compressor, self._duplicate_overlap = compressor, duplicate_overlap

    def pack(self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, *, question: str = "") -> Packing:
        """Return a packing of at most `budget` tokens.

        Args:
            hits: Best first.
            budget: Tokens for all sources together.
            count_source: Tokens of one source as the prompt shows it.
            question: What the reader will be asked.

        Raises:
            BudgetError: What must stay does not fit, or nothing does.
            CompressionError: The compressor failed.
        """
        kept, repeated = without_repetitions(hits, self._duplicate_overlap, question)
        compression, items = self._compressed(kept, budget, count_source, question) if kept else (None, [])
        reasons: dict[int, _DropReason] = {id(hit): "duplicate" for hit in repeated}
        for hit in kept:
            reasons[id(hit)] = "budget" if hit.chunk.text.strip() else "irrelevant"
        dropped = _dropped(hits, items, reasons, count_source)
        return Packing(tuple(items), dropped, budget, _tokens(items), compression)

    def _compressed(
        self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, question: str
    ) -> tuple[Compression, list[PackedItem]]:
        """What the compressor makes of the hits, as sources that fit with their headers; of fewer where those leave no room."""
        while True:
            try:
                return self._compressed_all(hits, budget, count_source, question)
            except BudgetError:
                if len(hits) == 1:
                    raise
            hits = hits[: len(hits) // 2]

    def _compressed_all(
        self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, question: str
    ) -> tuple[Compression, list[PackedItem]]:
        empty = count_source(1, "", "")
        openings = [count_source(1, hit.chunk.title, "") for hit in hits]
        is_blank = not any(hit.chunk.text.strip() for hit in hits)
        room = max(budget // 2, budget - sum(openings))
        while room >= 0:
            compression = self._compressor.compress(
                hits,
                count_tokens=lambda text: max(0, count_source(1, "", text) - empty),
                budget=room,
                question=question,
            )
            items = _items_of(compression, count_source)
            tokens = _tokens(items)
            if tokens <= budget and (items or is_blank):
                return compression, items
            if not items:
                break
            room = min(room, compression.tokens_after) - max(1, tokens - budget)  # tokens do not add up over parts
        raise nothing_fits(max(budget, min(openings)) + 1, budget)


def _items_of(compression: Compression, count_source: SourceCounter) -> list[PackedItem]:
    """The sources of a compression that anything is left of."""
    items: list[PackedItem] = []
    for source, group in itertools.groupby(compression.segments, key=lambda segment: segment.source):
        segments = list(group)
        hit = compression.sources[source]
        start, end = segments[0].start, segments[-1].end
        text = compression.text[start:end]
        if not text.strip():
            continue
        number = len(items) + 1
        items.append(
            PackedItem(
                number=number,
                hit=hit,
                text=text,
                segments=tuple(replace(s, start=s.start - start, end=s.end - start) for s in segments),
                tokens=count_source(number, hit.chunk.title, text),
                action="kept" if text == hit.chunk.text else "pruned",
            )
        )
    return items


class _Sources:
    """The hits of each document as one source, and what they cost."""

    def __init__(
        self, hits: Sequence[Hit], units: Sequence[Evidence], ordering: Ordering, count_source: SourceCounter
    ) -> None:
        self._hits, self._units, self._ordering, self._count_source = hits, units, ordering, count_source
        self._n_units = collections.Counter(unit.hit for unit in units)
        groups: dict[str, int] = {}
        self._group_of = [groups.setdefault(hit.chunk.document_id, len(groups)) for hit in hits]
        firsts = [hits[self._group_of.index(group)] for group in groups.values()]
        self.openings = [count_source(1, hit.chunk.title, "") for hit in firsts]
        self._empty = count_source(1, "", "")
        self._costs: dict[tuple[int, int, int], int] = {}

    def candidates(self, units: Sequence[Evidence], budget: int) -> list[Candidate]:
        """The units as the selection sees them, and after them the leads; a group that takes most of the budget comes apart.

        A unit that needs no other unit needs the lead of its chunk.
        """
        costs = [self._cost(unit) for unit in units]
        of_group: collections.Counter[int | None] = collections.Counter()
        for unit, cost in zip(units, costs, strict=True):
            of_group[unit.group] += cost
        leads: dict[tuple[int, int, str], int] = {}  # of each group of hits, with the index of its candidate
        found = []
        for unit, cost in zip(units, costs, strict=True):
            group, chunk, needs = self._group_of[unit.hit], self._hits[unit.hit].chunk, unit.needs
            if needs is None and chunk.lead:
                needs = leads.setdefault((group, chunk.lead_start, chunk.lead), len(units) + len(leads))
            together = unit.group if of_group[unit.group] <= _TOGETHER * budget else None
            found.append(Candidate(unit.value, cost, group, needs, together=together))
        for group, _, lead in leads:
            tokens = self._count_source(1, "", lead) - self._empty
            found.append(Candidate(0.0, max(0, tokens), group))
        return found

    def _cost(self, unit: Evidence) -> int:
        span = (unit.hit, unit.start, unit.end)
        if span not in self._costs:
            tokens = self._count_source(1, "", _text(unit, self._hits)) - self._empty
            self._costs[span] = max(0, tokens)
        return self._costs[span]

    def reasons(self, room: int) -> list[_DropReason]:
        """Why each hit would be dropped: it is irrelevant where a counted unit of it fits `room`, or where it holds none."""
        fits = {hit for (hit, _, _), cost in self._costs.items() if cost + self.openings[self._group_of[hit]] <= room}
        return ["irrelevant" if i in fits or not self._n_units[i] else "budget" for i in range(len(self._hits))]

    def items(self, chosen: Sequence[int], *, bare: bool = False) -> list[PackedItem]:
        """The sources that show the chosen units, best first, with their numbers in the prompt; `bare` ones show nothing else."""
        by_group: dict[int, list[Evidence]] = {}
        for unit in (self._units[place] for place in chosen):
            by_group.setdefault(self._group_of[unit.hit], []).append(unit)
        best_first = sorted(by_group.values(), key=lambda units: -max(unit.value for unit in units))
        return self._numbered([self._item(units, bare=bare) for units in best_first])

    def with_headings(self, items: list[PackedItem], hits: Sequence[Hit], budget: int) -> list[PackedItem]:
        """The sources, and after them such of the other `hits`, by name, as the budget leaves room for."""
        shown = [hit.chunk for item in items for hit in (item.hit, *item.more)]
        named = {(chunk.title, name) for chunk in shown for name in (chunk.heading, chunk.title)}
        for hit in hits:
            title, name = hit.chunk.title, hit.chunk.heading or hit.chunk.title
            if not name.strip() or (title, name) in named:
                continue
            more = self._numbered([*items, PackedItem(0, hit, name, (), 0, "heading")])
            if _tokens(more) <= budget:
                items = more
                named |= {(title, name), (title, title)}
        return items

    def _numbered(self, items: Sequence[PackedItem]) -> list[PackedItem]:
        """The sources, best first, with their numbers in the prompt and their tokens."""
        places = list(range(len(items)))
        if self._ordering == "reverse":
            places.reverse()
        elif self._ordering == "ends":
            places = [*places[::2], *places[1::2][::-1]]
        elif self._ordering == "document":
            places.sort(key=lambda place: items[place].hit.chunk.document_id)
        numbered = []
        for place, item in enumerate(items):
            number = places.index(place) + 1
            tokens = self._count_source(number, item.hit.chunk.title, item.text)
            numbered.append(replace(item, number=number, tokens=tokens))
        return numbered

    def _item(self, units: Sequence[Evidence], *, bare: bool) -> PackedItem:
        """What is shown of a document, without number and tokens; if `bare`, without white space around it and without leads."""
        hits = self._hits
        shown = {unit.hit for unit in units}
        text = ""
        segments: list[Segment] = []
        action: PackAction = "kept"
        ends: list[tuple[int, int]] = []  # of the document's text, shown so far
        for hit in sorted(shown, key=lambda hit: hits[hit].chunk.start):
            chunk = hits[hit].chunk
            own = [unit for unit in units if unit.hit == hit]
            spans, reason = [(unit.start, unit.end) for unit in own], "whole"
            if len(spans) == self._n_units[hit] and not bare:
                spans = [(0, len(chunk.text))]
            else:
                spans, reason, action = merge_neighbours(chunk.text, spans), "relevant", "extracted"
            worths = [
                max(unit.value for unit in own if start <= unit.start and unit.end <= end) for start, end in spans
            ]
            piece, starts = join_spans(chunk.text, spans)
            if ends:
                text += "\n" if ends[-1][1] + 2 >= chunk.start + spans[0][0] else "\n\n"
            lead_end = chunk.lead_start + len(chunk.lead)
            if (
                chunk.lead
                and not bare
                and not any(start <= chunk.lead_start and lead_end <= end for start, end in ends)
            ):
                segments.append(
                    Segment(len(text), len(text) + len(chunk.lead), hit, chunk.lead_start, lead_end, None, "context")
                )
                ends.append((chunk.lead_start, lead_end))
                text += chunk.lead + ("" if chunk.lead.endswith("\n") else "\n")
            for (start, end), begin, worth in zip(spans, starts, worths, strict=True):
                at = len(text) + begin
                segments.append(
                    Segment(at, at + end - start, hit, chunk.start + start, chunk.start + end, worth, reason)
                )
                ends.append((chunk.start + start, chunk.start + end))
            text += piece
        best, *more = sorted(shown)
        return PackedItem(0, hits[best], text, tuple(segments), 0, action, tuple(hits[i] for i in more))


def _tokens(items: Iterable[PackedItem]) -> int:
    return sum(item.tokens for item in items)


def _dropped(
    hits: Sequence[Hit], items: Iterable[PackedItem], reasons: Mapping[int, _DropReason], count_source: SourceCounter
) -> tuple[DroppedItem, ...]:
    """The hits that no item shows; `reasons` are told by their `id`."""
    shown = {id(hit) for item in items for hit in (item.hit, *item.more)}
    return tuple(
        DroppedItem(hit, reasons[id(hit)], count_source(1, hit.chunk.title, hit.chunk.text))
        for hit in hits
        if id(hit) not in shown
    )


def _text(unit: Evidence, hits: Sequence[Hit]) -> str:
    return hits[unit.hit].chunk.text[unit.start : unit.end]
