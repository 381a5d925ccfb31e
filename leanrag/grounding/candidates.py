"""Whether an answer competes with a better candidate: a thing of its kind in a clause or row that says more of what was asked."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from leanrag.grounding.claims import Claim
from leanrag.grounding.columns import MEASURES
from leanrag.grounding.index import PlaceIndex
from leanrag.grounding.lexicon import ANAPHORS, BY, NEGATIONS
from leanrag.grounding.measures import UNITS
from leanrag.grounding.places import Place
from leanrag.grounding.predicates import is_elliptic, predicate_of
from leanrag.grounding.reading import Token
from leanrag.grounding.values import VALUE_KINDS, answer_kind, is_among, kind_of

__all__ = ["has_better_candidate"]

_MARGIN = 1.2
"""How many times more of the question the clause of another candidate must match than that of the answer."""

_MARGIN_OF_PREDICATE = 0.9
"""The same, where that clause has the predicate of the question and that of the answer has not."""

_MARGIN_OF_ROW = 0.04
"""How much more of the question another row of a list of codes must match."""

_OWN, _BESIDE, _BEFORE, _ABOVE, _RECORD, _FAR, _ELSEWHERE = 1.0, 0.97, 0.8, 0.8, 0.75, 0.6, 0.2
"""What a word of the question counts for a clause.

In it, in a clause beside it without a candidate, in the clauses before it, right above it, in its record, further above it, in the
clauses behind.
"""

_PAIR, _PAIR_OF_ROW = 0.05, 0.2
"""What two words count that follow each other in the question and in the clause, function words too."""

_MOST_PAIRS = 3  # that another clause has more by chance
_KIND_WEIGHT = 0.3  # of a word that says what kind of thing is asked for
_KIND_QUESTIONS = frozenset("which what welche welcher welches welchen welchem".split())
_POSSESSIVES = frozenset("its his her their sein seine ihr ihre son sa ses leur leurs su sus".split())
_WHERE = frozenset("where wo wohin woher".split())
_WHO = frozenset("who whom wer wen wem".split())
_RELATIVES = frozenset("who whose whom which where".split())
_PRONOUNS = frozenset("it he she they this that these those er sie es dies il elle ils elles".split())


@dataclass
class _Unit:
    """Clauses that belong to the same candidates.

    Attributes:
        tokens: Of the clauses.
        bases: Content of them.
        carried: Content that the clauses behind may mean, too: what does not stand in brackets.
        frame: Content before the first candidate, which a clause behind without a verb takes over.
        has_told: Whether they hold the answer.
        has_rival: Whether they hold a candidate that is not the answer.
        is_list: Whether they hold nothing but candidates.
        sign: What stands before them (see `segments_of`).
    """

    tokens: list[Token]
    bases: frozenset[str]
    carried: frozenset[str]
    frame: frozenset[str]
    has_told: bool
    has_rival: bool
    is_list: bool
    sign: str

    @functools.cached_property
    def is_elliptic(self) -> bool:
        """Whether they have no verb or no subject."""
        return is_elliptic(self.tokens)

    @property
    def has_candidate(self) -> bool:
        """Whether they hold the answer or another candidate."""
        return self.has_told or self.has_rival


@dataclass(frozen=True)
class _Match:
    """How much of the question a unit matches.

    Attributes:
        score: What the words of the question count for it.
        own: What only those count that stand in it and not above it.
        pairs: How many pairs of words it has in common with it.
        firm: The words that stand in it, before it or right above it.
        has_predicate: Whether the predicate stands in it.
        is_row: Whether it is a row of a list of codes, and the answer is such a code.
    """

    score: float
    own: float
    pairs: int
    firm: frozenset[str]
    has_predicate: bool
    is_row: bool


def has_better_candidate(claim: Claim, place: Place, index: PlaceIndex) -> bool:
    """Return whether another candidate of the answer's kind stands where more of the question is said.

    "The yard was begun in 1861 and finished in 1866" has two years; the clause with 1866 says more of "When was it finished?".
    An answer that is neither a value nor a name is compared only with what stands in its own sentence, and with rows like its own.
    """
    told = [token for token in claim.tokens if token.is_content and token.base not in claim.asked]
    asked = {token.base: token for token in claim.question if token.is_content and token.kind != "script"}
    if not claim.is_fragment:  # it says itself what it is about
        asked = {token.base: asked[token.base] for token in claim.tokens if token.base in asked}
    if not told or not asked or not claim.words.isdisjoint(NEGATIONS):
        return False
    contest = _Contest(claim, place, told, tuple(asked.values()), index)
    units = contest.units_of(place)
    is_above = not any(unit.has_told for unit in units)  # the answer stands above the place
    mine = [contest.match(place, units, i) for i, unit in enumerate(units) if unit.has_told or is_above]
    if not mine:
        return False
    rivals = list(contest.rivals(place, units))
    return all(any(contest.is_better(rival, match) for rival in rivals) for match in mine)


class _Contest:
    """The candidates for what a question asks."""

    def __init__(
        self, claim: Claim, place: Place, told: Sequence[Token], asked: Sequence[Token], index: PlaceIndex
    ) -> None:
        self._told, self._place, self._index = told, place, index
        self._kinds = _kinds_of(told, place)
        self._is_plain = self._kinds == {""}
        self._known = (*claim.question, *claim.tokens)
        self._asked_letters = "".join(token.word for token in claim.question)
        self._predicate = frozenset[str]().union(*(index.forms(token) for token in predicate_of(claim.question)))
        first = claim.question[0].word
        light = MEASURES | {token.base for token in claim.question[1:2] if first in _KIND_QUESTIONS}
        self._asked = [
            (token.base, index.forms(token), index.weight(token.base) * (_KIND_WEIGHT if token.base in light else 1))
            for token in asked
        ]
        self._asked_kinds = [(token.base, _kind(token)) for token in asked]
        self._asks_where = first in _WHERE and any(not _kind(token) for token in told)
        self._pairs = _pairs(claim.question)
        self._asks_who = first in _WHO and self._kinds == {"name"}

    def is_better(self, rival: tuple[_Match, bool], mine: _Match) -> bool:
        """Whether a rival matches more.

        In the place of the answer it must have the predicate if the answer has it; elsewhere it must speak of something more.
        """
        match, is_here = rival
        if match.is_row and mine.is_row:
            return match.own > mine.own + _MARGIN_OF_ROW
        if is_here and mine.has_predicate and not match.has_predicate:
            return False
        is_asked_for = is_here and not self._is_plain and match.has_predicate and not mine.has_predicate
        margin = _MARGIN_OF_PREDICATE if is_asked_for else _MARGIN
        says_more = bool(match.firm - mine.firm) or (len(self._asked) == 1 and match.pairs >= mine.pairs + _MOST_PAIRS)
        return match.score > margin * mine.score and (is_here or says_more)

    def rivals(self, place: Place, units: Sequence[_Unit]) -> Iterator[tuple[_Match, bool]]:
        """What the units of other candidates match, and whether they stand in the place of the answer."""
        yield from ((match, True) for match in self._rivals_in(place, units))
        for other in () if place.speaker else self._index.places:  # what a turn answers may stand in several turns
            if other is place or (self._is_plain and not (other.shape and other.shape == place.shape)):
                continue
            if other.below or self._kinds.isdisjoint(map(_kind, other.tokens)) or other.bases <= place.context_bases:
                continue
            yield from ((match, False) for match in self._rivals_in(other, self.units_of(other)))

    def _rivals_in(self, place: Place, units: Sequence[_Unit]) -> Iterator[_Match]:
        for i, unit in enumerate(units):
            begins_with_pronoun = any(token.word in _PRONOUNS for token in unit.tokens[:2])
            if unit.has_rival and not unit.has_told and not begins_with_pronoun:
                yield self.match(place, units, i)

    def units_of(self, place: Place) -> list[_Unit]:
        """The clauses of a place; those with nothing but candidates belong to their neighbours."""
        units: list[_Unit] = []
        is_row = (
            "\t" in place.shape or place.text.startswith(("{", "[", "|")) or ("," in place.shape and bool(place.cells))
        )
        segments = (
            [(list(place.tokens), place.bases | place.part_bases, "")] if is_row and place.tokens else place.segments
        )
        is_behind_note = False  # in brackets, which belong to what stands before them
        for tokens, bases, sign in segments:
            content = [token for token in tokens if token.is_content]
            told = [token for token in content if is_among(token, self._told)]
            rivals = [token for token in content if self._is_rival(token, place)]
            is_list = bool(told or rivals) and (
                len(content) < 2 if self._is_plain else len(content) <= len(told) + len(rivals)
            )
            if not (told or rivals) and self._may_answer(place, tokens, bases):
                rivals = [token for token in content if token.kind == "word" and not is_among(token, self._known)]
            is_list |= bool(units) and units[-1].is_list and tokens[0].word in _RELATIVES
            end = next((i for i, token in enumerate(tokens) if token in told or token in rivals), len(tokens))
            frame = frozenset(token.base for token in tokens[:end] if token.is_content)
            last = units[-1] if units else None
            is_note = sign == "(" and last is not None and not (last.has_candidate and (told or rivals))
            if last is not None and (is_note or (not is_behind_note and (is_list or last.is_list))):
                units[-1] = _Unit(
                    last.tokens + tokens,
                    last.bases | bases,
                    last.carried if is_note else last.carried | bases,
                    last.frame if last.has_candidate else last.frame | frame,
                    last.has_told or bool(told),
                    last.has_rival or bool(rivals),
                    last.is_list and is_list,
                    last.sign,
                )
            else:
                units.append(_Unit(tokens, bases, bases, frame, bool(told), bool(rivals), is_list, sign))
            is_behind_note = is_note
        return units

    def _is_rival(self, token: Token, place: Place) -> bool:
        return (
            _kind(token) in self._kinds
            and token.base not in place.speaker
            and not is_among(token, self._known)
            and not (token.kind == "identifier" and token.base in self._asked_letters)
            and not (token.is_name and self._index.is_written_small(token.word))
        )

    def _may_answer(self, place: Place, tokens: Sequence[Token], bases: frozenset[str]) -> bool:
        """Whether a clause beside the answer says who does what was asked, or where it is, be it by plain nouns ("the tenant")."""
        if place is not self._place or self._is_plain:
            return False
        names_doer = not self._predicate.isdisjoint(bases) or any(token.word in BY for token in tokens)
        return (self._asks_who and names_doer) or (
            self._asks_where and any(not forms.isdisjoint(bases) for _, forms, _ in self._asked)
        )

    def match(self, place: Place, units: Sequence[_Unit], i: int) -> _Match:
        """How much of the question is said in a unit and around it."""
        unit = units[i]
        before, behind = units[:i], units[i + 1 :]
        beside = set[str]()
        run, sign = unit.tokens, unit.sign  # with what leads to it, and what stands before that
        for other in before[::-1]:
            if other.has_candidate or sign == ";":
                break
            beside |= other.bases
            run, sign = other.tokens + run, other.sign
        for other in behind:
            if other.has_candidate or other.sign == ";":
                break
            beside |= other.bases
        own = unit.bases | place.record[place.line].name if place.record else unit.bases
        is_of_another = unit.tokens[0].word in _POSSESSIVES  # "her deputy" is not she
        is_told_before = unit.sign == "(" or any(token.word in ANAPHORS for token in unit.tokens[:2])
        told_before = frozenset[str]().union(*(other.carried for other in before))
        begins_sentence = sign == ";" and run[0].text[:1].isupper()
        leaves_out = (
            bool(before) and not begins_sentence and (unit.is_elliptic if run is unit.tokens else is_elliptic(run))
        )
        frame = frozenset[str]()
        if leaves_out:
            others = self._other_than(unit)
            told_before -= others
            whole = (other for j, other in enumerate(before) if not j or not other.is_elliptic)
            frame = frozenset[str]().union(*(other.frame for other in whole)) - others
        around = (
            (_OWN, own if is_of_another else own | place.antecedent_bases),
            (_BESIDE, beside | frame),
            (_OWN if is_told_before and not is_of_another else _BEFORE, told_before),
            (_ABOVE, place.near | place.columns | place.antecedent_bases),
            (_RECORD, place.record_bases),
            (_FAR, place.context_bases | place.below),
            (_ELSEWHERE, place.bases),
        )
        above = place.near | place.context_bases
        pairs = len(self._pairs & _pairs(unit.tokens))
        score, own_score = _PAIR * pairs, _PAIR_OF_ROW * pairs
        firm = set[str]()
        for base, forms, weight in self._asked:
            share = next((share for share, bases in around if not forms.isdisjoint(bases)), 0.0)
            score += share * weight
            own_score += weight if share == _OWN and forms.isdisjoint(above) else 0
            if share >= _ABOVE:
                firm.add(base)
        is_row = place.key.isdecimal() and self._kinds == {"quantity "}
        has_predicate = not self._predicate.isdisjoint(unit.bases | frame)
        return _Match(score, own_score, pairs, frozenset(firm), has_predicate, is_row)

    def _other_than(self, unit: _Unit) -> frozenset[str]:
        """What the question names and a unit does not, where it names another thing of this kind ("that of the W50")."""
        here = {
            kind
            for token in unit.tokens
            if token.is_content and not is_among(token, self._told) and (kind := _kind(token))
        }
        return frozenset(base for base, kind in self._asked_kinds if kind in here - self._kinds) - unit.bases


def _kind(token: Token) -> str:
    """What kind of answer a token is: "" for a plain word."""
    if token.kind == "identifier":
        return {"-": "option", "+": "option", "/": "path"}.get(token.text[:1], "identifier")
    if token.kind in VALUE_KINDS:
        return " ".join(kind_of(token))
    return answer_kind(token)


def _kinds_of(told: Sequence[Token], place: Place) -> frozenset[str]:
    """The kinds of the words of an answer: {""} if all are plain words.

    "A year" is an amount of time, and a German noun may be a name where it is told.
    """
    kinds = {_kind(token) for token in told} - {""}
    kinds |= {f"quantity {UNITS[token.word][0]}" for token in told if token.word in UNITS and len(token.word) > 2}
    names = {token.base for token in place.tokens if token.is_name}
    if not kinds and all(token.base in names for token in told):
        kinds = {"name"}
    return frozenset(kinds or {""})


def _pairs(tokens: Sequence[Token]) -> frozenset[tuple[str, str]]:
    words = [token.word for token in tokens if token.kind != "pause"]
    return frozenset(itertools.pairwise(words))
