import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.messages import compress_messages, compress_prompt
from leanrag.compression.task import Part, Task
from leanrag.errors import BudgetError, CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.text import split_sentences
from leanrag.types import Compression, Message, Segment


def count_words(text):
    return len(text.split())


def count_chat(messages):
    """Two tokens more for each message and three for the chat, as templates have them."""
    assert messages
    return 3 + sum(2 + count_words(message.content) for message in messages)


class FirstSentences:
    """Keeps what `keep` names and then whole sentences from the first one on, while they fit.

    Attributes:
        calls: The texts, question and budget of each call.
    """

    name = "first-sentences"

    def __init__(self):
        self.calls = []

    def compress(self, sources, *, count_tokens, budget=None, rate=None, question="", keep=()):
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        self.calls.append(([hit.chunk.text for hit in task.hits], question, task.budget))
        if task.fits:
            return task.whole(self.name)
        chosen, later = [], []
        for number, hit in enumerate(task.hits):
            for start, end in split_sentences(hit.chunk.text):
                wanted = any(low < end and high > start for low, high in task.keep[number])
                (chosen if wanted else later).append(Part(number, start, end, reason="kept" if wanted else "relevant"))
        best = task.finish(chosen, self.name)
        for part in later:
            try:
                best = task.finish([*chosen, part], self.name)
            except BudgetError:
                return best
            chosen.append(part)
        return best


def chat_of(*contents, system=None):
    """User and assistant in turn, the user last."""
    roles = itertools.cycle(["user", "assistant"] if len(contents) % 2 else ["assistant", "user"])
    messages = [Message(role, content) for role, content in zip(roles, contents, strict=False)]
    return [Message("system", system), *messages] if system is not None else messages


def compress(messages, budget, compressor=None, **options):
    return compress_messages(
        messages, compressor or FirstSentences(), budget=budget, **({"count_tokens": count_words} | options)
    )


def contents(result):
    return [message.content for message in result.messages]


CHAT = chat_of(
    "Old one. Old two.",
    "Reply one. Reply two.",
    "New one. New two.",
    "Answer one. Answer two.",
    "And now?",
    system="Be brief.",
)


def test_what_fits_comes_back_as_it_is():
    compressor = FirstSentences()
    result = compress(CHAT, 20, compressor)
    assert result.messages == tuple(CHAT)
    assert (result.tokens_before, result.tokens_after, result.rate) == (20, 20, 1.0)
    assert (result.places, result.dropped, result.method) == (tuple(range(6)), (), "first-sentences")
    assert result.compressions == (None,) * 6
    assert compressor.calls == []


def test_older_messages_are_sources_the_newest_first_and_the_last_question_is_the_question():
    compressor = FirstSentences()
    result = compress(CHAT, 18, compressor)
    assert compressor.calls == [(["New one. New two.", "Reply one. Reply two.", "Old one. Old two."], "And now?", 10)]
    assert contents(result) == [
        "Be brief.",
        "Old one.",
        "Reply one. Reply two.",
        "New one. New two.",
        "Answer one. Answer two.",
        "And now?",
    ]
    assert [message.role for message in result.messages] == [message.role for message in CHAT]
    assert result.tokens_after == 18
    assert [piece is None for piece in result.compressions] == [True, False, False, False, True, True]
    piece = result.compressions[1]
    assert piece.segments == (Segment(0, 8, 0, 0, 8, None, "relevant"),)
    assert [(d.source, d.source_start, d.source_end) for d in piece.dropped] == [(0, 9, 17)]
    assert (piece.restore(), piece.map(4)) == ("Old one. Old two.", ("message:1", 4))
    assert (piece.tokens_before, piece.tokens_after, piece.method) == (4, 2, "first-sentences")
    assert [s.source_end for s in result.compressions[3].segments] == [8, 17]


def test_an_exchange_of_which_a_side_is_empty_vanishes_whole_and_leaves_its_room():
    compressor = FirstSentences()
    result = compress(CHAT, 13, compressor)  # two tokens for the older messages
    assert [call[2] for call in compressor.calls] == [5, 5]
    assert compressor.calls[1][0] == ["New one. New two."]
    assert contents(result) == ["Be brief.", "New one. New two.", "Answer one. Answer two.", "And now?"]
    assert result.dropped == (1, 2)
    assert (result.places, result.tokens_after) == ((0, 3, 4, 5), 12)


def test_a_message_whose_answer_stays_keeps_its_last_sentence():
    chat = chat_of("Long one here. Two.", "Answer.", "And now?")
    result = compress(chat, 4)
    assert contents(result) == ["Two.", "Answer.", "And now?"]
    assert [s.reason for s in result.compressions[0].segments] == ["kept"]
    with pytest.raises(BudgetError) as caught:
        compress(chat, 3)
    assert (caught.value.needed, caught.value.available) == (4, 3)


def test_what_is_protected_keeps_its_exchange():
    chat = chat_of("Code is A-17. Hm.", "One. Two.", "Three. Four.", "Five. Six.", "And now?")
    options = {"protection": Protection(patterns=[r"A-\d+"])}
    assert contents(compress(chat, 10, **options)) == [
        "Code is A-17.",
        "One.",
        "Three. Four.",
        "Five. Six.",
        "And now?",
    ]
    with pytest.raises(BudgetError) as caught:
        compress(chat, 7, **options)
    assert (caught.value.needed, caught.value.available) == (9, 7)
    assert contents(compress(chat, 7)) == ["Three. Four.", "Five. Six.", "And now?"]


def test_what_must_stay_does_not_fit():
    with pytest.raises(BudgetError, match="takes 8 tokens, and the budget is 7") as caught:
        compress([CHAT[0], *CHAT[4:]], 7)
    assert (caught.value.needed, caught.value.available) == (8, 7)


def test_the_last_question_stays_even_if_nothing_else_is_asked_to():
    result = compress(CHAT, 4, keep_last=0, keep_system=False)
    assert contents(result)[-1] == "And now?"
    assert result.tokens_after <= 4
    with pytest.raises(BudgetError):
        compress(CHAT, 1, keep_last=0, keep_system=False)


def test_system_messages_are_compressed_when_allowed():
    chat = chat_of("And now?", system="Be brief. Be kind. Be true.")
    assert contents(compress(chat, 6, keep_system=False, keep_last=1)) == ["Be brief. Be kind.", "And now?"]
    assert contents(compress(chat, 3, keep_system=False, keep_last=1)) == ["And now?"]
    with pytest.raises(BudgetError):
        compress(chat, 6, keep_last=1)


def test_tokens_of_the_template_count():
    assert count_chat(CHAT) == 35
    for budget in range(15, 36):
        try:
            result = compress(CHAT, budget, count_messages=count_chat)
        except BudgetError as error:
            assert budget < error.needed
        else:
            assert result.tokens_after == count_chat(result.messages) <= budget
    assert compress(CHAT, 35, count_messages=count_chat).tokens_before == 35


def test_a_counter_that_does_not_add_up_is_obeyed():
    def count(messages):
        return count_chat(messages) + sum(m.content.count("one") for m in messages)  # what the compressor does not see

    for budget in range(23, 40):
        result = compress(CHAT, budget, count_messages=count)
        assert result.tokens_after == count(result.messages) <= budget


def test_another_question_may_be_given():
    compressor = FirstSentences()
    compress(CHAT, 18, compressor, question="What was old?")
    assert [call[1] for call in compressor.calls] == ["What was old?"]
    compress([Message("assistant", "One. Two."), Message("assistant", "Three.")], 2, compressor, keep_last=1)
    assert compressor.calls[-1][1] == ""


def test_messages_without_text_stay_with_their_exchange():
    chat = chat_of("One. Two.", "", "Three. Four.", "Five.", "Six.")
    result = compress(chat, 5)
    assert contents(result) == ["One.", "", "Three. Four.", "Five.", "Six."]
    assert result.compressions[1] is None
    assert contents(compress(chat, 3)) == ["Three.", "Five.", "Six."]


def test_an_empty_chat_fits():
    result = compress([], 0)
    assert (result.messages, result.tokens_before, result.tokens_after) == ((), 0, 0)
    assert compress([], 0, count_messages=count_chat).tokens_after == 0


SENTENCES = st.lists(
    st.sampled_from(["One two.", "Go!", "It was A-17 then.", "What is it about?", "Never say five of them.", "Stop."]),
    max_size=5,
).map(" ".join)


@st.composite
def chats(draw):
    """A chat in which user and assistant take turns, with or without a system message."""
    system = draw(st.none() | SENTENCES)
    return chat_of(*draw(st.lists(SENTENCES, min_size=1, max_size=8)), system=system)


COMPRESSORS = st.sampled_from([FirstSentences(), ExtractiveCompressor()])
OPTIONS = st.fixed_dictionaries(
    {
        "keep_last": st.integers(0, 4),
        "keep_system": st.booleans(),
        "count_messages": st.none() | st.just(count_chat),
        "protection": st.none() | st.just(Protection(patterns=[r"A-\d+"])),
    }
)


@given(chats(), st.integers(0, 60), COMPRESSORS, OPTIONS)
def test_promises(chat, budget, compressor, options):
    try:
        result = compress(chat, budget, compressor, **options)
    except BudgetError as error:
        assert error.needed > error.available == budget
        return
    count = options["count_messages"] or (lambda messages: sum(count_words(m.content) for m in messages))
    assert result.tokens_after == (count(result.messages) if result.messages else 0) <= budget
    assert result.tokens_before == count(chat)
    assert sorted([*result.places, *result.dropped]) == list(range(len(chat)))
    assert list(result.places) == sorted(result.places)
    for message, place, piece in zip(result.messages, result.places, result.compressions, strict=True):
        original = chat[place]
        assert message.role == original.role
        assert bool(message.content.strip()) == bool(original.content.strip())
        if piece is None:
            assert message == original
        else:
            assert message.content == piece.text
            assert piece.restore() == original.content
            assert all(
                piece.text[s.start : s.end] == original.content[s.source_start : s.source_end] for s in piece.segments
            )
            assert piece.tokens_after == count_words(piece.text)
        if options["protection"]:
            assert message.content.count("A-17") == original.content.count("A-17")
    whole = {len(chat) - 1, *range(max(0, len(chat) - options["keep_last"]), len(chat))}
    whole |= {i for i, message in enumerate(chat) if options["keep_system"] and message.role == "system"}
    for place in whole:
        assert result.messages[result.places.index(place)] == chat[place]
    if options["protection"]:
        assert not any("A-17" in chat[place].content for place in result.dropped)
    roles = [message.role for message in result.messages if message.role != "system"]
    assert all(before != after for before, after in itertools.pairwise(roles))
    if result.tokens_before <= budget:
        assert result.messages == tuple(chat)


@given(chats(), st.integers(0, 60), OPTIONS)
def test_what_is_said_to_be_needed_is_enough(chat, budget, options):
    for _ in range(20):
        try:
            compress(chat, budget, **options)
        except BudgetError as error:
            assert error.needed > budget
            budget = error.needed
        else:
            return
    pytest.fail("asked for more and more")


class Careless:
    """Gives back what it was made with, whatever is asked."""

    name = "careless"

    def __init__(self, text, segments):
        self.text, self.segments = text, segments

    def compress(self, sources, *, count_tokens, budget=None, rate=None, question="", keep=()):
        return Compression(self.text, self.segments, (), tuple(sources), 9, 1, self.name, 0.0)


@pytest.mark.parametrize(
    ("text", "segments", "message"),
    [
        ("One", (), "returned no segments"),
        ("One Two One", tuple(Segment(i, i + 3, i // 4 % 2, 0, 3) for i in (0, 4, 8)), "mixes the sources"),
        ("", (), "`keep` had a span"),
    ],
)
def test_a_compressor_that_breaks_its_promises_is_named(text, segments, message):
    chat = chat_of("One. Two.", "Three. Four.", "Five. Six.")
    with pytest.raises(CompressionError, match=message) as caught:
        compress(chat, 4, Careless(text, segments), keep_last=1, protection=Protection(patterns=["Two"]))
    assert "careless" in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        (["text"], {}, "sequence of `Message`, got 'text'"),
        ([{"role": "user", "content": "x"}], {}, "sequence of `Message`, got {"),
        (CHAT, {"budget": -1}, "`budget` must be at least 0, got -1"),
        (CHAT, {"keep_last": -1}, "`keep_last` must be at least 0, got -1"),
    ],
)
def test_what_cannot_work_is_refused(messages, options, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        compress(messages, **({"budget": 20} | options))


PROMPT = "You are kind. Never use more than 30 words. You like tea. Write dates as 2024-01-05. Be nice."


@pytest.mark.parametrize(
    "compressor", [FirstSentences(), ExtractiveCompressor()], ids=lambda compressor: compressor.name
)
def test_prompts_keep_all_that_is_recognised(compressor):
    result = compress_prompt(PROMPT, compressor, budget=14, count_tokens=count_words)
    assert "Never use more than 30 words." in result.text
    assert "Write dates as 2024-01-05." in result.text
    assert result.tokens_after <= 14 < result.tokens_before
    with pytest.raises(BudgetError) as caught:
        compress_prompt(PROMPT, compressor, budget=9, count_tokens=count_words)
    assert caught.value.needed > caught.value.available == 9


def test_prompts_keep_what_is_asked_for():
    free = {"count_tokens": count_words, "protection": Protection(kinds=())}
    at = PROMPT.index("tea")
    assert compress_prompt(PROMPT, FirstSentences(), budget=3, keep=[(at, at + 3)], **free).text == "You like tea."
    assert compress_prompt(PROMPT, FirstSentences(), budget=3, **free).text == "You are kind."
    assert compress_prompt(PROMPT, FirstSentences(), rate=1, **free).text == PROMPT
    assert compress_prompt(PROMPT, FirstSentences(), rate=0.5, **free).tokens_after <= 9
    with pytest.raises(ConfigurationError, match="exactly one"):
        compress_prompt(PROMPT, FirstSentences(), **free)
    with pytest.raises(ConfigurationError, match="characters"):
        compress_prompt("short", FirstSentences(), budget=3, keep=[(0, 9)], **free)


def test_prompts_take_a_question():
    text = "Cats sleep a lot. The tower is tall. Dogs bark at night."
    free = {"count_tokens": count_words, "protection": Protection(kinds=())}
    assert (
        compress_prompt(text, ExtractiveCompressor(), budget=4, question="How tall is the tower?", **free).text
        == "The tower is tall."
    )
