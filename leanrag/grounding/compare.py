"""What in a claim contradicts the place that it is compared with: one small check for each way in which they may differ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from leanrag.grounding.clauses import Clause, clauses_of, complement_of, converse_of, fine_segments, stem_of
from leanrag.grounding.lexicon import (
    ALL,
    ARTICLES,
    CLASS_WORDS,
    CLASSES,
    NAME_QUESTIONS,
    OBLIGATIONS,
    ONLY,
    PERMISSIONS,
    SOME,
    SYMMETRIC,
)
from leanrag.grounding.reading import Token
from leanrag.grounding.scripts import differs_in_script
from leanrag.grounding.values import (
    VALUE_KINDS,
    bound_of,
    dimension_of,
    has_value,
    kind_of,
    same_value,
)

__all__ = ["CHECKS", "Claim", "Passage", "contradiction", "holds", "is_form"]


@dataclass(frozen=True)
class Claim:
    """What an answer says, with the question that it answers.

    Attributes:
        tokens: Of the answer's clause.
        question: Of the question.
        is_fragment: Whether the answer is no whole sentence, so that it says something only with the question.
        statement: The question as a statement with the answer in it, of a fragment; else the same as `tokens`.
    """

    tokens: tuple[Token, ...]
    question: tuple[Token, ...] = ()
    is_fragment: bool = False
    statement: tuple[Token, ...] = ()

    @functools.cached_property
    def whole(self) -> tuple[Token, ...]:
        """What is said, in one sentence."""
        return self.statement or self.tokens

    @property
    def asks_for_name(self) -> bool:
        """Whether the question asks who or what does something, or to whom it is done."""
        return bool(self.question) and self.question[0].word in NAME_QUESTIONS

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        """Content of the question."""
        return frozenset(token.base for token in self.question if token.is_content)


@dataclass(frozen=True)
class Passage:
    """Text of a source that may carry a claim.

    Attributes:
        tokens: Of the sentence, and of the sentence before it if this one speaks of it.
        context: Of what stands above it: headings, title, the question that it answers, the header of its table.
        elsewhere: Bases of content words of the other sentences of the sources.
        reply: -1 if it begins with "No", 1 if with "Yes", 0 otherwise.
    """

    tokens: tuple[Token, ...]
    context: tuple[Token, ...] = ()
    elsewhere: frozenset[str] = frozenset()
    reply: int = 0

    @functools.cached_property
    def everything(self) -> tuple[Token, ...]:
        """The tokens and those of the context."""
        return (*self.tokens, *self.context)

    @functools.cached_property
    def all_bases(self) -> frozenset[str]:
        """What stands for all its words and those of the context."""
        return frozenset(token.base for token in self.everything if token.kind != "pause")

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """All its words."""
        return frozenset(token.word for token in self.tokens)


def holds(bases: frozenset[str], token: Token) -> bool:
    """Whether a word, or another form of it, is among `bases`."""
    base = token.base
    if base in bases:
        return True
    if token.kind == "script" or token.is_name or len(base) < 4:
        return False
    return any(is_form(base, other) for other in bases)


def is_form(left: str, right: str) -> bool:
    """Whether two stems are forms of one word: "approv" and "approval"."""
    shared = min(len(left), len(right))
    if shared < 4 or left[:4] != right[:4] or left[-1:].isdigit() or right[-1:].isdigit():
        return False
    while left[:shared] != right[:shared]:
        shared -= 1
    return len(left) - shared <= 3 and len(right) - shared <= 3 and shared >= 0.6 * max(len(left), len(right))


# ------------------------------------------------------------------------------------------------ values


def _misses_value(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A number, date, time or identifier of the claim is not there."""
    return any(token.kind in VALUE_KINDS and not has_value(token, passage.everything) for token in claim.tokens)


def _bounds_differ(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
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


def _says_minimum(passage: Passage, side: int) -> bool:
    words = "minim min least lowest mindest" if side == 1 else "maxim max most highest limit cap höchst"
    return any(token.word.startswith(tuple(words.split())) for token in passage.everything)


def _counts_something_else(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A number counts in the claim what another number counts there ("500 cars and 20 trucks" turned around)."""
    for i, token in enumerate(claim.tokens):
        if token.quantity is None or token.quantity.dimension not in ("", "percent"):
            continue
        counted = _counted(claim.tokens, i)
        same, others = set[str](), set[str]()
        for j, other in enumerate(passage.tokens):
            if other.quantity is None:
                continue
            (same if token.quantity.agrees_with(other.quantity) else others).update(_counted(passage.tokens, j))
        if counted and same and not counted & same and counted & (others - same):
            return True
    return False


def _takes_the_total(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim's number is there only as the whole of which another number is a part ("12 of 80")."""
    if claim.is_fragment:
        return False
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
    return i > 1 and tokens[i - 1].word in {"of", "von", "sur", "de"} and tokens[i - 2].quantity is not None


def _counted(tokens: Sequence[Token], i: int) -> set[str]:
    found: set[str] = set()
    for token in tokens[i + 1 : i + 4]:
        if token.kind == "pause" or token.quantity is not None or token.word in {"and", "or", "und", "et", "y"}:
            break
        if token.is_content:
            found.add(token.base)
    return found


def _pairs_differently(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A value and what it belongs to stand in different parts of the place, each with a companion of its own."""
    segments = fine_segments(passage.tokens)
    clauses = [list(clause.tokens) for clause in clauses_of(passage.tokens)]
    if len(segments) < 2:
        return False
    mine = frozenset(token.base for token in (*claim.whole, *claim.question) if token.is_content)
    if any(_values_part(segments, claim) or _names_part(parts, claim, mine) for parts in (segments, clauses)):
        return True
    for part in fine_segments(claim.whole) if not claim.is_fragment else [list(claim.whole)]:
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


def _values_part(segments: list[list[Token]], claim: Claim) -> bool:
    """Whether a value of the answer stands with another year or amount than the one that was asked about."""
    wanted = [token for token in (*claim.tokens, *claim.question) if token.kind in VALUE_KINDS]
    said = [token for token in claim.tokens if token.kind in VALUE_KINDS]
    for value in said:
        for other in wanted:
            if kind_of(value) == kind_of(other):
                continue
            with_value = [s for s in segments if has_value(value, s)]
            with_other = [s for s in segments if has_value(other, s)]
            if (
                with_value
                and with_other
                and all(
                    a is not b and _has_like(value, b, wanted) and _has_like(other, a, wanted)
                    for a in with_value
                    for b in with_other
                )
            ):
                return True
    return False


def _has_like(value: Token, segment: list[Token], wanted: Sequence[Token]) -> bool:
    """Whether a segment holds a value of the same kind that is not wanted."""
    return any(
        kind_of(token) == kind_of(value) and not any(same_value(other, token, segment) for other in wanted)
        for token in segment
    )


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


# ------------------------------------------------------------------------------------------------ words


def _misses_name(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A name of the claim, that the question does not hold, is not there."""
    return any(
        token.is_name and token.is_content and token.kind == "word" and token.base not in claim.asked
        and not _is_there(token, passage.all_bases)
        for token in claim.tokens
    )  # fmt: skip


def _is_there(token: Token, bases: frozenset[str]) -> bool:
    return (
        token.base in bases
        or stem_of(token.word) in bases
        or (len(token.base) > 4 and any(is_form(token.base, b) for b in bases))
    )


def _takes_from_elsewhere(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """A word of the claim is not there, stands elsewhere in the sources, and another word stands there instead of it."""
    content = [token for token in claim.tokens if token.is_content]
    positions = {token.base: i for i, token in reversed(list(enumerate(passage.tokens)))}
    mine = frozenset(token.base for token in content)
    for i, token in enumerate(content):
        if token.kind != "word" or token.base not in passage.elsewhere or holds(passage.all_bases, token):
            continue
        before = positions.get(content[i - 1].base) if i else -1
        after = positions.get(content[i + 1].base) if i + 1 < len(content) else len(passage.tokens)
        if before is None or after is None or not after - before > 0:
            continue
        between = [t for t in passage.tokens[before + 1 : after] if t.is_content and t.base not in mine]
        if 1 <= len(between) <= 2:
            return True
    return False


def _is_of_another_class(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """The claim names a weekday, colour or the like, and the place names only others."""
    mine = {token.word for token in claim.tokens}
    there = {token.word for token in passage.everything}
    for members in CLASSES:
        named = [set(member) for member in members if not mine.isdisjoint(member)]
        is_missing = any(there.isdisjoint(member) for member in named)
        if is_missing and any(not there.isdisjoint(member) for member in members):
            return True
    return False


def _quantifies_otherwise(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """The claim speaks of all, or of nothing else, and the place does not."""
    there = clauses_of(passage.tokens)
    for clause in clauses_of(claim.tokens):
        best = _best_clause(clause, there, weights)
        if best is None:
            continue
        if clause.words & _ALONE and not best.words & ONLY:
            return True
        if clause.words & _WHOLE and not best.words & ALL and not clause.is_negated:
            return True
        if best.words & SOME & _PARTS_OF_ALL and clause.words & ALL:
            return True
    return False


_ALONE = ONLY - frozenset("just alone sole allein".split())
_PARTS_OF_ALL = frozenset("some sometimes most few half partly einige manche quelques algunos".split())
_WHOLE = ALL - frozenset("any both daily whole entire whenever anyone throughout cada chaque".split())


def _obliges_otherwise(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """One says that something must be, the other that it may be."""
    mine = frozenset(token.word for token in claim.tokens)
    must, may = bool(mine & OBLIGATIONS), bool(mine & PERMISSIONS)
    must_there, may_there = bool(passage.words & OBLIGATIONS), bool(passage.words & PERMISSIONS)
    negated = any(clause.is_negated for clause in (*clauses_of(claim.tokens), *clauses_of(passage.tokens)))
    if negated or must == may or must_there == may_there:
        return False
    return must != must_there


def _is_surer(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """The place only says that something may be so, or that somebody says so."""
    if claim.is_fragment or not any(token.is_content for token in claim.tokens):
        return False
    mine = clauses_of(claim.tokens)
    if any(clause.is_hedged for clause in (*mine, *clauses_of(claim.question))):
        return False
    best = _best_clause(mine[0], clauses_of(passage.tokens), weights)
    return best is not None and best.is_hedged


# ------------------------------------------------------------------------------------------------ polarity and order


def _best_clause(claim: Clause, clauses: Sequence[Clause], weights: Mapping[str, float]) -> Clause | None:
    """The clause that shares most with `claim`; what a clause carries on from the one before it counts less."""
    best, most = None, 0.0
    for clause in clauses:
        shared = sum(weights.get(base, 1.0) for base in claim.bases & clause.bases)
        carries = 0.6 if any(t.is_content and not t.is_name and t.kind == "word" for t in clause.tokens) else 0.9
        shared += carries * sum(weights.get(base, 1.0) for base in claim.bases & (clause.carried - clause.bases))
        shared += 0.2 * len(claim.stems & _opposed_stems(clause, claim))
        if shared > most + 1e-9:
            best, most = clause, shared
    return best


def _opposed_stems(clause: Clause, claim: Clause) -> frozenset[str]:
    """Stems of the claim whose opposites the clause holds: they speak of the same."""
    return frozenset(
        word for word in claim.stems if complement_of(word, clause.stems) or converse_of(word, clause.stems)
    )


def _compared(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> Iterator[tuple[Clause, Clause]]:
    """The clauses of what is said, each with the clause there that it is compared with.

    A fragment is compared with the question, where a clause speaks of what was asked; and alone, unless it is a part of a clause
    in the place's own words.
    """
    there = clauses_of(passage.tokens)
    if passage.reply:
        there = (*there, Clause(passage.context, is_negated=passage.reply < 0))
    is_quoted = claim.is_fragment and _is_verbatim(claim.tokens, passage.tokens)
    for clause in clauses_of(claim.tokens):
        best = _best_clause(clause, there, weights)
        if best is not None and not (is_quoted and best.bases - clause.bases):
            yield clause, best
    for clause in clauses_of(claim.whole) if claim.is_fragment else ():
        best = _best_clause(clause, there, weights)
        if best is not None and _speaks_of_question(claim, best):
            yield clause, best


def _is_verbatim(tokens: Sequence[Token], there: Sequence[Token]) -> bool:
    """Whether the words follow each other there as they do here."""
    words = " ".join(token.word for token in tokens if token.kind != "pause")
    return f" {words} " in f" {' '.join(token.word for token in there if token.kind != 'pause')} "


def _speaks_of_question(claim: Claim, clause: Clause) -> bool:
    """Whether a clause holds most of what was asked, so that it can be compared with the question."""
    return 3 * len(claim.asked & (clause.bases | clause.carried)) >= 2 * len(claim.asked)


def _denies(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """One clause says that something is so, the other that it is not."""
    for clause, best in _compared(claim, passage, weights):
        flips = _count_flips(clause, best, complement_of)
        if clause.absences & (best.bases - best.absences) or best.absences & (clause.bases - clause.absences):
            return True
        if (clause.is_negated ^ best.is_negated ^ bool(flips % 2)) and (clause.bases & best.bases or flips):
            return True
    return False


def _count_flips(clause: Clause, place: Clause, is_opposite: Callable[[str, frozenset[str]], bool]) -> int:
    """Words of the clause whose opposite the place holds instead of them."""
    return sum(
        is_opposite(word, place.stems) or any(is_opposite(other, frozenset({word})) for other in place.stems)
        for word in clause.stems - place.stems
        if not is_opposite(word, clause.stems)
    )


def _only_equates(clause: Clause) -> bool:
    """Whether a clause says what something is: "The sender is Ada" is the same as "Ada is the sender"."""
    i = next((i for i, token in enumerate(clause.tokens) if token.word in _EQUATING), None)
    if i is None or i + 1 >= len(clause.tokens) or "than" in clause.words:
        return False
    following = clause.tokens[i + 1]
    return following.word in ARTICLES or following.is_name


_EQUATING = frozenset("is are was were ist sind war est sont es son é são".split())


def _count_turned(clause: Clause, place: Clause) -> int:
    """Words that stand behind the opposite preposition there ("before the war", "after the war")."""
    return sum(
        converse_of(preposition, frozenset({place.prepositions[base]}))
        for base, preposition in clause.prepositions.items()
        if base in place.prepositions
    )


def _turns_around(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> bool:
    """Who does it and whom it is done to are exchanged, or the comparison goes the other way, but not both."""
    said = frozenset(token.base for token in claim.tokens)
    for clause, best in _compared(claim, passage, weights):
        may_swap = not (claim.is_fragment and not claim.asks_for_name) and not _only_equates(clause)
        may_swap = may_swap and SYMMETRIC.isdisjoint(clause.words | best.words)
        swapped = may_swap and _are_exchanged(clause.roles, best.roles, said)
        if (_count_flips(clause, best, converse_of) or _count_turned(clause, best)) % 2:
            if not swapped and not _have_other_subjects(clause, best):
                return True
        elif swapped:
            return True
    return False


def _are_exchanged(claim: Mapping[str, str], place: Mapping[str, str], said: frozenset[str]) -> bool:
    """Whether two words, one of them from the answer, play each other's part."""
    shared = [base for base in claim if base in place and claim[base] in _PARTS]
    return any(
        claim[a] != claim[b] and claim[a] == place[b] and claim[b] == place[a] and (a in said or b in said)
        for i, a in enumerate(shared)
        for b in shared[i + 1 :]
    )


_PARTS = frozenset({"subject", "object", "relation", "from", "to", "von", "nach", "de", "à", "a"})


def _have_other_subjects(clause: Clause, place: Clause) -> bool:
    mine = {base for base, role in clause.roles.items() if role == "subject"}
    theirs = {base for base, role in place.roles.items() if role == "subject"}
    return bool(mine and theirs) and mine.isdisjoint(theirs) and bool(mine & set(place.roles))


# ------------------------------------------------------------------------------------------------ all together


def _differs_in_script(claim: Claim, passage: Passage, _: Mapping[str, float]) -> bool:
    """Text without spaces has another polarity, count or bound, or holds an opposite."""
    return differs_in_script(claim.tokens, passage.tokens, is_fragment=claim.is_fragment)


CHECKS: dict[str, Callable[[Claim, Passage, Mapping[str, float]], bool]] = {
    "value": _misses_value,
    "bound": _bounds_differ,
    "count": _counts_something_else,
    "total": _takes_the_total,
    "pairing": _pairs_differently,
    "name": _misses_name,
    "elsewhere": _takes_from_elsewhere,
    "class": _is_of_another_class,
    "quantifier": _quantifies_otherwise,
    "obligation": _obliges_otherwise,
    "hedge": _is_surer,
    "polarity": _denies,
    "order": _turns_around,
    "script": _differs_in_script,
}
"""The ways in which a claim may contradict a place, and the check for each."""


def contradiction(claim: Claim, passage: Passage, weights: Mapping[str, float]) -> str | None:
    """Return the name of the first check that finds a contradiction, None if none does.

    Args:
        claim: What the answer says.
        passage: The place.
        weights: How much each word tells, by its base; a word that is not there tells 1.
    """
    return next((name for name, check in CHECKS.items() if check(claim, passage, weights)), None)
