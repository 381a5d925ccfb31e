"""What a question looks like: the features that `QueryRouter` reads."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.text import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QUESTION_FEATURES", "excerpt_of", "question_features"]

QUESTION_FEATURES = (
    "characters",
    "words",
    "sentences",
    "stem_characters",
    "last_words",
    "last_numbers",
    "last_totals",
    "largest_number",
    "choices",
    "choice_characters",
    "choice_spread",
    "choices_with_number",
    "choices_without_letter",
    "choice_likeness",
    "choice_echoes",
    "stem_asks",
    "stem_opens",
    "word_length",
    "distinct_words",
    "capitals",
    "punctuation",
    "numbers",
    "fractions",
    "amounts",
    "maths",
    "code",
    "asks_quantity",
    "relations",
    "negations",
    "asks_fact",
    "asks_reason",
    "sums",
    "differences",
    "products",
    "parts",
    "conditions",
    "comparisons",
    "times",
    "order",
    "pronouns",
    "money",
    "number_words",
)
"""What `question_features` counts, in its order."""

_MAX_CHARS = 2000  # read of a question; of a longer one the first and the last half of that

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?。！？]+(?=\s|$)")
_CHOICE = re.compile(r"^[ \t]*\(?[A-J1-9][.)](?=\s)[ \t]*(.*)$", re.MULTILINE)
_PUNCTUATION = re.compile(r"[^\w\s]")
_PATTERNS = {
    "numbers": _NUMBER,
    "fractions": re.compile(r"\d/\d"),
    "amounts": re.compile(r"[%$€£¥]"),
    "maths": re.compile(r"[+*/=^<>√∑∏∫≤≥×÷±∞≈≠]"),
    "code": re.compile(r"[{}\[\];`_\\|#]|\(\)"),
    "asks_quantity": re.compile(
        r"\bhow (?:many|much|long|far|old|often|fast|tall|big|high|deep|heavy)\b", re.IGNORECASE
    ),
}

_WORDS = {
    "relations": """if than each every per twice thrice half third quarter double triple remaining rest left more less fewer times
        after before then when while until both only another together total altogether between instead unless whereas""",
    "negations": "not except never no none neither nor false incorrect least cannot without wrong",
    "asks_fact": "who whom whose which what where",
    "asks_reason": "why how explain prove show derive compare describe because therefore evaluate determine assume suppose",
    "sums": "add added all altogether both combine combined more plus sum together total",
    "differences": "ate away difference fewer gave give gives left less lost minus remain remaining sold spend spent used",
    "products": "apiece double doubled each every multiply per product times triple twice",
    "parts": "average divide divided equally fifth fourth half percent quarter ratio share shared split third",
    "conditions": "assuming given if suppose unless until when whereas while",
    "comparisons": "as bigger faster longer older same taller than younger",
    "times": """daily day days hour hours minute minutes month monthly months second seconds week weekly weeks year yearly
        years""",
    "order": "after before begin begins end ends finally first last later next second start starts then",
    "pronouns": "he her him his it its she their them they",
    "money": "cent cents cost costs dollar dollars earn earns paid pay pays price profit save saves",
    "number_words": """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty hundred thousand""",
}

_LISTS_OF = {
    word: tuple(name for name, listed in _WORDS.items() if word in listed.split())
    for word in " ".join(_WORDS.values()).split()
}  # by word: the features it counts for
_TOTALS = frozenset("total altogether all".split())
_LARGE = 1e12  # larger numbers count as this one


def excerpt_of(question: str) -> str:
    """Return the part of a question that is read: the whole question, or the first and the last 1,000 characters if it is long."""
    if len(question) <= _MAX_CHARS:
        return question
    half = _MAX_CHARS // 2
    return f"{question[:half]}\n{question[-half:]}"


def question_features(question: str, found: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Return the features of a question: `(len(QUESTION_FEATURES),)`, all finite, all 0 for an empty question.

    - Counts are `log(1 + count)`, so that twice the length is the same step for short and long questions. `largest_number`, and
      the mean length of the choices in characters and its deviation (`choice_spread`), are on the same scale.
    - `word_length` is the mean in characters.
    - Shares in [0, 1] are `distinct_words`, `capitals`, `punctuation`, the choices with a number, the choices without a letter, and
      the words of the choices that repeat (`choice_likeness`) or are in the stem (`choice_echoes`).
    - The stem is the text before the first choice ("A. ..."). `stem_asks` is 1 if it ends in a question mark, `stem_opens` if it
      is an incomplete sentence.
    - `last_words`, `last_numbers` and `last_totals` ("total", "altogether", "all") describe the last sentence of the stem, which is
      mostly what is asked.

    If a question has more than 2,000 characters, only the first and the last 1,000 are read, except for `characters`.

    Args:
        question: The question.
        found: `words(excerpt_of(question))`, when that is known.
    """
    text = excerpt_of(question)
    found = words(text) if found is None else found
    choices = list(_CHOICE.finditer(text))
    stem = text[: choices[0].start()].strip() if choices and choices[0].start() else text.strip()
    sentences = [part for part in _SENTENCE_END.split(stem) if part.strip()]
    last = words(sentences[-1]) if sentences else []
    numbers = _NUMBER.findall(text)
    letters = max(1, len(text))
    counts = [
        len(question.strip()),
        len(found),
        len(_SENTENCE_END.findall(text)),
        len(stem),
        len(last),
        sum(word[0].isdigit() for word in last),
        sum(word in _TOTALS for word in last),
        max((min(float(number.partition(".")[0].replace(",", "")), _LARGE) for number in numbers), default=0.0),
        len(choices),
    ]
    shares = [
        *_shape_of_choices([choice[1].strip() for choice in choices], stem),
        stem.endswith("?"),
        stem.endswith((":", "_")),
        sum(map(len, found)) / max(1, len(found)),
        len(set(found)) / max(1, len(found)),
        sum(map(str.isupper, text)) / letters,
        len(_PUNCTUATION.findall(text)) / letters,
    ]
    patterns = [len(pattern.findall(text)) for pattern in _PATTERNS.values()]
    listed = dict.fromkeys(_WORDS, 0)
    for word in found:
        for name in _LISTS_OF.get(word, ("negations",) if word.endswith("n't") else ()):
            listed[name] += 1
    return np.concatenate([np.log1p(counts), shares, np.log1p([*patterns, *listed.values()])])


def _shape_of_choices(choices: Sequence[str], stem: str) -> tuple[float, ...]:
    """Return the mean length of choices and its deviation (logarithms), and what share of them or their words is how."""
    if not choices:
        return (0.0,) * 6
    mean = sum(map(len, choices)) / len(choices)
    variance = sum((len(choice) - mean) ** 2 for choice in choices) / len(choices)
    kinds = [set(words(choice)) for choice in choices]
    size = max(1, sum(map(len, kinds)))
    asked = set(words(stem))
    return (
        math.log1p(mean),
        math.log1p(math.sqrt(variance)),
        sum(_DIGIT.search(choice) is not None for choice in choices) / len(choices),
        sum(_LETTER.search(choice) is None for choice in choices) / len(choices),
        1 - len(set().union(*kinds)) / size,
        sum(len(kind & asked) for kind in kinds) / size,
    )
