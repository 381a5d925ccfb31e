"""Many requests in one context: each gets what it would alone, what they share is computed once, and none disturbs the others."""

import asyncio
import math
import threading
from typing import Literal

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import (
    CancelToken,
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationTimeout,
    LlamaCppModel,
    Message,
)
from leanrag.llama import ComputeOptions
from leanrag.llama.options import LlamaOptions
from leanrag.models import resolve
from leanrag.protocols import GenerateOptions
from tests.examples import max_examples
from tests.plain import Alike, consistent, decoding_waits, plain_logits, within

CONTEXT = "the quick brown fox jumps over the lazy dog and runs away "
TAILS = ["who?", "what is it?", "when was that, please?", "why"]


# Together as alone


def test_together_they_get_what_each_gets_alone(tiny, tiny_gguf):
    prompts = [CONTEXT[: 5 + 3 * i] + tail for i in range(4) for tail in TAILS]
    alone = [tiny.generate(prompt, max_tokens=12) for prompt in prompts]
    with LlamaCppModel(tiny_gguf, threads=1, parallel=5) as model:
        together = model.generate_many(prompts, max_tokens=12)
        assert consistent(model._engine)
    assert list(map(Alike, together)) == list(map(Alike, alone))
    assert [g.usage.prompt_tokens for g in together] == [tiny.count(prompt) for prompt in prompts]
    for a, b in zip(together, alone, strict=True):
        if a.token_ids == b.token_ids:
            assert a.logprobs == pytest.approx(b.logprobs, abs=within(1e-3))


def test_more_than_the_queue_takes(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1, parallel=2, max_queue=1) as model:
        assert [g.usage.completion_tokens for g in model.generate_many(["ab"] * 9, max_tokens=1)] == [1] * 9


def test_one_that_fails_stops_the_others(tiny):
    with pytest.raises(ContextOverflowError):
        tiny.generate_many(["ab", "x" * 300, "cd"], max_tokens=8)
    assert tiny.generate("ab", max_tokens=2).usage.completion_tokens == 2


def test_a_cancelled_one_leaves_the_others_alone(tiny, tiny_gguf, monkeypatch):
    expected = tiny.generate(CONTEXT, max_tokens=40).text
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        with decoding_waits(monkeypatch, after=30):
            cancelled = model.stream(CONTEXT + "who?", GenerateOptions(60))
            kept = model.stream(CONTEXT, GenerateOptions(40))
            next(iter(cancelled))  # leaving the loop is cancelling
        assert kept.result.text == expected
        with pytest.raises(GenerationCancelled):
            _ = cancelled.result
        assert model.generate(CONTEXT, max_tokens=40).text == expected
        assert consistent(model._engine)


def test_an_error_in_the_middle_of_a_batch_is_its_own(tiny, tiny_gguf):
    class Broken:
        def __call__(self, logits):
            raise ZeroDivisionError

    with LlamaCppModel(tiny_gguf, threads=1) as model:
        good = model.stream("abc", GenerateOptions(20))
        bad = model.stream("abd", GenerateOptions(20))
        bad._pending.choose = Broken()
        assert good.result.text == tiny.generate("abc", max_tokens=20).text
        with pytest.raises(ZeroDivisionError):
            _ = bad.result
        assert consistent(model._engine)


# Beginnings that are shared


def test_a_beginning_that_was_seen_is_not_computed_again(tiny_gguf, tiny):
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        cold = model.generate(CONTEXT + TAILS[0], max_tokens=10)
        warm = model.generate(CONTEXT + TAILS[1], max_tokens=10)
        again = model.generate(CONTEXT + TAILS[1], max_tokens=10)
        back = model.generate(CONTEXT + TAILS[0], max_tokens=10)
        assert consistent(model._engine)
    shared = cold.usage.prompt_tokens - len(TAILS[0])
    assert cold.usage.cached_tokens == 0
    assert warm.usage.cached_tokens >= shared - 1
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1  # the last is computed for its logits
    assert back.usage.cached_tokens >= shared - 1
    assert Alike(back) == Alike(cold)
    assert Alike(again) == Alike(warm)
    assert Alike(warm) == Alike(tiny.generate(CONTEXT + TAILS[1], max_tokens=10))


def test_a_long_end_is_put_away_before_another_takes_its_place(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        cold = model.generate(CONTEXT + "x" * 80, max_tokens=10)
        model.generate(CONTEXT + "y" * 80, max_tokens=10)
        back = model.generate(CONTEXT + "x" * 80, max_tokens=10)
        assert consistent(model._engine)
    assert back.usage.cached_tokens == back.usage.prompt_tokens - 1
    assert Alike(back) == Alike(cold)


@pytest.mark.model
def test_what_was_asked_before_changes_no_probability():
    facts = "The Falcon service is kept by Ada Park, in Oslo. The Raven service is kept by Mia Kern, in Lyon. " * 3
    asked = [facts + f"Question: Who keeps the {name} service?\nAnswer:" for name in ("Falcon", "Raven", "Heron")]

    def answers(model, prompts):
        return [(g.token_ids, g.logprobs) for g in (model.generate(prompt, max_tokens=12) for prompt in prompts)]

    alone = []
    for prompt in asked:
        with LlamaCppModel(resolve("smollm2-135m"), n_ctx=512, threads=2) as model:
            alone += answers(model, [prompt])
    with LlamaCppModel(resolve("smollm2-135m"), n_ctx=512, threads=2) as model:
        model.generate(asked[0][:200] + " and so on", max_tokens=3)
        assert answers(model, [*asked, *asked[::-1]]) == [*alone, *alone[::-1]]


def test_questions_on_one_context_at_once_read_it_once(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        many = model.generate_many([CONTEXT + tail for tail in TAILS], max_tokens=5)
        assert consistent(model._engine)
    cached = sorted(g.usage.cached_tokens for g in many)
    assert cached[0] == 0
    assert cached[1] >= len(CONTEXT) // 2
    assert sum(cached) >= 3 * (many[0].usage.prompt_tokens - len(TAILS[0]) - 1)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_prompts_that_share_nothing_are_read_together_only_if_they_are_short(tiny_gguf, tiny, monkeypatch, most):
    """The limit counts what prompts will use, also if nothing of them is read yet."""
    prompts = [letter + CONTEXT + tail for letter in "abc" for tail in TAILS[:2]]
    n_cells = 2 + max(tiny.count(prompt) for prompt in prompts)
    begun = []
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        engine = model._engine
        engine._context.mixed_cells = n_cells * most
        fill = engine._fill_batch

        def fill_batch():
            begun.append(len({tuple(run.request.tokens[:4]) for run in engine._runs}))
            return fill()

        monkeypatch.setattr(engine, "_fill_batch", fill_batch)
        with engine._wake:  # so that all wait when the first one starts
            streams = [model.stream(prompt, LlamaOptions(max_tokens=3)) for prompt in prompts]
        together = [stream.result for stream in streams]
    assert max(begun) == most
    assert list(map(Alike, together)) == [Alike(tiny.generate(prompt, max_tokens=3)) for prompt in prompts]


@pytest.mark.parametrize(("cache_bytes", "restored"), [(2**24, True), (0, False)])
def test_what_had_to_leave_the_window_comes_back_from_memory(tiny_gguf, tiny, cache_bytes, restored):
    first, second = "a" * 150, "b" * 150  # the window holds one of them
    with LlamaCppModel(tiny_gguf, threads=1, cache_bytes=cache_bytes) as model:
        model.generate(first + "who", max_tokens=20)
        model.generate(second + "who", max_tokens=20)
        back = model.generate(first + "why", max_tokens=20)
        assert consistent(model._engine)
    assert (back.usage.cached_tokens >= 150) is restored
    assert back.token_ids == tiny.generate(first + "why", max_tokens=20).token_ids


def test_what_was_computed_survives_a_restart_when_asked(tiny_gguf, tiny, tmp_path):
    prompt = "a" * 150
    for tail, least in (("who", 0), ("why", 150)):
        with LlamaCppModel(tiny_gguf, threads=1, cache_dir=tmp_path) as model:
            generation = model.generate(prompt + tail, max_tokens=20)
        assert generation.usage.cached_tokens >= least
        assert generation.token_ids == tiny.generate(prompt + tail, max_tokens=20).token_ids
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with LlamaCppModel(tiny_gguf, threads=1, cache_dir=tmp_path) as model:
        assert model.generate(prompt + "who", max_tokens=20).usage.cached_tokens == 0


@max_examples(25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 120), st.integers(1, 30)), min_size=1, max_size=8))
def test_any_mix_of_prompts_gives_what_each_gives_alone(tiny, crowded, requests):
    prompts = [(letter * n + "end", max_tokens) for letter, n, max_tokens in requests]
    streams = [crowded.stream(prompt, GenerateOptions(max_tokens)) for prompt, max_tokens in prompts]
    for (prompt, max_tokens), stream in zip(prompts, streams, strict=True):
        assert Alike(stream.result) == Alike(tiny.generate(prompt, max_tokens=max_tokens))
    assert consistent(crowded._engine)


@pytest.fixture(scope="module")
def crowded(tiny_gguf):
    with LlamaCppModel(
        tiny_gguf, threads=1, parallel=3, compute=ComputeOptions(n_batch=32), cache_bytes=200_000
    ) as model:
        yield model


def test_a_state_is_fetched_only_when_there_is_room_for_all_of_its_cells(tiny_gguf, tiny):
    requests = [("a" * 86, 6), ("b" * 25, 7), ("b" * 120, 5)]  # the last fits beside the others by sharing cells
    prompts = [(text + "end", max_tokens) for text, max_tokens in requests]
    with LlamaCppModel(
        tiny_gguf, threads=1, parallel=3, compute=ComputeOptions(n_batch=32), cache_bytes=200_000
    ) as model:
        for prompt, max_tokens in prompts[::-1]:  # each puts the state of the one before away
            model.generate(prompt, max_tokens=max_tokens)
        streams = [model.stream(prompt, GenerateOptions(max_tokens)) for prompt, max_tokens in prompts]
        together = [stream.result.token_ids for stream in streams]
        assert consistent(model._engine)
    assert together == [tiny.generate(prompt, max_tokens=max_tokens).token_ids for prompt, max_tokens in prompts]


def test_more_requests_than_cells_wait_for_each_other(tiny_gguf, tiny):
    prompts = [letter * 90 for letter in "abcdefgh"]  # the window holds two of them with their answers
    expected = [Alike(tiny.generate(prompt, max_tokens=30)) for prompt in prompts]
    with LlamaCppModel(tiny_gguf, threads=1, parallel=8) as model:
        least = []
        step = model._engine._step
        model._engine._step = lambda: step() or least.append(model._engine._sequences.cells.free)
        together = model.generate_many(prompts, max_tokens=30)
        assert consistent(model._engine)
    assert list(map(Alike, together)) == expected
    assert 0 <= min(least) < 90  # no room for a third


# Scores


def test_scores_are_those_of_a_plain_computation(tiny):
    tokens = tiny.encode(CONTEXT)
    logits = plain_logits(tiny, tokens).astype(np.float64)
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    expected = [logprobs[i, token] for i, token in enumerate(tokens[1:])]
    scores = tiny.score(CONTEXT)  # after the BOS
    assert list(scores.token_ids) == tokens[1:]
    assert scores.logprobs == pytest.approx(expected, abs=within(2e-3))
    assert scores.total == pytest.approx(sum(expected), abs=len(expected) * within(1e-3))


def test_a_text_in_two_parts_scores_the_same(tiny):
    tokens = tiny.encode(CONTEXT)[1:]
    whole = tiny.score(tokens)
    head, tail = tiny.score(tokens[:20]), tiny.score(tokens[20:], condition=CONTEXT[: len("the quick brown fox ")])
    assert len(tiny.encode(CONTEXT[:20])) - 1 == 20
    assert whole.logprobs == pytest.approx(head.logprobs + tail.logprobs, abs=within(2e-3))


def test_many_short_texts_on_one_condition(tiny):
    pairs = [(CONTEXT, tail) for tail in TAILS] + [(None, "abc"), ([Message("user", "hi")], "abc")]
    expected = [tiny.score(text, condition=condition).logprobs for condition, text in pairs]
    for scores, logprobs in zip(tiny.score_many(pairs), expected, strict=True):
        assert scores.logprobs == pytest.approx(logprobs, abs=within(2e-3))


def test_many_long_texts_are_scored_in_bounded_memory(tiny, tiny_gguf):
    texts = [
        (letter * 3 + "b") * 45 for letter in "acdefghi"
    ]  # 180 tokens each: more rows of logits than one batch holds
    expected = [tiny.score(text).logprobs for text in texts]
    with LlamaCppModel(tiny_gguf, threads=1, parallel=8) as model:
        rows = []
        context = model._engine._context
        logits = context.logits
        context.logits = lambda: rows.append(context.batch.n_outputs) or logits()
        for scores, logprobs in zip(model.score_many([(None, text) for text in texts]), expected, strict=True):
            assert scores.logprobs == pytest.approx(logprobs, abs=within(2e-3))
        assert max(rows) <= context.max_outputs
        assert consistent(model._engine)


def test_scores_of_small_texts(tiny):
    assert tiny.score("").logprobs == ()
    (only,) = tiny.score("a").logprobs
    assert only is not None
    with pytest.raises(ConfigurationError, match="each token must be in"):
        tiny.score([10**6])
    with pytest.raises(ContextOverflowError):
        tiny.score("x" * 300)


def test_the_scores_of_an_answer_are_those_of_its_tokens(tiny):
    generation = tiny.generate(CONTEXT, max_tokens=10)
    assert tiny.score(generation.token_ids, condition=CONTEXT).logprobs == pytest.approx(
        generation.logprobs, abs=within(2e-3)
    )
    assert all(margin >= 0 for margin in generation.margins)  # greedy: the chosen one is the most probable
    assert all(0 <= entropy <= math.log(tiny._engine.vocabulary.n_tokens) for entropy in generation.entropies)


# Structured answers


class Answer(pydantic.BaseModel):
    name: str
    count: int
    kind: Literal["a", "b"]


def test_an_answer_keeps_to_a_schema(tiny):
    schema = Answer.model_json_schema()
    schema["properties"]["name"]["maxLength"] = 5
    for options in ({}, {"temperature": 1.0, "seed": 5}):
        generation = tiny.generate("abc", max_tokens=150, schema=schema, **options)
        assert generation.finish_reason == "stop"
        Answer.model_validate_json(generation.text)
    assert tiny.generate("abc", max_tokens=20, grammar='root ::= "yes" | "no"').text in ("yes", "no")


def test_structured_and_free_answers_go_together(tiny, tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1) as model:
        free, bound = (
            model.stream("abc", GenerateOptions(20)),
            model.stream("abd", LlamaOptions(20, grammar='root ::= "yes"')),
        )
        assert bound.result.text == "yes"
        assert Alike(free.result) == Alike(tiny.generate("abc", max_tokens=20))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": "root ::= root"}, "grammar"),
        ({"schema": {"type": "string", "pattern": r"(a)\1"}}, "`?pattern`?"),
        ({"schema": {"type": "string"}, "grammar": 'root ::= "a"'}, "exclude each other"),
    ],
)
def test_impossible_grammars_are_refused(tiny, options, reason):
    with pytest.raises(ConfigurationError, match=reason):
        tiny.generate("abc", max_tokens=5, **options)


# Drafts


def test_a_draft_changes_no_answer(tiny_gguf, tiny):
    with LlamaCppModel(tiny_gguf, threads=1, compute=ComputeOptions(speculate=True)) as model:
        for prompt in (CONTEXT * 3, "abcabcabcabc", "x" * 100):
            for options in ({}, {"temperature": 1.0, "seed": 3}):
                expected = tiny.generate(prompt, max_tokens=40, **options)
                drafted = model.generate(prompt, max_tokens=40, **options)
                assert Alike(drafted) == Alike(expected)
        assert consistent(model._engine)


# Asyncio


def test_asyncio_gets_the_same(tiny):
    async def several():
        tasks = [asyncio.create_task(tiny.agenerate(CONTEXT + tail, max_tokens=8)) for tail in TAILS]
        many = [await task for task in tasks]
        return many, "".join([piece async for piece in tiny.astream("abc", max_tokens=8)])

    many, streamed = asyncio.run(several())
    assert list(map(Alike, many)) == [Alike(tiny.generate(CONTEXT + tail, max_tokens=8)) for tail in TAILS]
    assert streamed == tiny.generate("abc", max_tokens=8).text


def test_a_cancelled_task_stops_its_generation(tiny_gguf):
    async def cancel_one(model):
        task = asyncio.create_task(model.agenerate("abc", max_tokens=200))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(GenerationTimeout):
            await model.agenerate("abc", max_tokens=200, timeout_seconds=1e-9)
        return await model.agenerate("abc", max_tokens=2)

    with LlamaCppModel(tiny_gguf, threads=1) as model:
        assert asyncio.run(cancel_one(model)).usage.completion_tokens == 2
        assert not model._engine._runs


# Crowds


def test_sixty_four_threads_at_once(tiny_gguf, tiny):
    expected = [Alike(tiny.generate(CONTEXT[:20] + str(i % 7), max_tokens=6)) for i in range(7)]
    results: dict[int, Alike] = {}
    with LlamaCppModel(tiny_gguf, threads=1) as model:

        def ask(i):
            cancel = CancelToken()
            results[i] = Alike(model.generate(CONTEXT[:20] + str(i % 7), max_tokens=6, cancel=cancel))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert consistent(model._engine)
    assert [results[i] for i in range(64)] == [expected[i % 7] for i in range(64)]


def test_two_models_on_one_file_share_its_weights(tiny_gguf):
    first, second = LlamaCppModel(tiny_gguf, threads=1), LlamaCppModel(tiny_gguf, threads=1, n_ctx=256)
    assert first._engine._model.weights is second._engine._model.weights
    first.close()
    assert second.generate("abc", max_tokens=2).usage.completion_tokens == 2
    second.close()
