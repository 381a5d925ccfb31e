"""A model in a process of its own: the same answers, and a crash there is an error here."""

import asyncio
import contextlib
import gc
import hashlib
import os
import signal
import sys
import threading

import pydantic
import pytest

from leanrag import (
    CancelToken,
    ConfigurationError,
    GenerationCancelled,
    GenerationError,
    IsolatedModel,
    LlamaCppModel,
    Message,
    ModelLoadError,
)
from leanrag.llama.child import Child
from leanrag.llama.process import check_in_process, load_model
from leanrag.protocols import GenerateOptions
from tests.plain import Alike, within
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.slow

WINDOW, ENDLESS = 65_536, 60_000  # tokens


@pytest.fixture(scope="module")
def isolated(tiny_gguf):
    with IsolatedModel(tiny_gguf, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def long_gguf(tmp_path_factory):
    """A model with a window for an answer that takes minutes: whatever a test does meanwhile, its child still writes."""
    return write_tiny_gguf(tmp_path_factory.mktemp("long") / "long.gguf", n_ctx=WINDOW)


def test_it_answers_as_the_model_in_this_process(isolated, tiny):
    chat = [Message("system", "Be brief."), Message("user", "hello")]
    for prompt, options in (("abc", {}), (chat, {"temperature": 1.0, "seed": 3}), ("abc", {"stop": ["x", "y"]})):
        ours, theirs = (
            isolated.generate(prompt, max_tokens=12, **options),
            tiny.generate(prompt, max_tokens=12, **options),
        )
        assert (Alike(ours), ours.seed) == (Alike(theirs), theirs.seed)
        if ours.token_ids == theirs.token_ids:
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=within(0))
        assert isolated.count(prompt) == tiny.count(prompt) == ours.usage.prompt_tokens
        assert isolated.render(prompt) == tiny.render(prompt)
    assert isolated.count_tokens("abc") == tiny.count_tokens("abc")
    assert isolated.tokenize("naïve") == tiny.tokenize("naïve")
    ours, theirs = isolated.score("abc", condition="x"), tiny.score("abc", condition="x")
    assert (ours.token_ids, ours.logprobs) == (theirs.token_ids, pytest.approx(theirs.logprobs, abs=within(0)))
    assert isolated.generate("abc", max_tokens=20, grammar='root ::= "yes"').text == "yes"


def test_a_killed_child_is_an_error_and_the_next_request_starts_another(long_gguf, tiny, caplog):
    expected = tiny.generate("abc", max_tokens=5).text
    with IsolatedModel(long_gguf, threads=1, n_ctx=WINDOW) as model:
        stream = model.stream("abc", GenerateOptions(ENDLESS))
        pieces = iter(stream)
        next(pieces)
        os.kill(model._children[0]._process.pid, signal.SIGKILL)
        with pytest.raises(GenerationError, match="ended \\(signal SIGKILL\\)"):
            for _ in pieces:
                pass
        assert model.generate("abc", max_tokens=5).text == expected
    assert "a new process is started" in caplog.text


def test_a_child_that_dies_in_a_computation_is_an_error_of_all_it_was_asked(long_gguf, tiny):
    expected = tiny.generate("abc", max_tokens=5).text
    with IsolatedModel(long_gguf, threads=1, n_ctx=WINDOW) as model:
        written = iter(model.stream("abc", GenerateOptions(ENDLESS)))
        waiting = model.stream("abd", GenerateOptions(ENDLESS))
        next(written)
        os.kill(model._children[0]._process.pid, signal.SIGABRT)  # what CUDA does when its memory runs out
        for wait in (lambda: list(written), lambda: waiting.result):
            with pytest.raises(GenerationError, match=r"ended \(signal SIGABRT\)"):
                wait()
        assert model.generate("abc", max_tokens=5).text == expected


def test_closing_ends_a_child_that_is_being_started(tiny_gguf, monkeypatch):
    model = IsolatedModel(tiny_gguf, threads=1)
    model._children[0].kill()
    while not model._children[0].has_ended:
        pass
    closing, started = threading.Thread(target=model.close), []

    class Started(Child):
        def __init__(self, *arguments):
            closing.start()
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr("leanrag.llama.process.Child", Started)
    with contextlib.suppress(GenerationError):  # it may be closed before it answers
        model.generate("abc", max_tokens=1)
    closing.join()
    assert [child._process.poll() is None for child in started] == [False]


def test_it_says_where_its_layers_are(isolated, tiny):
    assert isolated.placement.key == tiny.placement.key
    assert isolated.placement.n_layers == tiny.placement.n_layers


def test_several_threads_share_it(isolated, tiny):
    prompts = [f"prompt {i}" for i in range(6)]
    expected = {prompt: Alike(tiny.generate(prompt, max_tokens=8)) for prompt in prompts}
    results = {}
    threads = [
        threading.Thread(target=lambda p=prompt: results.update({p: Alike(isolated.generate(p, max_tokens=8))}))
        for prompt in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


def test_cancelling_reaches_the_child(long_gguf):
    with IsolatedModel(long_gguf, threads=1, n_ctx=WINDOW) as model:
        stream = model.stream("abc", GenerateOptions(ENDLESS))
        next(iter(stream))  # leaving the loop is cancelling
        with pytest.raises(GenerationCancelled):
            _ = stream.result
        cancel = CancelToken()
        stream = model.stream("abc", GenerateOptions(ENDLESS, cancel=cancel))
        cancel.cancel()
        with pytest.raises(GenerationCancelled):
            _ = stream.result
        assert model.generate("abc", max_tokens=2).usage.completion_tokens == 2


def test_what_cannot_be_loaded(tmp_path, tiny_gguf):
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=r"truncated|bytes"):
        IsolatedModel(tmp_path / "cut.gguf")
    with pytest.raises(ConfigurationError, match="`n_ctx` must be 'auto' or from 1 to 256"):
        IsolatedModel(tiny_gguf, n_ctx=0)
    with pytest.raises(ConfigurationError, match="must be JSON values"):
        IsolatedModel(tiny_gguf, n_ctx=object())


def test_a_child_that_dies_over_a_file_is_a_load_error(tiny_gguf, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/nowhere"])  # it cannot even import leanrag
    with pytest.raises(ModelLoadError, match="exit code 1"):
        IsolatedModel(tiny_gguf)


def test_many_at_once_and_scores_are_those_of_the_model_in_this_process(tiny_gguf, tiny):
    prompts = [f"prompt {i}" for i in range(9)]
    pairs = [("abc", "def"), (None, "ab"), ([Message("user", "hi")], [70, 71])]
    with load_model(tiny_gguf, isolation="process", threads=1, max_queue=2, parallel=2) as model:
        assert isinstance(model, IsolatedModel)
        many = model.generate_many(prompts, max_tokens=5, temperature=0.7, seed=1)
        for ours, theirs in zip(many, tiny.generate_many(prompts, max_tokens=5, temperature=0.7, seed=1), strict=True):
            assert (Alike(ours), ours.seed) == (Alike(theirs), theirs.seed)
        for ours, theirs in zip(model.score_many(pairs), tiny.score_many(pairs), strict=True):
            assert ours.token_ids == theirs.token_ids
            assert [logprob is None for logprob in ours.logprobs] == [logprob is None for logprob in theirs.logprobs]
            assert ours.total == pytest.approx(theirs.total, abs=4 * within(2.5e-4))
        cancelled = CancelToken()
        cancelled.cancel()
        for ask in (
            lambda: model.generate_many(prompts, max_tokens=5, cancel=cancelled),
            lambda: model.score_many(pairs, cancel=cancelled),
            lambda: model.score("abc", cancel=cancelled),
        ):
            with pytest.raises(GenerationCancelled):
                ask()


def test_asyncio_gets_the_same(isolated, tiny):
    async def several():
        tasks = [asyncio.create_task(isolated.agenerate(f"prompt {i}", max_tokens=6)) for i in range(4)]
        pieces = [piece async for piece in isolated.astream("abc", max_tokens=8)]
        return [await task for task in tasks], pieces

    many, pieces = asyncio.run(several())
    assert list(map(Alike, many)) == [Alike(tiny.generate(f"prompt {i}", max_tokens=6)) for i in range(4)]
    assert len(pieces) > 1
    assert "".join(pieces) == tiny.generate("abc", max_tokens=8).text


def test_a_cancelled_task_stops_its_generation(isolated):
    async def cancel_one():
        stream = isolated.astream("abc", max_tokens=200)
        await anext(stream)
        await stream.aclose()
        task = asyncio.create_task(isolated.agenerate("abc", max_tokens=200))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await isolated.agenerate("abc", max_tokens=2)

    assert asyncio.run(cancel_one()).usage.completion_tokens == 2


class Answer(pydantic.BaseModel):
    count: int


def test_options_of_every_kind_cross_the_border(isolated, tiny):
    for options in (
        {"schema": Answer},
        {"schema": Answer.model_json_schema()},
        {"top_k": 3, "temperature": 2.0, "seed": 1},
    ):
        expected = tiny.generate("abc", max_tokens=30, **options)
        assert isolated.generate("abc", max_tokens=30, **options).text == expected.text
    for options, error in (
        ({"schema": {"type": "nonsense"}}, ConfigurationError),
        ({"stop": "x"}, ConfigurationError),
        ({"timeout_seconds": 1e-9}, TimeoutError),
    ):
        with pytest.raises(error):
            isolated.generate("abc", max_tokens=200, **options)
    with pytest.raises(GenerationError, match=r"exceed the window") as caught:
        isolated.generate("x" * 300, max_tokens=8)
    assert (caught.value.needed, caught.value.available) == (tiny.count("x" * 300) + 8, 256)


def test_a_stream_keeps_its_model(tiny_gguf, tiny):
    stream = IsolatedModel(tiny_gguf, threads=1).stream("abc", GenerateOptions(20))
    gc.collect()
    assert "".join(stream) == tiny.generate("abc", max_tokens=20).text


def test_it_can_free_its_weights_too(tiny_gguf, tmp_path):
    with IsolatedModel(tiny_gguf, threads=1, keep_alive=0, cache_dir=tmp_path) as model:
        assert model.generate("abc" * 50, max_tokens=2).usage.completion_tokens == 2
        while model.is_loaded:
            pass
        assert model.generate("abc" * 50, max_tokens=2).usage.cached_tokens > 100
    assert not model.is_loaded


def test_isolation_is_chosen_by_name(tiny_gguf):
    with load_model(tiny_gguf, threads=1) as model:
        assert isinstance(model, LlamaCppModel)
    with pytest.raises(ConfigurationError, match="`isolation` must be one of 'none', 'process', got 'thread'"):
        load_model(tiny_gguf, isolation="thread")


def test_it_has_all_that_a_model_has(isolated, tiny):
    assert {name for name in dir(tiny) if not name.startswith("_")} - {
        "estimate",
        "info",
        "encode",
        "decode",
        "end_token",
    } <= set(dir(isolated))


# Files of unknown origin


def test_a_file_is_tried_in_a_process_of_its_own(tiny_gguf, tiny):
    check = check_in_process(tiny_gguf, threads=1)
    assert check.sha256 == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert (check.path, check.size_bytes) == (tiny_gguf, tiny_gguf.stat().st_size)
    assert (check.architecture, check.n_ctx_train, check.n_ctx, check.is_chat) == ("llama", 256, 256, True)
    assert check.n_params == tiny.info.n_params
    assert check.seconds > 0


def test_a_file_that_does_not_pass(tmp_path, tiny_gguf):
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:1000])
    for path in (tmp_path / "cut.gguf", tmp_path / "missing.gguf"):
        with pytest.raises(ModelLoadError) as caught:
            check_in_process(path)
        assert caught.value.path == path
    with pytest.raises(ConfigurationError, match="`timeout_seconds` must be greater than 0"):
        check_in_process(tiny_gguf, timeout_seconds=0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import threading; threading.Event().wait()", "it took more than 0.5 seconds"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"ended \(signal SIGSEGV\)"),
    ],
)
def test_a_file_that_hangs_or_ends_its_process(tiny_gguf, tmp_path, monkeypatch, body, reason):
    package = tmp_path / "leanrag" / "llama"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "child_main.py").write_text(f"def serve(path, settings):\n    {body}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # the child finds this one first
    with pytest.raises(ModelLoadError, match=reason) as caught:
        check_in_process(tiny_gguf, timeout_seconds=0.5 if "wait" in body else 60)
    assert caught.value.path == tiny_gguf


@pytest.fixture(scope="module")
def copies(tiny_gguf):
    with IsolatedModel(tiny_gguf, gpus=[None, None], threads=1) as model:
        yield model


def test_copies_answer_as_one_model(copies, tiny):
    prompts = [f"number {i}" for i in range(7)]
    expected = [tiny.generate(prompt, max_tokens=5) for prompt in prompts]
    assert list(map(Alike, copies.generate_many(prompts, max_tokens=5))) == list(map(Alike, expected))
    assert [Alike(copies.generate(prompt, max_tokens=5)) for prompt in prompts] == list(map(Alike, expected))
    assert copies.generate_many([], max_tokens=5) == []
    assert [placement.layers for placement in copies.placements] == [0, 0]
    assert copies.is_loaded


def test_a_request_goes_to_the_copy_with_the_fewest(copies, monkeypatch):
    running = {copies._children[0]: 3, copies._children[1]: 2}
    monkeypatch.setattr(Child, "n_calls", property(running.get))
    assert {copies._choose_copy(f"prompt {i}") for i in range(9)} == {1}


def test_idle_copies_share_prompts_by_their_beginning(copies):
    context = "a long context " * 40
    chosen = {copies._choose_copy(context + question) for question in ("who?", "when?", "where?")}
    assert len(chosen) == 1
    assert {copies._choose_copy(f"{i} {context}") for i in range(20)} == {0, 1}


def test_a_copy_that_ends_leaves_the_other(tiny_gguf, tiny):
    expected = Alike(tiny.generate("abc", max_tokens=5))
    with IsolatedModel(tiny_gguf, gpus=[None, None], threads=1) as model:
        os.kill(model._children[1]._process.pid, signal.SIGKILL)
        model._children[1]._process.wait()
        answers = []
        for _ in range(4):  # a request that comes before the end is noticed fails; the next one starts the copy again
            try:
                answers.append(Alike(model.generate("abc", max_tokens=5)))
            except GenerationError:
                continue
        assert len(answers) >= 3
        assert answers == [expected] * len(answers)


def test_an_error_in_one_copy_stops_the_others(copies):
    too_long = "abc " * 5000
    with pytest.raises(GenerationError, match="exceed the window"):
        copies.generate_many(["abc", too_long], max_tokens=200)
    assert copies.generate("abc", max_tokens=1).usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpus": []}, "Name at least one GPU"),
        ({"gpus": [0], "gpu": None}, "Leave one of them out"),
        ({"gpus": [None, 7]}, "`gpu.main_gpu` is 7"),
    ],
)
def test_wrong_copies_are_refused(tiny_gguf, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        IsolatedModel(tiny_gguf, **settings)
