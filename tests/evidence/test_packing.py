import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag import (
    BudgetError,
    Chunk,
    CompressingPacker,
    ConfigurationError,
    EvidencePacker,
    ExtractiveCompressor,
    GreedyPacker,
    Hit,
    TokenBudget,
)
from leanrag.compression.task import Part, Task
from leanrag.evidence.budget import is_near_duplicate, without_repetitions
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.grounding import ground
from leanrag.prompting import CHAT_TEMPLATE
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Evidence, Segment
from tests.examples import max_examples


def count(number, title, text):
    """A header of two tokens, then words."""
    return 2 + len(text.split())


def hits_of(*texts):
    return [Hit(Chunk(f"d{i}", 10, 10 + len(text), text), 1.0 - i / 100) for i, text in enumerate(texts)]


def sentence(word, n):
    """A sentence of `n` words."""
    return " ".join([f"{word.upper()}{i}" for i in range(n - 1)] + [f"{word}ending"]) + "."


def test_what_does_not_fit_is_skipped_and_what_comes_after_still_may():
    hits = hits_of(sentence("a", 10), sentence("b", 50), sentence("c", 10))
    packing = GreedyPacker().pack(hits, 30, count)
    assert [item.hit for item in packing.items] == [hits[0], hits[2]]
    assert [item.number for item in packing.items] == [1, 2]
    assert [(d.hit, d.reason, d.tokens) for d in packing.dropped] == [(hits[1], "budget", 52)]
    assert packing.tokens == 24


def test_the_best_hit_is_trimmed_to_sentences_rather_than_dropped():
    text = f"{sentence('a', 10)} {sentence('b', 10)} {sentence('c', 10)}"
    packing = GreedyPacker().pack(hits_of(text), 25, count)
    (item,) = packing.items
    assert item.text == f"{sentence('a', 10)} {sentence('b', 10)}"
    assert (item.action, item.tokens) == ("trimmed", 22)
    assert item.segments == (Segment(0, len(item.text), 0, 10, 10 + len(item.text)),)


def test_room_that_is_left_takes_the_beginning_of_the_best_that_was_dropped():
    long = f"{sentence('b', 10)} {sentence('c', 40)}"
    packing = GreedyPacker(min_trim_tokens=5).pack(hits_of(sentence("a", 10), long), 30, count)
    assert [(item.action, item.text) for item in packing.items] == [
        ("kept", sentence("a", 10)),
        ("trimmed", sentence("b", 10)),
    ]
    assert packing.dropped == ()


def test_a_repetition_is_dropped():
    text = sentence("a", 20)
    hits = hits_of(text, text + " And more.", sentence("b", 5))
    packing = GreedyPacker().pack(hits, 1000, count)
    assert [item.hit for item in packing.items] == [hits[0], hits[2]]
    assert [(d.hit, d.reason) for d in packing.dropped] == [(hits[1], "duplicate")]


def test_no_sentence_fits():
    with pytest.raises(BudgetError) as caught:
        GreedyPacker().pack(hits_of(sentence("a", 10)), 11, count)
    assert (caught.value.needed, caught.value.available) == (12, 11)


def test_nothing_in_nothing_out():
    packing = GreedyPacker().pack([], 100, count)
    assert (packing.items, packing.dropped, packing.tokens, packing.budget) == ((), (), 0, 100)


@given(
    st.lists(
        st.lists(st.sampled_from(["one.", "two", "three!", "four", "\n\n", "é"]), max_size=40).map(" ".join), max_size=8
    ),
    st.integers(1, 120),
)
def test_never_over_budget_and_nothing_lost(texts, budget):
    hits = hits_of(*[text for text in texts if text.strip()])
    try:
        packing = GreedyPacker().pack(hits, budget, count)
    except BudgetError as error:
        assert error.needed > error.available == budget
        return
    assert packing.tokens == sum(count(i.number, "", i.text) for i in packing.items) <= budget
    assert (
        sorted(i.hit.chunk.id for i in packing.items) + sorted(d.hit.chunk.id for d in packing.dropped) != []
        or not hits
    )
    assert {i.hit.chunk.id for i in packing.items} | {d.hit.chunk.id for d in packing.dropped} == {
        h.chunk.id for h in hits
    }
    assert len(packing.items) + len(packing.dropped) == len(hits)
    for item in packing.items:
        chunk, (segment,) = item.hit.chunk, item.segments
        assert item.text == chunk.text[segment.source_start - chunk.start : segment.source_end - chunk.start]
        assert (item.action == "kept") == (item.text == chunk.text)


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("a b c d e", "a b c d e", True),
        ("a b c d e", "x a b c d e y", True),
        ("a b c d e", "e d c b a", False),
        ("a b c d e f", "a b c d x y", False),
        ("a b", "c a b d", True),
        ("a b", "b a", False),
    ],
)
def test_near_duplicates(text, other, expected):
    assert is_near_duplicate(text, other, 0.8) is expected


def test_the_budget_reserves_answer_and_template():
    budget = TokenBudget(n_ctx=1000, answer=100, fixed=50)
    assert (budget.sources, budget.prompt) == (850, 900)
    assert TokenBudget(n_ctx=1000, answer=100, fixed=50, limit=300).sources == 300


def test_a_question_that_does_not_fit():
    with pytest.raises(BudgetError, match="Shorten the question") as caught:
        TokenBudget(n_ctx=100, answer=60, fixed=41)
    assert (caught.value.needed, caught.value.available) == (101, 100)


@pytest.mark.parametrize("options", [{"answer": 0}, {"answer": 1, "limit": 0}])
def test_impossible_shares(options):
    with pytest.raises(ConfigurationError):
        TokenBudget(n_ctx=100, fixed=0, **options)


# Packers of units, and of what a compressor makes


def count_pairs(number, title, text):
    """Tokens of two characters of a rendered source: those of parts do not add up."""
    return (len(f"[{number}] {title}\n{text}\n\n") + 1) // 2


def count_rendered(number, title, text):
    return FakeModel().count_tokens(CHAT_TEMPLATE.render_source(number, title, text))


COUNTERS = (count, count_pairs, count_rendered)

PIECES = st.sampled_from(
    ["The tower, which is in the middle of Paris, was built in 1889 by a company.", "It is tall.", "Tickets are cheap.", "\n\n",
     "| a | b |\n|---|---|\n| 1 | 2 |", "東京は日本の首都である。", "- item\n- item", "```\nx = 1\n```\n", "x" * 90, " ", "é"]
)  # fmt: skip

HEADINGS = st.sampled_from(["", "", "Visit > Tickets", "History of the tower"])


@st.composite
def found(draw):
    """Documents, and chunks of them as a retriever finds them, each once."""
    texts = draw(st.lists(st.lists(PIECES, max_size=7).map(" ".join), max_size=4))
    documents = {f"d{i}": text for i, text in enumerate(texts)}
    chunks = []
    for identity, text in documents.items():
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=2)) | {0, len(text)})
        title = draw(st.sampled_from(["", "Eiffel Tower"]))
        headings = draw(st.lists(HEADINGS, min_size=len(cuts), max_size=len(cuts)))
        spans = itertools.pairwise(cuts)
        chunks += [Chunk(identity, a, b, text[a:b], title, name) for (a, b), name in zip(spans, headings, strict=False)]
    order = draw(st.permutations(chunks))
    return documents, [Hit(chunk, 1 / (i + 1)) for i, chunk in enumerate(order)]


def name_of(hit):
    return hit.chunk.heading or hit.chunk.title


vectors = SentenceVectors(HashEmbedder(dim=16))
evidence_packers = st.builds(
    EvidencePacker,
    st.sampled_from([SentenceScorer(), SentenceScorer(vectors), SentenceScorer(clauses=False)]),
    ordering=st.sampled_from(["relevance", "reverse", "ends", "document"]),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    least=st.sampled_from([0.0, 0.5]),
    headings=st.booleans(),
)
compressing_packers = st.builds(CompressingPacker, st.builds(ExtractiveCompressor))
loose = max_examples(120, suppress_health_check=list(HealthCheck))


def test_one_unit_is_shown_where_two_take_more_together_than_each():
    def count_numbers(number, title, text):
        return 2 if number == 1 else 9

    packing = EvidencePacker(SentenceScorer()).pack(hits_of("It is tall.", "It is old."), 4, count_numbers)
    assert [item.text for item in packing.items] == ["It is tall."]
    assert [dropped.hit.chunk.text for dropped in packing.dropped] == ["It is old."]


@pytest.mark.parametrize("text", ["\n\n It is tall.", " It is tall. \n", "\t\t東京は日本の首都である。"])
def test_white_space_around_a_unit_gives_way_to_the_budget(text):
    budget = count_pairs(1, "", text.strip())
    (item,) = EvidencePacker(SentenceScorer()).pack(hits_of(text), budget, count_pairs).items
    assert (item.text, item.tokens) == (text.strip(), budget)


def test_a_lead_gives_way_to_the_budget():
    lead = "| Part | Price | Shelf | Room | Floor | House | Street | Town |\n"
    chunk = Chunk("d", 100, 113, "| P-1 | 20 |\n", lead=lead, lead_start=0)
    (item,) = EvidencePacker(SentenceScorer()).pack([Hit(chunk, 1.0)], 9, count, question="Price of P-1?").items
    assert item.text == "| P-1 | 20 |"


def under_leads(*leads):
    """Hits of one document, each with a lead that is far above it."""
    hits = []
    for i, lead in enumerate(leads):
        text = f"Part {i} costs {i}7 euros."
        hits.append(
            Hit(
                Chunk("d", 200 + 100 * i, 200 + 100 * i + len(text), text, lead=lead, lead_start=40 * int(lead[-1])),
                1.0,
            )
        )
    return hits


def test_only_leads_of_chunks_that_are_shown_take_tokens():
    hits = under_leads(*(f"All about the many parts of the big shelf {i}" for i in range(5)))
    packing = EvidencePacker(SentenceScorer()).pack(hits, 20, count, question="What does part 3 cost?")
    assert [item.text for item in packing.items] == [
        "All about the many parts of the big shelf 3\nPart 3 costs 37 euros."
    ]


def test_chunks_of_a_section_share_its_lead():
    hits = under_leads(*["Shelf 0"] * 2, "Shelf 1")
    (item,) = EvidencePacker(SentenceScorer()).pack(hits, 40, count, question="What do the parts cost?").items
    assert [line for line in item.text.splitlines() if "Shelf" in line] == ["Shelf 0", "Shelf 1"]
    assert item.text.count("costs") == 3
    assert [segment.reason for segment in item.segments].count("context") == 2


@loose
@given(
    found(),
    evidence_packers | compressing_packers,
    st.integers(-3, 120),
    st.sampled_from(COUNTERS),
    st.sampled_from(["", "How old?"]),
)
def test_sources_keep_to_the_budget_and_every_hit_is_accounted_for(case, packer, budget, counter, question):
    documents, hits = case
    try:
        packing = packer.pack(hits, budget, counter, question=question)
    except BudgetError as error:
        assert error.needed > error.available
        if isinstance(packer, EvidencePacker):
            kept, _ = without_repetitions(hits, 0.8, question)
            for unit in packer._scorer.score(question, kept)[0]:
                chunk = kept[unit.hit].chunk
                assert unit.needs is not None or counter(1, chunk.title, chunk.text[unit.start : unit.end]) > budget
        return
    assert packing.budget == budget
    assert packing.tokens == sum(item.tokens for item in packing.items) <= max(budget, 0)
    shown = []
    for number, item in enumerate(packing.items, start=1):
        assert (item.number, item.tokens) == (number, counter(number, item.hit.chunk.title, item.text))
        own = [item.hit, *item.more]
        shown += own
        assert {hit.chunk.document_id for hit in own} == {item.hit.chunk.document_id}
        assert item.text.strip()
        if item.action == "heading":
            assert (item.text, item.segments, item.more) == (name_of(item.hit), (), ())
            continue
        text, at = documents[item.hit.chunk.document_id], 0
        for segment in item.segments:
            assert item.text[segment.start : segment.end] == text[segment.source_start : segment.source_end]
            assert any(h.chunk.start <= segment.source_start < segment.source_end <= h.chunk.end for h in own)
            assert not item.text[at : segment.start].strip()
            at = segment.end
        assert at == len(item.text)
        if item.action == "kept":
            assert isinstance(packer, CompressingPacker) or {s.reason for s in item.segments} == {"whole"}
            assert all(hit.chunk.text in item.text for hit in own)
    accounted = [hit.chunk.id for hit in shown] + [dropped.hit.chunk.id for dropped in packing.dropped]
    assert sorted(accounted) == sorted(hit.chunk.id for hit in hits)
    ranks = [hits.index(dropped.hit) for dropped in packing.dropped]
    assert ranks == sorted(ranks)
    for dropped in packing.dropped:
        assert dropped.tokens == counter(1, dropped.hit.chunk.title, dropped.hit.chunk.text)
    again = packer.pack(hits, budget, counter, question=question)
    assert (again.items, again.dropped) == (packing.items, packing.dropped)


@max_examples(25, suppress_health_check=list(HealthCheck))
@given(found(), evidence_packers | compressing_packers, st.integers(1, 150))
def test_sources_keep_to_the_budget_of_a_real_tokenizer(tiny, case, packer, budget):
    _, hits = case

    def counter(number, title, text):
        return tiny.count_tokens(CHAT_TEMPLATE.render_source(number, title, text))

    try:
        packing = packer.pack(hits, budget, counter, question="How old is the tower?")
    except BudgetError:
        return
    rendered = [(item.number, item.hit.chunk.title, item.text) for item in packing.items]
    assert sum(counter(*source) for source in rendered) == packing.tokens <= budget


class FixedScorer:
    """Hands out values, for the words of the hits' texts, or for spans that are told."""

    def __init__(self, *values, repeats=None):
        self.values, self.repeats = values, repeats

    def score(self, question, hits):
        units, values = [], iter(self.values)
        for number, hit in enumerate(hits):
            at = 0
            for word in hit.chunk.text.split():
                start = hit.chunk.text.index(word, at)
                at = start + len(word)
                units.append(Evidence(number, start, at, next(values)))
        return units, self.repeats


def pack(values, hits, budget, repeats=None, **options):
    return EvidencePacker(FixedScorer(*values, repeats=repeats), **options).pack(hits, budget, count)


def shown(packing):
    return [(item.number, item.text, item.action) for item in packing.items]


@pytest.mark.parametrize(
    ("ordering", "order"),
    [("relevance", "dbca"), ("reverse", "acbd"), ("ends", "dcab"), ("document", "abcd")],
)
def test_orderings(ordering, order):
    hits = [Hit(Chunk(name, 0, 1, name), 1.0) for name in "bacd"]
    packing = pack([0.3, 0.1, 0.2, 0.4], hits, 100, ordering=ordering)
    assert [item.text for item in packing.items] == list(order)
    assert [item.number for item in packing.items] == [1, 2, 3, 4]


def test_units_of_many_hits_are_packed_by_their_worth():
    hits = hits_of("aa bb cc", "dd ee ff")
    packing = pack([0.1, 0.4, 0.1, 0.1, 0.1, 0.3], hits, 6, ordering="relevance")
    assert shown(packing) == [(1, "bb", "extracted"), (2, "ff", "extracted")]
    assert [item.segments for item in packing.items] == [
        (Segment(0, 2, 0, 13, 15, 0.4, "relevant"),),
        (Segment(0, 2, 1, 16, 18, 0.3, "relevant"),),
    ]
    packing = pack([0.1, 0.4, 0.1, 0.1, 0.1, 0.3], hits, 5, ordering="relevance")
    assert shown(packing) == [(1, "aa bb cc", "kept")]
    assert [(d.hit, d.reason, d.tokens) for d in packing.dropped] == [(hits[1], "budget", 5)]


def test_hits_of_one_document_are_one_source():
    text = "aa bb. cc dd ee"
    hits = [
        Hit(Chunk("d", 7, 15, text[7:15], "T"), 0.9),
        Hit(Chunk("e", 0, 2, "ff"), 0.8),
        Hit(Chunk("d", 0, 6, text[:6], "T"), 0.7),
    ]
    packing = pack([0.3, 0.0, 0.3, 0.1, 0.2, 0.1], hits, 7, ordering="relevance")
    (item,) = packing.items
    assert (item.hit, item.more) == (hits[0], (hits[2],))
    assert item.text == "aa bb.\ncc ee"
    assert item.segments == (
        Segment(0, 6, 2, 0, 6, 0.2, "whole"),
        Segment(7, 9, 0, 7, 9, 0.3, "relevant"),
        Segment(10, 12, 0, 13, 15, 0.3, "relevant"),
    )
    assert (item.action, item.tokens) == ("extracted", 6)


def test_what_nearly_repeats_a_better_hit_is_dropped_in_its_place():
    hits = hits_of(sentence("a", 20), sentence("b", 200), sentence("a", 20) + " And more.", sentence("c", 5))
    packing = EvidencePacker(SentenceScorer()).pack(hits, 60, count)
    assert [(d.hit, d.reason) for d in packing.dropped] == [(hits[1], "budget"), (hits[2], "duplicate")]
    packing = CompressingPacker(ExtractiveCompressor()).pack(hits, 60, count)
    assert [(d.hit, d.reason) for d in packing.dropped] == [(hits[1], "budget"), (hits[2], "duplicate")]
    kept = EvidencePacker(SentenceScorer(), duplicate_overlap=1.0).pack([hits[0], hits[2]], 1000, count)
    assert kept.dropped == ()


def test_units_that_repeat_each_other_are_packed_once():
    hits = hits_of("aa bb", "cc")
    repeats = np.zeros((3, 3), np.float32)
    repeats[0, 2] = repeats[2, 0] = 1.0
    packing = pack([0.5, 0.1, 0.4], hits, 100, repeats)
    assert shown(packing) == [(1, "aa bb", "kept")]
    assert [(d.hit, d.reason) for d in packing.dropped] == [(hits[1], "irrelevant")]


def test_least_leaves_room_unused():
    hits = hits_of("aa bb", "cc")
    packing = pack([0.6, 0.3, 0.1], hits, 9, least=0.4)
    assert shown(packing) == [(1, "aa bb", "kept")]
    assert [d.reason for d in packing.dropped] == ["irrelevant"]
    assert shown(pack([0.6, 0.3, 0.1], hits, 9, least=0.6)) == [(1, "aa", "extracted")]


def test_only_promising_units_are_counted():
    texts = [" ".join(sentence(f"w{i}x{j}", 6) for j in range(40)) for i in range(10)]
    counted = []

    def counter(number, title, text):
        counted.append(text)
        return count(number, title, text)

    packer = EvidencePacker(SentenceScorer(), least=0.0)
    packing = packer.pack(hits_of(*texts), 30, counter, question="Where is w3x5 w3x5ending?")
    assert packing.tokens > 24
    assert len(counted) < 80  # of 400 sentences


def test_what_is_worth_little_beside_the_best_is_left_out_unless_the_budget_is_to_be_filled():
    hits = hits_of("aa bb cc", "dd ee ff")
    values = [0.04, 0.5, 0.05, 0.06, 0.04, 0.31]
    packing = pack(values, hits, 20, ordering="relevance", least=0.1)
    assert [item.text for item in packing.items] == ["bb cc", "dd ff"]
    assert packing.dropped == ()
    for options in ({"budget": 20}, {"budget": 30, "least": 0.1}):  # a third of 30 holds everything
        filled = pack(values, hits, ordering="relevance", **options)
        assert [(item.text, item.action) for item in filled.items] == [("aa bb cc", "kept"), ("dd ee ff", "kept")]
    assert [item.text for item in pack(values, hits, 9, ordering="relevance", least=1.0).items] == ["bb"]
    assert [(d.hit, d.reason) for d in pack(values, hits, 9, least=1.0).dropped] == [(hits[1], "irrelevant")]


def test_a_unit_that_fits_is_found_among_many_that_do_not():
    hits = hits_of(*[sentence(f"w{i}", 60) for i in range(20)], "Tiny thing.")
    assert shown(EvidencePacker(SentenceScorer()).pack(hits, 4, count)) == [(1, "Tiny thing.", "kept")]


def test_no_unit_fits_and_there_is_no_pruner():
    with pytest.raises(BudgetError, match="the least that can be shown takes 12") as caught:
        EvidencePacker(SentenceScorer()).pack(hits_of(sentence("a", 10), sentence("b", 12)), 11, count)
    assert (caught.value.needed, caught.value.available) == (12, 11)
    with pytest.raises(BudgetError):
        CompressingPacker(ExtractiveCompressor()).pack(hits_of(sentence("a", 10)), 11, count)


class FirstWords:
    """Thins to the first words that fit."""

    name = "first"

    def compress(self, sources, *, count_tokens, budget=None, rate=None, question="", keep=()):
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        text = task.hits[0].chunk.text
        ends = [
            at for at in range(1, len(text) + 1) if text[at : at + 1] in (" ", "") and count_tokens(text[:at]) <= budget
        ]
        return task.finish([Part(0, 0, ends[-1])] if ends else [], self.name)


def test_a_pruner_thins_the_best_unit_where_none_fits():
    text = f"{sentence('a', 10)} {sentence('b', 10)}"
    packer = EvidencePacker(SentenceScorer(), pruner=FirstWords())
    packing = packer.pack(hits_of(text), 6, count, question="What is bending?")
    assert shown(packing) == [(1, "B0 B1 B2 B3", "pruned")]
    (segment,) = packing.items[0].segments
    assert (segment.source_start, segment.source_end) == (10 + text.index("B0"), 10 + text.index("B0") + 11)
    assert packing.tokens == 6
    for budget in (-1, 0, 2):
        with pytest.raises(BudgetError) as caught:
            packer.pack(hits_of(text), budget, count)
        assert caught.value.needed > caught.value.available == budget


def test_a_compressor_that_thins_is_told_of():
    packing = CompressingPacker(FirstWords()).pack(hits_of(sentence("a", 10)), 7, count)
    assert shown(packing) == [(1, "A0 A1 A2 A3 A4", "pruned")]
    assert packing.compression.method == "first"
    assert packing.items[0].segments[0].source_end == 24


def test_titles_that_leave_no_room_take_fewer_hits():
    def count_titles_too(number, title, text):
        return len(title.split()) + len(text.split())

    hits = [Hit(Chunk(f"d{i}", 0, 10, f"W{i} is red.", "a title of six words here"), 1 / (i + 1)) for i in range(6)]
    packing = CompressingPacker(ExtractiveCompressor()).pack(hits, 12, count_titles_too)
    assert [item.hit for item in packing.items] == hits[:1]
    assert [d.reason for d in packing.dropped] == ["budget"] * 5


# Hits that are shown by their headings


@loose
@given(
    found(),
    st.integers(-3, 120),
    st.sampled_from(COUNTERS),
    st.sampled_from(["relevance", "reverse", "ends", "document"]),
    st.sampled_from([None, FirstWords()]),
)
def test_headings_take_only_the_room_that_text_left(case, budget, counter, ordering, pruner):
    _, hits = case
    options = {"ordering": ordering, "pruner": pruner}
    try:
        plain = EvidencePacker(SentenceScorer(), **options).pack(hits, budget, counter, question="How old?")
    except BudgetError:
        with pytest.raises(BudgetError):
            EvidencePacker(SentenceScorer(), headings=True, **options).pack(hits, budget, counter, question="How old?")
        return
    packing = EvidencePacker(SentenceScorer(), headings=True, **options).pack(
        hits, budget, counter, question="How old?"
    )
    texts = [item for item in packing.items if item.action != "heading"]
    named = [item.hit for item in packing.items if item.action == "heading"]
    assert [(item.hit, item.text, item.segments) for item in texts] == [
        (item.hit, item.text, item.segments) for item in plain.items
    ]
    reasons = {dropped.hit: dropped.reason for dropped in plain.dropped}
    assert {reasons.pop(hit) for hit in named} <= {"budget"}
    assert {dropped.hit: dropped.reason for dropped in packing.dropped} == reasons

    shown = [hit for item in texts for hit in (item.hit, *item.more)]
    sections = {(hit.chunk.title, name_of(hit)) for hit in shown}
    names = [(hit.chunk.title, name_of(hit)) for hit in named]
    assert len(set(names)) == len(names)
    assert sections.isdisjoint(names)
    if counter is count:
        titles = {hit.chunk.title for hit in [*shown, *named]}
        for hit in (hit for hit, reason in reasons.items() if reason == "budget" and name_of(hit)):
            is_named = (hit.chunk.title, name_of(hit)) in sections.union(names)
            is_named |= not hit.chunk.heading and hit.chunk.title in titles
            assert is_named or packing.tokens + count(1, hit.chunk.title, name_of(hit)) > budget


class WholeHits:
    """Each hit is a unit, the first worth most."""

    def score(self, question, hits):
        return [Evidence(i, 0, len(hit.chunk.text), 1 / (i + 1)) for i, hit in enumerate(hits)], None


def section(document, title, heading, text):
    return Hit(Chunk(document, 0, len(text), text, title, heading), 1.0)


USE = section("b", "Guide", "Use", "yes")
INSTALL = section("c", "Guide", "Start > Install", sentence("a", 10))
NOTES = section("d", "Notes", "", sentence("b", 10))
PRICES = section("a", "Guide", "Prices", sentence("c", 10))


@pytest.mark.parametrize(
    ("ordering", "order"),
    [("relevance", "UINP"), ("reverse", "PNIU"), ("ends", "UNPI"), ("document", "PUIN")],
)
def test_headings_stand_where_the_least_relevant_sources_stand(ordering, order):
    packer = EvidencePacker(WholeHits(), ordering=ordering, headings=True)
    packing = packer.pack([USE, INSTALL, NOTES, PRICES], 14, count)
    sources = {
        "U": (USE, "yes", "kept"),
        "I": (INSTALL, "Start > Install", "heading"),
        "N": (NOTES, "Notes", "heading"),
        "P": (PRICES, "Prices", "heading"),
    }
    assert [(item.hit, item.text, item.action) for item in packing.items] == [sources[key] for key in order]
    assert [item.number for item in packing.items] == [1, 2, 3, 4]
    assert (packing.tokens, packing.dropped) == (3 + 5 + 3 + 3, ())


def pack_headings(hits, budget, **options):
    return EvidencePacker(WholeHits(), ordering="relevance", **options).pack(hits, budget, count)


def test_headings_are_not_shown_unless_asked_for():
    packing = pack_headings([USE, INSTALL], 14)
    assert shown(packing) == [(1, "yes", "kept")]
    assert [(d.hit, d.reason) for d in packing.dropped] == [(INSTALL, "budget")]


def test_a_heading_that_does_not_fit_gives_way_to_a_shorter_one():
    packing = pack_headings([USE, INSTALL, PRICES], 7, headings=True)
    assert shown(packing) == [(1, "yes", "kept"), (2, "Prices", "heading")]
    assert [(d.hit, d.reason) for d in packing.dropped] == [(INSTALL, "budget")]


def test_a_heading_is_shown_once_and_not_where_its_section_or_title_is():
    of_use = section("e", "Guide", "Use", sentence("d", 20))
    of_guide = section("f", "Guide", "", sentence("e", 20))
    more_prices = section("g", "Guide", "Prices", sentence("f", 20))
    nameless = section("h", "", "", sentence("g", 20))
    news = section("i", "News", "Prices", sentence("h", 20))
    of_news = section("j", "News", "", sentence("i", 20))
    packing = pack_headings([USE, of_use, of_guide, PRICES, more_prices, nameless, news, of_news], 22, headings=True)
    assert [item.hit for item in packing.items] == [USE, PRICES, news]
    assert [d.hit for d in packing.dropped] == [of_use, of_guide, more_prices, nameless, of_news]
    assert {d.reason for d in packing.dropped} == {"budget"}


def test_headings_name_neither_what_is_repeated_nor_what_is_worth_too_little():
    again = section("x", "Other", "Copy", USE.chunk.text)
    packing = pack_headings([USE, again, section("y", "Other", "Small", "no")], 9, least=0.9, headings=True)
    assert shown(packing) == [(1, "yes", "kept")]
    assert [d.reason for d in packing.dropped] == ["duplicate", "irrelevant"]


def test_headings_alone_are_no_prompt():
    with pytest.raises(BudgetError, match="the least that can be shown takes 12"):
        pack_headings([INSTALL, PRICES], 11, headings=True)


def test_a_heading_is_in_the_prompt_and_is_never_quoted():
    tickets = section("b", "guide.md", "Visit > Tickets", "Tickets are bought at the entrance.")
    prices = section("c", "guide.md", "Visit > Prices", sentence("a", 20))
    packing = EvidencePacker(WholeHits(), headings=True).pack([tickets, prices], 16, count)
    assert shown(packing) == [(1, "Visit > Prices", "heading"), (2, tickets.chunk.text, "kept")]
    question = "Where are tickets bought?"
    (message,) = CHAT_TEMPLATE.build(question, packing.items)
    assert message.content.startswith("guide.md\nVisit > Prices\n\nguide.md\nTickets are")
    grounding = ground(question, "Tickets are bought at the entrance. See Visit > Prices.", packing.items)
    assert grounding.text == "Tickets are bought at the entrance [2]. See Visit > Prices."
    assert [citation.quote for citation in grounding.citations] == [tickets.chunk.text]


@pytest.mark.parametrize("packer", [EvidencePacker(SentenceScorer()), CompressingPacker(ExtractiveCompressor())])
def test_nothing_to_show(packer):
    packing = packer.pack([], 100, count)
    assert (packing.items, packing.dropped, packing.tokens, packing.budget) == ((), (), 0, 100)
    blank = hits_of(" \n ")
    packing = packer.pack(blank, 100, count)
    assert (packing.items, [(d.hit, d.reason) for d in packing.dropped]) == ((), [(blank[0], "irrelevant")])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ordering": "random"}, "`ordering` must be one of 'relevance', 'reverse', 'ends', 'document'"),
        ({"power": 1.5}, "`power` must be in"),
        ({"least": -1}, "`least` must be in"),
        ({"duplicate_overlap": 0}, "`duplicate_overlap` must be in"),
    ],
)
def test_impossible_settings(options, says):
    with pytest.raises(ConfigurationError, match=says):
        EvidencePacker(SentenceScorer(), **options)
