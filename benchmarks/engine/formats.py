"""Which type of weights is the fastest on this machine, of those that keep the perplexity of a model?"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from leanrag.errors import ModelLoadError
from leanrag.llama import LlamaCppModel, quantize
from leanrag.llama.files.fastest import AS_SHIPPED, CANDIDATES, INT4_CANDIDATES, choose_type, measure_types
from leanrag.llama.files.quantize import Figures
from leanrag.models import resolve

__all__ = ["MODELS", "measure_formats"]

MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
_N_CTX = 1024


def measure_formats(
    prompt: Callable[[LlamaCppModel], str], rounds: int, threads: int, *, is_quick: bool
) -> dict[str, float]:
    """Return, by model, how much faster the fastest type of equal perplexity reads a prompt than the file as shipped.

    Args:
        prompt: Returns a new prompt of 512 tokens of a model.
        rounds: Measurements of each speed; the model as shipped and the copy take turns.
        threads: Threads to compute with.
        is_quick: Measure one model and one type.
    """
    figures: dict[str, float] = {}
    for name in MODELS[:1] if is_quick else MODELS:
        try:
            source = resolve(name)
        except ModelLoadError:
            continue  # not on this machine
        with tempfile.TemporaryDirectory() as folder:
            measured = measure_types(source, Path(folder), ("q8_0",) if is_quick else CANDIDATES)
            shipped = measured[AS_SHIPPED].perplexity or 1.0
            for kind, each in measured.items():
                figures[f"perplexity_ratio@{name}:{kind}"] = (each.perplexity or 0) / shipped
            int4 = {kind: each for kind, each in measured.items() if kind in (AS_SHIPPED, *INT4_CANDIDATES)}
            for key, candidates in (("int4_best_ratio", int4), ("copy_best_ratio", measured)):
                figures[f"{key}@{name}"] = _ratio(source, Path(folder), candidates, prompt, rounds, threads)
    return figures


def _ratio(
    source: Path,
    folder: Path,
    candidates: dict[str, Figures],
    prompt: Callable[[LlamaCppModel], str],
    rounds: int,
    threads: int,
) -> float:
    """Return the ratio of prefill times of the file as shipped and of the chosen copy."""
    kind = choose_type(candidates).type
    if kind == AS_SHIPPED:
        return 1.0
    copy = folder / f"{kind}.gguf"
    quantize(source, copy, type=kind, overwrite=True)
    ratios = []
    with (
        LlamaCppModel(source, n_ctx=_N_CTX, threads=threads) as shipped,
        LlamaCppModel(copy, n_ctx=_N_CTX, threads=threads) as faster,
    ):
        for model in (shipped, faster):
            model.generate(prompt(model), max_tokens=1)  # all memory is touched once
        for _ in range(rounds):
            text = prompt(shipped)
            seconds = [model.generate(text, max_tokens=1).prefill_seconds or 0 for model in (shipped, faster)]
            ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
