"""The owner thread: exact counts, limits, stopping, sharing, and never a dead process."""

import gc
import math
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import (
    CancelToken,
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    LlamaCppModel,
    Message,
    ModelLoadError,
    QueueFullError,
)
from leanrag.llama import ComputeOptions, GpuOptions
from leanrag.llama.context import Context
from leanrag.llama.library import library
from leanrag.llama.vocabulary import TextDecoder
from leanrag.llama.weights import _lock as _weights_lock
from leanrag.pending import StopMatcher
from leanrag.protocols import GenerateOptions
from tests.examples import max_examples
from tests.plain import Alike, decoding_waits, plain_logits, within
from tests.tiny_gguf import write_tiny_gguf

ASK = [Message("user", "hello")]
text = st.text(max_size=30)


# Counting and limits


@max_examples(60)
@given(system=text, user=text, raw=text.filter(lambda t: t))
def test_the_count_is_what_a_generation_uses(tiny, system, user, raw):
    for prompt in ([Message("system", system), Message("user", user)], raw):
        assert tiny.generate(prompt, max_tokens=1).usage.prompt_tokens == tiny.count(prompt)


def test_a_prompt_may_fill_the_window_and_no_more(tiny):
    prompt = "x" * 100
    room = tiny.n_ctx - tiny.count(prompt)
    assert tiny.generate(prompt, max_tokens=room).usage.completion_tokens <= room
    with pytest.raises(ContextOverflowError) as caught:
        tiny.generate(prompt, max_tokens=room + 1)
    assert (caught.value.needed, caught.value.available) == (tiny.n_ctx + 1, tiny.n_ctx)


@pytest.mark.parametrize(("beyond", "fits"), [(-1, True), (0, False), (1, False)])
def test_prompts_about_as_long_as_the_window(tiny, beyond, fits):
    prompt = "x" * (tiny.n_ctx + beyond - tiny.count("x") + 1)
    assert tiny.count(prompt) == tiny.n_ctx + beyond
    if fits:
        generation = tiny.generate(prompt, max_tokens=1)
        assert (generation.usage.prompt_tokens, generation.finish_reason) == (tiny.n_ctx - 1, "length")
    for max_tokens in (1, 2) if not fits else (2, 200):
        with pytest.raises(ContextOverflowError) as caught:
            tiny.generate(prompt, max_tokens=max_tokens)
        assert (caught.value.needed, caught.value.available) == (tiny.n_ctx + beyond + max_tokens, tiny.n_ctx)
    assert tiny.generate("abc", max_tokens=3).usage.completion_tokens == 3


@pytest.mark.parametrize(("beyond", "fits"), [(-1, True), (0, True), (1, False)])
def test_texts_to_score_about_as_long_as_the_window(tiny, beyond, fits):
    text = "x" * (tiny.n_ctx + beyond - 1)  # after the BOS
    if fits:
        scores = tiny.score(text)
        assert len(scores.logprobs) == tiny.n_ctx + beyond - 1
        assert all(logprob < 0 for logprob in scores.logprobs)
    else:
        with pytest.raises(ContextOverflowError):
            tiny.score(text)


@pytest.mark.slow
def test_a_document_of_nothing_but_control_tokens(tiny):
    vocabulary = tiny._engine.vocabulary
    spelled = "".join(sorted(vocabulary.text(token) for token in vocabulary.control_tokens))
    empty, full = ([Message("user", content)] for content in ("", 3 * spelled))
    written = [token for token in tiny.encode(full) if token in vocabulary.control_tokens]
    assert written == [token for token in tiny.encode(empty) if token in vocabulary.control_tokens]
    generation = tiny.generate(full, max_tokens=3)
    assert generation.usage.prompt_tokens == tiny.count(full) > len(3 * spelled)  # letter by letter
    with pytest.raises(ContextOverflowError):
        tiny.generate([Message("user", 1000 * spelled)], max_tokens=3)
    assert not vocabulary.control_tokens & set(tiny.encode(1000 * spelled)) - {vocabulary.bos}


def test_exactly_one_bos(tiny):
    bos = tiny._engine.vocabulary.bos
    assert tiny.encode("abc").count(bos) == 1
    assert tiny.encode(ASK).count(bos) == 1


def test_the_window_is_what_was_allocated(tiny_gguf):
    with LlamaCppModel(tiny_gguf, n_ctx=100) as model:
        assert model.n_ctx == 256  # llama.cpp rounds up to a multiple of 256


@pytest.mark.parametrize(
    "options",
    [
        {"n_ctx": 0},
        {"n_ctx": 10**9},
        {"n_ctx": "all"},
        {"threads": 0},
        {"max_queue": 0},
    ],
)
def test_impossible_settings_are_refused(tiny_gguf, options):
    with pytest.raises(ConfigurationError, match=f"`{next(iter(options))}`"):
        LlamaCppModel(tiny_gguf, **options)


def test_a_gpu_on_a_cpu_build_says_how_to_get_one(tiny_gguf):
    if library().llama_supports_gpu_offload():
        pytest.skip("this build has a GPU")
    with pytest.raises(ConfigurationError, match="DGGML_CUDA=on"):
        LlamaCppModel(tiny_gguf, gpu=GpuOptions(1))


def test_the_window_is_chosen_by_itself(tmp_path):
    for trained in (512, 8192):
        path = write_tiny_gguf(tmp_path / f"{trained}.gguf", n_ctx=trained)
        with LlamaCppModel(path, threads=1) as default, LlamaCppModel(path, threads=1, n_ctx="auto") as named:
            assert default.n_ctx == named.n_ctx == min(trained, 4096)
        assert LlamaCppModel.estimate(path, n_ctx="auto") == LlamaCppModel.estimate(path, n_ctx=min(trained, 4096))


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 1, "stop": "x"},
        {"max_tokens": 1, "stop": [""]},
        {"max_tokens": 1, "timeout_seconds": 0},
    ],
)
def test_impossible_requests_are_refused(tiny, options):
    with pytest.raises(ConfigurationError):
        tiny.generate(ASK, **options)


def test_prompts_of_other_kinds_are_refused(tiny):
    for prompt in ([], [{"role": "user", "content": "x"}]):
        with pytest.raises(ConfigurationError, match="a prompt is"):
            tiny.generate(prompt, max_tokens=1)


# Generating


def test_greedy_tokens_and_log_probabilities_match_a_plain_loop(tiny):
    generation = tiny.generate("abc", max_tokens=6)
    tokens = tiny.encode("abc")
    for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
        logits = plain_logits(tiny, tokens)[-1].astype(np.float64)
        assert logits[token] == pytest.approx(logits.max(), abs=within(1e-3))
        expected = logits[token] - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        assert logprob == pytest.approx(expected, abs=within(1e-3))
        tokens.append(token)


def test_batches_of_a_prompt_give_the_same_answer(tiny_gguf, tiny):
    prompt = "the quick brown fox " * 5
    with LlamaCppModel(tiny_gguf, compute=ComputeOptions(n_batch=7)) as small_batches:
        assert Alike(small_batches.generate(prompt, max_tokens=20)) == Alike(tiny.generate(prompt, max_tokens=20))


def test_a_request_leaves_nothing_behind(tiny):
    alone = tiny.generate("abc", max_tokens=20).text
    tiny.generate("something else entirely", max_tokens=20)
    assert tiny.generate("abc", max_tokens=20).text == alone


def test_a_seed_repeats_a_draw(tiny):
    drawn = tiny.generate("abc", max_tokens=20, temperature=1.5)
    assert tiny.generate("abc", max_tokens=20, temperature=1.5, seed=drawn.seed).text == drawn.text
    assert tiny.generate("abc", max_tokens=20, temperature=1.5, seed=drawn.seed + 1).text != drawn.text


def test_a_stream_is_the_generation_in_pieces(tiny):
    stream = tiny.stream("abc", GenerateOptions(20))
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == stream.result.text == tiny.generate("abc", max_tokens=20).text


def test_a_stream_may_be_read_after_it_has_ended(tiny):
    stream = tiny.stream("abc", GenerateOptions(5))
    whole = tiny.generate("abc", max_tokens=50).text  # ends later
    assert "".join(stream) == stream.result.text
    assert whole.startswith(stream.result.text)
    assert len(stream.result.token_ids) == 5


def test_a_stop_string_ends_the_text_before_it(tiny):
    whole = tiny.generate("abc", max_tokens=30)
    stop = whole.text[5:8]
    stopped = tiny.generate("abc", max_tokens=30, stop=[stop])
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert whole.finish_reason == "length"


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_matching_does_not_depend_on_the_pieces(whole, stops, data):
    match, rest, shown = StopMatcher(stops), whole, ""
    while rest and match.reason is None:
        cut = data.draw(st.integers(1, len(rest)))
        shown += match(rest[:cut])
        rest = rest[cut:]
    if match.reason is None:
        shown += match("", final=True)
    ends = [(whole.index(stop) + len(stop), whole.index(stop)) for stop in stops if stop in whole]
    assert match.reason == ("stop" if ends else None)
    assert shown == (whole[: min(ends)[1]] if ends else whole)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_loop_ends_before_it_repeats(size):
    loop = "The answer to this is:\n\nThat it is not so. "
    match, shown = StopMatcher(["zebra"], no_repeats=True), ""
    for at in range(0, 10 * len(loop), size):
        shown += match((loop * 10)[at : at + size])
        if match.reason is not None:
            break
    if size < 100:  # what came in one piece is passed in one piece
        assert shown == loop
    assert match.reason == "repetition"


def test_short_lines_and_other_words_are_no_loop():
    text = "1. Yes.\n2. Yes.\n1. Yes.\nThe answer to this is no.\nThe answer to that is no.\n"
    match = StopMatcher([], no_repeats=True)
    assert "".join(match(letter) for letter in text) + match("", final=True) == text
    assert match.reason is None


@given(st.text(max_size=20))
def test_bytes_of_a_character_may_come_apart(whole):
    decode = TextDecoder()
    data = whole.encode("utf-8", "surrogatepass") if whole.isascii() else whole.encode("utf-8", "replace")
    shown = "".join(decode(data[i : i + 1]) for i in range(len(data))) + decode(b"", final=True)
    assert shown == data.decode("utf-8", "replace")


# Stopping


def test_a_cancelled_token_stops_at_once_and_the_model_lives(tiny):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(GenerationCancelled):
        tiny.generate("abc", max_tokens=100, cancel=cancel)
    assert tiny.generate("abc", max_tokens=1).text


def test_leaving_a_stream_stops_it(tiny, monkeypatch):
    with decoding_waits(monkeypatch, after=100):
        stream = tiny.stream("abc", GenerateOptions(200))
        next(iter(stream))
        stream.close()
    with pytest.raises(GenerationCancelled):
        _ = stream.result
    assert tiny.generate("abc", max_tokens=1).text


def test_the_time_limit_is_an_error_of_its_own(tiny):
    with pytest.raises(GenerationTimeout):
        tiny.generate("abc", max_tokens=200, timeout_seconds=1e-9)
    assert tiny.generate("abc", max_tokens=1).text


@pytest.mark.model
def test_cancelling_stops_a_prefill(caplog, monkeypatch):
    """One batch holds the whole prompt and one token is asked for: only an aborted computation can raise."""
    from leanrag.models import resolve

    with LlamaCppModel(resolve("smollm2-135m"), n_ctx=4096, compute=ComputeOptions(n_batch=4096)) as model:
        cancel, decode = CancelToken(), Context.decode

        def decode_cancelled(context):  # after the engine looked whether the request was cancelled
            cancel.cancel()
            return decode(context)

        with monkeypatch.context() as patch:
            patch.setattr(Context, "decode", decode_cancelled)
            with pytest.raises(GenerationCancelled):
                model.generate("word " * 3000, max_tokens=1, cancel=cancel)
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        assert model.generate("The capital of France is", max_tokens=1).usage.completion_tokens == 1


def test_what_llama_cpp_refuses_is_an_error_of_those_it_refused(tiny_gguf, tiny, monkeypatch, caplog):
    lib, refusals = library(), []
    decode = lib.llama_decode

    def refuse(context, batch):
        return refusals.pop() if refusals else decode(context, batch)

    expected = tiny.generate("abc", max_tokens=5).token_ids
    monkeypatch.setattr(lib, "llama_decode", refuse)
    with LlamaCppModel(tiny_gguf, threads=1, cache_bytes=0) as model:
        for code in (1, -1, -3):  # no cells, a batch that cannot be, a failure in the middle
            refusals.append(code)
            with pytest.raises(GenerationError, match=f"failed with code {code}"):
                model.generate("abc", max_tokens=5)
            assert model.generate("abc", max_tokens=5).token_ids == expected
        assert caplog.text.count("failed with code") == 3
        model.generate("the quick brown fox jumps over the lazy dog", max_tokens=5)  # is kept, and may go for another
        refusals.append(1)
        assert model.generate("abc", max_tokens=5).token_ids == expected
    assert caplog.text.count("failed with code") == 3


@pytest.mark.model
@pytest.mark.parametrize("interruption", ["os.kill(os.getpid(), signal.SIGINT)", "_thread.interrupt_main()"])
def test_interrupting_stops_a_prefill(interruption):
    code = f"""
        import _thread, os, signal, time
        from leanrag import LlamaCppModel
        from leanrag.llama import ComputeOptions
        from leanrag.llama.context import Context
        from leanrag.models import resolve
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
        model = LlamaCppModel(resolve("smollm2-135m"), n_ctx=4096, compute=ComputeOptions(n_batch=4096))
        decode = Context.decode
        def decode_interrupted(context):  # begins when the main thread has noticed the interruption
            Context.decode = decode
            {interruption}
            while not model._engine._abort._buffer.value: time.sleep(0.001)
            return decode(context)
        Context.decode = decode_interrupted
        try:
            model.generate("word " * 3000, max_tokens=1)
        except KeyboardInterrupt:
            print(model.generate("x", max_tokens=1).usage.completion_tokens)
    """
    assert run(code).stdout.strip() == "1"


# Sharing


def test_many_threads_get_what_one_would(tiny):
    prompts = [f"prompt {i}" for i in range(8)]
    expected = [Alike(tiny.generate(prompt, max_tokens=10)) for prompt in prompts]
    results = {}

    def ask(i):
        results[i] = [Alike(tiny.generate(prompts[(i + j) % 8], max_tokens=10)) for j in range(3)]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [expected[(i + j) % 8] for j in range(3)] for i in range(8)}


def test_a_full_queue_is_an_error(tiny_gguf):
    with LlamaCppModel(tiny_gguf, max_queue=2) as model:
        with model._engine._wake:  # the owner cannot take any
            streams = [model.stream("abc", GenerateOptions(1)) for _ in range(2)]
            with pytest.raises(QueueFullError, match="2 requests already wait"):
                model.generate("abc", max_tokens=1)
        assert [stream.result.usage.completion_tokens for stream in streams] == [1, 1]


def test_a_waiting_request_can_be_cancelled(tiny_gguf):
    with LlamaCppModel(tiny_gguf) as model:
        with model._engine._wake:
            stream = model.stream("abc", GenerateOptions(1))
            stream.close()
        with pytest.raises(GenerationCancelled):
            _ = stream.result


# Living and dying


def test_closing_twice_is_fine_and_using_after_is_an_error(tiny_gguf):
    model = LlamaCppModel(tiny_gguf)
    model.close()
    model.close()
    for use in (lambda: model.generate("x", max_tokens=1), lambda: model.count("x"), lambda: model.count_tokens("x")):
        with pytest.raises(GenerationError, match="is closed"):
            use()


def test_closing_ends_a_stream_that_is_being_read(tiny_gguf):
    model = LlamaCppModel(tiny_gguf, threads=1)
    engine, drawn = model._engine, []

    def draw(_):
        if drawn:  # the second token comes when the engine closes
            with engine._wake:
                assert engine._wake.wait_for(lambda: engine._closed, timeout=60)
        drawn.append(70)
        return 70

    with engine._wake:
        stream = model.stream("abc", GenerateOptions(50))
        stream._pending.choose = draw
    pieces = iter(stream)
    assert next(pieces)
    model.close()
    assert not model._engine._thread.is_alive()
    with pytest.raises(GenerationError, match="is closed"):
        list(pieces)


def test_closing_ends_waiting_requests(tiny_gguf):
    model = LlamaCppModel(tiny_gguf)
    with model._engine._wake:
        stream = model.stream("abc", GenerateOptions(1))
        model._engine._closed = True  # as `close` does, before the owner wakes
        model._engine._wake.notify()
    model.close()
    with pytest.raises(GenerationError, match="is closed"):
        _ = stream.result


def test_missing_and_foreign_files_are_typed_errors(tmp_path):
    with pytest.raises(ModelLoadError) as caught:
        LlamaCppModel(tmp_path / "missing.gguf")
    assert caught.value.path == tmp_path / "missing.gguf"
    (tmp_path / "text.gguf").write_text("hello", encoding="utf-8")
    with pytest.raises(ModelLoadError):
        LlamaCppModel(tmp_path / "text.gguf")


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        **options,
    )


@pytest.mark.slow
def test_nothing_is_printed(tiny_gguf):
    result = run(f"""
        from leanrag import LlamaCppModel
        with LlamaCppModel({str(tiny_gguf)!r}) as model:
            model.generate("abc", max_tokens=5)
    """)
    assert (result.stdout, result.stderr) == ("", "")


def test_native_logs_reach_logging(tiny_gguf, caplog):
    caplog.set_level("DEBUG", logger="leanrag.llama.native")
    LlamaCppModel(tiny_gguf).close()
    records = [record for record in caplog.records if record.name == "leanrag.llama.native"]
    assert any(record.levelname == "DEBUG" and "n_ctx" in record.message for record in records)
    assert not any(record.levelname == "INFO" for record in records)  # more than a hundred lines for each model
    assert not any("\n" in record.message for record in records)


@pytest.mark.slow
def test_a_process_may_end_while_a_model_works(tiny_gguf):
    result = run(f"""
        from leanrag import GenerateOptions, LlamaCppModel
        model = LlamaCppModel({str(tiny_gguf)!r})
        streams = [model.stream("abc", GenerateOptions(200)) for _ in range(5)]
        next(iter(streams[0]))
    """)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", ["LlamaCppModel", "IsolatedModel"])
@pytest.mark.slow
def test_a_forked_child_gets_an_error_and_the_parent_goes_on(tiny_gguf, kind):
    result = run(f"""
        import os, warnings
        warnings.simplefilter("ignore")
        from leanrag import GenerationError, {kind}
        model = {kind}({str(tiny_gguf)!r})
        child = os.fork()
        if child == 0:
            try:
                model.generate("abc", max_tokens=1)
            except GenerationError as error:
                model.close()
                os._exit(42 if "is a fork of it" in str(error) else 1)
            os._exit(2)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), model.generate("abc", max_tokens=3).usage.completion_tokens)
    """)
    assert result.stdout.split() == ["42", "3"]


def test_a_model_that_cannot_be_made_leaves_no_thread(tiny_gguf):
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match="chat template is not valid"):
        LlamaCppModel(tiny_gguf, name="broken", chat_template="{% if %}")
    assert set(threading.enumerate()) <= before  # threads of other tests may have ended


def test_a_model_whose_start_is_interrupted_leaves_no_thread(tiny_gguf, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    monkeypatch.setattr("leanrag.llama.engine.Rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LlamaCppModel(tiny_gguf)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_forgotten_model_is_freed_without_waiting(tiny_gguf):
    model = LlamaCppModel(tiny_gguf, threads=1)
    owner = model._engine._thread
    with _weights_lock:  # as when the garbage collector runs inside a load
        del model
        gc.collect()
    owner.join(timeout=30)
    assert not owner.is_alive()
