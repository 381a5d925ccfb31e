"""The benchmark `training`: merged weights, calibrations that are judged on other articles, and the table."""

import random

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from benchmarks.training.calibrating import Reply, evaluate  # noqa: E402
from benchmarks.training.quantizing import write_merged  # noqa: E402
from benchmarks.training.table import training_lines  # noqa: E402
from leanrag.files import sha256_of  # noqa: E402
from leanrag.llama import LlamaCppModel, quantize  # noqa: E402
from leanrag.routing.samples import Sample  # noqa: E402
from leanrag.routing.signals import Signals  # noqa: E402
from leanrag.training.base import load_decoder  # noqa: E402
from leanrag.training.lora import add_lora, lora_layers, write_adapter  # noqa: E402


@pytest.mark.slow
def test_merged_weights_lose_only_when_they_are_rounded_again(tiny_gguf, tmp_path):
    decoder = load_decoder(tiny_gguf)
    add_lora(decoder, rank=4, alpha=8, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, layer in lora_layers(decoder):
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.05)
    adapter, merged, rounded = (tmp_path / name for name in ("mine.gguf", "merged.gguf", "rounded.gguf"))
    base_sha256 = sha256_of(tiny_gguf)
    write_adapter(adapter, decoder, base_name="tiny", base_sha256=base_sha256, profile="smollm2-135m+reader")
    write_merged(tiny_gguf, adapter, merged)
    quantize(merged, rounded, type="q4_0")

    def logprobs(path, adapters=()):
        with LlamaCppModel(path, threads=1, adapters=adapters) as model:
            return np.array(model.score("6,650 km", condition="How long is the Nile?").logprobs)

    expected = logprobs(tiny_gguf, [adapter])
    assert np.abs(logprobs(merged) - expected).max() < 0.05
    assert np.abs(logprobs(rounded) - expected).max() > 0.05


def make_replies(count):
    """Replies that are right if their first token is probable; every third question has no answer."""
    source = random.Random(0)
    replies = []
    for i in range(count):
        logprob = -5 * source.random()
        is_answerable, is_sure = i % 3 > 0, logprob > -2
        known = dict.fromkeys(Signals.__dataclass_fields__, 0.0) | {"logprob_first": logprob, "self_check": None}
        text = "Oslo" if is_answerable == is_sure else "not in the sources"
        name, answers = "squad-near-miss" if i % 2 else "nq", ("Oslo",) if is_answerable else ()
        replies.append(Reply(name, f"article {i // 4}", answers, Sample(text, Signals(**known))))
    return replies


def test_calibrations_are_judged_on_other_articles():
    figures = evaluate(make_replies(240), folds=3)
    assert figures["calibrated_n"] == 240
    assert figures["calibrated_auroc"] > 0.8
    assert figures["abstaining_wrongly_refuses"] >= figures["in_use_wrongly_refuses"]
    assert figures["calibrated_kept_wrong"] <= 0.2


def test_a_figure_that_was_not_measured_is_a_dash():
    text = training_lines({"smollm2_nq1_em": 0.5, "q4_0_cost": 0.0301, "kl_gain": None}, "here")
    assert "| smollm2-135m+reader | 0.50 | – |" in text
    assert "Q4_0 costs 0.03 (– questions)" in text
