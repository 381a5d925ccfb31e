"""The measurements of `benchmarks.engine --device gpus`: what a second GPU brings."""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import leanrag
from benchmarks.common import Questions
from benchmarks.engine.gpu import timed_ask
from leanrag import GpuOptions, LlamaCppModel
from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.llama import LlamaCppEmbedder
from leanrag.llama.files import check_gguf
from leanrag.llama.library import list_devices
from leanrag.llama.placement import gpu_devices, measure_sizes, place
from leanrag.llama.process import IsolatedModel
from leanrag.threads import usable_cores

__all__ = ["Plan", "measure"]

Figures = dict[str, float | int | None]

_N_CTX = 4096  # of the model that is split
_ASKING_CALLERS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        gpus: The index of each GPU; None is the CPU, for a dry run.
        callers: Callers that ask at the same time.
        turns: Prompts of each caller, one after the other.
        prompt: Tokens of a prompt.
        answer: Most tokens of an answer.
        rounds: Times that each is measured; the median counts.
        documents: Of the data set, in the folder that is asked.
        asks: Questions of each caller of `ask`.
    """

    gpus: Sequence[int | None]
    callers: int = 128
    turns: int = 2
    prompt: int = 96
    answer: int = 48
    rounds: int = 5
    documents: int = 200
    asks: int = 6

    @classmethod
    def quick(cls, gpus: Sequence[int | None]) -> Plan:
        """The same in little: whether it runs, not how fast."""
        return cls(gpus, callers=2, turns=1, prompt=24, answer=4, rounds=1, documents=4, asks=1)


def measure(path: Path, data: Questions, plan: Plan, embedder: str | None) -> Figures:
    """Return all figures.

    Args:
        path: The model's file.
        data: Gives prompts, documents and questions.
        plan: How much is measured.
        embedder: The GGUF file of an embedder for `ask`; None leaves `ask` out.
    """
    figures: Figures = {"n": plan.rounds, "callers": plan.callers}
    sections: list[Callable[[], Figures]] = [
        lambda: _copies(path, data, plan),
        lambda: _split(path, data, plan),
        lambda: _too_large_for_one(path),
    ]
    if embedder is not None:
        sections.append(lambda: _reader_and_embedder(path, data, plan, embedder))
    for section in sections:
        for name, value in section().items():
            figures[name] = value
            print(f"{name:36} {value if value is None else format(value, ',.3f')}", flush=True)
    return figures


def _copies(path: Path, data: Questions, plan: Plan) -> Figures:
    """Tokens a second of many callers: two copies behind one queue against one copy, in turns."""
    settings = {
        "n_ctx": plan.callers * (plan.prompt + plan.answer + 32),
        "parallel": plan.callers,
        "max_queue": 2 * plan.callers,
        "cache_bytes": 0,
        "threads": max(1, usable_cores() // 4),
    }
    passages = _Passages(data)
    found: dict[str, list[float]] = {"one": [], "two": []}
    with (
        IsolatedModel(path, gpus=plan.gpus[:1], **settings) as one,
        IsolatedModel(path, gpus=plan.gpus, **settings) as two,
    ):
        models = {"one": one, "two": two}
        for i in range(plan.rounds + 1):
            for name, model in models.items():
                rate = _tokens_a_second(model, passages, plan)
                print(f"{name}: {rate:,.0f} tokens a second", flush=True)
                if i:  # the first one warms up
                    found[name].append(rate)
    rates = {name: statistics.median(values) for name, values in found.items()}
    return {
        "one_gpu_tokens_per_second": rates["one"],
        "two_gpus_tokens_per_second": rates["two"],
        "two_gpus_ratio": statistics.median(b / a for a, b in zip(found["one"], found["two"], strict=True)),
    }


def _tokens_a_second(model: IsolatedModel, passages: _Passages, plan: Plan) -> float:
    """Return the tokens a second that the answers to all callers have; each asks again when its answer is there."""
    prompts = [[passages.draw(plan.prompt) for _ in range(plan.turns)] for _ in range(plan.callers)]

    def call(own: Sequence[str]) -> int:
        return sum(model.generate(prompt, max_tokens=plan.answer).usage.completion_tokens for prompt in own)

    with ThreadPoolExecutor(plan.callers) as callers:
        started = time.perf_counter()
        tokens = sum(callers.map(call, prompts))
        return tokens / (time.perf_counter() - started)


def _split(path: Path, data: Questions, plan: Plan) -> Figures:
    """A model on one GPU, and split over both: how fast it reads and writes, and its memory against the estimate."""
    ways = {"one_gpu": GpuOptions(layers=0), "split_layer": GpuOptions(layers=0)}
    if None not in plan.gpus:
        ways = {
            "one_gpu": GpuOptions(layers=-1, main_gpu=plan.gpus[0]),
            "split_layer": GpuOptions(layers=-1, tensor_split=[1, 1]),
            "split_row": GpuOptions(layers=-1, split="row"),
        }
    figures: Figures = {}
    for name, options in ways.items():
        before = _used_bytes()
        try:
            with LlamaCppModel(path, n_ctx=_N_CTX, gpu=options, trial=False) as model:
                figures |= _speeds(name, model, data, plan)
                for i, part in enumerate(model.placement.devices):
                    used = _used_bytes()[i] - before[i]
                    figures[f"{name}_memory_to_estimate_{i}"] = used / part.size_bytes if part.size_bytes else None
        except (ConfigurationError, ModelLoadError) as error:
            print(f"{name}: {error}", flush=True)
            figures[f"{name}_decode_1"] = None
    return figures


def _speeds(name: str, model: LlamaCppModel, data: Questions, plan: Plan) -> Figures:
    """Return the tokens a second of reading, of one answer, and of 32 answers at once."""
    passages = _Passages(data)
    model.generate(passages.draw(4 * plan.prompt), max_tokens=8)
    reading, one, many = [], [], []
    for _ in range(plan.rounds):
        generation = model.generate(passages.draw(4 * plan.prompt), max_tokens=plan.answer)
        reading.append(generation.usage.prompt_tokens / (generation.prefill_seconds or math.inf))
        one.append((generation.usage.completion_tokens - 1) / (generation.decode_seconds or math.inf))
        prompts = [passages.draw(16) for _ in range(32)]
        started = time.perf_counter()
        generations = model.generate_many(prompts, max_tokens=plan.answer)
        seconds = time.perf_counter() - started
        many.append(sum(generation.usage.completion_tokens for generation in generations) / seconds)
    speeds = {"prefill": reading, "decode_1": one, "answers_32": many}
    return {f"{name}_{key}": statistics.median(values) for key, values in speeds.items()}


def _too_large_for_one(path: Path) -> Figures:
    """Load a model with two GPUs of which each has memory for little more than half of it, as far as the placement knows.

    The figure is 1 if all of its layers are on the two GPUs.
    """
    gpus = gpu_devices()
    if len(gpus) < 2:
        return {"too_large_for_one_split": None}
    sizes = measure_sizes(check_gguf(path), n_ctx=_N_CTX, n_batch=2048)
    whole = sum(sizes.layers) + sum(sizes.cache) + sizes.scratch
    share = int(0.6 * whole) + sizes.scratch + max(gpu.total_bytes for gpu in gpus) // 50
    small = [replace(gpu, free_bytes=min(gpu.free_bytes, share)) for gpu in gpus]
    placement = place(sizes, small, GpuOptions())
    with LlamaCppModel(
        path, n_ctx=_N_CTX, gpu=GpuOptions(-1, tensor_split=placement.tensor_split), trial=False
    ) as model:
        model.generate("Once upon a time", max_tokens=8)
        layers = [part.layers for part in model.placement.devices]
    print(placement, flush=True)
    return {"too_large_for_one_split": float(all(layers) and sum(layers) == placement.n_layers)}


def _reader_and_embedder(path: Path, data: Questions, plan: Plan, embedder: str) -> Figures:
    """Median seconds of `ask` with eight callers: the embedder on the GPU of the reader, and on the other one."""
    questions = [question.text for question in random.Random(4).sample(data.questions, 2 * _ASKING_CALLERS * plan.asks)]
    warm_up, questions = questions[: len(questions) // 2], questions[len(questions) // 2 :]
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_ASKING_CALLERS) as callers:
        for name, gpu in (("same", plan.gpus[0]), ("other", plan.gpus[-1])):
            with (
                LlamaCppModel(path, n_ctx=8192, gpu=_on(plan.gpus[0])) as model,
                LlamaCppEmbedder(embedder, gpu=_on(gpu)) as on_gpu,
                leanrag.open(folder, model=model, embedder=on_gpu) as rag,
            ):
                rag.add(*data.documents[: plan.documents], progress=False)
                ask = timed_ask(rag)
                list(callers.map(ask, warm_up))
                figures[f"ask8_embedder_on_{name}_gpu_p50"] = statistics.median(callers.map(ask, questions))
    return figures


def _on(gpu: int | None) -> GpuOptions:
    return GpuOptions(layers=0) if gpu is None else GpuOptions(layers=-1, main_gpu=gpu)


def _used_bytes() -> list[int]:
    """Return the bytes in use on each GPU."""
    return [device.total_bytes - device.free_bytes for device in list_devices() if device.kind in ("gpu", "igpu")]


class _Passages:
    """Draws passages of about as many tokens as are asked for, from places drawn at random."""

    def __init__(self, data: Questions) -> None:
        self._words = " ".join(document.text for document in data.documents).split()
        self._random = random.Random(1)

    def draw(self, tokens: int) -> str:
        """Return a passage: three words are about four tokens."""
        n = max(1, tokens * 3 // 4)
        start = self._random.randrange(len(self._words) - n)
        return " ".join(self._words[start : start + n])
