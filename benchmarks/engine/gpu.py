"""The measurements of `benchmarks.engine --device gpu`: figures of one GPU, next to those of the binding on the same GPU."""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import leanrag
from benchmarks.common import Questions
from leanrag import GpuOptions, LlamaCppModel
from leanrag.llama.batch import Batch
from leanrag.llama.library import library, list_devices
from leanrag.llama.process import IsolatedModel
from leanrag.protocols import Embedder

__all__ = ["Plan", "PlainLoop", "measure", "timed_ask"]

_WINDOW = 8192
_SEQUENCES = (8, 32, 128)
_PROMPT = 8  # tokens that each of many sequences begins with
_CALLERS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        layers: On the GPU, as llama.cpp counts them: -1 for all.
        threads: Threads of a computation.
        prefill: Tokens of a prompt that is only read.
        decode: Tokens of one answer.
        answers: Tokens of each of many answers.
        context: Tokens of a context that comes again.
        rounds: Times that each is measured; the median counts.
        documents: Of the data set, in the folder that is asked.
        asks: Questions of each caller.
        requests: After which the memory is compared, and how many warm it up.
    """

    layers: int
    threads: int
    prefill: int = 2048
    decode: int = 256
    answers: int = 56
    context: int = 800
    rounds: int = 7
    documents: int = 200
    asks: int = 6
    requests: tuple[int, int] = (2000, 50)

    @classmethod
    def quick(cls, layers: int, threads: int) -> Plan:
        """The same in little: whether it runs, not how fast."""
        return cls(layers, threads, 256, 8, 3, 100, 1, 8, 1, (20, 10))


class PlainLoop:
    """The least that can be done with the binding's C functions: batches, logits to memory, no sampling, no text.

    Args:
        path: The GGUF file.
        plan: How much is measured.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self._lib = lib = library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = plan.layers
        self._model = lib.llama_model_load_from_file(str(path).encode(), parameters)
        settings = lib.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = _WINDOW, 2048, 512
        settings.n_seq_max, settings.kv_unified = max(_SEQUENCES), True
        settings.n_outputs_max = max(_SEQUENCES)
        settings.n_threads = settings.n_threads_batch = plan.threads
        settings.no_perf = True
        self._context = lib.llama_init_from_model(self._model, settings)
        if not self._context:
            raise SystemExit("the plain loop found no memory")
        self._batch = Batch(lib, 2048, max(_SEQUENCES))
        self._memory: Any = lib.llama_get_memory(self._context)
        self._random = random.Random(3)

    def prefill(self, n: int) -> float:
        """Tokens a second of a prompt of `n`."""
        self._forget()
        tokens = self._tokens(n)
        started = time.perf_counter()
        for start in range(0, n, 2048):
            part = tokens[start : start + 2048]
            self._batch.clear()
            self._batch.add(part, start, 0, len(part) - 1)
            self._compute()
        return n / (time.perf_counter() - started)

    def decode(self, n: int, steps: int) -> float:
        """Tokens a second of `n` sequences together, `steps` tokens each."""
        self._forget()
        self._batch.clear()
        for sequence in range(n):
            self._batch.add(self._tokens(_PROMPT), 0, sequence, _PROMPT - 1)
        self._compute()
        sequences = np.arange(n, dtype=np.int32)
        tokens = np.array(self._tokens(n), np.int32)
        started = time.perf_counter()
        for step in range(steps):
            self._batch.clear()
            self._batch.add_each(tokens, np.full(n, _PROMPT + step, np.int32), sequences)
            self._compute()
        return n * steps / (time.perf_counter() - started)

    def close(self) -> None:
        """Free the model."""
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def _tokens(self, n: int) -> list[int]:
        return [self._random.randrange(300, 20_000) for _ in range(n)]

    def _forget(self) -> None:
        self._lib.llama_memory_clear(self._memory, False)

    def _compute(self) -> None:
        code = self._lib.llama_decode(self._context, self._batch.native())
        if code or not self._lib.llama_get_logits_ith(self._context, -1):  # waits for them
            raise SystemExit(f"the plain loop failed with code {code}")


class PlainModel:
    """`llama_cpp.Llama` with its defaults, but for window, threads and layers."""

    def __init__(self, path: Path, plan: Plan) -> None:
        from llama_cpp import Llama

        self._llm: Any = Llama(
            str(path), n_ctx=_WINDOW, n_threads=plan.threads, n_gpu_layers=plan.layers, verbose=False
        )
        self._turn = threading.Lock()

    def stream(self, prompt: str, max_tokens: int, *, reuse: bool = False) -> tuple[float, float, int]:
        """Seconds to the first token and from there on, and tokens generated; greedy."""
        if not reuse:
            self._llm.reset()
        started = time.perf_counter()
        first, n = 0.0, 0
        for token in self._llm.generate(
            self._llm.tokenize(prompt.encode(), add_bos=False), temp=0.0, repeat_penalty=1.0
        ):
            first = first or time.perf_counter()
            n += 1
            if n == max_tokens or token == self._llm.token_eos():
                break
        return first - started, time.perf_counter() - first, n

    def ask(self, messages: Sequence[dict[str, str]], max_tokens: int) -> None:
        """Answer messages; callers wait for each other, as they must."""
        with self._turn:
            self._llm.create_chat_completion(list(messages), max_tokens=max_tokens, temperature=0.0)

    def close(self) -> None:
        """Free the model."""
        self._llm.close()


def measure(path: Path, data: Questions, plan: Plan, embedder: str | Embedder) -> dict[str, float | int | None]:
    """Return all figures; those that begin with "gpu" are of the engine, with "llama" of `llama_cpp.Llama`, with "c" of C."""
    plain = PlainLoop(path, plan)
    llama = PlainModel(path, plan)
    figures: dict[str, float | int | None] = {}
    with LlamaCppModel(
        path, n_ctx=_WINDOW, threads=plan.threads, gpu=GpuOptions(plan.layers), parallel=max(_SEQUENCES), max_queue=1000
    ) as ours:
        texts = _Texts(data, ours)
        warm_up = texts.of(_PROMPT)
        ours.generate(warm_up, max_tokens=4)
        llama.stream(warm_up, 4)
        sections: list[Callable[[], dict[str, float]]] = [
            # The C loop begins with an empty cache. So these come first, before the engine keeps long prompts in its cache.
            lambda: _one(ours, plain, llama, texts, plan),
            lambda: _many(ours, plain, texts, plan),
            lambda: _reading(ours, plain, llama, texts, plan),
            lambda: _seen(ours, llama, texts, plan),
            lambda: _asks(ours, llama, data, path, plan, embedder),
            lambda: _memory(ours, texts, plan),
        ]
        for section in sections:
            for name, value in section().items():
                figures[name] = value
                print(f"{name:36} {value:,.3f}", flush=True)
    for each in (plain, llama):
        each.close()
    return figures


class _Texts:
    """Prompts by their tokens, none twice."""

    def __init__(self, data: Questions, model: LlamaCppModel) -> None:
        self._words = " ".join(document.text for document in data.documents).split()
        self._questions, self._model = [question.text for question in data.questions], model
        self._random = random.Random(1)

    def of(self, tokens: int) -> str:
        """About `tokens` tokens, from a place drawn at random; at least one, and never more."""
        words: list[str] = []
        while not words:  # a word may be longer
            at = self._random.randrange(len(self._words) - tokens)
            words = self._words[at : at + tokens]
            while (excess := self._model.count_tokens(" ".join(words)) - tokens) > 0:
                del words[-max(1, excess // 2) :]
        return " ".join(words)

    def question(self) -> str:
        return f"\n\nQuestion: {self._random.choice(self._questions)}\nAnswer:"


def _one(ours: LlamaCppModel, plain: PlainLoop, llama: PlainModel, texts: _Texts, plan: Plan) -> dict[str, float]:
    """Tokens a second of one answer."""
    rates: list[tuple[float, ...]] = []
    for _ in range(plan.rounds):
        prompt = texts.of(32)
        generation = ours.generate(prompt, max_tokens=plan.decode)
        _, rest, written = llama.stream(prompt, plan.decode)
        own = (generation.usage.completion_tokens - 1) / (generation.decode_seconds or 1)
        rates.append((own, (written - 1) / rest, plain.decode(1, plan.decode)))
    own, of_llama, of_c = map(statistics.median, zip(*rates, strict=True))
    return {
        "gpu_share@1": statistics.median(rate[0] / rate[2] for rate in rates),
        "gpu_decode_1": own,
        "llama_decode_1": of_llama,
        "c_decode_1": of_c,
    }


def _reading(ours: LlamaCppModel, plain: PlainLoop, llama: PlainModel, texts: _Texts, plan: Plan) -> dict[str, float]:
    """Tokens a second of long prompts, and of one answer while the engine keeps some of them in its cache."""
    rates: list[tuple[float, ...]] = []
    kept: list[float] = []
    for i in range(plan.rounds + 1):
        prompt = texts.of(plan.prefill)
        generation = ours.generate(prompt, max_tokens=1)
        n = generation.usage.prompt_tokens
        first, _, _ = llama.stream(prompt, 1)
        if i:  # the first one warms up
            rates.append((n / (generation.prefill_seconds or 1), n / first, plain.prefill(n)))
        generation = ours.generate(texts.of(32), max_tokens=plan.decode)
        kept.append((generation.usage.completion_tokens - 1) / (generation.decode_seconds or 1))
    names = ("gpu_prefill_2048", "llama_prefill_2048", "c_prefill_2048")
    medians = map(statistics.median, zip(*rates, strict=True))
    return {**dict(zip(names, medians, strict=True)), "gpu_decode_1_with_kept_prompts": statistics.median(kept)}


def _many(ours: LlamaCppModel, plain: PlainLoop, texts: _Texts, plan: Plan) -> dict[str, float]:
    """Tokens a second of many answers together: what long answers take more than short ones, so that reading is left out."""

    def written(n: int, max_tokens: int) -> tuple[int, float]:
        started = time.perf_counter()
        generations = ours.generate_many(prompts[:n], max_tokens=max_tokens)
        seconds = time.perf_counter() - started
        return sum(generation.usage.completion_tokens for generation in generations), seconds

    prompts: list[str] = []  # such as are carried on to the last token: all sequences are then at work all the time
    while len(prompts) < max(_SEQUENCES):
        some = [texts.of(_PROMPT) for _ in range(32)]
        answers = ours.generate_many(some, max_tokens=plan.answers)
        prompts += [
            text for text, answer in zip(some, answers, strict=True) if answer.usage.completion_tokens == plan.answers
        ]
    figures: dict[str, float] = {}
    for n in _SEQUENCES:
        own, c = [], []
        for _ in range(plan.rounds):
            (few, short), (many, long) = written(n, max(1, plan.answers // 7)), written(n, plan.answers)
            own.append((many - few) / (long - short))
            c.append(plain.decode(n, plan.answers))
        for name, values in (("gpu", own), ("c", c)):
            figures[f"{name}_aggregate_{n}"] = statistics.median(values)
        figures[f"gpu_share@{n}"] = statistics.median(a / b for a, b in zip(own, c, strict=True))
    return figures


def _seen(ours: LlamaCppModel, llama: PlainModel, texts: _Texts, plan: Plan) -> dict[str, float]:
    """Milliseconds from the call to the first token of another question on a context that was read before."""
    own, binding = [], []
    for _ in range(3 * plan.rounds):
        context = texts.of(plan.context)
        ours.generate(context + texts.question(), max_tokens=1)
        llama.stream(context + texts.question(), 1)
        prompt = context + texts.question()
        started = time.perf_counter()
        ours.generate(prompt, max_tokens=1)
        own.append(1000 * (time.perf_counter() - started))
        binding.append(1000 * llama.stream(prompt, 1, reuse=True)[0])
    return {
        "gpu_ttft_ms": statistics.median(own),
        "llama_ttft_ms": statistics.median(binding),
    }


def timed_ask(rag: leanrag.Rag) -> Callable[[str], float]:
    """Return a function that asks a question and returns the seconds that it took."""

    def ask(question: str) -> float:
        started = time.perf_counter()
        rag.ask(question)
        return time.perf_counter() - started

    return ask


def _asks(
    ours: LlamaCppModel, llama: PlainModel, data: Questions, path: Path, plan: Plan, embedder: str | Embedder
) -> dict[str, float]:
    """Seconds of a question, eight callers at once: `ask`, and all ten hits read by a `Llama` that they share.

    The first is measured with the model in this process, where its thread waits for those of the callers, and in one of its own.
    """
    questions = [question.text for question in random.Random(4).sample(data.questions, 2 * _CALLERS * plan.asks)]
    warm_up, questions = questions[: _CALLERS * plan.asks], questions[_CALLERS * plan.asks :]
    isolated = IsolatedModel(
        path, n_ctx=_WINDOW, threads=plan.threads, gpu=GpuOptions(plan.layers), parallel=max(_SEQUENCES), max_queue=1000
    )
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, isolated, ThreadPoolExecutor(_CALLERS) as callers:
        for name, model in (("gpu_ask_8_callers", ours), ("gpu_ask_isolated_8_callers", isolated)):
            with leanrag.open(folder, model=model, embedder=embedder) as rag:
                if not len(figures):
                    rag.add(*data.documents[: plan.documents], progress=False)
                ask = timed_ask(rag)
                list(callers.map(ask, warm_up))
                figures[f"{name}_p50"] = statistics.median(callers.map(ask, questions))
        with leanrag.open(folder, model=ours, embedder=embedder) as rag:

            def ask_llama(question: str) -> float:
                started = time.perf_counter()
                sources = "\n\n".join(hit.chunk.text for hit in rag.search(question, k=10))
                llama.ask([{"role": "user", "content": f"{sources}\n\nQuestion: {question}\nAnswer:"}], 64)
                return time.perf_counter() - started

            binding = statistics.median(callers.map(ask_llama, questions))
    ratios = {
        "gpu_ask8_ratio": binding / figures["gpu_ask_8_callers_p50"],
        "gpu_ask8_isolated_ratio": binding / figures["gpu_ask_isolated_8_callers_p50"],
    }
    return {**figures, "llama_ask_8_callers_p50": binding, **ratios}


def _memory(ours: LlamaCppModel, texts: _Texts, plan: Plan) -> dict[str, float]:
    """Memory in use on the device after many requests of all kinds, to that after the first of them."""
    dice = random.Random(2)
    context = texts.of(plan.context)

    def some(n: int) -> None:
        for _ in range(n // 10):
            ours.generate_many([texts.question() for _ in range(4)], max_tokens=dice.randrange(1, 9))
            ours.generate_many([context + texts.question() for _ in range(2)], max_tokens=4)
            ours.generate_many([texts.of(60) for _ in range(2)], max_tokens=2)
            ours.score_many([(context, texts.question()), (None, texts.question())])

    requests, first = plan.requests
    some(first)
    before = _used_bytes()
    some(requests - first)
    after = _used_bytes()
    return {
        "gpu_memory_growth": after / before,
        "gpu_memory_mib": after / 2**20,
        "gpu_memory_requests": requests,
    }


def _used_bytes() -> int:
    """Bytes in use on all GPUs; without one, those that this process has in memory."""
    devices = [device for device in list_devices() if device.kind in ("gpu", "igpu")]
    if not devices:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    return sum(device.total_bytes - device.free_bytes for device in devices)
