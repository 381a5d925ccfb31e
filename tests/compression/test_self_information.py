"""Compression by a model's own scores: what stays is verbatim, what must stay stays, and the budget is kept."""

import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag import BudgetError, Chunk, ConfigurationError
from leanrag.compression.self_information import SelfInformationCompressor, split_words, word_information
from leanrag.errors import CompressionError, ContextOverflowError
from leanrag.evidence.protection import Protection
from leanrag.evidence.units import split_units
from leanrag.protocols import ComputesAhead
from leanrag.types import Scores
from tests.examples import max_examples

PIECE = 4  # characters of a token of the stand-in


class StrictScorer:
    """Finds a token likely when it read it before; refuses what a real model refuses."""

    def __init__(self, n_ctx=256, name="strict"):
        self.name, self.n_ctx = name, n_ctx
        self.pairs = 0
        self.scored = 0

    def tokenize(self, text):
        assert isinstance(text, str)
        return [(zlib.crc32(text[i : i + PIECE].encode("utf-8", "replace")), i) for i in range(0, len(text), PIECE)]

    def score_many(self, pairs):
        return [self._score(condition, tokens) for condition, tokens in pairs]

    def _score(self, condition, tokens):
        assert condition is None or (isinstance(condition, str) and condition), "the prompt is empty"
        assert tokens
        assert all(isinstance(token, int) and 0 <= token < 2**32 for token in tokens)
        before = [token for token, _ in self.tokenize(condition or "")]
        if len(before) + len(tokens) > self.n_ctx:
            raise ContextOverflowError("too long", needed=len(before) + len(tokens), available=self.n_ctx)
        self.pairs += 1
        self.scored += len(tokens)
        seen, logprobs = set(before), []
        for token in tokens:
            logprobs.append(-0.25 if token in seen else -2.0 - token % 8)
            seen.add(token)
        return Scores(tuple(tokens), tuple(logprobs if before else [None, *logprobs[1:]]))


def count_words(text):
    return len(text.split())


def count_bytes(text):
    return len(text.encode("utf-8", "surrogatepass"))


def count_pairs(text):
    return (len(text) + 1) // 2


COUNTERS = (count_words, count_bytes, count_pairs)

NASTY = st.sampled_from(
    [
        "The tower was built in 1889 and is 330 m high.", "It is not open on 4 March 2021.", "`code()` and \"a quotation\".",
        "東京は日本の首都である。", "カタカナとひらがな", "برج إيفل في باريس.", "😀😃👩‍👩‍👧", "aGVsbG8gd29ybGQ=" * 8,
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "# Heading", "\n\n", "\t", " ", "a", "x" * 70, "e\u0301", "\ud800",
        "https://example.org/a?b=c", "- item\n- item", "```\nx = 1\n```\n",
    ]
)  # fmt: skip
texts = st.lists(st.one_of(NASTY, st.text(max_size=12)), max_size=8).map(" ".join)
compressors = st.builds(
    lambda **options: SelfInformationCompressor(StrictScorer(), **options),
    unit=st.sampled_from(["word", "sentence"]),
    alignment=st.sampled_from(["aligned", "shifted"]),
    contrast=st.booleans(),
    rank_documents=st.booleans(),
    dynamic_ratio=st.sampled_from([0.0, 0.3, 1.0]),
    spare=st.sampled_from([0.0, 0.25, 5.0]),
    iterative=st.booleans(),
)
many = max_examples(60, suppress_health_check=[HealthCheck.too_slow])


@many
@given(
    compressor=compressors,
    sources=st.lists(texts, max_size=4),
    budget=st.integers(0, 60),
    count=st.sampled_from(COUNTERS),
    question=st.sampled_from(["", "How high is the tower?", "東京?"]),
)
def test_never_over_budget_and_verbatim(compressor, sources, budget, count, question):
    result = compressor.compress(sources, budget=budget, count_tokens=count, question=question)
    assert result.tokens_after == (count(result.text) if result.text else 0) <= max(budget, 0)
    at = 0
    for segment in result.segments:
        assert (
            result.text[segment.start : segment.end]
            == sources[segment.source][segment.source_start : segment.source_end]
        )
        assert not result.text[at : segment.start].strip()
        at = segment.end
    assert not result.text[at:].strip()
    assert compressor.compress(sources, budget=budget, count_tokens=count, question=question).text == result.text


@many
@given(
    compressor=compressors,
    sources=st.lists(texts, min_size=1, max_size=3),
    rate=st.floats(0.05, 0.95),
    count=st.sampled_from(COUNTERS),
)
def test_words_and_protected_spans_stay_whole(compressor, sources, rate, count):
    result = compressor.compress(sources, rate=rate, count_tokens=count, question="How high is the tower?")
    for number, text in enumerate(sources):
        kept = [(s.source_start, s.source_end) for s in result.segments if s.source == number]
        units = [(0, len(text))] if compressor._unit == "word" else [(u.start, u.end) for u in split_units(text)]
        whole = [*split_words(text), *Protection().spans(text)]
        for start, end in [
            (max(a, low), min(b, high)) for a, b in whole for low, high in units if a < high and low < b
        ]:
            inside = any(low <= start and end <= high for low, high in kept)
            outside = all(end <= low or high <= start for low, high in kept)
            assert inside or outside


@many
@given(
    compressor=compressors,
    sources=st.lists(texts, min_size=1, max_size=3),
    data=st.data(),
    count=st.sampled_from(COUNTERS),
)
def test_what_was_asked_for_stays_or_the_budget_is_too_small(compressor, sources, data, count):
    keep = []
    for text in sources:
        start = data.draw(st.integers(0, len(text)))
        keep.append([(start, data.draw(st.integers(start + 1, len(text))))] if start < len(text) else [])
    budget = data.draw(st.integers(0, 80))
    try:
        result = compressor.compress(sources, budget=budget, count_tokens=count, question="Why?", keep=keep)
    except BudgetError as error:
        assert error.available == budget < error.needed
        return
    for number, (text, spans) in enumerate(zip(sources, keep, strict=True)):
        kept = {i for s in result.segments if s.source == number for i in range(s.source_start, s.source_end)}
        for start, end in spans:
            assert all(i in kept or text[i].isspace() for i in range(start, end))


@many
@given(compressor=compressors, sources=st.lists(texts, max_size=3), count=st.sampled_from(COUNTERS))
def test_what_fits_is_returned_as_it_is(compressor, sources, count):
    before = "\n\n".join(sources)
    assert compressor.compress(sources, rate=1, count_tokens=count).text == before
    assert compressor.compress(sources, budget=count(before) if before else 0, count_tokens=count).text == before
    assert compressor._scorer.pairs == 0


# What is chosen


def surprise(**information):
    """A scorer to which each word, with the space before it, is a token as surprising as told."""

    words = list(information)

    class WordScorer(StrictScorer):
        def tokenize(self, text):
            spans = split_words(text)
            starts = [0, *(end for _, end in spans[:-1])]
            return [
                (words.index(text[s:e]) if text[s:e] in words else 999, at)
                for (s, e), at in zip(spans, starts, strict=False)
            ]

        def _score(self, condition, tokens):
            values = [information[words[token]] if token != 999 else 1.0 for token in tokens]
            return Scores(tuple(tokens), tuple(-value for value in values))

    return WordScorer()


def test_keeps_the_words_that_the_model_could_not_guess():
    scorer = surprise(he=0.1, earned=3.0, sixty=9.0, on=0.2, monday=6.0)
    compressor = SelfInformationCompressor(scorer, unit="word")
    result = compressor.compress("he earned sixty on monday", budget=2, count_tokens=count_words)
    assert result.text == "sixty monday"
    assert [(s.reason, s.score) for s in result.segments] == [
        ("surprising", pytest.approx(9.0)),
        ("surprising", pytest.approx(6.0)),
    ]
    assert [(d.source_start, d.source_end, d.reason) for d in result.dropped] == [(0, 9, "budget"), (16, 18, "budget")]


def test_shifted_keeps_the_words_before_the_surprises():
    scorer = surprise(he=0.1, earned=3.0, sixty=9.0, on=0.2, monday=6.0)
    compressor = SelfInformationCompressor(scorer, unit="word", alignment="shifted")
    assert compressor.compress("he earned sixty on monday", budget=1, count_tokens=count_words).text == "earned"


def test_a_protected_span_counts_as_one_word_worth_its_most_surprising():
    scorer = surprise(cost=5.0, about=0.1, **{"$30": 0.3, "million": 7.0, "then": 6.0})
    compressor = SelfInformationCompressor(scorer, unit="word")
    result = compressor.compress("cost about $30 million then", budget=2, count_tokens=count_words)
    assert result.text == "$30 million"


def test_a_word_too_large_for_the_room_leaves_it_to_smaller_ones():
    scorer = surprise(aaaaaaaaaaaaaaaaaaaa=9.0, bb=5.0, cc=4.0, dd=1.0)
    compressor = SelfInformationCompressor(scorer, unit="word")
    assert compressor.compress("aaaaaaaaaaaaaaaaaaaa bb cc dd", budget=5, count_tokens=len).text == "bb cc"


def test_contrast_keeps_what_the_question_makes_likely():
    text = "rain fell; the dome gold in sun"
    compressor = SelfInformationCompressor(StrictScorer(), unit="word", contrast=True)
    result = compressor.compress(text, budget=1, count_tokens=count_words, question="xxxx" + "rain fell" + "?")
    assert result.text in {"rain", "fell;"}


def test_the_source_that_makes_the_question_likely_comes_first():
    sources = ["alpha beta gamma delta epsilon", "what is the height of towers", "zeta eta theta iota kappa"]
    compressor = SelfInformationCompressor(StrictScorer(), unit="word", spare=0.0)
    question = "is the height of towers"  # in step with the pine characters of the tokens
    kept = compressor.compress(sources, budget=6, count_tokens=count_words, question=question)
    assert {segment.source for segment in kept.segments} == {1}
    assert {(d.source, d.reason) for d in kept.dropped} == {(0, "irrelevant"), (2, "irrelevant")}
    by_order = SelfInformationCompressor(StrictScorer(), unit="word", spare=0.0, rank_documents=False)
    assert {
        s.source for s in by_order.compress(sources, budget=5, count_tokens=count_words, question=question).segments
    } == {0}


def test_the_first_source_keeps_the_larger_share():
    words = [f"w{i:03d}" for i in range(60)]
    scorer = surprise(**{word: 1 + (i * 7 % 20) / 4 for i, word in enumerate(words)})
    sources = [" ".join(words[:20]), " ".join(words[20:40]), " ".join(words[40:])]
    shares = {}
    for ratio in (0.0, 0.4):
        compressor = SelfInformationCompressor(
            scorer, unit="word", dynamic_ratio=ratio, spare=9, protection=Protection(kinds=())
        )
        result = compressor.compress(sources, budget=30, count_tokens=count_words)
        shares[ratio] = [
            len(" ".join(result.text[s.start : s.end] for s in result.segments if s.source == n).split())
            for n in range(3)
        ]
    assert shares[0.0] == [10, 10, 10]
    assert shares[0.4][0] > shares[0.4][1] > shares[0.4][2]
    assert sum(shares[0.4]) == 30


def test_sentences_that_make_the_question_likely_stay_whole():
    text = "Rain fell in March. The tall tower is by a river. Bread is sold there."
    compressor = SelfInformationCompressor(StrictScorer())
    result = compressor.compress(text, budget=8, count_tokens=count_words, question="tower is by a river")
    assert "The tall tower is by a river." in result.text
    assert {segment.reason for segment in result.segments} == {"relevant"}


def test_words_stay_when_no_sentence_fits():
    compressor = SelfInformationCompressor(StrictScorer())
    result = compressor.compress(
        "oak fir cedar pine teak elm maple", budget=3, count_tokens=count_words, question="teak?"
    )
    assert result.tokens_after == 3
    assert {segment.reason for segment in result.segments} == {"surprising"}


# What is asked for


def test_patterns_and_keep_are_in_the_result_and_say_so():
    compressor = SelfInformationCompressor(StrictScorer(), unit="word", protection=Protection(patterns=[r"cedar"]))
    result = compressor.compress("oak fir cedar pine teak elm", budget=2, count_tokens=count_words, keep=[(19, 23)])
    assert result.text == "cedar teak"
    assert {segment.reason for segment in result.segments} == {"kept"}


def test_everywhere_keeps_protected_spans_and_says_so():
    compressor = SelfInformationCompressor(StrictScorer(), unit="word", protection=Protection(everywhere=True))
    result = compressor.compress("about some 330 words more", budget=2, count_tokens=count_words)
    assert "330" in result.text
    assert "protected" in {segment.reason for segment in result.segments}


def test_what_was_asked_of_a_source_that_is_left_out_stays():
    compressor = SelfInformationCompressor(StrictScorer(), unit="word", spare=0.0)
    result = compressor.compress(
        ["a b c d e f", "g h i j k l"], budget=4, count_tokens=count_words, keep=[[], [(0, 1), (10, 11)]]
    )
    assert result.text.endswith("g l")
    assert result.tokens_after == 4


def test_a_required_word_in_a_sentence_that_does_not_fit():
    compressor = SelfInformationCompressor(StrictScorer())
    result = compressor.compress(
        "oak fir cedar pine teak", budget=2, count_tokens=count_words, question="q", keep=[(4, 7)]
    )
    assert "fir" in result.text.split()
    assert result.tokens_after == 2


def test_what_must_stay_and_does_not_fit_is_an_error_before_anything_is_scored():
    scorer = StrictScorer()
    with pytest.raises(BudgetError) as caught:
        SelfInformationCompressor(scorer).compress("oak fir cedar", budget=1, count_tokens=count_words, keep=[(0, 7)])
    assert (caught.value.needed, caught.value.available) == (2, 1)
    assert scorer.pairs == 0


# Bad input


@pytest.mark.parametrize("unit", ["word", "sentence"])
@pytest.mark.parametrize(
    "text",
    [
        "", " \n ", "word", "x" * 9000, "word " * 10_000, "東京は日本の首都である。" * 200, "برج إيفل في باريس " * 100,
        "😀" * 500, "👩‍👩‍👧 " * 200,
        "aGVsbG8gd29ybGQ=" * 400, "\ud800 lone", "a\u0301" * 100, "\u200b" * 50,
    ],
    ids=range(13),
)  # fmt: skip
@pytest.mark.parametrize("budget", [0, 1, 40])
@pytest.mark.slow
def test_bad_input(text, budget, unit):
    compressor = SelfInformationCompressor(StrictScorer(), unit=unit)
    for count in COUNTERS:
        result = compressor.compress(text, budget=budget, count_tokens=count, question="Why?")
        assert result.tokens_after == (count(result.text) if result.text else 0) <= budget


def test_no_sources():
    result = SelfInformationCompressor(StrictScorer()).compress([], budget=5, count_tokens=count_words, question="Why?")
    assert (result.text, result.segments, result.tokens_before) == ("", (), 0)


def test_a_budget_of_nothing_scores_nothing():
    scorer = StrictScorer()
    result = SelfInformationCompressor(scorer).compress(
        ["oak fir", "cedar"], budget=0, count_tokens=count_words, question="Why?"
    )
    assert (result.text, scorer.pairs) == ("", 0)
    assert [(d.source, d.source_start, d.source_end) for d in result.dropped] == [(0, 0, 7), (1, 0, 5)]


def test_a_very_long_question_is_read_from_its_beginning():
    compressor = SelfInformationCompressor(StrictScorer(), contrast=True, unit="word")
    result = compressor.compress(
        ["oak fir cedar", "pine teak"], budget=2, count_tokens=count_words, question="why " * 5000
    )
    assert result.tokens_after == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "token"}, "one of 'word', 'sentence', got 'token'"),
        ({"alignment": "left"}, "one of 'aligned', 'shifted', got 'left'"),
        ({"dynamic_ratio": 1.5}, r"in \[0, 1\], got 1.5"),
        ({"spare": -1.0}, "at least 0, got -1.0"),
        ({"spare": float("nan")}, "at least 0, got nan"),
        ({"iterative": True, "stored": lambda chunk: None}, "cannot use `stored` values"),
    ],
)
def test_arguments_that_cannot_work(options, message):
    with pytest.raises(ConfigurationError, match=message):
        SelfInformationCompressor(StrictScorer(), **options)


def test_a_window_too_small_for_anything():
    with pytest.raises(ConfigurationError, match="at least 64 tokens, got 16"):
        SelfInformationCompressor(StrictScorer(n_ctx=16))


def test_a_model_that_fails_is_a_compression_error():
    class FailingScorer(StrictScorer):
        def _score(self, condition, tokens):
            raise ContextOverflowError("too long", needed=2, available=1)

    with pytest.raises(CompressionError, match="strict could not score the sources: too long") as caught:
        SelfInformationCompressor(FailingScorer()).compress(
            "oak fir", budget=1, count_tokens=count_words, question="Why?"
        )
    assert isinstance(caught.value.__cause__, ContextOverflowError)
    assert not isinstance(caught.value, BudgetError)


# What is stored


def chunk(text):
    return Chunk("d", 0, len(text), text)


@many
@given(text=texts, budget=st.integers(0, 30), contrast=st.booleans())
def test_stored_values_choose_the_same_words(text, budget, contrast):
    bare = SelfInformationCompressor(StrictScorer(), unit="word", contrast=contrast)
    (data,) = bare.precompute([chunk(text)])
    assert len(data) == 8 + len(split_words(text))
    stored = SelfInformationCompressor(StrictScorer(), unit="word", contrast=contrast, stored=lambda _: data)
    options = {"budget": budget, "count_tokens": count_words, "question": "How high?"}
    assert stored.compress(chunk(text), **options).text == bare.compress(chunk(text), **options).text


def test_another_source_of_stored_values_leaves_the_compressor_as_it_was():
    scorer = StrictScorer()
    compressor = SelfInformationCompressor(scorer, unit="word", rank_documents=False)
    assert isinstance(compressor, ComputesAhead)
    source = chunk("The old tower stands in Paris and is tall")
    (data,) = compressor.feature.compute([source])
    scored = scorer.pairs
    options = {"budget": 5, "count_tokens": count_words}
    text = compressor.with_stored(lambda _: data).compress(source, **options).text
    assert scorer.pairs == scored
    assert compressor.compress(source, **options).text == text
    assert scorer.pairs > scored


def test_with_stored_values_nothing_is_scored_but_the_question():
    chunks = [chunk("oak fir cedar pine teak"), chunk("elm maple aspen lime bay")]
    data = dict(
        zip([c.text for c in chunks], SelfInformationCompressor(StrictScorer()).precompute(chunks), strict=True)
    )
    options = {"budget": 4, "count_tokens": count_words, "question": "Lime?"}
    scorer = StrictScorer()
    SelfInformationCompressor(scorer, unit="word", stored=lambda c: data[c.text]).compress(chunks, **options)
    assert (scorer.pairs, scorer.scored) == (2, 2 * len(scorer.tokenize("\n\nNine?")))
    scorer = StrictScorer()
    SelfInformationCompressor(scorer, unit="word", rank_documents=False, stored=lambda c: data[c.text]).compress(
        chunks, **options
    )
    assert scorer.pairs == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", lambda data: data[:3],
        lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:], lambda data: None,
    ],
    ids=["torn", "long", "empty", "header", "format", "flipped", "none"],
)  # fmt: skip
def test_damaged_bytes_are_passed_over(spoil):
    scorer = StrictScorer()
    own = chunk("oak fir cedar pine")
    (data,) = SelfInformationCompressor(scorer).precompute([own])
    scorer.pairs = 0
    compressor = SelfInformationCompressor(scorer, unit="word", stored=lambda _: spoil(data))
    assert compressor.compress(own, budget=2, count_tokens=count_words).tokens_after == 2
    assert scorer.pairs == 1


@pytest.mark.parametrize("other", [{"name": "another"}, {"alignment": "shifted"}, {"text": "oak fir cedar teak"}])
def test_bytes_of_another_model_setting_or_text_are_passed_over(other):
    options = {"alignment": other["alignment"]} if "alignment" in other else {}
    foreign = SelfInformationCompressor(StrictScorer(name=other.get("name", "strict")), **options)
    (data,) = foreign.precompute([chunk(other.get("text", "oak fir cedar pine"))])
    scorer = StrictScorer()
    compressor = SelfInformationCompressor(scorer, unit="word", stored=lambda _: data)
    compressor.compress(chunk("oak fir cedar pine"), budget=2, count_tokens=count_words)
    assert scorer.pairs == 1


def test_the_feature_is_named_after_what_changes_its_values():
    features = {
        SelfInformationCompressor(StrictScorer(name=name), alignment=alignment).feature.name
        for name in ("a", "b")
        for alignment in ("aligned", "shifted")
    }
    assert len(features) == 4
    compressor = SelfInformationCompressor(StrictScorer())
    assert compressor.feature.compute([chunk("oak fir")]) == compressor.precompute([chunk("oak fir")])


# Words and their information


@given(text=texts)
def test_words_are_all_of_a_text_but_white_space(text):
    spans = split_words(text)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert all(start < end for start, end in spans)


def test_words_of_scripts_without_spaces():
    text = "GPUは東京タワーです、ok 한국어 สวัสดี"
    assert [text[start:end] for start, end in split_words(text)] == [
        "GPU", "は", "東", "京", "タワー", "です、", "ok", "한국어", "สวัสดี",
    ]  # fmt: skip


def test_a_token_over_several_words_counts_for_each_and_one_in_white_space_for_none():
    values = word_information([(0, 1), (1, 2), (4, 5)], [0, 2, 4], np.array([3.0, 9.0, 1.0]))
    assert values.tolist() == [3.0, 3.0, 1.0]


def test_tokens_that_begin_in_one_character_count_for_its_word():
    values = word_information([(0, 1), (1, 2)], [0, 0, 0, 1], np.array([1.0, 5.0, 2.0, 4.0]))
    assert values.tolist() == [5.0, 4.0]


# Real weights


@pytest.mark.model
def test_a_real_model_ranks_the_passage_that_answers(smollm):
    sources = [
        "Whales are mammals that live in the sea and breathe air through a blowhole on top of the head.",
        "The Eiffel Tower in Paris was built by the company of Gustave Eiffel between 1887 and 1889.",
        "Bread is made of flour, water and yeast, and it is baked in an oven until the crust is brown.",
    ]
    compressor = SelfInformationCompressor(smollm)
    result = compressor.compress(
        sources, budget=30, count_tokens=smollm.count_tokens, question="Who built the Eiffel Tower?"
    )
    assert result.text == sources[1]


@pytest.mark.model
def test_a_real_model_keeps_what_cannot_be_guessed(smollm):
    text = "The capital of France is Paris and the capital of the United States of America is Zanzibar."
    compressor = SelfInformationCompressor(smollm, unit="word")
    result = compressor.compress(text, budget=12, count_tokens=smollm.count_tokens)
    assert "Zanzibar." in result.text
    assert "America" not in result.text  # "United States of" says it
    assert result.tokens_after <= 12


@pytest.mark.model
def test_a_real_model_reads_texts_longer_than_its_window(smollm):
    class NarrowScorer:
        name, n_ctx = smollm.name, 128
        tokenize, score_many = smollm.tokenize, smollm.score_many

    text = "The clerk wrote a letter to the bank about the loan. " * 12
    (data,) = SelfInformationCompressor(NarrowScorer()).precompute([chunk(text)])
    values = np.frombuffer(data[8:], np.uint8)
    assert len(smollm.tokenize(text)) > 128
    assert len(values) == len(split_words(text)) == 132
    assert (
        values[:11].mean() > 3 * values[-55:].mean()
    )  # what was read several times is no surprise, in later windows too
