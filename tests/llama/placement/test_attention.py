"""The attention of a GPU: measured once, remembered, and measured again when what is remembered makes no sense."""

import json
import logging
import shutil

import pytest

from leanrag import ConfigurationError, GenerationError, LlamaCppModel, ModelLoadError
from leanrag.llama import ComputeOptions
from leanrag.llama.engine import Engine
from leanrag.llama.library import Device
from leanrag.llama.placement.attention import CANDIDATES, EXACT, Attention, choices_file, choose
from leanrag.llama.requests import Request
from leanrag.llama.sampling import Sampler, SamplingOptions
from leanrag.llama.settings import EngineSettings
from tests.records import rewrite_record

FLASH, ROUNDED = CANDIDATES[1:]
GPU = Device("CUDA0", "a GPU", "gpu", 2**33, 2**33)


class Watch:
    """Says how long each way takes, and counts how often it is asked."""

    def __init__(self, *seconds: float | None) -> None:
        self.seconds, self.calls = dict(zip(CANDIDATES, seconds, strict=True)), 0

    def __call__(self, way: Attention) -> float:
        self.calls += 1
        if self.seconds[way] is None:
            raise GenerationError("no memory")
        return self.seconds[way]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ((3.0, 2.0, 2.5), FLASH),
        ((1.0, 2.0, 2.5), EXACT),
        ((3.0, 2.0, 1.9), FLASH),  # not enough for the rounding
        ((3.0, 2.0, 1.7), ROUNDED),
        ((None, None, 9.0), ROUNDED),
        ((None, 2.0, None), FLASH),
    ],
)
def test_the_fastest_is_taken_and_remembered(tmp_path, seconds, best):
    watch, file = Watch(*seconds), tmp_path / "new" / "attention.json"
    for _ in range(2):
        assert choose("a model", CANDIDATES, watch, file) == best
        assert watch.calls == 3
    assert choose("another", CANDIDATES, Watch(3.0, 1.0, 1.0), file) == FLASH
    assert choose("a model", CANDIDATES, watch, file) == best
    assert watch.calls == 3
    assert choose("a model", CANDIDATES, watch, None) == best
    assert watch.calls == 6


def test_where_nothing_works_the_reason_is_said(tmp_path):
    with pytest.raises(GenerationError, match="no memory"):
        choose("a model", CANDIDATES, Watch(None, None, None), tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_what_was_asked_for_is_not_measured(tmp_path):
    assert choose("a model", (ROUNDED,), Watch(None, None, None), tmp_path / "x.json") == ROUNDED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        json.dumps({"version": 2}),
        json.dumps({"version": 1, "measured": {"a model": {"seconds": {"flash f16": 1}}}}),
    ],
)
def test_a_wrong_file_is_measured_again(tmp_path, caplog, text):
    file = tmp_path / "attention.json"
    file.write_text(text, encoding="utf-8")
    watch = Watch(3.0, 2.0, 2.5)
    assert choose("a model", CANDIDATES, watch, file) == FLASH
    assert "measured again" in caplog.text
    assert choose("a model", CANDIDATES, watch, file) == FLASH
    assert watch.calls == 3


@pytest.mark.parametrize(
    "measured", [{"seconds": {"flash f16": -1}}, {"seconds": {"flash f16": "quick"}}, {"seconds": {}, "more": 1}]
)
def test_a_file_with_wrong_values_is_measured_again(tmp_path, caplog, measured):
    file = tmp_path / "attention.json"
    choose("a model", CANDIDATES, Watch(3.0, 2.0, 2.5), file)
    rewrite_record(file, lambda fields: fields["measured"].update({"a model": measured}))
    assert choose("a model", CANDIDATES, Watch(1.0, 2.0, 2.5), file) == EXACT
    assert "measured again" in caplog.text


def test_a_name_that_is_not_known_is_passed_over(tmp_path):
    file = tmp_path / "attention.json"
    choose("another", CANDIDATES, Watch(3.0, 2.0, 2.5), file)
    seconds = {"magic f32": 0.1, "plain f16": 2.0}
    rewrite_record(file, lambda fields: fields["measured"].update({"a model": {"seconds": seconds}}))
    assert choose("a model", CANDIDATES, Watch(None, None, None), file) == EXACT


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert choose("a model", CANDIDATES, Watch(3.0, 2.0, 2.5), tmp_path / "file" / "attention.json") == FLASH
    assert "was not saved" in caplog.text


def test_it_is_in_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path))
    assert choices_file() == tmp_path / "attention.json"


@pytest.fixture
def file(tiny_gguf, tmp_path):
    """A file that no other test has loaded."""
    return shutil.copy(tiny_gguf, tmp_path / "own.gguf")


def settings(**more) -> EngineSettings:
    return EngineSettings(256, 1, max_queue=8, parallel=2, cache_bytes=0, compute=ComputeOptions(64), **more)


def test_an_engine_measures_on_a_gpu_once(file, tmp_path, caplog):
    choices = tmp_path / "attention.json"
    with caplog.at_level(logging.INFO, "leanrag.llama.placement.attention"):
        engines = [Engine(file, settings(choices=choices), devices=lambda: [GPU]) for _ in range(2)]
    seconds = json.loads(choices.read_text(encoding="utf-8"))["measured"]
    assert len(seconds) == 1
    assert all("a GPU" in key and "2 layers" in key for key in seconds)
    assert engines[0].attention == engines[1].attention
    request = engines[0].submit(Request([1, 70, 71], max_tokens=4, choose=Sampler(SamplingOptions())))
    assert len(request.result.token_ids) == 4
    for engine in engines:
        engine.close()


def test_nothing_is_measured_on_a_cpu(file, tmp_path):
    choices = tmp_path / "attention.json"
    engine = Engine(file, settings(choices=choices), devices=list)
    assert engine.attention == EXACT
    assert not choices.exists()
    engine.close()


@pytest.mark.model
def test_a_cache_in_eight_bits_answers_nearly_the_same(smollm):
    prompt = "The capital of France is"
    with LlamaCppModel(smollm.path, n_ctx=256, compute=ComputeOptions(kv_type="q8_0")) as model:
        assert model._engine.attention == ROUNDED
        rounded, exact = model.score(" Paris.", condition=prompt), smollm.score(" Paris.", condition=prompt)
    assert rounded.logprobs == pytest.approx(exact.logprobs, abs=0.2)
    assert rounded.logprobs != exact.logprobs


def test_a_cache_that_a_model_cannot_have_is_an_error(tiny_gguf):
    with pytest.raises(ModelLoadError, match="q8_0 with block size 32 does not divide"):
        LlamaCppModel(tiny_gguf, threads=1, compute=ComputeOptions(kv_type="q8_0"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kv_type": "q4"}, "`kv_type` must be"), ({"kv_type": "q8_0", "flash_attn": False}, "needs")],
)
def test_what_cannot_be_is_refused(tiny_gguf, options, message):
    with pytest.raises(ConfigurationError, match=message):
        LlamaCppModel(tiny_gguf, compute=ComputeOptions(**options))
