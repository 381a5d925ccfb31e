"""Whether the numbers, dates and identifiers of a claim are those of a passage, from the same side and of the same things."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from leanrag.grounding.claims import Claim, Passage
from leanrag.grounding.clauses import stem_of
from leanrag.grounding.lexicon import ARTICLES
from leanrag.grounding.predicates import predicate_of
from leanrag.grounding.reading import Token
from leanrag.grounding.values import VALUE_KINDS, bound_of, has_value, same_value

__all__ = [
    "asks_beyond_bound",
    "bounds_differ",
    "counts_other_than_asked",
    "counts_something_else",
    "misses_value",
    "names_other_number",
    "names_other_version",
    "runs_backwards",
    "takes_former_value",
    "takes_the_total",
]


def misses_value(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A number, date, time or identifier of the claim is not there."""
    return any(
        token.kind in VALUE_KINDS
        and not has_value(token, passage.everything)
        and not (token.base in claim.asked and token.base in passage.record_bases)
        for token in claim.tokens
    )


def names_other_version(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim names a version that is another one there, though the same number ("Python 3.1", "Python 3.10")."""
    mine = _versions(claim.tokens)
    there = _versions(passage.tokens) if mine else {}
    return any(name in there and there[name].isdisjoint(numbers) for name, numbers in mine.items())


def _versions(tokens: Sequence[Token]) -> dict[str, set[str]]:
    """The numbers with a point behind each name, as they are written."""
    found: dict[str, set[str]] = {}
    for before, token in itertools.pairwise(tokens):
        is_version = token.quantity is not None and not token.quantity.dimension and "." in token.text
        if is_version and (before.is_name or before.word in {"version", "release", "v"}):
            found.setdefault(before.base, set()).add(token.text)
    return found


def bounds_differ(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A number is bounded from the other side, or is bounded only in the claim."""
    for i, token in enumerate(claim.tokens):
        if token.quantity is None:
            continue
        bound = bound_of(claim.tokens, i)
        found = [
            bound_of(passage.tokens, j)
            for j, other in enumerate(passage.tokens)
            if other.quantity is not None and token.quantity.agrees_with(other.quantity)
        ]
        if bound and found and bound not in found and not (bound == 1 and _says_minimum(passage, 1)):
            if bound == -1 and _says_minimum(passage, -1):
                continue
            return True
    return False


def asks_beyond_bound(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The question is about what lies on one side of a number, the passage about the other side ("over 6 hours", "up to 6")."""
    for i, token in enumerate(claim.question):
        bound = bound_of(claim.question, i) if token.quantity is not None else 0
        found = [
            bound_of(passage.tokens, j)
            for j, other in enumerate(passage.tokens)
            if bound and token.quantity is not None and other.quantity and token.quantity.agrees_with(other.quantity)
        ]
        if found and all(other == -bound for other in found):
            return True
    return False


def names_other_number(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The question is about one of some things with numbers, the passage about another one ("floor 4", "floor 2")."""
    mine = _numbered(claim.question)
    if not mine:
        return False
    there = _numbered(_sentence_of(claim, passage.tokens))
    said = {token.base for token in passage.everything}
    return any(
        name in there and numbers.isdisjoint(there[name]) and said.isdisjoint(numbers) for name, numbers in mine.items()
    )


def _sentence_of(claim: Claim, tokens: Sequence[Token]) -> Sequence[Token]:
    """The sentence of some tokens that has what the claim tells; all of them if none or several do."""
    told = [token for token in claim.tokens if token.is_content and token.base not in claim.asked]
    groups = itertools.groupby(tokens, lambda token: token.kind == "pause" and token.text in ".!?;")
    sentences = [list(sentence) for is_pause, sentence in groups if not is_pause]
    found = [s for s in sentences if any(has_value(t, s) if t.kind in VALUE_KINDS else t in s for t in told)]
    return found[0] if len(found) == 1 else tokens


def _numbered(tokens: Sequence[Token]) -> dict[str, set[str]]:
    """The numbers and letters behind each noun."""
    found: dict[str, set[str]] = {}
    for before, token in itertools.pairwise(tokens):
        is_number = token.quantity is not None and not token.quantity.dimension and token.text.isdecimal()
        is_letter = token.kind == "word" and len(token.text) == 1 and token.text.isupper() and token.text not in "AI"
        if (is_number or is_letter) and before.kind == "word" and before.is_content:
            found.setdefault(before.base, set()).add(token.base)
    return found


_FORMER_BEFORE = frozenset(
    "formerly previously originally instead against früher vormals bisher statt anciennement antes".split()
)
_FORMER_BEHIND = frozenset("before previously earlier zuvor vorher auparavant".split())
_REPLACED = re.compile(r"\b(?:in place of|before that|until then|an stelle von|à la place de|en lugar de)\b")
_CHANGED = frozenset(
    map(
        stem_of,
        """raise lower change increase reduce up down move postpone rise fall drop grow turn switch go migrate convert rename
        steigt sinkt stieg sank""".split(),
    )
)


def takes_former_value(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A value or name is there only as what was before ("9, formerly 6", "raised from 4", "Ada, in place of Bo")."""
    said = {token.word for token in (*claim.tokens, *claim.question)}
    if not said.isdisjoint(_FORMER_BEFORE | _FORMER_BEHIND | {"was", "were", "from"}):
        return False
    for token in (t for t in claim.tokens if t.is_content and t.base not in claim.asked):
        is_value = token.kind in VALUE_KINDS
        found = [
            i
            for i, other in enumerate(passage.tokens)
            if other.kind == token.kind
            and (same_value(token, other, passage.tokens) if is_value else other.base == token.base)
        ]
        if found and all(_is_former(passage.tokens, i) for i in found):
            return True
    return False


_QUOTES = frozenset("\"“”«»'")


def _is_former(tokens: Sequence[Token], i: int) -> bool:
    before = _words_to_pause(reversed(tokens[max(0, i - 6) : i]))
    behind = _words_to_pause(tokens[i + 1 : i + 4])
    if i > 1 and tokens[i - 1].text == ":" and tokens[i - 2].word in _FORMER_BEFORE | _FORMER_BEHIND:
        return True
    if " ".join(token.text for token in tokens[max(0, i - 3) : i] if token.text != ":").endswith("( was"):
        return True  # "high (was: normal)"
    is_last = bool(behind) and behind[-1] in _FORMER_BEHIND and len(behind) < 3
    is_origin = before[:1] == ["from"] and not _CHANGED.isdisjoint(map(stem_of, _words_to_pause(reversed(tokens[:i]))))
    is_replaced = _REPLACED.search(" ".join(reversed(before))) is not None
    return not _FORMER_BEFORE.isdisjoint(before[:3]) or is_last or is_origin or is_replaced


def _words_to_pause(tokens: Iterable[Token]) -> list[str]:
    unquoted = (token for token in tokens if token.text not in _QUOTES)
    return [token.word for token in itertools.takewhile(lambda token: token.kind != "pause", unquoted)]


def _says_minimum(passage: Passage, side: int) -> bool:
    words = "minim min least lowest mindest" if side == 1 else "maxim max most highest limit cap höchst"
    return any(token.word.startswith(tuple(words.split())) for token in passage.everything)


def counts_something_else(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A number counts in the claim what another number counts there ("500 cars and 20 trucks" turned around).

    Or it counts things there, and has a unit in the claim ("8 people", "8 euros").
    """
    for i, token in enumerate(claim.tokens):
        if token.quantity is None:
            continue
        if token.quantity.dimension not in ("", "percent"):
            found = [j for j, t in enumerate(passage.tokens) if t.quantity and token.quantity.agrees_with(t.quantity)]
            if found and all(_counts_things(passage.tokens, j) for j in found):
                return True
            continue
        counted = _counted(claim.tokens, i)
        same, others = set[str](), set[str]()
        for j, other in enumerate(passage.tokens):
            if other.quantity is None:
                continue
            counted_there = _counted(passage.tokens, j) | ({other.quantity.dimension} - {""})
            (same if token.quantity.agrees_with(other.quantity) else others).update(counted_there)
        if counted and same and not counted & same and counted & (others - same):
            return True
    return False


def _counts_things(tokens: Sequence[Token], i: int) -> bool:
    """Whether a number without a unit stands before a noun in the plural."""
    quantity, following = tokens[i].quantity, tokens[i + 1 : i + 2]
    is_bare = quantity is not None and not quantity.dimension
    return is_bare and any(
        t.kind == "word" and t.is_content and t.text.islower() and _is_plural(t.word) for t in following
    )


def _is_plural(word: str) -> bool:
    return (len(word) > 3 and word.endswith("s") and not word.endswith("ss")) or word in _IRREGULAR_PLURALS


_IRREGULAR_PLURALS = frozenset(
    "people children men women persons personen leute kinder personnes gens niños mensen".split()
)


def counts_other_than_asked(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The question is how many things there are, and the claim's number counts something else, beside one that counts them."""
    wanted = _asked_count(claim.question)
    if not wanted:
        return False
    counting = [j for j, token in enumerate(passage.tokens) if token.quantity and wanted & _counted(passage.tokens, j)]
    for token in claim.tokens if counting else ():
        found = [j for j, t in enumerate(passage.tokens) if token.quantity and has_value(token, [t])]
        if found and not set(found) & set(counting) and all(_counts_thing(passage.tokens, j) for j in found):
            return True
    return False


def _asked_count(question: Sequence[Token]) -> set[str]:
    """The noun behind "how many", with the words before it."""
    start = next((i + 1 for i, token in enumerate(question) if token.word in _MANY), len(question))
    return {t.base for t in itertools.takewhile(lambda token: token.is_content, question[start:])}


_MANY = frozenset("many viele cuántos cuántas combien quanti quante quantos quantas hoeveel".split())


def _counts_thing(tokens: Sequence[Token], i: int) -> bool:
    """Whether a number has a unit, or stands before a noun."""
    quantity = tokens[i].quantity
    return quantity is not None and bool(quantity.dimension or _counted(tokens, i))


def takes_the_total(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim's number is there only as the whole of which another number is a part ("12 of 80")."""
    wanted = {token.base for token in predicate_of(claim.question)} if claim.is_fragment else set[str]()
    if claim.is_fragment and all(token.base not in wanted for token in passage.tokens):
        return False  # "How many are there?"
    for i, token in enumerate(claim.tokens):
        if token.quantity is None or _is_total(claim.tokens, i):
            continue
        found = [
            j for j, other in enumerate(passage.tokens) if other.quantity and token.quantity.agrees_with(other.quantity)
        ]
        if found and all(_is_total(passage.tokens, j) for j in found):
            return True
    return False


def _is_total(tokens: Sequence[Token], i: int) -> bool:
    before = [token for token in tokens[max(0, i - 3) : i] if token.word not in ARTICLES][-2:]
    return len(before) == 2 and before[1].word in {"of", "von", "sur", "de"} and before[0].quantity is not None


def _counted(tokens: Sequence[Token], i: int) -> set[str]:
    found: set[str] = set()
    for token in tokens[i + 1 : i + 4]:
        if token.kind == "pause" or token.quantity is not None or token.word in {"and", "or", "und", "et", "y"}:
            break
        if token.is_content:
            found.add(token.base)
    return found


_ROUTES = {
    word: end
    for end, words in {"from": "from von de desde da", "to": "to auf à a hasta zu", "by": "by um"}.items()
    for word in words.split()
}
"""The words before a number that say whether something begins with it, ends with it, or changes by it."""


def runs_backwards(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A change begins in the claim with the number that it ends with there ("from 5 to 8"), or ends with what it changes by."""
    for i, token in enumerate(claim.tokens):
        mine = _route(claim.tokens, i)
        if not mine:
            continue
        found = {
            _route(passage.tokens, j)
            for j, other in enumerate(passage.tokens)
            if other.kind == token.kind and same_value(token, other, passage.tokens)
        }
        if found and "" not in found and mine not in found:
            return True
    return False


def _route(tokens: Sequence[Token], i: int) -> str:
    """The end of a change that a number or a date stands for; "" if it is neither."""
    is_end = tokens[i].kind in VALUE_KINDS - {"identifier"} and i > 0
    route = _ROUTES.get(tokens[i - 1].word, "") if is_end else ""
    return "" if route == "by" and tokens[i].kind != "quantity" else route
