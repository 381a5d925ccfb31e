"""Random texts of the kinds that break tokenizers, sentence splitters and compressors, and what compressors make of them."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.baselines import Baseline
from leanrag.errors import BudgetError
from leanrag.evidence.protection import Protection
from leanrag.evidence.units import split_units
from leanrag.protocols import Compressor, TokenCounter
from leanrag.types import Compression

__all__ = ["KINDS", "Promises", "random_text"]

SHORT, LONG = 60, 300  # words of a random text, at most; one case in twenty has long ones

_WORDS = (
    "the a of in and to was is on by not never It This However tower river committee treaty engine voltage 1889 3.5 12% "
    "John Smith Dr. e.g. U.S. New York analysis between because 42 km/h $60 don't re-entry O'Neill https://example.org/a?b=1 "
    "kim@example.org C:\\temp\\x.txt /usr/lib/x.so RFC-2616 ABC123x COVID-19 naïve Übung façade"
).split()
_EMOJI = "😀😭🔥👩‍👩‍👧‍👦🇫🇷👍🏽✨🐈‍⬛❤️🏴‍☠️"
_HAN, _KANA, _HANGUL = (
    "東京都会議発表経済研究条約建設川塔高",
    "あいうえおかきくけこサシスセソナニヌ",
    "서울강탑조약경제연구",
)
_OTHERS = (
    "مرحبا بالعالم هذا نص عربي",
    "שלום עולם זה טקסט",
    "ประเทศไทยเมืองหลวงกรุงเทพ",
    "नमस्ते दुनिया यह पाठ",
    "Привет мир, это текст.",
)
_CODE = (
    "def f(x):\n    return x ** 2\n",
    "for (int i = 0; i < n; ++i) { a[i] <<= 2; }\n",
    "<llmlingua, rate=0.5>x</llmlingua>\n",
    "SELECT \"a\", b FROM t WHERE c <> 'd';\n",
    '{"key": [1, 2.5, null], "nested": {"a": "b"}}\n',
    "    \treturn\n",
)


def _prose(dice: random.Random, size: int) -> str:
    pieces = []
    for _ in range(size):
        pieces.append(dice.choice(_WORDS))
        if dice.random() < 0.12:
            pieces[-1] += dice.choice(".!?;,:…")
    return " ".join(pieces)


def _wide(dice: random.Random, size: int) -> str:
    alphabet = dice.choice((_HAN, _KANA, _HANGUL, _HAN + _KANA))
    return "".join(dice.choice(alphabet) if dice.random() < 0.93 else dice.choice("。、！？「」 ") for _ in range(size))


def _other_scripts(dice: random.Random, size: int) -> str:
    return dice.choice((" ", "\n", "")).join(dice.choice(_OTHERS) for _ in range(max(1, size // 5)))


def _emoji(dice: random.Random, size: int) -> str:
    return "".join(dice.choice(_EMOJI) for _ in range(size))


def _table(dice: random.Random, size: int) -> str:
    columns = dice.randrange(1, 6)
    rows = [" | ".join(dice.choice(_WORDS) for _ in range(columns)) for _ in range(max(2, size // columns))]
    rows.insert(1, " | ".join(["---"] * columns))
    return "\n".join(f"| {row} |" for row in rows)


def _code(dice: random.Random, size: int) -> str:
    lines = "".join(dice.choice(_CODE) for _ in range(max(1, size // 6)))
    return f"```\n{lines}```\nThen `x < y`." if dice.random() < 0.5 else lines


def _base64(dice: random.Random, size: int) -> str:
    return base64.b64encode(dice.randbytes(2 * size)).decode()


def _unspaced(dice: random.Random, size: int) -> str:
    return "".join(dice.choice(_WORDS) for _ in range(size))


def _one_letter(dice: random.Random, size: int) -> str:
    return dice.choice("aA.=-_/\\(0 \n\t\u00a0\u200b\u0301") * (4 * size)


def _markdown(dice: random.Random, size: int) -> str:
    marks = ("# ", "- ", "1. ", "> ", "**", "")
    return "\n".join(dice.choice(marks) + _prose(dice, dice.randrange(1, 12)) for _ in range(max(1, size // 6)))


def _any_characters(dice: random.Random, size: int) -> str:
    places = (dice.randrange(1, 0x11000) for _ in range(2 * size))
    return "".join(chr(place) for place in places if not 0xD800 <= place < 0xE000)


KINDS: tuple[Callable[[random.Random, int], str], ...] = (
    _prose,
    _wide,
    _other_scripts,
    _emoji,
    _table,
    _code,
    _base64,
    _unspaced,
    _one_letter,
    _markdown,
    _any_characters,
)


def random_text(dice: random.Random, size: int) -> str:
    """Return a text of about `size` words, of one kind or of several; sometimes an empty one."""
    if dice.random() < 0.02:
        return ""
    if dice.random() < 0.6:
        return dice.choice(KINDS)(dice, size)
    parts = dice.randrange(2, 5)
    joint = dice.choice(("\n\n", "\n", " ", ""))
    return joint.join(dice.choice(KINDS)(dice, max(1, size // parts)) for _ in range(parts))


@dataclass(slots=True)
class Promises:
    """What random cases broke.

    Attributes:
        n: Cases by compressor.
        seen: Cases, refusals, results over the budget, and so on.
        failures: The first few errors.
    """

    n: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def check(self, name: str, compressor: Compressor, count_name: str, count: TokenCounter, seed: int) -> None:
        """Compress random sources to a random budget, and look at what comes back."""
        dice = random.Random(seed)
        longest = LONG if dice.random() < 0.05 else SHORT
        texts = [random_text(dice, dice.randrange(1, longest)) for _ in range(dice.randrange(1, 6))]
        tokens = count("\n\n".join(texts))
        is_rate = dice.random() < 0.2
        rate = dice.uniform(0.01, 1.0) if is_rate else None
        budget = int(tokens * rate) if rate is not None else int(tokens * dice.random() ** 2 * 1.1)
        question = random_text(dice, dice.randrange(1, 12)) if dice.random() < 0.8 else ""
        knows_keep = not isinstance(compressor, Baseline)
        keep = [_some_span(dice, text) if knows_keep and dice.random() < 0.1 else [] for text in texts]
        self.n[name] += 1
        try:
            compression = compressor.compress(
                texts,
                count_tokens=count,
                budget=None if is_rate else budget,
                rate=rate,
                question=question,
                keep=keep,
            )
        except BudgetError:
            self.seen["refused"] += 1
            return
        except Exception as error:  # noqa: BLE001 - each is a finding
            self.seen["failed"] += 1
            self.failures.append(f"{name}, {count_name}, case {seed}: {type(error).__name__}: {str(error)[:200]}")
            return
        self.seen["over_budget"] += (count(compression.text) if compression.text else 0) > budget
        self.seen["verbatim"] += _is_verbatim(compression)
        self.seen["finished"] += 1
        if knows_keep:
            lost, parted = _lost(compression, keep)
            self.seen["protected_lost"] += lost
            self.seen["protected_parted"] += parted


def _some_span(dice: random.Random, text: str) -> list[tuple[int, int]]:
    if not text:
        return []
    start = dice.randrange(len(text))
    return [(start, min(len(text), start + dice.randrange(1, 40)))]


def _is_verbatim(compression: Compression) -> bool:
    """Whether the text is made of spans of the sources and of white space, each span character for character."""
    at = 0
    for segment in compression.segments:
        chunk = compression.sources[segment.source].chunk
        span = chunk.text[segment.source_start - chunk.start : segment.source_end - chunk.start]
        if compression.text[at : segment.start].strip() or compression.text[segment.start : segment.end] != span:
            return False
        at = segment.end
    return not compression.text[at:].strip()


def _lost(compression: Compression, keep: Sequence[Sequence[tuple[int, int]]]) -> tuple[int, int]:
    """Count spans that a result should hold whole and does not.

    Returns:
        Required spans that are not whole, and protected ones that were cut within a sentence, row or block; then protected ones
        that reach over several of these, of which some stayed: nothing is promised of them.
    """
    lost = parted = 0
    for number, hit in enumerate(compression.sources):
        text = hit.chunk.text
        held = np.array([character.isspace() for character in text], bool)  # between parts it may be joined anew
        for segment in compression.segments:
            if segment.source == number:
                held[segment.source_start : segment.source_end] = True
        lost += sum(not held[start:end].all() for start, end in keep[number])
        visible = np.array([not character.isspace() for character in text], bool)
        units = split_units(text)
        for start, end in Protection().spans(text):
            pieces = [(max(start, u.start), min(end, u.end)) for u in units if u.start < end and u.end > start]
            states = [held[low:high][visible[low:high]] for low, high in pieces]
            is_cut = any(state.any() and not state.all() for state in states)
            whole = [bool(state.all()) for state in states]
            lost += is_cut
            parted += not is_cut and any(whole) and not all(whole)
    return lost, parted
