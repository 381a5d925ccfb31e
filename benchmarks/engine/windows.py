"""Long windows: the time to read them, the memory of keys and values by type, and whether a fact in them is found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from leanrag.llama import ComputeOptions, LlamaCppModel
from leanrag.llama.placement import KV_BYTES
from leanrag.models import resolve
from leanrag.types import Document, Generation, Message

__all__ = ["measure_windows"]

MODEL, QUICK_MODEL = "qwen2.5-coder-0.5b", "smollm2-135m"
_WINDOWS, _LONG_WINDOWS, _QUICK_WINDOWS = (8192,), (16384, 32768), (1024,)
_DEPTHS = (0.1, 0.5, 0.9)
_CODES = ("7431", "2086", "5917")
_ANSWER_TOKENS = 16
_RESERVED = 160  # tokens of the template, the questions and the answer


def measure_windows(passages: Sequence[Document], threads: int, *, is_long: bool, is_quick: bool) -> dict[str, float]:
    """Return, by window and type of keys and values, the prefill time, the memory, the found facts and the equal tokens.

    Three facts are put into a text that fills the window. Each is asked for; the text is read once.

    Args:
        passages: The text.
        threads: Threads to compute with.
        is_long: Also measure windows of 16k and 32k, which takes an hour on two cores.
        is_quick: A small model and a short window.
    """
    path = resolve(QUICK_MODEL if is_quick else MODEL)
    figures: dict[str, float] = {}
    for n_ctx in _QUICK_WINDOWS if is_quick else (*_WINDOWS, *(_LONG_WINDOWS if is_long else ())):
        exact: list[Generation] = []
        for kind in KV_BYTES:
            compute = ComputeOptions(kv_type=kind)
            with LlamaCppModel(path, n_ctx=n_ctx, threads=threads, compute=compute, cache_bytes=0, parallel=1) as model:
                text = _fill(passages, model, n_ctx - _RESERVED)
                prompts = [
                    [Message("user", f"{text}\n\nWhat is the code of locker {i}? Reply with the code.")]
                    for i in range(len(_CODES))
                ]
                answers = [model.generate(prompt, max_tokens=_ANSWER_TOKENS) for prompt in prompts]
            exact = exact or answers
            key = f"{n_ctx // 1024}k_{kind}"
            cache = LlamaCppModel.estimate(path, n_ctx=n_ctx).cache
            figures |= {
                f"window_prefill_seconds@{key}": answers[0].prefill_seconds or 0,
                f"window_prompt_tokens@{key}": answers[0].usage.prompt_tokens,
                f"window_kv_mb@{key}": cache * KV_BYTES[kind] / 2 / 1e6,
                f"window_found@{key}": sum(c in a.text for c, a in zip(_CODES, answers, strict=True)) / len(_CODES),
                f"window_same_tokens@{key}": sum(map(_share_of_equal, exact, answers)) / len(answers),
            }
    return figures


def _fill(passages: Sequence[Document], model: LlamaCppModel, n_tokens: int) -> str:
    """Return passages of about `n_tokens` tokens, at most, with a fact at each depth."""
    facts = [f"The code of locker {i} is {code}." for i, code in enumerate(_CODES)]
    room = n_tokens - model.count_tokens("\n\n".join(facts)) - 2 * len(facts)
    chosen: list[str] = []
    for passage in itertools.cycle(passages):
        room -= model.count_tokens(passage.text) + 2
        if room < 0:
            break
        chosen.append(passage.text)
    for depth, fact in sorted(zip(_DEPTHS, facts, strict=True), reverse=True):
        chosen.insert(int(depth * len(chosen)), fact)
    return "\n\n".join(chosen)


def _share_of_equal(a: Generation, b: Generation) -> float:
    """Return the share of tokens that are equal at the same position."""
    ours, theirs = a.token_ids or (), b.token_ids or ()
    return sum(x == y for x, y in zip(ours, theirs, strict=False)) / max(1, len(ours), len(theirs))
