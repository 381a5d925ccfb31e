"""The fastest type of weights on this machine that keeps the quality of a model: measured, not guessed.

Which type is fastest depends on the CPU and on the build of llama.cpp. On x86, Q4_0, Q4_K and IQ4_NL have kernels for many rows.
Q8_0 has them too, needs twice the memory, and keeps the weights of a 4-bit file nearly as they are. A 4-bit copy of a 4-bit file
loses quality, so the perplexity of each copy is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leanrag.llama.files.quantize import Figures, measure, quantize

__all__ = [
    "AS_SHIPPED",
    "CANDIDATES",
    "INT4_CANDIDATES",
    "TypeChoice",
    "choose_type",
    "describe_help_topics",
    "measure_types",
    "read_help_topics",
]

AS_SHIPPED = "as shipped"
INT4_CANDIDATES = ("q4_0", "q4_k_m", "iq4_nl", "q4_1")
CANDIDATES = ("q8_0", *INT4_CANDIDATES)

_MEASURED_CHARS = 8_000  # some 2,000 tokens, which a small model reads in seconds
_EQUAL = 1.02  # perplexities up to this ratio count as equal
_WORTH = 1.1  # times as fast as the shipped file: less is lost in the noise of the measurement
_READ_TOKENS, _WRITTEN_TOKENS = 512, 32  # of a typical question


@dataclass(frozen=True, slots=True)
class TypeChoice:
    """The measured types of a model, and the fastest of those with equal perplexity.

    Attributes:
        type: The fastest type; `AS_SHIPPED` if no copy is faster.
        figures: What was measured, by type.
    """

    type: str
    figures: Mapping[str, Figures]


def measure_types(
    source: Path, folder: Path, types: Sequence[str] = CANDIDATES, *, text: str | None = None
) -> dict[str, Figures]:
    """Measure a model as shipped, and copies of it with other types of weights.

    Args:
        source: A GGUF file that generates text.
        folder: Where the copies are written, one after another; they are removed after the measurement.
        types: Types of `QUANTIZED_TYPES`.
        text: The text for speed and perplexity; None takes Python's help.
    """
    text = read_help_topics() if text is None else text
    figures = {AS_SHIPPED: measure(source, text)}
    for name in types:
        copy = folder / f"{name}.gguf"
        try:
            quantize(source, copy, type=name, overwrite=True)
            figures[name] = measure(copy, text)
        finally:
            copy.unlink(missing_ok=True)
    return figures


def choose_type(figures: Mapping[str, Figures]) -> TypeChoice:
    """Return the type that answers a typical question soonest, if its perplexity is at most 2 per cent above the shipped one.

    A copy must be a tenth faster than the file as shipped.
    """
    shipped = figures[AS_SHIPPED]
    assert shipped.perplexity is not None
    equal = {
        name: question_seconds(each)
        for name, each in figures.items()
        if each.perplexity is not None and each.perplexity <= _EQUAL * shipped.perplexity
    }
    best = min(equal, key=lambda name: equal[name])
    return TypeChoice(best if equal[best] * _WORTH <= question_seconds(shipped) else AS_SHIPPED, dict(figures))


def question_seconds(figures: Figures) -> float:
    """Return the seconds in which a model reads and answers a typical question, by its measured speeds."""
    read, written = figures.prefill_tokens_per_second, figures.decode_tokens_per_second
    return sum(n / speed for n, speed in ((_READ_TOKENS, read), (_WRITTEN_TOKENS, written)) if speed)


def read_help_topics() -> str:
    """Return the beginning of the help topics of this Python: a text that is on every machine."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:_MEASURED_CHARS]


def describe_help_topics(text: str) -> str:
    """Return what `text`, from `read_help_topics`, is."""
    return f"the first {len(text):,} characters of the help topics of Python {sys.version_info.major}.{sys.version_info.minor}"
