"""Whether a claim takes what it says from a place that speaks of something else than the question."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from leanrag.grounding.claims import Claim
from leanrag.grounding.clauses import REPLIES
from leanrag.grounding.index import PlaceIndex
from leanrag.grounding.lexicon import ANAPHORS
from leanrag.grounding.places import Place
from leanrag.grounding.reading import Token
from leanrag.grounding.values import VALUE_KINDS, answer_kind, dimension_of, has_value, is_among, kind_of

__all__ = ["is_of_another"]

_PARALLEL_HEADINGS = 0.33  # least share of their words that the headings of sections of one kind have in common
_PARALLEL_PLACES = 0.4  # the same of the words of two places, values by their kind


def is_of_another(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Return whether another place speaks of more of what was asked, and is like this place or answers with something else.

    The claim then takes from another section, row or sentence than it should.
    """
    told = [token for token in claim.tokens if token.is_content and token.base not in claim.asked]
    if _has_other_key(claim, place, index) or _has_other_condition(claim, place, index):
        return True
    if claim.is_fragment and _takes_from_question_above(place, told):
        return True
    if claim.is_fragment and _has_other_modifier(claim, place, index):
        return True
    if claim.is_fragment and (
        _takes_value_from_above(claim, place, told, index) or _is_of_another_document(claim, place, told, index)
    ):
        return True
    here = place.reach | place.below
    wanted = {token.base for token in (*claim.question, *claim.tokens) if token.is_content and token.kind != "script"}
    wanted -= {token.base for token in claim.tokens if token.base in here} - claim.asked
    missing = {base for base in wanted - here if index.is_known(base)}
    beginnings = {base[:4] for base in here if len(base) > 3}
    missing = {base for base in missing if len(base) < 4 or not base.isalpha() or base[:4] not in beginnings}
    found = wanted & here
    names = {token.base for token in (*claim.question, *claim.tokens) if token.is_name}
    has_rival = (
        not names.isdisjoint(missing)
        and any(token.is_name and token.is_content and token.base not in wanted | claim.asked for token in place.tokens)
        and bool(found)
    )
    is_under_another = place.speaks_of_heading and place.heading.isdisjoint(claim.asked)
    if _says_it_better(claim, place, told, index):
        return True
    return any(
        found <= (other.reach | other.below if place.below else other.reach)
        and other is not place
        and (
            _are_parallel(place, other)
            or (has_rival and _jaccard(place.frame, other.frame) > 0.5)
            or (is_under_another and not missing.isdisjoint(other.heading))
            or (bool(found) and _answers_otherwise(told, claim, place, other))
        )
        for other in index.reach(missing)
    )


def _has_other_key(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Whether the question names the number or code that another line of a list begins with, and not that of this line."""
    asked = {token.word for token in claim.question}
    if not place.key or place.key in asked or not (place.key.isdecimal() or len(place.key) == 1 or _is_code(place.key)):
        return False
    return any(
        other.key in asked and other.item is place.item and other.heading == place.heading
        for other in index.places
        if other.key
    )


def _has_other_condition(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Whether the question asks what happens if something is so, and only another place says what happens then.

    What follows that place in its paragraph, without a condition of its own, may still speak of it.
    """
    condition = _condition_of(claim.question)
    if not condition or all(index.holds(token, place) for token in condition):
        return False
    is_conditional = bool(_condition_of(place.tokens))
    return any(
        all(not index.forms(token).isdisjoint(bases) for token in condition)
        for other in index.with_word(condition[:1])
        if other is not place and (is_conditional or not _is_followed_by(other, place))
        for bases in [frozenset(token.base for token in _condition_of(other.tokens))]
    )


def _is_followed_by(place: Place, other: Place) -> bool:
    """Whether another place follows in the same paragraph."""
    between = place.item.text[place.end : other.start]
    return other.item is place.item and other.end > place.start and "\n\n" not in between


def _condition_of(tokens: Sequence[Token]) -> list[Token]:
    """The content of the clause that begins with "if", up to a pause."""
    start = next((i for i, token in enumerate(tokens) if token.word in _IF), len(tokens))
    clause = list(itertools.takewhile(lambda token: token.kind != "pause", tokens[start:]))
    is_question = not start and tokens[-1:] and tokens[-1].text == "?" and len(clause) + 1 == len(tokens)
    return [token for token in clause if token.is_content and not is_question]  # "When does it open?"


_IF = frozenset("if when once wenn falls sobald si quand lorsque cuando se quando als".split())


def _has_other_modifier(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Whether the question names one of several things of a kind, and the place another one ("HTML version", "plain version")."""
    words = [token for token in claim.question if token.kind == "word"]
    for modifier, noun in itertools.pairwise(words):
        if not (modifier.is_content and noun.is_content) or modifier.base in place.reach | place.below:
            continue
        others = _words_before(noun, place.tokens)
        if (
            others
            and not any(is_among(other, (*claim.question, *claim.tokens)) for other in others)
            and any(is_among(modifier, _words_before(noun, other.tokens)) for other in index.reach([modifier.base]))
        ):
            return True
    return False


def _words_before(noun: Token, tokens: Sequence[Token]) -> list[Token]:
    """The content words right before a noun, where it has one."""
    return [
        before
        for before, token in itertools.pairwise(tokens)
        if token.base == noun.base and before.is_content and before.kind == "word"
    ]


def _takes_from_question_above(place: Place, told: Sequence[Token]) -> bool:
    """Whether the answer only repeats words of the question that a place answers, and that the place does not speak of."""
    bases = {token.base for token in told}
    replies = any(token.word in ANAPHORS | REPLIES for token in place.tokens)
    return bool(bases) and bases <= place.question - place.bases and not replies


def _takes_value_from_above(claim: Claim, place: Place, told: Sequence[Token], index: PlaceIndex) -> bool:
    """Whether a value of the answer stands only above a place, as a header above a row.

    The place has a value of this kind itself, or nothing that was asked.
    """
    values = [token for token in told if token.kind in VALUE_KINDS and not has_value(token, place.tokens)]
    if not values:
        return False
    kinds = {kind_of(token) for token in place.tokens if not has_value(token, claim.question)}
    names = place.columns.union(*(line.name for line in place.record))
    here = place.bases | place.part_bases | place.antecedent_bases | names
    says_nothing = not any(token.is_content and not index.forms(token).isdisjoint(here) for token in claim.question)
    return says_nothing or any(kind_of(token) in kinds for token in values)


def _is_of_another_document(claim: Claim, place: Place, told: Sequence[Token], index: PlaceIndex) -> bool:
    """Whether another document alone speaks of something that was asked, and answers it with something else."""
    missing = {base for base in claim.asked - index.document_bases(place) if index.is_written(base)}
    here = claim.asked & place.reach
    return bool(missing) and any(
        not missing.isdisjoint(index.document_bases(other))
        and here <= other.reach
        and _answers_otherwise(told, claim, place, other)
        for other in index.reach(here)
    )


def _is_code(key: str) -> bool:
    return any(map(str.isdigit, key))


def _says_it_better(claim: Claim, place: Place, told: Sequence[Token], index: PlaceIndex) -> bool:
    """Whether another place has more of the question in its own words, and a value of the same dimension as the answer."""
    values = [token for token in told if dimension_of(token)]
    kinds = set(map(dimension_of, values))
    mine = claim.asked & place.bases
    return bool(kinds) and any(
        mine < claim.asked & other.bases
        and not any(has_value(token, other.tokens) for token in values)
        and any(dimension_of(token) in kinds and not has_value(token, claim.question) for token in other.tokens)
        for other in index.reach(claim.asked - mine)
        if other is not place
    )


def _answers_otherwise(told: Sequence[Token], claim: Claim, place: Place, other: Place) -> bool:
    """Whether another place says nothing of what the claim tells, but has values or names of the same kind.

    What stands above the other place counts if the claim tells what stands over others: the name of an option.
    """
    if any(is_among(token, (*other.tokens, *other.context)) for token in told):
        return False
    is_above = bool(place.below) or not any(is_among(token, place.tokens) for token in told)
    rivals = [
        token
        for token in (*other.tokens, *(other.context if is_above else ()))
        if token.is_content and not is_among(token, claim.question) and not is_among(token, claim.tokens)
    ]
    kinds = {answer_kind(token) for token in told} - {""}
    return any(answer_kind(token) in kinds for token in rivals)


def _are_parallel(place: Place, other: Place) -> bool:
    """Whether two places say things of the same kind: rows of a table, sections of a manual, questions of a list."""
    if place.shape and place.shape == other.shape and place.item is other.item:
        return True
    headings = (_without_numbers(place.heading), _without_numbers(other.heading))
    if _jaccard(*headings) >= _PARALLEL_HEADINGS and place.heading != other.heading:
        return True
    if _jaccard(place.kinds, other.kinds) >= _PARALLEL_PLACES:
        return True
    return _jaccard(place.kinds | place.heading, other.kinds | other.heading) >= _PARALLEL_PLACES


def _without_numbers(bases: frozenset[str]) -> frozenset[str]:
    """The bases, with one sign for all numbers: sections with a number each are of one kind."""
    return frozenset("#" if base.replace(".", "").isdecimal() else base for base in bases)


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right) if left or right else 0.0
