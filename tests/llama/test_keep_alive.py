"""A model that nobody asks gives its memory back, and is there again for the next request."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leanrag import ConfigurationError, GenerationCancelled, GenerationError, LlamaCppModel, Message, ModelLoadError
from leanrag.llama import ComputeOptions
from leanrag.llama.engine import Engine
from leanrag.llama.library import library
from leanrag.llama.placement.layers import GpuOptions
from leanrag.llama.requests import Request
from leanrag.llama.sequences import Sequences
from leanrag.llama.settings import EngineSettings
from leanrag.protocols import GenerateOptions
from tests.plain import Alike
from tests.tiny_gguf import write_tiny_gguf

LONG = "the quick brown fox jumps over the lazy dog and runs away through the woods and over the hills"


def wait_until(engine: Engine, condition) -> None:
    with engine._wake:
        assert engine._wake.wait_for(condition, timeout=60)


def wait_until_freed(model: LlamaCppModel) -> None:
    wait_until(model._engine, lambda: not model.is_loaded)


@pytest.fixture
def file(tiny_gguf, tmp_path) -> Path:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(tiny_gguf.read_bytes())
    return copy


def test_it_is_freed_when_idle_and_answers_as_before(tiny_gguf, tiny):
    chat = [Message("user", "hello")]
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0) as model:
        for _ in range(3):
            for prompt in ("abc", chat):
                assert model.generate(prompt, max_tokens=10).token_ids == tiny.generate(prompt, max_tokens=10).token_ids
            wait_until_freed(model)
            assert model._engine._model.weights is None
            assert model.n_ctx == tiny.n_ctx
            assert model.count(chat) == tiny.count(chat)
            assert model.render(chat) == tiny.render(chat)
            assert model.count_tokens(LONG) == tiny.count_tokens(LONG)
            assert not model.is_loaded  # none of these needs the weights
        assert model.score("abc") == tiny.score("abc")
        assert model.generate("abc", max_tokens=9, grammar='root ::= "yes"').text == "yes"
    assert not model.is_loaded


def test_without_it_a_model_stays(tiny):
    tiny.generate("abc", max_tokens=1)
    assert tiny.is_loaded


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_computed_is_kept(tiny_gguf, tiny, tmp_path, on_disk):
    cache_dir = tmp_path / "states" if on_disk else None
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0, cache_dir=cache_dir) as model:
        model.generate(LONG + "who", max_tokens=5)
        wait_until_freed(model)
        assert not on_disk or list(cache_dir.iterdir())
        again = model.generate(LONG + "why", max_tokens=5)
    assert again.usage.cached_tokens >= len(LONG)
    assert again.token_ids == tiny.generate(LONG + "why", max_tokens=5).token_ids


def test_nothing_is_kept_where_nothing_may_be(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0, cache_bytes=0) as model:
        model.generate(LONG, max_tokens=5)
        wait_until_freed(model)
        assert model.generate(LONG, max_tokens=5).usage.cached_tokens == 0


def test_the_time_counts_from_the_last_request(tiny_gguf):
    now = [0.0]
    settings = EngineSettings(
        256,
        1,
        gpu=GpuOptions(0),
        compute=ComputeOptions(64, False),
        max_queue=8,
        parallel=2,
        cache_bytes=0,
        keep_alive=600,
    )
    engine = Engine(tiny_gguf, settings, clock=lambda: now[0])
    looked = threading.Event()
    engine._now = lambda: looked.set() or now[0]

    def owner_looks_at(seconds: float) -> None:
        now[0] = seconds
        looked.clear()
        with engine._wake:
            engine._wake.notify_all()
        assert looked.wait(60)
        with engine._wake:  # it let go of the lock: it waits, or frees
            pass

    try:
        owner_looks_at(599)
        assert engine.is_loaded
        _ = engine.submit(Request([5, 6, 7], max_tokens=1, choose=lambda logits: 70)).result
        owner_looks_at(1198)
        assert engine.is_loaded
        owner_looks_at(1199)
        wait_until(engine, lambda: not engine.is_loaded)
    finally:
        engine.close()


def test_a_request_while_it_is_about_to_be_freed_keeps_it(tiny_gguf, tiny, monkeypatch):
    expected = tiny.generate("abc", max_tokens=5).token_ids
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0) as model:
        late: list[object] = []
        keep = Sequences.keep_state

        def keep_state(sequences, sequence):
            if not late:
                late.append(model.stream("abc", GenerateOptions(5)))
                late.append(model._engine._model.weights)
            keep(sequences, sequence)

        monkeypatch.setattr(Sequences, "keep_state", keep_state)
        model.generate(LONG, max_tokens=2)
        wait_until_freed(model)
        stream, weights = late
        assert stream.result.token_ids == expected
        assert weights is not None


def test_closing_while_it_is_freed(tiny_gguf, monkeypatch):
    model = LlamaCppModel(tiny_gguf, threads=1, keep_alive=0)
    engine, begun = model._engine, threading.Event()

    def keep_state(*_):
        begun.set()
        wait_until(engine, lambda: engine._closed)

    monkeypatch.setattr(Sequences, "keep_state", keep_state)
    model.generate(LONG, max_tokens=2)
    assert begun.wait(60)
    model.close()
    assert not engine._thread.is_alive()
    with pytest.raises(GenerationError, match="is closed"):
        model.generate("abc", max_tokens=1)


def test_a_file_that_is_gone_is_an_error_until_it_is_back(file, tiny):
    with LlamaCppModel(file, threads=1, keep_alive=0) as model:
        wait_until_freed(model)
        away = file.rename(file.with_name("elsewhere.gguf"))
        with model._engine._wake:  # both wait before the owner looks
            streams = [model.stream("abc", GenerateOptions(3)) for _ in range(2)]
        for stream in streams:
            with pytest.raises(ModelLoadError, match="cannot be read") as caught:
                _ = stream.result
            assert caught.value.path == file
        assert model.count("abc") == tiny.count("abc")
        away.rename(file)
        assert model.generate("abc", max_tokens=3).token_ids == tiny.generate("abc", max_tokens=3).token_ids


@pytest.mark.parametrize("damage", ["other weights", "cut short"])
def test_a_file_that_was_changed_is_not_run(file, damage):
    with LlamaCppModel(file, threads=1, keep_alive=0) as model:
        wait_until_freed(model)
        before, status = file.read_bytes(), file.stat()
        file.unlink()
        if damage == "cut short":
            file.write_bytes(before[:2000])
        else:
            write_tiny_gguf(file, seed=1)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        with pytest.raises(ModelLoadError, match="has changed since"):
            model.generate("abc", max_tokens=3)
        file.write_bytes(before)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert model.generate("abc", max_tokens=3).usage.completion_tokens == 3


def test_a_load_that_fails_for_want_of_memory_fails_alone(tiny_gguf, monkeypatch):
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0) as model:
        wait_until_freed(model)
        lib = library()
        init = lib.llama_init_from_model
        with monkeypatch.context() as patch:
            patch.setattr(lib, "llama_init_from_model", lambda *_: None)
            with pytest.raises(ModelLoadError, match="cannot make a context of 256 tokens"):
                model.generate("abc", max_tokens=3)
        assert lib.llama_init_from_model is init
        assert not model.is_loaded
        assert model._engine._model.weights is None
        assert model.generate("abc", max_tokens=3).usage.completion_tokens == 3


def test_a_request_that_is_cancelled_while_the_model_loads_ends_at_once(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0) as model:
        wait_until_freed(model)
        load, begun, go_on = model._engine._model.load, threading.Event(), threading.Event()

        def load_again():
            begun.set()
            assert go_on.wait(60)
            return load()

        model._engine._model.load = load_again
        stream = model.stream("abc", GenerateOptions(3))
        assert begun.wait(60)
        stream.close()
        with pytest.raises(GenerationCancelled):
            _ = stream.result
        go_on.set()
        assert model.generate("abc", max_tokens=3).usage.completion_tokens == 3


def test_many_threads_and_a_model_that_comes_and_goes(tiny_gguf, tiny):
    prompts = [f"{LONG[: 9 * i]} {i}" for i in range(6)]
    expected = [Alike(tiny.generate(prompt, max_tokens=5)) for prompt in prompts]
    results: dict[tuple[int, int], Alike] = {}
    with LlamaCppModel(tiny_gguf, threads=1, keep_alive=0) as model:

        def ask(i):
            for j in range(5):
                results[i, j] = Alike(model.generate(prompts[i], max_tokens=5))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {(i, j): expected[i] for i in range(6) for j in range(5)}


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_impossible_times_are_refused(tiny_gguf, seconds):
    with pytest.raises(ConfigurationError, match="`keep_alive` must be at least 0 seconds"):
        LlamaCppModel(tiny_gguf, keep_alive=seconds)


@pytest.mark.model
def test_the_memory_of_a_real_model_is_given_back():
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell")
    code = """
import os
from pathlib import Path
from leanrag import GenerateOptions, LlamaCppModel
from leanrag.models import resolve
from tests.llama.test_keep_alive import wait_until_freed

def resident_bytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

with LlamaCppModel(resolve("smollm2-135m"), n_ctx=2048, threads=1, keep_alive=0, cache_bytes=0) as model:
    answer = model.generate("The capital of France is", max_tokens=4)
    wait_until_freed(model)
    low = resident_bytes()
    high = 0
    for number, _ in enumerate(model.stream("The capital of France is", GenerateOptions(4))):
        high = resident_bytes() if number == 0 else high
    wait_until_freed(model)
    again = resident_bytes()
    assert model.generate("The capital of France is", max_tokens=4).token_ids == answer.token_ids
    print(model.info.size_bytes, low, high, again)
"""
    # In a process of its own: others on the same file would keep its pages.
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    size, low, high, again = map(int, result.stdout.split())
    assert high - low > 0.8 * size
    assert again - low < 0.1 * size
