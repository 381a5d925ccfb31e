"""The words of all places: which places hold a word, how much it tells, and how far a place carries a claim."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from leanrag.grounding.claims import is_form
from leanrag.grounding.clauses import opposites_of, other_views_of, stem_of
from leanrag.grounding.measures import BOUNDS
from leanrag.grounding.places import Place
from leanrag.grounding.reading import Token
from leanrag.grounding.values import VALUE_KINDS, is_end_of_path, same_value

__all__ = ["PlaceIndex", "covered_share"]

_QUESTION_WORD_WEIGHT = 0.25  # words that the question already held say little about where an answer came from
_CONTEXT_SHARE = 0.95  # of a word's weight, where it stands above a place and not in it: the place itself goes first
_ANTECEDENT_SHARE = 0.6  # the same, where a pronoun may stand for it
_SCRIPT_WEIGHT = 0.7  # of a character of a script without spaces
_SCRIPT_PART_SHARE = 0.6  # of the share of a text without spaces of which a word is missing: too little for support
_FUNCTION_CHARACTERS = frozenset(
    "的了是在和吗嗎呢吧也都就有为為与與及于於之这這那一个個をはがにのでとですまもからへやか这是"
)

_Key = TypeVar("_Key", bound=Hashable)


class PlaceIndex:
    """The places of the sources, by their words.

    Args:
        places: In order.
        asked: Content of the question, whose words tell little.
    """

    def __init__(self, places: Sequence[Place], asked: frozenset[str]) -> None:
        self.places = places
        self._asked = asked
        self._by_base: dict[str, list[int]] = {}
        self._by_context: dict[str, list[int]] = {}
        self._by_antecedent: dict[str, list[int]] = {}
        self._by_record: dict[str, list[int]] = {}
        for i, place in enumerate(places):
            _post(self._by_base, place.bases, i)
            _post(self._by_context, place.context_bases, i)
            _post(self._by_record, place.record_bases | place.part_bases, i)
            if place.antecedents:
                _post(self._by_antecedent, place.antecedent_bases, i)
        self._forms: dict[str, frozenset[str]] = {}
        self._carriers: dict[tuple[str, str, bool], dict[int, float]] = {}

    @functools.cached_property
    def bases(self) -> frozenset[str]:
        """Content of all places."""
        return frozenset(self._by_base)

    @functools.cached_property
    def _by_word(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, place in enumerate(self.places):
            _post(found, {token.word for token in place.tokens if token.kind == "word"}, i)
        return found

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for word, numbers in self._by_word.items():
            found.setdefault(stem_of(word), []).extend(numbers)
        return found

    @functools.cached_property
    def _values(self) -> dict[Token, list[int]]:
        found: dict[Token, list[int]] = {}
        for i, place in enumerate(self.places):
            _post(found, (token for token in place.tokens if token.kind in VALUE_KINDS), i)
        return found

    @functools.cached_property
    def _tables(self) -> list[tuple[float, dict[str, list[int]], dict[str, list[str]]]]:
        """What stands for a pronoun, above a place, and in it: the share of a word's weight, and the words by their beginnings."""
        tables = ((_ANTECEDENT_SHARE, self._by_antecedent), (_CONTEXT_SHARE, self._by_context), (1.0, self._by_base))
        return [(share, table, _by_beginning(table)) for share, table in tables]

    def is_known(self, base: str) -> bool:
        """Whether a place or the question holds a word."""
        return base in self._by_base or base in self._asked

    def is_written(self, base: str) -> bool:
        """Whether a place holds a word, or stands under it."""
        return base in self._by_base or base in self._by_context

    def is_written_small(self, word: str) -> bool:
        """Whether a word stands somewhere without a capital letter."""
        return any(
            token.word == word and token.kind == "word" and token.text[:1].islower()
            for i in self._by_word.get(word, ())
            for token in self.places[i].tokens
        )

    def is_full_name(self, first: Token, last: Token) -> bool:
        """Return whether two words with capitals follow each other in a place, and neither has another companion."""
        names = self._full_names
        return names.get((True, first.base)) == {last.base} and names.get((False, last.base)) == {first.base}

    @functools.cached_property
    def _full_names(self) -> dict[tuple[bool, str], set[str]]:
        """The words behind each word with a capital (True), and before it (False), that have one too."""
        found: dict[tuple[bool, str], set[str]] = {}
        for place in self.places:
            for first, last in itertools.pairwise(place.tokens):
                if _is_capital(first) and _is_capital(last):
                    found.setdefault((True, first.base), set()).add(last.base)
                    found.setdefault((False, last.base), set()).add(first.base)
        return found

    def reach(self, bases: Iterable[str]) -> list[Place]:
        """Return the places that hold one of the words, or stand under or behind it, in order."""
        tables = (self._by_base, self._by_context, self._by_antecedent, self._by_record)
        found = {i for base in bases for table in tables for i in table.get(base, ())}
        return [self.places[i] for i in sorted(found)]

    def holds(self, token: Token, place: Place) -> bool:
        """Whether a place, or what it stands under or speaks of, holds a word, a form or an opposite of it."""
        return self._numbers[id(place)] in self._find(token)

    def behind(self, place: Place) -> Sequence[Token]:
        """Return the tokens of the place that follows."""
        i = self._numbers[id(place)] + 1
        return self.places[i].tokens if i < len(self.places) else ()

    def with_word(self, tokens: Iterable[Token]) -> list[Place]:
        """Return the places that hold one of the words themselves, in order."""
        found = {i for token in tokens for i, share in self._find(token).items() if share == 1 and token.is_content}
        found.update(i for token in tokens if not token.is_content for i in self._by_stem.get(stem_of(token.word), ()))
        return [self.places[i] for i in sorted(found)]

    def forms(self, token: Token) -> frozenset[str]:
        """Return the words of the places that are a form or the beginning of a word."""
        found = self._forms.get(token.base)
        if found is None:
            found = self._forms[token.base] = frozenset(self._find_forms(token))
        return found

    def _find_forms(self, token: Token) -> Iterator[str]:
        yield token.base
        yield from other_views_of(token.base)
        if token.is_name or len(token.base) < 4:
            return
        if token.word[:3] in self._parts:
            yield token.word[:3]  # "max" in UID_MAX
        for base in self._beginnings.get(token.base[:4], ()):
            if is_form(token.base, base) or (base.isalpha() and token.word.startswith(base)):
                yield base

    @functools.cached_property
    def _parts(self) -> frozenset[str]:
        """The words that identifiers are made of."""
        return frozenset[str]().union(*(place.part_bases for place in self.places))

    @functools.cached_property
    def _beginnings(self) -> dict[str, list[str]]:
        words = {base for place in self.places for _, bases, _ in place.segments for base in bases}
        return _by_beginning(words.union(self._by_base, self._by_context, self._by_antecedent, self._by_record))

    def document_bases(self, place: Place) -> frozenset[str]:
        """Content of the places of a place's document and of what stands above them."""
        return self._documents[place.item.hit.chunk.document_id]

    @functools.cached_property
    def _documents(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for place in self.places:
            found.setdefault(place.item.hit.chunk.document_id, set()).update(place.bases, place.context_bases)
        return {document: frozenset(bases) for document, bases in found.items()}

    @functools.cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(place): i for i, place in enumerate(self.places)}

    # What a claim is worth

    def weight(self, base: str) -> float:
        """Return how much a word tells: more, the fewer places hold it."""
        weight = math.log1p((len(self.places) + 1) / (len(self._by_base.get(base, ())) + 0.5))
        return weight * _QUESTION_WORD_WEIGHT if base in self._asked else weight

    def weights(self, tokens: Iterable[Token]) -> dict[str, float]:
        """Return the weights of those words that are known."""
        return {token.base: self.weight(token.base) for token in tokens if self.is_known(token.base)}

    def information(self, tokens: Sequence[Token]) -> float:
        """Return how much a claim tells."""
        return math.fsum(map(self._worth, _content(tokens)))

    def _worth(self, token: Token) -> float:
        if token.quantity is not None and token.quantity.dimension:
            return 2 * self.weight(token.base)  # a number and a unit
        if token.kind != "script":
            return self.weight(token.base)
        worth = _SCRIPT_WEIGHT * len(token.text)
        return worth * _QUESTION_WORD_WEIGHT if token.base in self._asked else worth

    # How far the places carry it

    def shares(self, tokens: Sequence[Token]) -> list[float]:
        """Return for each place the share of the claim's information that it and its context hold."""
        total = 0.0
        found = [0.0] * len(self.places)
        for token in _content(tokens):
            worth = self._worth(token)
            total += worth
            for i, share in self._find(token).items():
                found[i] += worth * share
        return [share / total for share in found] if total else found

    def _find(self, token: Token) -> dict[int, float]:
        """The places that carry a word, and the share of its weight that each does."""
        key = (token.kind, token.text if token.kind == "script" else token.word, token.is_name)
        found = self._carriers.get(key)
        if found is None:
            found = self._carriers[key] = self._find_script(token) if token.kind == "script" else self._find_word(token)
        return found

    def _find_script(self, token: Token) -> dict[int, float]:
        return {i: _script_share(token.text, place) for i, place in enumerate(self.places)}

    def _find_word(self, token: Token) -> dict[int, float]:
        found: dict[int, float] = {}
        has_forms = not token.is_name and len(token.base) > 3
        if (
            token.base in self._asked
        ):  # what the other lines of a record say, and parts of names, tell only what it is about
            found.update(dict.fromkeys(self._by_record.get(token.base, ()), _CONTEXT_SHARE))
        for share, table, beginnings in self._tables:
            found.update(dict.fromkeys(table.get(token.base, ()), share))
            for base in beginnings.get(token.base[:4], ()) if has_forms else ():
                if is_form(token.base, base):
                    found.update(dict.fromkeys(table[base], share))
        # Whether a place with an opposite says the same is for `contradiction` to find.
        for opposite in opposites_of(stem_of(token.word)):
            found.update(dict.fromkeys(self._by_stem.get(opposite, ()), 1.0))
        if token.kind in VALUE_KINDS:
            for other, numbers in self._values.items():
                if _has_same_value(token, other):
                    found.update(dict.fromkeys(numbers, 1.0))
        return found


def covered_share(text: str, place: Place) -> float:
    """Return the share of the characters of a text without spaces that stand at a place in the same company."""
    covered = _covered_characters(text, place)
    return sum(covered) / len(covered)


def _is_capital(token: Token) -> bool:
    return token.kind == "word" and token.is_content and token.text[:1].isupper()


def _post(table: dict[_Key, list[int]], keys: Iterable[_Key], i: int) -> None:
    for key in keys:
        numbers = table.get(key)
        if numbers is None:
            table[key] = [i]
        else:
            numbers.append(i)


def _by_beginning(bases: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for base in bases:
        if len(base) > 3:
            found.setdefault(base[:4], []).append(base)
    return found


def _content(tokens: Sequence[Token]) -> list[Token]:
    """The words that a place must hold; a bound may be said in another way, and is compared with its number."""
    return list({token.base: token for token in tokens if token.is_content and token.word not in BOUNDS}.values())


def _has_same_value(token: Token, other: Token) -> bool:
    if token.quantity is not None:
        return other.quantity is not None and token.quantity.agrees_with(other.quantity)
    if token.day is not None:
        return other.day is not None and token.day.agrees_with(other.day)
    if token.kind == "time":
        return same_value(token, other, (other,))
    return is_end_of_path(token, other)


def _script_share(text: str, place: Place) -> float:
    """As `covered_share`, but too little for support where a word is missing."""
    covered = _covered_characters(text, place)
    is_missing = any(not covered[i] and not covered[i + 1] for i in range(len(covered) - 1))
    share = sum(covered) / len(covered)
    return share * _SCRIPT_PART_SHARE if share < 0.8 or (is_missing and share < 0.9) else share


def _covered_characters(text: str, place: Place) -> list[bool]:
    """For each character whether it stands at the place beside the same neighbour, or is a function word."""
    there = "，".join(
        token.text for token in (*place.tokens, *place.context) if token.kind in {"script", "day", "quantity"}
    )
    if text in there:
        return [True] * len(text)
    covered = [character in _FUNCTION_CHARACTERS for character in text]
    for i in range(len(text) - 1):
        if text[i : i + 2] in there:
            covered[i] = covered[i + 1] = True
    return covered
