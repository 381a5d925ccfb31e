"""Do drafts save time? Answers of 128 tokens with and without drafts, from sources and without any."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

from leanrag.llama import ComputeOptions, LlamaCppModel
from leanrag.models import resolve
from leanrag.types import Document, Generation, Message

__all__ = ["measure_speculation"]

TARGET, DRAFT = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
QUICK_TARGET = QUICK_DRAFT = "smollm2-135m"
_N_CTX, _TOKENS, _QUICK_TOKENS = 2048, 128, 16
_FREE = (
    "Write a Python function that reads a CSV file and returns the sums of its columns. Add a docstring.",
    "Explain how a hash table works.",
    "Write a class for a bank account, with deposits and withdrawals.",
    "Describe how a letter travels from the sender to the recipient.",
    "Write a function that checks whether a text is a palindrome, and tests for it.",
)


def measure_speculation(passages: Sequence[Document], rounds: int, threads: int, *, is_quick: bool) -> dict[str, float]:
    """Return the ratios of decoding times without and with drafts, and the share of equal tokens.

    `speculation_ratio` is of prompt lookup on answers from sources, which quote them.

    Args:
        passages: Sources.
        rounds: Questions of each kind, each asked with and without drafts in turn.
        threads: Threads to compute with.
        is_quick: A small model that drafts for itself, and short answers.
    """
    target, draft = (QUICK_TARGET, QUICK_DRAFT) if is_quick else (TARGET, DRAFT)
    n_tokens = _QUICK_TOKENS if is_quick else _TOKENS
    load = functools.partial(LlamaCppModel, resolve(target), n_ctx=_N_CTX, threads=threads)
    sources = [_ask_to_quote(passage.text) for passage in passages if 600 < len(passage.text) < 900][:rounds]
    figures: dict[str, float] = {}
    with (
        load() as plain,
        load(compute=ComputeOptions(speculate=True)) as lookup,
        load(draft=resolve(draft)) as drafted,
    ):
        for model in (plain, lookup, drafted):
            model.generate([Message("user", "Hello")], max_tokens=8)
        for kind, questions in (("sources", sources), ("free", _FREE[:rounds])):
            ratios: dict[str, list[float]] = {"lookup": [], "draft": []}
            same: dict[str, list[float]] = {"lookup": [], "draft": []}
            for question in questions:
                prompt = [Message("user", question)]
                alone = plain.generate(prompt, max_tokens=n_tokens)
                for way, model in (("lookup", lookup), ("draft", drafted)):
                    generation = model.generate(prompt, max_tokens=n_tokens)
                    ratios[way].append(_seconds_per_token(alone) / _seconds_per_token(generation))
                    same[way].append(_share_of_equal(alone, generation))
            for way, values in ratios.items():
                figures[f"speculation_ratio@{way}_{kind}"] = statistics.median(values)
                figures[f"speculation_same@{way}_{kind}"] = statistics.mean(same[way])
    figures["speculation_ratio"] = figures["speculation_ratio@lookup_sources"]
    return figures


def _ask_to_quote(source: str) -> str:
    return f"{source}\n\nWhich sentences of the text above have a number or a name in them? Copy them word by word."


def _seconds_per_token(generation: Generation) -> float:
    return (generation.decode_seconds or 0) / max(1, generation.usage.completion_tokens - 1)


def _share_of_equal(a: Generation, b: Generation) -> float:
    """Return the share of tokens before the first difference."""
    ours, theirs = a.token_ids or (), b.token_ids or ()
    equal = next((i for i, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y), min(len(ours), len(theirs)))
    return equal / max(1, len(ours))
