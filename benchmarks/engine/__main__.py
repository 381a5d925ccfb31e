"""The engine against `llama_cpp.Llama`: the same file, threads, window and prompts, alternating in one run.

python -m benchmarks.engine --data DIR --json FILE [--only SECTION] [--long] [--quick]
python -m benchmarks.engine --device gpu --data DIR --json FILE [--model FILE] [--embedder FILE] [--quick]
python -m benchmarks.engine --device gpus --data DIR --json FILE [--model FILE] [--embedder FILE] [--quick]

Ratios are of the baseline's time to ours (or of our tokens a second to the baseline's): above 1, ours is faster.
On a GPU absolute figures count; those of the binding stand beside them. `gpus` measures two GPUs against one. Without a GPU,
`--quick` is a dry run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common import Arguments, finish, parse_arguments, read_squad
from benchmarks.engine import two_gpus
from benchmarks.engine.formats import measure_formats
from benchmarks.engine.gpu import Plan, measure
from benchmarks.engine.speculation import measure_speculation
from benchmarks.engine.windows import measure_windows
from leanrag.llama import LlamaCppModel, quantize
from leanrag.llama.library import list_devices
from leanrag.models import resolve
from leanrag.testing import HashEmbedder
from leanrag.threads import usable_cores

T = TypeVar("T")

MODEL = "smollm2-135m"
SECTIONS = (
    "single",
    "shared",
    "interleaved",
    "short",
    "first_token",
    "restart",
    "requantised",
    "scoring",
    "memory",
    "formats",
    "speculation",
    "windows",
)
N_CTX = 4096
CONTEXT_TOKENS, QUICK_CONTEXT_TOKENS = 800, 200
ROUNDS, QUICK_ROUNDS = 5, 1
REQUESTS, QUICK_REQUESTS = 2000, 10


class Texts:
    """Prompts that were not used before: each call draws passages at random."""

    def __init__(
        self, passages: Sequence[str], questions: Sequence[str], model: LlamaCppModel, context_tokens: int
    ) -> None:
        self._passages, self._questions, self._model = passages, questions, model
        self._context_tokens = context_tokens
        self._random = random.Random(1)

    def context(self, tokens: int | None = None) -> str:
        """Text of as many tokens, or of a context's."""
        tokens = tokens or self._context_tokens
        words: list[str] = []
        while len(words) < tokens:
            words += self._random.choice(self._passages).split()
        low, high = tokens // 4, len(words)
        while low < high:  # the fewest words that make as many tokens
            middle = (low + high) // 2
            low, high = (
                (middle + 1, high) if self._model.count_tokens(" ".join(words[:middle])) < tokens else (low, middle)
            )
        return " ".join(words[:low])

    def question(self) -> str:
        """A question that follows a context."""
        return f"\n\nQuestion: {self._random.choice(self._questions)}\nAnswer:"

    def beginning(self) -> str:
        """The first words of a passage, which a model goes on from."""
        return " ".join(self._random.choice(self._passages).split()[: self._random.randrange(12, 25)])


def timed(function: Callable[..., T], *arguments: Any, **options: Any) -> tuple[float, T]:
    """Seconds of a call, and what it returned."""
    started = time.perf_counter()
    value = function(*arguments, **options)
    return time.perf_counter() - started, value


def times_of_stream(pieces: Iterator[Any]) -> tuple[float, float]:
    """Seconds to the first piece, and from there to the last."""
    started = time.perf_counter()
    next(pieces, None)
    first = time.perf_counter()
    for _ in pieces:
        pass
    return first - started, time.perf_counter() - first


class Baseline:
    """`llama_cpp.Llama` with its defaults, but for window and threads."""

    def __init__(self, path: Path, threads: int) -> None:
        from llama_cpp import Llama

        self._llm = Llama(
            str(path), n_ctx=N_CTX, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False
        )

    def stream(self, prompt: str, max_tokens: int) -> tuple[float, float, int]:
        """Seconds to the first token and from there on, and tokens generated."""
        self._llm.reset()
        n = 0

        def pieces() -> Iterator[int]:
            nonlocal n
            tokens = self._llm.tokenize(prompt.encode(), add_bos=False)
            for token in self._llm.generate(tokens, temp=0.0, repeat_penalty=1.0):
                if token == self._llm.token_eos() or n == max_tokens:
                    return
                n += 1
                yield token
                if n == max_tokens:
                    return

        return (*times_of_stream(pieces()), n)

    def complete(self, prompts: Sequence[str], max_tokens: int, *, reuse: bool = True) -> list[str]:
        """Completions one after another, with or without reuse of what the last prompt shares."""
        texts = []
        for prompt in prompts:
            if not reuse:
                self.forget()
            texts.append(
                self._llm.create_completion(prompt, max_tokens=max_tokens, temperature=0.0)["choices"][0]["text"]
            )
        return texts

    def forget(self) -> None:
        """Compute the next prompt from its first token."""
        self._llm.reset()

    def close(self) -> None:
        """Free the model."""
        self._llm.close()


def single(ours: LlamaCppModel, baseline: Baseline, texts: Texts, rounds: int) -> dict[str, float]:
    prefill, decode = [], []
    for _ in range(rounds):
        prompt = texts.context(512)
        first, rest, n = baseline.stream(prompt, 64)
        generation = ours.generate(prompt, max_tokens=64)
        assert generation.prefill_seconds is not None
        assert generation.decode_seconds is not None
        prefill.append(first / generation.prefill_seconds)
        own_n = generation.usage.completion_tokens
        decode.append((rest / (n - 1)) / (generation.decode_seconds / (own_n - 1)))
    return {"prefill_ratio": statistics.median(prefill), "decode_ratio": statistics.median(decode)}


def shared(ours: LlamaCppModel, baseline: Baseline, texts: Texts, rounds: int) -> dict[str, float]:
    no_reuse, prefix_match, same = [], [], 0
    for _ in range(rounds):
        context = texts.context()
        prompts = [context + texts.question() for _ in range(8)]
        own, generations = timed(ours.generate_many, prompts, max_tokens=32)
        cold, completions = timed(baseline.complete, prompts, 32, reuse=False)
        baseline.forget()
        warm, _ = timed(baseline.complete, prompts, 32)
        no_reuse.append(cold / own)
        prefix_match.append(warm / own)
        same += sum(a.text == b for a, b in zip(generations, completions, strict=True))
    return {
        "shared8_vs_no_reuse": statistics.median(no_reuse),
        "shared8_vs_prefix_match": statistics.median(prefix_match),
        "shared8_same_text": same / (8 * rounds),
    }


def interleaved(ours: LlamaCppModel, baseline: Baseline, texts: Texts, rounds: int) -> dict[str, float]:
    ratios = []
    for _ in range(rounds):
        contexts = [texts.context() for _ in range(4)]
        prompts = [contexts[i % 4] + texts.question() for i in range(16)]
        own, _ = timed(ours.generate_many, prompts, max_tokens=32)
        ratios.append(timed(baseline.complete, prompts, 32)[0] / own)
    return {"interleaved16_ratio": statistics.median(ratios)}


def short(ours: LlamaCppModel, baseline: Baseline, texts: Texts, rounds: int) -> dict[str, float]:
    ratios = []
    for _ in range(rounds):
        prompts = [texts.beginning() for _ in range(8)]
        own, generations = timed(ours.generate_many, prompts, max_tokens=64)
        theirs, streams = timed(lambda prompts: [baseline.stream(prompt, 64)[2] for prompt in prompts], prompts)
        own_tokens = sum(generation.usage.completion_tokens for generation in generations)
        ratios.append((own_tokens / own) / (sum(streams) / theirs))
    return {"batch8_ratio": statistics.median(ratios)}


def first_token(ours: LlamaCppModel, texts: Texts, rounds: int) -> dict[str, float]:
    def ttft(prompt: str) -> float:
        return float(ours.generate(prompt, max_tokens=1).prefill_seconds or 0)

    ratios = []
    for _ in range(rounds):
        context, other = texts.context(), texts.context()
        cold = ttft(context + texts.question())
        ttft(other + texts.question())
        ratios.append(cold / ttft(context + texts.question()))
    return {"ttft_reuse_ratio": statistics.median(ratios)}


def first_token_after_restart(path: Path, threads: int, texts: Texts, rounds: int) -> dict[str, float]:
    ratios = []
    for _ in range(rounds):
        context = texts.context()
        with tempfile.TemporaryDirectory() as folder:
            seconds = []
            for _ in range(2):
                with LlamaCppModel(path, n_ctx=N_CTX, threads=threads, cache_dir=folder) as model:
                    model.generate("warm up", max_tokens=1)
                    seconds.append(model.generate(context + texts.question(), max_tokens=1).prefill_seconds or 0)
            ratios.append(seconds[0] / seconds[1])
    return {"ttft_disk_ratio": statistics.median(ratios)}


def requantised(path: Path, threads: int, texts: Texts, rounds: int, ours: LlamaCppModel) -> dict[str, float]:
    """Prefill of copies with types that have matrix kernels, and what batching gives both sides on them."""
    figures: dict[str, float] = {}
    for kind in ("q4_0", "q8_0"):
        figures |= _requantised(kind, path, threads, texts, rounds, ours)
    return figures


def _requantised(
    kind: str, path: Path, threads: int, texts: Texts, rounds: int, ours: LlamaCppModel
) -> dict[str, float]:
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{kind}.gguf"
        quantize(path, target, type=kind)
        with LlamaCppModel(target, n_ctx=N_CTX, threads=threads) as faster:
            for _ in range(rounds):
                prompt = texts.context(512)
                seconds = [model.generate(prompt, max_tokens=1).prefill_seconds or 0 for model in (ours, faster)]
                ratios.append(seconds[0] / seconds[1])
            baseline = Baseline(target, threads)
            figures: dict[str, float] = {}
            for section in (shared, interleaved, short):
                figures |= section(faster, baseline, texts, rounds)
            baseline.close()
    return {f"{kind}_prefill_ratio": statistics.median(ratios)} | {f"{kind}_{name}": v for name, v in figures.items()}


def scoring(ours: LlamaCppModel, texts: Texts, rounds: int) -> dict[str, float]:
    ratios = []
    for _ in range(rounds):
        text, prompt = texts.context(512), texts.context(512)
        seconds, scores = timed(ours.score, text)
        score = len(scores.token_ids) / seconds
        prefill = ours.generate(prompt, max_tokens=1)
        ratios.append(score / (prefill.usage.prompt_tokens / (prefill.prefill_seconds or 1)))
    return {"score_ratio": statistics.median(ratios)}


def memory(ours: LlamaCppModel, texts: Texts, requests: int) -> dict[str, float]:
    """Resident memory after many requests of all kinds, against that after the first tenth."""
    dice = random.Random(2)
    context = texts.context()

    def some(n: int) -> None:
        for _ in range(n // 10):
            ours.generate_many([texts.question() for _ in range(4)], max_tokens=dice.randrange(1, 9))
            ours.generate_many([context + texts.question() for _ in range(2)], max_tokens=4)
            ours.generate_many([texts.context(60) for _ in range(2)], max_tokens=2)
            ours.score_many([(context, texts.question()), (None, texts.question())])

    some(requests // 2)  # the cache fills up to its bound
    before = _rss()
    some(requests)
    return {"rss_growth_percent": 100 * (_rss() / before - 1), "rss_requests": requests}


def _rss() -> float:
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return float(fields[1])


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--device", choices=("cpu", "gpu", "gpus"), default="cpu", help="what to measure")
    own.add_argument("--model", type=Path, help="on a GPU: the GGUF file; the Q4_0 copy of the demo's model by default")
    own.add_argument("--embedder", help="on a GPU: the GGUF file that embeds for `ask`, or 'hash' for a stand-in")
    options, rest = own.parse_known_args()
    flags = {"long": "also measure windows of 16k and 32k, which takes an hour"}
    arguments = parse_arguments(__doc__, rest, sections=SECTIONS, flags=flags)
    if options.device != "cpu":
        measure_gpu(arguments, options.model, options.embedder, is_of_two=options.device == "gpus")
    else:
        measure_cpu(arguments)


def measure_gpu(arguments: Arguments, model: Path | None, embedder: str | None, *, is_of_two: bool) -> None:
    gpus = [device.description for device in list_devices() if device.kind in ("gpu", "igpu")]
    has_gpu = bool(gpus)
    if len(gpus) < 1 + is_of_two and not arguments.is_quick:
        raise SystemExit(
            f"this needs {1 + is_of_two} GPUs, and llama.cpp sees {len(gpus)}; --quick is a dry run on the CPU"
        )
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = Path(folder) / "q4_0.gguf"
            quantize(resolve(MODEL), model, type="q4_0")
        data = read_squad(arguments.data)
        if is_of_two:
            two_plan = (two_gpus.Plan.quick if arguments.is_quick else two_gpus.Plan)(
                (0, 1) if len(gpus) > 1 else (None, None)
            )
            figures = two_gpus.measure(model, data, two_plan, None if embedder == "hash" else embedder)
        else:
            plan = (Plan.quick if arguments.is_quick else Plan)(-1 if has_gpu else 0, usable_cores())
            chosen = HashEmbedder() if embedder == "hash" else embedder or "all-minilm-l6-v2"
            about = {"n": plan.rounds, "threads": plan.threads, "layers": plan.layers}
            figures = about | measure(model, data, plan, chosen)
        finish(
            figures,
            arguments.json_path,
            models={model.stem if is_of_two else MODEL: model},
            is_quick=arguments.is_quick,
            gpu=", ".join(gpus) or None,
        )


def measure_cpu(arguments: Arguments) -> None:
    rounds = QUICK_ROUNDS if arguments.is_quick else ROUNDS
    squad = read_squad(arguments.data)
    path, threads = resolve(MODEL), usable_cores()
    figures: dict[str, float | int | None] = {"n": rounds, "threads": threads}
    baseline = Baseline(path, threads)
    with LlamaCppModel(path, n_ctx=N_CTX, threads=threads) as ours:
        context_tokens = QUICK_CONTEXT_TOKENS if arguments.is_quick else CONTEXT_TOKENS
        texts = Texts([d.text for d in squad.documents], [q.text for q in squad.questions], ours, context_tokens)
        warm_up = texts.context(512)  # as long as a batch: all memory is touched once
        ours.generate(warm_up, max_tokens=4)
        baseline.stream(warm_up, 4)
        quick, passages = arguments.is_quick, squad.documents
        measures: list[Callable[[], dict[str, float]]] = [
            lambda: single(ours, baseline, texts, rounds),
            lambda: shared(ours, baseline, texts, rounds),
            lambda: interleaved(ours, baseline, texts, rounds),
            lambda: short(ours, baseline, texts, rounds),
            lambda: first_token(ours, texts, rounds),
            lambda: first_token_after_restart(path, threads, texts, rounds),
            lambda: requantised(path, threads, texts, rounds, ours),
            lambda: scoring(ours, texts, rounds),
            lambda: memory(ours, texts, QUICK_REQUESTS if quick else REQUESTS),
            lambda: measure_formats(lambda _: texts.context(512), rounds, threads, is_quick=quick),
            lambda: measure_speculation(passages, rounds, threads, is_quick=quick),
            lambda: measure_windows(passages, threads, is_long="long" in arguments.flags, is_quick=quick),
        ]
        for section, measure_section in zip(SECTIONS, measures, strict=True):
            if arguments.only not in (None, section):
                continue
            for name, value in measure_section().items():
                figures[name] = value
                print(f"{name:28} {value:.3f}", flush=True)
            finish(figures, arguments.json_path, models={MODEL: path}, is_quick=quick, only=arguments.only)
    baseline.close()


if __name__ == "__main__":
    main()
