"""A model in a process of its own: the same answers, and a crash there is an error here."""

import os
import signal
import threading

import pytest

from leanrag import (
    CancelToken,
    ConfigurationError,
    GenerationCancelled,
    GenerationError,
    IsolatedModel,
    Message,
    ModelLoadError,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def isolated(tiny_gguf):
    with IsolatedModel(tiny_gguf, threads=1) as model:
        yield model


def test_it_answers_as_the_model_in_this_process(isolated, tiny):
    chat = [Message("system", "Be brief."), Message("user", "hello")]
    for prompt, options in (("abc", {}), (chat, {"temperature": 1.0, "seed": 3}), ("abc", {"stop": ["x", "y"]})):
        ours, theirs = (
            isolated.generate(prompt, max_tokens=12, **options),
            tiny.generate(prompt, max_tokens=12, **options),
        )
        assert (ours.text, ours.token_ids, ours.logprobs, ours.finish_reason, ours.seed) == (
            theirs.text,
            theirs.token_ids,
            theirs.logprobs,
            theirs.finish_reason,
            theirs.seed,
        )
        assert isolated.count(prompt) == tiny.count(prompt) == ours.usage.prompt_tokens
        assert isolated.render(prompt) == tiny.render(prompt)
    assert isolated.count_tokens("abc") == tiny.count_tokens("abc")
    assert isolated.score("abc", condition="x") == tiny.score("abc", condition="x")
    assert isolated.generate("abc", max_tokens=20, grammar='root ::= "yes"').text == "yes"


def test_a_killed_child_is_an_error_and_the_next_request_starts_another(tiny_gguf, tiny, caplog):
    expected = tiny.generate("abc", max_tokens=5).text
    with IsolatedModel(tiny_gguf, threads=1) as model:
        stream = model.stream("abc", max_tokens=200)
        pieces = iter(stream)
        next(pieces)
        os.kill(model._child._process.pid, signal.SIGKILL)
        with pytest.raises(GenerationError, match="ended \\(signal SIGKILL\\)"):
            for _ in pieces:
                pass
        assert model.generate("abc", max_tokens=5).text == expected
    assert "another one is started" in caplog.text


def test_several_threads_share_it(isolated, tiny):
    prompts = [f"prompt {i}" for i in range(6)]
    expected = {prompt: tiny.generate(prompt, max_tokens=8).text for prompt in prompts}
    results = {}
    threads = [
        threading.Thread(target=lambda p=prompt: results.update({p: isolated.generate(p, max_tokens=8).text}))
        for prompt in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


def test_cancelling_reaches_the_child(isolated):
    cancel = CancelToken()
    stream = isolated.stream("abc", max_tokens=200, cancel=cancel)
    next(iter(stream))  # leaving the loop is cancelling
    with pytest.raises(GenerationCancelled):
        _ = stream.result
    assert isolated.generate("abc", max_tokens=2).usage.completion_tokens == 2


def test_what_cannot_be_loaded(tmp_path, tiny_gguf):
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=r"truncated|bytes"):
        IsolatedModel(tmp_path / "cut.gguf")
    with pytest.raises(ConfigurationError, match="`n_ctx` must be at least 1"):
        IsolatedModel(tiny_gguf, n_ctx=0)
    with pytest.raises(ConfigurationError, match="JSON can hold"):
        IsolatedModel(tiny_gguf, n_ctx=object())


def test_a_child_that_dies_over_a_file_is_a_load_error(tiny_gguf, monkeypatch):
    monkeypatch.setattr("leanrag.llama.process.sys.path", ["/nowhere"])  # it cannot even import leanrag
    with pytest.raises(ModelLoadError, match="exit code 1"):
        IsolatedModel(tiny_gguf)
