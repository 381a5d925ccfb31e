"""Whether a claim puts together what a passage says in different parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from leanrag.grounding.claims import Claim, Passage
from leanrag.grounding.clauses import CONJUNCTIONS, clauses_of
from leanrag.grounding.lexicon import ANAPHORS, ARTICLES, CLASS_WORDS, COPULAS, PREPOSITIONS
from leanrag.grounding.reading import Token
from leanrag.grounding.values import VALUE_KINDS, answer_kind, dimension_of, has_value, is_among, kind_of

__all__ = ["mixes_clauses", "pairs_differently"]


def pairs_differently(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A value and what it belongs to stand in different parts of the place, each with a companion of its own."""
    segments = passage.segments
    if len(segments) < 2:
        return False
    clauses = [list(clause.tokens) for clause in clauses_of(passage.tokens)]
    mine = frozenset(token.base for token in (*claim.whole, *claim.question) if token.is_content)
    if any(_names_part(parts, claim, mine) for parts in (segments, clauses)):
        return True
    if claim.is_fragment and (
        _belongs_to_another_part(segments, claim) or _stands_behind_another(passage.tokens, claim)
    ):
        return True
    for part in claim.segments if not claim.is_fragment else [list(claim.whole)]:
        values = [
            token for token in part if token.kind in VALUE_KINDS and (not claim.is_fragment or token in claim.tokens)
        ]
        heads = [token for token in part if token.is_content and token.kind == "word"]
        for value in values:
            with_value = [s for s in segments if has_value(value, s)]
            for head in heads:
                with_head = [s for s in segments if any(t.base == head.base for t in s)]
                if (
                    with_value
                    and with_head
                    and all(_is_rival(value, head, mine, v, h) for v in with_value for h in with_head)
                ):
                    return True
    return False


def _belongs_to_another_part(segments: list[list[Token]], claim: Claim) -> bool:
    """Whether the answer stands in one part and what was asked in another part, which has an answer of its own.

    "It begins on 1 May and ends on 30 June" does not say that it ends on 1 May; "glass is fetched on Monday, the paper on Friday"
    does not say that glass is fetched on Friday.
    """
    asked = claim.asked
    subjects = list(map(_subject, segments))
    for told in (token for token in claim.tokens if token.is_content and token.base not in asked):
        kind = answer_kind(told)
        with_told = [i for i, segment in enumerate(segments) if is_among(told, segment)]
        if kind in ("", "identifier") or not with_told:
            continue
        first, last = with_told[0], with_told[-1]
        if first == last and subjects[first] and subjects[first] not in asked:
            others = [part for part, subject in zip(segments, subjects, strict=True) if subject in asked]
            if others and all(_has_rival_answer(told, part, claim, anywhere=True) for part in others):
                return True
        if first == last and kind != "name" and _names_another(segments, first, told, claim):
            return True
        own = _content([token for segment in segments[: last + 1] for token in segment])
        says_more = kind != "name" or any(t.is_content and not t.is_name and t.kind == "word" for t in segments[last])
        behind = [part for part in segments[last + 1 :] if not asked.isdisjoint(_content(part) - own)]
        names_other = not _words(segments[last]) <= asked and any(
            _words([t for t in part if not t.is_name or t.base in asked]) <= asked for part in behind
        )
        if (
            behind
            and says_more
            and (own & asked <= set(subjects[: last + 1]) or names_other)
            and all(_has_rival_answer(told, part, claim) for part in behind)
        ):
            return True
        before = [part for part in segments[:first] if not asked.isdisjoint(_content(part))]
        if (
            before
            and subjects[first]
            and first == last
            and kind != "name"
            and asked.isdisjoint(_content(segments[first]))
            and all(_has_rival_answer(told, part, claim) for part in before)
        ):
            return True
    return False


def _names_another(segments: list[list[Token]], i: int, told: Token, claim: Claim) -> bool:
    """Whether a part names something else than what was asked, and another part names that with a value of its own.

    "Members pay a fee of 5 euros, and guests a fee of 8" does not say that the fee of members is 8.
    """
    here = claim.asked & _content(segments[i])
    return (
        bool(here)
        and not _words(segments[i]) <= claim.asked
        and any(
            here < claim.asked & _content(part)
            and any(t.kind == told.kind for t in part if not is_among(t, claim.whole))
            for part in segments
        )
    )


def _words(part: list[Token]) -> frozenset[str]:
    return _content([token for token in part if token.kind == "word"])


def _subject(segment: list[Token]) -> str:
    """The noun behind the article that a part of a sentence begins with, or behind a conjunction and an article; "" for none."""
    words = [token for token in segment[:4] if token.word not in CONJUNCTIONS]
    if len(words) > 1 and words[0].word in ARTICLES and words[1].is_content and words[1].kind == "word":
        return words[1].base
    return ""


def _has_rival_answer(told: Token, part: list[Token], claim: Claim, *, anywhere: bool = False) -> bool:
    """Whether a part of a sentence has an answer of its own to what was asked; of names, before the words that were asked."""
    if answer_kind(told) == "name" and not anywhere:
        part = part[: next((i for i, token in enumerate(part) if token.base in claim.asked), len(part))]
    mine = (*claim.tokens, *claim.question)
    return any(
        token.is_content and answer_kind(token) == answer_kind(told) and not is_among(token, mine) for token in part
    )


def _stands_behind_another(tokens: Sequence[Token], claim: Claim) -> bool:
    """Whether the answer stands in brackets behind another thing than what was asked ("oats (58 %), nuts (9 %)")."""
    owners = list(_in_brackets(tokens))
    if len(owners) < 2:
        return False
    for token in claim.tokens:
        if token.kind not in VALUE_KINDS or token.base in claim.asked:
            continue
        own = [owner for owner, values in owners if has_value(token, values)]
        others = [
            owner
            for owner, values in owners
            if not has_value(token, values) and any(v.kind == token.kind for v in values)
        ]
        if own and all(o.isdisjoint(claim.asked) for o in own) and any(not o.isdisjoint(claim.asked) for o in others):
            return True
    return False


def _in_brackets(tokens: Sequence[Token]) -> Iterator[tuple[frozenset[str], list[Token]]]:
    """Yield the content of the words before each pair of brackets, up to a pause, and the tokens in the brackets."""
    start = 0
    for i, token in enumerate(tokens):
        if token.text == "(":
            end = next((j for j in range(i + 1, len(tokens)) if tokens[j].text == ")"), len(tokens))
            yield _content(tokens[start:i]), list(tokens[i + 1 : end])
        elif token.kind == "pause" and token.text != "-":
            start = i + 1


def _content(tokens: Sequence[Token]) -> frozenset[str]:
    return frozenset(token.base for token in tokens if token.is_content)


def _names_part(parts: list[list[Token]], claim: Claim, mine: frozenset[str]) -> bool:
    """Whether a name of the answer stands in another part than its verb, while each part has a companion of its own."""
    if claim.is_fragment:
        return False
    content = [token for token in claim.tokens if token.is_content and token.kind == "word"]
    verb = next((token for token in content if not token.is_name), None)
    if content and verb is content[0]:
        verb = next((token for token in content[1:] if not token.is_name), None)
    for name in content if verb else ():
        if not (name.is_name or name is content[0]) or name.word in CLASS_WORDS or verb is None:
            continue
        with_name = [part for part in parts if any(token.base == name.base for token in part)]
        with_verb = [part for part in parts if any(token.base == verb.base for token in part)]
        if (
            with_name
            and with_verb
            and all(
                a is not b
                and _has_rival(name, b, mine)
                and any(
                    not token.is_name and token.kind == "word" and token.is_content and token.base not in mine
                    for token in a
                )
                for a in with_name
                for b in with_verb
            )
        ):
            return True
    return False


def _has_rival(name: Token, part: list[Token], mine: frozenset[str]) -> bool:
    """Whether a part holds another name, or begins with another word if `name` is written small."""
    if name.is_name and any(token.is_name and token.is_content and token.base not in mine for token in part):
        return True
    head = _head(part)
    if any(token.word in ANAPHORS for token in part[:2]):
        return False  # "she" may be the one who is named
    return not name.is_name and head is not None and head.base not in mine


def _is_rival(value: Token, head: Token, mine: frozenset[str], with_value: list[Token], with_head: list[Token]) -> bool:
    if with_value is with_head:
        return False
    first, other = _head(with_head), _head(with_value)
    number = next((token for token in with_value if token.is_content), None)
    if (
        number is not None
        and number.quantity is not None
        and kind_of(number) == ("quantity", "")
        and number.base not in mine
    ):
        other = number  # "a loaf costs 3 euros, and two cost 5"
    if first is None or other is None or first.base != head.base or other.base in mine:
        return False
    return any(token.kind == value.kind and dimension_of(token) == dimension_of(value) for token in with_head)


def _head(segment: list[Token]) -> Token | None:
    return next((token for token in segment if token.is_content and token.kind == "word"), None)


_PERSONS = frozenset("i he she we they you er wir ihr il elle nous vous ils elles él ella ellos ellas".split())


_LONGEST_CLAUSE = 12
"""Tokens of a clause that is compared with its neighbour; longer ones are seldom built alike."""


def mixes_clauses(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim takes its subject from one clause, and the rest from another clause with the same verb.

    "Ada paints doors and Bo paints walls" does not say that Ada paints walls.
    """
    parts = [part for part in passage.segments if len(part) <= _LONGEST_CLAUSE]
    if len(parts) < 2:
        return False
    asked = _things(claim.question)
    for segment in claim.segments:
        mine = _things(segment)
        if any(mine <= _things(part) for part in parts):
            continue
        words = [token for token in segment if token.kind == "word" and not token.is_name]
        for verb in {t.word if t.word in COPULAS else t.base for t in words if t.is_content or t.word in COPULAS}:
            sides = [side for part in parts if (side := _sides(part, verb)) is not None]
            for subject, rest in sides:
                for other_subject, other_rest in sides:
                    is_all = mine <= subject | rest | other_subject | other_rest | {verb}
                    takes_subject = mine & subject - other_subject and other_subject - mine - asked
                    if is_all and takes_subject and mine & other_rest - rest and rest - mine - asked:
                        return True
    return False


def _sides(part: Sequence[Token], verb: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the things before a verb in a clause and the things after it; None if the clause does not have this verb."""
    for i, token in enumerate(part):
        is_there = token.word == verb if token.word in COPULAS else token.base == verb and not token.is_name
        if is_there and i and part[i - 1].word not in ARTICLES and part[i - 1].word not in PREPOSITIONS:
            subject, rest = _things(part[:i]), _things(part[i + 1 :])
            return (subject, rest) if subject and rest else None
    return None


def _things(tokens: Sequence[Token]) -> frozenset[str]:
    """Content of some words, and the persons that they speak of."""
    return frozenset(t.word if t.word in _PERSONS else t.base for t in tokens if t.is_content or t.word in _PERSONS)
