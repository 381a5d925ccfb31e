"""A sentence as clauses: what each says, whether it denies it, and who does what to whom."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from leanrag.grounding.lexicon import (
    ANAPHORS,
    ARTICLES,
    AUXILIARIES,
    BY,
    COMPLEMENTS,
    CONTRASTS,
    CONVERSES,
    HEDGES,
    IRREGULAR,
    NEGATIONS,
    ONLY,
    PARTICLES,
    PERSPECTIVES,
    PREPOSITIONS,
    UNTRUTHS,
    WITHOUT,
)
from leanrag.grounding.reading import Token, base_of
from leanrag.text import stem

__all__ = [
    "CONJUNCTIONS",
    "REPLIES",
    "Clause",
    "clauses_of",
    "complement_of",
    "converse_of",
    "fine_segments",
    "opposites_of",
    "other_views_of",
    "segments_of",
    "stem_of",
]

CONJUNCTIONS = frozenset("and or und oder et ou y o e but nor en och i".split())
REPLIES = frozenset("yes no ja nein oui non sí si não sim nej nee".split())
_PASSIVES = frozenset(
    """is are was were be been being get gets got wurde wurden wird werden worden est sont fut furent été es son fue fueron sido
    è fu viene stato foi foram werd werden""".split()
)
_RELATIONS = frozenset(
    "before after above below over under than vor nach über unter als avant après que antes después".split()
)
_DENYING_ARTICLES = frozenset("no kein keine keinen aucun aucune ningún ninguna nessun nessuna".split())
_CONDITIONS = frozenset({"if", "wenn", "falls"})
_OBJECT_ARTICLES = frozenset({"den", "einen"})


_CARRIED_ROLES = frozenset("subject object of de von du des del di da".split())
"""Parts of a clause that the next one may leave out and mean."""


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing.

    Attributes:
        tokens: In order.
        is_negated: Whether it holds a word that denies it.
        is_hedged: Whether it says that something may not be so.
        carried: Content of the clause before it, which may be its subject.
    """

    tokens: tuple[Token, ...]
    is_negated: bool = False
    is_hedged: bool = False
    carried: frozenset[str] = field(default=frozenset())

    @functools.cached_property
    def absences(self) -> frozenset[str]:
        """What is not there: the content words behind words such as "without"."""
        found = set[str]()
        for i, token in enumerate(self.tokens):
            if token.word in WITHOUT:
                found.update([after.base for after in self.tokens[i + 1 :] if after.is_content][:1])
        return frozenset(found)

    @functools.cached_property
    def bases(self) -> frozenset[str]:
        """What stands for its content words."""
        return frozenset(token.base for token in self.tokens if token.is_content)

    @functools.cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all its words; opposites are looked up by them."""
        return frozenset(stem_of(token.word) for token in self.tokens if token.kind == "word")

    @functools.cached_property
    def opposites(self) -> frozenset[str]:
        """The stems of all words that its words have as opposites, of either kind."""
        return frozenset[str]().union(
            *(_complements_of(word) for word in self.stems), *(_CONVERSES.get(word, ()) for word in self.stems)
        )

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """All its words."""
        return frozenset(token.word for token in self.tokens)

    @functools.cached_property
    def prepositions(self) -> dict[str, str]:
        """The stem of the preposition before each content word that has one."""
        return {
            token.base: stem_of(preposition)
            for preposition, phrase in _noun_phrases(self.tokens)
            for token in phrase
            if preposition and token.is_content
        }

    @functools.cached_property
    def is_passive(self) -> bool:
        """Whether something is done to what it begins with."""
        runs = list(_noun_phrases(self.tokens))
        return _names_doer(self.tokens, runs) or _participle(self.tokens) is not None

    @functools.cached_property
    def roles(self) -> dict[str, str]:
        """The part that each content word plays: "subject", "object", or the preposition before it.

        Passive clauses are read as active ones.
        """
        return dict(_roles(self.tokens))


def clauses_of(tokens: Sequence[Token]) -> tuple[Clause, ...]:
    """Return the clauses of a sentence.

    A stretch between pauses and conjunctions is a clause if it holds a verb that is known, a negation, or one of two opposites.
    Other stretches belong to the clause before them, or to the first one.
    """
    return _clauses_of(tuple(tokens))


@functools.lru_cache(maxsize=8192)
def _clauses_of(tokens: tuple[Token, ...]) -> tuple[Clause, ...]:
    merged: list[list[Token]] = []
    is_open = False  # whether the last clause still waits for its verb
    for segment, sign in _segments(tokens):
        is_new_sentence = sign == ";"
        begins_contrast = any(token.word in CONTRASTS | _CONDITIONS for token in segment[:2])
        begins_phrase = not merged and segment[0].word in _DENYING_ARTICLES  # "No dogs or cats are allowed"
        is_finite = any(map(_is_finite, segment[1:] if begins_phrase else segment))
        if merged and is_open and is_finite and _begins_with_subject(segment):
            is_open = sum(token.is_content for token in merged[-1]) < 2
        if merged and not begins_contrast and not is_new_sentence and (is_open or not is_finite):
            merged[-1] += segment
            is_open = is_open and not is_finite
        else:
            merged.append(list(segment))
            is_open = not is_finite and not begins_contrast
    clauses: list[Clause] = []
    carried: frozenset[str] = frozenset()
    for part in merged:
        negations = [i for i, token in enumerate(part) if _is_negation(part, i)]
        clause = Clause(tuple(part), bool(negations), any(token.word in HEDGES for token in part), carried)
        clauses.append(clause)
        carried |= clause.bases - {base for base, role in clause.roles.items() if role not in _CARRIED_ROLES}
    return _spread_untruths(clauses)


def _spread_untruths(clauses: list[Clause]) -> tuple[Clause, ...]:
    """A clause that calls something false denies the clauses of its sentence, too."""
    for i, clause in enumerate(clauses):
        untrue = [
            token for j, token in enumerate(clause.tokens) if token.word in UNTRUTHS and not _ends_note(clause, j)
        ]
        if untrue:
            clauses[i] = Clause(clause.tokens, not clause.is_negated, clause.is_hedged, clause.carried)
        if clause.is_hedged:
            clauses[i + 1 :] = [Clause(c.tokens, c.is_negated, True, c.carried) for c in clauses[i + 1 :]]
    return tuple(clauses)


def _ends_note(clause: Clause, i: int) -> bool:
    """Whether a participle ends a note without an auxiliary ("3 files skipped, permission denied")."""
    return i + 1 == len(clause.tokens) and clause.tokens[i - 1].is_content and clause.words.isdisjoint(AUXILIARIES)


def _begins_with_subject(segment: Sequence[Token]) -> bool:
    words = [token for token in segment if token.word not in CONJUNCTIONS and token.word not in ONLY]
    if not words:
        return False
    first = words[0]
    is_noun = first.is_content and len(words) > 1 and words[1].word in AUXILIARIES
    return first.word in ARTICLES or first.word in ANAPHORS or first.is_name or is_noun


def _is_finite(token: Token) -> bool:
    word = token.word
    return (
        (word in AUXILIARIES and not token.is_content)
        or word in NEGATIONS
        or word in UNTRUTHS
        or (stem_of(word) in _OPPOSED and word not in PREPOSITIONS and word not in PARTICLES)
    )


def _is_negation(tokens: Sequence[Token], i: int) -> bool:
    word = tokens[i].word
    if word not in NEGATIONS or word in WITHOUT or tokens[i].kind != "word":
        return False
    following = tokens[i + 1] if i + 1 < len(tokens) else None
    if word in REPLIES and i == 0 and (following is None or following.kind == "pause"):
        return False  # "No, ..." is looked at with the question
    if word == "failed" and i and tokens[i - 1].word in ARTICLES:
        return False  # "a failed transfer"
    is_number_sign = word == "no" and following is not None and following.kind in {"quantity", "identifier"}
    return not is_number_sign  # "No 5"


def _segments(tokens: Sequence[Token]) -> Iterator[tuple[list[Token], str]]:
    """The stretches between pauses and conjunctions.

    With each what stands before it: ";" for a full stop or a semicolon, "(" for a bracket, "" for anything else.
    """
    segment: list[Token] = []
    sign = ""
    for token in tokens:
        is_break = token.kind == "pause" and token.text not in {"-", "/", "=", "+"}
        joins = (token.word in CONJUNCTIONS and token.text != "I") or token.word in CONTRASTS
        if (is_break or joins) and segment:
            yield segment, sign
            segment, sign = [], ""
        if is_break:
            sign = ";" if token.text in _ENDS else "(" if token.text == "(" else sign.strip("(")
        else:
            segment.append(token)
    if segment:
        yield segment, sign


_ENDS = frozenset(".;!。；！")


def fine_segments(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the stretches of a sentence between pauses and conjunctions, those with content."""
    return [segment for segment, _ in segments_of(tokens)]


def segments_of(tokens: Sequence[Token]) -> list[tuple[list[Token], str]]:
    """Return the same, each with the sign before it: ";" for the end of a sentence, "(" for a bracket, "" for anything else."""
    return [(segment, sign) for segment, sign in _segments(tokens) if any(token.is_content for token in segment)]


# ------------------------------------------------------------------------------------------------ who does what to whom


def _roles(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    runs = list(_noun_phrases(tokens))
    is_passive = _names_doer(tokens, runs)
    participle = None if is_passive else _participle(tokens)
    has_subject = False
    turned = _german_objects(runs)
    for role, phrase in runs:
        if participle in phrase:
            continue
        if not role and phrase[0] in turned:
            name = turned[phrase[0]]
            has_subject = True
        elif not role and participle is not None and not has_subject:
            name, has_subject = "object", True
        elif not role:
            name = "object" if has_subject or phrase[0].word in _OBJECT_ARTICLES else "subject"
            has_subject = True
            if is_passive:
                name = "object" if name == "subject" else "subject"
        elif is_passive and role in BY:
            name = "subject"
        else:
            name = "relation" if role in _RELATIONS else role
        content = [token for token in phrase if token.is_content and token.kind == "word"]
        for token in content if name else ():
            if token.is_name or token is content[0]:
                yield token.base, name


def _german_objects(runs: Sequence[tuple[str, list[Token]]]) -> dict[Token, str]:
    """The parts of the two noun phrases around a German verb, by their first tokens; "" if both may be the subject.

    "Den Brief schreibt Ada" begins with the object; "die Karte schickt das Amt" may be read either way.
    """
    phrases = [phrase for role, phrase in runs if not role][:2]
    if len(phrases) < 2 or phrases[0][-1].text[:1].isupper():
        return {}
    (first, *_), (second, *_) = phrases
    if first.word in _OBJECT_ARTICLES:
        return {first: "object", second: "subject"}
    if second.word == "der" and first.word != "der":
        return {first: "object", second: "subject"}
    if first.word in _EITHER or (second.word in _EITHER and first.word not in ARTICLES):
        has_object = second.word in _OBJECT_ARTICLES
        return {} if has_object else {first: "", second: ""}
    return {}


_EITHER = frozenset("die das eine ein diese dieses jede jedes".split())
"""Articles that a German subject and an object have alike."""


def _names_doer(tokens: Sequence[Token], runs: Sequence[tuple[str, list[Token]]]) -> bool:
    """Whether a clause is passive and says who does it."""
    prepositions = {preposition for preposition, _ in runs}
    has_passive = any(token.word in _PASSIVES for token in tokens)
    return "by" in prepositions or (has_passive and not BY.isdisjoint(prepositions))


def _participle(tokens: Sequence[Token]) -> Token | None:
    """The verb of a passive clause that does not say who does it: what it begins with is done something to."""
    is_behind = False
    for token in tokens:
        if token.word in _PASSIVES:
            is_behind = True
        elif is_behind and _is_participle(token):
            return token
        elif token.word not in NEGATIONS:
            is_behind = False
    return None


def _is_participle(token: Token) -> bool:
    word = token.word
    is_german = word.startswith("ge") and word.endswith(("t", "en"))
    is_form = len(word) > 4 and (word.endswith("ed") or is_german or word in IRREGULAR)
    return is_form and token.is_content and not token.is_name


_BREAKS = ARTICLES | AUXILIARIES | NEGATIONS


def _noun_phrases(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """The preposition before each noun phrase, "" without one, and its words."""
    preposition, phrase, last = "", list[Token](), None
    begins = True
    for token in tokens:
        word = token.word
        if (
            word in PREPOSITIONS
            and token.kind == "word"
            and not (token.is_name and word not in {"in", "by", "from", "to"})
        ):
            if phrase:
                yield preposition, phrase
            preposition, phrase, begins = word, [], True
        elif token.kind == "pause" or (not token.is_content and word in _BREAKS):
            if any(t.is_content for t in phrase):
                yield preposition, phrase
                preposition = ""
                phrase = []
            if word in ARTICLES:
                phrase.append(token)
            begins = True
        elif token.is_content:
            is_new_name = _is_capital(token) and last is not None and not _is_capital(last) and not begins
            if is_new_name and any(t.is_content for t in phrase):
                yield preposition, phrase
                preposition, phrase = "", []
            phrase.append(token)
            begins = False
        if token.is_content or word not in CONJUNCTIONS:
            last = token
    if any(t.is_content for t in phrase):
        yield preposition, phrase


def _is_capital(token: Token) -> bool:
    return token.text[:1].isupper()


# ------------------------------------------------------------------------------------------------ opposites


@functools.lru_cache(maxsize=1 << 16)
def stem_of(word: str) -> str:
    """Return the stem of a word, irregular forms included; unlike `base_of` it does not merge synonyms."""
    return stem(IRREGULAR.get(word, word))


def _opposites(pairs: Sequence[tuple[str, str]]) -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for left, right in pairs:
        for word, other in ((left, right), (right, left)):
            table.setdefault(stem_of(word), set()).add(stem_of(other))
    return {word: frozenset(others) for word, others in table.items()}


_COMPLEMENTS = _opposites(COMPLEMENTS)
_CONVERSES = _opposites(CONVERSES)
_OPPOSED = frozenset(_COMPLEMENTS) | frozenset(_CONVERSES)
_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "mis", "nicht")


def complement_of(word_stem: str, others: frozenset[str]) -> bool:
    """Whether one of `others` is the negation of `word_stem` ("open" and "closed", "safe" and "unsafe")."""
    return not others.isdisjoint(_complements_of(word_stem))


@functools.lru_cache(maxsize=1 << 14)
def _complements_of(word_stem: str) -> frozenset[str]:
    prefixed = [prefix + word_stem for prefix in _PREFIXES] if len(word_stem) > 3 else []
    return _COMPLEMENTS.get(word_stem, frozenset()).union(prefixed)


def converse_of(word_stem: str, others: frozenset[str]) -> bool:
    """Whether one of `others` turns the relation of `word_stem` around ("larger" and "smaller", "before" and "after")."""
    return not others.isdisjoint(_CONVERSES.get(word_stem, ()))


@functools.lru_cache(maxsize=1 << 14)
def opposites_of(word_stem: str) -> frozenset[str]:
    """Return the stems that are opposites of `word_stem` in either way, with or without a negating prefix."""
    found = _complements_of(word_stem) | _CONVERSES.get(word_stem, frozenset())
    bare = [word_stem[len(prefix) :] for prefix in _PREFIXES if word_stem.startswith(prefix)]
    return found.union(word for word in bare if len(word) > 3)


_VIEWS: dict[str, list[str]] = {}
for _left, _right in PERSPECTIVES:
    _VIEWS.setdefault(base_of(_left), []).append(base_of(_right))
    _VIEWS.setdefault(base_of(_right), []).append(base_of(_left))


def other_views_of(base: str) -> Sequence[str]:
    """Return the verbs that tell what a verb tells from another side: "sell" of "buy"."""
    return _VIEWS.get(base, ())
