import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import BudgetError, Chunk, ConfigurationError, GreedyPacker, Hit, TokenBudget
from leanrag.packing import is_near_duplicate
from leanrag.types import Segment


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
