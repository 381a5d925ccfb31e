"""The predicate of a question ("replace" in "What does it replace?"), and short answers from clauses with another predicate."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

from leanrag.grounding.claims import Claim
from leanrag.grounding.clauses import CONJUNCTIONS, fine_segments, stem_of
from leanrag.grounding.index import PlaceIndex
from leanrag.grounding.lexicon import (
    AGREEMENTS,
    ANAPHORS,
    ARTICLES,
    AUXILIARIES,
    BY,
    CONTRASTS,
    IRREGULAR,
    PREPOSITIONS,
    WISHES,
)
from leanrag.grounding.places import Place
from leanrag.grounding.reading import Token, base_of
from leanrag.grounding.values import answer_kind, is_among

__all__ = ["answers_another_predicate", "is_elliptic", "predicate_of"]

_WHO = frozenset("who whom wer wen wem".split())
_WHAT = frozenset("what which whose how was welche welcher welches welchen when where wann wo wie".split())
_BE = frozenset("is are was were be been being am has have had ist sind war waren wird wurde wurden hat haben".split())
_AUXILIARIES = AUXILIARIES - ARTICLES
_FINITE = _AUXILIARIES | frozenset(IRREGULAR)
_RELATIVES = frozenset("who whom whose which that where when der die das welche".split())
_SUBORDINATE = frozenset("if when who whom whose which that where because wenn falls weil dass si".split())
_DEEDS = {
    base_of(word): i
    for i, words in enumerate(
        (
            "make write build design invent found compose produce",
            "replace",
            "support",
            "maintain keep",
            "delete",
            "repair",
            "test check inspect review",
            "approve",
            "compress",
            "decompress",
            "damage destroy",
            "lend",
        )
    )
    for word in words.split()
}
"""Verbs, by the number of their kind: who does something of one kind does not thereby do something of another."""
_FRAME_VERBS = frozenset("based called named known".split())
_OF = frozenset("of for to von für der des".split())
_PERSONS = frozenset("i you we one he she it they ich man wir er sie es".split())
_OBJECTS = frozenset("it him them es ihn ihm ihnen".split())
_ENDS = PREPOSITIONS | CONTRASTS | frozenset("if when that and or und oder wenn".split())


@functools.lru_cache(maxsize=1024)
def predicate_of(question: tuple[Token, ...]) -> tuple[Token, ...]:
    """Return the words of a question of which one is its predicate: a verb, or a noun such as "author"; none if it is not known."""
    words = [token for token in question if token.kind != "pause" and not (token.kind == "word" and token.word == "s")]
    words = list(itertools.dropwhile(lambda token: token.word in PREPOSITIONS, words))
    if len(words) < 2 or words[0].word not in _WHO | _WHAT:
        return ()
    first, rest = words[0].word, words[1:]
    auxiliary = next((i for i, token in enumerate(rest) if token.word in _AUXILIARIES and not token.is_content), None)
    if auxiliary is None:
        is_verb = first in _WHO or (first in {"what", "was"} and not any(token.is_content for token in rest[1:2]))
        found = rest[:1] if is_verb else _behind_noun(rest)
    elif rest[auxiliary].word in _BE:
        found = _behind_be(rest[auxiliary + 1 :], asks_for_noun=first in _WHO | {"what", "was"} and not auxiliary)
    else:
        found = _behind_do(rest[auxiliary + 1 :])
    return tuple(token for token in found if _may_be_verb(token))


def _may_be_verb(token: Token) -> bool:
    is_telling = token.is_content or token.word in _FRAME_VERBS
    return token.kind == "word" and is_telling and not token.text[:1].isupper() and not token.word.endswith("ly")


def _up_to_phrase(tokens: Iterable[Token]) -> Iterator[Token]:
    """The words before the next article or preposition."""
    return itertools.takewhile(lambda token: token.word not in _ENDS | ARTICLES, tokens)


def _behind_noun(tokens: Sequence[Token]) -> list[Token]:
    """The words behind the noun of "Which noun replaces ...?" of which one is the verb."""
    found = list(_up_to_phrase(tokens[1:]))
    if len(found) == 2 and (found[0].word.endswith("s") or _is_participle(found[0])):
        return found[:1]
    return found or [token for token in tokens[2:] if _may_be_verb(token) and _is_participle(token)][:1]


def _behind_do(tokens: Sequence[Token]) -> list[Token]:
    """The words behind "does" or "can" of which one is the verb: not the first word of the subject."""
    phrase = list(_up_to_phrase(itertools.dropwhile(lambda token: token.word in ARTICLES, tokens)))
    verbs = [token for token in phrase if _may_be_verb(token)]
    if phrase and phrase[0].word in _PERSONS:
        return verbs[:1]
    behind = tokens[tokens.index(phrase[-1]) + 1 :] if phrase else ()
    if behind and behind[0].word == "of":
        return list(tokens[-1:]) if tokens[-2].is_content else []
    return verbs if phrase and not _may_be_verb(phrase[0]) else verbs[1:]


def _behind_be(tokens: Sequence[Token], *, asks_for_noun: bool) -> list[Token]:
    """The participle behind "is" or the verb behind "is to"; without one, the noun before "of"."""
    for before, token in itertools.pairwise(tokens):
        if _may_be_verb(token) and (before.word == "to" or (_is_participle(token) and before.word not in ARTICLES)):
            return [token]
    if tokens and _may_be_verb(tokens[0]) and _is_participle(tokens[0]):
        return [tokens[0]]
    phrase = list(_up_to_phrase(itertools.dropwhile(lambda token: token.word in ARTICLES, tokens)))
    has_more = any(token.word in _OF for token in tokens)
    return phrase[-1:] if asks_for_noun and has_more and tokens[0].word in ARTICLES else []


def _is_participle(token: Token) -> bool:
    word = token.word
    return (len(word) > 4 and word.endswith("ed")) or word in IRREGULAR or _is_german_participle(word)


def _is_german_participle(word: str) -> bool:
    return word.startswith("ge") and word.endswith("t")


def answers_another_predicate(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Return whether a short answer stands in a clause that has a predicate of its own, and not the one that was asked for.

    The clause then says nothing else of what was asked, or another clause has the predicate and an answer of its own.
    """
    asked_for = predicate_of(claim.question) if claim.is_fragment else ()
    told = [token for token in claim.tokens if token.is_content and token.base not in claim.asked]
    if claim.is_fragment and _is_only_wished(told, claim, place, index):
        return True
    if not asked_for or not told or not _is_prose(place):
        return False
    parts = _parts(place.tokens)
    with_told = [part for part in parts if all(is_among(token, part) for token in told)]
    if not with_told and all(token.base in place.antecedent_bases for token in told):
        return _is_silent(place, asked_for, index)
    if not with_told or not all(map(_has_verb, with_told)):
        return False
    wanted = frozenset(token.base for token in asked_for)
    if any(
        index.holds(token, place) if token.is_content else stem_of(token.word) in place.stems for token in asked_for
    ):
        others = [part for part in parts if part not in with_told and any(token.base in wanted for token in part)]
        if any(token.word in ANAPHORS for part in others for token in part[:2]):
            return False  # "she" may be the one who is named
        return (
            bool(others)
            and not any(token.base in wanted for part in with_told for token in part)
            and not any(token.base in wanted for token in place.context)
            and all(_has_rival(told, part, claim) for part in others)
        )
    around = place.bases | place.antecedent_bases | place.near | place.below
    if claim.asked.isdisjoint(around):
        return True
    if all(_is_other_deed(part, asked_for, claim) for part in with_told):
        return True
    least = len(claim.asked & place.reach) + all(token.is_content for token in asked_for)
    asks_for_thing = claim.question[0].word in {"what", "which"} and claim.question[1].is_content
    names_thing = asks_for_thing and len(told) == 1 and not answer_kind(told[0])
    return any(
        other is not place
        and len(claim.asked & (other.reach | place.reach if _goes_on(place, other) else other.reach)) >= least
        and (
            _has_rival(told, other.tokens, claim)
            or (names_thing and not is_among(told[0], other.tokens) and _speaks_of_most(other, claim))
        )
        for other in index.with_word(asked_for)
    )


def _is_only_wished(told: Sequence[Token], claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Whether an answer stands only in clauses that tell what somebody wanted or proposed, and nobody asked for that or agreed."""
    if WISHES.isdisjoint(token.word for token in place.tokens):
        return False
    parts = [part for part, _, _ in place.segments if any(is_among(token, part) for token in told)]
    if not parts or not all(any(token.word in WISHES for token in part) for part in parts):
        return False
    asks_wish = any(token.base in _WISHED for token in (*claim.question, *claim.tokens))
    behind = {token.word for token in index.behind(place)}
    is_agreed = not behind.isdisjoint(AGREEMENTS) and behind.isdisjoint(WISHES)  # to this, and to no other proposal
    is_agreed |= any(token.word in AGREEMENTS for token in place.tokens)
    return not is_agreed and not asks_wish


_WISHED = frozenset(map(base_of, WISHES))


def _is_prose(place: Place) -> bool:
    """Whether a place is a sentence of a text or of a list item, and no row, record or directive."""
    is_item = place.shape.startswith("row") and not place.text.startswith("|")
    return not place.record and not place.cells and (is_item or not place.shape)


def _is_other_deed(part: Sequence[Token], asked_for: Sequence[Token], claim: Claim) -> bool:
    """Whether a clause tells of one deed and the question asks for another one, such as supporting and replacing."""
    wanted = {_DEEDS[token.base] for token in asked_for if token.base in _DEEDS}
    told = {
        _DEEDS[token.base]
        for before, token in itertools.pairwise(part)
        if token.base in _DEEDS
        and token.base not in claim.asked
        and token.text.islower()
        and before.word not in ARTICLES | {"to"}
    }
    has_more = any(token.word in _RELATIVES for token in part)
    return bool(wanted and told) and wanted.isdisjoint(told) and not has_more


def _goes_on(place: Place, other: Place) -> bool:
    """Whether another place follows at once and speaks of this one by a pronoun ("He approves them")."""
    follows = (
        other.item is place.item and other.start >= place.end and not place.item.text[place.end : other.start].strip()
    )
    return follows and any(token.word in _OBJECTS for token in other.tokens)


def _speaks_of_most(place: Place, claim: Claim) -> bool:
    """Whether a place has two thirds of what was asked."""
    return 3 * len(claim.asked & place.reach) >= 2 * len(claim.asked)


def _is_silent(place: Place, asked_for: Sequence[Token], index: PlaceIndex) -> bool:
    """Whether a sentence about the one before it ("It ...") has no word that was asked for, and another place has one."""
    return not any(index.holds(token, place) for token in asked_for) and bool(index.with_word(asked_for))


def _parts(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts of a sentence, each with a verb of its own; a part without one belongs to the part before it."""
    parts: list[list[Token]] = []
    for segment in fine_segments(tokens):
        if parts and (not _has_verb(segment) or not _has_verb(parts[-1])):
            parts[-1] += segment
        else:
            parts.append(list(segment))
    return parts


_NOTHING = Token("pause", "", "")


def _has_verb(part: Sequence[Token]) -> bool:
    """Whether a part of a sentence holds a word that can only be a verb, or a word between a noun and its object."""
    has_nouns = any(token.text[:1].isupper() and token.is_content and not token.is_name for token in part)  # of German
    for i, token in enumerate(part):
        if token.kind != "word" or (token.text[:1].isupper() and i):
            continue
        if token.word in _AUXILIARIES and not token.is_content:
            return True
        if not token.is_content:
            continue
        before, behind = part[i - 1] if i else _NOTHING, part[i + 1] if i + 1 < len(part) else _NOTHING
        is_adjective = before.word in ARTICLES or (before.is_content and not before.is_name and behind.is_content)
        is_state = not i and _is_german_participle(token.word) and all(other.word not in BY for other in part)
        if _is_participle(token) and not is_adjective and not is_state:  # "geöffnet drei Tage" tells a state
            return True
        if has_nouns and token.word.endswith(("t", "ten", "en")) and before.text[:1].isupper():
            return True
        agrees = token.word.endswith(("s", "t")) or before.word.endswith("s")
        if before.is_content and agrees and behind.word in ARTICLES | ANAPHORS:
            return True
    return False


def is_elliptic(part: Sequence[Token]) -> bool:
    """Whether a part of a sentence has no verb or no subject, so that it takes them from the part before it.

    A verb behind "if" or "who" is not its verb.
    """
    end = next((i for i, token in enumerate(part) if i and token.word in _SUBORDINATE), len(part))
    part = part[:end]
    first = next((token for token in part if token.word not in CONJUNCTIONS), None)
    has_auxiliary = any(token.word in _FINITE and not token.is_content for token in part)
    return not has_auxiliary and (first is None or _is_participle(first) or not _has_verb(part))


def _has_rival(told: Sequence[Token], tokens: Sequence[Token], claim: Claim) -> bool:
    """Whether a part of a sentence holds nothing of the answer, but something else of its kind."""
    if any(is_among(token, tokens) for token in told):
        return False
    kinds = {answer_kind(token) for token in told} - {""}
    asks_who = not kinds and claim.question[0].word in _WHO
    return any(
        token.is_content
        and (token.text[:1].isupper() if asks_who else answer_kind(token) in kinds)
        and not is_among(token, (*claim.tokens, *claim.question))
        for token in tokens
    )
