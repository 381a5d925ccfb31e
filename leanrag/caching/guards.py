"""Whether two questions that sound alike ask for the same thing: rules over their words.

A rule names what differs. Questions that pass all rules may still ask for different things, so the rules are one gate of several.
The word lists are English, with the commonest words of German, French, Spanish and Italian for negations and question words. Of
questions in a script without spaces between words only those with equal letters pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from leanrag.caching.lexicon import (
    DIRECTIONS,
    FUNCTION,
    LISTING,
    NEGATIONS,
    NUMBER_WORDS,
    OPENINGS,
    OPPOSITES,
    POINTERS,
    PREFIXES,
    QUESTION_WORDS,
    TIMES,
    UNITS,
)
from leanrag.text import is_unspaced, shared_length, stem

__all__ = ["RULES", "Reading", "difference", "is_follow_up", "read_question"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[+#*/%$€£¥=<>]+")
_NUMBER = re.compile(r"(?:(?<![^\s(])[-−])?\d+(?:[.,:/-]\d+)*")  # a sign stands at the beginning of a word
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FORMAT = re.compile(
    r"\b(?:in|auf|en|su)\s+(?:english|german|french|spanish|italian|portuguese|chinese|japanese|korean|russian|arabic|hindi|dutch|"
    r"deutsch|englisch|français|anglais|español|inglés)\b"
    r"|\bas\s+an?\s+(?:list|table|json|poem|haiku|summary|email|essay|story|quote|diagram)\b"
    r"|\b(?:in|with|at\s+most|under)\s+(?:one|two|three|a\s+single|a\s+few|\d+)\s+(?:word|sentence|line|paragraph|bullet|character|token)s?\b"
    r"|\b(?:briefly|shortly|in\s+detail|in\s+short|step\s+by\s+step|bullet\s+points?|json|yaml|xml|csv|markdown|translate|summari[sz]e)\b"
)

_ASKED = frozenset({"who", "when", "where", "why"})
_WHO = {"whom": "who", "whose": "who"}
_FEW = 3  # content words: so few may be about something that a pronoun stands for
_LONG = 8  # content words: in a longer question, another word may say the same


@dataclass(frozen=True)
class Reading:
    """The words of a question, once as they are written and once in lower case."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        """The words, as they are written."""
        return _WORD.findall(unicodedata.normalize("NFKC", self.text))

    @cached_property
    def lower(self) -> list[str]:
        """The words in lower case."""
        return [word.casefold().replace("’", "'") for word in self.words]

    @cached_property
    def numbers(self) -> Counter[str]:
        """The numbers in digits, with their signs."""
        return Counter(_THOUSANDS.sub("", found).replace("−", "-") for found in _NUMBER.findall(self.text))

    @cached_property
    def measures(self) -> Counter[str]:
        """Number words, units and times."""
        return self.of(NUMBER_WORDS | TIMES | UNITS)

    @cached_property
    def names(self) -> set[str]:
        """Words with a capital, but for those that begin a sentence, and words with a digit or symbol."""
        names, begins = set(), True
        for found in _WORD.finditer(unicodedata.normalize("NFKC", self.text)):
            word = found[0]
            inner = word[1:] != word[1:].lower() or any(not c.isalpha() and c not in "'’" for c in word)
            if inner or (word[0].isupper() and not begins and word != "I"):
                names.add(word.casefold())
            begins = self.text[found.end() : found.end() + 1] in {".", "!", "?", ":"}
        return names

    @cached_property
    def negations(self) -> int:
        """How many words negate."""
        return sum(word in NEGATIONS or word.endswith("n't") for word in self.lower)

    @cached_property
    def question_words(self) -> Counter[str]:
        """Question words, and what stands behind "how"."""
        words = self.of(QUESTION_WORDS)
        for first, second in zip(self.lower, self.lower[1:], strict=False):
            if (first == "how" and second not in FUNCTION) or (first == "how" and second in {"many", "much"}):
                words[f"how {second}"] += 1
        return words

    @cached_property
    def formats(self) -> list[str]:
        """What is said of the language or form of the answer."""
        return sorted(" ".join(found.split()) for found in _FORMAT.findall(self.text.casefold()))

    @cached_property
    def content(self) -> list[str]:
        """The stems of the words that carry meaning, in order."""
        return [stem(word) for word in self.lower if word not in FUNCTION]

    def sides(self, word: str) -> tuple[set[str], set[str]]:
        """Return the content words before and after the first occurrence of a word."""
        i = self.lower.index(word)
        before, after = (
            {stem(each) for each in part if each not in FUNCTION} for part in (self.lower[:i], self.lower[i + 1 :])
        )
        return before, after

    @property
    def is_long(self) -> bool:
        """Whether it has many such words."""
        return len(self.content) > _LONG

    def of(self, words: frozenset[str]) -> Counter[str]:
        """Count the words that are among `words`."""
        return Counter(word for word in self.lower if word in words)


@lru_cache(maxsize=4096)
def read_question(text: str) -> Reading:
    """Return the words of a question; the last few thousand are remembered."""
    return Reading(text)


def difference(question: str, other: str) -> str | None:
    """Return what two questions differ in, in a word or two; None if no rule finds a difference.

    Example:
        >>> difference("How tall is Mont Blanc?", "How tall is Mount Everest?")
        'names'
        >>> difference("How do I enable logging?", "How can I enable the logging?")
    """
    left, right = read_question(question), read_question(other)
    return next((name for name, differs in RULES if differs(left, right)), None)


def is_follow_up(question: str) -> bool:
    """Return whether a question may speak of what was said before: then it says too little alone.

    Example:
        >>> is_follow_up("And in 2023?"), is_follow_up("Who wrote it?"), is_follow_up("Who wrote Faust?")
        (True, True, False)
    """
    reading = read_question(question)
    opening = " ".join(reading.lower) + " "
    if opening.startswith(OPENINGS) or not reading.content:
        return True
    first = next((i for i, word in enumerate(reading.lower) if word in POINTERS), None)
    if first is None:
        return False
    begins_with_it = not any(word not in FUNCTION for word in reading.lower[:first])
    return len(reading.content) <= _FEW or (begins_with_it and not reading.is_long)


def _numbers_differ(left: Reading, right: Reading) -> bool:
    if left.numbers != right.numbers:
        return True
    alone, other = left.measures - right.measures, right.measures - left.measures
    if left.is_long and right.is_long:
        return bool(alone) and bool(other)
    return bool(alone) or bool(other)


def _negations_differ(left: Reading, right: Reading) -> bool:
    return left.negations % 2 != right.negations % 2 or _has_prefix(left, right)


def _has_prefix(left: Reading, right: Reading) -> bool:
    """Return whether a word has a negating prefix in one question alone: "legal" and "illegal"."""
    mine, there = set(left.lower), set(right.lower)
    alone, other = mine - there, there - mine
    pairs = [(word, other) for word in alone] + [(word, alone) for word in other]
    return any(prefix + word in words for word, words in pairs for prefix in PREFIXES)


def _names_differ(left: Reading, right: Reading) -> bool:
    """Return whether a name of one is not a word of the other, or both have other names."""
    if _scripts_differ(left, right):
        return True
    mine, there = set(left.lower), set(right.lower)
    return bool({name for name in left.names if name not in there} | {name for name in right.names if name not in mine})


def _scripts_differ(left: Reading, right: Reading) -> bool:
    """Return whether questions in a script without spaces have other letters: the rules cannot tell their words apart."""
    if not any(is_unspaced(char) for char in left.text + right.text):
        return False
    letters = [[char for char in "".join(each.lower) if char.isalnum()] for each in (left, right)]
    return letters[0] != letters[1]


def _questions_differ(left: Reading, right: Reading) -> bool:
    """Return whether one asks who and the other asks when. "How do I" and "what is the way to" may ask the same."""
    kinds = [{_WHO.get(word, word) for word in each.lower} & _ASKED for each in (left, right)]
    amounts = [{word for word in each.question_words if word.startswith("how ")} for each in (left, right)]
    return kinds[0] != kinds[1] or (bool(amounts[0]) and bool(amounts[1]) and amounts[0] != amounts[1])


def _opposites_differ(left: Reading, right: Reading) -> bool:
    mine, there = set(left.lower), set(right.lower)
    alone, other = mine - there, there - mine
    return any(frozenset((a, b)) in OPPOSITES for a in alone for b in other)


def _order_differs(left: Reading, right: Reading) -> bool:
    """Return whether two things changed sides: "from Bonn to Kiel" and "from Kiel to Bonn", "A beat B" and "B beat A"."""
    if sorted(left.content) == sorted(right.content) and not left.is_long:
        is_passive = ("by" in left.lower) != ("by" in right.lower)  # "Who hired A?" and "By whom was A hired?"
        return (left.content != right.content) != is_passive and not left.of(LISTING)
    for word in left.of(DIRECTIONS) & right.of(DIRECTIONS):
        (before, after), (before_there, after_there) = left.sides(word), right.sides(word)
        if (before - after) & (after_there - before_there) and (after - before) & (before_there - after_there):
            return True
    return False


def _formats_differ(left: Reading, right: Reading) -> bool:
    return left.formats != right.formats


def _one_thing_is_exchanged(left: Reading, right: Reading) -> bool:
    """Return whether short questions are the same but for a word or a name of a few: that is then what is asked about."""
    mine, there = left.content, right.content
    start = shared_length(mine, there)
    end = shared_length(mine[start:][::-1], there[start:][::-1])
    mine, there = mine[start : len(mine) - end], there[start : len(there) - end]
    if not set(mine).isdisjoint(there):  # words changed their places: another rule looks at that
        return False
    if not (0 < len(mine) <= _FEW and 0 < len(there) <= _FEW and 0 < start + end < _LONG):
        return False
    return not (len(mine) == len(there) == 1 and _are_forms(mine[0], there[0]))


def _something_is_added(left: Reading, right: Reading) -> bool:
    """Return whether one question has all the words of the other and more: it asks about something narrower."""
    mine, there = Counter(left.content), Counter(right.content)
    if mine == there or max(mine.total(), there.total()) > _LONG:
        return False
    return not (mine - there) or not (there - mine)


def _are_forms(word: str, other: str) -> bool:
    shared = shared_length(word, other)
    return shared >= 4 and shared >= max(len(word), len(other)) - 3


def _follows_up(left: Reading, right: Reading) -> bool:
    return is_follow_up(left.text) or is_follow_up(right.text)


Rule = Callable[[Reading, Reading], bool]
RULES: Sequence[tuple[str, Rule]] = (
    ("follow-up", _follows_up),
    ("numbers", _numbers_differ),
    ("negation", _negations_differ),
    ("names", _names_differ),
    ("question word", _questions_differ),
    ("opposites", _opposites_differ),
    ("order", _order_differs),
    ("format", _formats_differ),
    ("one thing", _one_thing_is_exchanged),
    ("more words", _something_is_added),
)
"""Each rule by what it finds to differ."""
